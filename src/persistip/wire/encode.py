"""
How is a model object written for the API server?

In: a model object or a status.  Out: plain dicts and lists, ready for JSON. Defaults are left out where the CRD fills
them in; what Gateway API demands in a status (``attachedRoutes``, ``supportedKinds``) is always there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from persistip.model.address import AddressSpec
from persistip.model.attachment import AddressAttachment, AttachmentSpec, NodeReport, Reference, Release
from persistip.model.conditions import Condition, Status
from persistip.model.definition import CustomResourceDefinition
from persistip.model.gateway import ConfigMap, Gateway, GatewayClass, GatewayStatus, Listener, ParametersRef, RouteKind
from persistip.model.keys import Kind, ObjectMeta
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import OUT_OF_SERVICE_TAINT, Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GATEWAY_GROUP, GKEIPRoute, ParentRef, RouteStatus
from persistip.model.selector import LabelSelector
from persistip.model.service import Service, ServiceCIDR
from persistip.strategies import ClusterObject
from persistip.wire import structs, surroundings
from persistip.wire.kinds import RESOURCES
from persistip.wire.times import from_seconds, from_whole_seconds

AnyStatus = RouteStatus | GatewayStatus | NodeReport | tuple[Condition, ...]


def from_model(obj: ClusterObject) -> dict[str, Any]:
    """The object as JSON, with ``apiVersion`` and ``kind``; status included."""
    kind = obj.key.kind
    plain = {"apiVersion": RESOURCES[kind].api_version, "kind": str(kind), **_plain(_ENCODERS[kind](obj))}
    if isinstance(obj, AddressAttachment):
        plain["spec"] |= {name: msgspec.json.decode(text) for name, text in obj.spec.unknown}
    return plain


def status_from_model(status: AnyStatus) -> dict[str, Any]:
    """
    The value of ``status`` that says *status* and nothing else, as server-side apply wants it.

    A NodeReport becomes the one entry of ``status.nodes``; a tuple of conditions a GatewayClass's status.
    """
    match status:
        case RouteStatus():
            return _plain(_route_status(status))
        case GatewayStatus():
            return _plain(_gateway_status(status))
        case NodeReport():
            return _plain(structs.AttachmentStatus(nodes=(_node_report(status),)))
        case tuple():
            return _plain(structs.ConditionsStatus(conditions=_conditions(status)))


def _plain(wire: structs.Wire) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(wire))
    return plain


def _meta(meta: ObjectMeta) -> structs.Meta:
    return structs.Meta(
        name=meta.name,
        namespace=meta.namespace or None,
        uid=meta.uid or None,
        resource_version=meta.resource_version or None,
        generation=meta.generation or None,
        creation_timestamp=from_whole_seconds(meta.created_at) if meta.created_at else None,
        deletion_timestamp=None if meta.deleted_at is None else from_whole_seconds(meta.deleted_at),
        labels=dict(meta.labels) or None,
        annotations=dict(meta.annotations) or None,
        finalizers=meta.finalizers or None,
    )


def _conditions(conditions: Iterable[Condition]) -> tuple[structs.Condition, ...] | None:
    wires = tuple(
        structs.Condition(
            type=condition.type,
            status=condition.status,
            reason=condition.reason,
            message=condition.message,
            observed_generation=condition.observed_generation or None,
            last_transition_time=from_whole_seconds(condition.last_transition_at),
        )
        for condition in conditions
    )
    return wires or None


def selector_from_model(selector: LabelSelector) -> structs.Selector:
    """The selector on the wire."""
    return structs.Selector(
        match_labels=dict(selector.match_labels) or None,
        match_expressions=tuple(
            structs.Requirement(each.key, each.operator, each.values or None) for each in selector.match_expressions
        )
        or None,
    )


def _optional_selector(selector: LabelSelector | None) -> structs.Selector | None:
    return None if selector is None else selector_from_model(selector)


def _addresses(addresses: Iterable[AddressSpec]) -> tuple[structs.Address, ...] | None:
    return tuple(structs.Address(address.type, address.value or None) for address in addresses) or None


def _kinds(kinds: Iterable[RouteKind]) -> tuple[structs.RouteKind, ...]:
    return tuple(structs.RouteKind(kind=each.kind, group=each.group) for each in kinds)


def _parameters_ref(ref: ParametersRef | None) -> structs.ParametersRef | None:
    return structs.ParametersRef(ref.group, ref.kind, ref.name, ref.namespace or None) if ref is not None else None


def _gateway_class(obj: GatewayClass) -> structs.GatewayClassObject:
    return structs.GatewayClassObject(
        _meta(obj.meta),
        structs.GatewayClassSpec(
            obj.controller_name,
            _parameters_ref(obj.parameters_ref),
        ),
        structs.ConditionsStatus(_conditions(obj.conditions)) if obj.conditions else None,
    )


def _listener(listener: Listener) -> structs.Listener:
    return structs.Listener(
        name=listener.name,
        port=listener.port,
        protocol=listener.protocol,
        allowed_routes=structs.AllowedRoutes(
            structs.RouteNamespaces(listener.namespaces_from, _optional_selector(listener.namespace_selector)),
            _kinds(listener.kinds) or None,
        ),
    )


def _gateway_status(status: GatewayStatus) -> structs.GatewayStatus:
    return structs.GatewayStatus(
        addresses=_addresses(status.addresses),
        conditions=_conditions(status.conditions),
        listeners=tuple(
            structs.ListenerStatus(
                name=each.name,
                supported_kinds=_kinds(each.supported_kinds),
                attached_routes=each.attached_routes,
                conditions=_conditions(each.conditions),
            )
            for each in status.listeners
        )
        or None,
    )


def _gateway(obj: Gateway) -> structs.GatewayObject:
    return structs.GatewayObject(
        _meta(obj.meta),
        structs.GatewaySpec(
            gateway_class_name=obj.class_name,
            addresses=_addresses(obj.addresses),
            listeners=tuple(_listener(each) for each in obj.listeners) or None,
        ),
        _gateway_status(obj.status) if obj.status != GatewayStatus() else None,
    )


def _parent_ref(ref: ParentRef) -> structs.ParentRef:
    return structs.ParentRef(
        name=ref.name,
        namespace=ref.namespace or None,
        group=None if ref.group == GATEWAY_GROUP else ref.group,
        kind=None if ref.kind == "Gateway" else ref.kind,
        section_name=ref.section_name or None,
        port=ref.port,
    )


def _route_status(status: RouteStatus) -> structs.RouteStatus:
    return structs.RouteStatus(status.pods or None, _conditions(status.conditions))


def _route(obj: GKEIPRoute) -> structs.RouteObject:
    balancing = obj.load_balancing
    return structs.RouteObject(
        _meta(obj.meta),
        structs.RouteSpec(
            parent_refs=tuple(_parent_ref(each) for each in obj.parent_refs) or None,
            addresses=_addresses(obj.addresses),
            pod_selector=selector_from_model(obj.pod_selector),
            network=obj.network,
            reaction_mode=obj.reaction_mode,
            node_selector=_optional_selector(obj.node_selector),
            load_balancing=(
                structs.LoadBalancing(balancing.health_check_name, _optional_selector(balancing.standby_pod_selector))
                if balancing
                else None
            ),
            allow_global_access=obj.allow_global_access,
            ha_policy=obj.ha_policy,
        ),
        _route_status(obj.status) if obj.status != RouteStatus() else None,
    )


def _reference(reference: Reference) -> structs.Reference:
    return structs.Reference(reference.name, reference.uid, reference.namespace or None)


def _release(release: Release) -> structs.Release:
    return structs.Release(
        prefixes=tuple(str(prefix) for prefix in release.prefixes),
        pod=structs.HolderPod(release.pod_name, release.pod_uid),
        node_name=release.node_name,
        how=release.how,
        epoch=release.epoch,
        since=from_seconds(release.since_at),
        node_uid=release.node_uid,
    )


def _attachment_spec(spec: AttachmentSpec) -> structs.AttachmentSpec:
    holder = spec.holder
    return structs.AttachmentSpec(
        route_ref=_reference(spec.route),
        epoch=spec.epoch,
        mode=spec.mode,
        strategy=spec.strategy or None,
        network=spec.network,
        addresses=tuple(
            structs.AttachedAddress(str(each.prefix), _reference(each.gateway), each.pending) for each in spec.addresses
        )
        or None,
        pod=(
            structs.HolderPod(holder.pod_name, holder.pod_uid, tuple(str(ip) for ip in holder.pod_ips) or None)
            if holder
            else None
        ),
        node_name=holder.node_name if holder else None,
        node_uid=holder.node_uid if holder else None,
        pod_address=spec.pod_address,
        flows=spec.flows,
        releasing=tuple(_release(each) for each in spec.releasing) or None,
        prepared=tuple(structs.Prepared(each.node_name, str(each.ip)) for each in spec.prepared) or None,
        damped=structs.Damped(from_seconds(spec.damped.until_at), spec.damped.pod_uid) if spec.damped else None,
    )


def _node_report(report: NodeReport) -> structs.NodeReport:
    return structs.NodeReport(
        node_name=report.node_name,
        epoch=report.epoch,
        state=report.state,
        released=report.released,
        reason=report.reason or None,
        message=report.message or None,
        at=from_seconds(report.at) if report.at else None,
    )


def _attachment(obj: AddressAttachment) -> structs.AttachmentObject:
    return structs.AttachmentObject(
        _meta(obj.meta),
        _attachment_spec(obj.spec),
        structs.AttachmentStatus(tuple(_node_report(each) for each in obj.nodes)) if obj.nodes else None,
    )


def _ready(ready: bool, at: float = 0.0) -> tuple[surroundings.PodCondition, ...]:
    return (
        surroundings.PodCondition(
            "Ready", Status.TRUE if ready else Status.FALSE, from_whole_seconds(at) if at else None
        ),
    )


def _pod(obj: Pod) -> surroundings.PodObject:
    return surroundings.PodObject(
        _meta(obj.meta),
        surroundings.PodSpec(node_name=obj.node_name or None, host_network=obj.host_network or None),
        surroundings.PodStatus(
            phase=obj.phase,
            pod_ip=str(obj.ips[0]) if obj.ips else None,
            pod_ips=tuple(surroundings.PodIP(str(ip)) for ip in obj.ips) or None,
            conditions=_ready(obj.ready, obj.ready_at),
        ),
    )


def _node(obj: Node) -> surroundings.NodeObject:
    return surroundings.NodeObject(
        _meta(obj.meta),
        surroundings.NodeSpec(
            pod_cidr=str(obj.pod_cidrs[0]) if obj.pod_cidrs else None,
            pod_cidrs=tuple(str(each) for each in obj.pod_cidrs) or None,
            taints=(surroundings.Taint(OUT_OF_SERVICE_TAINT, "NoExecute"),) if obj.out_of_service else None,
        ),
        surroundings.NodeStatus(
            addresses=tuple(surroundings.NodeAddress("InternalIP", str(ip)) for ip in obj.ips) or None,
            conditions=_ready(obj.ready),
        ),
    )


def _namespace(obj: Namespace) -> surroundings.NamespaceObject:
    return surroundings.NamespaceObject(_meta(obj.meta))


def _config_map(obj: ConfigMap) -> surroundings.ConfigMapObject:
    return surroundings.ConfigMapObject(_meta(obj.meta), dict(obj.data) or None)


def _network(obj: Network) -> surroundings.NetworkObject:
    return surroundings.NetworkObject(
        _meta(obj.meta),
        surroundings.NetworkSpec(type=obj.type, parameters_ref=_parameters_ref(obj.parameters_ref)),
        structs.ConditionsStatus(_readiness(obj.ready, obj.message)),
    )


def _param_set(obj: GKENetworkParamSet) -> surroundings.ParamSetObject:
    return surroundings.ParamSetObject(
        _meta(obj.meta),
        surroundings.ParamSetSpec(
            vpc=obj.vpc or None,
            vpc_subnet=obj.vpc_subnet or None,
            pod_ranges=surroundings.PodRanges(obj.pod_ranges) if obj.pod_ranges else None,
            device_mode=obj.device_mode or None,
        ),
        surroundings.ParamSetStatus(_readiness(obj.ready, obj.message)),
    )


def _readiness(ready: bool, message: str) -> tuple[structs.Condition, ...]:
    """The reason and the message in one."""
    return (structs.Condition("Ready", Status.TRUE if ready else Status.FALSE, reason=message or None),)


def _service(obj: Service) -> surroundings.ServiceObject:
    ips = tuple(str(ip) for ip in obj.ips)
    return surroundings.ServiceObject(_meta(obj.meta), surroundings.ServiceSpec(ips or None))


def _service_cidr(obj: ServiceCIDR) -> surroundings.ServiceCIDRObject:
    cidrs = tuple(str(each) for each in obj.cidrs)
    return surroundings.ServiceCIDRObject(_meta(obj.meta), surroundings.ServiceCIDRSpec(cidrs or None))


def _definition(obj: CustomResourceDefinition) -> surroundings.DefinitionObject:
    return surroundings.DefinitionObject(_meta(obj.meta))


_ENCODERS: dict[Kind, Callable[[Any], structs.Wire]] = {
    Kind.GATEWAY_CLASS: _gateway_class,
    Kind.GATEWAY: _gateway,
    Kind.ROUTE: _route,
    Kind.ATTACHMENT: _attachment,
    Kind.POD: _pod,
    Kind.NODE: _node,
    Kind.NAMESPACE: _namespace,
    Kind.CONFIG_MAP: _config_map,
    Kind.NETWORK: _network,
    Kind.PARAM_SET: _param_set,
    Kind.SERVICE: _service,
    Kind.SERVICE_CIDR: _service_cidr,
    Kind.DEFINITION: _definition,
}
