"""
The rules, as pure functions: values in, values out, one question a file.

Nothing here does I/O, reads a clock, logs or keeps state between calls (``catalog.py`` keeps the objects, and only
those). Read ``plan_route.py`` first, then ``plan_node.py``.
"""
