"""
What may one decision look at?

A view is all that a decision depends on: the objects concerned, the time, the last outcomes. Same view, same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from ipaddress import ip_network
from typing import Any, Protocol

import attrs

from persistip.model.actions import Outcome
from persistip.model.address import IPAddress, Prefix
from persistip.model.attachment import AddressAttachment, AttachedAddress
from persistip.model.bounds import at_least
from persistip.model.cloud import CloudState
from persistip.model.definition import CustomResourceDefinition
from persistip.model.entry import Entry, NodeState
from persistip.model.gateway import DEFAULT_CONTROLLER, ConfigMap, Gateway, GatewayClass
from persistip.model.keys import ObjectKey
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, ParentRef
from persistip.model.service import Service
from persistip.model.spans import Spans


class Admits(Protocol):
    """The pure part of a reaction mode: may this Pod hold addresses?"""

    @property
    def annotations(self) -> Collection[str]:
        """The annotations that it reads: a Pod's own, or else those of the route that asks for the mode."""
        ...

    def refusal(self, pod: Pod) -> str | None:
        """Why *pod* may not, as the end of the sentence "Pod x …"; None: it may."""
        ...


@attrs.frozen(kw_only=True)
class Policy:
    """Settings that change decisions, the same on every replica."""

    controller_name: str = DEFAULT_CONTROLLER
    """Whose GatewayClasses are served: those with this ``spec.controllerName``."""
    system_namespace: str = "persistip-system"
    """Where the system itself lives, and records what its replicas must agree on."""
    knows_owners: bool = False
    """Whether the allocator says who owns what; if not, class parameters must list ``allowedAddresses``."""
    sole_controller: bool = True
    """Report parents that do not exist; off beside another controller for the same kinds."""
    damping_seconds: float = attrs.field(default=10.0, validator=at_least(0, "policy"))
    """Readiness that a Pod must show before it takes back what it lost for want of readiness."""
    service_cidrs: tuple[Prefix, ...] = ()
    """Service ranges of a cluster that has no ServiceCIDR objects."""
    node_cap: int = attrs.field(default=64, validator=at_least(0, "policy"))
    """Nodes that the cloud can prepare for one fast route; never more than 64 are."""


