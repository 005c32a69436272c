"""
What goes wrong?

In: faults asked for one by one, or by chance from a seed.  Out: which one a call meets. Each is something that
clients of Compute Engine see; ``WHAT`` says what.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase

import attrs

from persistip.testing.compute_engine.refusals import RefusalError


class FaultKind(StrEnum):
    """What can happen to a call; ``WHAT`` has a sentence for each."""

    LOST_REPLY = "lost-reply"
    DUPLICATE = "duplicate"
    TOO_MANY_REQUESTS = "too-many-requests"
    RATE_LIMIT = "rate-limit"
    UNAVAILABLE = "unavailable"
    BAD_GATEWAY = "bad-gateway"
    BROKEN_BODY = "broken-body"
    NEVER_ENDS = "never-ends"
    EARLY_WAIT = "early-wait"
    DONE_WITH_ERROR = "done-with-error"
    UNREACHABLE = "unreachable"
    LAGGING_LIST = "lagging-list"
    FORBIDDEN = "forbidden"


WHAT: Mapping[FaultKind, str] = {
    FaultKind.LOST_REPLY: "the call is carried out and the connection ends without a reply",
    FaultKind.DUPLICATE: "the call arrives twice and the second answer is the one that comes back",
    FaultKind.TOO_MANY_REQUESTS: "429, nothing is done",
    FaultKind.RATE_LIMIT: "403 rateLimitExceeded, nothing is done",
    FaultKind.UNAVAILABLE: "503, nothing is done",
    FaultKind.BAD_GATEWAY: "502 with a page of HTML; the call is carried out all the same",
    FaultKind.BROKEN_BODY: "the call is carried out and its answer is cut short",
    FaultKind.NEVER_ENDS: "the operation runs until the fault is cleared",
    FaultKind.EARLY_WAIT: "wait returns at once",
    FaultKind.DONE_WITH_ERROR: "the operation ends with an error and nothing is changed",
    FaultKind.UNREACHABLE: "a list that spans scopes misses one and says so; a list of that scope alone gets 503",
    FaultKind.LAGGING_LIST: "a list shows how things stood some seconds ago",
    FaultKind.FORBIDDEN: "403 forbidden until the fault is cleared",
}


@attrs.define(kw_only=True)
class Fault:
    """
    One fault that waits for a call of *method*, which may hold ``*``.

    ``times``: how often; None until it is cleared. ``scope``: of UNREACHABLE, ``zones/Z`` or ``regions/R``.
    ``seconds``: of LAGGING_LIST.
    """

    kind: FaultKind
    method: str = "*"
    times: int | None = 1
    scope: str = ""
    seconds: float = 30.0


@attrs.frozen(kw_only=True)
class Chances:
    """How probable each fault is at each call that it can meet; from 0 to 1."""

    of: Mapping[FaultKind, float] = attrs.field(factory=dict)


class Faults:
    """Those that wait, and those that come by chance."""

    def __init__(self, rng: random.Random) -> None:
        self.waiting: list[Fault] = []
        self.chances = Chances()
        self._rng = rng

    def add(self, kind: FaultKind | str, method: str = "*", **fields: object) -> Fault:
        """Let a fault wait."""
        fault = Fault(kind=FaultKind(kind), method=method, **fields)  # type: ignore[arg-type]
        self.waiting.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self.waiting.clear()
        self.chances = Chances()

    def meet(self, method: str, *kinds: FaultKind, scope: str = "") -> Fault | None:
        """The first fault of these kinds that a call of *method*, in *scope* where it has one, meets and uses up."""
        for fault in self.waiting:
            fits = not (scope and fault.scope) or scope == fault.scope
            if fits and fault.kind in kinds and fnmatchcase(method, fault.method):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.waiting.remove(fault)
                return fault
        for kind in kinds:
            chance = self.chances.of.get(kind, 0.0)
            if chance and self._rng.random() < chance:
                return Fault(kind=kind)
        return None


def refusal_of(kind: FaultKind, permission: str, path: str) -> RefusalError:
    """The refusal that a fault is."""
    match kind:
        case FaultKind.TOO_MANY_REQUESTS:
            return RefusalError(429, "rateLimitExceeded", "Too many requests", domain="usageLimits")
        case FaultKind.RATE_LIMIT:
            return rate_limited("RATE_LIMIT_EXCEEDED")
        case FaultKind.UNAVAILABLE | FaultKind.UNREACHABLE:
            return RefusalError(503, "backendError", "Service is unavailable, please try again")
        case _:
            return RefusalError(403, "forbidden", f"Required '{permission}' permission for '{path}'")


def rate_limited(reason: str) -> RefusalError:
    """Too much was asked for in this minute, or at once."""
    info = {"reason": reason, "containerType": "PROJECT"}
    return RefusalError(403, "rateLimitExceeded", "Rate Limit Exceeded", domain="usageLimits", info=info)
