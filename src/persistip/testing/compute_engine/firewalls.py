"""
What does Compute Engine know of firewall rules?

Enough to let an address's packets in: ingress rules of a network, with ranges of source and destination.
"""

from __future__ import annotations

from ipaddress import ip_network

from persistip.testing.compute_engine.kinds import (
    NAME_FIELD,
    OUTPUT,
    Body,
    Case,
    Finding,
    Kind,
    Rule,
    network_reference,
    texts,
)
from persistip.testing.compute_engine.links import Link
from persistip.testing.compute_engine.refusals import required
from persistip.testing.compute_engine.shapes import Flag, Many, Struct, Text, Whole, Word

_RANGES = ("sourceRanges", "destinationRanges")
_PROTOCOL = Struct({"IPProtocol": Text(r"[a-z0-9]+"), "ports": texts(r"\d+(-\d+)?")})


def complete(case: Case) -> Body:
    """Write defaults out."""
    network = Link(case.world.project, "global", "networks", "default").url
    body = {"direction": "INGRESS", "priority": 1000, **case.body}
    if "network" not in body:
        if case.world.find(network) is None:
            raise required("resource.network")
        body["network"] = network
    sources = ("sourceRanges", "sourceTags")
    if body["direction"] == "INGRESS" and not any(body.get(name) for name in sources):
        body["sourceRanges"] = ["0.0.0.0/0"]
    return body


# ---------------------------------------------------------------- rules
def _not_one_effect(case: Case) -> Finding:
    return bool(case.body.get("allowed")) == bool(case.body.get("denied"))


def _range_malformed(case: Case) -> Finding:
    for name in _RANGES:
        for text in case.body.get(name, ()):
            try:
                ip_network(text)
            except ValueError:
                return f"{name}: {text}"
    return None


def _families_mixed(case: Case) -> Finding:
    for name in _RANGES:
        families = {ip_network(text).version for text in case.body.get(name, ())}
        if len(families) > 1:
            return name
    return None


def _ports_of_all(case: Case) -> Finding:
    rules = (*case.body.get("allowed", ()), *case.body.get("denied", ()))
    return any(rule.get("IPProtocol") == "all" and rule.get("ports") for rule in rules)


RULES = (
    Rule(
        name="allows-or-denies",
        source="A: Firewall.allowed, denied",
        message="Exactly one of 'resource.allowed' and 'resource.denied' must be specified.",
        broken=_not_one_effect,
    ),
    Rule(
        name="ranges-are-networks",
        source="A: Firewall.sourceRanges",
        message="Invalid value for field 'resource.{found}'. Must be a CIDR range without host bits.",
        broken=_range_malformed,
    ),
    Rule(
        name="ranges-of-one-family",
        source="D",
        message="Invalid value for field 'resource.{found}': IPv4 and IPv6 cannot be mixed.",
        broken=_families_mixed,
    ),
    Rule(
        name="all-protocols-have-no-ports",
        source="A: Firewall.allowed",
        message="Invalid value for field 'resource.allowed.ports': IPProtocol 'all' has none.",
        broken=_ports_of_all,
    ),
)

KIND = Kind(
    service="firewalls",
    collection="firewalls",
    noun="firewall",
    scope="global",
    verbs=("get", "list", "insert", "patch", "update", "delete"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "description": Text(),
            "allowed": Many(_PROTOCOL),
            "denied": Many(_PROTOCOL),
            "destinationRanges": texts(),
            "direction": Word(("INGRESS", "EGRESS")),
            "disabled": Flag(),
            "network": network_reference(),
            "priority": Whole(0, 65535),
            "sourceRanges": texts(),
            "sourceTags": texts(),
            "targetTags": texts(),
        },
        OUTPUT,
    ),
    mutable=frozenset(
        {
            "description",
            "allowed",
            "denied",
            "destinationRanges",
            "disabled",
            "priority",
            "sourceRanges",
            "sourceTags",
            "targetTags",
        }
    ),
    rules=RULES,
    complete=complete,
    quota="FIREWALLS",
)
