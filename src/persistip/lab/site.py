"""
What does the lab need of a place to run in?

A Site is the hardware and the operating system: nodes, Pods' network namespaces and processes, our controller and
agents, the client outside. ``processes.LinuxSite`` has real ones, ``virtual.VirtualSite`` simulated ones; the kubelet,
the lab and its story are the same on both.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from persistip.backends.memory import MemoryStore
from persistip.errors import PersistIPError
from persistip.model.entry import NodeState
from persistip.strategies import Clock


class ProbeFailedError(PersistIPError):
    """The probe ended or fell silent: nothing was measured."""


class FabricError(PersistIPError):
    """The kernel cannot do what the lab's network needs; the sentence names it."""


@attrs.frozen(kw_only=True)
class NodeFacts:
    """What a Node object says of a node."""

    ips: tuple[str, ...]
    pod_cidrs: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Program:
    """
    The program of a Pod: its environment, and whom to tell what it says and that it ended.

    Both are called in the event loop; ``on_exit`` once, after the last line.
    """

    environment: Mapping[str, str]
    on_line: Callable[[str], None]
    on_exit: Callable[[], None]


class Process(Protocol):
    """A program that was started."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        ...


class AddressProbe(Protocol):
    """The client outside and the one address that it tests; the answers are those of ``probe``."""

    async def start(self, address: str, port: int, *, settle_seconds: float = 1.0) -> dict[str, Any]:
        """Probe from now on; ``ok`` tells whether both directions flow after at most *settle_seconds*."""
        ...

    async def mark(self, name: str) -> int:
        """Set an instant to measure from; returns it (monotonic nanoseconds)."""
        ...

    async def stop(self) -> dict[str, Any]:
        """End the probe and return its result."""
        ...

    async def drop(self) -> None:
        """End the probe, if one runs, without a result: from now on nothing is sent."""
        ...

    async def reach(self, address: str, port: int) -> dict[str, str | None]:
        """Who answers at *address* now, by UDP and by TCP."""
        ...


class Site(Protocol):
    """Where a lab runs; an asynchronous context manager, and whatever it made is gone afterwards."""

    @property
    def clock(self) -> Clock:
        """What the cluster's objects are dated by."""
        ...

    @property
    def nodes(self) -> Mapping[str, NodeFacts]:
        """The nodes, by name."""
        ...

    def leaders(self) -> Mapping[str, str | None] | None:
        """To which node a cloud sends the packets of each address; None: there is no cloud."""
        ...

    async def add_pod(self, node: str, name: str) -> tuple[str, ...]:
        """A network namespace on *node*; returns the Pod's IPs."""
        ...

    async def delete_pod(self, name: str) -> None:
        """Kill what runs in the Pod, and remove its namespace."""
        ...

    async def start_program(self, name: str, program: Program) -> Process:
        """Start the echo program in a Pod."""
        ...

    async def start_controller(self, store: MemoryStore) -> None:
        """Start the controller, if it does not run."""
        ...

    async def start_agent(self, node: str) -> None:
        """Start a node's agent, if it does not run; returns when it has taken up its work."""
        ...

    def signal_agent(self, node: str, number: signal.Signals) -> None:
        """Signal a node's agent; LookupError when none runs."""
        ...

    def agents(self) -> Mapping[str, bool]:
        """Which nodes' agents run."""
        ...

    async def kernel(self, node: str) -> NodeState:
        """What is ours on a node."""
        ...

    async def foreign(self, node: str) -> frozenset[str]:
        """What is on a node and not ours, a line for each; but for what comes and goes with Pods."""
        ...

    def probes(self) -> Mapping[int, AddressProbe]:
        """A probe at the client for each family, 4 and 6."""
        ...

    def monotonic_ns(self) -> int:
        """The clock of the probes."""
        ...

    async def cut(self, node: str) -> None:
        """Pull the cable of the node's uplink, by which its agent also reaches the API."""
        ...

    async def restore(self, node: str) -> None:
        """Undo ``cut``."""
        ...

    async def run_inside(self, machine: str, command: Sequence[str]) -> int:
        """Run a command in the namespace of a machine, on this terminal; its exit status."""
        ...

    def logs(self) -> Mapping[str, str]:
        """The last lines of the controller's and the agents' logs, by name."""
        ...
