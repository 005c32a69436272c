"""
What does Compute Engine answer to a request?

In: requests, without their HTTP.  Out: replies, and a project that changes as operations complete.

    request -> which method? -> faults, quota, permission -> project, scope -> body -> the change, tried -> operation
                                                                                                              |  later
                                                                                            the change, made <┘

A change is tried against the present state when it is asked for, and made against the state that it finds when its
operation completes: what another has changed in between fails the operation.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from persistip.runtime.clock import SystemClock
from persistip.strategies import Clock
from persistip.testing.compute_engine import changes, reads
from persistip.testing.compute_engine.faults import FaultKind, Faults, rate_limited, refusal_of
from persistip.testing.compute_engine.links import Link
from persistip.testing.compute_engine.methods import BASE, Call, find_call, make_methods
from persistip.testing.compute_engine.operations import NEVER, Operation, Operations, request_of
from persistip.testing.compute_engine.refusals import RefusalError, invalid, not_emulated, not_found
from persistip.testing.compute_engine.service import KINDS
from persistip.testing.compute_engine.settings import LatencyName, Quotas, seconds_of
from persistip.testing.compute_engine.state import State

WAIT_SECONDS = 120.0
"""For how long ``wait`` waits at most."""


@attrs.frozen(kw_only=True)
class Request:
    """One request; ``target`` is path and query."""

    http: str
    target: str
    body: bytes = b""


@attrs.frozen(kw_only=True)
class Reply:
    """
    One reply. ``lost``: the connection ends without it.

    ``waits_for`` names an operation for which the caller waits before it asks again with ``ComputeEngine.waited``.
    """

    status: int
    body: bytes
    content_type: str = "application/json; charset=UTF-8"
    lost: bool = False
    waits_for: Operation | None = None

    def json(self) -> Any:
        """The body as values."""
        return json.loads(self.body)


class ComputeEngine:
    """
    A project of Compute Engine that lives in memory, with one region.

    The same seed and the same requests in the same order give the same answers. ``done_at_once``: operations are DONE
    when they are asked for, which the real service never promises; by default none is, nor on the first look at it.
    """

    def __init__(
        self,
        *,
        project: str = "lab",
        region: str = "europe-west4",
        zones: Collection[str] = ("europe-west4-a", "europe-west4-b", "europe-west4-c"),
        seed: int = 0,
        latency: LatencyName = "none",
        quotas: Quotas | None = None,
        clock: Clock | None = None,
        done_at_once: bool = False,
    ) -> None:
        rng = random.Random(seed)
        self.clock = clock or SystemClock()
        self.state = State({kind.collection: kind for kind in KINDS}, rng, project=project, region=region, zones=zones)
        self.operations = Operations(rng)
        self.faults = Faults(rng)
        self.quotas = quotas or Quotas()
        self.latency: LatencyName = latency
        self.done_at_once = done_at_once
        self.calls: Counter[tuple[str, int]] = Counter()
        """How often each method was called in each minute, refused calls included."""
        self.misuses: list[str] = []
        """What no client should ever do, and the real service may not notice: a test fails when it finds any here."""
        self.lock = threading.RLock()
        self._methods = make_methods(KINDS)
        self._rng = rng

    # ------------------------------------------------------------ requests
    def answer(self, request: Request) -> Reply:
        """Answer one request; the reply is whole before the lock is let go."""
        with self.lock:
            self.settle()
            try:
                call = self._find(request)
            except RefusalError as error:
                return _reply(error.status, error.envelope())
            return self._carry_out(call, request)

    def waited(self, operation: Operation) -> Reply:
        """The answer to a ``wait`` that has waited long enough."""
        with self.lock:
            self.settle()
            operation.polls += 1
            return _reply(200, operation.shown())

    def settle(self) -> None:
        """Complete every operation that is due."""
        with self.lock:
            self.operations.settle(self.clock.now())

    def calls_of(self, method: str) -> int:
        """How often a method has been called."""
        return sum(count for (name, _), count in self.calls.items() if name == method)

    def clear_faults(self) -> None:
        """Nothing goes wrong any more; operations that would never end do, by and by."""
        with self.lock:
            self.faults.clear()
            for operation in self.operations.running:
                if operation.due_at == NEVER:
                    operation.due_at = self._due_at(operation.method)

    def _find(self, request: Request) -> Call:
        parts = urlsplit(request.target)
        call = find_call(self._methods, request.http, unquote(parts.path))
        if call is None:
            raise not_emulated(f"{request.http} {parts.path}")
        query = parse_qsl(parts.query, keep_blank_values=True)
        for name, value in query:
            if name not in call.method.query or (name == "alt" and value != "json"):
                text = f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                raise RefusalError(400, "invalid", f"{text} {call.method.id} takes it not, or not so.")
        return call

    def _carry_out(self, call: Call, request: Request) -> Reply:
        method = call.method.id
        minute = int(self.clock.now() // 60)
        self.calls[method, minute] += 1
        meet = self.faults.meet
        try:
            if self.calls[method, minute] > self.quotas.calls_per_minute:
                raise rate_limited("RATE_LIMIT_EXCEEDED")
            refused = meet(
                method, FaultKind.TOO_MANY_REQUESTS, FaultKind.RATE_LIMIT, FaultKind.UNAVAILABLE, FaultKind.FORBIDDEN
            )
            if refused is not None:
                raise refusal_of(refused.kind, call.method.permission, request.target.removeprefix(BASE))
            if meet(method, FaultKind.DUPLICATE):
                self._try(call, request)
            reply = self._reply_to(call, request)
        except RefusalError as error:
            reply = _reply(error.status, error.envelope())
        if meet(method, FaultKind.LOST_REPLY):
            return attrs.evolve(reply, lost=True, waits_for=None)
        if meet(method, FaultKind.BAD_GATEWAY):
            page = b"<html><title>502</title><p>The server encountered a temporary error.</html>"
            return Reply(status=502, body=page, content_type="text/html; charset=UTF-8")
        if meet(method, FaultKind.BROKEN_BODY):
            return attrs.evolve(reply, body=reply.body[: len(reply.body) // 2], waits_for=None)
        return reply

    def _try(self, call: Call, request: Request) -> None:
        """Carry out a call whose answer nobody gets."""
        try:
            self._reply_to(call, request)
        except RefusalError:
            return

    def _reply_to(self, call: Call, request: Request) -> Reply:
        query = dict(parse_qsl(urlsplit(request.target).query, keep_blank_values=True))
        if call.project != self.state.project:
            raise not_found(f"projects/{call.project}")
        aggregated = call.method.verb == "aggregatedList"
        if not aggregated and not self.state.has_scope(call.scope):
            word, _, name = call.scope.partition("s/")
            raise invalid(word, name, f"Unknown {word}.")
        body = _read_body(request.body) if call.method.takes_body else {}
        if request.body and not call.method.takes_body:
            raise RefusalError(400, "badRequest", f"{call.method.id} takes no body")
        if call.method.kind is None:
            return self._answer_operations(call, query)
        if call.method.http == "GET" or call.method.verb in ("listNetworkEndpoints", "getHealth"):
            return _reply(200, reads.read(self, call, query, body))
        return _reply(200, self._begin(call, query.get("requestId", ""), body).shown())

    # ------------------------------------------------------------ changes
    def _begin(self, call: Call, request_id: str, body: Mapping[str, Any]) -> Operation:
        """Try the change, then begin its operation."""
        name = call.name or str(body.get("name", ""))
        kind = call.method.kind
        assert kind is not None
        target = Link(call.project, call.scope, kind.collection, name)
        asked = request_of(call.method.id, target, body)
        if request_id:
            changes.check_request_id(request_id)
            if earlier := self.operations.of_request(request_id):
                if earlier.request != asked:
                    self.misuses.append(f"requestId {request_id} of {earlier.method} used again for {call.method.id}")
                    raise invalid("requestId", request_id, "It was used for another request.")
                return earlier
        if len(self.operations.running) >= self.quotas.operations:
            raise rate_limited("CONCURRENT_OPERATIONS_QUOTA_EXCEEDED")
        change = changes.make_change(self.state, call.method.verb, kind, target, body)
        tried = change.try_now()
        before = self.state.get(target)
        now = self.clock.now()
        fails = self.faults.meet(call.method.id, FaultKind.DONE_WITH_ERROR) is not None
        never = self.faults.meet(call.method.id, FaultKind.NEVER_ENDS) is not None
        operation = Operation(
            link=Link(call.project, call.scope, "operations", self.operations.name(now)),
            id=self.state.new_id(),
            method=call.method.id,
            verb=call.method.verb,
            target=target,
            target_id=before.id if before else self.state.new_id(),
            request=asked,
            request_id=request_id,
            started_at=now,
            due_at=NEVER if never else now if self.done_at_once else self._due_at(call.method.id),
            apply=lambda at: self._complete(change, at, fails=fails),
        )
        change.announce(tried, operation.target_id)
        self.operations.add(operation)
        if self.done_at_once:
            self.settle()
        return operation

    def _due_at(self, method: str) -> float:
        return self.clock.now() + self._rng.uniform(*seconds_of(self.latency, method.partition(".")[0]))

    def _complete(self, change: changes.Change, at: float, *, fails: bool) -> None:
        try:
            if fails:
                raise RefusalError(503, "internalError", "Internal error. Please try again or contact Google Support.")
            change.make(at, self.quotas.resources)
        finally:
            change.withdraw()

    # ------------------------------------------------------------ operations
    def _answer_operations(self, call: Call, query: Mapping[str, str]) -> Reply:
        if call.method.verb == "list":
            shown = [each.shown() for each in self.operations.of_scope(call.scope)]
            return _reply(200, reads.list_page(call, shown, query, "operation"))
        operation = self.operations.find(Link(call.project, call.scope, "operations", call.name))
        if operation is None:
            raise not_found(f"projects/{call.project}/{call.scope}/operations/{call.name}")
        if call.method.verb == "wait":
            early = self.faults.meet(call.method.id, FaultKind.EARLY_WAIT)
            if not operation.is_done and early is None:
                return attrs.evolve(_reply(200, operation.shown()), waits_for=operation)
        # The end is told at the second look at the earliest: clients that believe the first answer are found out.
        first = operation.polls == 0 and not self.done_at_once and call.method.verb == "get"
        operation.polls += 1
        return _reply(200, operation.shown(as_running=first))


def _reply(status: int, body: Mapping[str, Any]) -> Reply:
    return Reply(status=status, body=json.dumps(body, indent=1).encode())


def _read_body(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body) if body else {}
    except ValueError as error:
        raise RefusalError(400, "parseError", f"Parse Error: {error}") from error
    if not isinstance(value, dict):
        raise RefusalError(400, "parseError", "Parse Error: an object is expected")
    return value
