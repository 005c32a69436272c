"""
What would stand in the cluster once everything has settled?

In: the objects of a cluster, settings that change decisions, an instant.  Out: the same cluster at rest: every status
and attachment as the controller would leave it, and the decisions behind them. Nothing is left out of the way there:

    catalog ──view──> plan ──writes──> the objects ──keys touched──┐
       ▲                                 ▲                         │
       └─────────────────────────────────┴── ideal nodes confirm ◄─┘

The catalog and the plans are the real ones. Nodes do at once what they are asked for; time stands still. The order in
which objects are handed over means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from persistip.decide.catalog import Catalog, Planned
from persistip.decide.plan_route import RoutePlan, plan_route
from persistip.errors import BugError
from persistip.model.actions import (
    ClusterAction,
    ConfirmNodeGone,
    CreateAttachment,
    DeleteAttachment,
    RecordEvent,
    ReplaceAttachment,
    ReportClass,
    ReportGateway,
    ReportNode,
    ReportRoute,
    SetFinalizers,
)
from persistip.model.address import Prefix
from persistip.model.attachment import AddressAttachment, AttachmentSpec, Holder, How, NodeReport, NodeStateName
from persistip.model.cloud import CloudState
from persistip.model.gateway import Mode
from persistip.model.keys import Kind, ObjectKey, attachment_key
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.views import Admits, Policy, RouteView
from persistip.runtime.cycle import decide
from persistip.runtime.standins import stand_in_uid
from persistip.strategies import Batch, ClusterObject

_LEAST_ROUNDS = 50
_ROUNDS_PER_OBJECT = 10


@attrs.frozen(kw_only=True)
class Settled:
    """
    A cluster at rest.

    ``plans``: what is decided of each route now that nothing is left to do. ``unreadable``: of what nothing is decided,
    since something that it rests on could not be read, and why. ``events``: those that were sent on the way, in order.
    """

    objects: Mapping[ObjectKey, ClusterObject]
    plans: Mapping[ObjectKey, RoutePlan]
    unreadable: Mapping[ObjectKey, str]
    events: tuple[RecordEvent, ...] = ()

    def attachment_of(self, route: ObjectKey) -> AddressAttachment | None:
        """The attachment that decides for a route."""
        found = self.objects.get(attachment_key(route))
        return found if isinstance(found, AddressAttachment) and found.route_key == route else None


class Rehearsal:
    """One controller and ideal nodes over objects that they themselves change; may be settled again after a change."""

    def __init__(
        self,
        objects: Iterable[ClusterObject],
        *,
        now: float,
        policy: Policy | None = None,
        modes: Mapping[str, Admits] | None = None,
        unreadable: Mapping[ObjectKey, str] | None = None,
        with_nodes: bool = True,
        cloud: CloudState | None = None,
    ) -> None:
        """
        Take *objects* as they stand at *now*, complete with UIDs; *modes* are added to the two of the API.

        *unreadable* exist, and nothing is known of them. Without *with_nodes* no node does or says anything.
        *cloud*: what it holds for each route, whatever is done; None: there is none.
        """
        self._now = now
        self._with_nodes = with_nodes
        self._cloud = cloud
        self._revision = 0
        self._catalog = Catalog(policy, modes)
        self._touched: set[ObjectKey] = set()
        self._changed: set[ObjectKey] = set()
        self._former: dict[ObjectKey, str] = {}
        self._events: list[RecordEvent] = []
        found = {each.key: each for each in objects}
        self._update({key: found[key] for key in sorted(found)}, unreadable or {})
        self._touched |= self._catalog.keys()

    def view(self, key: ObjectKey) -> Planned:
        """All that a decision about *key* may look at, as things stand."""
        view = self._catalog.view(key, self._now)
        return attrs.evolve(view, cloud=self._cloud) if isinstance(view, RouteView) else view

    def without_node(self, name: str) -> None:
        """That Node and its Pods go."""
        gone = [ObjectKey(Kind.NODE, "", name)]
        gone += [key for key, each in self._catalog.objects.items() if isinstance(each, Pod) and each.node_name == name]
        self._update(dict.fromkeys(gone), {})

    def without_pod(self, namespace: str, name: str) -> None:
        """That Pod goes."""
        self._update({ObjectKey(Kind.POD, namespace, name): None}, {})

    def settle(self) -> Settled:
        """Plan and write until nothing is left to do; BugError when there is no end to it."""
        self._events = []
        for _ in range(_LEAST_ROUNDS + _ROUNDS_PER_OBJECT * len(self._catalog.keys())):
            touched, self._touched = self._touched, set()
            for key in sorted(touched):
                if self.view(key).unreadable is None:
                    self._perform(decide(self.view(key)).actions)
            if self._with_nodes:
                self._confirm()
            if not self._touched:
                return self._settled()
        keys = ", ".join(str(key) for key in sorted(self._touched)[:5])
        raise BugError(f"the plans never come to rest: {keys}")

    def _settled(self) -> Settled:
        keys = sorted(self._catalog.keys())
        unreadable = {key: why for key in keys if (why := self.view(key).unreadable) is not None}
        views = (self.view(key) for key in keys if key.kind is Kind.ROUTE and key not in unreadable)
        return Settled(
            objects={key: self._present(key) for key in sorted(self._catalog.objects)},
            plans={view.key: plan_route(view) for view in views if isinstance(view, RouteView) and view.facts},
            unreadable=unreadable,
            events=tuple(self._events),
        )

    # ------------------------------------------------------------ the API
    def _update(self, objects: Mapping[ObjectKey, ClusterObject | None], unreadable: Mapping[ObjectKey, str]) -> None:
        numbered: dict[ObjectKey, ClusterObject | None] = {}
        for key, each in objects.items():
            self._revision += 1
            if each is None:
                numbered[key] = None
                if key in self._catalog.objects:
                    self._former[key] = self._present(key).meta.uid
                continue
            numbered[key] = attrs.evolve(each, meta=attrs.evolve(each.meta, resource_version=str(self._revision)))
            if isinstance(each, AddressAttachment):
                self._changed.add(key)
        self._touched |= self._catalog.update(Batch(objects=numbered, unreadable=unreadable))

    def _put(self, each: ClusterObject) -> None:
        self._update({each.key: each}, {})

    def _perform(self, actions: Iterable[ClusterAction]) -> None:
        """Carry out a plan; nobody else writes, so every precondition holds."""
        for action in actions:
            match action:
                case CreateAttachment(attachment):
                    uid, created_at = self._new_uid(attachment.key), float(int(self._now))
                    meta = attrs.evolve(attachment.meta, uid=uid, created_at=created_at, generation=1)
                    self._put(attrs.evolve(attachment, meta=meta))
                case ReplaceAttachment(attachment) if attachment.meta.is_terminating and not attachment.meta.finalizers:
                    self._update({attachment.key: None}, {})
                case ReplaceAttachment(attachment):
                    self._put(attachment)
                case DeleteAttachment(name=name):
                    self._delete(ObjectKey(Kind.ATTACHMENT, "", name))
                case ReportRoute(status=status) | ReportGateway(status=status):
                    self._put(attrs.evolve(self._present(action.key), status=status))
                case ReportClass(key=key, conditions=conditions):
                    self._put(attrs.evolve(self._present(key), conditions=conditions))
                case ConfirmNodeGone():
                    self._touched |= self._catalog.confirm(action)  # what is in sight here is all there is
                case SetFinalizers(key=key, finalizers=finalizers):
                    present = self._present(key)
                    is_gone = present.meta.is_terminating and not finalizers
                    new = attrs.evolve(present, meta=attrs.evolve(present.meta, finalizers=finalizers))
                    self._update({key: None if is_gone else new}, {})
                case RecordEvent():
                    self._events.append(action)
                case ReportNode():
                    continue

    def _delete(self, key: ObjectKey) -> None:
        """DELETE: what has finalizers waits for them."""
        present = self._present(key)
        gone = attrs.evolve(present, meta=attrs.evolve(present.meta, deleted_at=float(int(self._now))))
        self._update({key: gone if present.meta.finalizers else None}, {})

    def _present(self, key: ObjectKey) -> Any:
        return self._catalog.objects[key]

    def _new_uid(self, key: ObjectKey) -> str:
        """The same in every run, and another one than that of its predecessor: one made again is another object."""
        uid = stand_in_uid(key)
        return f"{uid}/again" if self._former.get(key) == uid else uid

    # ------------------------------------------------------------ ideal nodes
    def _confirm(self) -> None:
        """Every node does what the attachments that have changed ask of it, and says so."""
        changed, self._changed = self._changed, set()
        for key in sorted(changed):
            present = self._catalog.objects.get(key)
            if isinstance(present, AddressAttachment) and isinstance(present.spec.mode, Mode):
                reports = self._reports(present)
                if reports != present.nodes:
                    self._put(attrs.evolve(present, nodes=reports))

    def _reports(self, attachment: AddressAttachment) -> tuple[NodeReport, ...]:
        spec = attachment.spec
        concerned = {(release.node_name, release.node_uid) for release in spec.releasing}
        if spec.holder is not None:
            concerned.add((spec.holder.node_name, spec.holder.node_uid))
        reports = {report.node_name: report for report in attachment.nodes}
        for name, uid in sorted(concerned):
            node = self._catalog.objects.get(ObjectKey(Kind.NODE, "", name))
            if isinstance(node, Node) and node.meta.uid == uid and not node.out_of_service:
                old = reports.get(name, NodeReport(node_name=name))
                new = _confirmation(old, spec, uid)
                if new != old:
                    reports[name] = attrs.evolve(new, at=self._now)
        return tuple(reports.values())


def _confirmation(old: NodeReport, spec: AttachmentSpec, uid: str) -> NodeReport:
    """What a node says once it has done its part; the failure that it reports of this very epoch is believed."""
    new = old
    mine = [release for release in spec.releasing if release.node_uid == uid]
    if mine and all(release.how is How.NOW for release in mine):
        released = max(old.released, *(release.epoch for release in mine))
        if released != old.released:
            new = attrs.evolve(old, epoch=spec.epoch, state=NodeStateName.IDLE, released=released)
    if spec.holder is not None and spec.holder.node_uid == uid and _has_ip_for_all(spec.holder, spec.held_prefixes):
        has_failed = (old.epoch, old.state) == (spec.epoch, NodeStateName.FAILED)
        if not has_failed:
            new = attrs.evolve(new, epoch=spec.epoch, state=NodeStateName.PROGRAMMED, reason="", message="")
    return new


def _has_ip_for_all(holder: Holder, prefixes: tuple[Prefix, ...]) -> bool:
    """Whether something is held, and the Pod has an IP of each family of it; no node could program the rest."""
    families = {ip.version for ip in holder.pod_ips}
    return bool(prefixes) and all(prefix.version in families for prefix in prefixes)