@attrs.frozen(kw_only=True)
class GatewayFacts:
    """
    A Gateway with what its class says.

    ``rivals``: other Gateways that list some of its addresses, without rivals of their own. ``attached``: what
    attachments hold of them, through whichever Gateway; looked up only where there are rivals. ``derived`` is where
    whoever derives something from these facts may keep it for the next time; nothing is decided by it.
    """

    gateway: Gateway
    gateway_class: GatewayClass | None = None
    parameters: ConfigMap | None = None
    rivals: tuple[GatewayFacts, ...] = ()
    attached: tuple[AttachedAddress, ...] = ()
    derived: dict[str, Any] = attrs.field(factory=dict, init=False, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class ParentFacts:
    """One parentRef, resolved; ``gateway`` None: no such Gateway."""

    ref: ParentRef
    gateway: GatewayFacts | None = None


@attrs.frozen(kw_only=True)
class NetworkFacts:
    """
    A secondary network with its parameters; both None for the default network.

    ``unreadable``: why its parameters cannot be read, where they exist and cannot.
    """

    network: Network | None = None
    parameters: GKENetworkParamSet | None = None
    unreadable: str = ""


@attrs.frozen(kw_only=True)
class RouteFacts:
    """
    A route and all that its acceptance rests on, but for other routes.

    ``selected_nodes``: how many its nodeSelector selects. ``services``: those with an IP that it claims.
    ``is_unreadable``, of a rival: something that it rests on cannot be read, so that it keeps what it holds and claims
    nothing else.
    """

    route: GKEIPRoute
    namespace: Namespace | None = None
    parents: tuple[ParentFacts, ...] = ()
    attachment: AddressAttachment | None = None
    selected_nodes: int = 0
    network: NetworkFacts = NetworkFacts()
    services: tuple[Service, ...] = ()
    is_unreadable: bool = False


@attrs.frozen(kw_only=True)
class ClusterRanges:
    """What no address may overlap: the nodes' own IPs, with the node's name, Pod ranges and Service ranges."""

    node_ips: Mapping[IPAddress, str] = attrs.field(factory=dict)
    pod_cidrs: tuple[Prefix, ...] = ()
    service_cidrs: tuple[Prefix, ...] = ()

    @cached_property
    def spans(self) -> Spans:
        """All of them: what overlaps none of these, as nearly every address, overlaps none of the three below."""
        return Spans((*map(ip_network, self.node_ips), *self.pod_cidrs, *self.service_cidrs))

    @cached_property
    def node_spans(self) -> Spans:
        """The nodes' IPs, to be searched."""
        return Spans(ip_network(ip) for ip in self.node_ips)

    @cached_property
    def pod_spans(self) -> Spans:
        """The Pod ranges, to be searched."""
        return Spans(self.pod_cidrs)

    @cached_property
    def service_spans(self) -> Spans:
        """The Service ranges, to be searched."""
        return Spans(self.service_cidrs)


@attrs.frozen(kw_only=True)
class RouteView:
    """
    Everything that the decision about one route may look at.

    ``facts`` None: the route does not exist. ``rivals``: the routes whose claims overlap this one's, directly or by
    way of others. ``overlapping``: other attachments that hold or are releasing an address of this route.
    ``attachment_is_watched``: the watch has delivered the attachment as it stands here, and so everything that was
    written before it; a claim may be granted only then. ``blind``: an attachment, of whichever route, that cannot be
    read, so that nobody knows what it holds; until it can, nothing is granted that it might hold. ``doubled_ips``:
    those IPs of the ``pods`` that more than one live Pod of the cluster claims, with all who do. ``suspects``: those of
    the ``nodes`` that are recorded as dead. ``gone_nodes``: the UIDs of Nodes that the attachment names and that are
    known to be gone; one that is merely not among the ``nodes`` may be too new to be in sight. ``silent_agents``: those
    of the ``nodes`` whose agent is a Pod that is not Ready. ``cloud``: what it holds for the route; None: no cloud.
    """

    key: ObjectKey
    now: float
    facts: RouteFacts | None = None
    unreadable: str | None = None
    attachment: AddressAttachment | None = None
    attachment_is_watched: bool = False
    blind: str | None = None
    rivals: tuple[RouteFacts, ...] = ()
    overlapping: tuple[AddressAttachment, ...] = ()
    pods: tuple[Pod, ...] = ()
    doubled_ips: Mapping[IPAddress, tuple[Pod, ...]] = attrs.field(factory=dict)
    nodes: Mapping[str, Node] = attrs.field(factory=dict)
    suspects: frozenset[str] = frozenset()
    silent_agents: frozenset[str] = frozenset()
    gone_nodes: frozenset[str] = frozenset()
    cloud: CloudState | None = None
    ranges: ClusterRanges = ClusterRanges()
    modes: Mapping[str, Admits] = attrs.field(factory=dict)
    outcomes: Mapping[str, Outcome] = attrs.field(factory=dict)
    policy: Policy = Policy()

    def without_node(self, name: str) -> RouteView:
        """The same cluster after that Node and its Pods are gone."""
        return attrs.evolve(
            self._with_pods(lambda pod: pod.node_name != name),
            nodes={key: node for key, node in self.nodes.items() if key != name},
            suspects=self.suspects - {name},
            gone_nodes=self.gone_nodes | ({self.nodes[name].meta.uid} if name in self.nodes else set()),
        )

    def without_pod(self, name: str) -> RouteView:
        """The same cluster after that Pod of the route's namespace is gone."""
        return self._with_pods(lambda pod: (pod.meta.namespace, pod.meta.name) != (self.key.namespace, name))

    def _with_pods(self, is_left: Callable[[Pod], bool]) -> RouteView:
        left = ((ip, tuple(filter(is_left, pods))) for ip, pods in self.doubled_ips.items())
        return attrs.evolve(
            self,
            pods=tuple(filter(is_left, self.pods)),
            doubled_ips={ip: pods for ip, pods in left if len(pods) > 1},
        )


@attrs.frozen(kw_only=True)
class AttachedRoutes:
    """Accepted routes of one namespace that name a Gateway by the same parentRefs, and how many they are."""

    namespace_name: str
    namespace: Namespace | None
    refs: tuple[ParentRef, ...]
    count: int


@attrs.frozen(kw_only=True)
class GatewayView:
    """
    Everything that the decision about one Gateway may look at.

    ``routes`` are accepted and name it as a parent. ``unreadable``: why nothing can be decided, since it, its class or
    the parameters of that cannot be read.
    """

    key: ObjectKey
    now: float
    facts: GatewayFacts | None = None
    unreadable: str | None = None
    routes: tuple[AttachedRoutes, ...] = ()
    ranges: ClusterRanges = ClusterRanges()
    policy: Policy = Policy()


@attrs.frozen(kw_only=True)
class ClassView:
    """
    Everything that the decision about one GatewayClass may look at.

    ``is_in_use``: some Gateway is of it. ``definitions``: those of Gateway API, as far as they can be seen.
    ``unreadable``: why nothing can be decided, since it or its parameters cannot be read. ``blind``: a Gateway that
    cannot be read, and may be of it.
    """

    key: ObjectKey
    now: float
    gateway_class: GatewayClass | None = None
    unreadable: str | None = None
    blind: str | None = None
    parameters: ConfigMap | None = None
    is_in_use: bool = False
    definitions: tuple[CustomResourceDefinition, ...] = ()
    policy: Policy = Policy()


@attrs.frozen(kw_only=True)
class NodeView:
    """
    Everything that the decision about one node's kernel may look at.

    ``attachments`` is one consistent list of those that carry this node's label. ``outcomes`` holds the last outcome
    of putting each entry.
    """

    node_name: str
    now: float
    attachments: tuple[AddressAttachment, ...] = ()
    state: NodeState = NodeState()
    outcomes: Mapping[Entry, Outcome] = attrs.field(factory=dict)


class Changes(Protocol):
    """The shape of ``strategies.Batch``, as far as the catalog reads it."""

    @property
    def objects(self) -> Mapping[ObjectKey, object | None]:
        """Latest objects; None: gone."""
        ...

    @property
    def unreadable(self) -> Mapping[ObjectKey, str]:
        """Objects that could not be decoded, and why."""
        ...

    @property
    def resynced(self) -> frozenset[str]:
        """Kinds whose complete list this is."""
        ...
