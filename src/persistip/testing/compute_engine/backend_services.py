"""
What does Compute Engine know of regional backend services?

A service joins groups of endpoints. With ``haPolicy`` one endpoint, the leader, gets everything; without it, the
healthy ones share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from persistip.testing.compute_engine.kinds import (
    NAME_FIELD,
    OUTPUT,
    SCHEME,
    Body,
    Case,
    Finding,
    Kind,
    Rule,
    World,
    network_reference,
)
from persistip.testing.compute_engine.links import Link, parse_link
from persistip.testing.compute_engine.shapes import Flag, Fraction, Many, Reference, Struct, Text, Whole, Word

MAX_BACKENDS = 50
MAX_SERVICES = 64
"""With fast IP move, in one network and region; so no endpoint can be in more, which is documented too."""
DRAINING_SECONDS = 300
"""What holds where a service does not say how long its connections drain."""
GROUP = Reference(("networkEndpointGroups",), full=True)


def ha_policy(body: Body) -> Mapping[str, Any] | None:
    """Its policy of one leader; None where it balances load."""
    policy: Mapping[str, Any] | None = body.get("haPolicy")
    return policy


def is_fast(body: Body) -> bool:
    """Whether frames of a VM move its addresses."""
    return (ha_policy(body) or {}).get("fastIPMove") == "GARP_RA"


def groups_of(body: Body) -> list[str]:
    """Its groups of endpoints."""
    return [backend["group"] for backend in body.get("backends", ())]


def endpoints_of(world: World, body: Body) -> dict[str, list[str]]:
    """Its endpoints, by group."""
    return {url: list((world.find(url) or {}).get("_endpoints", ())) for url in groups_of(body)}


def leader_of(body: Body) -> tuple[str, str] | None:
    """Group and instance of its leader; None where it has none."""
    leader = (ha_policy(body) or {}).get("leader") or {}
    instance = leader.get("networkEndpoint", {}).get("instance")
    return (leader.get("backendGroup", ""), instance) if instance else None


def complete(case: Case) -> Body:
    """Write defaults out, and the leader's instance as a URL."""
    body = {"loadBalancingScheme": "EXTERNAL", "protocol": "TCP", "sessionAffinity": "NONE", **case.body}
    body["connectionDraining"] = {"drainingTimeoutSec": DRAINING_SECONDS, **body.get("connectionDraining", {})}
    if body.get("backends"):
        body["backends"] = [{"balancingMode": "CONNECTION", **backend} for backend in body["backends"]]
    policy = ha_policy(body)
    if policy is None:
        return body
    body["haPolicy"] = {"fastIPMove": "DISABLED", **policy}
    if leader := leader_of(body):
        group, instance = leader
        link = parse_link(group, case.world.project)
        if link is not None and "/" not in instance:
            url = group.rpartition("/networkEndpointGroups/")[0] + f"/instances/{instance}"
            body["haPolicy"] = {
                **body["haPolicy"],
                "leader": {**policy["leader"], "networkEndpoint": {"instance": url}},
            }
        elif (vm := parse_link(instance, case.world.project)) is not None:
            body["haPolicy"] = {
                **body["haPolicy"],
                "leader": {**policy["leader"], "networkEndpoint": {"instance": vm.url}},
            }
    return body


def shown(world: World, link: Link, _body: Body) -> Mapping[str, Any]:
    """Which forwarding rules use it."""
    rules = (rule for rule, each in world.all_of("forwardingRules") if each.get("backendService") == link.url)
    return {"usedBy": [{"reference": rule.url} for rule in sorted(rules)]}


# ---------------------------------------------------------------- rules of every service
def _too_many_backends(case: Case) -> Finding:
    return len(groups_of(case.body)) > MAX_BACKENDS and str(len(groups_of(case.body)))


def _group_twice(case: Case) -> Finding:
    groups = groups_of(case.body)
    return next((group for group in groups if groups.count(group) > 1), None)


def _network_of_balancer(case: Case) -> Finding:
    body = case.body
    return "network" in body and not ha_policy(body) and body["loadBalancingScheme"] != "INTERNAL"


def _checks_missing(case: Case) -> Finding:
    body = case.body
    return not ha_policy(body) and bool(groups_of(body)) and len(body.get("healthChecks", ())) != 1


def _networks_differ(case: Case) -> Finding:
    body = case.body
    networks = {(case.world.find(url) or {}).get("network") for url in groups_of(body)}
    networks |= {body["network"]} if "network" in body else set()
    return len(networks) > 1 and ", ".join(sorted(str(each) for each in networks))


