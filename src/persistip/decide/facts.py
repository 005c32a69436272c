"""
What does the judgement of a route, a Gateway or a class rest on?

In: the catalog's objects and indexes.  Out: facts, the objects that belong together. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from persistip.decide.foundations import foundations, foundations_of_gateway, parents
from persistip.decide.indexes import Indexes
from persistip.decide.sight import Sight
from persistip.model.address import well_formed
from persistip.model.attachment import AddressAttachment
from persistip.model.definition import CustomResourceDefinition, is_of_gateway_api
from persistip.model.gateway import ConfigMap, Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey, attachment_key
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import Namespace
from persistip.model.route import DEFAULT_NETWORK, GKEIPRoute
from persistip.model.service import Service
from persistip.model.views import AttachedRoutes, GatewayFacts, NetworkFacts, ParentFacts, RouteFacts


class Facts:
    """Looks up what belongs together; *objects*, *reach* and *sight* are the catalog's own, never changed here."""

    def __init__(self, objects: Mapping[ObjectKey, object], reach: Indexes, sight: Sight) -> None:
        self._objects = objects
        self._reach = reach
        self._sight = sight
        self._gateways: dict[ObjectKey, GatewayFacts] = {}

    def route(self, key: ObjectKey) -> RouteFacts | None:
        """A route with its parents, attachment and all; None when there is none."""
        route = self._objects.get(key)
        if not isinstance(route, GKEIPRoute):
            return None
        return RouteFacts(
            route=route,
            namespace=self._namespace(route.meta.namespace),
            parents=tuple(
                ParentFacts(ref=ref, gateway=self.gateway(parent))
                for ref, parent in zip(route.parent_refs, parents(route), strict=True)
            ),
            attachment=self.attachment(key),
            selected_nodes=self._reach.selections.count(key),
            network=self._network(route.network_name),
            services=self._services(route),
        )

    def rival(self, key: ObjectKey) -> RouteFacts | None:
        """Another route, and whether it can be judged at all; one that cannot be read itself is none."""
        facts = self.route(key) if self._sight.has(key) else None
        if facts is None:
            return None
        return attrs.evolve(facts, is_unreadable=self._sight.why({key, *foundations(facts, None)}) is not None)

    def _namespace(self, name: str) -> Namespace | None:
        found = self._objects.get(ObjectKey(Kind.NAMESPACE, "", name))
        return found if isinstance(found, Namespace) else None

    def _network(self, name: str) -> NetworkFacts:
        if name == DEFAULT_NETWORK:
            return NetworkFacts()
        network = self._objects.get(ObjectKey(Kind.NETWORK, "", name))
        if not isinstance(network, Network):
            return NetworkFacts()
        ref = network.parameters_ref
        if ref is None:
            return NetworkFacts(network=network)
        key = ObjectKey(Kind.PARAM_SET, "", ref.name)
        found = self._objects.get(key) if self._sight.has(key) else None
        parameters = found if isinstance(found, GKENetworkParamSet) else None
        return NetworkFacts(network=network, parameters=parameters, unreadable=self._sight.reason(key))

    def _services(self, route: GKEIPRoute) -> tuple[Service, ...]:
        keys = self._reach.services.overlapping_any(well_formed(route.addresses)) if self._reach.services else ()
        found = (self._objects[key] for key in sorted(keys) if self._sight.has(key))
        return tuple(each for each in found if isinstance(each, Service))

    def attached_routes(self, gateway: ObjectKey) -> tuple[AttachedRoutes, ...]:
        """The accepted routes that name a Gateway, those alike counted together."""
        found = (
            AttachedRoutes(namespace_name=name, namespace=self._namespace(name), refs=refs, count=count)
            for (name, refs), count in self._reach.accepted.of(gateway).items()
        )
        return tuple(sorted(found, key=_namespace_and_refs))

    def forget(self, key: ObjectKey, old: object, new: object) -> None:
        """An object has changed: the facts of Gateways that are made of it are to be looked up anew."""
        if key.kind in (Kind.GATEWAY_CLASS, Kind.CONFIG_MAP):
            self._gateways.clear()
        for each in (old, new):
            if isinstance(each, Gateway):
                for gateway in {key} | self._reach.pools.overlapping_any(well_formed(each.addresses)):
                    self._gateways.pop(gateway, None)
            if isinstance(each, AddressAttachment):
                for gateway in self._reach.contested(each):
                    self._gateways.pop(gateway, None)

    def gateway(self, key: ObjectKey) -> GatewayFacts | None:
        """
        A Gateway with its class and its rivals; None when there is none.

        The same value until ``forget``: all routes of a Gateway rest on one, and on what was derived from it.
        """
        known = self._gateways.get(key)
        if known is None and (known := self._gateway(key)) is not None:
            self._gateways[key] = known
        return known

    def _gateway(self, key: ObjectKey) -> GatewayFacts | None:
        own = self._lone_gateway(key)
        others = self._reach.rival_gateways({key}) - {key} if own is not None else set()
        if own is None or not others:
            return own
        rivals = (self._lone_gateway(other) for other in sorted(others))
        attachments = self._reach.attached.overlapping_any(self._reach.listed[key])
        found = (self._objects[each] for each in sorted(attachments))
        return attrs.evolve(
            own,
            rivals=tuple(
                rival
                for rival in rivals
                if rival is not None and self._sight.why(foundations_of_gateway(rival)) is None
            ),
            attached=tuple(
                held for each in found if isinstance(each, AddressAttachment) for held in each.spec.addresses
            ),
        )

    def _lone_gateway(self, key: ObjectKey) -> GatewayFacts | None:
        gateway = self._objects.get(key)
        if not isinstance(gateway, Gateway):
            return None
        found = self._objects.get(ObjectKey(Kind.GATEWAY_CLASS, "", gateway.class_name))
        gateway_class = found if isinstance(found, GatewayClass) else None
        return GatewayFacts(gateway=gateway, gateway_class=gateway_class, parameters=self.parameters(gateway_class))

    def parameters(self, gateway_class: GatewayClass | None) -> ConfigMap | None:
        """The ConfigMap that a class names."""
        if gateway_class is None or gateway_class.parameters_ref is None:
            return None
        ref = gateway_class.parameters_ref
        found = self._objects.get(ObjectKey(Kind.CONFIG_MAP, ref.namespace, ref.name))
        return found if isinstance(found, ConfigMap) else None

    def definitions(self) -> tuple[CustomResourceDefinition, ...]:
        """Those of Gateway API."""
        keys = sorted(filter(is_of_gateway_api, self._reach.of_kind.get(Kind.DEFINITION)))
        found = (self._objects[key] for key in keys)
        return tuple(each for each in found if isinstance(each, CustomResourceDefinition))

    def attachment(self, route: ObjectKey) -> AddressAttachment | None:
        """The one of the route's name: two objects that both decide for a route would be two holders."""
        found = self._objects.get(attachment_key(route))
        return found if isinstance(found, AddressAttachment) and found.route_key == route else None


def _namespace_and_refs(routes: AttachedRoutes) -> tuple[object, ...]:
    refs = tuple((ref.namespace, ref.section_name, -1 if ref.port is None else ref.port) for ref in routes.refs)
    return routes.namespace_name, refs
