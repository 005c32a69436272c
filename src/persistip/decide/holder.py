"""
Which Pod holds a route's addresses?

In: a route, its candidates, the present attachment.  Out: a Choice.
The rule is GKE's: among the Pods that the reaction mode admits, the newest wins. The annotations ``prefer``,
``failback`` and ``hold`` bend it, and damping keeps a flapping Pod from taking the addresses back at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from persistip.decide.candidates import find_candidates, pod_refusal, present_holder
from persistip.decide.fields import FAILBACK, HOLD, PREFER, mode_of
from persistip.model.attachment import Damped, Holder
from persistip.model.evolving import evolve
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, ReactionModeName
from persistip.model.views import Admits, RouteView


@attrs.frozen(kw_only=True)
class Choice:
    """
    The Pod that should hold the addresses, or None.

    ``refused`` counts the matching Pods by why they may not hold the addresses; ``conflicts`` are the sentences about
    IPs that two Pods claim; ``without_ip`` is the first by name of the Pods that lack nothing but an IP. ``awaits_ip``:
    the Pod is chosen, but nothing can be programmed until it has an IP of every family. ``recheck_at``: when time alone
    may change the choice.
    """

    pod: Pod | None = None
    rule: str = ""
    matched: int = 0
    refused: tuple[tuple[str, int], ...] = ()
    conflicts: tuple[str, ...] = ()
    without_ip: Pod | None = None
    awaits_ip: bool = False
    recheck_at: float | None = None


def select_holder(view: RouteView, families: frozenset[int]) -> Choice:
    """
    Pick the Pod.

    Equal ages go to the present holder, else to the smaller name: two controllers that see the same cluster must
    name the same Pod, or the address would flap between nodes.
    """
    if view.facts is None or (mode := mode_of(view.facts.route, view.modes)) is None:
        return Choice()
    route = view.facts.route
    found = find_candidates(view, route, mode, families)
    holder = present_holder(route, view.attachment)
    present = holder.pod_uid if holder is not None else None
    base = Choice(
        matched=found.matched,
        refused=found.counts,
        conflicts=found.conflicts,
        without_ip=min(found.without_ip, key=lambda pod: pod.meta.name, default=None),
    )

    if route.meta.annotations.get(HOLD) == "true" and present is not None:
        held = next((pod for pod in view.pods if pod.meta.uid == present and not pod.is_finished), None)
        if held is not None:
            return evolve(base, pod=held, rule="held by annotation")
    if found.eligible:
        return _among(found.eligible, route, present, view, base)
    if (lingering := _lingering(view, route, present, mode, families)) is not None:
        return evolve(base, pod=lingering, rule="the terminating holder, nobody else being eligible")
    if found.without_ip and mode is view.modes.get(ReactionModeName.EXISTS):
        chosen = _newest(found.without_ip, present)
        return evolve(base, pod=chosen, awaits_ip=True, rule="newest, waiting for its IP")
    return base


def _among(eligible: tuple[Pod, ...], route: GKEIPRoute, present: str | None, view: RouteView, base: Choice) -> Choice:
    holder = next((pod for pod in eligible if pod.meta.uid == present), None)
    preferred = route.meta.annotations.get(PREFER)
    if chosen := next((pod for pod in eligible if pod.meta.name == preferred), None):
        return evolve(base, pod=chosen, rule="preferred by annotation")
    if holder is not None and route.meta.annotations.get(FAILBACK) == "never":
        return evolve(base, pod=holder, rule="the present holder, failback being off")
    newest = _newest(eligible, present)
    damped = view.attachment.spec.damped if view.attachment is not None else None
    is_back = damped is not None and newest.meta.uid == damped.pod_uid != present
    if damped is not None and is_back and holder is not None and holder.ready:
        until = damping_ends(newest, damped, view.now, view.policy.damping_seconds)
        if view.now < until:
            others = tuple(pod for pod in eligible if pod.meta.uid != damped.pod_uid)
            return evolve(
                base, pod=_newest(others, present), rule="newest but for a Pod that was not Ready", recheck_at=until
            )
    return evolve(base, pod=newest, rule="newest")


def damping_ends(pod: Pod, damped: Damped, now: float, damping_seconds: float) -> float:
    """
    When *pod* has been Ready for long enough to take the addresses back.

    Both instants come from other clocks: of the leader that wrote ``damped``, of the kubelet that saw the Pod Ready.
    One that is further ahead of *now* than damping lasts is of a clock that goes wrong, and is not believed. (Cut to
    *now* plus the damping it would recede with every look; ignored, it leaves the other to damp the Pod.)
    """
    instants = ((damped.until_at, damped.until_at), (pod.ready_at, pod.ready_at + damping_seconds))
    return max((ends_at for instant, ends_at in instants if instant <= now + damping_seconds), default=now)


def _newest(pods: tuple[Pod, ...], present: str | None) -> Pod:
    age = max(pod.meta.created_at for pod in pods)
    same_age = [pod for pod in pods if pod.meta.created_at == age]
    return min(same_age, key=lambda pod: (pod.meta.uid != present, pod.meta.name))


def _lingering(
    view: RouteView, route: GKEIPRoute, present: str | None, mode: Admits, families: frozenset[int]
) -> Pod | None:
    """A holder that nothing but its termination disqualifies: a StatefulSet's replacement does not exist yet."""
    pod = next((pod for pod in view.pods if pod.meta.uid == present and pod.meta.is_terminating), None)
    if pod is None or not route.pod_selector.matches(pod.meta.labels) or len(pod.ips_of(families)) < len(families):
        return None
    as_if_staying = evolve(pod, meta=evolve(pod.meta, deleted_at=None))
    return pod if pod_refusal(as_if_staying, view, mode) is None else None


def to_holder(pod: Pod, nodes: Mapping[str, Node], families: frozenset[int]) -> Holder | None:
    """What the attachment says of the chosen Pod; None when its Node is not known."""
    node = nodes.get(pod.node_name)
    if node is None:
        return None
    return Holder(
        pod_name=pod.meta.name,
        pod_uid=pod.meta.uid,
        pod_ips=pod.ips_of(families),
        node_name=node.meta.name,
        node_uid=node.meta.uid,
    )
