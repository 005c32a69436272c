"""
What must be done for one route?

In: a RouteView.  Out: a RoutePlan.

    accepted?      acceptance.py, claims.py      who holds it?  holder.py
    attachment     handover.py                   what to say    report.py, events.py

The attachment's write comes first: traffic waits for it, and for nothing else here.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from persistip.decide.acceptance import find_verdict
from persistip.decide.claims import held_prefixes, resolve_claims, what_it_holds
from persistip.decide.cloud import is_left, plan_cloud, recheck_cloud_at
from persistip.decide.departed import select_unconfirmed
from persistip.decide.events import drain_events, route_events
from persistip.decide.fields import FLOWS, POD_ADDRESS
from persistip.decide.handover import (
    Wanted,
    drained_spec,
    first_spec,
    is_leaving,
    is_outdated,
    next_spec,
    select_forgotten,
)
from persistip.decide.holder import Choice, select_holder, to_holder
from persistip.decide.networks import seen_on_network
from persistip.decide.relink import found_anew_at
from persistip.decide.report import route_status
from persistip.decide.verdict import Claim, Verdict
from persistip.model.actions import ClusterAction, CreateAttachment, DeleteAttachment, ReplaceAttachment, ReportRoute
from persistip.model.address import overlap
from persistip.model.attachment import RELEASE_FINALIZER, AddressAttachment, AttachmentSpec, Holder, Reference
from persistip.model.cloud import RouteAction
from persistip.model.evolving import evolve
from persistip.model.gateway import Mode
from persistip.model.keys import CLASS_LABEL, ObjectMeta, attachment_name, node_label
from persistip.model.views import RouteView

_NODE_LABEL_PREFIX = node_label("")[: node_label("").index("/") + 1]


@attrs.frozen(kw_only=True)
class RoutePlan:
    """
    What to do, in order, and why.

    ``holder`` is who should hold the addresses by this view. ``cloud``: all that the cloud is to hold for the route;
    None: as it is. It is no part of the order, since nothing here waits for it. ``recheck_at``: plan again then, though
    nothing changes.
    """

    verdict: Verdict = Verdict(is_ours=False)
    choice: Choice = Choice()
    holder: Holder | None = None
    actions: tuple[ClusterAction, ...] = ()
    cloud: RouteAction | None = None
    recheck_at: float | None = None


def plan_route(view: RouteView) -> RoutePlan:
    """Decide; the same view gives the same plan."""
    view = seen_on_network(view)
    if view.unreadable is not None:
        return RoutePlan()  # neither present nor gone: nothing is built on it, and nothing withdrawn
    if view.facts is None:
        leaving = _leave(view, view.attachment)
        actions = (*leaving, *_drain_events(view, leaving)) or _ask(view)
        return RoutePlan(actions=actions, cloud=plan_cloud(view))
    route = view.facts.route
    verdict = _judge(view)
    if not verdict.is_ours:
        return RoutePlan(verdict=verdict)

    families = frozenset(claim.prefix.version for claim in verdict.claims)
    choice = Choice() if verdict.is_refused else select_holder(view, families)
    holder = None
    if choice.pod is not None and not choice.awaits_ip and not verdict.unserved:
        holder = to_holder(choice.pod, view.nodes, families)
    writes = _attach(view, verdict, holder, families)
    actions = writes
    status = route_status(view, route, verdict, choice, _after(view, actions))
    if status != route.status:
        meta = route.meta
        actions += (
            ReportRoute(key=view.key, uid=meta.uid, resource_version=meta.resource_version, status=status),
            *route_events(view, route, status, verdict, choice),
        )
    actions += () if writes else _ask(view)
    moments = [
        at
        for at in (choice.recheck_at, found_anew_at(view), recheck_cloud_at(view))
        if at is not None and at > view.now
    ]
    return RoutePlan(
        verdict=verdict,
        choice=choice,
        holder=holder,
        actions=actions,
        cloud=plan_cloud(view),
        recheck_at=min(moments, default=None),
    )


def _drain_events(view: RouteView, leaving: tuple[ClusterAction, ...]) -> tuple[ClusterAction, ...]:
    """What nobody else will be told when the route is gone."""
    written = _after(view, leaving)
    return drain_events(written, view.attachment) if leaving and written and view.attachment else ()


def _ask(view: RouteView) -> tuple[ClusterAction, ...]:
    """Behind every write, and on the attachment as it stays: nobody waits for these answers but its releases."""
    return select_unconfirmed(view, view.attachment) if view.attachment is not None else ()


def _after(view: RouteView, actions: tuple[ClusterAction, ...]) -> AddressAttachment | None:
    """The attachment once it is written: what a status says of a move is true from its first write on."""
    for action in actions:
        if isinstance(action, CreateAttachment | ReplaceAttachment):
            return action.attachment
    return view.attachment


def _judge(view: RouteView) -> Verdict:
    assert view.facts is not None  # noqa: S101 - narrowed by the caller
    verdict = find_verdict(view.facts, view.ranges, view.modes, view.policy)
    rivals = {
        rival.route.key: (
            rival,
            what_it_holds(rival) if rival.is_unreadable else find_verdict(rival, view.ranges, view.modes, view.policy),
        )
        for rival in view.rivals
    }
    return resolve_claims(view.facts, verdict, rivals)


def _attach(
    view: RouteView, verdict: Verdict, holder: Holder | None, families: frozenset[int]
) -> tuple[ClusterAction, ...]:
    """The one write that the attachment needs now, if any."""
    assert view.facts is not None  # noqa: S101 - narrowed by the caller
    route, attachment = view.facts.route, view.attachment
    reference = Reference(namespace=route.meta.namespace, name=route.meta.name, uid=route.meta.uid)
    claims = _usable_claims(view, verdict)
    if attachment is not None and (
        attachment.meta.is_terminating
        or is_outdated(attachment, route, verdict.class_name)
        or verdict.is_refused
        or not claims
        or verdict.unserved
    ):
        return _leave(view, attachment)
    if verdict.is_refused or verdict.unserved or not claims:
        return ()
    class_label = {CLASS_LABEL: verdict.class_name}
    wanted = Wanted(
        route=reference,
        mode=Mode.STANDARD,
        network=route.network_name,
        claims=claims if holder is None else _receivable(claims, holder, attachment),
        holder=holder,
        families=families,
        pod_address=route.meta.annotations.get(POD_ADDRESS, "app"),
        flows=route.meta.annotations.get(FLOWS, "keep"),
    )
    if attachment is None:
        return _create(view, wanted, class_label) if holder is not None else ()
    return _replace(attachment, next_spec(view, attachment, wanted), class_label)


def _usable_claims(view: RouteView, verdict: Verdict) -> tuple[Claim, ...]:
    """All claims of an accepted route; of one with live faults only what it holds already."""
    if verdict.is_accepted or view.facts is None:
        return verdict.claims
    held = held_prefixes(view.facts)
    return tuple(claim for claim in verdict.claims if claim.prefix in held)


def _receivable(claims: tuple[Claim, ...], holder: Holder, attachment: AddressAttachment | None) -> tuple[Claim, ...]:
    """
    What the holder can receive, and what is held already.

    Only one that ``hold`` keeps may lack an IP of some family. Granted an address of that family it could not be
    programmed, and whatever is delivered to it would be put at risk for nothing.
    """
    families = {ip.version for ip in holder.pod_ips}
    held = attachment.spec.held_prefixes if attachment is not None else ()
    return tuple(claim for claim in claims if claim.prefix.version in families or claim.prefix in held)


def _create(view: RouteView, wanted: Wanted, class_label: Mapping[str, str]) -> tuple[ClusterAction, ...]:
    """A new attachment claims what is free; one that could claim nothing is not made."""
    others = tuple(prefix for other in view.overlapping for prefix in other.spec.claimed_prefixes)
    free = tuple(claim for claim in wanted.claims if overlap((claim.prefix,), others) is None)
    if not free:
        return ()
    spec = first_spec(view, evolve(wanted, claims=free))
    meta = ObjectMeta(
        name=attachment_name(wanted.route.namespace, wanted.route.name),
        labels={**class_label, **spec.node_labels()},
        finalizers=(RELEASE_FINALIZER,),
    )
    return (CreateAttachment(AddressAttachment(meta=meta, spec=spec)),)


def _replace(
    attachment: AddressAttachment, spec: AttachmentSpec, class_label: Mapping[str, str] | None = None
) -> tuple[ClusterAction, ...]:
    labels = {
        **{key: value for key, value in attachment.meta.labels.items() if not key.startswith(_NODE_LABEL_PREFIX)},
        **(class_label or {}),
        **spec.node_labels(),
    }
    if spec == attachment.spec and labels == attachment.meta.labels:
        return ()
    meta = evolve(attachment.meta, labels=labels)
    forgotten = select_forgotten(attachment, spec)
    nodes = tuple(report for report in attachment.nodes if report.node_name not in forgotten)
    return (ReplaceAttachment(evolve(attachment, spec=spec, meta=meta, nodes=nodes), forgotten),)


def _leave(view: RouteView, attachment: AddressAttachment | None) -> tuple[ClusterAction, ...]:
    """Drain, delete, let go: one step at a time, each seen before the next."""
    if attachment is None:
        return ()
    if writes := _replace(attachment, drained_spec(view, attachment)):
        return writes
    if is_leaving(attachment) or not is_left(view):
        return ()
    if not attachment.meta.is_terminating:
        meta = attachment.meta
        return (DeleteAttachment(name=meta.name, uid=meta.uid, resource_version=meta.resource_version),)
    finalizers = tuple(name for name in attachment.meta.finalizers if name != RELEASE_FINALIZER)
    if finalizers == attachment.meta.finalizers:
        return ()
    return (ReplaceAttachment(evolve(attachment, meta=evolve(attachment.meta, finalizers=finalizers))),)
