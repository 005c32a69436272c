"""
How do the tests run our backend against the emulator? In virtual time, with its calls judged.

In: a project.  Out: allocators on it, each as a process of its own that may be killed at any call.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

import attrs
import compute_needed  # noqa: F401 - before the packages that may be missing
from compute_judge import Judge, JudgingProxy
from google.auth.credentials import AnonymousCredentials

from persistip.backends.gce.allocator import GceAllocator
from persistip.backends.gce.client import ComputeClient
from persistip.errors import StaleError
from persistip.model.address import Prefix
from persistip.model.cloud import Attract, CloudAction, CloudScope, CloudState
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


@attrs.define
class Mortal:
    """A process's life: it ends at call number *at*, before the call goes out or after its answer has come."""

    at: int = 0
    answered: bool = False
    calls: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def live(self, call: Callable[[], Any]) -> Any:
        """Make a call, or die of it."""
        with self._lock:
            self.calls += 1
            mine = self.calls
        if self.at and mine > self.at - (not self.answered):
            raise KilledError
        made = call()
        if self.at and mine >= self.at:
            raise KilledError
        return made


class MortalClient(ComputeClient):
    """A client whose process may be killed at any call."""

    life: Mortal

    def _tell(self, verb: str, target: str, call: Callable[[], Any]) -> Any:
        return self.life.live(lambda: super(MortalClient, self)._tell(verb, target, call))


class Project:
    """An emulated project behind a judge, and the processes that work on it."""

    def __init__(self, server: ComputeServer, proxy: JudgingProxy) -> None:
        self._server = server
        self.endpoint = proxy.endpoint
        self.judge: Judge = proxy.judge
        self._clients: list[ComputeClient] = []

    @property
    def engine(self) -> ComputeEngine:
        """Return the emulator."""
        return self._server.engine

    @property
    def plane(self) -> DataPlane:
        """Return where packets go."""
        return DataPlane(self.engine.state, self.engine.clock)

    def start_anew(self) -> None:
        """Put another project, in which nothing of ours is, in this one's place."""
        assert self.engine.misuses == []
        self.close()
        self._server.engine = fresh_engine()

    def advance(self, seconds: float) -> None:
        """Let the project's time pass."""
        assert isinstance(self.engine.clock, ManualClock)
        self.engine.clock.advance(seconds)

    async def sleep(self, seconds: float) -> None:
        """Let the project's time pass, and others have their turn."""
        self.advance(seconds)
        await asyncio.sleep(0)

    def allocator(
        self, cluster: str = "one", *, resync_seconds: float = 1e-9, life: Mortal | None = None
    ) -> GceAllocator:
        """Return a process of a cluster's, without memory; it looks anew at each observation."""
        client = MortalClient(
            project="lab",
            region="europe-west4",
            clock=self.engine.clock,
            credentials=AnonymousCredentials(),
            endpoint=self.endpoint,
        )
        client.life = life or Mortal()
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
        self, allocator: GceAllocator, action: Any, is_so: Callable[[CloudState], bool], tries: int = 5000
    ) -> CloudState:
        """Ask for an action as a controller would, until the state is as wanted."""
        state = None
        for _ in range(tries):
            state = await allocator.observe(CloudScope(prefixes=action.prefixes, route=action.route))
            if is_so(state):
                return state
            await self.ask(allocator, action)
        raise AssertionError(f"never: {state}")

    async def ask(self, allocator: GceAllocator, action: CloudAction) -> bool:
        """Ask for an action once, as a controller does that comes again later; return whether it is done."""
        try:
            if (await allocator.apply(action)).is_done:
                return True
        except StaleError:
            await self.sleep(1.0)
        await asyncio.sleep(0.002)
        return False

    async def rest(self, allocator: GceAllocator, action: CloudAction) -> None:
        """Ask for an action until nothing of it is left to do, housekeeping included."""
        for _ in range(5000):
            if await self.ask(allocator, action):
                return
        raise AssertionError(f"never at rest: {action}")

    def shown(self) -> dict[str, Any]:
        """Return everything that stands in the project, but for when and as which version it was made."""
        kinds = ("forwardingRules", "backendServices", "networkEndpointGroups", "firewalls", "addresses")
        with self.engine.lock:
            return {
                link.path: json.loads(json.dumps(body, sort_keys=True, default=list))
                for kind in kinds
                for link, body in self.engine.state.all_of(kind)
            }

    def left(self) -> list[str]:
        """Return what stands of the kinds that we make."""
        kinds = ("forwardingRules", "backendServices", "networkEndpointGroups", "firewalls")
        return [link.name for kind in kinds for link, _ in self.engine.state.all_of(kind)]

    def close(self) -> None:
        """End the connections of every process."""
        while self._clients:
            self._clients.pop().close()


def attract(node: str, prefixes: tuple[Prefix, ...] = EXTERNAL, **fields: Any) -> Attract:
    """Return a wish for a route."""
    return Attract(prefixes=prefixes, node_name=node, route=fields.pop("route", "tenant/web"), **fields)


def fresh_engine(**fields: Any) -> ComputeEngine:
    """Return a project in which nothing of ours is, in virtual time."""
    engine = ComputeEngine(clock=ManualClock(), latency="assumed", **fields)
    seed(engine, PROJECT)
    return engine


@contextmanager
def project(**fields: Any) -> Iterator[Project]:
    """Yield a project; at the end the judge and the emulator have found nothing to say."""

    def pause(seconds: float) -> None:
        made.advance(seconds)

    with (
        ComputeServer(fresh_engine(**fields), pause=pause) as server,
        JudgingProxy(server.endpoint) as proxy,
    ):
        made = Project(server, proxy)
        try:
            yield made
        finally:
            made.close()
    assert made.judge.faults == []
    assert made.engine.misuses == []
