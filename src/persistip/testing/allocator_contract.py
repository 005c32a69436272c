"""
Does an AddressAllocator keep its promises?

In: an allocator on a cloud of its own.  Out: one test for every promise of ``persistip.strategies.AddressAllocator``.
An allocator that needs no provisioning is held to less: everything is ready, and nothing has to be done.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_network
from typing import Any, cast

from persistip.model.actions import OutcomeState
from persistip.model.address import Prefix
from persistip.strategies import AddressAllocator, Attract, CloudScope, CloudState, Withdraw
from persistip.testing.running import whole

PREFIXES: tuple[Prefix, ...] = (ip_network("203.0.113.5/32"), ip_network("2001:db8::5/128"))
OTHERS: tuple[Prefix, ...] = (ip_network("203.0.113.6/32"),)

_ACCEPTED = (OutcomeState.DONE, OutcomeState.STARTED)


class AllocatorContract(ABC):
    """Every promise of AddressAllocator."""

    seconds = 10.0
    """How long work that was started may take on this cloud."""
    prefixes: tuple[Prefix, ...] = PREFIXES
    """What is attracted: prefixes that the cloud has and may give, to nodes ``a`` and ``b``."""
    others: tuple[Prefix, ...] = OTHERS
    """What another route would have."""

    @abstractmethod
    def make(self, owner: str) -> AddressAllocator:
        """
        An allocator that acts for *owner*; all made for one test are on the same cloud, in which nothing is.

        It is entered and left if it is an asynchronous context manager.
        """

    @asynccontextmanager
    async def _made(self, owner: str = "one") -> AsyncIterator[AddressAllocator]:
        allocator = self.make(owner)
        if isinstance(allocator, AbstractAsyncContextManager):
            async with allocator:
                yield allocator
        else:
            yield allocator

    async def _until(self, allocator: AddressAllocator, leader: str | None) -> CloudState:
        async with asyncio.timeout(self.seconds):
            while True:
                state = await allocator.observe(CloudScope(prefixes=self.prefixes))
                if state.leader == leader and state.ready == (leader is not None):
                    return state
                await asyncio.sleep(0.01)

    @whole
    async def test_features_are_known_before_and_do_not_change(self) -> None:
        """What an allocator can do is told without asking the cloud, and stays the same."""
        async with self._made() as allocator:
            before = allocator.features
            await allocator.observe(CloudScope(prefixes=self.prefixes))
            assert allocator.features == before
            assert before.name

    @whole
    async def test_looking_changes_nothing(self) -> None:
        """Two looks in a row see the same."""
        async with self._made() as allocator:
            scope = CloudScope(prefixes=self.prefixes)
            assert await allocator.observe(scope) == await allocator.observe(scope)

    @whole
    async def test_nothing_to_provision_is_ready_at_once(self) -> None:
        """An allocator without provisioning never makes an address wait, and one with it has nothing ready yet."""
        async with self._made() as allocator:
            state = await allocator.observe(CloudScope(prefixes=self.prefixes))
            assert state.ready is not allocator.features.needs_provisioning

    @whole
    async def test_attracted_prefixes_end_at_their_node(self) -> None:
        """After ``Attract`` the next looks show the node as leader, and a second ``Attract`` moves it."""
        async with self._made() as allocator:
            for name in ("a", "b", "b"):
                outcome = await allocator.apply(Attract(prefixes=self.prefixes, node_name=name))
                assert outcome.state in _ACCEPTED
                if allocator.features.needs_provisioning:
                    assert (await self._until(allocator, name)).leader == name

    @whole
    async def test_withdrawn_prefixes_lead_nowhere(self) -> None:
        """``Withdraw`` takes away what ``Attract`` made, and is a success where nothing was."""
        async with self._made() as allocator:
            assert (await allocator.apply(Withdraw(prefixes=self.prefixes))).state in _ACCEPTED
            await allocator.apply(Attract(prefixes=self.prefixes, node_name="a"))
            assert (await allocator.apply(Withdraw(prefixes=self.prefixes))).state in _ACCEPTED
            if allocator.features.needs_provisioning:
                assert (await self._until(allocator, None)).leader is None

    @whole
    async def test_scope_keeps_routes_apart(self) -> None:
        """What is done for some prefixes is not seen in the scope of others."""
        async with self._made() as allocator:
            before = await allocator.observe(CloudScope(prefixes=self.others))
            await allocator.apply(Attract(prefixes=self.prefixes, node_name="a"))
            assert await allocator.observe(CloudScope(prefixes=self.others)) == before

    @whole
    async def test_owners_do_not_touch_what_is_not_theirs(self) -> None:
        """What one owner made stands after another owner's ``Withdraw`` of the same prefixes."""
        async with self._made("one") as one, self._made("two") as two:
            if not one.features.needs_provisioning:
                return  # nothing is made, so nothing has an owner
            await one.apply(Attract(prefixes=self.prefixes, node_name="a"))
            await self._until(one, "a")
            await two.apply(Withdraw(prefixes=self.prefixes))
            assert (await one.observe(CloudScope(prefixes=self.prefixes))).leader == "a"

    @whole
    async def test_fresh_process_sees_what_its_predecessor_made(self) -> None:
        """An allocator without memory finds its owner's work in the cloud, and can take it away."""
        async with self._made() as former:
            await former.apply(Attract(prefixes=self.prefixes, node_name="a"))
            if former.features.needs_provisioning:
                await self._until(former, "a")
        async with self._made() as fresh:
            if fresh.features.needs_provisioning:
                await self._until(fresh, "a")
            assert (await fresh.apply(Withdraw(prefixes=self.prefixes))).state in _ACCEPTED

    @whole
    async def test_unknown_kind_of_action_is_unsupported(self) -> None:
        """New kinds of action may appear; whoever does not know one says so and does nothing."""
        async with self._made() as allocator:
            outcome = await allocator.apply(cast("Any", object()))
            assert outcome.state is OutcomeState.UNSUPPORTED
