"""
What do the parts say that many objects have: metadata, conditions, selectors, IPs and prefixes?

In: structs of the wire.  Out: model values, or ``FieldError`` with the field's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_network
from sys import intern

from persistip.model.address import IP_ADDRESS, AddressSpec, IPAddress, Prefix, parse_ip
from persistip.model.conditions import Condition
from persistip.model.gateway import ParametersRef, RouteKind
from persistip.model.keys import ObjectMeta
from persistip.model.route import GATEWAY_GROUP
from persistip.model.selector import LabelSelector, Requirement
from persistip.wire import structs
from persistip.wire.times import to_seconds


class FieldError(ValueError):
    """A field that says nothing usable; ``path`` is such as ``spec.addresses[0].value``."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


# Pods of one template have the same labels, those on a node its name, those of a namespace that: each is kept once.
@lru_cache(maxsize=4096)
def _shared(labels: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(labels)


_NONE: Mapping[str, str] = {}


def read_meta(wire: structs.Meta) -> ObjectMeta:
    """Absent fields are empty; equal labels are one object in memory."""
    return ObjectMeta(
        name=wire.name,
        namespace=intern(wire.namespace or ""),
        uid=wire.uid or "",
        resource_version=wire.resource_version or "",
        generation=wire.generation or 0,
        created_at=to_seconds(wire.creation_timestamp) if wire.creation_timestamp else 0.0,
        deleted_at=to_seconds(wire.deletion_timestamp) if wire.deletion_timestamp else None,
        labels=_shared(tuple(wire.labels.items())) if wire.labels else _NONE,
        annotations=wire.annotations or _NONE,
        finalizers=wire.finalizers or (),
    )


def read_ip(text: str, path: str) -> IPAddress:
    """The IP that *text* writes; *path* is where it stands."""
    ip = parse_ip(text)
    if ip is None:
        raise FieldError(path, f"{text!r} is not an IP address")
    return ip


def read_prefix(text: str, path: str) -> Prefix:
    """The network that *text* writes; *path* is where it stands."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise FieldError(path, str(error)) from error


# What Go's parser took before Kubernetes 1.36 was strict: "010.0.1.0" is 10.0.1.0 to it.
_LEADING_ZEROS = re.compile(r"(?<![0-9a-fA-F:])0+(?=[0-9])")


def read_range(text: str, path: str) -> Prefix:
    """
    The network that a range of a cluster writes, as API servers have taken it: host bits are masked.

    They stand in Nodes that exist and run; what is claimed by us is read with ``read_prefix``.
    """
    plain = text if ":" in text else _LEADING_ZEROS.sub("", text)
    try:
        return ip_network(plain, strict=False)
    except ValueError as error:
        raise FieldError(path, str(error)) from error


def read_conditions(wires: Iterable[structs.Condition] | None) -> tuple[Condition, ...]:
    """In the order of the object."""
    return tuple(
        Condition(
            type=intern(wire.type),
            status=intern(wire.status),
            reason=intern(wire.reason or ""),
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


def optional_selector(wire: structs.Selector | None) -> LabelSelector | None:
    """None, which differs from a selector of everything, stays None."""
    return None if wire is None else selector_to_model(wire)


def read_addresses(wires: Iterable[structs.Address] | None) -> tuple[AddressSpec, ...]:
    """Without a type an address is an IP, which is Gateway API's default."""
    return tuple(AddressSpec(wire.type or IP_ADDRESS, wire.value or "") for wire in wires or ())


def read_kinds(wires: Iterable[structs.RouteKind] | None) -> tuple[RouteKind, ...]:
    """Without a group a kind is Gateway API's."""
    return tuple(RouteKind(GATEWAY_GROUP if wire.group is None else wire.group, wire.kind) for wire in wires or ())


def read_parameters_ref(wire: structs.ParametersRef | None) -> ParametersRef | None:
    """What a class or network is configured by, if anything."""
    return ParametersRef(wire.group, wire.kind, wire.name, wire.namespace or "") if wire is not None else None
