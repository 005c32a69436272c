"""
What do the objects around say, which decisions only read: Pods, Nodes, networks, Services and their like?

In: structs of the wire.  Out: model objects, or ``FieldError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern

from persistip.model.conditions import Status
from persistip.model.definition import CustomResourceDefinition
from persistip.model.gateway import ConfigMap
from persistip.model.network import GKENetworkParamSet, Network, NetworkType
from persistip.model.node import OUT_OF_SERVICE_TAINT, Namespace, Node
from persistip.model.pod import Pod
from persistip.model.service import Service, ServiceCIDR
from persistip.wire import structs, surroundings
from persistip.wire.decode_values import read_ip, read_meta, read_parameters_ref, read_range
from persistip.wire.times import to_seconds


def _ready(conditions: Iterable[surroundings.PodCondition] | None) -> surroundings.PodCondition | None:
    return next((each for each in conditions or () if each.type == "Ready"), None)


def read_pod(wire: surroundings.PodObject) -> Pod:
    """Its IPs in their order, the families mixed."""
    spec, status = wire.spec or surroundings.PodSpec(), wire.status or surroundings.PodStatus()
    # podIPs holds podIP too wherever both are written; old servers write podIP alone.
    texts = [each.ip for each in status.pod_ips or () if each.ip] or ([status.pod_ip] if status.pod_ip else [])
    ready = _ready(status.conditions)
    return Pod(
        meta=read_meta(wire.metadata),
        node_name=intern(spec.node_name or ""),
        phase=intern(status.phase or "Pending"),
        ips=tuple(read_ip(text, f"status.podIPs[{index}].ip") for index, text in enumerate(texts)),
        host_network=bool(spec.host_network),
        ready=ready is not None and ready.status == Status.TRUE,
        ready_at=to_seconds(ready.last_transition_time) if ready and ready.last_transition_time else 0.0,
    )


_OWN_ADDRESSES = frozenset({"InternalIP", "ExternalIP"})


def read_node(wire: surroundings.NodeObject) -> Node:
    """Of its addresses those of the node itself."""
    spec, status = wire.spec or surroundings.NodeSpec(), wire.status or surroundings.NodeStatus()
    ready = _ready(status.conditions)
    return Node(
        meta=read_meta(wire.metadata),
        ips=tuple(
            read_ip(each.address, f"status.addresses[{index}].address")
            for index, each in enumerate(status.addresses or ())
            if each.type in _OWN_ADDRESSES
        ),
        pod_cidrs=tuple(
            read_range(text, f"spec.podCIDRs[{index}]")
            for index, text in enumerate(spec.pod_cidrs or ((spec.pod_cidr,) if spec.pod_cidr else ()))
        ),
        ready=ready is not None and ready.status == Status.TRUE,
        out_of_service=any(each.key == OUT_OF_SERVICE_TAINT for each in spec.taints or ()),
    )


def read_namespace(wire: surroundings.NamespaceObject) -> Namespace:
    """Its labels are what listeners ask for."""
    return Namespace(read_meta(wire.metadata))


def read_config_map(wire: surroundings.ConfigMapObject) -> ConfigMap:
    """Sorted, so that equal data are equal values."""
    return ConfigMap(read_meta(wire.metadata), tuple(sorted((wire.data or {}).items())))


def read_network(wire: surroundings.NetworkObject) -> Network:
    """Without a type it is one of layer 3."""
    ready, message = _readiness(wire.status.conditions if wire.status else None)
    return Network(
        meta=read_meta(wire.metadata),
        type=NetworkType.L3 if wire.spec.type is None else wire.spec.type,
        parameters_ref=read_parameters_ref(wire.spec.parameters_ref),
        ready=ready,
        message=message,
    )


def read_param_set(wire: surroundings.ParamSetObject) -> GKENetworkParamSet:
    """What GKE says of a secondary network."""
    spec = wire.spec or surroundings.ParamSetSpec()
    ready, message = _readiness(wire.status.conditions if wire.status else None)
    return GKENetworkParamSet(
        meta=read_meta(wire.metadata),
        vpc=spec.vpc or "",
        vpc_subnet=spec.vpc_subnet or "",
        pod_ranges=(spec.pod_ranges.range_names or ()) if spec.pod_ranges else (),
        device_mode=spec.device_mode or "",
        ready=ready,
        message=message,
    )


def _readiness(conditions: Iterable[structs.Condition] | None) -> tuple[bool, str]:
    """Whether the condition Ready is True, and what it says: the reason, and the message where there is one."""
    found = next((each for each in conditions or () if each.type == "Ready"), None)
    if found is None:
        return False, ""
    return found.status == Status.TRUE, ": ".join(part for part in (found.reason, found.message) if part)


def read_service(wire: surroundings.ServiceObject) -> Service:
    """The IPs that kube-proxy takes packets of."""
    external = (wire.spec.external_ips if wire.spec else None) or ()
    balancer = wire.status.load_balancer if wire.status else None
    given = tuple(each.ip for each in (balancer.ingress if balancer else None) or () if each.ip)
    ips = [read_ip(text, f"spec.externalIPs[{index}]") for index, text in enumerate(external)]
    ips += [read_ip(text, f"status.loadBalancer.ingress[{index}].ip") for index, text in enumerate(given)]
    return Service(meta=read_meta(wire.metadata), ips=tuple(dict.fromkeys(ips)))


def read_service_cidr(wire: surroundings.ServiceCIDRObject) -> ServiceCIDR:
    """The ranges that Service IPs come from."""
    cidrs = (wire.spec.cidrs if wire.spec else None) or ()
    prefixes = tuple(read_range(text, f"spec.cidrs[{index}]") for index, text in enumerate(cidrs))
    return ServiceCIDR(meta=read_meta(wire.metadata), cidrs=prefixes)


def read_definition(wire: surroundings.DefinitionObject) -> CustomResourceDefinition:
    """Its annotations say the version of Gateway API."""
    return CustomResourceDefinition(read_meta(wire.metadata))
