"""
Which keys does a change of one object touch?

In: an object that came, changed or went.  Out: the keys whose plans may differ now. Indexes make the answer cost what
the change touches and not what the cluster holds.

    Pod ─> routes that select it, or hold it      Node ─> routes with a Pod or an attachment there
    Namespace, Gateway, class, ConfigMap ─> routes that rest on it      route, attachment ─> routes that overlap it
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import ip_network

import attrs

from persistip.decide.acceptance import claimed_prefixes
from persistip.decide.podindex import PodIndex
from persistip.decide.prefixes import PrefixIndex
from persistip.model.address import Prefix
from persistip.model.attachment import AddressAttachment
from persistip.model.conditions import ConditionType, find_condition
from persistip.model.gateway import ConfigMap, Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute


class Reach:
    """The indexes over a catalog's objects; ``objects`` is the catalog's own mapping, read and never changed here."""

    def __init__(self, objects: Mapping[ObjectKey, object]) -> None:
        self.objects = objects
        self.pods = PodIndex()
        self.claims: PrefixIndex[ObjectKey] = PrefixIndex()
        self.attached: PrefixIndex[ObjectKey] = PrefixIndex()
        self.of_kind: dict[str, set[ObjectKey]] = defaultdict(set)
        self.routes_in: dict[str, set[ObjectKey]] = defaultdict(set)
        self.routes_of_gateway: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self.gateways_of_class: dict[str, set[ObjectKey]] = defaultdict(set)
        self.classes_of_map: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self.attachments_of: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self.attachments_on: dict[str, set[ObjectKey]] = defaultdict(set)

    def index(self, key: ObjectKey, found: object, *, present: bool) -> None:
        """Put an object into the indexes, or take it out."""

        def mark(index: dict[str, set[ObjectKey]] | dict[ObjectKey, set[ObjectKey]], at: str | ObjectKey) -> None:
            _mark(index, at, key, present=present)  # type: ignore[arg-type]

        mark(self.of_kind, str(key.kind))
        match found:
            case Pod():
                self.pods.put(found) if present else self.pods.remove(found)
            case GKEIPRoute():
                mark(self.routes_in, found.meta.namespace)
                for gateway in parents(found):
                    mark(self.routes_of_gateway, gateway)
                for prefix in claimed_prefixes(found):
                    (self.claims.add if present else self.claims.discard)(prefix, key)
                self.pods.watch(found) if present else self.pods.unwatch(found)
            case AddressAttachment():
                mark(self.attachments_of, found.route_key)
                for name in nodes_of(found):
                    mark(self.attachments_on, name)
                for prefix in set(found.spec.claimed_prefixes):
                    (self.attached.add if present else self.attached.discard)(prefix, key)
            case Gateway():
                mark(self.gateways_of_class, found.class_name)
            case GatewayClass() if found.parameters_ref is not None:
                ref = found.parameters_ref
                mark(self.classes_of_map, ObjectKey(Kind.CONFIG_MAP, ref.namespace, ref.name))
            case _:
                return

    def touched_by(self, key: ObjectKey, found: object) -> set[ObjectKey]:
        """The keys whose plans rest on this object as it is."""
        match found:
            case Pod():
                return self.pods.routes_of(found) | self._holding(found)
            case GKEIPRoute():
                return {key, *parents(found)} | self.claims.overlapping_any(claimed_prefixes(found))
            case AddressAttachment():
                return {found.route_key} | self.claims.overlapping_any(set(found.spec.claimed_prefixes))
            case Gateway():
                return {key} | self._with_rivals(self.routes_of_gateway.get(key, set()))
            case GatewayClass():
                return {key} | self._of_class(found.meta.name)
            case ConfigMap():
                classes = self.classes_of_map.get(key, set())
                return classes | set[ObjectKey]().union(*(self._of_class(each.name) for each in classes))
            case Namespace():
                routes = self.routes_in.get(found.meta.name, set())
                gateways = {parent for route in routes for parent in parents(self.objects[route])}
                return self._with_rivals(routes) | gateways
            case Node():
                return self._on_node(found.meta.name)
            case _:
                return set()

    def _of_class(self, name: str) -> set[ObjectKey]:
        gateways = self.gateways_of_class.get(name, set())
        routes = set[ObjectKey]().union(*(self.routes_of_gateway.get(each, set()) for each in gateways))
        return gateways | self._with_rivals(routes)

    def _with_rivals(self, routes: Iterable[ObjectKey]) -> set[ObjectKey]:
        found = set(routes)
        for key in list(found):
            route = self.objects.get(key)
            if isinstance(route, GKEIPRoute):
                found |= self.claims.overlapping_any(claimed_prefixes(route))
        return found

    def _holding(self, pod: Pod) -> set[ObjectKey]:
        """Routes whose attachment names the Pod, though their selector may no longer match it."""
        return {
            attachment.route_key
            for key in self.attachments_on.get(pod.node_name, set())
            if isinstance(attachment := self.objects[key], AddressAttachment) and pod.meta.uid in pod_uids(attachment)
        }

    def _on_node(self, name: str) -> set[ObjectKey]:
        attached = {
            attachment.route_key
            for key in self.attachments_on.get(name, set())
            if isinstance(attachment := self.objects[key], AddressAttachment)
        }
        return attached.union(*(self.pods.routes_of(pod) for pod in self.pods.on_node(name)))

    def touched_by_ranges(self, changed: frozenset[Prefix]) -> set[ObjectKey]:
        """A node's IPs or Pod ranges changed: whoever lists an address there must be judged again."""
        return self.claims.overlapping_any(changed) | self.of_kind.get(Kind.GATEWAY, set())


def is_status_only(old: object, new: object) -> bool:
    """Whether a route changed in nothing but a status that no other plan reads."""
    if not isinstance(old, GKEIPRoute) or not isinstance(new, GKEIPRoute):
        return False
    before, after = (find_condition(each.status.conditions, ConditionType.ACCEPTED) for each in (old, new))
    was, is_ = (each.status if each is not None else None for each in (before, after))
    return was == is_ and attrs.evolve(old, status=new.status) == new


def _mark(index: dict[object, set[ObjectKey]], at: object, key: ObjectKey, *, present: bool) -> None:
    if present:
        index[at].add(key)
        return
    index[at].discard(key)
    if not index[at]:
        del index[at]


def parents(route: object) -> tuple[ObjectKey, ...]:
    """The Gateways that a route names."""
    if not isinstance(route, GKEIPRoute):
        return ()
    return tuple(
        ObjectKey(Kind.GATEWAY, ref.namespace or route.meta.namespace, ref.name)
        if ref.kind == "Gateway"
        else ObjectKey(Kind.GATEWAY, "", f"{ref.kind}.{ref.group}")  # a key that no Gateway can have
        for ref in route.parent_refs
    )


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


def pod_names(attachment: AddressAttachment) -> set[str]:
    """Names of the Pods that an attachment names."""
    spec = attachment.spec
    names = {release.pod_name for release in spec.releasing}
    return names | ({spec.holder.pod_name} if spec.holder is not None else set())


def ranges_of(node: Node) -> frozenset[Prefix]:
    """A node's IPs and Pod ranges."""
    return frozenset(node.pod_cidrs) | {ip_network(ip) for ip in node.ips}
