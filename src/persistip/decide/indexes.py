"""
Where does an object stand, so that a question about it need not look at all the others?

In: an object as it was and as it is.  Out: indexes by name, label, prefix and kind, in which only what differs is
changed: most events change nothing by which an object is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any

from persistip.decide.acceptedindex import AcceptedIndex
from persistip.decide.agents import is_agent
from persistip.decide.foundations import nodes_of, parents, pods_of
from persistip.decide.multimap import Multimap
from persistip.decide.nodeindex import NodeSelections
from persistip.decide.podindex import PodIndex
from persistip.decide.prefixes import ContestIndex, PrefixIndex
from persistip.model.address import Prefix, well_formed
from persistip.model.attachment import AddressAttachment
from persistip.model.gateway import Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey, attachment_key
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.service import Service

Index = Multimap[Any, ObjectKey] | PrefixIndex[ObjectKey]


class Indexes:
    """
    The indexes over a catalog's objects.

    ``objects`` is the catalog's own mapping; agents' Pods are in the *system_namespace*. ``listed``: the prefixes that
    each route and each Gateway lists. ``routes_named``, ``attachments_due``: by the key that the attachment of a
    route must have.
    """

    def __init__(self, objects: dict[ObjectKey, object], system_namespace: str) -> None:
        self.objects = objects
        self.system_namespace = system_namespace
        self.pods = PodIndex()
        self.selections = NodeSelections()
        self.accepted = AcceptedIndex()
        self.claims: ContestIndex[ObjectKey] = ContestIndex()
        self.attached: PrefixIndex[ObjectKey] = PrefixIndex()
        self.pools: PrefixIndex[ObjectKey] = PrefixIndex()
        self.services: PrefixIndex[ObjectKey] = PrefixIndex()
        self.listed: dict[ObjectKey, tuple[Prefix, ...]] = {}
        self.of_kind: Multimap[str, ObjectKey] = Multimap()
        self.routes_on: Multimap[str, ObjectKey] = Multimap()
        self.routes_in: Multimap[str, ObjectKey] = Multimap()
        self.routes_of_gateway: Multimap[ObjectKey, ObjectKey] = Multimap()
        self.gateways_of_class: Multimap[str, ObjectKey] = Multimap()
        self.classes_of_map: Multimap[ObjectKey, ObjectKey] = Multimap()
        self.attachments_of: Multimap[ObjectKey, ObjectKey] = Multimap()
        self.routes_named: Multimap[ObjectKey, ObjectKey] = Multimap()
        self.attachments_due: Multimap[ObjectKey, ObjectKey] = Multimap()
        self.attachments_on: Multimap[str, ObjectKey] = Multimap()
        self.agents_on: Multimap[str, ObjectKey] = Multimap()
        self.attachments_naming: Multimap[ObjectKey, ObjectKey] = Multimap()

    def keys_of(self, kind: str) -> Iterable[ObjectKey]:
        """Everything of a kind; only Pods are not among ``of_kind``, since they are known by their namespaces."""
        return self.pods.keys() if kind == Kind.POD else self.of_kind.get(kind)

    def replace(self, key: ObjectKey, old: object, new: object) -> None:
        """Let *new* stand where *old* stood; None is an object that is not there."""
        if isinstance(old, Pod) or isinstance(new, Pod):
            self.pods.replace(key, old, new)
            if key.namespace != self.system_namespace:
                return  # in no other index does a Pod stand but one of an agent
        before, after = ({*self._places(key, each), *self._claims(each)} for each in (old, new))
        for index, at in before - after:
            index.discard(at, key)
        for index, at in after - before:
            index.add(at, key)
        if old is not None:
            self._take_out(key, old)
        if new is not None:
            self._put_in(key, new)

    def _take_out(self, key: ObjectKey, found: object) -> None:
        match found:
            case GKEIPRoute():
                del self.listed[key]
                self.pods.unwatch(found)
                self.selections.unwatch(key)
                self.accepted.change(found, parents(found), present=False)
            case Gateway():
                del self.listed[key]
            case Node():
                self.selections.remove(found)
            case _:
                return

    def _put_in(self, key: ObjectKey, found: object) -> None:
        match found:
            case GKEIPRoute():
                self.listed[key] = well_formed(found.addresses)
                self.pods.watch(found)
                self._select(found)
                self.accepted.change(found, parents(found), present=True)
            case Gateway():
                self.listed[key] = well_formed(found.addresses)
            case Node():
                self.selections.put(found)
            case _:
                return

    def _select(self, route: GKEIPRoute) -> None:
        if route.node_selector is not None:
            nodes = (self.objects[key] for key in self.of_kind.get(Kind.NODE))
            self.selections.watch(route.key, route.node_selector, (each for each in nodes if isinstance(each, Node)))

    def _places(self, key: ObjectKey, found: object) -> Iterator[tuple[Index, Any]]:
        """Where an object stands in the indexes by name."""
        match found:
            case None:
                return
            case GKEIPRoute():
                yield self.routes_in, found.meta.namespace
                yield self.routes_named, attachment_key(key)
                yield self.routes_on, found.network_name
                yield from ((self.routes_of_gateway, gateway) for gateway in parents(found))
            case AddressAttachment():
                yield self.attachments_of, found.route_key
                yield self.attachments_due, attachment_key(found.route_key)
                yield from ((self.attachments_on, name) for name in nodes_of(found))
                yield from ((self.attachments_naming, pod) for pod in pods_of(found))
            case Pod() if is_agent(found, self.system_namespace):
                yield self.agents_on, found.node_name
                return
            case Pod():
                return
            case Gateway():
                yield self.gateways_of_class, found.class_name
            case GatewayClass(parameters_ref=ref) if ref is not None:
                yield self.classes_of_map, ObjectKey(Kind.CONFIG_MAP, ref.namespace, ref.name)
            case _:
                pass
        yield self.of_kind, str(key.kind)

    def _claims(self, found: object) -> Iterator[tuple[Index, Any]]:
        """Where an object stands in the indexes by prefix."""
        match found:
            case GKEIPRoute():
                yield from ((self.claims, prefix) for prefix in well_formed(found.addresses))
            case AddressAttachment():
                yield from ((self.attached, prefix) for prefix in found.spec.claimed_prefixes)
            case Gateway():
                yield from ((self.pools, prefix) for prefix in well_formed(found.addresses))
            case Service():
                yield from ((self.services, ip_network(ip)) for ip in found.ips)
            case _:
                return

    def contested(self, attachment: AddressAttachment) -> set[ObjectKey]:
        """The Gateways that list an address of the attachment's, if there are several to which it may belong."""
        pools = self.pools.overlapping_any(attachment.spec.claimed_prefixes)
        return pools if len(pools) > 1 else set()

    def rival_gateways(self, gateways: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Those and every Gateway that lists an address of theirs: what is one's may become another's."""
        return set(gateways).union(*(self.pools.overlapping_any(self.listed.get(each, ())) for each in gateways))
