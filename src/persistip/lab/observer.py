"""
Who watches a run of the lab, and what may they ask of it?

The story tells an Observer how it goes; Promises look at the running lab whenever it has come to rest; both, and the
prompt of ``--keep``, see the lab as a RunningLab.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from persistip.backends.memory import MemoryStore
from persistip.lab.results import EventResult, PromiseResult, RouteResult, Sight
from persistip.model.entry import NodeState

Manifest = Mapping[str, Any]


class RunningLab(Protocol):
    """A lab as it runs, whatever its datapath."""

    @property
    def store(self) -> MemoryStore:
        """The cluster's API, in this process."""
        ...

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes."""
        ...

    @property
    def cut_off(self) -> frozenset[str]:
        """The nodes whose uplink is cut."""
        ...

    def leaders(self) -> Mapping[str, str | None] | None:
        """To which node a cloud sends the packets of each address; None: there is no cloud."""
        ...

    async def apply(self, manifest: Manifest) -> None:
        """Create the object, or bring it to what *manifest* says, as kubectl apply does."""
        ...

    async def patch(self, kind: str, namespace: str, name: str, patch: Manifest) -> None:
        """JSON merge patch of an object."""
        ...

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Ask for the deletion of an object; a Pod takes its grace period."""
        ...

    async def pods(self, namespace: str | None = None) -> tuple[Manifest, ...]:
        """The Pods there are."""
        ...

    async def routes(self) -> tuple[RouteResult, ...]:
        """How every route stands."""
        ...

    def signal_pod(self, namespace: str, pod: str, number: signal.Signals) -> None:
        """Signal the process of a Pod; LookupError when it has none."""
        ...

    def signal_agent(self, node: str, number: signal.Signals) -> None:
        """Signal a node's agent; LookupError when none runs there."""
        ...

    async def start_agent(self, node: str) -> None:
        """Start a node's agent, unless it runs."""
        ...

    def agents(self) -> Mapping[str, bool]:
        """Which nodes' agents run."""
        ...

    async def drain(self, node: str) -> None:
        """Cordon the node and evict its Pods, as kubectl drain does; returns when they are gone."""
        ...

    async def uncordon(self, node: str) -> None:
        """Let Pods come to the node again."""
        ...

    async def cut(self, node: str) -> None:
        """Pull the cable of the node's uplink, by which its agent also reaches the API."""
        ...

    async def restore(self, node: str) -> None:
        """Undo ``cut``."""
        ...

    async def settled(self, timeout_seconds: float) -> bool:
        """Whether the cluster came to rest in time: no workload, Pod, route or attachment has anything to do."""
        ...

    async def kernel(self, node: str) -> NodeState:
        """What a look into the node's kernel shows of ours."""
        ...

    async def foreign(self, node: str) -> frozenset[str]:
        """What is in the node's kernel and not ours, a line for each; but for what comes and goes with Pods."""
        ...

    async def reach(self, address: str) -> str | None:
        """Who answers at *address* to the client outside: ``name@uid`` of the Pod."""
        ...

    async def measure(self, address: str, seconds: float) -> Sight:
        """What the client outside sees of *address* for so long, a payload a millisecond in each direction."""
        ...

    async def run_inside(self, machine: str, command: Sequence[str]) -> int:
        """Run a command in the namespace of a machine (node, Pod as ``namespace/name``, client); its exit status."""
        ...


class Observer(Protocol):
    """Is told of everything as it happens; its methods return at once, except ``prompt``."""

    def stage(self, text: str) -> None:
        """A step of the way up or down."""
        ...

    def routes(self, routes: tuple[RouteResult, ...]) -> None:
        """How every route stands now."""
        ...

    def event_begins(self, name: str, sentence: str) -> None:
        """An event is about to happen; *sentence* says what."""
        ...

    def event_ends(self, result: EventResult) -> None:
        """What the client saw; an event that concerns several addresses ends once for each."""
        ...

    async def prompt(self, lab: RunningLab) -> None:
        """With ``keep``: take commands until the user has enough."""
        ...


class Promises(Protocol):
    """Checks of what the system promises; made anew for each run by ``promises.make_promises()``."""

    async def watch(self, lab: RunningLab) -> None:
        """Run for as long as the lab does (cancelled at its end): what must hold at every instant."""
        ...

    async def look(self, lab: RunningLab) -> None:
        """The lab has come to rest: what must hold then."""
        ...

    def results(self) -> Mapping[str, PromiseResult]:
        """What was seen so far, by promise (P1 …)."""
        ...
