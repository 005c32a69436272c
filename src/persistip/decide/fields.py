"""
What is wrong with a route's own fields?

In: the route, and the behaviour of its parents' class where one is known.  Out: faults, each with its field. What the
object alone can tell is said by the CRD's schema too; it is said here again, for GKE's own CRD has none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from persistip.decide.parameters import POD_ADDRESSES, SERVED_POD_ADDRESSES
from persistip.decide.verdict import Fault
from persistip.model.conditions import Reason
from persistip.model.gateway import ClassBehaviour, Mode
from persistip.model.keys import DOMAIN
from persistip.model.route import GKEIPRoute, ReactionModeName
from persistip.model.selector import LabelSelector
from persistip.model.views import Admits

MAX_ADDRESSES = 16
"""Addresses of one route; more are `UnsupportedValue`."""
MAX_PARENTS = 32
"""Parents of one route; more are `UnsupportedValue`."""

HOLD = f"{DOMAIN}/hold"
PREFER = f"{DOMAIN}/prefer"
FAILBACK = f"{DOMAIN}/failback"
REACTION_MODE = f"{DOMAIN}/reaction-mode"
POD_ADDRESS = f"{DOMAIN}/pod-address"
FLOWS = f"{DOMAIN}/flows"
_MODES = frozenset(ReactionModeName)
_POD_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


@attrs.frozen(kw_only=True)
class Annotation:
    """
    One key of ours on a route. ``values`` empty: any that fits ``form``; ``default``: what its absence means.

    ``unserved``: values that SPEC knows and the agents of this version do nothing about; promised, they would look as
    if they worked.
    """

    key: str
    means: str
    default: str
    form: str = ""
    values: frozenset[str] = frozenset()
    unserved: frozenset[str] = frozenset()


ANNOTATIONS: tuple[Annotation, ...] = (
    Annotation(
        key=FAILBACK,
        values=frozenset({"never"}),
        default="the newest eligible Pod takes the addresses",
        means="`never`: the present holder keeps the addresses while it is eligible, whatever newer Pod appears.",
    ),
    Annotation(
        key=FLOWS,
        values=frozenset({"keep", "reset"}),
        unserved=frozenset({"reset"}),
        default="`keep`",
        means="What becomes, on the old node, of connections that a move interrupts.",
    ),
    Annotation(
        key=HOLD,
        values=frozenset({"true", "false"}),
        default="`false`",
        means="`true` freezes the choice of Pod; never acceptance, release or deletion.",
    ),
    Annotation(
        key=POD_ADDRESS,
        values=POD_ADDRESSES,
        unserved=POD_ADDRESSES - SERVED_POD_ADDRESSES,
        default="`podAddress` of the class, else `app`",
        means="Who gives the address to the application. `app`: the application holds it itself.",
    ),
    Annotation(
        key=PREFER,
        form="the name of a Pod",
        default="no Pod is preferred",
        means="The Pod of this name holds the addresses while it is eligible.",
    ),
    Annotation(
        key=REACTION_MODE,
        form="the name of a reaction mode that is plugged in",
        default="`spec.reactionMode`",
        means="Which Pods may hold the addresses, by a rule of yours, in place of `spec.reactionMode`.",
    ),
)
"""Every key of ours that a route may carry, by name."""
_BY_KEY = {each.key: each for each in ANNOTATIONS}


def _unsupported(path: str, message: str) -> Fault:
    return Fault(reason=Reason.UNSUPPORTED_VALUE, path=path, message=message)


def selector_faults(route: GKEIPRoute) -> Iterator[Fault]:
    """Selectors that the API would refuse, and a podSelector that selects everything."""
    selectors: dict[str, LabelSelector | None] = {
        "spec.podSelector": route.pod_selector,
        "spec.nodeSelector": route.node_selector,
    }
    if route.load_balancing is not None:
        selectors["spec.loadBalancing.standbyPodSelector"] = route.load_balancing.standby_pod_selector
    for path, selector in selectors.items():
        why = selector.fault() if selector is not None else None
        if selector is not None and selector.is_empty and path == "spec.podSelector":
            why = "is empty and would match every Pod of the namespace; name at least one label"
        if why is not None:
            yield Fault(reason=Reason.INVALID_SELECTOR, path=path, message=why)


def value_faults(route: GKEIPRoute) -> Iterator[Fault]:
    """Words and counts that no class knows."""
    if route.reaction_mode not in _MODES:
        said = f"{route.reaction_mode!r} is unknown; use ReadyCondition or Exists"
        yield _unsupported("spec.reactionMode", said)
    if not route.addresses:
        yield _unsupported("spec.addresses", "is empty; list at least one address")
    if len(route.addresses) > MAX_ADDRESSES:
        said = f"has {len(route.addresses)} entries, at most {MAX_ADDRESSES} are allowed; use more routes"
        yield _unsupported("spec.addresses", said)
    if len(route.parent_refs) > MAX_PARENTS:
        said = f"has {len(route.parent_refs)} entries, at most {MAX_PARENTS} are allowed"
        yield _unsupported("spec.parentRefs", said)
    if route.load_balancing is not None and not route.load_balancing.health_check_name:
        said = "is empty; name the regional health check that decides which Pods get traffic"
        yield _unsupported("spec.loadBalancing.healthCheckName", said)


def class_faults(route: GKEIPRoute, behaviour: ClassBehaviour) -> Iterator[Fault]:
    """Fields that are missing for this class, or not for it."""
    is_fast, is_balancing = behaviour.mode is Mode.FAST, behaviour.mode is Mode.LOAD_BALANCING
    if is_fast and route.node_selector is None:
        said = "is required on fast classes; select the nodes on which the Pods may run, which are prepared in advance"
        yield _unsupported("spec.nodeSelector", said)
    if not is_fast and route.node_selector is not None:
        yield _unsupported("spec.nodeSelector", "is for the fast classes only; remove it")
    if is_balancing and route.load_balancing is None:
        said = "is required on load-balancing classes; name the regional health check in healthCheckName"
        yield _unsupported("spec.loadBalancing", said)
    if not is_balancing and route.load_balancing is not None:
        yield _unsupported("spec.loadBalancing", "is for the load-balancing classes only; remove it")
    if behaviour.mode is not Mode.STANDARD and route.ha_policy is not None:
        yield _unsupported("spec.haPolicy", "is for the standard classes only; remove it")
    if behaviour.external and route.allow_global_access:
        yield _unsupported("spec.allowGlobalAccess", "is for internal addresses only; remove it")


def node_fault(selected: int, cap: int) -> Fault | None:
    """A nodeSelector that selects too many nodes; counted as they are now, so others can change it."""
    if selected <= cap:
        return None
    said = f"selects {selected} nodes, at most {cap} can be prepared; narrow it, or take its labels from nodes"
    return Fault(reason=Reason.TOO_MANY_NODES, path="spec.nodeSelector", message=said, is_live=True)


def mode_of(route: GKEIPRoute, modes: Mapping[str, Admits]) -> Admits | None:
    """The reaction mode in force: the plugged-in one of the annotation, else the one of the spec."""
    return modes.get(route.meta.annotations.get(REACTION_MODE, route.reaction_mode))


def annotation_faults(route: GKEIPRoute, modes: Mapping[str, Admits]) -> Iterator[Fault]:
    """An unknown key or value of ours is refused with a sentence: ignored, it would look as if it worked."""
    mode = mode_of(route, modes)
    for key, value in sorted(route.meta.annotations.items()):
        if not key.startswith(f"{DOMAIN}/"):
            continue
        path = f"metadata.annotations[{key}]"
        known = _BY_KEY.get(key)
        if known is None:
            if mode is None or key not in mode.annotations:
                yield _unsupported(path, _why_unknown(key, modes))
        elif known.values and value not in known.values:
            yield _unsupported(path, f"{value!r} is unknown; use {' or '.join(sorted(known.values))}")
        elif value in known.unserved:
            served = " or ".join(sorted(known.values - known.unserved))
            yield _unsupported(path, f"{value!r} is not served by the agents of this version; use {served}")
        elif key == REACTION_MODE and value not in modes:
            said = f"reaction mode {value!r} is not plugged in; known are {', '.join(sorted(modes))}"
            yield _unsupported(path, said)
        elif key == PREFER and not _POD_NAME.fullmatch(value):
            yield _unsupported(path, f"{value!r} is no name of a Pod; name one, or remove the annotation")


def _why_unknown(key: str, modes: Mapping[str, Admits]) -> str:
    readers = sorted(name for name, mode in modes.items() if key in mode.annotations)
    if readers:
        named = " or ".join(readers)
        return f"is read by reaction mode {named} only; ask for that with {REACTION_MODE}, or remove the key"
    return f"is unknown; known are {', '.join(sorted(_BY_KEY))}"