# ---------------------------------------------------------------- rules of haPolicy
def _with_policy(test: Any) -> Any:
    """The test, of services with a policy alone."""
    return lambda case: bool(ha_policy(case.body)) and test(case.body)


def _excluded(field: str) -> Rule:
    return Rule(
        name=f"ha-excludes-{field}",
        source=f"A: BackendService.{field}",
        message=f"Invalid value for field 'resource.{field}': it cannot be specified with haPolicy.",
        broken=_with_policy(lambda body: bool(body.get(field))),
    )


def _draining(body: Body) -> Finding:
    seconds = body["connectionDraining"]["drainingTimeoutSec"]
    return seconds != 0 and str(seconds)


def _network_missing(body: Body) -> Finding:
    return "network" not in body and (body["loadBalancingScheme"] == "INTERNAL" or is_fast(body))


def _network_forbidden(body: Body) -> Finding:
    return "network" in body and body["loadBalancingScheme"] == "EXTERNAL" and not is_fast(body)


def _policy_added(case: Case) -> Finding:
    return case.old is not None and not ha_policy(case.old) and bool(ha_policy(case.body))


def _policy_removed(case: Case) -> Finding:
    return case.old is not None and bool(ha_policy(case.old)) and not ha_policy(case.body)


def _fast_changed(case: Case) -> Finding:
    policies = ha_policy(case.old or {}), ha_policy(case.body)
    return all(policies) and case.old is not None and is_fast(case.old) != is_fast(case.body)


def _leader_without_group(case: Case) -> Finding:
    leader = leader_of(case.body)
    return leader is not None and leader[0] not in groups_of(case.body) and str(leader[0] or "none")


def _leader_not_attached(case: Case) -> Finding:
    leader = leader_of(case.body)
    if leader is None or leader[0] not in groups_of(case.body):
        return None
    return leader[1] not in endpoints_of(case.world, case.body)[leader[0]] and leader[1]


def _too_many_endpoints(case: Case) -> Finding:
    if not is_fast(case.body):
        return None
    number = sum(len(each) for each in endpoints_of(case.world, case.body).values())
    return number > case.world.endpoint_cap and f"{number}; the limit is {case.world.endpoint_cap}"


def _too_many_fast_services(case: Case) -> Finding:
    if not is_fast(case.body):
        return None
    number = 1 + sum(1 for _ in _other_fast_services(case))
    return number > MAX_SERVICES and str(number)


def _other_fast_services(case: Case) -> Iterator[Body]:
    for link, body in case.world.all_of("backendServices"):
        if link != case.link and is_fast(body) and body.get("network") == case.body.get("network"):
            yield body


