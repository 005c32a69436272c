"""Whose turn it is while a controller has more to write than it can at once, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest

from persistip.backends.memory import MemoryCluster, MemoryStore
from persistip.backends.static import StaticAllocator
from persistip.controller import Controller
from persistip.decide.catalog import Catalog
from persistip.errors import StaleError
from persistip.model.actions import ClusterAction, Outcome
from persistip.model.keys import Kind, ObjectKey, attachment_name
from persistip.model.pod import Pod
from persistip.settings import ControllerSettings
from persistip.strategies import Batch
from persistip.testing.builders import (
    attachment,
    config_map,
    gateway,
    gateway_class,
    namespace,
    node,
    pod,
    route,
    selector,
)
from persistip.testing.builders import seed as put
from persistip.wire import from_model

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

WRITE_SECONDS = 0.01
NEW_ROUTES = 80
SETTINGS = ControllerSettings(workers=2)


class LoopClock:
    """Wall time that runs with the loop's."""

    def now(self) -> float:
        return 1_800_000_000.0 + asyncio.get_running_loop().time()


class SlowCluster:
    """A MemoryCluster that takes its time over each write."""

    def __init__(self, store: MemoryStore) -> None:
        self.inner = MemoryCluster(store)

    async def changes(self) -> AsyncIterator[Batch]:
        async for batch in self.inner.changes():
            yield batch

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        await asyncio.sleep(WRITE_SECONDS)
        return await self.inner.apply(actions)


async def spec_of(store: MemoryStore, name: str) -> dict[str, Any]:
    """What a route's attachment says, if there is one."""
    try:
        found = await store.get("AddressAttachment", "", attachment_name("tenant", name))
    except StaleError:
        return {}
    return dict(found["spec"])


async def is_held_by(store: MemoryStore, name: str, holder: str) -> bool:
    """Whether that Pod is named."""
    return (await spec_of(store, name)).get("pod", {}).get("name") == holder


async def is_granted(store: MemoryStore, name: str) -> bool:
    """Whether the route has an address, and none is pending."""
    addresses = (await spec_of(store, name)).get("addresses", [])
    return bool(addresses) and not any(each.get("pending") for each in addresses)


async def seconds_until(holds: Callable[[], Awaitable[bool]], most: float = 60.0) -> float:
    """Virtual seconds until that is so."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    while not await holds():
        assert loop.time() - began_at < most
        await asyncio.sleep(WRITE_SECONDS / 2)
    return loop.time() - began_at


async def set_ready(store: MemoryStore, changed: Pod) -> None:
    """Let the kubelet say of a Pod what *changed* says."""
    stands = await store.get("Pod", changed.meta.namespace, changed.meta.name)
    await store.update({**stands, "status": from_model(changed)["status"]}, subresource="status")


async def test_move_does_not_wait_behind_a_cluster_that_is_decided_for_the_first_time() -> None:
    """Many new routes are to be written when a holder turns unready: its move is written within a few writes."""
    clock = LoopClock()
    store = MemoryStore(clock)
    holder = pod("web-0", labels={"app": "web"}, ips=["10.0.0.2"])
    other = pod("web-1", labels={"app": "web"}, ips=["10.0.0.3"], ready=False)
    await put(
        store,
        namespace(),
        node(),
        config_map(allowed="203.0.113.0/24 198.51.100.0/24"),
        gateway_class(),
        gateway(addresses=["203.0.113.0/24", "198.51.100.0/24"]),
        route("web", addresses=["203.0.113.9"], pods=selector(app="web")),
        holder,
        other,
    )
    async with Controller(SlowCluster(store), StaticAllocator(), settings=SETTINGS, clock=clock):
        await seconds_until(lambda: is_granted(store, "web"))
        await asyncio.sleep(1)
        for number in range(NEW_ROUTES):
            app = f"new-{number}"
            ip = f"10.0.1.{number}"
            claim = route(app, addresses=[f"198.51.100.{number}"], pods=selector(app=app))
            await put(store, claim, pod(app, labels={"app": app}, ips=[ip]))
        await asyncio.sleep(10 * WRITE_SECONDS)
        await set_ready(store, attrs.evolve(other, ready=True))
        await set_ready(store, attrs.evolve(holder, ready=False))
        took = await seconds_until(lambda: is_held_by(store, "web", "web-1"))
        assert took <= 6 * WRITE_SECONDS
        last = f"new-{NEW_ROUTES - 1}"
        assert not await spec_of(store, last)
        assert await seconds_until(lambda: is_granted(store, last)) > 10 * took


async def test_routes_with_granted_addresses_press() -> None:
    """Traffic may wait for what is decided of them; not for a first grant, nor for a Gateway's status."""
    catalog = Catalog()
    held, new, claim = route("held"), route("new", addresses=["203.0.113.7"]), gateway()
    pending = attachment(new)
    addresses = tuple(attrs.evolve(each, pending=True) for each in pending.spec.addresses)
    pending = attrs.evolve(pending, spec=attrs.evolve(pending.spec, addresses=addresses))
    objects = [held, new, claim, attachment(held, holder=pod()), pending]
    catalog.update(Batch(objects={each.key: each for each in objects}))
    assert [catalog.is_attached(each.key) for each in (held, new, claim)] == [True, False, False]


async def test_edit_that_touches_every_route_lets_others_have_their_turn_meanwhile() -> None:
    """Thousands of keys queue up in pieces, in none of which the loop stands still, and none is lost."""
    clock = LoopClock()
    controller = Controller(MemoryCluster(MemoryStore(clock)), StaticAllocator(), clock=clock)
    keys = {ObjectKey(Kind.ROUTE, "tenant", f"route-{number}") for number in range(4500)}
    controller._touch(keys)
    depths = [len(controller._queue)]
    while len(controller._queue) < len(keys):
        await asyncio.sleep(0)
        depths.append(len(controller._queue))
    assert depths == [1000, 2000, 3000, 4000, 4500]
