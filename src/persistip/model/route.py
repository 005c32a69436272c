"""
What does a GKEIPRoute ask for?

The claim of some addresses for the Pods of a selector; fields and defaults are those of GKE's CRD
(``networking.gke.io/v1``).
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from persistip.model.address import AddressSpec
from persistip.model.conditions import Condition
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.selector import LabelSelector

GATEWAY_GROUP = "gateway.networking.k8s.io"
ROUTE_GROUP = "networking.gke.io"
DEFAULT_NETWORK = "default"
_DEFAULT_NETWORK_NAMES = frozenset({"", "default", "pod-network"})


class ReactionModeName(StrEnum):
    """The two reaction modes of the API."""

    READY_CONDITION = "ReadyCondition"
    EXISTS = "Exists"


@attrs.frozen(kw_only=True)
class ParentRef:
    """``spec.parentRefs[]``; namespace empty means the route's own."""

    name: str
    namespace: str = ""
    group: str = GATEWAY_GROUP
    kind: str = "Gateway"
    section_name: str = ""
    port: int | None = None


@attrs.frozen(kw_only=True)
class LoadBalancing:
    """``spec.loadBalancing``."""

    health_check_name: str
    standby_pod_selector: LabelSelector | None = None


@attrs.frozen(kw_only=True)
class RouteStatus:
    """What the controller wrote last."""

    pods: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()


@attrs.frozen(kw_only=True)
class GKEIPRoute:
    """A claim; ``reaction_mode`` is kept as written, so that a wrong word can be named."""

    meta: ObjectMeta
    parent_refs: tuple[ParentRef, ...] = ()
    addresses: tuple[AddressSpec, ...] = ()
    pod_selector: LabelSelector = LabelSelector()
    network: str = DEFAULT_NETWORK
    reaction_mode: str = ReactionModeName.READY_CONDITION
    node_selector: LabelSelector | None = None
    load_balancing: LoadBalancing | None = None
    allow_global_access: bool | None = None
    ha_policy: bool | None = None
    status: RouteStatus = RouteStatus()

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.ROUTE, self.meta.namespace, self.meta.name)

    @property
    def network_name(self) -> str:
        """The network with its aliases folded: empty and ``pod-network`` mean ``default``."""
        return DEFAULT_NETWORK if self.network in _DEFAULT_NETWORK_NAMES else self.network
