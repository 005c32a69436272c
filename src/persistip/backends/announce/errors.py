"""What do the errors of packet sockets mean for the loop? By number, never by text."""

from __future__ import annotations

import errno

from persistip.errors import BackendError, RefusedError, RejectedError, StaleError, UnavailableError

_REFUSED = frozenset({errno.EPERM, errno.EACCES})
_STALE = frozenset({errno.ENODEV, errno.ENXIO})
_REJECTED = frozenset({errno.EINVAL, errno.EMSGSIZE, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


def from_os_error(error: OSError, operation: str, target: str) -> BackendError:
    """The error of ours that tells the loop what to do; a number unknown here is worth another try."""
    number = error.errno
    where = {"system": "announce", "operation": operation, "target": target}
    if number in _REFUSED:
        return RefusedError(f"{error.strerror}; sending needs CAP_NET_RAW", **where)
    message = error.strerror or str(error)
    if number in _STALE:
        return StaleError(message, **where)
    if number in _REJECTED:
        return RejectedError(message, **where)
    return UnavailableError(message, **where)
