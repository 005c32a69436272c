"""
What do the objects say whose spec or status we write: GatewayClass, Gateway, GKEIPRoute, AddressAttachment?

In: structs of the wire.  Out: model objects, with the defaults of their CRD, or ``FieldError``.
"""

from __future__ import annotations

from persistip.model.attachment import (
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Damped,
    Holder,
    How,
    NodeReport,
    NodeStateName,
    Prepared,
    Reference,
    Release,
)
from persistip.model.gateway import From, Gateway, GatewayClass, GatewayStatus, Listener, ListenerStatus, Mode
from persistip.model.route import (
    DEFAULT_NETWORK,
    GATEWAY_GROUP,
    GKEIPRoute,
    LoadBalancing,
    ParentRef,
    ReactionModeName,
    RouteStatus,
)
from persistip.wire import structs
from persistip.wire.decode_values import (
    FieldError,
    optional_selector,
    read_addresses,
    read_conditions,
    read_ip,
    read_kinds,
    read_meta,
    read_parameters_ref,
    read_prefix,
    selector_to_model,
)
from persistip.wire.times import to_seconds


def read_gateway_class(wire: structs.GatewayClassObject) -> GatewayClass:
    """With the conditions as they stand."""
    return GatewayClass(
        meta=read_meta(wire.metadata),
        controller_name=wire.spec.controller_name,
        parameters_ref=read_parameters_ref(wire.spec.parameters_ref),
        conditions=read_conditions(wire.status.conditions) if wire.status else (),
    )


def _listener(wire: structs.Listener) -> Listener:
    allowed = wire.allowed_routes or structs.AllowedRoutes()
    namespaces = allowed.namespaces or structs.RouteNamespaces()
    return Listener(
        name=wire.name,
        port=1 if wire.port is None else wire.port,
        protocol="none" if wire.protocol is None else wire.protocol,
        namespaces_from=From.SAME if namespaces.from_ is None else namespaces.from_,
        namespace_selector=optional_selector(namespaces.selector),
        kinds=read_kinds(allowed.kinds),
    )


def read_gateway(wire: structs.GatewayObject) -> Gateway:
    """Its listeners with the defaults of Gateway API."""
    status = wire.status or structs.GatewayStatus()
    return Gateway(
        meta=read_meta(wire.metadata),
        class_name=wire.spec.gateway_class_name,
        addresses=read_addresses(wire.spec.addresses),
        listeners=tuple(_listener(each) for each in wire.spec.listeners or ()),
        status=GatewayStatus(
            addresses=read_addresses(status.addresses),
            conditions=read_conditions(status.conditions),
            listeners=tuple(
                ListenerStatus(
                    name=each.name,
                    supported_kinds=read_kinds(each.supported_kinds),
                    attached_routes=each.attached_routes or 0,
                    conditions=read_conditions(each.conditions),
                )
                for each in status.listeners or ()
            ),
        ),
    )


def _parent_ref(wire: structs.ParentRef) -> ParentRef:
    return ParentRef(
        name=wire.name,
        namespace=wire.namespace or "",
        group=GATEWAY_GROUP if wire.group is None else wire.group,
        kind="Gateway" if wire.kind is None else wire.kind,
        section_name=wire.section_name or "",
        port=wire.port,
    )


def read_route(wire: structs.RouteObject) -> GKEIPRoute:
    """With the defaults of GKE's API."""
    spec, status = wire.spec or structs.RouteSpec(), wire.status or structs.RouteStatus()
    balancing = spec.load_balancing
    return GKEIPRoute(
        meta=read_meta(wire.metadata),
        parent_refs=tuple(_parent_ref(each) for each in spec.parent_refs or ()),
        addresses=read_addresses(spec.addresses),
        pod_selector=selector_to_model(spec.pod_selector or structs.Selector()),
        network=DEFAULT_NETWORK if spec.network is None else spec.network,
        reaction_mode=ReactionModeName.READY_CONDITION if spec.reaction_mode is None else spec.reaction_mode,
        node_selector=optional_selector(spec.node_selector),
        load_balancing=(
            LoadBalancing(
                health_check_name=balancing.health_check_name,
                standby_pod_selector=optional_selector(balancing.standby_pod_selector),
            )
            if balancing
            else None
        ),
        allow_global_access=spec.allow_global_access,
        ha_policy=spec.ha_policy,
        status=RouteStatus(pods=status.pods or (), conditions=read_conditions(status.conditions)),
    )


