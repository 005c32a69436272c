"""
What stands in our way: on a node, and in a cluster?

First everything is looked at (``look_at_node``, ``look_at_cluster``: facts, and nothing is changed), then judged by
pure functions (``node``, ``cluster``). Each finding names the thing and the fix.
"""
