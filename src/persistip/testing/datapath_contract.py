"""
Does a Datapath keep its promises?

In: a DatapathWorld around the Datapath to be judged.  Out: one test for every promise of
``persistip.strategies.Datapath`` and of the values in ``persistip.model.entry``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

from persistip.model.actions import ForgetPin, OutcomeState, PutEntry, RecordPin, RemoveEntry
from persistip.model.address import IPAddress, Prefix
from persistip.model.entry import (
    Entry,
    ExemptEntry,
    GuardEntry,
    LinkRef,
    NodeScope,
    NodeState,
    Pin,
    PodLink,
    ProxyEntry,
    RouteEntry,
)
from persistip.strategies import Datapath
from persistip.testing.running import whole


class DatapathWorld(Protocol):
    """A node with two Pods that answer and a free address, and the hands of others who change its kernel."""

    @property
    def pod_ips(self) -> tuple[IPAddress, IPAddress]:
        """IPs of two Pods on different links, of the family of ``prefix``."""
        ...

    @property
    def absent_ip(self) -> IPAddress:
        """An IP of that family to which no route to a Pod leads."""
        ...

    @property
    def prefix(self) -> Prefix:
        """A single address for which nothing stands."""
        ...

    async def open(self) -> Datapath:
        """A new Datapath on the node, as after a restart of the agent; the one before is dead."""
        ...

    async def lose(self, entry: RouteEntry) -> None:
        """Somebody else removes our route."""
        ...

    async def obstruct(self, prefix: Prefix) -> None:
        """Somebody else's thing keeps *prefix* from being delivered."""
        ...


async def _look(datapath: Datapath, *pod_ips: IPAddress) -> NodeState:
    return await datapath.observe(NodeScope(pod_ips=frozenset(pod_ips)))


async def _links(world: DatapathWorld, datapath: Datapath) -> tuple[PodLink, PodLink]:
    """Where the two Pods are, once both have answered: a kernel asks when it is asked."""
    while True:
        found = (await _look(datapath, *world.pod_ips)).pod_links
        first, second = (found.get(ip) for ip in world.pod_ips)
        if first is not None and second is not None and first.hardware_address and second.hardware_address:
            return first, second
        await asyncio.sleep(0.01)


def _route(world: DatapathWorld, at: PodLink) -> RouteEntry:
    assert at.hardware_address
    return RouteEntry(prefix=world.prefix, link=at.link, hardware_address=at.hardware_address, pod_ip=at.ip)


async def _entries(world: DatapathWorld, datapath: Datapath) -> tuple[Entry, ...]:
    """One of each kind, for the first Pod."""
    at, _ = await _links(world, datapath)
    assert at.hardware_address
    uplink = (await _look(datapath)).uplinks[0]
    return (
        GuardEntry(prefix=world.prefix, link=at.link, hardware_address=at.hardware_address),
        ExemptEntry(world.prefix),
        _route(world, at),
        ProxyEntry(prefix=world.prefix, link=uplink),
    )


def _all_done(outcomes: Any) -> bool:
    return all(outcome.is_done for outcome in outcomes)


