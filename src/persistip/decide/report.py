"""
What do the conditions of a route say?

In: verdict, choice, and the attachment as it stands.  Out: a RouteStatus.
"""

from __future__ import annotations

from typing import NamedTuple

from persistip.decide.candidates import lacking_families
from persistip.decide.cloud import say_cloud
from persistip.decide.events import find_origin, with_origin
from persistip.decide.fields import HOLD
from persistip.decide.handover import holder_report, is_leaving, is_outdated
from persistip.decide.holder import Choice
from persistip.decide.verdict import Verdict
from persistip.model.address import overlap, show
from persistip.model.attachment import AddressAttachment, NodeStateName
from persistip.model.conditions import Condition, ConditionType, Reason, Status, merge_conditions
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, RouteStatus
from persistip.model.views import RouteView

_KINDS_SHOWN = 8
_IF_OFF = "; of a machine that is off for good, delete the Node or give it the taint node.kubernetes.io/out-of-service"
_PLURALS = {"is": "are", "has": "have", "uses": "use", "shares": "share"}
_ORDER = (ConditionType.ACCEPTED, ConditionType.GCP_READY, ConditionType.DPV2_READY)


class _Said(NamedTuple):
    """One condition before it is dressed with generation and time."""

    status: Status
    reason: str
    message: str = ""


def route_status(
    view: RouteView, route: GKEIPRoute, verdict: Verdict, choice: Choice, attachment: AddressAttachment | None
) -> RouteStatus:
    """The status that should stand once the *attachment* is this one; until then it is as *view* has it."""
    holds = attachment is not None and bool(attachment.spec.held_prefixes)
    said = {
        ConditionType.ACCEPTED: _accepted(verdict, holds=holds),
        ConditionType.GCP_READY: _Said(*say_cloud(view, verdict, choice, attachment)),
        ConditionType.DPV2_READY: _datapath(view, route, verdict, choice, attachment),
    }
    may_hold = not verdict.unserved and (verdict.is_accepted or (holds and not verdict.is_refused))
    pods = (choice.pod.meta.name,) if may_hold and choice.pod is not None else ()
    words = said[ConditionType.DPV2_READY]
    if words.status is not Status.TRUE:
        told = with_origin(words.message, find_origin(view, route, pods, choice))
        said[ConditionType.DPV2_READY] = _Said(words.status, words.reason, told)
    failing = next((said[type_] for type_ in _ORDER if said[type_].status is not Status.TRUE), None)
    if failing is None:
        said[ConditionType.READY] = _Said(Status.TRUE, Reason.READY, said[ConditionType.DPV2_READY].message)
    else:
        said[ConditionType.READY] = _Said(Status.FALSE, failing.reason, failing.message)
    wanted = [
        Condition(
            type=type_,
            status=words.status,
            reason=words.reason,
            message=words.message,
            observed_generation=route.meta.generation,
        )
        for type_, words in said.items()
    ]
    return RouteStatus(pods=pods, conditions=merge_conditions(route.status.conditions, wanted, view.now))


def _accepted(verdict: Verdict, *, holds: bool) -> _Said:
    if verdict.is_accepted:
        remarks = f" ({verdict.message})" if verdict.remarks else ""
        return _Said(Status.TRUE, Reason.ACCEPTED, f"the route may use its addresses{remarks}")
    held = " (what is attached stays)" if holds and not verdict.is_refused else ""
    return _Said(Status.FALSE, verdict.reason, verdict.message + held)


