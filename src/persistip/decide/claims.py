"""
Who owns a prefix that several routes claim?

In: a route's verdict, its rivals with theirs.  Out: the verdict with a fault for every claim that another route wins.
Routes with no other fault are taken in order: incumbents, then the oldest, then by name. One that overlaps a route
already taken claims nothing new. Without incumbents, an edit of an old idle route would steal live traffic.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from persistip.decide.verdict import Claim, Fault, Verdict
from persistip.model.address import Prefix, is_overlapping, show
from persistip.model.conditions import Reason
from persistip.model.keys import ObjectKey
from persistip.model.views import RouteFacts


def held_prefixes(facts: RouteFacts) -> tuple[Prefix, ...]:
    """The prefixes for which the route is the incumbent: in ``addresses`` of its live, undrained attachment."""
    attachment = facts.attachment
    if attachment is None or attachment.meta.is_terminating or attachment.spec.route.uid != facts.route.meta.uid:
        return ()
    return tuple(address.prefix for address in attachment.spec.addresses)


def what_it_holds(facts: RouteFacts) -> Verdict:
    """A route that cannot be judged claims what it holds, for which it is the incumbent, and nothing else."""
    attachment, held = facts.attachment, held_prefixes(facts)
    addresses = attachment.spec.addresses if attachment is not None else ()
    claims = (Claim(prefix=each.prefix, gateway=each.gateway) for each in addresses if each.prefix in held)
    return Verdict(is_ours=True, claims=tuple(claims))


def resolve_claims(
    own: RouteFacts, verdict: Verdict, rivals: Mapping[ObjectKey, tuple[RouteFacts, Verdict]]
) -> Verdict:
    """Add an AddressConflict for each claim that a rival wins; it is a live fact, so what is held stays."""
    if verdict.is_refused or not rivals:
        return verdict
    contenders = {key: _contending(*entry) for key, entry in rivals.items() if not entry[1].is_refused}
    contenders[own.route.key] = _contending(own, verdict)
    order = sorted(contenders, key=lambda key: _rank(contenders[key][0], contenders))
    taken: dict[ObjectKey, tuple[RouteFacts, Verdict]] = {}
    for key in order[: order.index(own.route.key)]:
        if not _lost_claims(*contenders[key], taken, contenders):
            taken[key] = contenders[key]
    return verdict.with_faults(*_lost_claims(own, verdict, taken, contenders))


def _contending(facts: RouteFacts, verdict: Verdict) -> tuple[RouteFacts, Verdict]:
    """A route with a live fault takes nothing new, and so stands in nobody's way but with what it holds."""
    if verdict.is_accepted:
        return facts, verdict
    held = held_prefixes(facts)
    return facts, attrs.evolve(verdict, claims=tuple(claim for claim in verdict.claims if claim.prefix in held))


def _rank(facts: RouteFacts, contenders: Mapping[ObjectKey, tuple[RouteFacts, Verdict]]) -> tuple[bool, float, str]:
    others = [entry[1] for key, entry in contenders.items() if key != facts.route.key]
    contested = [
        held
        for held in held_prefixes(facts)
        if any(is_overlapping(held, claim.prefix) for verdict in others for claim in verdict.claims)
    ]
    return not contested, facts.route.meta.created_at, facts.route.key.path


def _lost_claims(
    facts: RouteFacts,
    verdict: Verdict,
    taken: Mapping[ObjectKey, tuple[RouteFacts, Verdict]],
    contenders: Mapping[ObjectKey, tuple[RouteFacts, Verdict]],
) -> list[Fault]:
    held = held_prefixes(facts)
    lost = []
    for claim in verdict.claims:
        winner = next(
            (
                key
                for key, entry in taken.items()
                if any(is_overlapping(claim.prefix, c.prefix) for c in entry[1].claims)
            ),
            None,
        )
        if winner is None and claim.prefix not in held:
            # An incumbent keeps what it holds even where it lost another address and so was not taken.
            winner = next(
                (
                    key
                    for key, entry in contenders.items()
                    if key != facts.route.key
                    and any(is_overlapping(claim.prefix, prefix) for prefix in held_prefixes(entry[0]))
                ),
                None,
            )
        if winner is not None:
            why = _why(winner, claim.prefix, contenders, facts)
            said = f"{show(claim.prefix)} belongs to {winner}, which {why}; take it from one of the two"
            fault = Fault(reason=Reason.ADDRESS_CONFLICT, path=claim.path, message=said, is_live=True)
            lost.append(attrs.evolve(fault, winner=winner))
    return lost


def _why(
    winner: ObjectKey,
    prefix: Prefix,
    contenders: Mapping[ObjectKey, tuple[RouteFacts, Verdict]],
    loser: RouteFacts,
) -> str:
    facts = contenders[winner][0]
    if any(is_overlapping(prefix, held) for held in held_prefixes(facts)):
        return "holds it now"
    if facts.route.meta.created_at < loser.route.meta.created_at:
        return "is older"
    return "comes first by name"
