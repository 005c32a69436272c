"""
Who hears of a change, and as what?

Every write is a ``Change``; a ``History`` keeps the last ones and hands them to watchers. A watcher with a label
selector hears of an object that stops matching as DELETED and of one that begins to match as ADDED, as on a real API
server. Queues and history are bounded: who falls behind is told that its history expired.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar, cast

import attrs

from persistip.backends.memory.errors import ExpiredError
from persistip.model.selector import LabelSelector

T = TypeVar("T")


def copy_json(value: T) -> T:
    """A deep copy of JSON data; strings, numbers, booleans and None are shared."""
    return cast("T", _copied(value))


def _copied(value: Any) -> Any:
    # Most of what is in JSON is a leaf: asked here, that costs no call.
    if isinstance(value, dict):
        return {key: _copied(item) if isinstance(item, (dict, list)) else item for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) if isinstance(item, (dict, list)) else item for item in value]
    return value


@attrs.frozen
class WatchEvent:
    """``type`` is ADDED, MODIFIED or DELETED."""

    type: str
    object: dict[str, Any]


@attrs.frozen(kw_only=True)
class Change:
    """One write: the object before and after; ``old`` None: created, ``new`` None: gone."""

    revision: int
    kind: str
    namespace: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None


@attrs.frozen(kw_only=True)
class Interest:
    """What a watcher or a list asks for; ``namespace`` None: all."""

    kind: str
    namespace: str | None
    selector: LabelSelector

    def covers(self, obj: dict[str, Any] | None) -> bool:
        """Whether *obj* exists and its labels match."""
        return obj is not None and self.selector.matches(obj["metadata"].get("labels") or {})

    def event_of(self, change: Change) -> WatchEvent | None:
        """What *change* looks like from here, or None when it cannot be seen."""
        if change.kind != self.kind or self.namespace not in (None, change.namespace):
            return None
        was, is_ = self.covers(change.old), self.covers(change.new)
        if is_ and change.new is not None:
            return WatchEvent("MODIFIED" if was else "ADDED", change.new)
        if was and change.old is not None:
            metadata = {**change.old["metadata"], "resourceVersion": str(change.revision)}
            return WatchEvent("DELETED", {**change.old, "metadata": metadata})
        return None


class _Watcher:
    def __init__(self, interest: Interest, limit: int) -> None:
        self.interest = interest
        self.queue: asyncio.Queue[WatchEvent | ExpiredError | None] = asyncio.Queue()
        self.limit = limit
        self.is_open = True

    def see(self, change: Change) -> None:
        event = self.interest.event_of(change)
        if event is None or not self.is_open:
            return
        if self.queue.qsize() < self.limit:
            self.queue.put_nowait(event)
            return
        while not self.queue.empty():
            self.queue.get_nowait()
        self.end(ExpiredError("the watcher fell behind", system="memory", operation="watch"))

    def end(self, why: ExpiredError | None) -> None:
        self.is_open = False
        self.queue.put_nowait(why)


class History:
    """The last *limit* changes and those who listen; a watcher may lag by as many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changes: deque[Change] = deque()
        self._forgotten_revision = 0
        # In order: the same story told twice wakes the same tasks in the same turn.
        self._watchers: dict[_Watcher, None] = {}

    def add(self, change: Change) -> None:
        """Keep *change* and tell the watchers."""
        self._changes.append(change)
        while len(self._changes) > self._limit:
            self._forgotten_revision = self._changes.popleft().revision
        for watcher in tuple(self._watchers):
            watcher.see(change)

    def forget(self) -> None:
        """Drop the history, as compaction does: watches that begin before the present revision expire."""
        while self._changes:
            self._forgotten_revision = self._changes.popleft().revision

    def end_watches(self) -> None:
        """Close every watch from the server's side."""
        for watcher in tuple(self._watchers):
            watcher.end(None)

    def _since(self, revision: int) -> Iterator[Change]:
        if revision < self._forgotten_revision:
            raise ExpiredError(f"too old resource version: {revision}", system="memory", operation="watch")
        return (change for change in self._changes if change.revision > revision)

    async def watch(self, interest: Interest, revision: int, *, latest: int) -> AsyncIterator[WatchEvent]:
        """
        Every change after *revision*; ends when the server closes it, ExpiredError when it cannot be complete.

        *latest* is the store's revision: what lies beyond it was another store's.
        """
        if revision > latest:
            raise ExpiredError(f"too large resource version: {revision}", system="memory", operation="watch")
        watcher = _Watcher(interest, self._limit)
        for change in self._since(revision):
            watcher.see(change)
        self._watchers[watcher] = None
        try:
            while (item := await watcher.queue.get()) is not None:
                if isinstance(item, ExpiredError):
                    raise item
                yield WatchEvent(item.type, copy_json(item.object))
        finally:
            self._watchers.pop(watcher, None)