def _datapath(
    view: RouteView, route: GKEIPRoute, verdict: Verdict, choice: Choice, attachment: AddressAttachment | None
) -> _Said:
    if verdict.is_refused:
        if attachment is not None and is_leaving(attachment):
            return _awaiting_own(attachment)
        return _Said(Status.FALSE, Reason.NOT_ACCEPTED, "the route is not accepted")
    if attachment is not None and (
        is_outdated(attachment, route, verdict.class_name) or attachment.meta.is_terminating or verdict.unserved
    ):
        return _awaiting_own(attachment)
    if verdict.unserved:
        return _Said(Status.FALSE, Reason.UNSUPPORTED, verdict.unserved)
    families = frozenset(claim.prefix.version for claim in verdict.claims)
    if choice.pod is None:
        return _no_pod(choice, route, families)
    if choice.awaits_ip:
        return _awaiting_ip(choice, choice.pod, families)
    if waits := _held_without_ip(choice.pod, verdict, attachment):
        return waits
    if waits := _awaiting_others(view, verdict, attachment) or _awaiting_sight(view, verdict, attachment):
        return waits
    held = attachment.spec.held_prefixes if attachment is not None else ()
    if verdict.is_accepted and any(claim.prefix not in held for claim in verdict.claims):
        return _Said(Status.FALSE, Reason.PROGRAMMING, "the addresses are being claimed")
    if attachment is None or not held:
        return _Said(Status.FALSE, Reason.NOT_ACCEPTED, "nothing is attached while the route is not accepted")
    return _holders_word(view, attachment, choice.pod)


def _no_pod(choice: Choice, route: GKEIPRoute, families: frozenset[int]) -> _Said:
    """Nobody may hold the addresses: how many matched, and why each kind was refused."""
    if choice.matched == 0:
        said = f"no Pod in namespace {route.meta.namespace} matches spec.podSelector ({route.pod_selector})"
        return _Said(Status.FALSE, Reason.NO_ELIGIBLE_POD, said)
    if choice.conflicts:
        more = f" (and {len(choice.conflicts) - 1} more like it)" if len(choice.conflicts) > 1 else ""
        said = f"{choice.conflicts[0]}{more}, so nobody can say whose it is; {_counted(choice)}"
        return _Said(Status.FALSE, Reason.POD_IP_CONFLICT, said)
    lacking = choice.without_ip
    advice = _how_to_get_ip(lacking, f"Pod {lacking.meta.name}", families) if lacking is not None else ""
    return _Said(Status.FALSE, Reason.NO_ELIGIBLE_POD, _counted(choice) + advice)


def _counted(choice: Choice) -> str:
    """How many Pods matched, and how many were refused for which reason; the commonest reasons first."""
    kinds = sorted(choice.refused, key=lambda kind: -kind[1])  # of equal counts in the order of the words, as given
    whys = [f"{count} {why if count == 1 else _plural(why)}" for why, count in kinds[:_KINDS_SHOWN]]
    whys += [f"{len(kinds) - _KINDS_SHOWN} kinds more"] if len(kinds) > _KINDS_SHOWN else []
    matched = "1 Pod matches" if choice.matched == 1 else f"{choice.matched} Pods match"
    return f"{matched} spec.podSelector, none may hold the addresses: {', '.join(whys)}"


def _plural(why: str) -> str:
    verb, _, rest = why.partition(" ")
    return f"{_PLURALS.get(verb, verb)} {rest}"


def _awaiting_ip(choice: Choice, pod: Pod, families: frozenset[int]) -> _Said:
    """The chosen Pod has no IP yet: which one is missing, and where it is to come from."""
    said = f"Pod {pod.meta.name} on Node {pod.node_name} has no {lacking_families(pod, families)} address yet"
    others = choice.matched - 1
    beside = f"; of {others} other Pod{'s' if others > 1 else ''} none is eligible" if others else ""
    return _Said(Status.FALSE, Reason.AWAITING_POD_IP, said + beside + _how_to_get_ip(pod, "it", families))


def _held_without_ip(pod: Pod, verdict: Verdict, attachment: AddressAttachment | None) -> _Said | None:
    """Only a Pod that an annotation holds may lack an IP of what the route may have; no other is asked."""
    held = attachment.spec.held_prefixes if attachment is not None else ()
    due = [claim.prefix for claim in verdict.claims if verdict.is_accepted or claim.prefix in held]
    families = frozenset(prefix.version for prefix in due)
    if not (lacking := lacking_families(pod, families)):
        return None
    said = f"Pod {pod.meta.name} on Node {pod.node_name}, kept by annotation {HOLD}, has no {lacking} address"
    shown = ", ".join(show(prefix) for prefix in due if f"IPv{prefix.version}" in lacking)
    advice = f"{_how_to_get_ip(pod, 'it', families)}; or take the annotation away, and another Pod may hold them"
    return _Said(Status.FALSE, Reason.AWAITING_POD_IP, f"{said} for {shown}{advice}")


