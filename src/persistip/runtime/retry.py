"""
When should what failed be tried again?

In: an error or an Outcome, and how often this has failed in a row.  Out: a delay in seconds, or None for "not by
time: something has to change first".
The rule is that of ``errors.py``: a class of error is named for what the loop must do next.

    stale        the world moved on; the watch brings the new state, this is for the case that it does not
    failed       soon, then ever later
    told to wait at least as long as told
    blocked      somebody else has to act, and may be about to: look soon, then ever later, then now and then
    unsupported  never by time
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import attrs

from persistip.errors import (
    BackendError,
    OwnershipError,
    RefusedError,
    RejectedError,
    StaleError,
    ThrottledError,
    UnavailableError,
)
from persistip.model.actions import Outcome, OutcomeState

LATE_SECONDS = 30.0
"""At last, for what only a person lifts: late enough to load nobody, soon enough not to be waited for."""


@attrs.frozen(kw_only=True)
class Backoff:
    """
    Exponential delays in seconds with a ceiling, spread by up to ``spread`` (a share of the delay).

    The spread is drawn from the key and the attempt, not from a random source: a thousand keys that fail together
    come back apart, and the same run twice is the same run.
    """

    first_seconds: float = 0.05
    last_seconds: float = 30.0
    factor: float = 2.0
    spread: float = 0.2

    def delay(self, attempt: int, key: object = "") -> float:
        """Seconds to wait after failure number *attempt* (the first is 1)."""
        exponent = min(max(attempt, 1) - 1, 64)
        plain = min(self.first_seconds * self.factor**exponent, self.last_seconds)
        share = zlib.crc32(f"{key}#{attempt}".encode()) / 0xFFFFFFFF
        return plain * (1.0 - self.spread * share)


STALE = Backoff(first_seconds=0.01, last_seconds=5.0)
FAILED = Backoff()
REFUSED = Backoff(first_seconds=1.0, last_seconds=LATE_SECONDS)
"""Soon at first: rights that are applied a moment after what needs them, and a policy that is being put right."""


def outcome_of(error: BackendError) -> Outcome:
    """Translate an error into the outcome of the action that met it, for the next decision to see."""
    message = str(error)
    match error:
        case StaleError():
            return Outcome(state=OutcomeState.FAILED, reason="Stale", message=message, stale=True)
        case ThrottledError(retry_after_seconds=seconds):
            return Outcome(state=OutcomeState.FAILED, reason="Throttled", message=message, retry_after_seconds=seconds)
        case RefusedError(reason=reason):
            return Outcome(state=OutcomeState.BLOCKED, reason=reason, message=message)
        case RejectedError():
            return Outcome(state=OutcomeState.BLOCKED, reason="Rejected", message=message)
        case OwnershipError():
            return Outcome(state=OutcomeState.BLOCKED, reason="NotOurs", message=message)
        case UnavailableError():
            return Outcome(state=OutcomeState.FAILED, reason="Unavailable", message=message)
        case _:
            return Outcome(state=OutcomeState.FAILED, reason="Failed", message=message)


def delay_after(outcome: Outcome, attempt: int, key: object = "") -> float | None:
    """Seconds until this one action may be tried again; None when no passing of time can help, or it went well."""
    if outcome.state in (OutcomeState.DONE, OutcomeState.UNSUPPORTED):
        return None
    if outcome.retry_after_seconds is not None:
        return max(outcome.retry_after_seconds, FAILED.delay(attempt, key))
    if outcome.stale:
        return STALE.delay(attempt, key)
    if outcome.state is OutcomeState.BLOCKED:
        return REFUSED.delay(attempt, key)
    return FAILED.delay(attempt, key)


def soonest_delay(outcomes: Iterable[Outcome], attempt: int, key: object = "") -> float | None:
    """The delay after several actions: whichever may be tried first."""
    delays = [delay for outcome in outcomes if (delay := delay_after(outcome, attempt, key)) is not None]
    return min(delays, default=None)
