"""
What becomes of a reader that is too slow for a real API server?

The server keeps a bounded number of events for each watch, and ends the watch of whoever lets them pile up. Nothing of
it is said to the reader: it reads what had been sent, and then the end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from apiserver_world import MERGE_PATCH, ApiServerWorld, Lazy, empty_world
from controlplane import ControlPlane

from persistip.model.keys import ObjectKey
from persistip.strategies import Batch, ClusterObject
from persistip.testing import builders
from persistip.wire.encode import from_model

pytestmark = [pytest.mark.requires("apiserver"), pytest.mark.asyncio]

NODE = "/api/v1/nodes/busy"
FILLING = "x" * 200_000
"""Beside what is told of it: what the connection itself can hold is full after some dozens."""
MOST = 400


@pytest.fixture
async def world(emptied_plane: ControlPlane) -> AsyncIterator[ApiServerWorld]:
    """Give an empty cluster."""
    async with empty_world(emptied_plane) as found:
        yield found


class Sight:
    """What a reader knows; ``news`` is set at each batch."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, ClusterObject | None] = {}
        self.news = asyncio.Event()
        self.is_synced = asyncio.Event()

    def take(self, batch: Batch) -> None:
        """Take in one batch."""
        if batch.resynced:
            self.objects = {key: each for key, each in self.objects.items() if str(key.kind) not in batch.resynced}
        self.objects |= batch.objects
        self.news.set()
        if batch.synced:
            self.is_synced.set()


@asynccontextmanager
async def reading(cluster: Lazy) -> AsyncIterator[Sight]:
    """Give what a reader of *cluster* knows, from when it knows everything."""
    sight = Sight()

    async def follow() -> None:
        async for batch in cluster.changes():
            sight.take(batch)

    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(60):
            await sight.is_synced.wait()
        yield sight
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def ended_watches(world: ApiServerWorld) -> float:
    """Return how many watches of Nodes the server has ended since their readers were too slow."""
    answer = await world.ask("GET", "/metrics")
    return sum(
        float(line.rpartition(" ")[2])
        for line in answer.body.splitlines()
        if line.startswith("apiserver_terminated_watchers_total") and 'resource="nodes"' in line
    )


async def test_reader_whose_watch_the_server_ended_goes_on_and_misses_nothing(world: ApiServerWorld) -> None:
    """While it stalls, so much happens that the server gives it up; then it knows what is there, and what is gone."""
    for name in ("busy", "old"):
        await world.put(from_model(builders.node(name)))
    async with reading(world.cluster()) as sight:
        before = await ended_watches(world)
        world.relay.is_frozen.clear()
        await world.remove("Node", "", "old")
        for number in range(MOST):
            await world.must("PATCH", NODE, {"metadata": {"annotations": {"n": f"{number}{FILLING}"}}}, MERGE_PATCH)
            if number % 10 == 0 and await ended_watches(world) > before:
                break
        assert await ended_watches(world) > before, "the server has given the reader up"
        # Behind what the server had kept for it.
        await world.put(from_model(builders.node("new")))
        world.relay.is_frozen.set()
        async with asyncio.timeout(60):
            while sight.objects.get(builders.node("new").key) is None:
                sight.news.clear()
                await sight.news.wait()
        nodes = {key.name for key, each in sight.objects.items() if key.kind == "Node" and each is not None}
        assert nodes == {"busy", "new"}