class DatapathContract(ABC):
    """Every promise of Datapath."""

    @abstractmethod
    def make(self) -> AbstractAsyncContextManager[DatapathWorld]:
        """A fresh world for one test."""

    @whole
    async def test_look_finds_uplinks_and_the_links_of_pods(self) -> None:
        """An uplink at least, the two Pods on two links, and nothing for an IP to which no route leads."""
        async with self.make() as world:
            datapath = await world.open()
            first, second = await _links(world, datapath)
            assert first.link != second.link
            state = await _look(datapath, world.absent_ip)
            assert state.uplinks
            assert dict(state.pod_links) == {}
            assert state.entries == state.stale == frozenset()

    @whole
    async def test_entries_put_are_seen_as_ours_and_whole(self) -> None:
        """What was put is observed, and nothing else."""
        async with self.make() as world:
            datapath = await world.open()
            entries = await _entries(world, datapath)
            assert _all_done(await datapath.apply([PutEntry(entry) for entry in entries]))
            state = await _look(datapath)
            assert state.entries == frozenset(entries)
            assert state.stale == frozenset()

    @whole
    async def test_entries_put_again_change_nothing(self) -> None:
        """Putting what stands is done, and the same look as before follows."""
        async with self.make() as world:
            datapath = await world.open()
            puts = [PutEntry(entry) for entry in await _entries(world, datapath)]
            await datapath.apply(puts)
            before = await _look(datapath)
            assert _all_done(await datapath.apply(puts))
            assert await _look(datapath) == before

    @whole
    async def test_route_put_for_another_pod_takes_the_place_of_the_first(self) -> None:
        """A prefix has one route."""
        async with self.make() as world:
            datapath = await world.open()
            first, second = [_route(world, at) for at in await _links(world, datapath)]
            assert _all_done(await datapath.apply([PutEntry(first), PutEntry(second)]))
            assert (await _look(datapath)).entries == {second}

    @whole
    async def test_entries_removed_are_gone_and_absent_is_success(self) -> None:
        """Everything put goes, and removing it once more is done."""
        async with self.make() as world:
            datapath = await world.open()
            entries = await _entries(world, datapath)
            await datapath.apply([PutEntry(entry) for entry in entries])
            removals = [RemoveEntry(entry) for entry in entries]
            assert _all_done(await datapath.apply(removals))
            assert (await _look(datapath)).entries == frozenset()
            assert _all_done(await datapath.apply(removals))

    @whole
    async def test_entries_are_recognised_after_a_restart(self) -> None:
        """A new process without memory finds every entry as ours."""
        async with self.make() as world:
            datapath = await world.open()
            entries = await _entries(world, datapath)
            await datapath.apply([PutEntry(entry) for entry in entries])
            assert (await _look(await world.open())).entries == frozenset(entries)

    @whole
    async def test_lost_route_is_missed_and_wakes(self) -> None:
        """An entry that others removed is no longer observed, and ``changes`` says that a look is due."""
        async with self.make() as world:
            datapath = await world.open()
            route = _route(world, (await _links(world, datapath))[0])
            await datapath.apply([PutEntry(route)])
            changes = datapath.changes()
            waking = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0.05)
            await world.lose(route)
            await asyncio.wait_for(waking, 5.0)
            assert route not in (await _look(datapath)).entries
            assert (await datapath.apply([PutEntry(route)]))[0].is_done
            assert route in (await _look(datapath)).entries
            await changes.aclose()  # type: ignore[attr-defined]  # every changes() is an asynchronous generator

    @whole
    async def test_obstacle_is_reported_and_never_removed(self) -> None:
        """Something foreign in the way is named with its prefix, our route does not count as whole, theirs stays."""
        async with self.make() as world:
            datapath = await world.open()
            route = _route(world, (await _links(world, datapath))[0])
            await world.obstruct(world.prefix)
            await datapath.apply([PutEntry(route)])
            for _ in range(2):
                state = await _look(datapath)
                assert [each.prefix for each in state.obstacles] == [world.prefix]
                assert state.obstacles[0].message
                assert route not in state.entries
                await datapath.apply([RemoveEntry(route)])

    @whole
    async def test_pin_outlives_the_process(self) -> None:
        """A pin on record is there for the next process, until it is replaced or forgotten."""
        async with self.make() as world:
            datapath = await world.open()
            at, other = await _links(world, datapath)
            pin = Pin(attachment_uid="a", pod_uid="p", epoch=1, link=at.link, hardware_address=str(at.hardware_address))
            beside = attrs.evolve(pin, pod_uid="q")
            assert _all_done(await datapath.apply([RecordPin(pin), RecordPin(beside)]))
            datapath = await world.open()
            assert (await _look(datapath)).pins == {pin, beside}
            newer = attrs.evolve(pin, epoch=2, link=other.link)
            assert _all_done(await datapath.apply([RecordPin(newer)]))
            datapath = await world.open()
            assert (await _look(datapath)).pins == {newer, beside}
            assert _all_done(await datapath.apply([ForgetPin(newer), ForgetPin(newer)]))
            assert (await _look(await world.open())).pins == {beside}

    @whole
    async def test_failed_action_does_not_stop_the_next(self) -> None:
        """An entry on a link that does not exist fails by itself; an action of a kind unknown is unsupported."""
        async with self.make() as world:
            datapath = await world.open()
            at, _ = await _links(world, datapath)
            nowhere = attrs.evolve(_route(world, at), link=LinkRef("nowhere0", 999_999))
            exempt, unknown = ExemptEntry(world.prefix), _unknown()
            outcomes = await datapath.apply([PutEntry(nowhere), unknown, PutEntry(exempt)])
            assert len(outcomes) == 3
            assert not outcomes[0].is_done
            assert outcomes[0].message
            assert outcomes[1].state is OutcomeState.UNSUPPORTED
            assert outcomes[2].is_done
            assert (await _look(datapath)).entries == {exempt}


def _unknown() -> Any:
    """An action that is made only later."""
    return object()
