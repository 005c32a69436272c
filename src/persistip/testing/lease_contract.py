"""
Does a Lease keep its promises?

In: two users of one record.  Out: one test for every promise of ``persistip.strategies.Lease``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import attrs

from persistip.errors import StaleError
from persistip.strategies import Lease, LeaseRecord
from persistip.testing import builders
from persistip.testing.running import whole

_TAKEN = LeaseRecord(
    holder="first", duration_seconds=15.0, acquired_at=builders.START, renewed_at=builders.START, transitions=3
)


async def _is_stale(lease: Lease, record: LeaseRecord) -> bool:
    try:
        await lease.write(record)
    except StaleError:
        return True
    return False


class LeaseContract(ABC):
    """Every promise of Lease."""

    @abstractmethod
    def make(self) -> AbstractAsyncContextManager[tuple[Lease, Lease]]:
        """The same record, which nobody has made yet, as two replicas see it."""

    @whole
    async def test_record_that_nobody_made_is_empty(self) -> None:
        """Before the first write nobody holds it and there is no version."""
        async with self.make() as (lease, _):
            assert await lease.read() == LeaseRecord()

    @whole
    async def test_what_is_written_is_read_by_all(self) -> None:
        """The record comes back whole, with a version that both see."""
        async with self.make() as (lease, other):
            written = await lease.write(_TAKEN)
            assert attrs.evolve(written, version="") == _TAKEN
            assert written.version
            assert await other.read() == written

    @whole
    async def test_of_two_who_make_it_one_is_stale(self) -> None:
        """A record is made once."""
        async with self.make() as (lease, other):
            await lease.write(_TAKEN)
            assert await _is_stale(other, attrs.evolve(_TAKEN, holder="second"))
            assert (await lease.read()).holder == "first"

    @whole
    async def test_of_two_writes_on_one_version_the_second_is_stale(self) -> None:
        """Who decided on an older record changes nothing."""
        async with self.make() as (lease, other):
            written = await lease.write(_TAKEN)
            renewed = await lease.write(attrs.evolve(written, renewed_at=builders.START + 2))
            assert await _is_stale(other, attrs.evolve(written, holder="second"))
            assert await other.read() == renewed

    @whole
    async def test_released_record_is_held_by_nobody(self) -> None:
        """A record without a holder is one that can be taken, on its own version."""
        async with self.make() as (lease, other):
            written = await lease.write(_TAKEN)
            await lease.write(attrs.evolve(written, holder="", duration_seconds=1.0))
            found = await other.read()
            assert (found.holder, found.transitions) == ("", 3)
            assert (await other.write(attrs.evolve(found, holder="second"))).holder == "second"

    @whole
    async def test_change_ends_the_wait(self) -> None:
        """Who waits for another version is woken by a write, long before the time is up."""
        async with self.make() as (lease, other):
            written = await lease.write(_TAKEN)
            waiting = asyncio.create_task(other.changed(written.version, 3600.0))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await lease.write(attrs.evolve(written, renewed_at=builders.START + 2))
            await waiting

    @whole
    async def test_change_before_the_wait_ends_it_too(self) -> None:
        """A version that has passed already is not waited for."""
        async with self.make() as (lease, other):
            written = await lease.write(_TAKEN)
            await lease.write(attrs.evolve(written, renewed_at=builders.START + 2))
            await other.changed(written.version, 3600.0)

    @whole
    async def test_wait_ends_by_itself(self) -> None:
        """Without a change the wait is over when its time is up."""
        async with self.make() as (lease, other):
            written = await lease.write(_TAKEN)
            await other.changed(written.version, 0.05)
            assert await other.read() == written
