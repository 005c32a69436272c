"""Is every rule of the emulator's tables kept, and is what it allows allowed?"""

import re
from collections.abc import Sequence

import attrs
import pytest
from compute_clients import Clients
from compute_steps import (
    DONE,
    GROUP,
    IN_REGION,
    NETWORK,
    OTHER_ZONE,
    SERVED,
    SERVED_INSIDE,
    SUBNETWORK,
    URL,
    ZONE,
    Step,
    address,
    attach,
    balancer,
    check,
    detach,
    fast,
    firewall,
    group,
    group_url,
    inner_rule,
    inside,
    leader,
    patch,
    rule,
    service,
    target,
)

from persistip.testing.compute_engine import ComputeEngine, DelegatedPrefix, Description, Instance, Subnetwork, seed
from persistip.testing.compute_engine.kinds import TRUST, Rule
from persistip.testing.compute_engine.service import KINDS

pytestmark = pytest.mark.requires("gce")

RULES = {each.name: each for kind in KINDS for each in kind.rules}
INSIDE_SERVICE = service(loadBalancingScheme="INTERNAL", network=NETWORK)
HA = {"fastIPMove": "DISABLED", "leader": leader()}
FAST = {"fastIPMove": "GARP_RA", "leader": leader()}
SECOND = f"{IN_REGION}/backendServices/second"
MORE_NODES = tuple(Instance(name=f"more-{number}", zone=ZONE) for number in range(60))


@attrs.frozen(kw_only=True)
class Case:
    """A rule's example: what comes before, what is refused, and a like one that is not."""

    before: Sequence[Step] = ()
    refused: Step
    allowed: Step
    world: Description | None = None
    """What else is in the project."""


def more(**fields: object) -> Description:
    """Return what else a project holds, beside the example."""
    return Description(subnetworks=(), **fields)  # type: ignore[arg-type]


