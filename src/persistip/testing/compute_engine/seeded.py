"""
What else is there in a project, that clients may look at here and not change?

Networks, subnetworks, instances and public delegated prefixes: they come with the project (``project.py``).
"""

from __future__ import annotations

from persistip.testing.compute_engine.kinds import NAME_FIELD, OUTPUT, Kind, network_reference, subnetwork_reference
from persistip.testing.compute_engine.shapes import Flag, Many, Struct, Text, Word

_LOOK = ("get", "list")

NETWORKS = Kind(
    service="networks",
    collection="networks",
    noun="network",
    scope="global",
    verbs=(),
    shape=Struct({"name": NAME_FIELD, "autoCreateSubnetworks": Flag()}, OUTPUT),
)
SUBNETWORKS = Kind(
    service="subnetworks",
    collection="subnetworks",
    noun="subnetwork",
    scope="region",
    verbs=(),
    shape=Struct(
        {"name": NAME_FIELD, "network": network_reference(), "ipCidrRange": Text(), "ipv6CidrRange": Text()}, OUTPUT
    ),
)
INSTANCES = Kind(
    service="instances",
    collection="instances",
    noun="instance",
    scope="zone",
    verbs=(*_LOOK, "aggregatedList"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "canIpForward": Flag(),
            "machineType": Text(),
            "status": Word(("RUNNING", "STOPPING", "TERMINATED")),
            "networkInterfaces": Many(
                Struct(
                    {
                        "name": Text(),
                        "network": network_reference(),
                        "subnetwork": subnetwork_reference(),
                        "networkIP": Text(),
                        "ipv6Address": Text(),
                    }
                )
            ),
        },
        OUTPUT,
    ),
)
PREFIXES = Kind(
    service="publicDelegatedPrefixes",
    collection="publicDelegatedPrefixes",
    noun="publicDelegatedPrefix",
    scope="region",
    verbs=_LOOK,
    shape=Struct(
        {
            "name": NAME_FIELD,
            "ipCidrRange": Text(),
            "status": Text(),
            "enableEnhancedIpv4Allocation": Flag(),
            "mode": Text(),
        },
        OUTPUT,
    ),
)
KINDS = (NETWORKS, SUBNETWORKS, INSTANCES, PREFIXES)
