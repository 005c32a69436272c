"""
What does the contract of a Cluster stand on: the hands of a cluster's users, and the eyes of who follows it?

In: a backend's own world, or its Cluster.  Out: the protocol that the world has to serve, and a Reader of batches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from persistip.model.actions import CreateAttachment, Outcome
from persistip.model.attachment import AddressAttachment
from persistip.model.keys import ObjectKey
from persistip.strategies import Batch, Cluster, ClusterObject


class ClusterWorld(Protocol):
    """A cluster with nothing in it, and the hands of its users."""

    def cluster(self, *, node_name: str | None = None) -> Cluster:
        """A controller's Cluster, or with *node_name* the one of that node's agent."""
        ...

    async def put(self, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create or change an object as a user would, its status too; returns what stands."""
        ...

    async def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object as a user would."""
        ...

    async def interrupt(self) -> None:
        """Break every watch."""
        ...


class Reader:
    """What somebody who follows a Cluster knows."""

    def __init__(self, batches: AsyncIterator[Batch]) -> None:
        self._batches = batches
        self.objects: dict[ObjectKey, ClusterObject] = {}
        self.unreadable: dict[ObjectKey, str] = {}
        self.is_synced = False

    async def read(self) -> Batch:
        """Take in the next batch."""
        batch = await anext(self._batches)
        for kind in batch.resynced:
            self.objects = {key: obj for key, obj in self.objects.items() if key.kind != kind}
            self.unreadable = {key: why for key, why in self.unreadable.items() if key.kind != kind}
        for key in batch.objects:
            self.unreadable.pop(key, None)
        for key, why in batch.unreadable.items():
            self.objects.pop(key, None)
            self.unreadable[key] = why
        for key, obj in batch.objects.items():
            if obj is None:
                self.objects.pop(key, None)
            else:
                self.objects[key] = obj
        self.is_synced = batch.synced
        return batch

    async def until(self, is_reached: Callable[[dict[ObjectKey, ClusterObject]], bool]) -> None:
        """Read on until what is known is whole and *is_reached*."""
        while not (self.is_synced and is_reached(self.objects)):
            await self.read()


@asynccontextmanager
async def following(cluster: Cluster) -> AsyncIterator[Reader]:
    """Follow a Cluster for the length of a block."""
    batches = cluster.changes()
    try:
        yield Reader(batches)
    finally:
        await batches.aclose()  # type: ignore[attr-defined]  # every changes() is an asynchronous generator


async def apply_one(cluster: Cluster, action: Any) -> Outcome:
    """Apply *action* alone."""
    (outcome,) = await cluster.apply([action])
    return outcome


async def create(cluster: Cluster, attachment: AddressAttachment) -> AddressAttachment:
    """Create *attachment*; returns what stands."""
    outcome = await apply_one(cluster, CreateAttachment(attachment))
    assert outcome.is_done, outcome
    return attachment_of(outcome)


def attachment_of(outcome: Outcome) -> AddressAttachment:
    """The attachment that stands after a write."""
    assert isinstance(outcome.written, AddressAttachment), outcome
    return outcome.written
