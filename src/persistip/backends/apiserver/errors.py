"""
Which of our errors is an answer of the API server, or the lack of one?

In: an HTTP status with the body's ``Status``, or an exception of the transport.  Out: a class of ``persistip.errors``,
named for what the loop must do next. By code and reason only, never by text. A 5xx or a code that is not listed is
``UnavailableError``: every request we make is safe to repeat after a look, and giving up is not.
"""

from __future__ import annotations

import os

import aiohttp
import msgspec

from persistip.errors import BackendError, RefusedError, RejectedError, StaleError, ThrottledError, UnavailableError

SYSTEM = "apiserver"

_LEAST_WAIT_SECONDS = 1.0
_REJECTED = frozenset({400, 405, 406, 411, 413, 414, 415, 422})
_TERMINATING = "NamespaceTerminating"

TRANSPORT = (aiohttp.ClientError, OSError, TimeoutError)
"""All that the transport raises when a request has no answer; none of them says whether it was carried out."""


class NotFoundError(StaleError):
    """404: no such object, or no such kind."""


class AlreadyExistsError(StaleError):
    """409 on create: the name is taken."""


class ConflictError(StaleError):
    """409: a precondition failed."""


class ExpiredError(StaleError):
    """410: the history that a watch or a list asked for is gone; list again."""


class _Cause(msgspec.Struct, rename="camel"):
    reason: str | None = None


class _Details(msgspec.Struct, rename="camel"):
    causes: tuple[_Cause, ...] | None = None
    retry_after_seconds: float | None = None


class _Status(msgspec.Struct, rename="camel"):
    """``metav1.Status``."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(_Status)


def error_from_answer(code: int, body: bytes, retry_after: str | None, operation: str, target: str) -> BackendError:
    """The error that stands for an answer that is no success; *retry_after* is the header's value."""
    try:
        status = _STATUS.decode(body)
    except msgspec.DecodeError:  # a proxy's or a load balancer's own page
        status = _Status()
    return _error(code, status, retry_after, operation, target)


def error_from_event(raw: bytes, operation: str, target: str) -> BackendError:
    """The same for an ERROR event of a watch, whose object is a Status."""
    try:
        status = _STATUS.decode(raw)
    except msgspec.DecodeError:
        status = _Status()
    return _error(status.code or 500, status, None, operation, target)


def error_from_transport(error: BaseException, operation: str, target: str) -> UnavailableError:
    """The same for one of TRANSPORT; the caller chains it."""
    return UnavailableError(_words(error), system=SYSTEM, operation=operation, target=target)


def _words(error: BaseException) -> str:
    """What to say of an exception of the transport; its own words on a connection show the innards of TLS."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host}:{error.port} is not trusted: {error.certificate_error}"
        case aiohttp.ClientSSLError():
            return f"no connection to {error.host}:{error.port}: {error.os_error}"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=number)) if number is not None and number > 0:
            return f"no connection to {error.host}:{error.port}: {os.strerror(number)}"
        case aiohttp.ClientConnectorError():
            return f"no connection to {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
        case _:
            return str(error) or ("timed out" if isinstance(error, TimeoutError) else type(error).__name__)


def _error(code: int, status: _Status, retry_after: str | None, operation: str, target: str) -> BackendError:
    message = status.message or f"answered {code}"
    where = {"system": SYSTEM, "operation": operation, "target": target}
    wait = _wait_seconds(status, retry_after)
    match code:
        case 401:
            return RefusedError(message, reason="Unauthorized", **where)
        case 403 if _TERMINATING in _causes(status):
            return StaleError(message, **where)
        case 403:
            return RefusedError(message, **where)
        case 404:
            return NotFoundError(message, **where)
        case 409 if status.reason == "AlreadyExists":
            return AlreadyExistsError(message, **where)
        case 409:
            return ConflictError(message, **where)
        case 410:
            return ExpiredError(message, **where)
        case 429:
            return ThrottledError(message, retry_after_seconds=wait or _LEAST_WAIT_SECONDS, **where)
        case 503 if wait is not None:
            return ThrottledError(message, retry_after_seconds=wait, **where)
        case _ if code in _REJECTED:
            return RejectedError(message, **where)
        case _:
            return UnavailableError(message, **where)


def _causes(status: _Status) -> set[str | None]:
    return {cause.reason for cause in (status.details.causes if status.details else None) or ()}


def _wait_seconds(status: _Status, retry_after: str | None) -> float | None:
    """How long the server wants us to wait, by header or body; HTTP's other form, a date, is not the API server's."""
    if retry_after is not None and retry_after.isdecimal():
        return max(float(retry_after), _LEAST_WAIT_SECONDS)
    wanted = status.details.retry_after_seconds if status.details else None
    return max(wanted, _LEAST_WAIT_SECONDS) if wanted else None
