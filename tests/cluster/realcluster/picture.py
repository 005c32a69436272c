"""
How are several things held against each other while they may change?

In: what tells whether nothing moves (a picture of it), and what looks for faults.  Out: nothing, once no fault was
found in a picture that was the same before and after. A fault in such a picture is one at once; what was seen while
something moved says nothing, and is looked at again.
"""

import time
from collections.abc import Callable, Sequence

PAUSE_SECONDS = 0.05


class MovingError(AssertionError):
    """It never held still for long enough to be looked at."""


def hold_in_one_picture(
    picture: Callable[[], object | None],
    faults: Callable[[], Sequence[str]],
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Raise on a fault that is there while the picture stands still; a *picture* of None means that something moves."""
    deadline = clock() + seconds
    while True:
        before = picture()
        found = faults() if before is not None else ()
        if before is not None and picture() == before:
            assert not found, "; ".join(found)
            return
        if clock() > deadline:
            raise MovingError(f"it did not hold still for {seconds:g} s; seen meanwhile: {'; '.join(found)}")
        sleep(PAUSE_SECONDS)
