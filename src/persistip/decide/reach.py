"""
Which keys does a change of one object touch?

In: an object that came, changed or went.  Out: the keys whose plans may differ now. Indexes make the answer cost what
the change touches and not what the cluster holds.

    Pod ─> routes that select it, one with its IP, or hold it     Node, suspect ─> routes with a Pod or attachment there
    an agent's Pod ─> routes with an attachment on its node
    Namespace, Gateway, class, ConfigMap ─> routes that rest on it      route, attachment ─> routes that overlap it
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from persistip.decide.agents import is_agent
from persistip.decide.foundations import parents, ranges_of
from persistip.decide.indexes import Indexes
from persistip.decide.suspects import recorded
from persistip.model.address import Prefix, well_formed
from persistip.model.attachment import AddressAttachment
from persistip.model.definition import is_of_gateway_api
from persistip.model.evolving import evolve
from persistip.model.gateway import ConfigMap, Gateway
from persistip.model.keys import Kind, ObjectKey
from persistip.model.network import Network
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.service import Service


class Reach(Indexes):
    """The indexes, and what a change touches by them; *suspects* is the ConfigMap that records suspects."""

    def __init__(self, objects: dict[ObjectKey, object], suspects: ObjectKey) -> None:
        super().__init__(objects, suspects.namespace)
        self.suspects = suspects

    def change(self, key: ObjectKey, old: object, new: object) -> set[ObjectKey]:
        """Let *new* stand where *old* stood, in the catalog too; the keys whose plans may differ now."""
        touched = self._touched_beside(key, old, new)
        is_found_alike = isinstance(old, Pod) and isinstance(new, Pod) and self.pods.is_found_alike(old, new)
        self.replace(key, old, new)
        if new is None:
            del self.objects[key]
        else:
            self.objects[key] = new
        if not is_found_alike:
            touched |= self._touched_beside(key, new, old)
        before, after = (ranges_of(each) for each in (old, new))
        return touched | self.touched_by_ranges(before ^ after) if before != after else touched

    def _touched_beside(self, key: ObjectKey, found: object, other: object) -> set[ObjectKey]:
        """The keys whose plans rest on *found* and would not rest on *other* in the same way."""
        if isinstance(found, Node) and isinstance(other, Node) and _as_pods_see(found) == _as_pods_see(other):
            return self.with_rivals(self.selections.routes_of(found) - self.selections.routes_of(other))
        if (
            isinstance(found, AddressAttachment)
            and isinstance(other, AddressAttachment)
            and evolve(found, nodes=other.nodes) == other
        ):
            return {found.route_key}  # what agents say of it is read by the plan of its own route alone
        return self.touched_by(key, found) if found is not None else set()

    def touched_by(self, key: ObjectKey, found: object) -> set[ObjectKey]:
        """The keys whose plans rest on this object as it is."""
        match found:
            case Pod():
                served = self.attachments_on.get(found.node_name) if is_agent(found, self.system_namespace) else ()
                beside = self.pods.routes_beside(found) | self.resting_on(key) | self._routes_of(served)
                return self.pods.routes_of(found) | beside
            case Node():
                return self.with_rivals(self.selections.routes_of(found)) | self.resting_on(key)
            case GKEIPRoute():
                return {*parents(found)} | self.with_rivals(
                    {key} | self.claims.overlapping_any(well_formed(found.addresses))
                )
            case Service():
                return self.with_rivals(self.claims.overlapping_any(ip_network(ip) for ip in found.ips))
            case AddressAttachment():
                overlapping = self.claims.overlapping_any(set(found.spec.claimed_prefixes))
                return self.with_rivals(overlapping | {found.route_key}) | self._with_routes(self.contested(found))
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
                return {key} | self.with_rivals(self.routes_of_gateway.get(key))
            case Kind.GATEWAY_CLASS:
                return {key} | self._of_class(key.name)
            case Kind.CONFIG_MAP:
                classes = set(self.classes_of_map.get(key))
                return classes.union(*(self._of_class(each.name) for each in classes))
            case Kind.NAMESPACE:
                return self.with_rivals(self.routes_in.get(key.name)) | self.accepted.named_in(key.name)
            case Kind.NODE:
                return self._on_node(key.name)
            case Kind.POD:  # also when a selector no longer matches it
                return self._routes_of(self.attachments_naming.get(key))
            case Kind.NETWORK:
                return self.with_rivals(self.routes_on.get(key.name))
            case Kind.PARAM_SET:
                found = (self.objects[network] for network in self.of_kind.get(Kind.NETWORK))
                names = [each.meta.name for each in found if isinstance(each, Network) and each.names(key)]
                return self.with_rivals(self.routes_on.union(names))
            case Kind.SERVICE | Kind.SERVICE_CIDR:  # judged by their addresses
                return set()
            case Kind.ROUTE:
                return {key}
            case Kind.DEFINITION:
                return set(self.of_kind.get(Kind.GATEWAY_CLASS)) if is_of_gateway_api(key) else set()
            case _:  # an attachment, which is named for its route
                return {*self.routes_named.get(key), *self._routes_of(self.attachments_due.get(key))}

    def _of_class(self, name: str) -> set[ObjectKey]:
        return self._with_routes(self.rival_gateways(self.gateways_of_class.get(name)))

    def _with_routes(self, gateways: set[ObjectKey]) -> set[ObjectKey]:
        return gateways | self.with_rivals(self.routes_of_gateway.union(gateways))

    def with_rivals(self, routes: Iterable[ObjectKey]) -> set[ObjectKey]:
        """With every route that claims what they claim, directly or by way of others: who wins may change for all."""
        found = set(routes)
        waiting = list(found & self.claims.contested)  # of ten thousand routes hardly any
        while waiting:
            rivals = self.claims.overlapping_any(self.listed.get(waiting.pop(), ()))
            waiting += rivals - found
            found |= rivals
        return found

    def _on_node(self, name: str) -> set[ObjectKey]:
        attached = self._routes_of(self.attachments_on.get(name))
        return attached.union(*(self.pods.routes_of(pod) for pod in self.pods.on_node(name)))

    def _routes_of(self, attachments: Iterable[ObjectKey]) -> set[ObjectKey]:
        found = (self.objects[key] for key in attachments)
        return {each.route_key for each in found if isinstance(each, AddressAttachment)}

    def touched_by_ranges(self, changed: frozenset[Prefix]) -> set[ObjectKey]:
        """A node's IPs or Pod ranges changed: whoever lists an address there, or rests on a pool that does."""
        pools = self.rival_gateways(self.pools.overlapping_any(changed))
        return self._with_routes(pools) | self.with_rivals(self.claims.overlapping_any(changed))


def _as_pods_see(node: Node) -> tuple[object, ...]:
    """All of a Node that matters to the Pods on it, whatever its labels; its addresses count as ranges."""
    return node.meta.uid, node.out_of_service, node.meta.annotations
