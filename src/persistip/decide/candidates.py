"""
Which Pods may hold a route's addresses?

In: the view of a route.  Out: its Pods, sorted by what they may do, each refused one with the reason.
The rules are those of a candidate: a Pod of the namespace that the selector matches, not on the host network, alive, on
a Node that exists and is not suspect, admitted by the reaction mode, with an IP of every family that is its alone.
"""

from __future__ import annotations

from collections import Counter

import attrs

from persistip.decide.fields import mode_of
from persistip.decide.networks import network_refusal
from persistip.model.attachment import AddressAttachment, Holder
from persistip.model.evolving import evolve
from persistip.model.pod import Pod
from persistip.model.route import DEFAULT_NETWORK, GKEIPRoute
from persistip.model.views import Admits, RouteView


@attrs.frozen(kw_only=True)
class Candidates:
    """
    The Pods that a route's selector matches.

    ``without_ip`` lack nothing but an IP. ``refusals``: every Pod that is not eligible, and why, as the end of the
    sentence "Pod x …". ``conflicts``: a sentence for each IP that keeps a Pod from being eligible.
    """

    eligible: tuple[Pod, ...] = ()
    without_ip: tuple[Pod, ...] = ()
    refusals: tuple[tuple[Pod, str], ...] = ()
    conflicts: tuple[str, ...] = ()

    @property
    def matched(self) -> int:
        """How many Pods the selector matches."""
        return len(self.eligible) + len(self.refusals)

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """The refused Pods by why they were refused."""
        return tuple(sorted(Counter(why for _, why in self.refusals).items())) if self.refusals else ()


def pod_refusal(pod: Pod, view: RouteView, mode: Admits) -> str | None:
    """Why *pod* may not hold addresses, apart from its IPs; the end of the sentence "Pod x …"."""
    if pod.is_finished:
        return f"is {pod.phase}"
    if pod.meta.is_terminating:
        return "is terminating"
    if pod.host_network:
        return "uses the host network"
    assert view.facts is not None  # noqa: S101 - who asks has a route
    why = network_refusal(pod, view.facts.route.network_name)
    return why or mode.refusal(_as_mode_sees(pod, view.facts.route, mode)) or _node_refusal(pod, view)


def _as_mode_sees(pod: Pod, route: GKEIPRoute, mode: Admits) -> Pod:
    """The Pod with what the route says to the mode, where the Pod itself says nothing."""
    said = {key: value for key, value in route.meta.annotations.items() if key in mode.annotations}
    if not said:
        return pod
    return evolve(pod, meta=evolve(pod.meta, annotations={**said, **pod.meta.annotations}))


def _node_refusal(pod: Pod, view: RouteView) -> str | None:
    name = pod.node_name
    if not name:
        return "is not scheduled"
    if name not in view.nodes:
        return f"is on Node {name}, which does not exist"
    if view.nodes[name].out_of_service:
        return f"is on Node {name}, which is out of service"
    if name in view.suspects:
        return f"is on Node {name}, which is suspected dead"
    selector = view.facts.route.node_selector if view.facts is not None else None
    if selector is not None and not selector.matches(view.nodes[name].meta.labels):
        return f"is on Node {name}, which spec.nodeSelector does not select"
    return None


def find_candidates(view: RouteView, route: GKEIPRoute, mode: Admits, families: frozenset[int]) -> Candidates:
    """Sort the Pods that the route's selector matches; one without an IP is refused, whether or not it may wait."""
    eligible: list[Pod] = []
    without_ip: list[Pod] = []
    refusals: list[tuple[Pod, str]] = []
    conflicts: set[str] = set()
    present = present_holder(route, view.attachment)
    for pod in view.pods:
        if pod.meta.namespace != route.meta.namespace or not route.pod_selector.matches(pod.meta.labels):
            continue
        if why := pod_refusal(pod, view, mode):
            refusals.append((pod, why))
        elif (doubled := _doubled_ip(pod, view, present, families)) is not None:
            conflicts.add(_conflict(pod, *doubled))
            refusals.append((pod, f"shares IP {doubled[0]} with Pod {_name(doubled[1], beside=pod)}"))
        elif len(pod.ips_of(families)) < len(families):
            without_ip.append(pod)
            refusals.append((pod, f"has no {lacking_families(pod, families)} address{_where(route)} yet"))
        else:
            eligible.append(pod)
    return Candidates(
        eligible=tuple(eligible),
        without_ip=tuple(without_ip),
        refusals=tuple(refusals),
        conflicts=tuple(sorted(conflicts)),
    )


def lacking_families(pod: Pod, families: frozenset[int]) -> str:
    """The families of the addresses of which *pod* has no IP, in words."""
    return " and ".join(f"IPv{family}" for family in sorted(families - {ip.version for ip in pod.ips}))


def _where(route: GKEIPRoute) -> str:
    if route.network_name == DEFAULT_NETWORK:
        return ""
    return f" on network {route.network_name} inside the ranges that its Node has of it"


def _doubled_ip(
    pod: Pod, view: RouteView, present: Holder | None, families: frozenset[int]
) -> tuple[object, Pod] | None:
    """
    An IP of *pod* that another live Pod claims too, and that other.

    The present holder keeps the IP for which it holds; among others nobody can say whose it is.
    """
    if not view.doubled_ips:
        return None
    kept = present.pod_ips if present is not None and present.pod_uid == pod.meta.uid else ()
    for ip in pod.ips_of(families):
        others = [other for other in view.doubled_ips.get(ip, ()) if other.meta.uid != pod.meta.uid]
        if others and ip not in kept:
            return ip, others[0]
    return None


def _conflict(pod: Pod, ip: object, other: Pod) -> str:
    one, two = sorted((_name(pod, beside=pod), _name(other, beside=pod)))
    return f"Pod {one} and Pod {two} both claim IP {ip}"


def _name(pod: Pod, *, beside: Pod) -> str:
    return pod.meta.name if pod.meta.namespace == beside.meta.namespace else pod.key.path


def present_holder(route: GKEIPRoute, attachment: AddressAttachment | None) -> Holder | None:
    """Who holds now, for this very route object."""
    if attachment is None or attachment.spec.route.uid != route.meta.uid:
        return None
    return attachment.spec.holder


def lacks_readiness(view: RouteView, pod_uid: str) -> bool:
    """Whether a Pod may not hold, and were it Ready, it might."""
    pod = next((pod for pod in view.pods if pod.meta.uid == pod_uid), None)
    if view.facts is None or (mode := mode_of(view.facts.route, view.modes)) is None or pod is None:
        return False
    if pod.ready or not view.facts.route.pod_selector.matches(pod.meta.labels):
        return False
    ready = evolve(pod, ready=True)
    return pod_refusal(pod, view, mode) is not None and pod_refusal(ready, view, mode) is None


def is_delivering(view: RouteView, pod_uid: str, families: frozenset[int]) -> bool:
    """
    Whether a former holder can still use what arrives for it.

    Alive and still a candidate, or terminating but Ready; deselected, unready, gone or suspect it can not. An IP that
    another Pod claims too since then is no reason: what still arrives goes to the link on which the Pod was found.
    """
    if view.facts is None or (mode := mode_of(view.facts.route, view.modes)) is None:
        return False
    pod = next((pod for pod in view.pods if pod.meta.uid == pod_uid), None)
    if pod is None or not view.facts.route.pod_selector.matches(pod.meta.labels):
        return False
    if pod.meta.is_terminating:
        return pod.ready and not pod.is_finished and _node_refusal(pod, view) is None
    return pod_refusal(pod, view, mode) is None and len(pod.ips_of(families)) == len(families)
