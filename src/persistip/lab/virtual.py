"""
How does the lab run where no kernel may be touched?

In: nothing.  Out: a Site of simulated nodes and Pods on the memory fabric, with the same controller and agents as tasks
of this process, and a client that asks the fabric each millisecond what would become of a packet. Needs no right and
no extra; in a VirtualTimeLoop it also needs no time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Self

import attrs

from persistip.agent import Agent
from persistip.backends.memory import (
    Delivered,
    MemoryAnnouncer,
    MemoryCluster,
    MemoryDatapath,
    MemoryFabric,
    MemoryStore,
)
from persistip.backends.static import StaticAllocator
from persistip.cli.logs import TextFormatter
from persistip.controller import Controller
from persistip.errors import UnavailableError
from persistip.lab.site import AddressProbe, NodeFacts, Process, Program
from persistip.lab.virtualprobe import VirtualProbe
from persistip.lab.virtualtime import LoopClock
from persistip.model.actions import ClusterAction, DatapathAction, Outcome
from persistip.model.address import IPAddress
from persistip.model.entry import Announcement, ExemptEntry, NodeScope, NodeState
from persistip.runtime.clock import SystemClock
from persistip.runtime.retry import outcome_of
from persistip.settings import AgentSettings
from persistip.strategies import Announcer, Batch, Cluster, Datapath

_LOG_LINES = 40
NODES = ("node-a", "node-b", "node-c")
_START_SECONDS = 0.05
"""From starting a Pod's program to its first word."""
_NODE_SUBNETS = (ip_network("192.0.2.0/24"), ip_network("2001:db8:1::/64"))
_POD_RANGES = (ip_network("10.244.0.0/16"), ip_network("fd00:244::/32"))


