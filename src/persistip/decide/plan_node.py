"""
What must this node's kernel hold, announce and report?

In: a NodeView: every attachment that names the node, and one complete look at its kernel.  Out: a NodePlan.

    duties  entries.py     changes  difference.py     then: announce what stands, confirm what was read back

All owned entries are compared with the union over all attachments, never attachment by attachment: holding wins over
releasing, and what is in no attachment goes. A plan is made of one look; the next look confirms it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

import attrs

from persistip.decide.announcing import free_at
from persistip.decide.difference import diff_entries
from persistip.decide.entries import Duty, Trouble, find_duty
from persistip.model.actions import DatapathAction, ForgetPin, Outcome, RecordPin, ReportNode
from persistip.model.address import Prefix, is_overlapping, is_single, overlap, sort_key
from persistip.model.attachment import AddressAttachment, AttachmentSpec, How, NodeReport, NodeStateName, Strategy
from persistip.model.conditions import Reason
from persistip.model.entry import Announcement, Entry, GuardEntry, Manner, NodeScope, RouteEntry
from persistip.model.gateway import Mode
from persistip.model.views import NodeView

BRIEF_SECONDS = 1.0
"""How long a trouble that the kernel usually resolves by itself may last before it is reported."""
KNOWN = frozenset(
    {
        (Mode.STANDARD, Strategy.NEIGHBOURS),
        (Mode.STANDARD, Strategy.LEADER),
        (Mode.FAST, Strategy.FAST_IP_MOVE),
    }
)
"""What agents of this version know how to do; of all else nothing is changed."""


@attrs.frozen(kw_only=True)
class NodePlan:
    """
    What to do, in order: datapath actions, then the whole set of announcements, then reports.

    ``is_settled``: the kernel is as it should be, as far as it can be.
    """

    actions: tuple[DatapathAction, ...] = ()
    announcements: frozenset[Announcement] = frozenset()
    reports: tuple[ReportNode, ...] = ()
    recheck_at: float | None = None

    @property
    def is_settled(self) -> bool:
        """Nothing is to be changed in the kernel."""
        return not self.actions


def node_scope(attachments: Iterable[AddressAttachment], node_name: str) -> NodeScope:
    """The Pod IPs whose links the next look at the kernel must find."""
    return NodeScope(
        pod_ips=frozenset(
            ip
            for attachment in attachments
            if (holder := attachment.spec.holder) is not None
            and holder.node_name == node_name
            and attachment.spec.held_prefixes
            for ip in holder.pod_ips
        )
    )


def plan_node(view: NodeView) -> NodePlan:
    """Decide; the same view gives the same plan."""
    known = [each for each in view.attachments if (each.spec.mode, each.spec.strategy) in KNOWN]
    strange = [each for each in view.attachments if (each.spec.mode, each.spec.strategy) not in KNOWN]
    duties = [find_duty(attachment, view.node_name, view.state) for attachment in known]

    pinned = [duty for duty in duties if duty.pin is None or duty.pin in view.state.pins]
    unpinned = [duty for duty in duties if duty.pin is not None and duty.pin not in view.state.pins]
    desired = frozenset[Entry]().union(*(duty.desired for duty in duties))
    # Nothing is removed for a Pod whose pin is not on record yet, nor of what an unknown mode or strategy claims.
    kept = frozenset[Entry]().union(
        *(duty.kept for duty in duties),
        *(_standing(view, duty.attachment.spec.held_prefixes) for duty in unpinned),
        *(_standing(view, attachment.spec.claimed_prefixes) for attachment in strange),
    )
    # Pins first: what may not be done without them is stopped when they fail, and traffic waits for no second look.
    actions = (
        *(RecordPin(duty.pin) for duty in unpinned if duty.pin is not None),
        *diff_entries(desired, kept, view.state, _due(view, duties, desired)),
    )
    actions += _forget_pins(view, duties, strange, wanted=desired | kept)
    reports = [
        *(report for duty in duties if (report := _report(duty, desired, view)) is not None),
        *(_report_strange(attachment, view) for attachment in strange),
    ]
    announcing = [duty for duty in pinned if duty.is_holder and duty.desired and duty.desired <= view.state.entries]
    waiting = [duty for duty in duties if duty.trouble is not None and duty.trouble.is_brief]
    moments = [view.now + BRIEF_SECONDS for _ in waiting[:1]]
    moments += [at for duty in announcing if (at := _announces_at(duty, view)) > view.now]
    return NodePlan(
        actions=actions,
        announcements=frozenset(
            announcement
            for duty in announcing
            if _announces_at(duty, view) <= view.now
            for announcement in _announcements(duty.attachment.spec, view)
        ),
        reports=tuple(report for report in reports if _is_news(report, view)),
        recheck_at=min(moments, default=None),
    )


def _standing(view: NodeView, prefixes: tuple[Prefix, ...]) -> frozenset[Entry]:
    return frozenset(entry for entry in view.state.entries | view.state.stale if entry.prefix in prefixes)


def _due(view: NodeView, duties: list[Duty], desired: frozenset[Entry]) -> frozenset[Entry]:
    """
    What leads to Pods that release now, and by nobody's leave any more.

    Although its place on this node is taken by another Pod, for which nothing can be put: the release of an address
    hangs on no other Pod. A move without a gap puts first and takes behind, in one round.
    """
    due = [prefix for duty in duties for each in duty.releases if each.how is How.NOW for prefix in each.prefixes]
    if not due:
        return frozenset()
    kept = frozenset[Entry]().union(desired, *(duty.kept for duty in duties))
    return frozenset(
        entry
        for entry in (view.state.entries | view.state.stale) - kept
        if isinstance(entry, RouteEntry | GuardEntry) and overlap((entry.prefix,), due) is not None
    )


def _forget_pins(
    view: NodeView, duties: list[Duty], strange: list[AddressAttachment], *, wanted: frozenset[Entry]
) -> tuple[DatapathAction, ...]:
    """
    A pin goes after the last entry that rests on it, when its Pod neither holds nor releases anything here.

    Whatever else is still to be done: an entry of others that cannot be put must not keep it.
    """
    resting = {
        (entry.link, entry.hardware_address)
        for entry in (view.state.entries | view.state.stale) - wanted
        if isinstance(entry, RouteEntry | GuardEntry)
    }
    needed = {
        (duty.attachment.meta.uid, duty.attachment.spec.holder.pod_uid)
        for duty in duties
        if duty.is_holder and duty.attachment.spec.holder is not None
    }
    needed |= {(duty.attachment.meta.uid, release.pod_uid) for duty in duties for release in duty.releases}
    untouched = {attachment.meta.uid for attachment in strange}
    gone = [
        pin
        for pin in view.state.pins
        if (pin.attachment_uid, pin.pod_uid) not in needed
        and pin.attachment_uid not in untouched
        and (pin.link, pin.hardware_address) not in resting
    ]
    return tuple(ForgetPin(pin) for pin in sorted(gone, key=lambda pin: (pin.attachment_uid, pin.pod_uid)))


def _announces_at(duty: Duty, view: NodeView) -> float:
    """From when on a holder whose entries all stand may say so."""
    is_cloud = duty.attachment.spec.strategy == Strategy.FAST_IP_MOVE
    return free_at(duty.attachment, view.node_name) if is_cloud else view.now


def _announcements(spec: AttachmentSpec, view: NodeView) -> Iterator[Announcement]:
    """
    Neighbours are told each single address.

    A cloud moves all addresses of a route when it hears of one, so it hears of the first of each family: frames that
    nobody needs are frames that may come too late. What it delivers by its leader is announced to nobody.
    """
    manner = Manner.LAYER_2
    prefixes = [prefix for prefix in spec.held_prefixes if is_single(prefix)]
    if spec.strategy == Strategy.FAST_IP_MOVE:
        manner = Manner.FAST_IP_MOVE
        lowest = {prefix.version: prefix for prefix in sorted(spec.held_prefixes, key=sort_key, reverse=True)}
        prefixes = [ip_network(prefix.network_address) for prefix in lowest.values()]
    elif spec.strategy == Strategy.LEADER:
        prefixes = []
    for prefix in prefixes:
        for uplink in view.state.uplinks:
            yield Announcement(prefix=prefix, link=uplink, epoch=spec.epoch, manner=manner)


def _report(duty: Duty, desired: frozenset[Entry], view: NodeView) -> ReportNode | None:
    """What this node can truthfully say of one attachment now, or None when it has nothing to say yet."""
    attachment = duty.attachment
    old = _last_word(attachment, view)
    released = max(_released(duty, desired, view), old.released)
    said = _holder_says(duty, old, view) if duty.is_holder else None
    if said is None:
        if released == old.released:
            return None
        said = (NodeStateName.PROGRAMMING if duty.is_holder else NodeStateName.IDLE, "", "")
    state, reason, message = said
    return _report_of(attachment, view, state=state, released=released, reason=reason, message=message)


def _last_word(attachment: AddressAttachment, view: NodeView) -> NodeReport:
    return attachment.report_of(view.node_name) or NodeReport(node_name=view.node_name)


def _holder_says(duty: Duty, old: NodeReport, view: NodeView) -> tuple[NodeStateName, str, str] | None:
    """State, reason and message; None while the work is under way and nothing untrue stands."""
    epoch = duty.attachment.spec.epoch
    if duty.desired and duty.pin in view.state.pins and duty.desired <= view.state.entries:
        return NodeStateName.PROGRAMMED, "", ""
    trouble = duty.trouble or _failure(duty, view)
    if trouble is None:
        is_untrue = (old.epoch, old.state) == (epoch, NodeStateName.PROGRAMMED)
        return (NodeStateName.PROGRAMMING, "", "what stood is gone and is being put again") if is_untrue else None
    # Either clock may be a little ahead of the other.
    if trouble.is_brief and abs(view.now - epoch / 1000) < BRIEF_SECONDS:
        return None
    return NodeStateName.FAILED, trouble.reason, trouble.message


def _failure(duty: Duty, view: NodeView) -> Trouble | None:
    """What keeps an entry from standing: something foreign, or the last try to put it."""
    for entry in sorted(duty.desired - view.state.entries, key=repr):
        outcome: Outcome | None = view.outcomes.get(entry)
        if outcome is not None and not outcome.is_done:
            return Trouble(reason=Reason.PROGRAMMING_FAILED, message=outcome.message)
        obstacle = next((found for found in view.state.obstacles if found.prefix == entry.prefix), None)
        if obstacle is not None:
            return Trouble(reason=Reason.PROGRAMMING_FAILED, message=obstacle.message)
    return None


def _released(duty: Duty, desired: frozenset[Entry], view: NodeView) -> int:
    """Up to which entry epoch everything to be withdrawn is out of the kernel; 0: nothing to confirm yet."""
    if not duty.releases or any(release.how is not How.NOW for release in duty.releases):
        return 0
    prefixes = [prefix for release in duty.releases for prefix in release.prefixes]
    left = (
        entry
        for entry in (view.state.entries | view.state.stale) - desired - duty.kept
        if any(is_overlapping(entry.prefix, prefix) for prefix in prefixes)
    )
    return 0 if any(left) else max(release.epoch for release in duty.releases)


def _report_strange(attachment: AddressAttachment, view: NodeView) -> ReportNode:
    spec = attachment.spec
    strategy = f" with strategy {spec.strategy!r}" if spec.strategy else ""
    said = f"this agent does not know mode {str(spec.mode)!r}{strategy}; upgrade it"
    released = _last_word(attachment, view).released
    return _report_of(attachment, view, state=NodeStateName.UNSUPPORTED, released=released, message=said)


def _report_of(
    attachment: AddressAttachment,
    view: NodeView,
    *,
    state: NodeStateName,
    released: int,
    reason: str = "",
    message: str = "",
) -> ReportNode:
    report = NodeReport(
        node_name=view.node_name,
        epoch=attachment.spec.epoch,
        state=state,
        released=released,
        reason=reason,
        message=message,
        at=view.now,
    )
    return ReportNode(name=attachment.meta.name, uid=attachment.meta.uid, report=report)


def _is_news(report: ReportNode, view: NodeView) -> bool:
    attachment = next(found for found in view.attachments if found.meta.uid == report.uid)
    old = attachment.report_of(view.node_name)
    return old is None or attrs.evolve(old, at=report.report.at) != report.report