CASES: dict[str, Case] = {
    # ---------------------------------------------------------------- addresses
    "address-is-a-literal": Case(refused=inside(address="somewhere"), allowed=inside(address="10.128.9.9")),
    "address-reserved-once": Case(
        before=[inside(address="10.128.9.9")],
        refused=inside(name="again", address="10.128.9.9"),
        allowed=inside(name="again", address="10.128.9.10"),
    ),
    "external-value-is-not-yours-to-choose": Case(
        refused=address(address="192.0.2.1"), allowed=address(address="203.0.113.5")
    ),
    "collection-holds-the-address": Case(
        refused=address(address="203.0.113.77", ipCollection=f"{IN_REGION}/publicDelegatedPrefixes/own"),
        allowed=address(address="203.0.113.7", ipCollection=f"{IN_REGION}/publicDelegatedPrefixes/own"),
    ),
    "collection-allows-enhanced-allocation": Case(
        world=more(delegated_prefixes=(DelegatedPrefix(name="plain", prefix="203.0.113.32/28", enhanced=False),)),
        refused=address(ipCollection=f"{IN_REGION}/publicDelegatedPrefixes/plain"),
        allowed=address(address="203.0.113.33"),
    ),
    "delegated-prefix-is-announced": Case(
        world=more(delegated_prefixes=(DelegatedPrefix(name="new", prefix="203.0.113.32/28", status="INITIALIZING"),)),
        refused=address(address="203.0.113.33"),
        allowed=address(address="203.0.113.3"),
    ),
    "own-prefix-is-premium": Case(
        refused=address(address="203.0.113.3", networkTier="STANDARD"),
        allowed=address(address="203.0.113.3", networkTier="PREMIUM"),
    ),
    "internal-address-is-premium": Case(refused=inside(networkTier="STANDARD"), allowed=inside(networkTier="PREMIUM")),
    "address-inside-subnetwork": Case(refused=inside(address="10.1.1.1"), allowed=inside(address="10.128.1.1")),
    "subnetwork-is-for-internal": Case(refused=address(subnetwork=SUBNETWORK), allowed=inside(subnetwork=SUBNETWORK)),
    "purpose-is-for-internal": Case(
        refused=address(purpose="SHARED_LOADBALANCER_VIP"), allowed=inside(purpose="SHARED_LOADBALANCER_VIP")
    ),
    "address-range-exhausted": Case(
        world=more(delegated_prefixes=(DelegatedPrefix(name="tiny", prefix="203.0.113.64/32"),)),
        before=[address(name="last", ipCollection=f"{IN_REGION}/publicDelegatedPrefixes/tiny")],
        refused=address(ipCollection=f"{IN_REGION}/publicDelegatedPrefixes/tiny"),
        allowed=address(ipCollection=f"{IN_REGION}/publicDelegatedPrefixes/own"),
    ),
    # ---------------------------------------------------------------- forwarding rules
    "l3-default-has-all-ports": Case(before=SERVED[:-1], refused=rule(allPorts=None), allowed=rule(allPorts=True)),
    "ports-said-once": Case(
        before=SERVED[:-1],
        refused=rule(IPProtocol="TCP", ports=["80"], allPorts=True),
        allowed=rule(IPProtocol="TCP", ports=["80"], allPorts=None),
    ),
    "address-is-one": Case(
        before=SERVED[:-1], refused=rule(IPAddress="198.51.100.0/28"), allowed=rule(IPAddress="198.51.100.3/32")
    ),
    "one-destination": Case(
        before=[*SERVED[:-1], target()],
        refused=rule(target=f"zones/{ZONE}/targetInstances/target"),
        allowed=rule(target=f"zones/{ZONE}/targetInstances/target", backendService=None),
    ),
    "global-access-is-for-internal": Case(
        before=[*SERVED[:-1], inside(), service(name="second", loadBalancingScheme="INTERNAL", network=NETWORK)],
        refused=rule(allowGlobalAccess=True),
        allowed=inner_rule(allowGlobalAccess=True, backendService=SECOND),
    ),
    "internal-rule-has-subnetwork": Case(
        before=SERVED_INSIDE[:-1],
        refused=inner_rule(subnetwork=None, IPAddress="inside"),
        allowed=inner_rule(IPAddress="inside"),
    ),
    "external-rule-has-no-network": Case(before=SERVED[:-1], refused=rule(network=NETWORK), allowed=rule()),
    "external-ipv6-rule-has-subnetwork": Case(
        world=more(delegated_prefixes=()),
        before=[*GROUP, service(), address(ipVersion="IPV6", subnetwork=f"{IN_REGION}/subnetworks/six")],
        refused=rule(ipVersion="IPV6"),
        allowed=rule(ipVersion="IPV6", subnetwork=f"{IN_REGION}/subnetworks/six"),
    ),
    "subnetwork-of-the-rules-network": Case(
        before=SERVED_INSIDE[:-1], refused=inner_rule(network=f"{URL}/global/networks/other"), allowed=inner_rule()
    ),
    "internal-target-is-tcp-or-udp": Case(
        before=[inside(), target()],
        refused=inner_rule(backendService=None, target=f"zones/{ZONE}/targetInstances/target"),
        allowed=inner_rule(backendService=None, target=f"zones/{ZONE}/targetInstances/target", IPProtocol="UDP"),
    ),
    "schemes-are-equal": Case(
        before=[*SERVED[:-1], service(name="second", loadBalancingScheme="INTERNAL", network=NETWORK)],
        refused=rule(backendService=SECOND),
        allowed=rule(),
    ),
    "protocols-go-together": Case(
        before=[*SERVED[:-1], service(name="second", protocol="TCP")],
        refused=rule(backendService=SECOND),
        allowed=rule(backendService=SECOND, IPProtocol="TCP"),
    ),
    "networks-are-equal": Case(
        before=[*GROUP, INSIDE_SERVICE],
        refused=inner_rule(
            IPAddress="10.9.0.9",
            network=f"{URL}/global/networks/other",
            subnetwork=f"{IN_REGION}/subnetworks/elsewhere",
        ),
        allowed=inner_rule(IPAddress="10.128.9.9"),
    ),
    "address-is-allocated": Case(before=SERVED[:-1], refused=rule(IPAddress="192.0.2.1"), allowed=rule()),
    "address-is-of-the-scheme": Case(before=[*SERVED[:-1], inside()], refused=rule(IPAddress="inside"), allowed=rule()),
    "tiers-are-equal": Case(
        before=[address(networkTier="STANDARD"), *SERVED[1:-1]], refused=rule(), allowed=rule(networkTier="STANDARD")
    ),
    "address-is-of-the-subnetwork": Case(
        before=[inside(), inside(name="second", subnetwork=f"{IN_REGION}/subnetworks/second"), *GROUP, INSIDE_SERVICE],
        refused=inner_rule(IPAddress="second"),
        allowed=inner_rule(),
    ),
    "fast-address-is-not-shared": Case(
        before=[
            inside(purpose="SHARED_LOADBALANCER_VIP"),
            *SERVED_INSIDE[1:-1],
            fast(name="second", loadBalancingScheme="INTERNAL"),
            inner_rule(IPProtocol="TCP"),
        ],
        refused=inner_rule(name="again", backendService=SECOND, IPProtocol="UDP"),
        allowed=inner_rule(name="again", IPProtocol="UDP"),
    ),
    "external-address-of-one-rule": Case(
        before=[*SERVED[:-1], rule(IPProtocol="TCP", allPorts=None, portRange="80-90")],
        refused=rule(name="again", IPProtocol="TCP", allPorts=None, ports=["90"]),
        allowed=rule(name="again", IPProtocol="TCP", allPorts=None, ports=["91"]),
    ),
    "shared-address-of-at-most-10": Case(
        before=[
            inside(purpose="SHARED_LOADBALANCER_VIP"),
            inside(name="second", purpose="SHARED_LOADBALANCER_VIP"),
            *SERVED_INSIDE[1:-1],
            *(
                inner_rule(name=f"rule-{port}", IPProtocol="TCP", allPorts=None, ports=[str(port)])
                for port in range(10)
            ),
        ],
        refused=inner_rule(IPProtocol="TCP", allPorts=None, ports=["80"]),
        allowed=inner_rule(IPAddress="second", IPProtocol="TCP", allPorts=None, ports=["80"]),
    ),
    "internal-address-of-one-rule": Case(
        before=[*SERVED_INSIDE, inside(name="second")],
        refused=inner_rule(name="again"),
        allowed=inner_rule(name="again", IPAddress="second"),
    ),
    # ---------------------------------------------------------------- backend services
    "backends-at-most-50": Case(
        before=[*GROUP, *(group(name=f"group-{number}") for number in range(50))],
        refused=service(
            backends=[{"group": group_url()}, *({"group": group_url(f"group-{number}")} for number in range(50))]
        ),
        allowed=service(
            backends=[{"group": group_url()}, *({"group": group_url(f"group-{number}")} for number in range(49))]
        ),
    ),
    "group-named-once": Case(
        before=[*GROUP, group(name="more")],
        refused=service(backends=[{"group": group_url()}, {"group": group_url()}]),
        allowed=service(backends=[{"group": group_url()}, {"group": group_url("more")}]),
    ),
    "network-of-internal-services": Case(
        before=[*GROUP, check()],
        refused=balancer(network=NETWORK),
        allowed=balancer(network=NETWORK, loadBalancingScheme="INTERNAL"),
    ),
    "balancer-has-one-health-check": Case(
        before=[*GROUP, check()], refused=balancer(healthChecks=None), allowed=balancer()
    ),
    "groups-of-one-network": Case(
        before=[
            *GROUP,
            group(name="more"),
            group(name="else", network=f"{URL}/global/networks/other", subnetwork=f"{IN_REGION}/subnetworks/elsewhere"),
        ],
        refused=service(backends=[{"group": group_url()}, {"group": group_url("else")}]),
        allowed=service(backends=[{"group": group_url()}, {"group": group_url("more")}]),
    ),
    "ha-excludes-healthChecks": Case(
        before=[*GROUP, check()], refused=service(healthChecks=[f"{IN_REGION}/healthChecks/check"]), allowed=balancer()
    ),
    "ha-excludes-connectionTrackingPolicy": Case(
        before=[*GROUP, check()],
        refused=service(connectionTrackingPolicy={"trackingMode": "PER_SESSION"}),
        allowed=balancer(connectionTrackingPolicy={"trackingMode": "PER_SESSION"}),
    ),
    "ha-excludes-failoverPolicy": Case(
        before=[*GROUP, check()],
        refused=service(failoverPolicy={"failoverRatio": 0.5}),
        allowed=balancer(failoverPolicy={"failoverRatio": 0.5}),
    ),
    "ha-excludes-subsetting": Case(
        before=[*GROUP, check()],
        refused=service(subsetting={"policy": "NONE"}),
        allowed=balancer(subsetting={"policy": "NONE"}),
    ),
    "ha-excludes-sessionAffinity": Case(
        before=GROUP, refused=service(sessionAffinity="CLIENT_IP"), allowed=service(sessionAffinity="NONE")
    ),
    "ha-excludes-draining": Case(before=GROUP, refused=service(connectionDraining=None), allowed=service()),
    "ha-needs-network": Case(before=GROUP, refused=fast(network=None), allowed=fast()),
    "ha-standard-external-has-no-network": Case(before=GROUP, refused=service(network=NETWORK), allowed=service()),
    "ha-only-from-the-beginning": Case(
        before=[*GROUP, check(), balancer()],
        refused=patch("regionBackendServices", "service", haPolicy=HA, connectionDraining={"drainingTimeoutSec": 0}),
        allowed=patch("regionBackendServices", "service", description="changed"),
    ),
    "ha-never-removed": Case(
        before=[*GROUP, check(), service()],
        refused=attrs.evolve(
            balancer(),
            method="regionBackendServices.update",
            name="service",
            body={**(balancer().body or {}), "fingerprint": "the present one"},
        ),
        allowed=attrs.evolve(
            service(),
            method="regionBackendServices.update",
            name="service",
            body={**(service().body or {}), "fingerprint": "the present one"},
        ),
    ),
    "fast-move-never-changed": Case(
        before=[*GROUP, attach("more-1"), INSIDE_SERVICE],
        world=more(instances=MORE_NODES[:2]),
        refused=patch("regionBackendServices", "service", haPolicy={"fastIPMove": "GARP_RA"}),
        allowed=patch("regionBackendServices", "service", haPolicy={"leader": leader("more-1")}),
    ),
    "leader-group-is-a-backend": Case(
        before=[*GROUP, group(name="more"), attach("node-a", name="more")],
        refused=service(haPolicy={"leader": leader(name="more")}),
        allowed=service(haPolicy={"leader": leader()}),
    ),
    "leader-is-attached": Case(
        before=GROUP,
        world=more(instances=MORE_NODES[:2]),
        refused=service(haPolicy={"leader": leader("more-1")}),
        allowed=service(haPolicy={"leader": leader("node-a")}),
    ),
    "fast-endpoints-within-cap": Case(
        before=[group(), attach("node-a", *(each.name for each in MORE_NODES[:32]))],
        world=more(instances=MORE_NODES),
        refused=fast(),
        allowed=service(),
    ),
    "fast-services-at-most-64": Case(
        before=[
            *GROUP,
            group(name="empty"),
            *(
                fast(
                    name=f"service-{number}",
                    backends=[{"group": group_url("empty")}],
                    haPolicy={"fastIPMove": "GARP_RA"},
                )
                for number in range(64)
            ),
        ],
        refused=fast(),
        allowed=service(),
    ),
    # ---------------------------------------------------------------- groups of endpoints
    "no-default-port": Case(refused=group(defaultPort=80), allowed=group()),
    "group-is-of-its-subnetworks-network": Case(refused=group(network=f"{URL}/global/networks/other"), allowed=group()),
    "endpoint-is-of-the-groups-zone": Case(
        before=[group(), group(zone=OTHER_ZONE)],
        refused=attach(f"zones/{OTHER_ZONE}/instances/node-b"),
        allowed=attach(f"zones/{OTHER_ZONE}/instances/node-b", zone=OTHER_ZONE),
    ),
    "endpoint-is-of-the-groups-subnetwork": Case(
        world=more(instances=(Instance(name="apart", zone=ZONE, subnetwork="second"),)),
        before=[group()],
        refused=attach("apart"),
        allowed=attach("node-a"),
    ),
    "leader-is-not-detached": Case(
        world=more(instances=MORE_NODES[:1]),
        before=[group(), attach("node-a", "more-0"), service()],
        refused=detach("node-a"),
        allowed=detach("more-0"),
    ),
    "fast-endpoints-within-cap-when-attached": Case(
        world=more(instances=MORE_NODES),
        before=[group(), attach("node-a", *(each.name for each in MORE_NODES[:30])), fast()],
        refused=attach("more-30", "more-31"),
        allowed=attach("more-30"),
    ),
    # ---------------------------------------------------------------- the rest
    "one-probe-of-the-type": Case(refused=check(tcpHealthCheck=None, httpHealthCheck={"port": 80}), allowed=check()),
    "timeout-within-interval": Case(
        refused=check(timeoutSec=6, checkIntervalSec=5), allowed=check(timeoutSec=5, checkIntervalSec=5)
    ),
    "allows-or-denies": Case(refused=firewall(allowed=None), allowed=firewall()),
    "ranges-are-networks": Case(
        refused=firewall(sourceRanges=["10.0.0.1/8"]), allowed=firewall(sourceRanges=["10.0.0.0/8"])
    ),
    "ranges-of-one-family": Case(
        refused=firewall(destinationRanges=["10.0.0.0/8", "2001:db8::/64"]),
        allowed=firewall(destinationRanges=["10.0.0.0/8", "192.0.2.0/24"]),
    ),
    "all-protocols-have-no-ports": Case(
        refused=firewall(allowed=[{"IPProtocol": "all", "ports": ["80"]}]),
        allowed=firewall(allowed=[{"IPProtocol": "tcp", "ports": ["80"]}]),
    ),
    "target-is-of-its-zone": Case(
        refused=target(instance=f"zones/{OTHER_ZONE}/instances/node-b"), allowed=target(instance="node-a")
    ),
}