class VirtualSite:
    """The Site without a kernel."""

    def __init__(self) -> None:
        self.clock = LoopClock(SystemClock())
        self._loop = asyncio.get_running_loop()
        self.fabric = MemoryFabric()
        self._facts: dict[str, NodeFacts] = {}
        self._next_ip = dict.fromkeys(NODES, 2)
        self._programs: dict[str, _Program] = {}
        self._store: MemoryStore | None = None
        self._controller: asyncio.Task[None] | None = None
        self._agents: dict[str, _MortalAgent] = {}
        self._cut_off: set[str] = set()
        self._log = _Log()
        self._probes: dict[int, VirtualProbe] = {}
        for number, name in enumerate(NODES, start=1):
            ips = tuple(str(subnet.network_address + 10 + number) for subnet in _NODE_SUBNETS)
            self._facts[name] = NodeFacts(ips=ips, pod_cidrs=tuple(str(each) for each in _pod_ranges(number)))
            self.fabric.add_node(name, ip_address(ips[0]))

    async def __aenter__(self) -> Self:
        self._log.setFormatter(TextFormatter())
        logging.getLogger("persistip").addHandler(self._log)
        self._probes = {
            family: VirtualProbe(self.monotonic_ns, self._ask, self._speak, self._name_of, self._programs.get)
            for family in (4, 6)
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [agent.task for agent in self._agents.values()] + [probe.task for probe in self._probes.values()]
        running = [task for task in (*tasks, self._controller) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        logging.getLogger("persistip").removeHandler(self._log)

    @property
    def nodes(self) -> Mapping[str, NodeFacts]:
        """The nodes, by name."""
        return self._facts

    def leaders(self) -> Mapping[str, str | None] | None:
        """There is no cloud."""
        return None

    # --- Pods -------------------------------------------------------------------------------------------------

    async def add_pod(self, node: str, name: str) -> tuple[str, ...]:
        """A simulated Pod on *node*; returns its IPs."""
        number = self._next_ip[node]
        self._next_ip[node] = number + 1 if number < 253 else 2
        ips = tuple(str(ip_network(cidr).network_address + number) for cidr in self._facts[node].pod_cidrs)
        self.fabric.add_pod(node, name, [ip_address(ip) for ip in ips])
        return ips

    async def delete_pod(self, name: str) -> None:
        """Kill what runs in the Pod, and remove it."""
        program = self._programs.pop(name, None)
        if program is not None:
            program.end()
        self.fabric.remove_pod(name)

    async def start_program(self, name: str, program: Program) -> Process:
        """Start the simulated echo program in a Pod."""
        started = self._programs[name] = _Program(program)
        return started

    # --- ours -------------------------------------------------------------------------------------------------

    async def start_controller(self, store: MemoryStore) -> None:
        """Start the controller, if it does not run."""
        self._store = store
        if self._controller is None or self._controller.done():
            worker = Controller(MemoryCluster(store), StaticAllocator(), clock=self.clock)
            self._controller = asyncio.create_task(worker.run())
            await worker.synced.wait()

    async def start_agent(self, node: str) -> None:
        """Start a node's agent, if it does not run; returns when it has taken up its work."""
        if self.agents()[node] or self._store is None:
            return
        agent = self._agents[node] = _MortalAgent(
            node, self._store, self.fabric, self.clock, is_cut_off=lambda: node in self._cut_off
        )
        await agent.start()

    def signal_agent(self, node: str, number: signal.Signals) -> None:
        """End a node's agent, at once or (any signal but SIGKILL) when it has finished; LookupError when none runs."""
        if not self.agents()[node]:
            raise LookupError(f"no agent runs on {node}")
        self._agents[node].end(is_sudden=number is signal.SIGKILL)

    def agents(self) -> Mapping[str, bool]:
        """Which nodes' agents run."""
        return {node: node in self._agents and self._agents[node].is_running for node in NODES}

    def datapath(self, node: str) -> MemoryDatapath:
        """The node's kernel, as anybody on the node could use it."""
        return MemoryDatapath(self.fabric, node)

    async def kernel(self, node: str) -> NodeState:
        """What is ours on the node."""
        return await self.datapath(node).observe(NodeScope())

    async def foreign(self, node: str) -> frozenset[str]:
        """What is on the node and not ours: the obstacles that somebody put there."""
        return frozenset(obstacle.message for obstacle in self.fabric.node(node).obstacles.values())

    # --- outside ----------------------------------------------------------------------------------------------

    def probes(self) -> Mapping[int, AddressProbe]:
        """A probe at the client for each family, 4 and 6."""
        return self._probes

    def monotonic_ns(self) -> int:
        """The loop's time."""
        return int(self._loop.time() * 1e9)

    def _ask(self, address: str, client: str) -> str | None:
        """Who would answer a request for *address*, with the answer coming from it."""
        arrived = self.fabric.send(_parsed(address), source=_parsed(client))
        if not isinstance(arrived, Delivered) or not self._holds(arrived.pod, address):
            return None
        return arrived.pod if self._speak(arrived.pod, address) else None

    def _speak(self, pod: str, address: str) -> bool:
        """Whether what a Pod sends with *address* as source arrives outside with it."""
        if not self._holds(pod, address):
            return False
        source = _parsed(address)
        seen = self.fabric.send_from(pod, source)
        return isinstance(seen, Delivered) and seen.source == source and self._is_exempt(seen.node, source)

    def _is_exempt(self, node: str, source: IPAddress) -> bool:
        """Whether the CNI lets *source* through: as on the real lab's nodes, it masquerades both families."""
        return any(
            isinstance(entry, ExemptEntry) and source in entry.prefix for entry in self.fabric.node(node).entries
        )

    def _holds(self, pod: str, address: str) -> bool:
        program = self._programs.get(pod)
        return program is not None and program.is_listening and address in program.addresses

    def addresses_in(self, pod: str) -> frozenset[str]:
        """What the program in a Pod holds."""
        return self._programs[pod].addresses

    def _name_of(self, pod: str) -> str:
        program = self._programs.get(pod)
        return program.name if program is not None else ""

    async def cut(self, node: str) -> None:
        """Pull the cable of the node's uplink, by which its agent also reaches the API."""
        self._cut_off.add(node)
        self.fabric.cut(node)

    async def restore(self, node: str) -> None:
        """Undo ``cut``."""
        self._cut_off.discard(node)
        self.fabric.mend(node)

    async def run_inside(self, machine: str, command: Sequence[str]) -> int:
        """LookupError: there is no namespace to run anything in."""
        raise LookupError(f"{machine} is simulated: {' '.join(command)} needs a lab on real packets")

    def logs(self) -> Mapping[str, str]:
        """The last lines of what controller and agents, all in this process, had to say."""
        return {"controller and agents": "\n".join(self._log.lines)} if self._log.lines else {}


class _Log(logging.Handler):
    """Keeps the last lines, where nobody has to read them unless something fails."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self.lines.append(self.format(record))


@functools.cache
def _parsed(address: str) -> IPAddress:
    """Parsed once: the probe asks a thousand times a second."""
    return ip_address(address)


def _pod_ranges(number: int) -> tuple[IPv4Network | IPv6Network, ...]:
    """Those of the real lab's node of that number."""
    v4, v6 = _POD_RANGES
    return (
        ip_network((int(v4.network_address) + (number << 8), 24)),
        ip_network((int(v6.network_address) + (number << 80), 64)),
    )


class _Program:
    """The echo program's life, without its packets."""

    def __init__(self, program: Program) -> None:
        environment = program.environment
        self.name = environment.get("POD_NAME", "echo")
        self.addresses = frozenset(environment.get("PERSISTENT_ADDRESSES", "").replace(",", " ").split())
        self.is_listening = False
        self._shutdown_seconds = float(environment.get("SHUTDOWN_SECONDS", "1"))
        self._program = program
        self._is_over = False
        self._is_ready = False
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(_START_SECONDS, self._listen)
        self._becoming_ready = self._loop.call_later(
            _START_SECONDS + float(environment.get("READY_AFTER_SECONDS", "0")), self._say, True
        )

    def signal(self, number: signal.Signals) -> None:
        """As the real program takes it; before it runs, any signal ends it."""
        match number:
            case signal.SIGUSR1 | signal.SIGUSR2 if self.is_listening:
                self._becoming_ready.cancel()
                self._loop.call_soon(self._say, number is signal.SIGUSR2)
            case signal.SIGTERM if self.is_listening:
                self._loop.call_later(self._shutdown_seconds, self._exit)
            case _:
                self._loop.call_soon(self._exit)

    def end(self) -> None:
        """Its namespace goes: nobody hears of it any more."""
        self._is_over = True
        self.is_listening = False

    def _listen(self) -> None:
        self.is_listening = not self._is_over

    def _say(self, is_ready: bool) -> None:
        if not self._is_over and is_ready != self._is_ready:
            self._is_ready = is_ready
            self._program.on_line("ready" if is_ready else "unready")

    def _exit(self) -> None:
        if not self._is_over:
            self.end()
            self._program.on_exit()


class _MortalAgent:
    """An agent that can die as a process does: from one instant on, nothing it does has an effect."""

    def __init__(
        self, node: str, store: MemoryStore, fabric: MemoryFabric, clock: LoopClock, *, is_cut_off: Callable[[], bool]
    ) -> None:
        self._fuse = _Fuse()
        self._is_cut_off = is_cut_off
        self._agent = Agent(
            node,
            _Cluster(MemoryCluster(store, node_name=node), self._fuse, is_cut_off),
            _Datapath(MemoryDatapath(fabric, node), self._fuse),
            _Announcer(MemoryAnnouncer(fabric, node), self._fuse),
            settings=AgentSettings(grace_seconds=0.0),
            clock=clock,
        )
        self.task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self.task is not None and not self.task.done() and not self._fuse.is_blown

    async def start(self) -> None:
        """Run until ``end``; returns when it has seen the attachments, or cannot."""
        self.task = asyncio.create_task(self._agent.run())
        if not self._is_cut_off():
            await self._agent.synced.wait()

    def end(self, *, is_sudden: bool) -> None:
        """Die at once, or stop as asked."""
        if self.task is None:
            return
        self._fuse.is_blown = is_sudden
        self.task.cancel()


@attrs.define
class _Fuse:
    is_blown: bool = False

    async def check(self) -> None:
        """Never come back once it has blown."""
        if self.is_blown:
            await asyncio.get_running_loop().create_future()


@attrs.frozen
class _Cluster:
    inner: Cluster
    fuse: _Fuse
    is_cut_off: Callable[[], bool]

    async def changes(self) -> AsyncIterator[Batch]:
        async with contextlib.aclosing(_generator(self.inner.changes())) as batches:
            async for batch in batches:
                await self.fuse.check()
                if self.is_cut_off():
                    # What came meanwhile is missed; the source is opened anew until the cable is in again.
                    raise _unreachable()
                yield batch

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        await self.fuse.check()
        if self.is_cut_off():
            return [outcome_of(_unreachable()) for _ in actions]
        return await self.inner.apply(actions)


@attrs.frozen
class _Datapath:
    inner: Datapath
    fuse: _Fuse

    async def observe(self, scope: NodeScope) -> NodeState:
        await self.fuse.check()
        return await self.inner.observe(scope)

    async def changes(self) -> AsyncIterator[None]:
        async with contextlib.aclosing(_generator(self.inner.changes())) as wakes:
            async for wake in wakes:
                yield wake

    async def apply(self, actions: Sequence[DatapathAction]) -> Sequence[Outcome]:
        await self.fuse.check()
        return await self.inner.apply(actions)


@attrs.frozen
class _Announcer:
    inner: Announcer
    fuse: _Fuse

    async def announce(self, wanted: frozenset[Announcement]) -> Sequence[Outcome]:
        # Frames of a process that is gone are not repeated; what was heard of it stays in the neighbours' caches.
        return await self.inner.announce(frozenset() if self.fuse.is_blown else wanted)


def _unreachable() -> UnavailableError:
    return UnavailableError("the node is cut off", system="lab")


def _generator(items: AsyncIterator[Any]) -> Any:
    """The same, as what can be closed: all our sources of changes are generators."""
    return items