RULES = (
    Rule(
        name="backends-at-most-50",
        source="D",
        message="Invalid value for field 'resource.backends': {found} backends; at most 50 are allowed.",
        broken=_too_many_backends,
    ),
    Rule(
        name="group-named-once",
        source="I",
        message="Invalid value for field 'resource.backends': the group '{found}' is given twice.",
        broken=_group_twice,
    ),
    Rule(
        name="network-of-internal-services",
        source="A: BackendService.network",
        message="Invalid value for field 'resource.network': it goes with scheme INTERNAL, or with fast IP move.",
        broken=_network_of_balancer,
    ),
    Rule(
        name="balancer-has-one-health-check",
        source="A: BackendService.healthChecks",
        message="Invalid value for field 'resource.healthChecks': exactly one health check is required.",
        broken=_checks_missing,
    ),
    Rule(
        name="groups-of-one-network",
        source="A: BackendService.haPolicy",
        message="Invalid value for field 'resource.backends': they are of several networks: {found}.",
        broken=_networks_differ,
    ),
    Rule(
        name="ha-never-removed",
        source="A: BackendService.haPolicy",
        message="Invalid value for field 'resource.haPolicy': it cannot be removed.",
        broken=_policy_removed,
    ),
    Rule(
        name="ha-only-from-the-beginning",
        source="A: BackendService.haPolicy",
        message="Invalid value for field 'resource.haPolicy': it can only be set when the service is created.",
        broken=_policy_added,
    ),
    _excluded("healthChecks"),
    _excluded("connectionTrackingPolicy"),
    _excluded("failoverPolicy"),
    _excluded("subsetting"),
    Rule(
        name="ha-excludes-sessionAffinity",
        source="A: BackendService.sessionAffinity",
        message="Invalid value for field 'resource.sessionAffinity': '{found}' cannot be specified with haPolicy.",
        broken=_with_policy(lambda body: body["sessionAffinity"] != "NONE" and body["sessionAffinity"]),
    ),
    Rule(
        name="ha-excludes-draining",
        source="A: BackendService.connectionDraining; G: send 0",
        message="Invalid value for field 'resource.connectionDraining': '{found}' s. It must be 0 with haPolicy.",
        broken=_with_policy(_draining),
    ),
    Rule(
        name="ha-needs-network",
        source="A: BackendService.network",
        message="Required field 'resource.network' not specified",
        reason="required",
        broken=_with_policy(_network_missing),
    ),
    Rule(
        name="ha-standard-external-has-no-network",
        source="A: BackendService.network",
        message="Invalid value for field 'resource.network': an external service has one with fast IP move only.",
        broken=_with_policy(_network_forbidden),
    ),
    Rule(
        name="fast-move-never-changed",
        source="A: BackendServiceHAPolicy.fastIPMove",
        message="Invalid value for field 'resource.haPolicy.fastIPMove': it cannot be changed.",
        broken=_fast_changed,
    ),
    Rule(
        name="leader-group-is-a-backend",
        source="A: BackendServiceHAPolicyLeader.backendGroup",
        message="Invalid value for field 'resource.haPolicy.leader.backendGroup': no backend '{found}'.",
        broken=_leader_without_group,
    ),
    Rule(
        name="leader-is-attached",
        source="A: BackendServiceHAPolicyLeaderNetworkEndpoint.instance",
        message="Invalid value for field 'resource.haPolicy.leader.networkEndpoint': '{found}' is not attached.",
        broken=_leader_not_attached,
    ),
    Rule(
        name="fast-endpoints-within-cap",
        source="A: 32",
        message="Invalid value for field 'resource.backends': too many endpoints with fast IP move: {found}.",
        broken=_too_many_endpoints,
    ),
    Rule(
        name="fast-services-at-most-64",
        source="A",
        message="Invalid value for field 'resource.haPolicy.fastIPMove': {found} such services; the limit is 64.",
        broken=_too_many_fast_services,
    ),
)

KIND = Kind(
    service="regionBackendServices",
    collection="backendServices",
    noun="backendService",
    scope="region",
    aggregated="backendServices",
    verbs=("get", "list", "aggregatedList", "insert", "patch", "update", "delete", "getHealth"),
    shape=Struct(
        {
            "name": NAME_FIELD,
            "description": Text(),
            "backends": Many(
                Struct(
                    {
                        "group": GROUP,
                        "description": Text(),
                        "balancingMode": Word(("CONNECTION",)),
                        "failover": Flag(),
                    }
                )
            ),
            "connectionDraining": Struct({"drainingTimeoutSec": Whole(0, 3600)}),
            "connectionTrackingPolicy": Struct(
                {
                    "connectionPersistenceOnUnhealthyBackends": Word(
                        ("ALWAYS_PERSIST", "DEFAULT_FOR_PROTOCOL", "NEVER_PERSIST")
                    ),
                    "trackingMode": Word(("PER_CONNECTION", "PER_SESSION")),
                    "idleTimeoutSec": Whole(60, 57600),
                }
            ),
            "failoverPolicy": Struct(
                {
                    "disableConnectionDrainOnFailover": Flag(),
                    "dropTrafficIfUnhealthy": Flag(),
                    "failoverRatio": Fraction(),
                }
            ),
            "haPolicy": Struct(
                {
                    "fastIPMove": Word(("DISABLED", "GARP_RA")),
                    "leader": Struct({"backendGroup": GROUP, "networkEndpoint": Struct({"instance": Text()})}),
                }
            ),
            "healthChecks": Many(Reference(("healthChecks",))),
            "loadBalancingScheme": SCHEME,
            "network": network_reference(),
            "protocol": Word(("TCP", "UDP", "UNSPECIFIED")),
            "sessionAffinity": Word(("NONE", "CLIENT_IP", "CLIENT_IP_PROTO", "CLIENT_IP_PORT_PROTO")),
            "timeoutSec": Whole(1),
            "subsetting": Struct({"policy": Word(("NONE", "CONSISTENT_HASH_SUBSETTING"))}),
        },
        OUTPUT | {"fingerprint", "usedBy"},
    ),
    mutable=frozenset(
        {
            "description",
            "backends",
            "connectionDraining",
            "connectionTrackingPolicy",
            "failoverPolicy",
            "haPolicy",
            "healthChecks",
            "sessionAffinity",
            "timeoutSec",
        }
    ),
    lock="required",
    rules=RULES,
    complete=complete,
    shown=shown,
    quota="BACKEND_SERVICES",
)
