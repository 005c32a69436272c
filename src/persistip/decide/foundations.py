"""
What does the decision about an object rest on?

In: an object as it is.  Out: the keys of others that it names, the ranges that it takes, and whether a change of it
says anything to others. No index and no rule: ``reach.py`` asks these questions the other way round.
"""

from __future__ import annotations

from ipaddress import ip_network

from persistip.model.address import Prefix
from persistip.model.attachment import AddressAttachment
from persistip.model.conditions import ConditionType, find_condition
from persistip.model.evolving import evolve
from persistip.model.gateway import Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node
from persistip.model.route import GATEWAY_GROUP, GKEIPRoute
from persistip.model.service import ServiceCIDR
from persistip.model.views import GatewayFacts, RouteFacts


def is_status_only(old: object, new: object) -> bool:
    """Whether an object changed in nothing but a status, or finalizers of a class, that no other plan reads."""
    if isinstance(old, Gateway) and isinstance(new, Gateway):
        return evolve(old, status=new.status) == new
    if isinstance(old, GatewayClass) and isinstance(new, GatewayClass):
        meta = evolve(old.meta, finalizers=new.meta.finalizers)
        return evolve(old, meta=meta, conditions=new.conditions) == new
    if not isinstance(old, GKEIPRoute) or not isinstance(new, GKEIPRoute):
        return False
    before, after = (find_condition(each.status.conditions, ConditionType.ACCEPTED) for each in (old, new))
    was, is_ = (each.status if each is not None else None for each in (before, after))
    return was == is_ and evolve(old, status=new.status) == new


def parents(route: GKEIPRoute) -> tuple[ObjectKey, ...]:
    """The Gateways that a route names."""
    return tuple(
        ObjectKey(Kind.GATEWAY, ref.namespace or route.meta.namespace, ref.name)
        if (ref.group, ref.kind) == (GATEWAY_GROUP, "Gateway")
        else ObjectKey(Kind.GATEWAY, "", f"{ref.kind}.{ref.group}")  # a key that no Gateway can have
        for ref in route.parent_refs
    )


def foundations_of_class(key: ObjectKey, found: GatewayClass | None) -> set[ObjectKey]:
    """The class and its parameters."""
    ref = found.parameters_ref if found is not None else None
    return {key} | ({ObjectKey(Kind.CONFIG_MAP, ref.namespace, ref.name)} if ref is not None else set())


def foundations_of_gateway(facts: GatewayFacts) -> set[ObjectKey]:
    """The Gateway, its class, and the parameters of that."""
    gateway = facts.gateway
    of = ObjectKey(Kind.GATEWAY_CLASS, "", gateway.class_name)
    return {gateway.key} | foundations_of_class(of, facts.gateway_class)


def foundations(facts: RouteFacts | None, attachment: AddressAttachment | None) -> set[ObjectKey]:
    """The keys of what the decision about a route rests on, beyond the route and its attachment themselves."""
    keys: set[ObjectKey] = set()
    if facts is not None:
        keys = {ObjectKey(Kind.NAMESPACE, "", facts.route.meta.namespace), *parents(facts.route)}
        for gateway in (parent.gateway for parent in facts.parents if parent.gateway is not None):
            keys |= foundations_of_gateway(gateway)
        keys.add(ObjectKey(Kind.NETWORK, "", facts.route.network_name))
    if attachment is not None:
        keys |= pods_of(attachment)
        keys |= {ObjectKey(Kind.NODE, "", name) for name in nodes_of(attachment)}
    return keys


def nodes_of(attachment: AddressAttachment) -> set[str]:
    """The nodes that an attachment concerns."""
    spec = attachment.spec
    names = {release.node_name for release in spec.releasing}
    return names | ({spec.holder.node_name} if spec.holder is not None else set())


def pod_uids(attachment: AddressAttachment) -> set[str]:
    """The Pods that an attachment names."""
    spec = attachment.spec
    uids = {release.pod_uid for release in spec.releasing}
    return uids | ({spec.holder.pod_uid} if spec.holder is not None else set())


def pods_of(attachment: AddressAttachment) -> set[ObjectKey]:
    """The keys of the Pods that an attachment names."""
    spec = attachment.spec
    names = {release.pod_name for release in spec.releasing}
    names |= {spec.holder.pod_name} if spec.holder is not None else set()
    return {ObjectKey(Kind.POD, spec.route.namespace, name) for name in names}


def ranges_of(found: object) -> frozenset[Prefix]:
    """A node's IPs and Pod ranges, or Service ranges."""
    match found:
        case Node():
            return frozenset(found.pod_cidrs) | {ip_network(ip) for ip in found.ips}
        case ServiceCIDR():
            return frozenset(found.cidrs)
        case _:
            return frozenset()
