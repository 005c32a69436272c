"""
What must the attachment say next?

In: what the route may claim, which Pod was chosen, the attachment as it stands.  Out: the next AttachmentSpec.

    claim    absent ──> pending ──> granted         (a second write, on a view that contains the first)
    holder   A ──> B, A into releasing
    release  AfterReady ──> Now ──> gone            (the node's confirmation, or its Node gone, and nothing else)

One write carries all that is due. The epoch rises with every change of what agents must do, and with nothing else.
An address new to the attachment is granted only when no other attachment holds or releases an overlapping one, so
the order of writes in the API decides between two claimants, whoever leads.
"""

from __future__ import annotations

from operator import attrgetter

import attrs

from persistip.decide.candidates import is_delivering, lacks_readiness
from persistip.decide.cloud import has_followed
from persistip.decide.departed import is_node_gone
from persistip.decide.relink import is_found_anew
from persistip.decide.verdict import Claim
from persistip.model.address import Prefix, overlap
from persistip.model.attachment import (
    POD_LINK_CHANGED,
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Damped,
    Holder,
    How,
    Reference,
    Release,
    Strategy,
)
from persistip.model.conditions import Reason
from persistip.model.evolving import evolve
from persistip.model.gateway import Mode
from persistip.model.keys import CLASS_LABEL, node_label
from persistip.model.route import GKEIPRoute
from persistip.model.views import RouteView

MAX_FORGETTABLE = 8
"""How many entries of nodes without a part may stand in ``status.nodes`` before they cost a write in any case."""


@attrs.frozen(kw_only=True)
class Wanted:
    """What the route may have: its claims, who should hold them, and how."""

    route: Reference
    mode: str
    network: str
    claims: tuple[Claim, ...]
    holder: Holder | None
    families: frozenset[int]
    pod_address: str = "app"
    flows: str = "keep"


def next_epoch(old: int, now: float) -> int:
    """Milliseconds of now, and always more than before, whatever the clocks of two replicas say."""
    return max(old + 1, int(now * 1000))


def first_spec(view: RouteView, wanted: Wanted) -> AttachmentSpec:
    """The spec of a new attachment: every address pending, on which no agent acts."""
    return AttachmentSpec(
        route=wanted.route,
        mode=wanted.mode,
        strategy=_strategy(view, wanted),
        network=wanted.network,
        addresses=tuple(
            AttachedAddress(prefix=claim.prefix, gateway=claim.gateway, pending=True) for claim in wanted.claims
        ),
        holder=wanted.holder,
        pod_address=wanted.pod_address,
        flows=wanted.flows,
        epoch=next_epoch(0, view.now),
    )


def _strategy(view: RouteView, wanted: Wanted) -> Strategy:
    """How the network is told: a cloud by its API, and on fast classes by the nodes themselves before that."""
    if view.cloud is None:
        return Strategy.NEIGHBOURS
    return Strategy.FAST_IP_MOVE if wanted.mode == Mode.FAST else Strategy.LEADER


def drained_spec(view: RouteView, attachment: AddressAttachment) -> AttachmentSpec:
    """Nobody holds anything; what was held is released now."""
    spec = attachment.spec
    released = _advance_releases(view, attachment, (), keep_after_ready=False)
    if spec.holder is not None and spec.held_prefixes:
        released += _release_of(view, spec.holder, spec.held_prefixes, How.NOW)
    drained = evolve(spec, addresses=(), holder=None, releasing=released, prepared=(), damped=None)
    return _with_epoch(view, spec, drained)


