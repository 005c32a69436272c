"""
When is something done: loops, retries, queues, clocks, logs. No rule of the domain lives here.

Read ``cycle.py``: it is one pass of observe, decide, act, report, and everything else here serves it.
"""
