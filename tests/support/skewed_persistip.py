"""
What does persistip do on a machine whose clock is wrong?

``python -m skewed_persistip SECONDS run controller …`` is persistip with a clock that is ahead by so many seconds.
"""

import sys
import time

from persistip.cli import main
from persistip.runtime.clock import SystemClock


def run() -> None:
    """Set the clock, and run what the other arguments say."""
    ahead = float(sys.argv.pop(1))
    SystemClock.now = lambda _: time.time() + ahead  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    run()
