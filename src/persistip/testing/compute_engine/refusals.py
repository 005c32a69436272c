"""
How does Compute Engine say no?

In: a status, a reason and a sentence.  Out: the one envelope of its HTTP errors, or the error of an operation. Its
clients decide by status, reason and code, never by the sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

# The code of an operation's error for each reason of an HTTP error, and the words of its status.
_CODES: Mapping[str, str] = {
    "alreadyExists": "RESOURCE_ALREADY_EXISTS",
    "conditionNotMet": "CONDITION_NOT_MET",
    "conflict": "IP_IN_USE_BY_ANOTHER_RESOURCE",
    "invalid": "INVALID_FIELD_VALUE",
    "notFound": "RESOURCE_NOT_FOUND",
    "quotaExceeded": "QUOTA_EXCEEDED",
    "required": "REQUIRED",
    "resourceInUseByAnotherResource": "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
    "resourceNotReady": "RESOURCE_NOT_READY",
}
_WORDS: Mapping[int, str] = {
    400: "BAD REQUEST",
    403: "FORBIDDEN",
    404: "NOT FOUND",
    409: "CONFLICT",
    412: "PRECONDITION FAILED",
    503: "SERVICE UNAVAILABLE",
}


@attrs.frozen
class RefusalError(Exception):
    """One request is refused, or one operation fails; nothing is changed by it."""

    status: int
    reason: str
    message: str
    domain: str = attrs.field(default="global", kw_only=True)
    info: Mapping[str, str] | None = attrs.field(default=None, kw_only=True)
    """Reason of an ErrorInfo, with its metadata."""
    quota: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True)
    """What an operation says of a quota that is used up."""

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"

    def envelope(self) -> dict[str, Any]:
        """The body of the HTTP answer."""
        one = {"message": self.message, "domain": self.domain, "reason": self.reason}
        error: dict[str, Any] = {"code": self.status, "message": self.message, "errors": [one]}
        if self.info is not None:
            metadata = {key: value for key, value in self.info.items() if key != "reason"}
            error["details"] = [
                {
                    "@type": ERROR_INFO,
                    "reason": self.info["reason"],
                    "domain": "compute.googleapis.com",
                    "metadata": metadata,
                }
            ]
        return {"error": error}

    def of_operation(self) -> dict[str, Any]:
        """The fields of an operation that ends with this."""
        one: dict[str, Any] = {"code": _CODES.get(self.reason, "INTERNAL_ERROR"), "message": self.message}
        if self.quota is not None:
            one["errorDetails"] = [{"quotaInfo": dict(self.quota)}]
        return {
            "error": {"errors": [one]},
            "httpErrorStatusCode": self.status,
            "httpErrorMessage": _WORDS.get(self.status, "INTERNAL ERROR"),
        }


def invalid(field: str, value: object, why: str) -> RefusalError:
    """A value that cannot stand in a field."""
    return RefusalError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def required(field: str) -> RefusalError:
    """A field that has to be there."""
    return RefusalError(400, "required", f"Required field '{field}' not specified")


def not_found(path: str) -> RefusalError:
    """A resource that is not there."""
    return RefusalError(404, "notFound", f"The resource '{path}' was not found")


def not_ready(path: str) -> RefusalError:
    """A resource that is still being made, or being deleted."""
    return RefusalError(400, "resourceNotReady", f"The resource '{path}' is not ready")


def not_emulated(what: str) -> RefusalError:
    """Something of Compute Engine that this emulator does not know: never a quiet success."""
    return RefusalError(501, "notImplemented", f"Not emulated: {what}")
