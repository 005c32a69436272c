"""
What does Compute Engine know of target instances?

A name for one instance that a forwarding rule may send to.
"""

from __future__ import annotations

from persistip.testing.compute_engine.kinds import NAME_FIELD, OUTPUT, Body, Case, Finding, Kind, Rule
from persistip.testing.compute_engine.shapes import Reference, Struct, Text, Word


def complete(case: Case) -> Body:
    """Packets keep their destination, and there is no other way."""
    return {"natPolicy": "NO_NAT", **case.body}


def _elsewhere(case: Case) -> Finding:
    return f"/{case.link.scope}/" not in case.body["instance"] and str(case.body["instance"])


RULES = (
    Rule(
        name="target-is-of-its-zone",
        source="A: TargetInstance.instance",
        message="Invalid value for field 'resource.instance': '{found}' is in another zone.",
        broken=_elsewhere,
    ),
)

KIND = Kind(
    service="targetInstances",
    collection="targetInstances",
    noun="targetInstance",
    scope="zone",
    verbs=("get", "list", "insert", "delete"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "description": Text(),
            "instance": Reference(("instances",)),
            "natPolicy": Word(("NO_NAT",)),
        },
        OUTPUT,
    ),
    required=("name", "instance"),
    rules=RULES,
    complete=complete,
    quota="TARGET_INSTANCES",
)
