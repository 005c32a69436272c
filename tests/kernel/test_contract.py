"""Does the Linux datapath keep the promises of Datapath?"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from persistip.backends.linux import LinuxDatapath
from persistip.model.address import IPAddress, Prefix, show
from persistip.model.entry import RouteEntry
from persistip.testing import DatapathContract, DatapathWorld

pytestmark = pytest.mark.requires("kernel")

FAMILIES = {4: ("203.0.113.9", "10.9.9.9", 0), 6: ("2001:db8:7::9", "fd09:9::9", 1)}


class LinuxWorld:
    """A node of the test's cluster with two Pods."""

    def __init__(self, node: Any, version: int, make: str) -> None:
        self._node = node
        address, absent, self._place = FAMILIES[version]
        self.prefix = ip_network(address)
        self.absent_ip = ip_address(absent)
        pods = [getattr(node, make)(f"p{number}", f"10.9.1.{number}", f"fd09:1::{number}") for number in (5, 6)]
        self.pod_ips: tuple[IPAddress, IPAddress] = tuple(  # type: ignore[assignment]
            ip_address(pod.ips[self._place]) for pod in pods
        )
        self._opened: list[LinuxDatapath] = []

    async def open(self) -> LinuxDatapath:
        """Start anew on the same node."""
        for former in self._opened:
            former.close()
        self._opened.append(self._node.datapath())
        return self._opened[-1]

    async def lose(self, entry: RouteEntry) -> None:
        """Remove our route behind our back."""
        self._node.space.delete_own_routes(show(entry.prefix), 190)

    async def obstruct(self, prefix: Prefix) -> None:
        """Give the address to the node itself."""
        self._node.space.add_address("eth0", show(prefix))


class LinuxContract(DatapathContract):
    """The contract, with the test in the node's namespace from its beginning to its end."""

    version: int
    pods: str
    node: Any

    @pytest.fixture(autouse=True)
    def _take_node(self, node: Any) -> None:
        self.node = node

    def make(self) -> AbstractAsyncContextManager[DatapathWorld]:
        """Give the world."""

        @asynccontextmanager
        async def world() -> AsyncIterator[DatapathWorld]:
            with self.node.space:
                yield LinuxWorld(self.node, self.version, self.pods)

        factory: Callable[[], AbstractAsyncContextManager[DatapathWorld]] = world
        return factory()


class TestPointToPointIPv4(LinuxContract):
    """IPv4, each Pod on a link of its own."""

    version, pods = 4, "add_pod"


class TestPointToPointIPv6(LinuxContract):
    """IPv6, each Pod on a link of its own."""

    version, pods = 6, "add_pod"


class TestBridgeIPv4(LinuxContract):
    """IPv4, the Pods on a bridge."""

    version, pods = 4, "add_bridged_pod"


class TestBridgeIPv6(LinuxContract):
    """IPv6, the Pods on a bridge."""

    version, pods = 6, "add_bridged_pod"
