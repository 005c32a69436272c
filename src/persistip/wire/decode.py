"""
What does an object of the API server say?

In: an object as JSON bytes or as plain dicts.  Out: a model object, or ``Unreadable`` with the field's path: one broken
object is a value like any other and never stops its neighbours. Unknown fields are ignored, absent ones get the
defaults of their CRD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_network
from sys import intern
from typing import Any

import attrs
import msgspec

from persistip.model.address import IP_ADDRESS, AddressSpec, IPAddress, Prefix, parse_ip
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
from persistip.model.conditions import Condition, Status
from persistip.model.definition import CustomResourceDefinition
from persistip.model.gateway import (
    ConfigMap,
    From,
    Gateway,
    GatewayClass,
    GatewayStatus,
    Listener,
    ListenerStatus,
    Mode,
    ParametersRef,
    RouteKind,
)
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.network import GKENetworkParamSet, Network, NetworkType
from persistip.model.node import OUT_OF_SERVICE_TAINT, Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import (
    DEFAULT_NETWORK,
    GATEWAY_GROUP,
    GKEIPRoute,
    LoadBalancing,
    ParentRef,
    ReactionModeName,
    RouteStatus,
)
from persistip.model.selector import LabelSelector, Requirement
from persistip.model.service import Service, ServiceCIDR
from persistip.strategies import ClusterObject
from persistip.wire import structs
from persistip.wire.times import to_seconds


@attrs.frozen
class Unreadable:
    """Why an object could not be decoded; ``path`` is the field's, such as ``spec.addresses[0].value``."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class _FieldError(ValueError):
    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def to_model(obj: Mapping[str, Any]) -> ClusterObject | Unreadable:
    """Decode an object that says its own kind."""
    kind = obj.get("kind")
    if not isinstance(kind, str) or kind not in _CODECS:
        return Unreadable("kind", f"{kind!r} is not one of {', '.join(_CODECS)}")
    struct, build = _CODECS[kind]
    found = _guarded(lambda: build(msgspec.convert(obj, struct)))
    return _with_unknown(found, obj["spec"]) if isinstance(found, AddressAttachment) else found


def decode_object(kind: Kind, data: bytes | msgspec.Raw) -> ClusterObject | Unreadable:
    """Decode one object of a known kind from JSON; items of a list need not name theirs."""
    _, build = _CODECS[kind]
    found = _guarded(lambda: build(_DECODERS[kind].decode(data)))
    return _with_unknown(found, _SPEC_DECODER.decode(data).spec) if isinstance(found, AddressAttachment) else found


def _with_unknown(attachment: AddressAttachment, spec: Mapping[str, Any]) -> AddressAttachment:
    """With the fields of the spec that only a newer version knows: a PUT that left them out would take them away."""
    unknown = tuple(
        (name, msgspec.json.encode(spec[name], order="sorted").decode())
        for name in sorted(spec.keys() - _SPEC_FIELDS)
        if spec[name] is not None
    )
    return attrs.evolve(attachment, spec=attrs.evolve(attachment.spec, unknown=unknown)) if unknown else attachment