# Looked up by value: before Python 3.12 a plain string is never `in` an Enum.
_HOWS = {how.value: how for how in How}
_MODES = {mode.value: mode for mode in Mode}


def _reference(wire: structs.Reference) -> Reference:
    return Reference(namespace=wire.namespace or "", name=wire.name, uid=wire.uid)


def _holder(spec: structs.AttachmentSpec) -> Holder | None:
    if spec.pod is None and spec.node_name is None and spec.node_uid is None:
        return None
    if spec.pod is None or spec.node_name is None or spec.node_uid is None:
        raise FieldError("spec", "pod, nodeName and nodeUID must be set together or not at all")
    return Holder(
        pod_name=spec.pod.name,
        pod_uid=spec.pod.uid,
        pod_ips=tuple(read_ip(text, f"spec.pod.ips[{index}]") for index, text in enumerate(spec.pod.ips or ())),
        node_name=spec.node_name,
        node_uid=spec.node_uid,
    )


def _release(wire: structs.Release, path: str) -> Release:
    how = _HOWS.get(wire.how)
    if how is None:
        raise FieldError(f"{path}.how", f"{wire.how!r} is not one of {', '.join(How)}")
    return Release(
        prefixes=tuple(read_prefix(text, f"{path}.prefixes[{index}]") for index, text in enumerate(wire.prefixes)),
        pod_name=wire.pod.name,
        pod_uid=wire.pod.uid,
        node_name=wire.node_name,
        node_uid=wire.node_uid,
        how=how,
        epoch=wire.epoch,
        since_at=to_seconds(wire.since),
    )


def _node_report(wire: structs.NodeReport) -> NodeReport:
    return NodeReport(
        node_name=wire.node_name,
        epoch=wire.epoch or 0,
        state=NodeStateName.IDLE if wire.state is None else wire.state,
        released=wire.released or 0,
        reason=wire.reason or "",
        message=wire.message or "",
        at=to_seconds(wire.at) if wire.at else 0.0,
    )


def read_attachment(wire: structs.AttachmentObject) -> AddressAttachment:
    """What only a newer version knows of its spec is not in it yet."""
    spec, status = wire.spec, wire.status or structs.AttachmentStatus()
    mode = Mode.STANDARD if spec.mode is None else spec.mode
    return AddressAttachment(
        meta=read_meta(wire.metadata),
        spec=AttachmentSpec(
            route=_reference(spec.route_ref),
            mode=_MODES.get(mode, mode),
            strategy=spec.strategy or "",
            network=DEFAULT_NETWORK if spec.network is None else spec.network,
            addresses=tuple(
                AttachedAddress(
                    prefix=read_prefix(each.prefix, f"spec.addresses[{index}].prefix"),
                    gateway=_reference(each.gateway_ref),
                    pending=each.pending,
                )
                for index, each in enumerate(spec.addresses or ())
            ),
            holder=_holder(spec),
            pod_address="app" if spec.pod_address is None else spec.pod_address,
            flows="keep" if spec.flows is None else spec.flows,
            releasing=tuple(
                _release(each, f"spec.releasing[{index}]") for index, each in enumerate(spec.releasing or ())
            ),
            prepared=tuple(
                Prepared(node_name=each.node_name, ip=read_ip(each.ip, f"spec.prepared[{index}].ip"))
                for index, each in enumerate(spec.prepared or ())
            ),
            damped=Damped(pod_uid=spec.damped.pod_uid, until_at=to_seconds(spec.damped.until)) if spec.damped else None,
            epoch=spec.epoch,
        ),
        nodes=tuple(_node_report(each) for each in status.nodes or ()),
    )
