"""
How do the tests run our backend against the emulator? In virtual time, with its calls judged.

In: a project.  Out: allocators on it, each as a process of its own that may be killed at any call.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

import compute_needed  # noqa: F401 - before the packages that may be missing
from compute_judge import Judge, JudgingProxy
from google.auth.credentials import AnonymousCredentials

from persistip.backends.gce.allocator import GceAllocator
from persistip.backends.gce.client import ComputeClient
from persistip.model.address import Prefix
from persistip.model.cloud import Attract, CloudScope, CloudState
from persistip.settings import GceSettings
from persistip.testing import ManualClock
from persistip.testing.compute_engine import (
    ComputeEngine,
    ComputeServer,
    DataPlane,
    DelegatedPrefix,
    Description,
    Instance,
    ReservedAddress,
    Subnetwork,
    seed,
)

EXTERNAL: tuple[Prefix, ...] = (ip_network("198.51.100.5/32"), ip_network("198.51.100.6/32"))
OTHER: tuple[Prefix, ...] = (ip_network("198.51.100.7/32"),)
INTERNAL: tuple[Prefix, ...] = (ip_network("10.128.15.200/32"),)
OWN: tuple[Prefix, ...] = (ip_network("203.0.113.3/32"),)
PROJECT = Description(
    subnetworks=(Subnetwork(ipv6="2600:1900:4000:1::/64"),),
    instances=tuple(
        Instance(name=name, zone=f"europe-west4-{name}", ip=f"10.128.0.1{index}") for index, name in enumerate("abc")
    ),
    addresses=(
        *(ReservedAddress(name=f"web-{number}", ip=f"198.51.100.{number}") for number in (5, 6, 7)),
        ReservedAddress(name="inside", internal="default", ip="10.128.15.200"),
    ),
    delegated_prefixes=(DelegatedPrefix(name="own", prefix="203.0.113.0/28"),),
)
"""Three nodes in three zones, reserved addresses of each scheme, and a prefix of one's own."""


class KilledError(BaseException):
    """The process ends here; no handler of errors gets to see it."""


class Project:
    """An emulated project behind a judge, and the processes that work on it."""

    def __init__(self, engine: ComputeEngine, endpoint: str, judge: Judge) -> None:
        self.engine = engine
        self.endpoint = endpoint
        self.judge = judge
        self.plane = DataPlane(engine.state, engine.clock)
        self._clients: list[ComputeClient] = []

    async def sleep(self, seconds: float) -> None:
        """Let the project's time pass, and others have their turn."""
        assert isinstance(self.engine.clock, ManualClock)
        self.engine.clock.advance(seconds)
        await asyncio.sleep(0)

    def allocator(self, cluster: str = "one", *, resync_seconds: float = 1e-9) -> GceAllocator:
        """Return a process of a cluster's, without memory; it looks anew at each observation."""
        client = ComputeClient(
            project="lab",
            region="europe-west4",
            clock=self.engine.clock,
            credentials=AnonymousCredentials(),
            endpoint=self.endpoint,
        )
        self._clients.append(client)
        return GceAllocator(
            client,
            cluster=cluster,
            settings=GceSettings(),
            resync_seconds=resync_seconds,
            clock=self.engine.clock,
            sleep=self.sleep,
        )

    async def until(
        self, allocator: GceAllocator, action: Any, is_so: Callable[[CloudState], bool], tries: int = 200
    ) -> CloudState:
        """Ask for an action as a controller would, until the state is as wanted."""
        state = None
        for _ in range(tries):
            state = await allocator.observe(CloudScope(prefixes=action.prefixes, route=action.route))
            if is_so(state):
                return state
            await allocator.apply(action)
            await asyncio.sleep(0.002)
        raise AssertionError(f"never: {state}")

    def left(self) -> list[str]:
        """Return what stands of the kinds that we make."""
        kinds = ("forwardingRules", "backendServices", "networkEndpointGroups", "firewalls")
        return [link.name for kind in kinds for link, _ in self.engine.state.all_of(kind)]

    def close(self) -> None:
        """End the connections of every process."""
        for client in self._clients:
            client.close()


def attract(node: str, prefixes: tuple[Prefix, ...] = EXTERNAL, **fields: Any) -> Attract:
    """Return a wish for a route."""
    return Attract(prefixes=prefixes, node_name=node, route=fields.pop("route", "tenant/web"), **fields)


@contextmanager
def project(**fields: Any) -> Iterator[Project]:
    """Yield a project; at the end the judge and the emulator have found nothing to say."""
    clock = ManualClock()
    engine = ComputeEngine(clock=clock, latency="assumed", **fields)
    seed(engine, PROJECT)
    with ComputeServer(engine, pause=clock.advance) as server, JudgingProxy(server.endpoint) as proxy:
        made = Project(engine, proxy.endpoint, proxy.judge)
        try:
            yield made
        finally:
            made.close()
    assert proxy.judge.faults == []
    assert engine.misuses == []
