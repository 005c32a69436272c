"""
Which keys does a change of one object touch?

In: an object that came, changed or went.  Out: the keys whose plans may differ now. Indexes make the answer cost what
the change touches and not what the cluster holds.

    Pod ─> routes that select it, one with its IP, or hold it     Node, suspect ─> routes with a Pod or attachment there
    Namespace, Gateway, class, ConfigMap ─> routes that rest on it      route, attachment ─> routes that overlap it
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from persistip.decide.foundations import nodes_of, parents, pods_of
from persistip.decide.nodeindex import NodeSelections
from persistip.decide.podindex import PodIndex
from persistip.decide.prefixes import PrefixIndex
from persistip.decide.suspects import recorded
from persistip.model.address import Prefix, well_formed
from persistip.model.attachment import AddressAttachment
from persistip.model.definition import is_of_gateway_api
from persistip.model.gateway import ConfigMap, Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey, attachment_key
from persistip.model.network import Network
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.service import Service


class Reach:
    """
    The indexes over a catalog's objects.

    ``objects`` is the catalog's own mapping, read and never changed; *suspects* is the ConfigMap that records them.
    """

    def __init__(self, objects: Mapping[ObjectKey, object], suspects: ObjectKey) -> None:
        self.objects = objects
        self.suspects = suspects
        self.pods = PodIndex()
        self.selections = NodeSelections()
        self.claims: PrefixIndex[ObjectKey] = PrefixIndex()
        self.attached: PrefixIndex[ObjectKey] = PrefixIndex()
        self.pools: PrefixIndex[ObjectKey] = PrefixIndex()
        self.services: PrefixIndex[ObjectKey] = PrefixIndex()
        self.listed: dict[ObjectKey, tuple[Prefix, ...]] = {}
        self.of_kind: dict[str, set[ObjectKey]] = defaultdict(set)
        self.routes_on: dict[str, set[ObjectKey]] = defaultdict(set)
        self.routes_in: dict[str, set[ObjectKey]] = defaultdict(set)
        self.routes_of_gateway: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self.gateways_of_class: dict[str, set[ObjectKey]] = defaultdict(set)
        self.classes_of_map: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self.attachments_of: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self.attachments_on: dict[str, set[ObjectKey]] = defaultdict(set)
        self.attachments_naming: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)

    def index(self, key: ObjectKey, found: object, *, present: bool) -> None:
        """Put an object into the indexes, or take it out."""

        change = set[ObjectKey].add if present else set[ObjectKey].discard
        for index, at in self._places(key, found):
            change(index[at], key)
            if not index[at]:
                del index[at]
        for claims, prefix in self._claims(found):
            (claims.add if present else claims.discard)(prefix, key)
        match found:
            case Pod():
                self.pods.put(found) if present else self.pods.remove(found)
            case GKEIPRoute():
                self.pods.watch(found) if present else self.pods.unwatch(found)
                self._select(found) if present else self.selections.unwatch(key)
            case Node():
                self.selections.put(found) if present else self.selections.remove(found)
            case Gateway() if present:
                self.listed[key] = well_formed(found.addresses)
            case Gateway():
                del self.listed[key]
            case _:
                return

    def _select(self, route: GKEIPRoute) -> None:
        if route.node_selector is not None:
            nodes = (self.objects[key] for key in self.of_kind.get(Kind.NODE, set()))
            self.selections.watch(route.key, route.node_selector, (each for each in nodes if isinstance(each, Node)))

    def _places(self, key: ObjectKey, found: object) -> Iterator[tuple[dict[Any, set[ObjectKey]], object]]:
        """Where an object stands in the indexes by name."""
        yield self.of_kind, str(key.kind)
        match found:
            case GKEIPRoute():
                yield self.routes_in, found.meta.namespace
                yield self.routes_on, found.network_name
                yield from ((self.routes_of_gateway, gateway) for gateway in parents(found))
            case AddressAttachment():
                yield self.attachments_of, found.route_key
                yield from ((self.attachments_on, name) for name in nodes_of(found))
                yield from ((self.attachments_naming, pod) for pod in pods_of(found))
            case Gateway():
                yield self.gateways_of_class, found.class_name
            case GatewayClass(parameters_ref=ref) if ref is not None:
                yield self.classes_of_map, ObjectKey(Kind.CONFIG_MAP, ref.namespace, ref.name)
            case _:
                return

    def _claims(self, found: object) -> Iterator[tuple[PrefixIndex[ObjectKey], Prefix]]:
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

    def touched_by(self, key: ObjectKey, found: object) -> set[ObjectKey]:
        """The keys whose plans rest on this object as it is."""
        match found:
            case Pod():
                return self.pods.routes_of(found) | self.pods.routes_beside(found) | self.resting_on(key)
            case Node():
                return self._with_rivals(self.selections.routes_of(found)) | self.resting_on(key)
            case GKEIPRoute():
                return {*parents(found)} | self._with_rivals({key} | self.claims.overlapping_any(_claims_of(found)))
            case Service():
                return self._with_rivals(self.claims.overlapping_any(ip_network(ip) for ip in found.ips))
            case AddressAttachment():
                overlapping = self.claims.overlapping_any(set(found.spec.claimed_prefixes))
                pools = self.pools.overlapping_any(set(found.spec.claimed_prefixes))
                contested = self._with_routes(pools) if len(pools) > 1 else set()
                return self._with_rivals(overlapping | {found.route_key}) | contested
            case Gateway():
                of = ObjectKey(Kind.GATEWAY_CLASS, "", found.class_name)
                return {of} | self._with_routes({key} | self.pools.overlapping_any(well_formed(found.addresses)))
            case ConfigMap() if key == self.suspects:
                return self.resting_on(key).union(*(self._on_node(name) for name in recorded(found)))
            case _:
                return self.resting_on(key)

    def resting_on(self, key: ObjectKey) -> set[ObjectKey]:
        """The keys whose plans rest on the object of that name, whatever it says."""
        match key.kind:
            case Kind.GATEWAY:
                return {key} | self._with_rivals(self.routes_of_gateway.get(key, set()))
            case Kind.GATEWAY_CLASS:
                return {key} | self._of_class(key.name)
            case Kind.CONFIG_MAP:
                classes = self.classes_of_map.get(key, set())
                return classes.union(*(self._of_class(each.name) for each in classes))
            case Kind.NAMESPACE:
                routes = self.routes_in.get(key.name, set())
                found = (self.objects[route] for route in routes)
                gateways = {parent for each in found if isinstance(each, GKEIPRoute) for parent in parents(each)}
                return self._with_rivals(routes) | gateways
            case Kind.NODE:
                return self._on_node(key.name)
            case Kind.POD:  # also when a selector no longer matches it
                return self._routes_of(self.attachments_naming.get(key, set()))
            case Kind.NETWORK:
                return self._with_rivals(self.routes_on.get(key.name, set()))
            case Kind.PARAM_SET:
                found = (self.objects[network] for network in self.of_kind.get(Kind.NETWORK, set()))
                names = [each.meta.name for each in found if isinstance(each, Network) and each.names(key)]
                return self._with_rivals(set[ObjectKey]().union(*(self.routes_on.get(name, set()) for name in names)))
            case Kind.SERVICE | Kind.SERVICE_CIDR:  # judged by their addresses
                return set()
            case Kind.ROUTE:
                return {key}
            case Kind.DEFINITION:
                return set(self.of_kind.get(Kind.GATEWAY_CLASS, ())) if is_of_gateway_api(key) else set()
            case _:  # an attachment, which is named for its route
                routes = self.of_kind.get(Kind.ROUTE, set()) | self.attachments_of.keys()
                return {route for route in routes if attachment_key(route) == key}

    def _of_class(self, name: str) -> set[ObjectKey]:
        return self._with_routes(self.rival_gateways(self.gateways_of_class.get(name, set())))

    def rival_gateways(self, gateways: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Those and every Gateway that lists an address of theirs: what is one's may become another's."""
        return set(gateways).union(*(self.pools.overlapping_any(self.listed.get(each, ())) for each in gateways))

    def _with_routes(self, gateways: set[ObjectKey]) -> set[ObjectKey]:
        routes = set[ObjectKey]().union(*(self.routes_of_gateway.get(each, set()) for each in gateways))
        return gateways | self._with_rivals(routes)

    def _with_rivals(self, routes: Iterable[ObjectKey]) -> set[ObjectKey]:
        """With every route that claims what they claim, directly or by way of others: who wins may change for all."""
        found = set(routes)
        waiting = list(found)
        while waiting:
            rivals = self.claims.overlapping_any(_claims_of(self.objects.get(waiting.pop())))
            waiting += rivals - found
            found |= rivals
        return found

    def _on_node(self, name: str) -> set[ObjectKey]:
        attached = self._routes_of(self.attachments_on.get(name, set()))
        return attached.union(*(self.pods.routes_of(pod) for pod in self.pods.on_node(name)))

    def _routes_of(self, attachments: Iterable[ObjectKey]) -> set[ObjectKey]:
        found = (self.objects[key] for key in attachments)
        return {each.route_key for each in found if isinstance(each, AddressAttachment)}

    def touched_by_ranges(self, changed: frozenset[Prefix]) -> set[ObjectKey]:
        """A node's IPs or Pod ranges changed: whoever lists an address there, or rests on a pool that does."""
        pools = self.rival_gateways(self.pools.overlapping_any(changed))
        return self._with_routes(pools) | self._with_rivals(self.claims.overlapping_any(changed))


def _claims_of(route: object) -> tuple[Prefix, ...]:
    return well_formed(route.addresses) if isinstance(route, GKEIPRoute) else ()
