"""
What must the loop do about an answer of Compute Engine?

In: a status, the reason words that came with it, the words for people.  Out: the error. Decided by status and reason
words alone, never by the message: an external address that is in use, for one, has no reason word but ``invalid``.
"""

from __future__ import annotations

from collections.abc import Collection

from persistip.errors import (
    BackendError,
    RefusedError,
    RejectedError,
    StaleError,
    ThrottledError,
    UnavailableError,
)
from persistip.model.conditions import Reason

SYSTEM = "gce"
THROTTLED = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"})
QUOTA = frozenset({"quotaExceeded", "QUOTA_EXCEEDED", "RESOURCE_QUOTA_EXCEEDED", "limitExceeded"})
STALE = frozenset(
    {"alreadyExists", "notFound", "conditionNotMet", "resourceInUseByAnotherResource", "resourceNotReady",
     "RESOURCE_ALREADY_EXISTS", "RESOURCE_NOT_FOUND", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "RESOURCE_NOT_READY",
     "CONDITION_NOT_MET"}
)  # fmt: skip
MINUTE = 60.0


def error_of(
    status: int, words: Collection[str], message: str, *, operation: str, target: str, now: float
) -> BackendError:
    """The error for an answer with *status*; *now* tells when the present minute's quota ends."""
    told = frozenset(words)
    where = {"system": SYSTEM, "operation": operation, "target": target}
    if status == 429 or told & THROTTLED or any(word.startswith("CONCURRENT_OPERATIONS") for word in told):
        return ThrottledError(message, retry_after_seconds=MINUTE - now % MINUTE, **where)
    if told & QUOTA:
        return RefusedError(message, reason=Reason.QUOTA_EXCEEDED, **where)
    if status in (404, 412) or told & STALE:
        return StaleError(message, **where)
    if status in (401, 403):
        return RefusedError(message, reason=Reason.PERMISSION_DENIED, **where)
    if status >= 500 or status == 0:
        return UnavailableError(message, **where)
    return RejectedError(message, **where)


def unavailable(message: str, *, operation: str, target: str) -> UnavailableError:
    """No answer, or none that can be read: whether anything was done is unknown."""
    return UnavailableError(message, system=SYSTEM, operation=operation, target=target)
