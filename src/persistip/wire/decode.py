"""
What does an object of the API server say?

In: an object as JSON bytes or as plain dicts.  Out: a model object, or ``Unreadable`` with the field's path: one broken
object is a value like any other and never stops its neighbours. Unknown fields are ignored, absent ones get the
defaults of their CRD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import msgspec

from persistip.model.attachment import AddressAttachment
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import ClusterObject
from persistip.wire import structs, surroundings
from persistip.wire.decode_surroundings import (
    read_config_map,
    read_definition,
    read_namespace,
    read_network,
    read_node,
    read_param_set,
    read_pod,
    read_service,
    read_service_cidr,
)
from persistip.wire.decode_values import FieldError
from persistip.wire.decode_written import read_attachment, read_gateway, read_gateway_class, read_route

IsRead = Callable[[str], bool]
"""Whether anybody reads the annotation of that key."""


@attrs.frozen
class Unreadable:
    """Why an object could not be decoded; ``path`` is the field's, such as ``spec.addresses[0].value``."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def to_model(obj: Mapping[str, Any]) -> ClusterObject | Unreadable:
    """Decode an object that says its own kind."""
    kind = obj.get("kind")
    if not isinstance(kind, str) or kind not in _CODECS:
        return Unreadable("kind", f"{kind!r} is not one of {', '.join(_CODECS)}")
    struct, build = _CODECS[kind]
    found = _guarded(lambda: build(msgspec.convert(obj, struct)))
    return _with_unknown(found, obj["spec"]) if isinstance(found, AddressAttachment) else found


def decode_object(kind: Kind, data: bytes | msgspec.Raw, is_read: IsRead | None = None) -> ClusterObject | Unreadable:
    """
    Decode one object of a known kind from JSON; items of a list need not name theirs.

    Of a Pod or Node only those annotations are kept that *is_read* says yes to, where it is given: there are very many
    Pods, and others write long annotations on them.
    """
    _, build = _CODECS[kind]

    def read() -> ClusterObject:
        wire: Any = _DECODERS[kind].decode(data)
        if is_read is not None and kind in _ANNOTATED_BY_OTHERS and wire.metadata.annotations:
            wire.metadata.annotations = {key: it for key, it in wire.metadata.annotations.items() if is_read(key)}
        return build(wire)

    found = _guarded(read)
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
    except FieldError as error:
        return Unreadable(error.path, str(error))


_CODECS: dict[str, tuple[type[structs.Wire], Callable[[Any], ClusterObject]]] = {
    Kind.GATEWAY_CLASS: (structs.GatewayClassObject, read_gateway_class),
    Kind.GATEWAY: (structs.GatewayObject, read_gateway),
    Kind.ROUTE: (structs.RouteObject, read_route),
    Kind.ATTACHMENT: (structs.AttachmentObject, read_attachment),
    Kind.POD: (surroundings.PodObject, read_pod),
    Kind.NODE: (surroundings.NodeObject, read_node),
    Kind.NAMESPACE: (surroundings.NamespaceObject, read_namespace),
    Kind.CONFIG_MAP: (surroundings.ConfigMapObject, read_config_map),
    Kind.NETWORK: (surroundings.NetworkObject, read_network),
    Kind.PARAM_SET: (surroundings.ParamSetObject, read_param_set),
    Kind.SERVICE: (surroundings.ServiceObject, read_service),
    Kind.SERVICE_CIDR: (surroundings.ServiceCIDRObject, read_service_cidr),
    Kind.DEFINITION: (surroundings.DefinitionObject, read_definition),
}


_ANNOTATED_BY_OTHERS = frozenset({Kind.POD, Kind.NODE})


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


_LIST_DECODER = msgspec.json.Decoder(_List)
_EVENT_DECODER = msgspec.json.Decoder(_Event)
_META_DECODER = msgspec.json.Decoder(dict[str, Any])


@attrs.frozen(kw_only=True)
class DecodedList:
    """One page of a list; each item, decoded when it is taken, with its key (None: no usable name) and what it is."""

    items: Iterable[tuple[ObjectKey | None, ClusterObject | Unreadable]]
    resource_version: str
    continue_token: str


@attrs.frozen(kw_only=True)
class DecodedEvent:
    """One line of a watch; ``raw`` is the object's JSON, for BOOKMARK and ERROR."""

    type: str
    key: ObjectKey | None
    value: ClusterObject | Unreadable
    raw: bytes


def _with_key(
    kind: Kind, raw: msgspec.Raw, is_read: IsRead | None
) -> tuple[ObjectKey | None, ClusterObject | Unreadable]:
    value = decode_object(kind, raw, is_read)
    if not isinstance(value, Unreadable):
        return value.key, value
    try:
        return key_of(kind, _META_DECODER.decode(raw)), value
    except msgspec.MsgspecError:
        return None, value


def decode_list(kind: Kind, data: bytes, is_read: IsRead | None = None) -> DecodedList:
    """Decode a list response item by item, so that one unreadable item is one unreadable item."""
    page = _LIST_DECODER.decode(data)
    return DecodedList(
        items=(_with_key(kind, raw, is_read) for raw in page.items or ()),
        resource_version=page.metadata.resource_version,
        continue_token=page.metadata.continue_ or "",
    )


def decode_event(kind: Kind, line: bytes, is_read: IsRead | None = None) -> DecodedEvent:
    """Decode one line of a watch response."""
    event = _EVENT_DECODER.decode(line)
    key, value = _with_key(kind, event.object, is_read)
    return DecodedEvent(type=event.type, key=key, value=value, raw=bytes(event.object))