def key_of(kind: Kind, obj: Mapping[str, Any]) -> ObjectKey | None:
    """The key of an object that may be unreadable otherwise; None when it has no usable name."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, Mapping):
        return None
    name, namespace = metadata.get("name"), metadata.get("namespace") or ""
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        return None
    return ObjectKey(kind, namespace, name)


def _guarded(build: Callable[[], ClusterObject]) -> ClusterObject | Unreadable:
    try:
        return build()
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        return Unreadable(path.removesuffix("`").removeprefix("."), message)
    except msgspec.DecodeError as error:
        return Unreadable("", f"is no JSON: {error}")
    except _FieldError as error:
        return Unreadable(error.path, str(error))


# Pods of one template have the same labels, those on a node its name, those of a namespace that: each is kept once.
@lru_cache(maxsize=4096)
def _shared(labels: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(labels)


def _meta(wire: structs.Meta) -> ObjectMeta:
    return ObjectMeta(
        name=wire.name,
        namespace=intern(wire.namespace or ""),
        uid=wire.uid or "",
        resource_version=wire.resource_version or "",
        generation=wire.generation or 0,
        created_at=to_seconds(wire.creation_timestamp) if wire.creation_timestamp else 0.0,
        deleted_at=to_seconds(wire.deletion_timestamp) if wire.deletion_timestamp else None,
        labels=_shared(tuple(wire.labels.items())) if wire.labels else {},
        annotations=wire.annotations or {},
        finalizers=wire.finalizers or (),
    )


def _ip(text: str, path: str) -> IPAddress:
    ip = parse_ip(text)
    if ip is None:
        raise _FieldError(path, f"{text!r} is not an IP address")
    return ip


def _prefix(text: str, path: str) -> Prefix:
    try:
        return ip_network(text)
    except ValueError as error:
        raise _FieldError(path, str(error)) from error


def _conditions(wires: Iterable[structs.Condition] | None) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            type=wire.type,
            status=wire.status,
            reason=wire.reason or "",
            message=wire.message or "",
            observed_generation=wire.observed_generation or 0,
            last_transition_at=to_seconds(wire.last_transition_time) if wire.last_transition_time else 0.0,
        )
        for wire in wires or ()
    )


def selector_to_model(wire: structs.Selector) -> LabelSelector:
    """Labels in the order of their keys, so that equal selectors are equal values."""
    return LabelSelector(
        tuple(sorted((wire.match_labels or {}).items())),
        tuple(Requirement(each.key, each.operator, each.values or ()) for each in wire.match_expressions or ()),
    )


def _optional_selector(wire: structs.Selector | None) -> LabelSelector | None:
    return None if wire is None else selector_to_model(wire)


def _addresses(wires: Iterable[structs.Address] | None) -> tuple[AddressSpec, ...]:
    return tuple(AddressSpec(wire.type or IP_ADDRESS, wire.value or "") for wire in wires or ())


def _kinds(wires: Iterable[structs.RouteKind] | None) -> tuple[RouteKind, ...]:
    return tuple(RouteKind(GATEWAY_GROUP if wire.group is None else wire.group, wire.kind) for wire in wires or ())


def _parameters_ref(wire: structs.ParametersRef | None) -> ParametersRef | None:
    return ParametersRef(wire.group, wire.kind, wire.name, wire.namespace or "") if wire is not None else None


def _gateway_class(wire: structs.GatewayClassObject) -> GatewayClass:
    return GatewayClass(
        meta=_meta(wire.metadata),
        controller_name=wire.spec.controller_name,
        parameters_ref=_parameters_ref(wire.spec.parameters_ref),
        conditions=_conditions(wire.status.conditions) if wire.status else (),
    )


def _listener(wire: structs.Listener) -> Listener:
    allowed = wire.allowed_routes or structs.AllowedRoutes()
    namespaces = allowed.namespaces or structs.RouteNamespaces()
    return Listener(
        name=wire.name,
        port=1 if wire.port is None else wire.port,
        protocol="none" if wire.protocol is None else wire.protocol,
        namespaces_from=From.SAME if namespaces.from_ is None else namespaces.from_,
        namespace_selector=_optional_selector(namespaces.selector),
        kinds=_kinds(allowed.kinds),
    )


def _gateway(wire: structs.GatewayObject) -> Gateway:
    status = wire.status or structs.GatewayStatus()
    return Gateway(
        meta=_meta(wire.metadata),
        class_name=wire.spec.gateway_class_name,
        addresses=_addresses(wire.spec.addresses),
        listeners=tuple(_listener(each) for each in wire.spec.listeners or ()),
        status=GatewayStatus(
            addresses=_addresses(status.addresses),
            conditions=_conditions(status.conditions),
            listeners=tuple(
                ListenerStatus(
                    name=each.name,
                    supported_kinds=_kinds(each.supported_kinds),
                    attached_routes=each.attached_routes or 0,
                    conditions=_conditions(each.conditions),
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


def _route(wire: structs.RouteObject) -> GKEIPRoute:
    spec, status = wire.spec or structs.RouteSpec(), wire.status or structs.RouteStatus()
    balancing = spec.load_balancing
    return GKEIPRoute(
        meta=_meta(wire.metadata),
        parent_refs=tuple(_parent_ref(each) for each in spec.parent_refs or ()),
        addresses=_addresses(spec.addresses),
        pod_selector=selector_to_model(spec.pod_selector or structs.Selector()),
        network=DEFAULT_NETWORK if spec.network is None else spec.network,
        reaction_mode=ReactionModeName.READY_CONDITION if spec.reaction_mode is None else spec.reaction_mode,
        node_selector=_optional_selector(spec.node_selector),
        load_balancing=(
            LoadBalancing(
                health_check_name=balancing.health_check_name,
                standby_pod_selector=_optional_selector(balancing.standby_pod_selector),
            )
            if balancing
            else None
        ),
        allow_global_access=spec.allow_global_access,
        ha_policy=spec.ha_policy,
        status=RouteStatus(pods=status.pods or (), conditions=_conditions(status.conditions)),
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
        raise _FieldError("spec", "pod, nodeName and nodeUID must be set together or not at all")
    return Holder(
        pod_name=spec.pod.name,
        pod_uid=spec.pod.uid,
        pod_ips=tuple(_ip(text, f"spec.pod.ips[{index}]") for index, text in enumerate(spec.pod.ips or ())),
        node_name=spec.node_name,
        node_uid=spec.node_uid,
    )


def _release(wire: structs.Release, path: str) -> Release:
    how = _HOWS.get(wire.how)
    if how is None:
        raise _FieldError(f"{path}.how", f"{wire.how!r} is not one of {', '.join(How)}")
    return Release(
        prefixes=tuple(_prefix(text, f"{path}.prefixes[{index}]") for index, text in enumerate(wire.prefixes)),
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


def _attachment(wire: structs.AttachmentObject) -> AddressAttachment:
    spec, status = wire.spec, wire.status or structs.AttachmentStatus()
    mode = Mode.STANDARD if spec.mode is None else spec.mode
    return AddressAttachment(
        meta=_meta(wire.metadata),
        spec=AttachmentSpec(
            route=_reference(spec.route_ref),
            mode=_MODES.get(mode, mode),
            strategy=spec.strategy or "",
            network=DEFAULT_NETWORK if spec.network is None else spec.network,
            addresses=tuple(
                AttachedAddress(
                    prefix=_prefix(each.prefix, f"spec.addresses[{index}].prefix"),
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
                Prepared(node_name=each.node_name, ip=_ip(each.ip, f"spec.prepared[{index}].ip"))
                for index, each in enumerate(spec.prepared or ())
            ),
            damped=Damped(pod_uid=spec.damped.pod_uid, until_at=to_seconds(spec.damped.until)) if spec.damped else None,
            epoch=spec.epoch,
        ),
        nodes=tuple(_node_report(each) for each in status.nodes or ()),
    )


def _ready(conditions: Iterable[structs.PodCondition] | None) -> structs.PodCondition | None:
    return next((each for each in conditions or () if each.type == "Ready"), None)


def _pod(wire: structs.PodObject) -> Pod:
    spec, status = wire.spec or structs.PodSpec(), wire.status or structs.PodStatus()
    # podIPs holds podIP too wherever both are written; old servers write podIP alone.
    texts = [each.ip for each in status.pod_ips or () if each.ip] or ([status.pod_ip] if status.pod_ip else [])
    ready = _ready(status.conditions)
    return Pod(
        meta=_meta(wire.metadata),
        node_name=intern(spec.node_name or ""),
        phase=intern(status.phase or "Pending"),
        ips=tuple(_ip(text, f"status.podIPs[{index}].ip") for index, text in enumerate(texts)),
        host_network=bool(spec.host_network),
        ready=ready is not None and ready.status == Status.TRUE,
        ready_at=to_seconds(ready.last_transition_time) if ready and ready.last_transition_time else 0.0,
    )


_OWN_ADDRESSES = frozenset({"InternalIP", "ExternalIP"})


def _node(wire: structs.NodeObject) -> Node:
    spec, status = wire.spec or structs.NodeSpec(), wire.status or structs.NodeStatus()
    ready = _ready(status.conditions)
    return Node(
        meta=_meta(wire.metadata),
        ips=tuple(
            _ip(each.address, f"status.addresses[{index}].address")
            for index, each in enumerate(status.addresses or ())
            if each.type in _OWN_ADDRESSES
        ),
        pod_cidrs=tuple(
            _prefix(text, f"spec.podCIDRs[{index}]")
            for index, text in enumerate(spec.pod_cidrs or ((spec.pod_cidr,) if spec.pod_cidr else ()))
        ),
        ready=ready is not None and ready.status == Status.TRUE,
        out_of_service=any(each.key == OUT_OF_SERVICE_TAINT for each in spec.taints or ()),
    )


def _namespace(wire: structs.NamespaceObject) -> Namespace:
    return Namespace(_meta(wire.metadata))


def _config_map(wire: structs.ConfigMapObject) -> ConfigMap:
    return ConfigMap(_meta(wire.metadata), tuple(sorted((wire.data or {}).items())))


def _network(wire: structs.NetworkObject) -> Network:
    ready, message = _readiness(wire.status.conditions if wire.status else None)
    return Network(
        meta=_meta(wire.metadata),
        type=NetworkType.L3 if wire.spec.type is None else wire.spec.type,
        parameters_ref=_parameters_ref(wire.spec.parameters_ref),
        ready=ready,
        message=message,
    )


def _param_set(wire: structs.ParamSetObject) -> GKENetworkParamSet:
    spec = wire.spec or structs.ParamSetSpec()
    ready, message = _readiness(wire.status.conditions if wire.status else None)
    return GKENetworkParamSet(
        meta=_meta(wire.metadata),
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


def _service(wire: structs.ServiceObject) -> Service:
    external = (wire.spec.external_ips if wire.spec else None) or ()
    balancer = wire.status.load_balancer if wire.status else None
    given = tuple(each.ip for each in (balancer.ingress if balancer else None) or () if each.ip)
    ips = [_ip(text, f"spec.externalIPs[{index}]") for index, text in enumerate(external)]
    ips += [_ip(text, f"status.loadBalancer.ingress[{index}].ip") for index, text in enumerate(given)]
    return Service(meta=_meta(wire.metadata), ips=tuple(dict.fromkeys(ips)))


def _service_cidr(wire: structs.ServiceCIDRObject) -> ServiceCIDR:
    cidrs = (wire.spec.cidrs if wire.spec else None) or ()
    prefixes = tuple(_prefix(text, f"spec.cidrs[{index}]") for index, text in enumerate(cidrs))
    return ServiceCIDR(meta=_meta(wire.metadata), cidrs=prefixes)


def _definition(wire: structs.DefinitionObject) -> CustomResourceDefinition:
    return CustomResourceDefinition(_meta(wire.metadata))


_CODECS: dict[str, tuple[type[structs.Wire], Callable[[Any], ClusterObject]]] = {
    Kind.GATEWAY_CLASS: (structs.GatewayClassObject, _gateway_class),
    Kind.GATEWAY: (structs.GatewayObject, _gateway),
    Kind.ROUTE: (structs.RouteObject, _route),
    Kind.ATTACHMENT: (structs.AttachmentObject, _attachment),
    Kind.POD: (structs.PodObject, _pod),
    Kind.NODE: (structs.NodeObject, _node),
    Kind.NAMESPACE: (structs.NamespaceObject, _namespace),
    Kind.CONFIG_MAP: (structs.ConfigMapObject, _config_map),
    Kind.NETWORK: (structs.NetworkObject, _network),
    Kind.PARAM_SET: (structs.ParamSetObject, _param_set),
    Kind.SERVICE: (structs.ServiceObject, _service),
    Kind.SERVICE_CIDR: (structs.ServiceCIDRObject, _service_cidr),
    Kind.DEFINITION: (structs.DefinitionObject, _definition),
}


class _OnlySpec(structs.Wire):
    spec: dict[str, Any]


_SPEC_FIELDS = frozenset(structs.AttachmentSpec.__struct_encode_fields__)
_SPEC_DECODER = msgspec.json.Decoder(_OnlySpec)
_DECODERS = {kind: msgspec.json.Decoder(struct) for kind, (struct, _) in _CODECS.items()}


class _ListMeta(structs.Wire):
    resource_version: str = ""
    continue_: str | None = msgspec.field(default=None, name="continue")


class _List(structs.Wire):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


class _Event(structs.Wire):
    type: str
    object: msgspec.Raw


class _OnlyMeta(structs.Wire):
    metadata: structs.Meta


_LIST_DECODER = msgspec.json.Decoder(_List)
_EVENT_DECODER = msgspec.json.Decoder(_Event)
_META_DECODER = msgspec.json.Decoder(dict[str, Any])


@attrs.frozen(kw_only=True)
class DecodedList:
    """One page of a list; each item with its key (None: no usable name) and what it decoded to."""

    items: tuple[tuple[ObjectKey | None, ClusterObject | Unreadable], ...]
    resource_version: str
    continue_token: str


@attrs.frozen(kw_only=True)
class DecodedEvent:
    """One line of a watch; ``raw`` is the object's JSON, for BOOKMARK and ERROR."""

    type: str
    key: ObjectKey | None
    value: ClusterObject | Unreadable
    raw: bytes


def _with_key(kind: Kind, raw: msgspec.Raw) -> tuple[ObjectKey | None, ClusterObject | Unreadable]:
    value = decode_object(kind, raw)
    if not isinstance(value, Unreadable):
        return value.key, value
    try:
        return key_of(kind, _META_DECODER.decode(raw)), value
    except msgspec.MsgspecError:
        return None, value


def decode_list(kind: Kind, data: bytes) -> DecodedList:
    """Decode a list response item by item, so that one unreadable item is one unreadable item."""
    page = _LIST_DECODER.decode(data)
    return DecodedList(
        items=tuple(_with_key(kind, raw) for raw in page.items or ()),
        resource_version=page.metadata.resource_version,
        continue_token=page.metadata.continue_ or "",
    )


def decode_event(kind: Kind, line: bytes) -> DecodedEvent:
    """Decode one line of a watch response."""
    event = _EVENT_DECODER.decode(line)
    key, value = _with_key(kind, event.object)
    return DecodedEvent(type=event.type, key=key, value=value, raw=bytes(event.object))
