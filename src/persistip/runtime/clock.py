"""
What time is it?

The one place that reads the machine's clock; everything else takes a ``Clock``, or the instant from a view.
Sleeping is asyncio's, so that a simulation can run both on a loop of its own.
"""

from __future__ import annotations

import time


class SystemClock:
    """The machine's wall clock: instants here are compared with those that Kubernetes wrote."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()