def next_spec(view: RouteView, attachment: AddressAttachment, wanted: Wanted) -> AttachmentSpec:
    """The spec that should stand after one more write; equal to the present one when nothing is due."""
    spec = attachment.spec
    addresses, dropped = _next_addresses(view, attachment, wanted)
    held_before = spec.held_prefixes
    is_same_pod = _is_same_place(spec.holder, wanted.holder)
    releases = _advance_releases(
        view,
        attachment,
        tuple(address.prefix for address in addresses if not address.pending),
        keep_after_ready=wanted.holder is not None,
        families=wanted.families,
        holder=wanted.holder,
        is_confirmed=attachment.is_confirmed and is_same_pod and has_followed(view, attachment),
    )
    if spec.holder is not None:
        kept = tuple(prefix for prefix in held_before if prefix not in dropped)
        if not is_same_pod and kept:
            how = How.AFTER_READY if _may_linger(view, spec.holder, wanted) else How.NOW
            releases += _release_of(view, spec.holder, kept, how)
        if dropped:
            releases += _release_of(view, spec.holder, dropped, How.NOW)
    next_ = evolve(
        spec,
        mode=wanted.mode,
        network=wanted.network,
        addresses=addresses,
        holder=wanted.holder,
        pod_address=wanted.pod_address,
        flows=wanted.flows,
        releasing=releases,
        damped=_next_damped(view, spec, wanted),
    )
    return _with_epoch(view, spec, next_, is_due=is_same_pod and is_found_anew(view))


def _is_same_place(one: Holder | None, other: Holder | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.pod_uid, one.node_uid) == (other.pod_uid, other.node_uid)


def _may_linger(view: RouteView, old: Holder, wanted: Wanted) -> bool:
    """The old node goes on delivering until the new one is ready, if its Pod can still use it and somebody follows."""
    return wanted.holder is not None and is_delivering(view, old.pod_uid, wanted.families)


def _next_addresses(
    view: RouteView, attachment: AddressAttachment, wanted: Wanted
) -> tuple[tuple[AttachedAddress, ...], tuple[Prefix, ...]]:
    """The addresses to stand next, and those held until now that the route no longer claims."""
    present = {address.prefix: address for address in attachment.spec.addresses}
    claimed = {claim.prefix for claim in wanted.claims}
    others = tuple(prefix for other in view.overlapping for prefix in other.spec.claimed_prefixes)
    addresses: list[AttachedAddress] = []
    for claim in wanted.claims:
        old = present.get(claim.prefix)
        if old is not None and not old.pending:
            addresses.append(old if old.gateway == claim.gateway else evolve(old, gateway=claim.gateway))
        elif overlap((claim.prefix,), others) is not None:
            continue
        elif old is None:
            addresses.append(AttachedAddress(prefix=claim.prefix, gateway=claim.gateway, pending=True))
        else:
            # Granted only on a view in which the watch has delivered the claim, and with it all that came before, and
            # in which no attachment may hold anybody knows what.
            may_grant = view.attachment_is_watched and view.blind is None
            addresses.append(evolve(old, gateway=claim.gateway, pending=not may_grant))
    dropped = tuple(prefix for prefix in attachment.spec.held_prefixes if prefix not in claimed)
    return tuple(addresses), dropped


def _advance_releases(
    view: RouteView,
    attachment: AddressAttachment,
    held: tuple[Prefix, ...],
    *,
    keep_after_ready: bool,
    families: frozenset[int] = frozenset(),
    holder: Holder | None = None,
    is_confirmed: bool = False,
) -> tuple[Release, ...]:
    """Turn AfterReady into Now where it is due, and take finished entries away."""
    releases = []
    for entry in attachment.spec.releasing:
        if is_node_gone(view, entry.node_uid):
            continue
        if holder is not None and _is_holders_own(entry, holder, held):
            continue
        now_due = entry.how is How.AFTER_READY and (
            not keep_after_ready or is_confirmed or not is_delivering(view, entry.pod_uid, families)
        )
        entry_ = evolve(entry, how=How.NOW) if now_due else entry
        report = attachment.report_of(entry.node_name)
        if entry_.how is How.NOW and report is not None and report.released >= entry.epoch:
            continue
        releases.append(entry_)
    return tuple(releases)


def _is_holders_own(entry: Release, holder: Holder, held: tuple[Prefix, ...]) -> bool:
    """Becoming holder drops the node's entries for the same Pod and prefixes; a pending claim holds nothing yet."""
    is_same = (entry.pod_uid, entry.node_uid) == (holder.pod_uid, holder.node_uid)
    return is_same and all(prefix in held for prefix in entry.prefixes)


