"""
What can go wrong outside, named for what the loop must do next.

    PersistIPError
    ├── ConfigError            settings are wrong                      -> exit at start
    ├── BackendError           the outside world failed
    │   ├── UnavailableError   network, 5xx, EINTR, ENOBUFS            -> retry soon, back off
    │   ├── ThrottledError     rate limit; retry_after_seconds         -> wait as told
    │   ├── StaleError         conflict, precondition, not found       -> observe again
    │   ├── RefusedError       quota, 401, 403, EPERM; reason          -> report, retry late
    │   ├── RejectedError      400, 422, EINVAL                        -> report, wait for a new generation
    │   └── OwnershipError     it exists and is not ours               -> report, never touch
    └── BugError               a state we proved impossible            -> stop this key, loudly

A user's mistake is none of these: it is a verdict with a reason (see ``decide/acceptance.py``).
Each backend translates its library's errors in its own ``errors.py``, by code and type, and chains the cause.
"""

from __future__ import annotations


class PersistIPError(Exception):
    """Root of everything that this package raises."""


class ConfigError(PersistIPError):
    """Settings are wrong; the message names the setting and the fix."""


class BackendError(PersistIPError):
    """
    An outside system failed to do what was asked.

    *system* is the backend ("linux", "apiserver"), *operation* what was tried, *target* what it was tried on.
    """

    def __init__(self, message: str, *, system: str = "", operation: str = "", target: str = "") -> None:
        super().__init__(message)
        self.system = system
        self.operation = operation
        self.target = target

    def __str__(self) -> str:
        where = " ".join(part for part in (self.system, self.operation, self.target) if part)
        return f"{where}: {super().__str__()}" if where else super().__str__()


class UnavailableError(BackendError):
    """The system could not be reached or was busy: retry soon, back off."""


class ThrottledError(BackendError):
    """The system asked us to slow down: wait *retry_after_seconds*."""

    def __init__(
        self, message: str, *, retry_after_seconds: float, system: str = "", operation: str = "", target: str = ""
    ) -> None:
        super().__init__(message, system=system, operation=operation, target=target)
        self.retry_after_seconds = retry_after_seconds


class StaleError(BackendError):
    """What we based the action on has changed (conflict, precondition, not found, exists): observe again."""


class RefusedError(BackendError):
    """Quota or permission: report *reason*, retry late."""

    def __init__(
        self, message: str, *, reason: str = "PermissionDenied", system: str = "", operation: str = "", target: str = ""
    ) -> None:
        super().__init__(message, system=system, operation=operation, target=target)
        self.reason = reason


class RejectedError(BackendError):
    """The request itself is invalid: report, wait for a new generation of the object."""


class OwnershipError(BackendError):
    """Something stands there that is not ours: report, never touch."""


class BugError(PersistIPError):
    """A state that we proved impossible: stop this key, loudly."""
