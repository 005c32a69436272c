"""
Which keys does a change touch, and what is the view of a key?

In: batches of latest objects.  Out: the keys to plan again, and on demand the view of one key. The catalog keeps the
objects and the indexes that make one event cost what it touches; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from persistip.decide.agents import is_silent
from persistip.decide.departed import Departed
from persistip.decide.extracts import extract, reader
from persistip.decide.facts import Facts
from persistip.decide.foundations import (
    foundations,
    foundations_of_class,
    foundations_of_gateway,
    is_status_only,
    nodes_of,
    pod_uids,
    pods_of,
    ranges_of,
)
from persistip.decide.modes import BUILT_IN
from persistip.decide.reach import Reach
from persistip.decide.sight import Sight
from persistip.decide.suspects import select_suspects, suspects_key
from persistip.decide.versions import Versions, Written
from persistip.model.actions import ConfirmNodeGone, Outcome
from persistip.model.attachment import AddressAttachment
from persistip.model.gateway import GatewayClass
from persistip.model.keys import Kind, ObjectKey, attachment_key
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.service import ServiceCIDR
from persistip.model.views import (
    Admits,
    Changes,
    ClassView,
    ClusterRanges,
    GatewayView,
    Policy,
    RouteFacts,
    RouteView,
)

Planned = RouteView | GatewayView | ClassView


class Catalog:
    """
    All that one process knows of the cluster; *modes* are added to the two of the API.

    Not thread-safe; every call is quick.
    """

    def __init__(self, policy: Policy | None = None, modes: Mapping[str, Admits] | None = None) -> None:
        self.policy = policy = policy or Policy()
        self.modes: Mapping[str, Admits] = {**BUILT_IN, **(modes or {})}
        self._is_read = reader([key for mode in self.modes.values() for key in mode.annotations])
        self.objects: dict[ObjectKey, object] = {}
        self._suspects = suspects_key(policy.system_namespace)
        self._reach = Reach(self.objects, self._suspects)
        self._sight = Sight()
        self._facts = Facts(self.objects, self._reach, self._sight)
        self._versions = Versions()
        self._departed = Departed()
        self._ranges: ClusterRanges | None = None

    # ------------------------------------------------------------------ what changes

    def update(self, batch: Changes) -> frozenset[ObjectKey]:
        """Take a batch in; the keys whose plans may differ now."""
        touched: set[ObjectKey] = set()
        for kind in batch.resynced:
            known = {*self._reach.keys_of(kind), *self._sight.lost(kind)}
            for key in known - batch.objects.keys() - batch.unreadable.keys():
                touched |= self._take(key, None)
        for key, found in batch.objects.items():
            touched |= self._take(key, extract(found, self._is_read))
        for key, why in batch.unreadable.items():
            self._sight.lose(key, why)
            touched |= self._waiting_for_sight(key)
        return frozenset(touched)

    def _take(self, key: ObjectKey, found: object | None) -> set[ObjectKey]:
        """What the watch delivers."""
        if isinstance(found, Written) and not self._versions.deliver(found):
            return {found.route_key} if isinstance(found, AddressAttachment) else set()
        if isinstance(found, AddressAttachment):
            # The same object as our write returned; but a claim may be granted once the watch has delivered it.
            is_pending = any(address.pending for address in found.spec.addresses)
            return self._put(key, found) | ({found.route_key} if is_pending else set())
        if found is None and not self._versions.depart(key):
            return set()
        return self._put(key, found)

    def absorb(self, written: Written) -> frozenset[ObjectKey]:
        """
        Take in the object that our own write returned: a view never predates our own writes.

        When another write has undone ours, and the watch tells of the two as one before we are answered, the object is
        as it was before and its delivery was news to nobody: whoever decided on it has to look again.
        """
        if not self._versions.write(written):
            key = written.route_key if isinstance(written, AddressAttachment) else written.key
            return frozenset({key}) if self._versions.is_overtaken(written) else frozenset()
        is_gone = written.meta.is_terminating and not written.meta.finalizers
        return frozenset(self._put(written.key, None if is_gone else written))

    def confirm(self, asked: ConfirmNodeGone) -> frozenset[ObjectKey]:
        """A live read has found that Node gone; the keys whose plans may differ now."""
        self._departed.confirm(asked)
        return frozenset(self._reach.resting_on(asked.attachment))

    def _put(self, key: ObjectKey, found: object | None) -> set[ObjectKey]:
        old = self.objects.get(key)
        self._departed.see(key, old, found)
        touched: set[ObjectKey] = set()
        if self._sight.regain(key):
            touched |= self._waiting_for_sight(key)
        self._facts.forget(key, old, found)
        if old == found or is_status_only(old, found):
            if found is not None:
                self.objects[key] = found  # the same to every other decision
            return touched if old == found else touched | {key}
        if isinstance(old or found, Node | ServiceCIDR) and ranges_of(old) != ranges_of(found):
            self._ranges = None
        return touched | self._reach.change(key, old, found)

    def _waiting_for_sight(self, key: ObjectKey) -> set[ObjectKey]:
        """Whose plans may differ once an object can be read, or no longer can: what is lost contests nothing."""
        found = self.objects.get(key)
        self._facts.forget(key, found, None)
        touched = self._reach.resting_on(key) | (self._reach.touched_by(key, found) if found is not None else set())
        if key.kind is Kind.GATEWAY:  # nobody knows which class it is of
            touched |= set(self._reach.of_kind.get(Kind.GATEWAY_CLASS))
        if key.kind is Kind.ATTACHMENT:  # nobody knows what it holds
            touched |= set(self._reach.of_kind.get(Kind.ROUTE))
        return touched

    # ------------------------------------------------------------------ views

    def keys(self) -> frozenset[ObjectKey]:
        """Every key that has a plan: routes, attachments' routes, Gateways, classes."""
        kinds = (Kind.ROUTE, Kind.GATEWAY, Kind.GATEWAY_CLASS)
        return frozenset(self._reach.of_kind.union(kinds) | self._reach.attachments_of.keys())

    def owners(self) -> frozenset[str] | None:
        """The routes that may have something in a cloud, as it names them; None: something cannot be read."""
        if any(self._sight.blind_to(kind) is not None for kind in (Kind.ROUTE, Kind.ATTACHMENT)):
            return None
        return frozenset(key.path for key in self.keys() if key.kind is Kind.ROUTE)

    def is_attached(self, key: ObjectKey) -> bool:
        """Whether that is a route with addresses that were granted, so that traffic may be waiting for a plan."""
        attachment = self._facts.attachment(key)
        return attachment is not None and not all(address.pending for address in attachment.spec.addresses)

    def view(self, key: ObjectKey, now: float, outcomes: Mapping[str, Outcome] | None = None) -> Planned:
        """Everything that the decision about *key* may look at."""
        match key.kind:
            case Kind.GATEWAY:
                return self._gateway_view(key, now)
            case Kind.GATEWAY_CLASS:
                found = self.objects.get(key)
                gateway_class = found if isinstance(found, GatewayClass) else None
                return ClassView(
                    key=key,
                    now=now,
                    gateway_class=gateway_class,
                    unreadable=self._sight.why(foundations_of_class(key, gateway_class)),
                    blind=self._sight.blind_to(Kind.GATEWAY),
                    parameters=self._facts.parameters(gateway_class),
                    is_in_use=bool(self._reach.gateways_of_class.get(key.name)),
                    definitions=self._facts.definitions(),
                    policy=self.policy,
                )
            case _:
                return self._route_view(key, now, outcomes or {})

    def _gateway_view(self, key: ObjectKey, now: float) -> GatewayView:
        facts = self._facts.gateway(key)
        return GatewayView(
            key=key,
            now=now,
            facts=facts,
            unreadable=self._sight.why({key} if facts is None else foundations_of_gateway(facts)),
            routes=self._facts.attached_routes(key),
            ranges=self.ranges,
            policy=self.policy,
        )

    def _route_view(self, key: ObjectKey, now: float, outcomes: Mapping[str, Outcome]) -> RouteView:
        facts = self._facts.route(key)
        attachment = facts.attachment if facts is not None else self._facts.attachment(key)
        pods = self._pods_for(facts, attachment)
        names = {pod.node_name for pod in pods} | (nodes_of(attachment) if attachment is not None else set())
        nodes = {name: node for name in sorted(names) if (node := self._node(name)) is not None}
        return RouteView(
            key=key,
            now=now,
            facts=facts,
            unreadable=self._sight.why(_rests_on(key, facts, attachment)),
            attachment=attachment,
            attachment_is_watched=attachment is not None and self._versions.is_watched(attachment),
            blind=self._sight.blind_to(Kind.ATTACHMENT),
            rivals=self._rivals(facts),
            overlapping=self._overlapping(facts, attachment),
            pods=pods,
            doubled_ips=self._reach.pods.doubled_ips(pods),
            nodes=nodes,
            suspects=select_suspects(self.objects.get(self._suspects), nodes),
            silent_agents=frozenset(filter(self._is_silent, nodes)),
            gone_nodes=self._departed.of(attachment),
            ranges=self.ranges,
            modes=self.modes,
            outcomes=outcomes,
            policy=self.policy,
        )

    @property
    def ranges(self) -> ClusterRanges:
        """The nodes' IPs and Pod ranges, of all nodes, and the Service ranges."""
        if self._ranges is None:
            kinds = (self._reach.of_kind.get(kind) for kind in (Kind.NODE, Kind.SERVICE_CIDR))
            found = [self.objects[key] for keys in kinds for key in sorted(keys)]
            nodes = [node for node in found if isinstance(node, Node)]
            services = (cidr for each in found if isinstance(each, ServiceCIDR) for cidr in each.cidrs)
            self._ranges = ClusterRanges(
                node_ips={ip: node.meta.name for node in nodes for ip in node.ips},
                pod_cidrs=tuple(dict.fromkeys(cidr for node in nodes for cidr in node.pod_cidrs)),
                service_cidrs=tuple(dict.fromkeys((*self.policy.service_cidrs, *services))),
            )
        return self._ranges

    def _node(self, name: str) -> Node | None:
        found = self.objects.get(ObjectKey(Kind.NODE, "", name))
        return found if isinstance(found, Node) else None

    def _is_silent(self, node_name: str) -> bool:
        found = (self.objects[key] for key in self._reach.agents_on.get(node_name))
        return is_silent(each for each in found if isinstance(each, Pod))

    def _pods_for(self, facts: RouteFacts | None, attachment: AddressAttachment | None) -> tuple[Pod, ...]:
        pods: dict[str, Pod] = {}
        if facts is not None:
            found = sorted(self._sight.readable(self._reach.pods.matching(facts.route)), key=_name_of)
            pods = {pod.meta.uid: pod for pod in found}
        if attachment is not None:
            uids = pod_uids(attachment)
            for key in pods_of(attachment) if uids - pods.keys() else ():
                pod = self.objects.get(key)
                if isinstance(pod, Pod) and pod.meta.uid in uids:
                    pods.setdefault(pod.meta.uid, pod)
        return tuple(sorted(pods.values(), key=_name_of)) if len(pods) > 1 else tuple(pods.values())

    def _rivals(self, facts: RouteFacts | None) -> tuple[RouteFacts, ...]:
        """Routes that overlap this one, directly or by way of others."""
        if facts is None:
            return ()
        own = facts.route.key
        keys = sorted(self._reach.with_rivals([own]) - {own})
        return tuple(rival for key in keys if (rival := self._facts.rival(key)) is not None)

    def _overlapping(
        self, facts: RouteFacts | None, attachment: AddressAttachment | None
    ) -> tuple[AddressAttachment, ...]:
        if facts is None:
            return ()
        keys = self._reach.attached.overlapping_any(self._reach.listed[facts.route.key])
        if attachment is not None:
            keys.discard(attachment.key)
        found = (self.objects[key] for key in sorted(keys))
        return tuple(each for each in found if isinstance(each, AddressAttachment))


def _rests_on(route: ObjectKey, facts: RouteFacts | None, attachment: AddressAttachment | None) -> Iterator[ObjectKey]:
    yield route
    yield attachment_key(route)
    yield from foundations(facts, attachment)


def _name_of(pod: Pod) -> str:
    return pod.meta.name
