"""
What does Compute Engine know of forwarding rules?

One rule sends the packets for one address, by protocol and ports, to a backend service or a target instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from persistip.testing.compute_engine.addresses import SET_LABELS, free_in, plain
from persistip.testing.compute_engine.backend_services import is_fast
from persistip.testing.compute_engine.kinds import (
    FAMILY,
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
    network_reference,
    subnetwork_reference,
    texts,
)
from persistip.testing.compute_engine.links import Link, parse_link
from persistip.testing.compute_engine.refusals import RefusalError, invalid, not_ready, required
from persistip.testing.compute_engine.shapes import Flag, Labels, Reference, Struct, Text, Word

MAX_SHARED = 10
SHARED = "SHARED_LOADBALANCER_VIP"
_TARGET = Struct({"target": Reference(("targetInstances",))})


def is_internal(body: Body) -> bool:
    """Whether it serves the VPC alone."""
    return bool(body["loadBalancingScheme"] == "INTERNAL")


def network_of(literal: str) -> IPv4Network | IPv6Network:
    """The address of a rule; raises ValueError."""
    return ip_network(literal)


def address_of(world: World, literal: str) -> tuple[Link, Body] | None:
    """The reserved address with that value; None where there is none."""
    wanted = plain(literal)
    return next(((link, body) for link, body in world.all_of("addresses") if body["address"] == wanted), None)


def complete(case: Case) -> Body:
    """Write defaults out, and the address as a literal, whichever way it was named."""
    body = {"loadBalancingScheme": "EXTERNAL", "networkTier": "PREMIUM", "IPProtocol": "TCP", **case.body}
    if is_internal(body) and (subnet := case.world.find(body.get("subnetwork", ""))) is not None:
        body.setdefault("network", subnet["network"])
    body["IPAddress"] = _literal(case, body)
    body["ipVersion"] = "IPV6" if ":" in body["IPAddress"] else "IPV4"
    if "portRange" in body and "-" not in body["portRange"]:
        body["portRange"] = f"{body['portRange']}-{body['portRange']}"
    return body


def _literal(case: Case, body: Body) -> str:
    text = str(body.get("IPAddress", ""))
    if not text:
        return _ephemeral(case, body)
    try:
        network = network_of(text)
    except ValueError:
        return _of_resource(case, text)
    return str(network.network_address) if network.prefixlen == 32 and network.version == 4 else str(network)


def _of_resource(case: Case, text: str) -> str:
    """The value of a reserved address that is named by a URL or a bare name."""
    link = parse_link(text, case.world.project)
    if link is None:
        link = Link(case.world.project, case.link.scope, "addresses", text)
    address = case.world.find(link.url)
    if address is not None and link.collection == "addresses":
        return f"{address['address']}/96" if ":" in address["address"] else str(address["address"])
    if any(wanted == link for wanted, _ in case.world.wanted_of("addresses")):
        raise not_ready(link.path)
    raise invalid("resource.IPAddress", text, f"The referenced resource '{link.path}' cannot be found.")


def _ephemeral(case: Case, body: Body) -> str:
    """An address that lives as long as its rule."""
    pool = case.world.external_pool
    if is_internal(body):
        if "subnetwork" not in body:
            raise required("resource.subnetwork")
        pool = (case.world.find(body["subnetwork"]) or {})["ipCidrRange"]
    free = free_in(case.world, ip_network(pool), whole=not is_internal(body))
    if free is None:
        raise RefusalError(400, "invalid", "No free address is left in the range.")
    return free


def _set_target(case: Case, request: Mapping[str, Any]) -> Body:
    old = case.old or {}
    if "target" not in request:
        raise required("target")
    if "target" not in old:
        raise invalid(
            "target", request["target"], "The rule has a backend service, and a target of the same kind is needed."
        )
    return {**old, "target": request["target"]}


# ---------------------------------------------------------------- rules of one rule's own fields
def _l3_without_all_ports(case: Case) -> Finding:
    return case.body["IPProtocol"] == "L3_DEFAULT" and not case.body.get("allPorts")


def _ports_given_twice(case: Case) -> Finding:
    given = [name for name in ("allPorts", "ports", "portRange") if case.body.get(name)]
    return len(given) > 1 and ", ".join(given)


def _wide_address(case: Case) -> Finding:
    network = network_of(case.body["IPAddress"])
    length = 32 if network.version == 4 else 96
    return network.prefixlen != length and case.body["IPAddress"]


def _not_one_destination(case: Case) -> Finding:
    return ("target" in case.body) == ("backendService" in case.body)


def _global_access_external(case: Case) -> Finding:
    return bool(case.body.get("allowGlobalAccess")) and not is_internal(case.body)


def _internal_without_network(case: Case) -> Finding:
    return is_internal(case.body) and "subnetwork" not in case.body


def _external_with_network(case: Case) -> Finding:
    body = case.body
    if is_internal(body):
        return None
    names = ("network",) if body["ipVersion"] == "IPV6" else ("network", "subnetwork")
    return next((name for name in names if name in body), None)


def _external_v6_without_subnetwork(case: Case) -> Finding:
    body = case.body
    return not is_internal(body) and body["ipVersion"] == "IPV6" and "subnetwork" not in body


def _subnetwork_of_other_network(case: Case) -> Finding:
    subnet = case.world.find(case.body.get("subnetwork", ""))
    wanted = case.body.get("network")
    return subnet is not None and wanted is not None and subnet["network"] != wanted and str(wanted)


def _internal_target_protocol(case: Case) -> Finding:
    body = case.body
    wrong = is_internal(body) and "target" in body and body["IPProtocol"] not in ("TCP", "UDP")
    return wrong and body["IPProtocol"]


# ---------------------------------------------------------------- rules of rule and service
def _service(case: Case) -> Body | None:
    return case.world.find(case.body.get("backendService", ""))


def _scheme_differs(case: Case) -> Finding:
    service = _service(case)
    mine = case.body["loadBalancingScheme"]
    return service is not None and service["loadBalancingScheme"] != mine and str(service["loadBalancingScheme"])


def _protocol_differs(case: Case) -> Finding:
    service = _service(case)
    if service is None or service["protocol"] == "UNSPECIFIED":
        return None
    return service["protocol"] != case.body["IPProtocol"] and str(service["protocol"])


def _service_network_differs(case: Case) -> Finding:
    service = _service(case)
    if service is None or not is_internal(case.body) or "network" not in service:
        return None
    return service["network"] != case.body.get("network") and str(service["network"])


# ---------------------------------------------------------------- rules of rule and address
def _not_allocated(case: Case) -> Finding:
    body = case.body
    literal = body["IPAddress"]
    if address_of(case.world, literal) is not None:
        return None
    if is_internal(body):
        subnet = case.world.find(body.get("subnetwork", "")) or {}
        ranges = [subnet[field] for field in ("ipCidrRange", "ipv6CidrRange") if field in subnet]
        inside = any(
            each.version == network_of(literal).version and network_of(literal).subnet_of(each)  # type: ignore[arg-type]
            for each in map(ip_network, ranges)
        )
        return not inside and literal
    return network_of(literal).network_address not in ip_network(case.world.external_pool) and literal


def _address_scheme_differs(case: Case) -> Finding:
    found = address_of(case.world, case.body["IPAddress"])
    if found is None:
        return None
    _, address = found
    return address["addressType"] != case.body["loadBalancingScheme"] and str(address["addressType"])


def _tier_differs(case: Case) -> Finding:
    found = address_of(case.world, case.body["IPAddress"])
    if found is None:
        return None
    return found[1]["networkTier"] != case.body["networkTier"] and str(found[1]["networkTier"])


def _address_subnetwork_differs(case: Case) -> Finding:
    found = address_of(case.world, case.body["IPAddress"])
    if found is None or not is_internal(case.body):
        return None
    return found[1].get("subnetwork") != case.body.get("subnetwork") and str(found[1].get("subnetwork"))


def _others(case: Case) -> Iterator[tuple[Link, Body]]:
    """The other rules for the same address."""
    rules = case.world.rules_at(plain(case.body["IPAddress"]))
    return ((link, body) for link, body in rules if link != case.link)


def _external_conflict(case: Case) -> Finding:
    if is_internal(case.body):
        return None
    clash = any(_overlaps(case.body, body) for _, body in _others(case))
    return clash and case.body["IPAddress"]


def _overlaps(one: Body, other: Body) -> bool:
    """Whether two rules for an address want the same packets."""
    if one["IPProtocol"] != other["IPProtocol"]:
        return False
    mine, theirs = _ports(one), _ports(other)
    return any(low <= last and first <= high for low, high in mine for first, last in theirs)


def _ports(body: Body) -> list[tuple[int, int]]:
    if body.get("ports"):
        return [(int(port.partition("-")[0]), int(port.rpartition("-")[2])) for port in body["ports"]]
    if "portRange" in body:
        first, _, last = body["portRange"].partition("-")
        return [(int(first), int(last))]
    return [(0, 65535)]


def _internal_conflict(case: Case) -> Finding:
    if not is_internal(case.body) or not any(_others(case)):
        return None
    found = address_of(case.world, case.body["IPAddress"])
    shared = found is not None and found[1].get("purpose") == SHARED
    clash = any(_overlaps(case.body, body) for _, body in _others(case))
    return (not shared or clash) and case.body["IPAddress"]


def _shared_by_too_many(case: Case) -> Finding:
    return is_internal(case.body) and sum(1 for _ in _others(case)) >= MAX_SHARED


def _fast_address_shared(case: Case) -> Finding:
    services = [case.world.find(body.get("backendService", "")) for _, body in _others(case)]
    fast = any(service is not None and is_fast(service) for service in (*services, _service(case)))
    return bool(services) and fast and case.body["IPAddress"]


_INVALID_ADDRESS = "Invalid value for field 'resource.IPAddress': '{found}'. "

RULES = (
    Rule(
        name="l3-default-has-all-ports",
        source="A: ForwardingRule.allPorts",
        message="Invalid value for field 'resource.allPorts': L3_DEFAULT requires allPorts.",
        broken=_l3_without_all_ports,
    ),
    Rule(
        name="ports-said-once",
        source="A: ForwardingRule.allPorts",
        message="Only one of allPorts, ports and portRange may be specified; given: {found}.",
        broken=_ports_given_twice,
    ),
    Rule(
        name="address-is-one",
        source="A: ForwardingRule.IPAddress; I",
        message=_INVALID_ADDRESS + "One IPv4 address or one IPv6 /96 is expected.",
        broken=_wide_address,
    ),
    Rule(
        name="one-destination",
        source="A: ForwardingRule.backendService, target",
        message="Exactly one of backendService and target must be specified.",
        broken=_not_one_destination,
    ),
    Rule(
        name="global-access-is-for-internal",
        source="A: ForwardingRule.allowGlobalAccess",
        message="Invalid value for field 'resource.allowGlobalAccess': it goes with scheme INTERNAL.",
        broken=_global_access_external,
    ),
    Rule(
        name="internal-rule-has-subnetwork",
        source="A: ForwardingRule.subnetwork",
        message="Required field 'resource.subnetwork' not specified",
        reason="required",
        broken=_internal_without_network,
    ),
    Rule(
        name="external-rule-has-no-network",
        source="A: ForwardingRule.network",
        message="Invalid value for field 'resource.{found}': it does not go with scheme EXTERNAL.",
        broken=_external_with_network,
    ),
    Rule(
        name="external-ipv6-rule-has-subnetwork",
        source="A: ForwardingRule.subnetwork",
        message="Required field 'resource.subnetwork' not specified",
        reason="required",
        broken=_external_v6_without_subnetwork,
    ),
    Rule(
        name="subnetwork-of-the-rules-network",
        source="A: ForwardingRule.network",
        message="Invalid value for field 'resource.network': '{found}' is not the subnetwork's network.",
        broken=_subnetwork_of_other_network,
    ),
    Rule(
        name="internal-target-is-tcp-or-udp",
        source="D",
        message="Invalid value for field 'resource.IPProtocol': '{found}'. Internally TCP and UDP are forwarded.",
        broken=_internal_target_protocol,
    ),
    Rule(
        name="schemes-are-equal",
        source="A: loadBalancingScheme",
        message="Invalid value for field 'resource.loadBalancingScheme': the backend service's is {found}.",
        broken=_scheme_differs,
    ),
    Rule(
        name="protocols-go-together",
        source="A: BackendService.protocol",
        message="Invalid value for field 'resource.IPProtocol': the backend service's protocol is {found}.",
        broken=_protocol_differs,
    ),
    Rule(
        name="networks-are-equal",
        source="A: BackendService.network",
        message="Invalid value for field 'resource.network': the backend service's is {found}.",
        broken=_service_network_differs,
    ),
    Rule(
        name="address-is-allocated",
        source="I",
        message=_INVALID_ADDRESS + "Specified IP address is not allocated to the project.",
        broken=_not_allocated,
    ),
    Rule(
        name="address-is-of-the-scheme",
        source="A: Address.addressType",
        message="Invalid value for field 'resource.IPAddress': the address is {found}.",
        broken=_address_scheme_differs,
    ),
    Rule(
        name="tiers-are-equal",
        source="A: ForwardingRule.networkTier",
        message="Invalid value for field 'resource.networkTier': the address's is {found}.",
        broken=_tier_differs,
    ),
    Rule(
        name="address-is-of-the-subnetwork",
        source="A: ForwardingRule.subnetwork",
        message="Invalid value for field 'resource.IPAddress': the address is of the subnetwork {found}.",
        broken=_address_subnetwork_differs,
    ),
    Rule(
        name="fast-address-is-not-shared",
        source="A: BackendServiceHAPolicy.fastIPMove",
        message=_INVALID_ADDRESS + "With fast IP move an address cannot be shared.",
        broken=_fast_address_shared,
    ),
    Rule(
        name="external-address-of-one-rule",
        source="A; Q: reason invalid",
        message=_INVALID_ADDRESS + "Specified IP address is in-use and would result in a conflict.",
        broken=_external_conflict,
    ),
    Rule(
        name="shared-address-of-at-most-10",
        source="D",
        message="At most 10 forwarding rules may share an address.",
        broken=_shared_by_too_many,
    ),
    Rule(
        name="internal-address-of-one-rule",
        source="D; K: 409, of the operation",
        message="IP '{found}' is already being used by another resource.",
        status=409,
        reason="conflict",
        late=True,
        broken=_internal_conflict,
    ),
)

KIND = Kind(
    service="forwardingRules",
    collection="forwardingRules",
    noun="forwardingRule",
    scope="region",
    verbs=("get", "list", "aggregatedList", "insert", "patch", "delete"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "description": Text(),
            "IPAddress": Text(),
            "IPProtocol": Word(("TCP", "UDP", "ESP", "AH", "SCTP", "ICMP", "L3_DEFAULT")),
            "allPorts": Flag(),
            "allowGlobalAccess": Flag(),
            "backendService": Reference(("backendServices",)),
            "ipVersion": FAMILY,
            "labels": Labels(),
            "loadBalancingScheme": SCHEME,
            "network": network_reference(),
            "networkTier": TIER,
            "portRange": Text(r"\d{1,5}(-\d{1,5})?"),
            "ports": texts(r"\d{1,5}(-\d{1,5})?"),
            "subnetwork": subnetwork_reference(),
            "target": Reference(("targetInstances",)),
        },
        OUTPUT | {"fingerprint", "labelFingerprint"},
    ),
    mutable=frozenset({"networkTier", "allowGlobalAccess"}),
    lock="optional",
    has_labels=True,
    labels_at_insert=False,
    actions={"setTarget": Action(body=_TARGET, apply=_set_target), "setLabels": SET_LABELS},
    rules=RULES,
    complete=complete,
    quota="FORWARDING_RULES",
)