@pytest.fixture
def engine(engine: ComputeEngine, request: pytest.FixtureRequest) -> ComputeEngine:
    """Return the emulator with more networks, and what the case wants besides."""
    subnetworks = (
        Subnetwork(name="second", ipv4="10.2.0.0/20"),
        Subnetwork(name="six", ipv4="10.3.0.0/20", ipv6="2001:db8:3::/64"),
        Subnetwork(name="elsewhere", network="other", ipv4="10.9.0.0/20"),
    )
    seed(engine, Description(subnetworks=subnetworks))
    case = CASES[request.node.callspec.params["name"]]
    if case.world is not None:
        seed(engine, case.world)
    return engine


@pytest.mark.parametrize("name", sorted(CASES))
def test_rule_refuses_its_case_and_allows_the_twin(name: str, clients: Clients) -> None:
    """What a rule forbids is refused by that very rule, and a like request that it allows is carried out."""
    case, told = CASES[name], RULES[name]
    clients.do_all(*case.before)
    refused = clients.do(case.refused)
    assert refused != DONE
    assert re.search(pattern_of(told), refused.message), refused.message
    assert clients.do(case.allowed) == DONE


def pattern_of(told: Rule) -> str:
    """Return what a rule's sentence looks like."""
    return ".*".join(re.escape(part) for part in re.split(r"{\w+}", told.message))


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_has_an_example_and_a_source(name: str) -> None:
    """No rule is without an example, and none without a word on how it is known."""
    assert name in CASES
    assert {part.strip()[0] for part in RULES[name].source.split(";")} <= TRUST.keys()
