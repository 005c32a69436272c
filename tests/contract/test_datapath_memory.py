"""Does the memory datapath keep the promises of Datapath?"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address, ip_network

from persistip.backends.memory import MemoryDatapath, MemoryFabric
from persistip.model.address import Prefix
from persistip.model.entry import RouteEntry
from persistip.testing import DatapathContract, DatapathWorld


class MemoryWorld:
    """A node of a fabric with two Pods."""

    pod_ips = (ip_address("10.0.0.2"), ip_address("10.0.0.3"))
    absent_ip = ip_address("10.9.9.9")
    prefix = ip_network("203.0.113.9/32")

    def __init__(self) -> None:
        self.fabric = MemoryFabric()
        self.fabric.add_node("node-a", ip_address("192.0.2.1"))
        for name, ip in zip(("one", "two"), self.pod_ips, strict=True):
            self.fabric.add_pod("node-a", name, [ip])

    async def open(self) -> MemoryDatapath:
        """Start anew on the same node."""
        return MemoryDatapath(self.fabric, "node-a")

    async def lose(self, entry: RouteEntry) -> None:
        """Remove our route behind our back."""
        self.fabric.lose("node-a", entry)

    async def obstruct(self, prefix: Prefix) -> None:
        """Put something foreign in the way."""
        self.fabric.obstruct("node-a", prefix, "a local route of somebody else")


@asynccontextmanager
async def world() -> AsyncIterator[DatapathWorld]:
    """Give the world."""
    yield MemoryWorld()


class TestMemoryDatapath(DatapathContract):
    """On the memory fabric."""

    def make(self) -> AbstractAsyncContextManager[DatapathWorld]:
        """Give the world."""
        return world()
