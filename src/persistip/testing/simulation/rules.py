"""
Who may have which address, said a second time and in another way?

In: the objects as they stand.  Out: what SPEC says of them, without any code of ``persistip.decide``: a mistake there
must not hide itself. Only as much as the simulation's own objects need: two classes, listeners by namespace, two
modes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import ip_network
from itertools import combinations

from persistip.model.address import AddressSpec, Prefix, is_overlapping, overlap
from persistip.model.attachment import AddressAttachment
from persistip.model.gateway import ConfigMap, From, Gateway
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.service import Service
from persistip.strategies import ClusterObject, ReactionMode
from persistip.testing.simulation.site import CLASSES, LABEL, SYSTEM

Objects = Mapping[ObjectKey, ClusterObject]


def prefixes_of(addresses: Iterable[AddressSpec]) -> frozenset[Prefix]:
    """What is listed."""
    return frozenset(_network(each.value) for each in addresses)


_network = cache(ip_network)


def parents_of(objects: Objects, route: GKEIPRoute) -> list[Gateway]:
    """The Gateways that a route names and that are ours."""
    found = (objects.get(ObjectKey(Kind.GATEWAY, ref.namespace, ref.name)) for ref in route.parent_refs)
    return [each for each in found if isinstance(each, Gateway) and each.class_name in CLASSES]


def class_of(objects: Objects, route: GKEIPRoute) -> str:
    """The class of the parents that admit a route; empty where there is none, or more than one."""
    found = {each.class_name for each in admitting(objects, route)}
    return found.pop() if len(found) == 1 else ""


def admitting(objects: Objects, route: GKEIPRoute) -> list[Gateway]:
    """The Gateways of ours that a route names and that admit its namespace."""
    return [each for each in parents_of(objects, route) if is_open(each) or is_labelled(objects, route.meta.namespace)]


def lists(gateway: Gateway, prefix: Prefix) -> bool:
    """Whether a prefix is in a Gateway's pool."""
    pool = prefixes_of(gateway.addresses)
    return any(prefix.version == each.version and prefix.subnet_of(each) for each in pool)  # type: ignore[arg-type]


def is_open(gateway: Gateway) -> bool:
    """Whether a Gateway admits every namespace."""
    return any(each.namespaces_from == From.ALL for each in gateway.listeners)


def is_labelled(objects: Objects, namespace: str) -> bool:
    """Whether a namespace carries the label by which Gateways admit."""
    found = objects.get(ObjectKey(Kind.NAMESPACE, "", namespace))
    return isinstance(found, Namespace) and found.meta.labels.get(LABEL) == "yes"


def owner_of(objects: Objects, prefix: Prefix) -> Gateway | None:
    """The Gateway to which a prefix belongs: through which some of it is attached, else the oldest, else by name."""
    ours = (each for each in objects.values() if isinstance(each, Gateway) and each.class_name in CLASSES)
    listing = [each for each in ours if any(is_overlapping(prefix, own) for own in prefixes_of(each.addresses))]
    if len(listing) < 2:
        return next(iter(listing), None)
    through = {
        held.gateway.uid
        for each in objects.values()
        if isinstance(each, AddressAttachment)
        for held in each.spec.addresses
        if is_overlapping(held.prefix, prefix)
    }
    return min(listing, key=lambda each: (each.meta.uid not in through, each.meta.created_at, each.meta.name))


def is_granted(objects: Objects, route: GKEIPRoute, prefix: Prefix) -> bool:
    """Whether a Gateway that a route names has a prefix and admits the route, other routes apart."""
    owner = owner_of(objects, prefix)
    return any(lists(each, prefix) and each is owner for each in admitting(objects, route))


def is_service_first(objects: Objects, route: GKEIPRoute) -> bool:
    """Whether a Service that is not younger than a route has an address of its."""
    return any(
        each.meta.created_at <= route.meta.created_at and is_overlapping(ip_network(ip), prefix)
        for each in objects.values()
        if isinstance(each, Service)
        for ip in each.ips
        for prefix in prefixes_of(route.addresses)
    )


