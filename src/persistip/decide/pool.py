"""
Which addresses of a Gateway may be used, and by which of its listeners?

In: a Gateway with its class, and the cluster's own ranges.  Out: a Pool. A bad address or listener is unusable
alone; the Gateway is accepted while one of each is left.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from persistip.decide.listeners import ListenerFault, find_listener_faults
from persistip.decide.ownership import Contest, Rival
from persistip.decide.parameters import ClassRules, class_rules, is_ours, why_unserved
from persistip.model.address import (
    IP_ADDRESS,
    AddressSpec,
    Malformed,
    Prefix,
    is_overlapping,
    is_single,
    is_within,
    never_usable,
    parse_prefix,
    show,
)
from persistip.model.conditions import Reason
from persistip.model.gateway import CLASSES, Gateway
from persistip.model.views import ClusterRanges, GatewayFacts, Policy

MAX_ADDRESSES = 16
"""Addresses of one Gateway; of a longer list the first are used, and `Programmed` says so."""


@attrs.frozen
class Usable:
    """One pool entry that may be used."""

    spec: AddressSpec
    prefix: Prefix


@attrs.frozen(kw_only=True)
class Pool:
    """A Gateway as routes see it. ``refusal`` None: accepted."""

    rules: ClassRules | None = None
    usable: tuple[Usable, ...] = ()
    unusable: tuple[str, ...] = ()
    listener_faults: Mapping[str, ListenerFault] = attrs.field(factory=dict)
    refusal: tuple[Reason, str] | None = None
    contest: Contest | None = None

    @property
    def unserved(self) -> str:
        """Why nothing acts on the Gateway although it is accepted; empty where something does."""
        return why_unserved(self.rules.behaviour) if self.rules is not None else ""

    def contains(self, prefix: Prefix) -> bool:
        """Whether *prefix* is, or lies inside, one usable entry, and belongs to no other Gateway."""
        return self.owner(prefix) is None and any(is_within(prefix, entry.prefix) for entry in self.usable)

    def owner(self, prefix: Prefix) -> Gateway | None:
        """The other Gateway that lists *prefix* too and owns it."""
        return self.contest.owner(prefix) if self.contest is not None else None


def resolve_pool(facts: GatewayFacts, ranges: ClusterRanges, policy: Policy) -> Pool:
    """
    Everything that a Gateway's spec and class say about its use.

    Kept with the facts, since each of its routes asks, and asks again at each of its events.
    """
    known = facts.derived.get("pool")
    if known is None or known[0] is not ranges or known[1] is not policy:
        known = facts.derived["pool"] = (ranges, policy, _resolve(facts, ranges, policy))
    pool: Pool = known[2]
    return pool


def _resolve(facts: GatewayFacts, ranges: ClusterRanges, policy: Policy) -> Pool:
    gateway = facts.gateway
    if facts.gateway_class is None or not is_ours(facts, policy):
        return Pool(refusal=(Reason.INVALID, f"spec.gatewayClassName {gateway.class_name!r} is not a class of ours"))
    rules = class_rules(facts.gateway_class, facts.parameters)
    if rules is None:
        message = (
            f"GatewayClass {gateway.class_name!r} is none of the names that have a meaning here: {', '.join(CLASSES)}"
        )
        return Pool(rules=rules, refusal=(Reason.INVALID, message))
    if rules.faults:
        return Pool(rules=rules, refusal=(Reason.INVALID_PARAMETERS, "; ".join(rules.faults)))
    if rules.allowed_namespaces is not None and gateway.meta.namespace not in rules.allowed_namespaces:
        message = (
            f"namespace {gateway.meta.namespace!r} is not in allowedNamespaces of GatewayClass {gateway.class_name!r}; "
            f"a cluster administrator adds it in {rules.where}"
        )
        return Pool(rules=rules, refusal=(Reason.INVALID_PARAMETERS, message))

    usable, unusable = _sort_addresses(gateway, rules, ranges, policy)
    contest = _contest(facts, usable, ranges, policy)
    if contest is not None:
        unusable += tuple(said for entry in usable for said in contest.losses(entry.prefix))
        usable = tuple(entry for entry in usable if not contest.is_lost(entry.prefix))
    faults = find_listener_faults(gateway.listeners)
    refusal = None
    if not usable:
        said = "; ".join(unusable) or "spec.addresses is empty; list at least one address"
        refusal = (Reason.ADDRESS_NOT_USABLE, said)
    elif all(listener.name in faults for listener in gateway.listeners):
        said = "; ".join(fault.message for fault in faults.values()) or "spec.listeners is empty; list at least one"
        refusal = (Reason.LISTENERS_NOT_VALID, said)
    return Pool(
        rules=rules,
        usable=usable,
        unusable=unusable,
        listener_faults=faults,
        refusal=refusal,
        contest=contest,
    )


def _contest(facts: GatewayFacts, usable: tuple[Usable, ...], ranges: ClusterRanges, policy: Policy) -> Contest | None:
    """The Gateways that list the same addresses; one that may not use an address itself is none."""
    rivals = []
    for rival in facts.rivals:
        pool = resolve_pool(rival, ranges, policy)
        prefixes = [entry.prefix for entry in pool.usable] if pool.refusal is None else []
        shared = tuple(p for p in prefixes if any(is_overlapping(p, entry.prefix) for entry in usable))
        if shared:
            rivals.append(Rival(rival.gateway, shared))
    if not rivals:
        return None
    return Contest(gateway=facts.gateway, rivals=tuple(rivals), attached=facts.attached)


def _sort_addresses(
    gateway: Gateway, rules: ClassRules, ranges: ClusterRanges, policy: Policy
) -> tuple[tuple[Usable, ...], tuple[str, ...]]:
    usable: list[Usable] = []
    unusable: list[str] = []
    for index, spec in enumerate(gateway.addresses):
        where = f"spec.addresses[{index}]"
        if index == MAX_ADDRESSES:
            said = f"has {len(gateway.addresses)} entries, only the first {MAX_ADDRESSES} are used"
            unusable.append(f"spec.addresses: {said}; list the others in another Gateway")
            break
        prefix = parse_prefix(spec)
        if isinstance(prefix, Malformed):
            unusable.append(f"{where}: {prefix.message}")
        elif spec.type == IP_ADDRESS and "/" in spec.value:
            said = f"{spec.value!r} has a prefix length, which type IPAddress does not take on a Gateway"
            unusable.append(f"{where}: {said}; write type gke.networking.io/cidr")
        elif why := _why_unusable(prefix, gateway, rules, ranges, policy):
            unusable.append(f"{where}: {why}")
        else:
            usable.append(Usable(spec, prefix))
    return tuple(usable), tuple(unusable)


def _why_unusable(
    prefix: Prefix, gateway: Gateway, rules: ClassRules, ranges: ClusterRanges, policy: Policy
) -> str | None:
    if why := never_usable(prefix) or range_conflict(prefix, ranges):
        return why
    if policy.knows_owners or any(is_within(prefix, allowed) for allowed in rules.allowed_addresses):
        return None
    if not rules.where:
        said = f"{show(prefix)} is not allowed, since GatewayClass {gateway.class_name!r} has no spec.parametersRef"
        return f"{said}; a cluster administrator names a ConfigMap there, with allowedAddresses"
    said = f"{show(prefix)} is outside allowedAddresses of GatewayClass {gateway.class_name!r}"
    return f"{said}; a cluster administrator adds it in {rules.where}"


def range_conflict(prefix: Prefix, ranges: ClusterRanges) -> str | None:
    """Why *prefix* may not be used beside the cluster's own addresses, and what to do, or None."""
    if ranges.spans.first_overlap(prefix) is None:
        return None
    return f"{_conflict(prefix, ranges)}; write an address that the cluster does not use itself"


def _conflict(prefix: Prefix, ranges: ClusterRanges) -> str:
    if ip := ranges.node_spans.first_overlap(prefix):
        node = ranges.node_ips[ip.network_address]
        return f"{show(prefix)} {'is' if is_single(prefix) else 'contains'} the IP of Node {node}"
    if cidr := ranges.pod_spans.first_overlap(prefix):
        return f"{show(prefix)} overlaps the Pod range {cidr}"
    return f"{show(prefix)} overlaps the Service range {ranges.service_spans.first_overlap(prefix)}"
