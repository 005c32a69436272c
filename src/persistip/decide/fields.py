"""
What is wrong with a route's own fields?

In: the route, and the behaviour of its parents' class where one is known.  Out: faults, each with its field. What the
object alone can tell is said by the CRD's schema too; it is said here again, for GKE's own CRD has none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from persistip.decide.parameters import POD_ADDRESSES, SERVED_POD_ADDRESSES
from persistip.decide.verdict import Fault
from persistip.model.conditions import Reason
from persistip.model.gateway import ClassBehaviour, Mode
from persistip.model.keys import DOMAIN
from persistip.model.route import GKEIPRoute, ReactionModeName
from persistip.model.selector import LabelSelector
from persistip.model.views import Admits

MAX_ADDRESSES = 16
MAX_PARENTS = 32

HOLD = f"{DOMAIN}/hold"
PREFER = f"{DOMAIN}/prefer"
FAILBACK = f"{DOMAIN}/failback"
REACTION_MODE = f"{DOMAIN}/reaction-mode"
POD_ADDRESS = f"{DOMAIN}/pod-address"
FLOWS = f"{DOMAIN}/flows"
_MODES = frozenset(ReactionModeName)
_ANNOTATION_VALUES = {
    HOLD: frozenset({"true", "false"}),
    FAILBACK: frozenset({"never"}),
    POD_ADDRESS: POD_ADDRESSES,
    FLOWS: frozenset({"keep", "reset"}),
}
_UNSERVED = {POD_ADDRESS: POD_ADDRESSES - SERVED_POD_ADDRESSES, FLOWS: frozenset({"reset"})}
"""What SPEC knows and the agents of this version do not do: promised, it would look as if it worked."""
_POD_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_FREE_ANNOTATIONS = frozenset({PREFER, REACTION_MODE})


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


def annotation_faults(route: GKEIPRoute, modes: Mapping[str, Admits]) -> Iterator[Fault]:
    """An unknown key or value of ours is refused with a sentence: ignored, it would look as if it worked."""
    for key, value in sorted(route.meta.annotations.items()):
        if not key.startswith(f"{DOMAIN}/"):
            continue
        path = f"metadata.annotations[{key}]"
        known = _ANNOTATION_VALUES.get(key)
        if known is not None and value not in known:
            yield _unsupported(path, f"{value!r} is unknown; use {' or '.join(sorted(known))}")
        elif known is not None and value in _UNSERVED.get(key, ()):
            served = " or ".join(sorted(known - _UNSERVED[key]))
            yield _unsupported(path, f"{value!r} is not served by the agents of this version; use {served}")
        elif known is None and key not in _FREE_ANNOTATIONS:
            known_keys = ", ".join(sorted({*_ANNOTATION_VALUES, *_FREE_ANNOTATIONS}))
            yield _unsupported(path, f"is unknown; known are {known_keys}")
        elif key == REACTION_MODE and value not in modes:
            said = f"reaction mode {value!r} is not plugged in; known are {', '.join(sorted(modes))}"
            yield _unsupported(path, said)
        elif key == PREFER and not _POD_NAME.fullmatch(value):
            yield _unsupported(path, f"{value!r} is no name of a Pod; name one, or remove the annotation")