def _how_to_get_ip(pod: Pod, who: str, families: frozenset[int]) -> str:
    """A Pod gets all its IPs at once: one that has some waits for nothing, and something must be changed."""
    if not pod.ips:
        return f"; {who} has no IP at all: `kubectl describe pod {pod.meta.name}` says what it waits for"
    lacking, present = lacking_families(pod, families), pod.ips[0].version
    return f"; give {who} an {lacking} address, or let the route list IPv{present} addresses only"


def _awaiting_own(attachment: AddressAttachment) -> _Said:
    nodes = sorted({release.node_name for release in attachment.spec.releasing})
    where = f"Node {', '.join(nodes)}" if nodes else "the former attachment"
    advice = _IF_OFF if nodes else ""
    return _Said(Status.FALSE, Reason.AWAITING_RELEASE, f"waiting for {where} to release the addresses{advice}")


def _awaiting_others(view: RouteView, verdict: Verdict, attachment: AddressAttachment | None) -> _Said | None:
    held = set(attachment.spec.held_prefixes) if attachment is not None else set()
    lacking = [claim.prefix for claim in verdict.claims if claim.prefix not in held]
    if not verdict.is_accepted:
        return None  # new claims are refused, and the Accepted condition says by whom
    for other in view.overlapping:
        prefix = overlap(lacking, other.spec.claimed_prefixes)
        if prefix is None:
            continue
        nodes = {release.node_name for release in other.spec.releasing}
        if other.spec.holder is not None:
            nodes.add(other.spec.holder.node_name)
        where = f" on Node {', '.join(sorted(nodes))}{_IF_OFF}" if nodes else ""
        said = f"waiting for {other.route_key} to release {show(prefix)}{where}"
        return _Said(Status.FALSE, Reason.AWAITING_RELEASE, said)
    return None


def _awaiting_sight(view: RouteView, verdict: Verdict, attachment: AddressAttachment | None) -> _Said | None:
    """An attachment that cannot be read may hold anything: what is held stays and moves, and nothing new is granted."""
    held = attachment.spec.held_prefixes if attachment is not None else ()
    if view.blind is None or not verdict.is_accepted or all(claim.prefix in held for claim in verdict.claims):
        return None
    said = f"{view.blind} cannot be read, and may hold any address: nothing is granted until it is mended or deleted"
    return _Said(Status.FALSE, Reason.AWAITING_RELEASE, said)


def _holders_word(view: RouteView, attachment: AddressAttachment, chosen: Pod) -> _Said:
    holder = attachment.spec.holder
    if holder is None:
        said = f"Pod {chosen.meta.name} was kept by annotation {HOLD}, and its Node {chosen.node_name} is gone"
        return _Said(Status.FALSE, Reason.PROGRAMMING, f"{said}: the addresses are withdrawn")
    where = f"Pod {holder.pod_name} on Node {holder.node_name}"
    report = holder_report(attachment)
    if holder.node_name in view.silent_agents and (report is None or report[0] != NodeStateName.FAILED):
        said = "the agent's Pod there is not Ready, so nobody knows; what is programmed goes on"
        return _Said(Status.UNKNOWN, Reason.AGENT_NOT_READY, f"{where}: {said}")
    if report is None:
        return _Said(Status.FALSE, Reason.PROGRAMMING, f"{where}: waiting for the node's confirmation")
    state, reason, message = report
    match state:
        case NodeStateName.PROGRAMMED:
            return _Said(Status.TRUE, Reason.PROGRAMMED, f"held by {where}")
        case NodeStateName.FAILED:
            return _Said(Status.FALSE, reason or Reason.PROGRAMMING_FAILED, f"{where}: {message}")
        case _:
            return _Said(Status.FALSE, Reason.PROGRAMMING, f"{where}: {message}" if message else where)
