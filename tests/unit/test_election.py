"""Replicas that agree on one of them, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from persistip.backends.memory import MemoryCluster, MemoryLease, MemoryStore
from persistip.backends.static import StaticAllocator
from persistip.controller import Controller
from persistip.errors import ConfigError, StaleError, UnavailableError
from persistip.model.keys import attachment_name
from persistip.runtime.election import Election
from persistip.settings import ElectionSettings
from persistip.strategies import Batch, LeaseRecord
from persistip.testing import builders, seed
from persistip.testing.virtualtime import LoopClock
from persistip.wire.encode import from_model

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

CLOCK = LoopClock(builders.START)


@attrs.frozen
class SkewedClock:
    """A wall clock that is wrong by some seconds."""

    seconds: float

    def now(self) -> float:
        return CLOCK.now() + self.seconds


class Path:
    """A lease, reached by a way that can be cut; *loses_answers*: what was written is, and nobody says so."""

    def __init__(self, store: MemoryStore) -> None:
        self._lease = MemoryLease(store, "persistip-system", "controller")
        self.is_cut = False
        self.loses_answers = False
        self.writes = 0

    async def read(self) -> LeaseRecord:
        self._check()
        return await self._lease.read()

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        self._check()
        written = await self._lease.write(record)
        self.writes += 1
        if self.loses_answers:
            raise UnavailableError("lost")
        return written

    async def changed(self, version: str, seconds: float) -> None:
        self._check()
        await self._lease.changed(version, seconds)

    def _check(self) -> None:
        if self.is_cut:
            raise UnavailableError("cut")


@attrs.define
class Replica:
    """One that takes part, and when it gained and lost."""

    election: Election
    path: Path
    heard: list[tuple[float, bool]] = attrs.field(factory=list)

    @property
    def leads(self) -> bool:
        return self.election.is_leading

    def note(self, is_leader: bool) -> None:
        self.heard.append((asyncio.get_running_loop().time(), is_leader))


@asynccontextmanager
async def replicas(*clocks: SkewedClock) -> AsyncIterator[list[Replica]]:
    """Give replicas on one store, of which the first begins before the others."""
    store = MemoryStore(CLOCK)
    taking_part, tasks = [], []
    for number, clock in enumerate(clocks):
        path = Path(store)
        replica = Replica(Election(path, f"replica-{number}", clock), path)
        taking_part.append(replica)
        tasks.append(asyncio.create_task(replica.election.run(replica.note)))
        await asyncio.sleep(0.1)
    try:
        yield taking_part
    finally:
        for replica in taking_part:
            replica.election.resign()
        await asyncio.gather(*tasks)


async def test_two_replicas_have_one_leader() -> None:
    """The first leads for as long as it renews, and the other never does."""
    async with replicas(SkewedClock(0), SkewedClock(0)) as (first, second):
        for _ in range(100):
            await asyncio.sleep(1)
            assert (first.leads, second.leads) == (True, False)


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
async def test_clocks_an_hour_apart_change_nothing(skew: float) -> None:
    """Who waits counts by its own clock from when it saw a renewal, whatever instant the renewal names."""
    async with replicas(SkewedClock(0), SkewedClock(skew)) as (first, second):
        await asyncio.sleep(60)
        assert (first.leads, second.leads) == (True, False)
        first.path.is_cut = True
        await asyncio.sleep(60)
        assert (first.leads, second.leads) == (False, True)


async def test_release_hands_over_within_a_second() -> None:
    """Another leads at once when the leader resigns and releases, and not before the release."""
    async with replicas(SkewedClock(0), SkewedClock(0)) as (first, second):
        await asyncio.sleep(5)
        first.election.resign()
        await asyncio.sleep(2)
        assert (first.leads, second.leads) == (True, False)
        released_at = asyncio.get_running_loop().time()
        await first.election.release()
        await asyncio.sleep(1)
        assert (first.leads, second.leads) == (False, True)
        assert second.heard[0][0] - released_at < 1


async def test_leader_cut_off_stops_before_another_begins() -> None:
    """A leader that cannot renew knows that its time is up before anybody else may lead."""
    async with replicas(SkewedClock(0), SkewedClock(0)) as (first, second):
        await asyncio.sleep(5)
        first.path.is_cut = True
        while not second.leads:
            await asyncio.sleep(0.01)
            assert not (first.leads and second.leads)
        lost_at, gained_at = first.heard[1][0], second.heard[0][0]
        assert 3 < gained_at - lost_at < 8


async def test_leader_paused_acts_no_more() -> None:
    """A process that was stopped for longer than it may lead leads no more, before it has heard of anything."""
    path = Path(MemoryStore(CLOCK))
    election = Election(path, "only", SkewedClock(0))
    running = asyncio.create_task(election.run(lambda _: None))
    await asyncio.sleep(5)
    assert election.is_leading
    running.cancel()
    await asyncio.sleep(11)
    assert not election.is_leading


async def test_outage_shorter_than_the_lease_changes_nothing() -> None:
    """A leader that renews again in time has led all along."""
    async with replicas(SkewedClock(0), SkewedClock(0)) as (first, second):
        await asyncio.sleep(5)
        first.path.is_cut = second.path.is_cut = True
        await asyncio.sleep(7)
        first.path.is_cut = second.path.is_cut = False
        await asyncio.sleep(30)
        assert [gained for _, gained in first.heard] == [True]
        assert second.heard == []


async def test_lost_answer_costs_no_leadership() -> None:
    """A renewal whose answer is lost is found to be ours when the next one conflicts with it."""
    async with replicas(SkewedClock(0), SkewedClock(0)) as (first, second):
        await asyncio.sleep(5)
        first.path.loses_answers = True
        await asyncio.sleep(4)
        first.path.loses_answers = False
        await asyncio.sleep(30)
        assert [gained for _, gained in first.heard] == [True]
        assert not second.leads


async def test_lease_taken_by_hand_ends_the_leadership() -> None:
    """Who writes another holder into the lease deposes the leader, which hears of it with its next renewal."""
    async with replicas(SkewedClock(0)) as (first,):
        await asyncio.sleep(5)
        found = await first.path.read()
        await first.path.write(attrs.evolve(found, holder="somebody", duration_seconds=60.0))
        await asyncio.sleep(3)
        assert not first.leads
        await asyncio.sleep(61)
        assert first.leads


async def test_quiet_leader_writes_renewals_only() -> None:
    """A minute of leading costs thirty writes, and one of standing by none."""
    async with replicas(SkewedClock(0), SkewedClock(0)) as (first, second):
        await asyncio.sleep(5)
        before = first.path.writes
        await asyncio.sleep(60)
        assert first.path.writes - before == 30
        assert second.path.writes == 0


async def test_lease_that_is_gone_is_stale() -> None:
    """A record that somebody deleted is not written again on its old version, and reads as one that nobody made."""
    store = MemoryStore(CLOCK)
    lease = MemoryLease(store, "persistip-system", "controller")
    written = await lease.write(LeaseRecord(holder="a", duration_seconds=15.0))
    await store.delete("Lease", "persistip-system", "controller")
    with pytest.raises(StaleError):
        await lease.write(written)
    assert await lease.read() == LeaseRecord()


@pytest.mark.parametrize("times", [(15.0, 15.0, 2.0), (15.0, 2.0, 2.0), (15.0, 10.0, 0.0)])
async def test_times_in_the_wrong_order_are_refused(times: tuple[float, float, float]) -> None:
    """Times with which two could lead are no settings."""
    lease, renew, retry = times
    with pytest.raises(ConfigError, match="renew_seconds"):
        ElectionSettings(lease_seconds=lease, renew_seconds=renew, retry_seconds=retry)


def controller(store: MemoryStore, name: str) -> tuple[Controller, Path]:
    """Give a controller that takes part in the election, and its way to the lease."""
    path = Path(store)
    election = Election(path, name, CLOCK)
    return Controller(MemoryCluster(store), StaticAllocator(), clock=CLOCK, election=election), path


async def world(store: MemoryStore) -> None:
    """Put everything that a route needs into *store*."""
    for each in (
        builders.gateway_class(),
        builders.config_map(),
        builders.namespace(),
        builders.node(),
        builders.gateway(),
        builders.route(),
        builders.pod(),
    ):
        await seed(store, from_model(each))


async def test_controller_without_the_lease_does_nothing() -> None:
    """A controller that stands by follows everything and writes nothing; it acts once the lease is free."""
    store = MemoryStore(CLOCK)
    await world(store)
    other = MemoryLease(store, "persistip-system", "controller")
    taken = await other.write(LeaseRecord(holder="other", duration_seconds=15.0))
    standby, _ = controller(store, "standby")
    async with standby:
        await standby.synced.wait()
        before = store.revision
        await asyncio.sleep(10)
        assert store.revision == before
        await other.write(attrs.evolve(taken, holder="", duration_seconds=1.0))
        await asyncio.sleep(1)
        assert await store.get("AddressAttachment", "", attachment_name("tenant", "nat-0"))


async def test_controller_that_leads_at_once_lists_once() -> None:
    """Lists made before leadership are made anew, and most of a start; a controller that need not wait makes none."""

    class Counting(MemoryCluster):
        opened = 0

        def changes(self) -> AsyncIterator[Batch]:
            self.opened += 1
            return super().changes()

    store = MemoryStore(CLOCK)
    await world(store)
    cluster = Counting(store)
    election = Election(Path(store), "only", CLOCK)
    async with Controller(cluster, StaticAllocator(), clock=CLOCK, election=election) as only:
        await only.synced.wait()
        await asyncio.sleep(5)
        assert cluster.opened == 1
        assert await store.get("AddressAttachment", "", attachment_name("tenant", "nat-0"))


async def test_controller_that_stops_hands_over() -> None:
    """When the leader stops, the other acts on what it finds within a second."""
    store = MemoryStore(CLOCK)
    await world(store)
    first, _ = controller(store, "first")
    second, _ = controller(store, "second")
    async with first:
        await asyncio.sleep(1)
        async with second:
            await second.synced.wait()
            await first.stop()
            await seed(store, from_model(builders.pod("nat-1", ips=("10.0.0.3",))))
            await asyncio.sleep(1)
            found = await store.get("AddressAttachment", "", attachment_name("tenant", "nat-0"))
            assert found["spec"]["pod"]["name"] == "nat-1"


async def test_controller_that_lost_the_lease_does_nothing() -> None:
    """A controller whose lease ran out leaves what happens afterwards to others, and acts again when it leads again."""
    store = MemoryStore(CLOCK)
    await world(store)
    only, path = controller(store, "only")
    async with only:
        await asyncio.sleep(5)
        path.is_cut = True
        await asyncio.sleep(12)
        await seed(store, from_model(builders.pod("nat-1", ips=("10.0.0.3",))))
        before = store.revision
        await asyncio.sleep(5)
        assert store.revision == before
        path.is_cut = False
        await asyncio.sleep(30)
        found = await store.get("AddressAttachment", "", attachment_name("tenant", "nat-0"))
        assert found["spec"]["pod"]["name"] == "nat-1"
