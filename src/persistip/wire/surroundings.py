"""
What do the objects around look like on the wire: what decisions read of a cluster, and nobody here writes?

Pods, Nodes, networks, Services and their like, in structs as those of ``persistip.wire.structs``.
"""

from __future__ import annotations

import msgspec

from persistip.wire.structs import Condition, ConditionsStatus, Meta, ParametersRef, Time, Wire


class PodIP(Wire):
    """``status.podIPs[]``."""

    ip: str | None = None


class PodCondition(Wire):
    """A condition of a Pod or Node, of which little is read."""

    is_open = True

    type: str
    status: str
    last_transition_time: Time | None = None


class PodSpec(Wire):
    """Pod ``spec``."""

    is_open = True

    node_name: str | None = None
    host_network: bool | None = None


class PodStatus(Wire):
    """Pod ``status``."""

    is_open = True

    phase: str | None = None
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: tuple[PodIP, ...] | None = msgspec.field(default=None, name="podIPs")
    conditions: tuple[PodCondition, ...] | None = None


class PodObject(Wire):
    """Pod."""

    metadata: Meta
    spec: PodSpec | None = None
    status: PodStatus | None = None

    required = frozenset({"spec"})


class Taint(Wire):
    """``spec.taints[]``."""

    is_open = True

    key: str
    effect: str | None = None


class NodeSpec(Wire):
    """Node ``spec``."""

    is_open = True

    pod_cidr: str | None = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: tuple[str, ...] | None = msgspec.field(default=None, name="podCIDRs")
    taints: tuple[Taint, ...] | None = None


class NodeAddress(Wire):
    """``status.addresses[]``."""

    type: str
    address: str


class NodeStatus(Wire):
    """Node ``status``."""

    is_open = True

    addresses: tuple[NodeAddress, ...] | None = None
    conditions: tuple[PodCondition, ...] | None = None


class NodeObject(Wire):
    """Node."""

    metadata: Meta
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class NamespaceObject(Wire):
    """Namespace: only its metadata decides anything."""

    unread = frozenset({"spec", "status"})

    metadata: Meta


class DefinitionObject(Wire):
    """CustomResourceDefinition: only its metadata decides anything."""

    unread = frozenset({"spec", "status"})

    metadata: Meta


class ConfigMapObject(Wire):
    """ConfigMap."""

    unread = frozenset({"binaryData", "immutable"})

    metadata: Meta
    data: dict[str, str] | None = None


class NetworkSpec(Wire):
    """Network ``spec``."""

    unread = frozenset(
        {
            "IPAMMode",
            "IPAMMode6",
            "dnsConfig",
            "externalDHCP4",
            "gateway4",
            "l2NetworkConfig",
            "networkLifecycle",
            "nodeInterfaceMatcher",
            "provider",
            "routes",
        }
    )
    required = frozenset({"type"})

    type: str | None = None
    parameters_ref: ParametersRef | None = None


class NetworkObject(Wire):
    """Network."""

    metadata: Meta
    spec: NetworkSpec
    status: ConditionsStatus | None = None


class PodRanges(Wire):
    """``spec.podIPv4Ranges``."""

    range_names: tuple[str, ...] | None = None


class ParamSetSpec(Wire):
    """GKENetworkParamSet ``spec``."""

    unread = frozenset({"networkAttachment"})

    vpc: str | None = None
    vpc_subnet: str | None = None
    pod_ranges: PodRanges | None = msgspec.field(default=None, name="podIPv4Ranges")
    device_mode: str | None = None


class ParamSetStatus(Wire):
    """GKENetworkParamSet ``status``."""

    unread = frozenset({"networkName", "podCIDRs"})

    conditions: tuple[Condition, ...] | None = None


class ParamSetObject(Wire):
    """GKENetworkParamSet."""

    metadata: Meta
    spec: ParamSetSpec | None = None
    status: ParamSetStatus | None = None


class ServiceSpec(Wire):
    """Service ``spec``."""

    is_open = True

    external_ips: tuple[str, ...] | None = msgspec.field(default=None, name="externalIPs")


class Ingress(Wire):
    """``status.loadBalancer.ingress[]``."""

    unread = frozenset({"hostname", "ipMode", "ports"})

    ip: str | None = None


class LoadBalancer(Wire):
    """``status.loadBalancer``."""

    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(Wire):
    """Service ``status``."""

    is_open = True

    load_balancer: LoadBalancer | None = None


class ServiceObject(Wire):
    """Service."""

    metadata: Meta
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class ServiceCIDRSpec(Wire):
    """ServiceCIDR ``spec``."""

    cidrs: tuple[str, ...] | None = None


class ServiceCIDRObject(Wire):
    """ServiceCIDR."""

    unread = frozenset({"status"})

    metadata: Meta
    spec: ServiceCIDRSpec | None = None
