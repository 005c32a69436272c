"""
The interfaces that a third party may implement, and nothing else.

One to four methods each, all asynchronous; ``persistip.runtime.threads.threaded`` adapts a synchronous SDK.
A cancelled ``apply`` means that the outcome is unknown: observe again. Stable by semantic versioning: Cluster,
AddressAllocator, Datapath, ReactionMode. Provisional: Announcer, Lease, Clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import attrs

from persistip.model.actions import ClusterAction, DatapathAction, Outcome
from persistip.model.attachment import AddressAttachment
from persistip.model.cloud import Attract as Attract  # noqa: PLC0414 - these six are parts of this interface
from persistip.model.cloud import CloudAction as CloudAction  # noqa: PLC0414
from persistip.model.cloud import CloudScope as CloudScope  # noqa: PLC0414
from persistip.model.cloud import CloudState as CloudState  # noqa: PLC0414
from persistip.model.cloud import Sweep as Sweep  # noqa: PLC0414
from persistip.model.cloud import Withdraw as Withdraw  # noqa: PLC0414
from persistip.model.definition import CustomResourceDefinition
from persistip.model.entry import Announcement, NodeScope, NodeState
from persistip.model.gateway import ConfigMap, Gateway, GatewayClass
from persistip.model.keys import ObjectKey
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.service import Service, ServiceCIDR

ClusterObject = (
    GatewayClass
    | Gateway
    | GKEIPRoute
    | AddressAttachment
    | Pod
    | Node
    | Namespace
    | ConfigMap
    | Network
    | GKENetworkParamSet
    | Service
    | ServiceCIDR
    | CustomResourceDefinition
)


@attrs.frozen(kw_only=True)
class Batch:
    """
    The latest state of some objects: never events.

    ``objects`` maps a key to its object, or to None when it is gone. ``unreadable`` maps a key to why its object
    could not be decoded; such an object neither counts as present nor as gone. ``synced`` is True from the batch on
    with which everything that exists has been delivered once; False again where something may have been missed, until
    the lists that follow. ``resynced`` names kinds whose complete list this batch is: whatever else was known of them
    is gone.
    """

    objects: Mapping[ObjectKey, ClusterObject | None] = attrs.field(factory=dict)
    unreadable: Mapping[ObjectKey, str] = attrs.field(factory=dict)
    resynced: frozenset[str] = frozenset()
    synced: bool = True


@runtime_checkable
class Cluster(Protocol):
    """The Kubernetes API, or something with its semantics."""

    def changes(self) -> AsyncIterator[Batch]:
        """
        Batches of latest objects; the first ones end with ``synced``. Never ends by itself.

        Raises UnavailableError when the connection cannot be kept; the caller starts a new iteration.
        """
        ...

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """Carry out *actions* in order, one outcome each; a failed one does not stop the next."""
        ...


@attrs.frozen(kw_only=True)
class AllocatorFeatures:
    """What an allocator can do, known before anything is asked of it."""

    name: str
    needs_provisioning: bool
    """False: nothing to provision, ``GCPReady`` is True/NotRequired."""
    knows_owners: bool
    """False: nobody says who owns what, so class parameters must list ``allowedAddresses``."""


@runtime_checkable
class AddressAllocator(Protocol):
    """A cloud's side of an address."""

    @property
    def features(self) -> AllocatorFeatures:
        """What it can do."""
        ...

    async def observe(self, scope: CloudScope) -> CloudState:
        """How things stand for *scope*; scoped, so that one event does not cost the whole cloud."""
        ...

    async def apply(self, action: CloudAction) -> Outcome:
        """Start the work; the next ``observe`` tells how it went."""
        ...


@runtime_checkable
class Datapath(Protocol):
    """A node's packet forwarding."""

    async def observe(self, scope: NodeScope) -> NodeState:
        """Everything ours, whole or not, what is in our way, and the links of the Pod IPs in *scope*."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Wakes when something that ``observe`` reports may have changed, and now and then besides."""
        ...

    async def apply(self, actions: Sequence[DatapathAction]) -> Sequence[Outcome]:
        """Carry out *actions* in order, one outcome each; a failed one does not stop the next."""
        ...


@runtime_checkable
class Announcer(Protocol):
    """Tells the neighbourhood where an address lives."""

    async def announce(self, wanted: frozenset[Announcement]) -> Sequence[Outcome]:
        """
        The whole wanted set each time: new ones start at once, those no longer in it stop before this returns.

        ARP and neighbour advertisement repeat theirs; a routing speaker would advertise them.
        """
        ...


@runtime_checkable
class ReactionMode(Protocol):
    """Which Pods may hold addresses. Pure; choosing among the admitted is not its business."""

    @property
    def annotations(self) -> Collection[str]:
        """
        The annotations that it reads: a Pod's own, or else those of the route that asks for the mode.

        A route may carry such a key under ``persistip.dev/``, where it is refused otherwise.
        """
        ...

    def refusal(self, pod: Pod) -> str | None:
        """Why *pod* may not, as the end of the sentence "Pod x …" ("is not Ready"); None: it may."""
        ...


@attrs.frozen(kw_only=True)
class LeaseRecord:
    """
    Who leads, as it is written down.

    ``holder`` empty: nobody. ``duration_seconds``: for how long after the last change of this record nobody else may
    take it. The instants are for people; whoever waits counts on a clock of their own. ``version`` is opaque, and empty
    where there is no record yet.
    """

    holder: str = ""
    duration_seconds: float = 0.0
    acquired_at: float = 0.0
    renewed_at: float = 0.0
    transitions: int = 0
    version: str = ""


@runtime_checkable
class Lease(Protocol):
    """The record by which replicas agree on one of them."""

    async def read(self) -> LeaseRecord:
        """What stands now."""
        ...

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Replace the very version that *record* names; StaleError where that no longer stands."""
        ...

    async def changed(self, version: str, seconds: float) -> None:
        """Return when the record may be another than that *version*; after *seconds* at the latest."""
        ...


@runtime_checkable
class Clock(Protocol):
    """Where the time comes from; sleeping is asyncio's."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...
