"""
Which of our errors is an error number of the kernel?

In: an OSError or a Refusal.  Out: a class of ``persistip.errors``, named for what the loop must do next.
By number only, never by text: texts change between kernels and languages. A number that is not listed is
``UnavailableError``, since retrying is safe for every request we make and giving up is not.
"""

from __future__ import annotations

import errno

from persistip.errors import BackendError, RefusedError, RejectedError, StaleError, UnavailableError

SYSTEM = "linux"

STALE = frozenset({errno.EEXIST, errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENETDOWN, errno.ENXIO, errno.ESTALE})
"""What we based the request on has changed: a link went away, an entry is there already, or is there no more."""

REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.ENOSPC, errno.ENFILE, errno.EMFILE, errno.ENOMEM, errno.EROFS})
"""Permission or room is missing."""

REJECTED = frozenset(
    {
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.EAFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ERANGE,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EADDRNOTAVAIL,
        errno.EPROTO,
    }
)
"""The request itself cannot be met by this kernel or this configuration."""


def error_from_code(code: int, text: str, operation: str, target: str) -> BackendError:
    """The error that stands for *code*; *text* is shown to people only."""
    name = errno.errorcode.get(code, str(code))
    message = f"{text} ({name})" if text else name
    if code in STALE:
        return StaleError(message, system=SYSTEM, operation=operation, target=target)
    if code in REFUSED:
        reason = "PermissionDenied" if code in (errno.EPERM, errno.EACCES, errno.EROFS) else "QuotaExceeded"
        return RefusedError(message, reason=reason, system=SYSTEM, operation=operation, target=target)
    if code in REJECTED:
        return RejectedError(message, system=SYSTEM, operation=operation, target=target)
    return UnavailableError(message, system=SYSTEM, operation=operation, target=target)


def error_from_os(error: OSError, operation: str, target: str) -> BackendError:
    """The same for an exception of the standard library; the caller chains it."""
    return error_from_code(
        error.errno or 0, error.strerror or ("timed out" if isinstance(error, TimeoutError) else ""), operation, target
    )


def unavailable(message: str, operation: str, target: str) -> UnavailableError:
    """The kernel did not answer as it should have; the state has to be observed."""
    return UnavailableError(message, system=SYSTEM, operation=operation, target=target)