def _release_of(view: RouteView, old: Holder, prefixes: tuple[Prefix, ...], how: How) -> tuple[Release, ...]:
    if is_node_gone(view, old.node_uid):
        return ()
    return (
        Release(
            prefixes=prefixes,
            pod_name=old.pod_name,
            pod_uid=old.pod_uid,
            node_name=old.node_name,
            node_uid=old.node_uid,
            how=how,
            epoch=0,  # set with the epoch of the write that adds it
            since_at=view.now,
        ),
    )


def _next_damped(view: RouteView, spec: AttachmentSpec, wanted: Wanted) -> Damped | None:
    """Remember the Pod that lost the addresses for want of readiness, until it has held them again."""
    damped = spec.damped
    old = spec.holder if not _is_same_place(spec.holder, wanted.holder) else None
    if old is not None and lacks_readiness(view, old.pod_uid):
        damped = Damped(pod_uid=old.pod_uid, until_at=view.now + view.policy.damping_seconds)
    holds_again = damped is not None and wanted.holder is not None and wanted.holder.pod_uid == damped.pod_uid
    return None if holds_again else damped


def _with_epoch(view: RouteView, old: AttachmentSpec, new: AttachmentSpec, *, is_due: bool = False) -> AttachmentSpec:
    """
    Raise the epoch if agents must do something else now, or if it *is_due* for a reason of its own.

    Not for finished entries taken away, AfterReady turned to Now, ``prepared`` or ``damped``: the first two tell agents
    nothing that they do not already know how to do, the others are not theirs. An entry is added only for a holder or
    an address that changes, which raises it.
    """
    if not is_due and _duties(old) == _duties(new):
        return new
    epoch = next_epoch(old.epoch, view.now)
    releasing = tuple(evolve(release, epoch=epoch) if release.epoch == 0 else release for release in new.releasing)
    return evolve(new, epoch=epoch, releasing=releasing)


_NOT_TOLD = frozenset({"releasing", "prepared", "damped", "epoch"})
_TOLD_TO_AGENTS = attrgetter(*(each.name for each in attrs.fields(AttachmentSpec) if each.name not in _NOT_TOLD))


def _duties(spec: AttachmentSpec) -> object:
    """Everything that agents act on, whatever fields a spec may grow."""
    return _TOLD_TO_AGENTS(spec)


def select_forgotten(attachment: AddressAttachment, next_: AttachmentSpec) -> tuple[str, ...]:
    """
    The nodes that no longer have a part in the attachment, and whose word on it is to be taken away.

    It costs a write of its own. A planned move has its eight without it, so there it waits for another occasion, unless
    many have piled up.
    """
    concerned = next_.node_labels()
    names = sorted(report.node_name for report in attachment.nodes if node_label(report.node_name) not in concerned)
    is_planned_move = any(release.how is How.AFTER_READY for release in next_.releasing)
    is_occasion = next_.epoch != attachment.spec.epoch and not is_planned_move
    return tuple(names) if is_occasion or len(names) > MAX_FORGETTABLE else ()


def is_outdated(attachment: AddressAttachment, route: GKEIPRoute, class_name: str) -> bool:
    """
    Whether an attachment is of what its route no longer is: of another object by that name, or of another class.

    Its end is waited for and a new one made. One that names no class is taken for one of the present class.
    """
    is_of_class = attachment.meta.labels.get(CLASS_LABEL, class_name) == class_name
    return attachment.spec.route.uid != route.meta.uid or not is_of_class


def is_leaving(attachment: AddressAttachment) -> bool:
    """Whether a drained attachment still waits for a node."""
    spec = attachment.spec
    return bool(spec.addresses or spec.holder or spec.releasing)


def holder_report(attachment: AddressAttachment) -> tuple[str, str, str] | None:
    """State, reason and message that the holder's node reported for this very epoch."""
    holder = attachment.spec.holder
    report = attachment.report_of(holder.node_name) if holder is not None else None
    if report is None or report.epoch != attachment.spec.epoch:
        return None
    reason = Reason.POD_LINK_NOT_FOUND if report.reason == POD_LINK_CHANGED else report.reason
    return report.state, reason, report.message
