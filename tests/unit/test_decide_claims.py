"""Who owns a prefix that several routes claim, where the whole cluster would hide how it was decided."""

from ipaddress import ip_network

from world import route

from persistip.decide.claims import resolve_claims, what_it_holds
from persistip.decide.verdict import Claim, Verdict
from persistip.model.address import Prefix
from persistip.model.attachment import AddressAttachment, AttachedAddress, AttachmentSpec, Reference
from persistip.model.keys import ObjectMeta
from persistip.model.views import RouteFacts

EIGHT, NINE, TEN = (ip_network(f"203.0.113.{number}/32") for number in (8, 9, 10))
POOL = Reference(namespace="infra", name="pool", uid="gw-pool")
OTHER = Reference(namespace="infra", name="other", uid="gw-other")


def facts(name: str, *, age: float, holds: tuple[Prefix, ...] = (), gateway: Reference = POOL) -> RouteFacts:
    """A route of that age, with an attachment that holds."""
    found = route(name, age=age)
    spec = AttachmentSpec(
        route=Reference(namespace="tenant", name=name, uid=found.meta.uid),
        epoch=1,
        addresses=tuple(AttachedAddress(prefix=prefix, gateway=gateway) for prefix in holds),
    )
    attachment = AddressAttachment(meta=ObjectMeta(name=f"r-{name}"), spec=spec) if holds else None
    return RouteFacts(route=found, attachment=attachment)


def claiming(*prefixes: Prefix) -> Verdict:
    """A verdict without faults that claims *prefixes*."""
    return Verdict(is_ours=True, claims=tuple(Claim(prefix=prefix, gateway=POOL) for prefix in prefixes))


def winners(own: tuple[RouteFacts, Verdict], *rivals: tuple[RouteFacts, Verdict]) -> list[tuple[str, str]]:
    """The message's address and the route to which it is lost, for each claim that *own* loses."""
    verdict = resolve_claims(*own, {each[0].route.key: each for each in rivals})
    return [(fault.message.partition(" belongs to ")[0], fault.winner.name) for fault in verdict.faults if fault.winner]


def test_route_that_cannot_be_judged_claims_what_it_holds_through_its_gateway() -> None:
    """Every address of its live attachment, by the Gateway through which it is attached, and nothing else."""
    held = what_it_holds(facts("one", age=9, holds=(EIGHT, NINE), gateway=OTHER))
    assert held == Verdict(is_ours=True, claims=(Claim(prefix=EIGHT, gateway=OTHER), Claim(prefix=NINE, gateway=OTHER)))
    assert what_it_holds(facts("two", age=9)) == Verdict(is_ours=True)


def test_incumbent_of_a_contested_address_goes_before_older_routes() -> None:
    """Its other claims win too: the order is of routes, not of addresses."""
    incumbent = facts("incumbent", age=1, holds=(NINE,)), claiming(NINE, TEN)
    thief = facts("thief", age=9), claiming(NINE)
    older = facts("older", age=5), claiming(TEN)
    assert winners(incumbent, thief, older) == []
    assert winners(older, incumbent, thief) == [("203.0.113.10", "incumbent")]


def test_incumbent_of_what_nobody_contests_has_no_rank() -> None:
    """Holding an address that no other claims says nothing about one that others do."""
    holder = facts("holder", age=1, holds=(EIGHT,)), claiming(EIGHT, TEN)
    older = facts("older", age=5), claiming(TEN)
    assert winners(holder, older) == [("203.0.113.10", "older")]
    assert winners(older, holder) == []


def test_incumbent_that_lost_another_address_keeps_what_it_holds() -> None:
    """It is not taken, and what it holds is nobody else's to claim."""
    first = facts("first", age=9, holds=(TEN,)), claiming(TEN)
    loser = facts("loser", age=7, holds=(NINE,)), claiming(NINE, TEN)
    newcomer = facts("newcomer", age=8), claiming(NINE)
    assert winners(loser, first, newcomer) == [("203.0.113.10", "first")]
    assert winners(newcomer, first, loser) == [("203.0.113.9", "loser")]


def test_message_says_why_the_other_route_wins() -> None:
    """It holds, it is older, or its name comes first."""
    own = facts("own", age=5), claiming(NINE)
    rivals = {
        "holds it now": facts("a", age=1, holds=(NINE,)),
        "is older": facts("b", age=9),
        "comes first by name": facts("c", age=5),
    }
    for why, rival in rivals.items():
        verdict = resolve_claims(*own, {rival.route.key: (rival, claiming(NINE))})
        assert verdict.message == (
            f"spec.addresses: 203.0.113.9 belongs to {rival.route.key}, which {why}; take it from one of the two"
        )
