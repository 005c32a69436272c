"""A controller and agents with the allocator gce: from a route to GCPReady, and packets that follow the Pod."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from ipaddress import ip_address

import pytest
import pytest_asyncio
from compute_backend import Project, project

from persistip.agent import Agent
from persistip.backends.memory import MemoryAnnouncer, MemoryCluster, MemoryDatapath, MemoryFabric, MemoryStore
from persistip.controller import Controller
from persistip.model.conditions import Condition, ConditionType, Status, find_condition
from persistip.model.keys import Kind
from persistip.model.route import GKEIPRoute
from persistip.runtime.clock import SystemClock
from persistip.testing import gateway, gateway_class, namespace, node, pod, route, seed
from persistip.wire import to_model

pytestmark = [pytest.mark.requires("gce"), pytest.mark.asyncio]

ADDRESS = "198.51.100.5"
SECONDS = 20.0


class World:
    """A cluster in memory whose cloud is the emulated project."""

    def __init__(self, made: Project) -> None:
        self.project = made
        self.store = MemoryStore(SystemClock())
        self.fabric = MemoryFabric()
        self.stack = AsyncExitStack()

    async def start(self) -> None:
        """Two nodes with agents, one Pod, a route, a controller."""
        for index, name in enumerate("ab", start=1):
            ip = ip_address(f"192.0.2.{index}")
            self.fabric.add_node(name, ip)
            await seed(self.store, node(name, ips=(str(ip),)))
        await seed(self.store, namespace("tenant"), namespace("infra"), gateway_class(parameters=None))
        await seed(self.store, gateway(addresses=(ADDRESS,)), route("web", addresses=(ADDRESS,)))
        await self.run_pod("web-0", "a", "10.0.0.2")
        for name in "ab":
            agent = Agent(
                name,
                MemoryCluster(self.store, node_name=name),
                MemoryDatapath(self.fabric, name),
                MemoryAnnouncer(self.fabric, name),
            )
            await self.stack.enter_async_context(agent)
        allocator = await self.stack.enter_async_context(self.project.allocator(resync_seconds=60))
        await self.stack.enter_async_context(Controller(MemoryCluster(self.store), allocator))

    async def run_pod(self, name: str, on: str, ip: str) -> None:
        """Run a Pod, Ready at once."""
        self.fabric.add_pod(on, name, [ip_address(ip)])
        await seed(self.store, pod(name, node=on, ips=(ip,)))

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object of the tenant's."""
        await self.store.delete(kind, "tenant", name)

    async def said(self, type_: str) -> Condition | None:
        """A condition of the route."""
        found = to_model(await self.store.get(Kind.ROUTE, "tenant", "web"))
        assert isinstance(found, GKEIPRoute)
        return find_condition(found.status.conditions, type_)

    async def until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until something is so."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        while not await is_so():
            assert loop.time() < end, f"never: {what}"
            await asyncio.sleep(0.02)

    async def ready_at(self, name: str) -> None:
        """Wait until the route says that the cloud sends to a node, and the packets do go there."""

        async def is_there() -> bool:
            said = await self.said(ConditionType.GCP_READY)
            told = said is not None and said.status == Status.TRUE and said.message.endswith(f"Node {name}")
            return told and self.project.plane.holder(ADDRESS) == {name}

        await self.until(is_there, f"GCPReady at {name}")


@pytest.fixture
def made() -> Iterator[Project]:
    """Return a project in which nothing of ours is."""
    with project() as found:
        yield found


@pytest_asyncio.fixture
async def world(made: Project) -> AsyncIterator[World]:
    """Return a running cluster."""
    built = World(made)
    async with built.stack:
        await built.start()
        yield built


async def test_route_is_provisioned_moved_and_taken_away(world: World) -> None:
    """A route leads to its Pod's node, follows the next Pod, and leaves nothing in the project when it is deleted."""
    await world.ready_at("a")
    said = await world.said(ConditionType.READY)
    assert said is not None
    assert said.status == Status.TRUE
    # Of two Pods made in one second neither is the newest, and the present holder stays.
    await asyncio.sleep(1.1)
    await world.run_pod("web-1", "b", "10.0.0.3")
    await world.ready_at("b")
    await world.store.delete(Kind.ROUTE, "tenant", "web")

    async def is_gone() -> bool:
        return not world.project.left() and not (await world.store.list(Kind.ATTACHMENT)).items

    await world.until(is_gone, "nothing is left")
    names = [link.name for link, _ in world.project.engine.state.all_of("addresses")]
    assert sorted(names) == ["inside", "web-5", "web-6", "web-7"]
