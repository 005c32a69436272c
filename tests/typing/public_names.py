"""
Do names that are loaded lazily keep their types?

Checked by `nox -s types`, never run. An ignored error that no longer occurs is an error itself.
"""

from typing import assert_type

import persistip
from persistip import Kind, ObjectKey, Outcome, OutcomeState, PersistIPError, ThrottledError

assert_type(ObjectKey(Kind.POD, "shop", "gateway-0"), persistip.ObjectKey)
assert_type(Outcome(state=OutcomeState.DONE).is_done, bool)

# Values are frozen.
ObjectKey(Kind.POD, "shop", "gateway-0").name = "gateway-1"  # type: ignore[misc]


def how_long(error: PersistIPError) -> float:
    """A throttled caller is told how long to wait."""
    return error.retry_after_seconds if isinstance(error, ThrottledError) else 0.0
