"""
What has changed since the reader looked last?

In: what lists and watches say, as it arrives.  Out: one Batch of latest objects whenever somebody asks.
Of each object the latest state only: a reader that is slow, or a cluster that is busy, costs one entry an object and
never a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import Batch, ClusterObject
from persistip.wire.decode import Unreadable


class Mailbox:
    """Between the followers of *kinds* and one reader."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._missing = set(kinds)
        self._objects: dict[ObjectKey, ClusterObject | None] = {}
        self._unreadable: dict[ObjectKey, str] = {}
        self._resynced: set[Kind] = set()
        self._failure: Exception | None = None
        self._news = asyncio.Event()

    def put(self, key: ObjectKey, found: ClusterObject | Unreadable | None) -> None:
        """One object as it stands now; None: gone."""
        if isinstance(found, Unreadable):
            self._objects.pop(key, None)
            self._unreadable[key] = str(found)
        else:
            self._unreadable.pop(key, None)
            self._objects[key] = found
        self._news.set()

    def replace(self, kind: Kind, found: Mapping[ObjectKey, ClusterObject | Unreadable]) -> None:
        """The complete list of a kind: whatever else was known of it is gone."""
        self._objects = {key: each for key, each in self._objects.items() if key.kind is not kind}
        self._unreadable = {key: why for key, why in self._unreadable.items() if key.kind is not kind}
        for key, each in found.items():
            self.put(key, each)
        self._resynced.add(kind)
        self._missing.discard(kind)
        self._news.set()

    def lose(self, kind: Kind) -> None:
        """Something of *kind* may have been missed: not everything is known until its next complete list."""
        self._missing.add(kind)
        self._news.set()

    def fail(self, error: Exception) -> None:
        """There will be no more news; the reader is told why, after what has arrived."""
        self._failure = self._failure or error
        self._news.set()

    async def take(self) -> Batch:
        """Everything that has changed since the last call; raises what a follower failed with."""
        await self._news.wait()
        self._news.clear()
        if self._failure is not None:
            raise self._failure
        batch = Batch(
            objects=self._objects,
            unreadable=self._unreadable,
            resynced=frozenset(str(kind) for kind in self._resynced),
            synced=not self._missing,
        )
        self._objects, self._unreadable, self._resynced = {}, {}, set()
        return batch
