"""
How do instants travel? On the wire RFC 3339 in UTC, inside seconds since the epoch.

Kubernetes keeps whole seconds in ``metadata`` and conditions (``metav1.Time``) and microseconds where order matters
(``metav1.MicroTime``). Everything is counted in whole microseconds, so that a value read is a value written.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_seconds(instant: datetime) -> float:
    """Seconds since the epoch, to the microsecond."""
    return (instant - _EPOCH) // _MICROSECOND / 1e6


def from_seconds(seconds: float) -> datetime:
    """The instant, to the microsecond."""
    return _EPOCH + timedelta(microseconds=round(seconds * 1e6))


def from_whole_seconds(seconds: float) -> datetime:
    """The instant as ``metav1.Time`` keeps it: the fraction is cut off."""
    return _EPOCH + timedelta(seconds=int(seconds))


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text; ValueError for anything else."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it in UTC with a Z at the end")
    return to_seconds(instant)


def format_time(seconds: float) -> str:
    """RFC 3339 with whole seconds, as in ``metadata.creationTimestamp``."""
    return from_whole_seconds(seconds).isoformat().replace("+00:00", "Z")


def format_micro_time(seconds: float) -> str:
    """RFC 3339 with six digits behind the point, as in an Event's ``eventTime``."""
    return from_seconds(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")
