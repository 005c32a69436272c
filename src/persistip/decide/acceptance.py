"""
What is wrong with a route, and what may it claim?

In: one route with its parents.  Out: a Verdict with every fault and, per address, the Gateway that grants it.
All faults are found; the first in the order of ``conditions.ACCEPTANCE_ORDER`` gives the route its reason. Claims of
other routes are not looked at here: see ``claims.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from persistip.decide.admission import admitting_listeners, listener_refusal, matching_listeners
from persistip.decide.claims import held_prefixes
from persistip.decide.fields import annotation_faults, class_faults, node_fault, selector_faults, value_faults
from persistip.decide.networks import network_fault, why_network_unserved
from persistip.decide.parameters import is_ours, why_unserved
from persistip.decide.pool import Pool, range_conflict, resolve_pool
from persistip.decide.services import service_faults
from persistip.decide.verdict import Claim, Fault, Verdict, in_order
from persistip.model.address import Malformed, Prefix, is_overlapping, never_usable, parse_prefix, show
from persistip.model.attachment import Reference
from persistip.model.conditions import Reason
from persistip.model.gateway import CLASSES, ClassBehaviour
from persistip.model.route import GATEWAY_GROUP, GKEIPRoute, ParentRef
from persistip.model.views import Admits, ClusterRanges, GatewayFacts, ParentFacts, Policy, RouteFacts

MAX_NODES = 64
"""Nodes that `spec.nodeSelector` of a fast route may select; more are `TooManyNodes`."""


def find_verdict(facts: RouteFacts, ranges: ClusterRanges, modes: Mapping[str, Admits], policy: Policy) -> Verdict:
    """Judge a route by itself and its parents; *modes* are the reaction modes that this process knows."""
    route = facts.route
    if not _is_ours(facts, policy):
        return Verdict(is_ours=False)
    granting, failing = _resolve_parents(facts, ranges, policy)
    faults = [*selector_faults(route), *value_faults(route), *annotation_faults(route, modes)]
    faults += _parent_faults(route, granting, failing)
    behaviour = _behaviour(facts, granting, policy)
    if behaviour is not None:
        faults += class_faults(route, behaviour)
    if fault := node_fault(facts.selected_nodes, min(MAX_NODES, policy.node_cap)):
        faults.append(fault)
    if fault := network_fault(facts):
        faults.append(fault)
    claims, address_faults = _resolve_addresses(route, granting, ranges)
    faults += address_faults
    service_faults_, service_remarks = service_faults(facts, claims, held_prefixes(facts))
    faults += service_faults_
    return Verdict(
        is_ours=True,
        faults=in_order(faults),
        remarks=(*(failing if granting else ()), *service_remarks),
        claims=claims,
        behaviour=behaviour,
        unserved=(why_unserved(behaviour) if behaviour is not None else "") or why_network_unserved(route.network_name),
    )


def _is_ours(facts: RouteFacts, policy: Policy) -> bool:
    """Touch a route only if every parent that exists is of our class, or it has our attachment."""
    if facts.attachment is not None:
        return True
    present = [parent.gateway for parent in facts.parents if parent.gateway is not None]
    if not present:
        return policy.sole_controller
    return all(is_ours(gateway, policy) for gateway in present)


@attrs.frozen
class _Granting:
    """A parent that remains: its pool, and the Gateway to name in the attachment."""

    pool: Pool
    gateway: Reference
    behaviour: ClassBehaviour


def _resolve_parents(
    facts: RouteFacts, ranges: ClusterRanges, policy: Policy
) -> tuple[tuple[_Granting, ...], list[Fault]]:
    """The parents that remain, and why the others fail."""
    granting: list[_Granting] = []
    failing: list[Fault] = []
    for index, parent in enumerate(facts.parents):
        found = _resolve_parent(f"spec.parentRefs[{index}]", parent, facts, ranges, policy)
        if isinstance(found, Fault):
            failing.append(found)
        else:
            granting.append(found)
    return tuple(granting), failing


def _parent_faults(route: GKEIPRoute, granting: tuple[_Granting, ...], failing: list[Fault]) -> list[Fault]:
    """A parent that fails refuses the route only if no parent remains; those that remain must be of one class."""
    if not route.parent_refs:
        said = "is empty; name the Gateway whose addresses the route claims"
        return [Fault(reason=Reason.MISSING_PARENT, path="spec.parentRefs", message=said)]
    if not granting:
        return failing
    if len({parent.behaviour for parent in granting}) > 1:
        said = "the Gateways are of different classes; a route's parents must be of one class"
        return [Fault(reason=Reason.UNSUPPORTED_VALUE, path="spec.parentRefs", message=said)]
    return []


def _behaviour(facts: RouteFacts, granting: tuple[_Granting, ...], policy: Policy) -> ClassBehaviour | None:
    """What the route's class asks of its fields: that of the parents that remain, else of all that can be told."""
    if granting:
        return granting[0].behaviour
    gateways = (parent.gateway for parent in facts.parents if parent.gateway is not None)
    names = {gateway.gateway.class_name for gateway in gateways if is_ours(gateway, policy)}
    return CLASSES.get(names.pop()) if len(names) == 1 else None


