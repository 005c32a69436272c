"""
Which Events go with a change of a route's status?

In: the status that stands, the one that is about to, the verdict.  Out: Events about the route, and about the one that
won a conflict with it. Nothing is remembered: an Event is due when a condition is about to change; where a move came
from is kept in the message of the condition until the move is told.

    status.pods [x] ──> [yy]   DPV2Ready False "…; before: Pod x on Node a; rule: newest" ──> True   Event Moved
"""

from __future__ import annotations

from persistip.decide.cloud import FAULTS
from persistip.decide.handover import holder_report
from persistip.decide.holder import Choice
from persistip.decide.verdict import Verdict
from persistip.model.actions import RecordEvent
from persistip.model.address import show
from persistip.model.attachment import AddressAttachment, NodeStateName
from persistip.model.conditions import Condition, ConditionType, Reason, Status, find_condition
from persistip.model.gateway import Mode
from persistip.model.route import GKEIPRoute, RouteStatus
from persistip.model.views import RouteView

_BEFORE = "; before: "
_RULE = "; rule: "


def with_origin(message: str, origin: str) -> str:
    """The message of a condition during a move, from which the Event at its end is told."""
    return f"{message}{_BEFORE}{origin}" if origin else message


def without_origin(message: str) -> str:
    """The same for a reader who knows where the addresses come from."""
    return message.partition(_BEFORE)[0]


def is_moving(status: RouteStatus) -> bool:
    """A move has been told to have begun, and not to have ended."""
    stands = find_condition(status.conditions, ConditionType.DPV2_READY)
    return stands is not None and stands.status != Status.TRUE and _BEFORE in stands.message


def find_origin(view: RouteView, route: GKEIPRoute, pods: tuple[str, ...], choice: Choice) -> str:
    """
    Where the addresses come from, and why: "Pod x on Node a; rule: newest". Empty while nothing moves.

    A node that recovers, and an edit that leaves the Pod, move nothing. *view* is the one before any write.
    """
    stands = find_condition(route.status.conditions, ConditionType.DPV2_READY)
    known = stands.message.rpartition(_BEFORE)[2] if stands is not None and _BEFORE in stands.message else ""
    if choice.pod is None or not pods:
        return ""
    holder = view.attachment.spec.holder if view.attachment is not None else None
    is_other = holder is not None and holder.pod_uid != choice.pod.meta.uid
    if pods == route.status.pods and not is_other:
        return known
    if known:  # the move before has not ended: it is one, to another Pod
        former = known.partition(_RULE)[0]
    elif holder is not None and is_other:
        former = f"Pod {holder.pod_name} on Node {holder.node_name}"
    else:
        former = f"Pod {route.status.pods[0]}" if route.status.pods else "nobody"
    return f"{former}{_RULE}{choice.rule}"


def route_events(
    view: RouteView, route: GKEIPRoute, status: RouteStatus, verdict: Verdict, choice: Choice
) -> tuple[RecordEvent, ...]:
    """Accepted, refused, conflict won or lost, moved, failed: each when its condition is about to change."""
    events: list[RecordEvent] = []
    old, new = (find_condition(of.conditions, ConditionType.ACCEPTED) for of in (route.status, status))
    if new is not None and (old is None or _says_another_thing(old, new)):
        events += _judged(view, route, old, new, verdict)
    old, new = (find_condition(of.conditions, ConditionType.GCP_READY) for of in (route.status, status))
    if (
        new is not None
        and new.reason in FAULTS
        and (old is None or (old.reason, old.message) != (new.reason, new.message))
    ):
        events.append(_event(route, new.reason, "Provision", new.message, warning=True))
    old, new = (find_condition(of.conditions, ConditionType.DPV2_READY) for of in (route.status, status))
    if new is not None and new.status == Status.TRUE:
        if origin := find_origin(view, route, status.pods, choice):
            events.append(_event(route, Reason.MOVED, "Move", _moved(view, new.message, origin)))
    elif new is not None and (old is None or (old.reason, old.message) != (new.reason, new.message)):
        events += _failed(view, route, new)
    return tuple(events)


def drain_events(attachment: AddressAttachment, former: AddressAttachment) -> tuple[RecordEvent, ...]:
    """
    An attachment without its route has begun to drain, and agents of this version cannot let go of what it holds.

    There is no route whose condition could say so, and nothing else would: it waits for its nodes, for as long as they
    do not know its mode.
    """
    nodes = {release.node_name for release in attachment.spec.releasing}
    if former.spec.mode == Mode.STANDARD or not former.spec.addresses or not nodes:
        return ()
    prefixes = ", ".join(show(address.prefix) for address in former.spec.addresses)
    said = (
        f"{former.route_key} is gone, and this attachment is of mode {former.spec.mode!r}, on which this version does "
        f"not act: it keeps {prefixes} until an agent that knows the mode has let go on Node "
        f"{', '.join(sorted(nodes))}; upgrade the agents"
    )
    return (
        RecordEvent(
            regarding=former.key,
            uid=former.meta.uid,
            reason=Reason.UNSUPPORTED,
            action="Drain",
            message=said,
            warning=True,
        ),
    )


def _event(route: GKEIPRoute, reason: str, action: str, message: str, *, warning: bool = False) -> RecordEvent:
    return RecordEvent(
        regarding=route.key, uid=route.meta.uid, reason=reason, action=action, message=message, warning=warning
    )


def _says_another_thing(old: Condition, new: Condition) -> bool:
    """A refusal also by its words alone: what was mended may have left another fault of the same reason."""
    is_refused = new.status == Status.FALSE
    return (old.status, old.reason) != (new.status, new.reason) or (is_refused and old.message != new.message)


def _judged(
    view: RouteView, route: GKEIPRoute, old: Condition | None, new: Condition, verdict: Verdict
) -> list[RecordEvent]:
    """The verdict, to the route; a conflict that it lost also to the one that won."""
    if new.status == Status.TRUE:
        won = "; the conflict about them is over" if old is not None and old.reason == Reason.ADDRESS_CONFLICT else ""
        return [_event(route, Reason.ACCEPTED, "Accept", new.message + won)]
    events = [_event(route, new.reason, "Refuse", new.message, warning=True)]
    lost = {fault.winner for fault in verdict.faults} if new.reason == Reason.ADDRESS_CONFLICT else set()
    for rival in view.rivals:
        if rival.route.key in lost:
            said = f"{route.key} claims addresses of this route too, and does not get them"
            events.append(_event(rival.route, Reason.CONFLICT_WON, "Keep", said))
    return events


def _failed(view: RouteView, route: GKEIPRoute, new: Condition) -> list[RecordEvent]:
    """The holder's node says that it cannot deliver."""
    report = holder_report(view.attachment) if view.attachment is not None else None
    if report is None or report[0] != NodeStateName.FAILED or new.reason != (report[1] or Reason.PROGRAMMING_FAILED):
        return []
    return [_event(route, new.reason, "Program", new.message, warning=True)]


def _moved(view: RouteView, message: str, origin: str) -> str:
    """To, how long the nodes took since the decision, from, why."""
    attachment = view.attachment
    assert attachment is not None  # noqa: S101 - what is programmed is attached,
    assert attachment.spec.holder is not None  # noqa: S101 - held,
    report = attachment.report_of(attachment.spec.holder.node_name)
    assert report is not None  # noqa: S101 - and confirmed
    took = max(0, round(report.at * 1000) - attachment.spec.epoch)
    return f"{message}, {took} ms after the decision{_BEFORE}{origin}"
