"""
What do the tests ask of Compute Engine? Steps: values that any client can carry out.

In: a method, a body as the API writes it, and what it is about.  Out: a Step; ``make`` functions for those that tests
need again and again, with everything that the emulator insists on.
"""

from typing import Any

import attrs

PROJECT, REGION, ZONE, OTHER_ZONE = "lab", "europe-west4", "europe-west4-a", "europe-west4-b"
URL = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
IN_REGION = f"{URL}/regions/{REGION}"
NETWORK = f"{URL}/global/networks/default"
SUBNETWORK = f"{IN_REGION}/subnetworks/default"
FRESH = "the present one"
"""Stands for the fingerprint that the resource has when the step is carried out."""
NOUNS = {
    "addresses": "address",
    "forwardingRules": "forwardingRule",
    "regionBackendServices": "backendService",
    "networkEndpointGroups": "networkEndpointGroup",
    "regionHealthChecks": "healthCheck",
    "firewalls": "firewall",
    "targetInstances": "targetInstance",
    "instances": "instance",
    "publicDelegatedPrefixes": "publicDelegatedPrefix",
}
ZONAL = frozenset({"networkEndpointGroups", "targetInstances", "instances"})
GLOBAL = frozenset({"firewalls"})


@attrs.frozen
class Outcome:
    """What a step came to: ``DONE``, or the reason or code of its refusal, with the sentence."""

    word: str
    message: str = attrs.field(default="", eq=False)


DONE = Outcome("DONE")


@attrs.frozen(kw_only=True)
class Step:
    """One call; ``name`` is of the resource where it is there already."""

    method: str
    name: str = ""
    body: dict[str, Any] | None = None
    zone: str = ZONE

    @property
    def service(self) -> str:
        """Return the service's name."""
        return self.method.partition(".")[0]

    @property
    def verb(self) -> str:
        """Return the method's own name."""
        return self.method.partition(".")[2]

    @property
    def where(self) -> dict[str, str]:
        """Return what names the project and the scope."""
        scope = {"zone": self.zone} if self.service in ZONAL else {"region": REGION}
        return {"project": PROJECT, **({} if self.service in GLOBAL else scope)}


def group_url(name: str = "nodes", zone: str = ZONE) -> str:
    """Return the whole URL of a group of endpoints."""
    return f"{URL}/zones/{zone}/networkEndpointGroups/{name}"


def leader(node: str = "node-a", name: str = "nodes", zone: str = ZONE) -> dict[str, Any]:
    """Return a leader, as a policy names it."""
    return {"backendGroup": group_url(name, zone), "networkEndpoint": {"instance": node}}


def address(**fields: Any) -> Step:
    """Reserve an address."""
    return Step(method="addresses.insert", body={"name": "address", **fields})


def inside(**fields: Any) -> Step:
    """Reserve an internal address."""
    return address(**{"name": "inside", "addressType": "INTERNAL", "subnetwork": SUBNETWORK, **fields})


def group(zone: str = ZONE, **fields: Any) -> Step:
    """Make a group of endpoints."""
    body = {"name": "nodes", "networkEndpointType": "GCE_VM_IP", "network": NETWORK, "subnetwork": SUBNETWORK, **fields}
    return Step(method="networkEndpointGroups.insert", body=without_none(body), zone=zone)


def attach(*nodes: str, name: str = "nodes", zone: str = ZONE, **fields: Any) -> Step:
    """Attach nodes to a group."""
    endpoints = [{"instance": node, **fields} for node in nodes]
    return Step(
        method="networkEndpointGroups.attachNetworkEndpoints",
        name=name,
        body={"networkEndpoints": endpoints},
        zone=zone,
    )


def detach(*nodes: str, name: str = "nodes", zone: str = ZONE) -> Step:
    """Detach nodes from a group."""
    return attrs.evolve(attach(*nodes, name=name, zone=zone), method="networkEndpointGroups.detachNetworkEndpoints")


def service(**fields: Any) -> Step:
    """Make a service of one leader, standard and external, over the group of that name."""
    body = {
        "name": "service",
        "loadBalancingScheme": "EXTERNAL",
        "protocol": "UNSPECIFIED",
        "connectionDraining": {"drainingTimeoutSec": 0},
        "haPolicy": {"fastIPMove": "DISABLED", "leader": leader()},
        "backends": [{"group": group_url()}],
        **fields,
    }
    return Step(method="regionBackendServices.insert", body=without_none(body))


def fast(**fields: Any) -> Step:
    """Make the same that is moved by frames."""
    return service(**{"haPolicy": {"fastIPMove": "GARP_RA", "leader": leader()}, "network": NETWORK, **fields})


def balancer(**fields: Any) -> Step:
    """Make a service that balances load by health."""
    return service(
        **{"haPolicy": None, "connectionDraining": None, "healthChecks": [f"{IN_REGION}/healthChecks/check"], **fields}
    )


def check(**fields: Any) -> Step:
    """Make a health check."""
    return Step(
        method="regionHealthChecks.insert",
        body=without_none({"name": "check", "type": "TCP", "tcpHealthCheck": {"port": 80}, **fields}),
    )


def rule(**fields: Any) -> Step:
    """Make a rule for the reserved address, for all protocols."""
    body = {
        "name": "rule",
        "IPAddress": f"{IN_REGION}/addresses/address",
        "IPProtocol": "L3_DEFAULT",
        "allPorts": True,
        "loadBalancingScheme": "EXTERNAL",
        "backendService": f"{IN_REGION}/backendServices/service",
        **fields,
    }
    return Step(method="forwardingRules.insert", body=without_none(body))


def inner_rule(**fields: Any) -> Step:
    """Make a rule for the reserved internal address."""
    defaults = {
        "IPAddress": f"{IN_REGION}/addresses/inside",
        "loadBalancingScheme": "INTERNAL",
        "network": NETWORK,
        "subnetwork": SUBNETWORK,
    }
    return rule(**{**defaults, **fields})


def firewall(**fields: Any) -> Step:
    """Let everything in."""
    body = {"name": "let-in", "network": NETWORK, "allowed": [{"IPProtocol": "all"}], **fields}
    return Step(method="firewalls.insert", body=without_none(body))


def target(**fields: Any) -> Step:
    """Make a target of a node."""
    body = {"name": "target", "instance": f"zones/{ZONE}/instances/node-a", **fields}
    return Step(method="targetInstances.insert", body=body)


def patch(method: str, name: str, **fields: Any) -> Step:
    """Change fields of a resource; the fingerprint is the present one unless another is given."""
    return Step(method=f"{method}.patch", name=name, body={"fingerprint": FRESH, **fields})


def delete(method: str, name: str) -> Step:
    """Delete a resource."""
    return Step(method=f"{method}.delete", name=name)


def without_none(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body without what a test has taken away."""
    return {name: value for name, value in body.items() if value is not None}


GROUP = (group(), attach("node-a"))
"""A group of one node."""
SERVED = (address(), *GROUP, service(), rule())
"""An address that leads to a node."""
SERVED_INSIDE = (
    inside(),
    *GROUP,
    service(loadBalancingScheme="INTERNAL", network=NETWORK),
    inner_rule(),
)
"""An internal address that leads to a node."""