def _resolve_parent(
    path: str, parent: ParentFacts, facts: RouteFacts, ranges: ClusterRanges, policy: Policy
) -> _Granting | Fault:
    ref, route = parent.ref, facts.route
    if parent.gateway is None:
        return _no_match(path, ref, route)
    gateway = parent.gateway.gateway
    where = f"Gateway {gateway.meta.namespace}/{gateway.meta.name}"
    narrowed = [f"section {ref.section_name!r}"] if ref.section_name else []
    narrowed += [f"port {ref.port}"] if ref.port is not None else []
    if narrowed and not matching_listeners(gateway, ref):
        names = ", ".join(repr(listener.name) for listener in gateway.listeners) or "none"
        said = f"{where} has no listener with {' and '.join(narrowed)}; it has {names}"
        return Fault(reason=Reason.NO_MATCHING_PARENT, path=path, message=said)
    pool = resolve_pool(parent.gateway, ranges, policy)
    if pool.refusal is not None:
        said = f"{where} is not accepted: {pool.refusal[1]}"
        return Fault(reason=Reason.PARENT_NOT_ACCEPTED, path=path, message=said)
    assert pool.rules is not None  # noqa: S101 - a pool without them is refused
    if not admitting_listeners(gateway, pool, ref, route.meta.namespace, facts.namespace):
        return Fault(
            reason=Reason.NOT_ALLOWED_BY_LISTENERS,
            path=path,
            message=_why_not_allowed(facts, gateway_facts=parent.gateway, ref=ref),
        )
    reference = Reference(namespace=gateway.meta.namespace, name=gateway.meta.name, uid=gateway.meta.uid)
    return _Granting(pool, reference, pool.rules.behaviour)


def _no_match(path: str, ref: ParentRef, route: GKEIPRoute) -> Fault:
    if ref.kind != "Gateway" or ref.group != GATEWAY_GROUP:
        said = f"{ref.group or 'core'}/{ref.kind} is not supported; name a Gateway of {GATEWAY_GROUP}"
        return Fault(reason=Reason.NO_MATCHING_PARENT, path=path, message=said)
    where = f"{ref.namespace or route.meta.namespace}/{ref.name}"
    said = f"there is no Gateway {where}; create it or correct the name or namespace"
    return Fault(reason=Reason.NO_MATCHING_PARENT, path=path, message=said)


def _why_not_allowed(facts: RouteFacts, *, gateway_facts: GatewayFacts, ref: ParentRef) -> str:
    gateway = gateway_facts.gateway
    whys = [
        listener_refusal(listener, gateway, facts.route.meta.namespace, facts.namespace)
        or f"listener {listener.name!r} is not valid"
        for listener in matching_listeners(gateway, ref)
    ]
    return f"Gateway {gateway.meta.namespace}/{gateway.meta.name} does not admit the route: " + "; ".join(whys)


def _resolve_addresses(
    route: GKEIPRoute, granting: tuple[_Granting, ...], ranges: ClusterRanges
) -> tuple[tuple[Claim, ...], list[Fault]]:
    claims: list[Claim] = []
    faults: list[Fault] = []
    for index, spec in enumerate(route.addresses):
        path = f"spec.addresses[{index}].value"
        prefix = parse_prefix(spec)
        if isinstance(prefix, Malformed):
            faults.append(Fault(reason=Reason.UNSUPPORTED_ADDRESS, path=path, message=prefix.message))
        elif why := never_usable(prefix) or range_conflict(prefix, ranges):
            faults.append(Fault(reason=Reason.UNSUPPORTED_ADDRESS, path=path, message=why))
        elif other := next((claim for claim in claims if is_overlapping(prefix, claim.prefix)), None):
            said = f"{show(prefix)} overlaps {show(other.prefix)} at {other.path}; take one of the two out"
            faults.append(Fault(reason=Reason.UNSUPPORTED_VALUE, path=path, message=said))
        elif granting:
            parent = next((parent for parent in granting if parent.pool.contains(prefix)), None)
            if parent is None:
                faults.append(
                    Fault(reason=Reason.ADDRESS_NOT_IN_POOL, path=path, message=_not_in_pool(prefix, granting))
                )
            else:
                claims.append(Claim(prefix=prefix, gateway=parent.gateway, path=path))
    return tuple(claims), faults


def _not_in_pool(prefix: Prefix, granting: tuple[_Granting, ...]) -> str:
    if owner := next((owner for parent in granting if (owner := parent.pool.owner(prefix))), None):
        return f"{show(prefix)} belongs to Gateway {owner.key.path}, which lists it too; claim it through that one"
    names = ", ".join(dict.fromkeys(f"{parent.gateway.namespace}/{parent.gateway.name}" for parent in granting))
    pool = ", ".join(dict.fromkeys(show(entry.prefix) for parent in granting for entry in parent.pool.usable))
    return f"{show(prefix)} is not in the pool of Gateway {names} (usable: {pool})"
