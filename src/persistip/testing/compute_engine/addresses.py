"""
What does Compute Engine know of reserved addresses?

A user's own, ones reserved by us, and ones taken out of a public delegated prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Any

from persistip.testing.compute_engine.kinds import (
    FAMILY,
    LABELS_REQUEST,
    NAME_FIELD,
    OUTPUT,
    SCHEME,
    TIER,
    Action,
    Body,
    Case,
    Finding,
    Kind,
    Rule,
    World,
    subnetwork_reference,
)
from persistip.testing.compute_engine.links import Link
from persistip.testing.compute_engine.refusals import RefusalError, required
from persistip.testing.compute_engine.shapes import Labels, Reference, Struct, Text, Whole, Word

USABLE_STATES = ("ANNOUNCED", "ANNOUNCED_TO_INTERNET", "ANNOUNCED_TO_GOOGLE", "ACTIVE", "READY_TO_ANNOUNCE")
FREE_CHOICES = 64
"""Among how many free addresses one is chosen by the seed."""


def is_v6(body: Body) -> bool:
    """Whether an address, or what asks for one, is of IPv6."""
    return body.get("ipVersion") == "IPV6" or ":" in body.get("address", "")


def is_internal(body: Body) -> bool:
    """Whether it is reachable inside the VPC alone."""
    return body.get("addressType") == "INTERNAL"


def plain(literal: str) -> str:
    """An address without the length that an IPv6 one is written with."""
    return literal.partition("/")[0]


def taken(world: World) -> set[str]:
    """Every address that somebody has, or is about to have."""
    found = {plain(body["address"]) for _, body in world.all_of("addresses")}
    found |= {plain(body["address"]) for _, body in world.wanted_of("addresses") if "address" in body}
    found |= {plain(rule["IPAddress"]) for _, rule in world.all_of("forwardingRules")}
    found |= {plain(rule["IPAddress"]) for _, rule in world.wanted_of("forwardingRules") if "IPAddress" in rule}
    found |= {nic["networkIP"] for _, vm in world.all_of("instances") for nic in vm["networkInterfaces"]}
    return found


def free_in(world: World, network: IPv4Network | IPv6Network, *, whole: bool) -> str | None:
    """
    A free address, or an IPv6 /96's first one, chosen by the seed; None where there is none.

    ``whole``: the first and last ones are as good as others, as in a delegated prefix.
    """
    gone = taken(world)
    if isinstance(network, IPv6Network):
        candidates: Iterator[Any] = (part.network_address for part in network.subnets(new_prefix=96))
        candidates = islice(candidates, 1, None)
    else:
        candidates = iter(network) if whole or network.prefixlen == 32 else islice(network.hosts(), 1, None)
    free = list(islice((str(each) for each in candidates if str(each) not in gone), FREE_CHOICES))
    return world.choose(free) if free else None


def prefixes_holding(world: World, literal: str) -> list[Body]:
    """The public delegated prefixes that hold an address."""
    address = ip_address(plain(literal))
    prefixes = (body for _, body in world.all_of("publicDelegatedPrefixes"))
    return [body for body in prefixes if address in ip_network(body["ipCidrRange"])]


def pool_of(world: World, body: Body) -> tuple[IPv4Network | IPv6Network, bool]:
    """Where an address without a value comes from, and whether all of it may be used."""
    if "ipCollection" in body:
        collection = world.find(body["ipCollection"])
        assert collection is not None
        return ip_network(collection["ipCidrRange"]), True
    if is_internal(body) or is_v6(body):
        subnet = world.find(body["subnetwork"])
        assert subnet is not None
        field = "ipCidrRange" if not is_v6(body) else "ipv6CidrRange"
        if field not in subnet:
            raise RefusalError(400, "invalid", f"The subnetwork has no {field}")
        return ip_network(subnet[field]), False
    return ip_network(world.external_pool), True


def complete(case: Case) -> Body:
    """Give a new address its defaults and, where none was asked for, a value."""
    body = {"addressType": "EXTERNAL", "networkTier": "PREMIUM", **case.body}
    body["ipVersion"] = "IPV6" if is_v6(body) else "IPV4"
    if is_internal(body):
        body.setdefault("purpose", "GCE_ENDPOINT")
        if "subnetwork" not in body:
            body["subnetwork"] = default_subnetwork(case.world)
    if is_v6(body):
        body.setdefault("prefixLength", 96)
        body["address"] = plain(body["address"]) if "address" in body else ""
        if not is_internal(body):
            body.setdefault("ipv6EndpointType", "VM")
        if "ipCollection" not in body and "subnetwork" not in body:
            raise required("resource.subnetwork")
    if not body.get("address"):
        network, whole = pool_of(case.world, body)
        body["address"] = free_in(case.world, network, whole=whole) or ""
    return body


def default_subnetwork(world: World) -> str:
    """The subnetwork of the network named default; it has to be named where there is none."""
    for link, body in world.all_of("subnetworks"):
        if body["network"].endswith("/default"):
            return link.url
    raise required("resource.subnetwork")


def users(world: World, _link: Link, body: Body) -> Iterator[Link]:
    """The forwarding rules for an address."""
    return (rule for rule, _ in world.rules_at(body["address"]))


def shown(world: World, link: Link, body: Body) -> Mapping[str, Any]:
    """Who uses it, and whether anybody does."""
    names = [user.url for user in users(world, link, body)]
    return {"users": names, "status": "IN_USE" if names else "RESERVED"}


# ---------------------------------------------------------------- rules
def _not_literal(case: Case) -> Finding:
    try:
        ip_address(case.body["address"])
    except ValueError:
        return str(case.body["address"])
    return None


def _exhausted(case: Case) -> Finding:
    return not case.body["address"]


def _duplicate(case: Case) -> Finding:
    others = (body for link, body in case.world.all_of("addresses") if link != case.link)
    return next((body["address"] for body in others if body["address"] == case.body["address"]), None)


def _foreign_literal(case: Case) -> Finding:
    body = case.body
    if is_internal(body) or is_v6(body) or not _asked_for(case):
        return None
    if "ipCollection" in body or prefixes_holding(case.world, body["address"]):
        return None
    return str(body["address"])


def _asked_for(case: Case) -> bool:
    """Whether the value was the user's wish: Google's own come out of its pool."""
    return ip_address(case.body["address"]) not in ip_network(case.world.external_pool)


def _outside_collection(case: Case) -> Finding:
    collection = case.world.find(case.body.get("ipCollection", ""))
    if collection is None or ip_address(case.body["address"]) in ip_network(collection["ipCidrRange"]):
        return None
    return str(case.body["address"])


def _collection_without_allocation(case: Case) -> Finding:
    collection = case.world.find(case.body.get("ipCollection", ""))
    if collection is None or ":" in collection["ipCidrRange"]:
        return None
    return None if collection.get("enableEnhancedIpv4Allocation") else str(case.body["ipCollection"])


def _prefix_not_announced(case: Case) -> Finding:
    used = prefixes_holding(case.world, case.body["address"])
    return next((body["status"] for body in used if body["status"] not in USABLE_STATES), None)


def _own_prefix_standard_tier(case: Case) -> Finding:
    own = prefixes_holding(case.world, case.body["address"])
    return bool(own) and case.body["networkTier"] != "PREMIUM" and str(case.body["networkTier"])


def _internal_standard_tier(case: Case) -> Finding:
    return is_internal(case.body) and case.body["networkTier"] != "PREMIUM" and str(case.body["networkTier"])


def _outside_subnetwork(case: Case) -> Finding:
    subnet = case.world.find(case.body.get("subnetwork", ""))
    if subnet is None:
        return None
    ranges = (subnet.get(field) for field in ("ipCidrRange", "ipv6CidrRange"))
    inside = any(ip_address(case.body["address"]) in ip_network(each) for each in ranges if each)
    return None if inside else str(case.body["address"])


def _subnetwork_external(case: Case) -> Finding:
    return not is_internal(case.body) and not is_v6(case.body) and case.body.get("subnetwork")


def _purpose_external(case: Case) -> Finding:
    return not is_internal(case.body) and case.body.get("purpose")


RULES = (
    Rule(
        name="address-range-exhausted",
        source="I",
        message="No free address is left in the range.",
        broken=_exhausted,
    ),
    Rule(
        name="address-is-a-literal",
        source="A: Address.address",
        message="Invalid value for field 'resource.address': '{found}'. Must be an IP address.",
        broken=_not_literal,
    ),
    Rule(
        name="address-reserved-once",
        source="Q",
        message="Invalid value for field 'resource.address': '{found}'. Specified IP address is already reserved.",
        broken=_duplicate,
    ),
    Rule(
        name="external-value-is-not-yours-to-choose",
        source="A, I: but out of a delegated prefix",
        message="Invalid value for field 'resource.address': '{found}'. The external address was not allocated.",
        broken=_foreign_literal,
    ),
    Rule(
        name="collection-holds-the-address",
        source="A: Address.ipCollection",
        message="Invalid value for field 'resource.address': '{found}'. It is not inside resource.ipCollection.",
        broken=_outside_collection,
    ),
    Rule(
        name="collection-allows-enhanced-allocation",
        source="A: Address.ipCollection",
        message="Invalid value for field 'resource.ipCollection': '{found}'. It needs enhanced IPv4 allocations.",
        broken=_collection_without_allocation,
    ),
    Rule(
        name="delegated-prefix-is-announced",
        source="I",
        message="The public delegated prefix is not ready: its status is {found}.",
        broken=_prefix_not_announced,
    ),
    Rule(
        name="own-prefix-is-premium",
        source="D",
        message="Invalid value for field 'resource.networkTier': '{found}'. Your own prefixes are PREMIUM.",
        broken=_own_prefix_standard_tier,
    ),
    Rule(
        name="internal-address-is-premium",
        source="A: Address.networkTier",
        message="Invalid value for field 'resource.networkTier': '{found}'. Internal addresses are PREMIUM.",
        broken=_internal_standard_tier,
    ),
    Rule(
        name="subnetwork-is-for-internal",
        source="A: Address.subnetwork",
        message="Invalid value for field 'resource.subnetwork': '{found}'. An external IPv4 address has none.",
        broken=_subnetwork_external,
    ),
    Rule(
        name="address-inside-subnetwork",
        source="A: Address.subnetwork",
        message="Invalid value for field 'resource.address': '{found}'. It is not inside the subnetwork.",
        broken=_outside_subnetwork,
    ),
    Rule(
        name="purpose-is-for-internal",
        source="A: Address.purpose",
        message="Invalid value for field 'resource.purpose': '{found}'. An external address has none.",
        broken=_purpose_external,
    ),
)


def _set_labels(case: Case, request: Mapping[str, Any]) -> Body:
    return {**(case.old or {}), "labels": request.get("labels", {})}


SET_LABELS = Action(body=LABELS_REQUEST, apply=_set_labels, locked=True)

KIND = Kind(
    service="addresses",
    collection="addresses",
    noun="address",
    scope="region",
    verbs=("get", "list", "aggregatedList", "insert", "delete"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "description": Text(),
            "address": Text(),
            "addressType": SCHEME,
            "ipCollection": Reference(("publicDelegatedPrefixes",)),
            "ipVersion": FAMILY,
            "ipv6EndpointType": Word(("NETLB", "VM")),
            "labels": Labels(),
            "networkTier": TIER,
            "prefixLength": Whole(0, 128),
            "purpose": Word(("GCE_ENDPOINT", "SHARED_LOADBALANCER_VIP")),
            "subnetwork": subnetwork_reference(),
        },
        OUTPUT | {"status", "users", "labelFingerprint"},
    ),
    has_labels=True,
    actions={"setLabels": SET_LABELS},
    rules=RULES,
    complete=complete,
    shown=shown,
    users=users,
    quota="STATIC_ADDRESSES",
)