def suspected(objects: Objects) -> frozenset[str]:
    """The UIDs of the Nodes that are recorded as dead."""
    found = objects.get(ObjectKey(Kind.CONFIG_MAP, SYSTEM, "persistip-suspects"))
    return frozenset(value.split()[0] for _, value in found.data) if isinstance(found, ConfigMap) else frozenset()


def is_accepted(objects: Objects, route: GKEIPRoute) -> bool:
    """Whether every address of a route is granted to it, by Gateways of one class, other routes apart."""
    is_of_class = bool(route.addresses and class_of(objects, route))
    return is_of_class and all(is_granted(objects, route, prefix) for prefix in prefixes_of(route.addresses))


def winners(objects: Objects) -> frozenset[ObjectKey]:
    """
    The routes that must come to have all they list: accepted, and first among those that list any of it.

    What another route's attachment names is that route's, whatever else is true: the incumbent keeps it. Of free
    addresses the first in order takes all it lists, or nothing: whoever has something already that others list, then
    the oldest, then by name.
    """
    attached: dict[ObjectKey, tuple[str, frozenset[Prefix]]] = {
        each.route_key: (each.spec.route.uid, frozenset(address.prefix for address in each.spec.addresses))
        for each in objects.values()
        if isinstance(each, AddressAttachment) and not each.meta.is_terminating
    }
    listed = {
        each.key: prefixes_of(each.addresses)
        for each in objects.values()
        if isinstance(each, GKEIPRoute) and is_accepted(objects, each) and not is_service_first(objects, each)
    }
    listed = {key: prefixes for key, prefixes in listed.items() if not _overlaps_itself(prefixes)}

    def others(key: ObjectKey, of: Mapping[ObjectKey, frozenset[Prefix]]) -> frozenset[Prefix]:
        return frozenset(prefix for each, prefixes in of.items() if each != key for prefix in prefixes)

    has = {key: prefixes for key, (_, prefixes) in attached.items()}

    def rank(key: ObjectKey) -> tuple[bool, float, str]:
        route, (uid, own) = objects[key], attached.get(key, ("", frozenset()))
        is_incumbent = route.meta.uid == uid and overlap(own, others(key, listed)) is not None
        return not is_incumbent, route.meta.created_at, key.path

    won: dict[ObjectKey, frozenset[Prefix]] = {}
    for key in sorted(listed, key=rank):
        if overlap(listed[key], (*others(key, won), *others(key, has))) is None:
            won[key] = listed[key]
    return frozenset(won)


def _overlaps_itself(prefixes: Iterable[Prefix]) -> bool:
    return any(is_overlapping(one, two) for one, two in combinations(prefixes, 2))


def is_frozen(route: GKEIPRoute) -> bool:
    """Whether a route's choice of Pod is frozen."""
    return route.meta.annotations.get("persistip.dev/hold") == "true"


def is_gone(objects: Objects, name: str, uid: str) -> bool:
    """Whether a Node is gone by its object or by the administrator's word."""
    node = objects.get(ObjectKey(Kind.NODE, "", name))
    return not isinstance(node, Node) or node.meta.uid != uid or node.out_of_service


def candidates(objects: Objects, route: GKEIPRoute, modes: Mapping[str, ReactionMode]) -> list[Pod]:
    """The Pods that may hold a route's addresses, by name."""
    families = {prefix.version for prefix in prefixes_of(route.addresses)}
    suspects = suspected(objects)
    plugged = modes.get(route.meta.annotations.get("persistip.dev/reaction-mode", ""))
    found = []
    for key in sorted(objects):
        pod = objects[key]
        if not isinstance(pod, Pod) or pod.meta.namespace != route.meta.namespace:
            continue
        node = objects.get(ObjectKey(Kind.NODE, "", pod.node_name))
        admitted = pod.ready if route.reaction_mode == "ReadyCondition" else True
        if plugged is not None:
            admitted = plugged.refusal(pod) is None
        if (
            admitted
            and route.pod_selector.matches(pod.meta.labels)
            and not pod.meta.is_terminating
            and isinstance(node, Node)
            and not node.out_of_service
            and node.meta.uid not in suspects
            and families <= {ip.version for ip in pod.ips}
        ):
            found.append(pod)
    return found
