"""
How does a change come about? As an operation: asked for now, done later.

In: a change as a function, and when it is due.  Out: the operation as clients see it. Nothing is applied before it is
due; several that are due are applied in the order of their instants, which the seed has drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from persistip.testing.compute_engine.links import Link, scope_url
from persistip.testing.compute_engine.refusals import RefusalError
from persistip.testing.compute_engine.state import timestamp

NEVER = float("inf")


@attrs.define(kw_only=True)
class Operation:
    """One operation; ``polls`` counts how often it has been asked for."""

    link: Link
    id: str
    method: str
    verb: str
    target: Link
    target_id: str
    request: tuple[str, str, Any]
    request_id: str
    started_at: float
    due_at: float
    apply: Callable[[float], None]
    polls: int = 0
    ended_at: float | None = None
    error: RefusalError | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.ended_at is not None

    def shown(self, *, as_running: bool = False) -> dict[str, Any]:
        """The operation as answers carry it; ``as_running``: before its end is told."""
        done = self.is_done and not as_running
        body: dict[str, Any] = {
            "kind": "compute#operation",
            "id": self.id,
            "name": self.link.name,
            "operationType": self.verb,
            "targetLink": self.target.url,
            "targetId": self.target_id,
            "status": "DONE" if done else "RUNNING",
            "progress": 100 if done else 0,
            "insertTime": timestamp(self.started_at),
            "startTime": timestamp(self.started_at),
            "selfLink": self.link.url,
        }
        if self.request_id:
            body["clientOperationId"] = self.request_id
        if self.link.scope != "global":
            body[self.link.scope.partition("s/")[0]] = scope_url(self.link.project, self.link.scope)
        if done and self.ended_at is not None:
            body["endTime"] = timestamp(self.ended_at)
            if self.error is not None:
                body |= self.error.of_operation()
        return body


class Operations:
    """All operations of a project, and which of them are due."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._all: dict[str, Operation] = {}
        self._running: dict[str, Operation] = {}
        self._by_request: dict[str, Operation] = {}

    def name(self, at: float) -> str:
        """A name for a new one."""
        return f"operation-{int(at * 1000)}-{self._rng.randrange(16**13):013x}-{self._rng.randrange(16**8):08x}"

    def add(self, operation: Operation) -> None:
        """Begin one."""
        self._all[operation.link.url] = self._running[operation.link.url] = operation
        if operation.request_id:
            self._by_request[operation.request_id] = operation

    def find(self, link: Link) -> Operation | None:
        """One by its name."""
        return self._all.get(link.url)

    def of_request(self, request_id: str) -> Operation | None:
        """The one that a ``requestId`` has begun."""
        return self._by_request.get(request_id)

    def of_scope(self, scope: str) -> list[Operation]:
        """Those of a region, a zone or the project, oldest first."""
        return [each for each in self._all.values() if each.link.scope == scope]

    @property
    def running(self) -> list[Operation]:
        """Those that have not ended."""
        return list(self._running.values())

    def settle(self, now: float) -> None:
        """Apply all that is due, in the order of the instants."""
        while due := [each for each in self._running.values() if each.due_at <= now]:
            first = min(due, key=lambda each: each.due_at)
            try:
                first.apply(first.due_at)
            except RefusalError as error:
                first.error = error
            first.ended_at = first.due_at
            del self._running[first.link.url]


def request_of(method: str, target: Link, body: Mapping[str, Any]) -> tuple[str, str, Any]:
    """What a ``requestId`` stands for: a second use with another one is a mistake."""
    return method, target.path, body
