"""Where does a packet go? After leaders, frames, failing health and stopped machines."""

import ipaddress

import pytest
from compute_clients import Clients
from compute_steps import (
    DONE,
    IN_REGION,
    NETWORK,
    SERVED,
    URL,
    ZONE,
    address,
    attach,
    balancer,
    check,
    delete,
    detach,
    fast,
    group,
    group_url,
    leader,
    patch,
    rule,
    service,
    target,
)

from persistip.testing.compute_engine import (
    ComputeEngine,
    DataPlane,
    Description,
    Instance,
    Subnetwork,
    seed,
    set_running,
)

pytestmark = pytest.mark.requires("gce")

ZONES = {"node-a": ZONE, "node-b": "europe-west4-b", "node-c": "europe-west4-c"}
BACKENDS = [{"group": group_url(zone=zone)} for zone in ZONES.values()]
EVERY_NODE = [step for node, zone in ZONES.items() for step in (group(zone=zone), attach(node, zone=zone))]
FAST = (*EVERY_NODE, fast(backends=BACKENDS), address(), rule())
STANDARD = (*EVERY_NODE, service(backends=BACKENDS), address(), rule())


def value(clients: Clients, name: str = "address") -> str:
    """Return the value of a reserved address."""
    return str(clients.get("addresses", name).address)


def leads(node: str, **policy: object) -> dict[str, object]:
    """Return the policy in which a node leads."""
    return {"leader": leader(node, zone=ZONES[node]), **policy}


def arp(address: str, mac: str, *, operation: int = 2, target_mac: str = "ff:ff:ff:ff:ff:ff") -> bytes:
    """Return an ARP frame by which the holder of *mac* says that it has *address*."""
    own, everybody = bytes.fromhex(mac.replace(":", "")), bytes.fromhex(target_mac.replace(":", ""))
    packed = ipaddress.IPv4Address(address).packed
    return (
        b"\xff" * 6
        + own
        + bytes.fromhex("0806 0001 0800 06 04")
        + operation.to_bytes(2, "big")
        + own
        + packed
        + everybody
        + packed
    )


def test_address_without_rule_leads_nowhere(clients: Clients, plane: DataPlane) -> None:
    """A packet for an address that no rule is for is lost."""
    clients.do_all(*SERVED[:-1])
    assert plane.holder(value(clients)) == frozenset()
    clients.do_all(rule())
    assert plane.holder(value(clients)) == {"node-a"}
    clients.do_all(delete("forwardingRules", "rule"))
    assert plane.holder(value(clients)) == frozenset()


def test_leader_moves_when_its_operation_is_done(clients: Clients, plane: DataPlane) -> None:
    """A new leader gets the packets when the change is done, and not when it is asked for."""
    clients.do_all(*STANDARD)
    ip = value(clients)
    operation = clients.begin(patch("regionBackendServices", "service", haPolicy=leads("node-b")))
    assert plane.holder(ip) == {"node-a"}
    clients.finish(operation)
    assert plane.holder(ip) == {"node-b"}


def test_frame_moves_every_address_of_the_service_at_once(clients: Clients, plane: DataPlane) -> None:
    """One frame for one address moves all rules of its service, without any call."""
    clients.do_all(*FAST, address(name="second"), rule(name="again", IPAddress="second"))
    first, second = value(clients), value(clients, "second")
    assert plane.garp("node-b", first)
    assert (plane.holder(first), plane.holder(second)) == ({"node-b"}, {"node-b"})


def test_frame_outranks_the_leader_for_twenty_minutes(
    clients: Clients, plane: DataPlane, engine: ComputeEngine
) -> None:
    """While a frame counts, a new leader of the API changes nothing; afterwards it does."""
    clients.do_all(*FAST)
    ip = value(clients)
    plane.garp("node-b", ip)
    assert clients.do(patch("regionBackendServices", "service", haPolicy=leads("node-c"))) == DONE
    assert plane.holder(ip) == {"node-b"}
    engine.clock.advance(20 * 60)  # type: ignore[attr-defined]
    assert plane.holder(ip) == {"node-c"}


def test_two_senders_share_the_packets_until_one_sends_alone(
    clients: Clients, plane: DataPlane, engine: ComputeEngine
) -> None:
    """Frames of two nodes within three seconds make packets go to either; the next one that comes alone ends it."""
    clients.do_all(*FAST)
    ip = value(clients)
    plane.garp("node-b", ip)
    engine.clock.advance(1)  # type: ignore[attr-defined]
    plane.garp("node-c", ip)
    assert plane.holder(ip) == {"node-b", "node-c"}
    engine.clock.advance(10)  # type: ignore[attr-defined]
    plane.garp("node-c", ip)
    assert plane.holder(ip) == {"node-c"}


def test_senders_three_seconds_apart_do_not_share(clients: Clients, plane: DataPlane, engine: ComputeEngine) -> None:
    """Who waits three seconds after another's frame gets everything."""
    clients.do_all(*FAST)
    ip = value(clients)
    plane.garp("node-b", ip)
    engine.clock.advance(3)  # type: ignore[attr-defined]
    plane.garp("node-c", ip)
    assert plane.holder(ip) == {"node-c"}


def test_frame_for_a_standard_service_moves_nothing(clients: Clients, plane: DataPlane) -> None:
    """Without fast IP move a frame changes nothing."""
    clients.do_all(*STANDARD)
    assert not plane.garp("node-b", value(clients))
    assert plane.holder(value(clients)) == {"node-a"}


def test_frame_of_who_is_no_endpoint_moves_nothing(clients: Clients, plane: DataPlane, engine: ComputeEngine) -> None:
    """An instance that is in none of the service's groups cannot take its addresses."""
    seed(engine, Description(subnetworks=(), instances=(Instance(name="stranger", zone=ZONE),)))
    clients.do_all(*FAST)
    assert not plane.garp("stranger", value(clients))
    assert plane.holder(value(clients)) == {"node-a"}


def test_frame_of_an_endpoint_that_was_detached_counts_no_more(clients: Clients, plane: DataPlane) -> None:
    """Who is detached loses the packets that its frame had drawn."""
    clients.do_all(*FAST)
    plane.garp("node-b", value(clients))
    clients.do_all(detach("node-b", zone=ZONES["node-b"]))
    assert plane.holder(value(clients)) == {"node-a"}


@pytest.mark.parametrize(
    ("fields", "moves"),
    [
        ({}, True),
        ({"operation": 1}, False),
        ({"target_mac": "00:00:00:00:00:00"}, False),
        ({"mac": "02:00:00:00:00:99"}, False),
        ({"cut": 30}, False),
    ],
    ids=["reply", "request", "unknown target", "another's hardware address", "short"],
)
def test_only_the_frame_that_is_documented_moves_an_address(
    clients: Clients, plane: DataPlane, engine: ComputeEngine, fields: dict[str, object], moves: bool
) -> None:
    """An ARP reply to everybody with the interface's own hardware address moves it, and nothing else does."""
    mac = "02:00:00:00:00:01"
    seed(engine, Description(subnetworks=(), instances=(Instance(name="framed", zone=ZONE, mac=mac),)))
    clients.do_all(*FAST, attach("framed"))
    cut = fields.pop("cut", None)
    frame = arp(value(clients), **{"mac": mac, **fields})[:cut]  # type: ignore[arg-type,misc]
    assert plane.frame("framed", frame) is moves
    assert plane.holder(value(clients)) == ({"framed"} if moves else {"node-a"})


def test_router_advertisement_moves_an_ipv6_address(clients: Clients, plane: DataPlane, engine: ComputeEngine) -> None:
    """IPv6 is moved by router advertisements, but not by those of machines of the third generation."""
    six = f"{IN_REGION}/subnetworks/six"
    nodes = (Instance(name="old", zone=ZONE), Instance(name="new", zone=ZONE, third_generation=True))
    subnetworks = (Subnetwork(name="six", ipv4="10.3.0.0/20", ipv6="2001:db8:3::/64"),)
    seed(engine, Description(subnetworks=subnetworks, instances=nodes))
    fields = {"IPAddress": "six", "ipVersion": "IPV6", "subnetwork": six}
    clients.do_all(
        group(),
        attach("node-a", "old", "new"),
        fast(),
        address(name="six", ipVersion="IPV6", subnetwork=six),
        rule(**fields),
    )
    ip = value(clients, "six")
    with pytest.raises(ValueError, match="router advertisement"):
        plane.garp("old", ip)
    assert (plane.router_advertisement("new", ip), plane.holder(ip)) == (False, {"node-a"})
    assert (plane.router_advertisement("old", ip), plane.holder(ip)) == (True, {"old"})


def test_balancer_sends_to_the_healthy_and_as_a_last_resort_to_all(
    clients: Clients, plane: DataPlane, engine: ComputeEngine
) -> None:
    """Only who is healthy gets packets, unless nobody is: then everybody does."""
    clients.do_all(*EVERY_NODE, check(), balancer(backends=BACKENDS), address(), rule())
    ip = value(clients)
    urls = {node: f"{URL}/zones/{zone}/instances/{node}" for node, zone in ZONES.items()}
    assert plane.holder(ip) == set(ZONES)
    engine.state.unhealthy |= {urls["node-a"], urls["node-c"]}
    assert plane.holder(ip) == {"node-b"}
    engine.state.unhealthy.add(urls["node-b"])
    assert plane.holder(ip) == set(ZONES)


def test_standby_gets_packets_when_no_primary_is_healthy(
    clients: Clients, plane: DataPlane, engine: ComputeEngine
) -> None:
    """A failover backend is idle while a primary is healthy; with dropTrafficIfUnhealthy nobody is a last resort."""
    backends = [BACKENDS[0], {**BACKENDS[1], "failover": True}]
    policy = {"dropTrafficIfUnhealthy": True}
    clients.do_all(*EVERY_NODE, check(), balancer(backends=backends, failoverPolicy=policy), address(), rule())
    ip = value(clients)
    assert plane.holder(ip) == {"node-a"}
    engine.state.unhealthy.add(f"{URL}/zones/{ZONE}/instances/node-a")
    assert plane.holder(ip) == {"node-b"}
    engine.state.unhealthy.add(f"{URL}/zones/{ZONES['node-b']}/instances/node-b")
    assert plane.holder(ip) == frozenset()


def test_stopped_machine_gets_nothing(clients: Clients, plane: DataPlane, engine: ComputeEngine) -> None:
    """A leader that is off loses its packets: nobody elects another."""
    clients.do_all(*STANDARD)
    set_running(engine, "node-a", running=False)
    assert plane.holder(value(clients)) == frozenset()
    set_running(engine, "node-a", running=True)
    assert plane.holder(value(clients)) == {"node-a"}


def test_rule_of_the_very_protocol_comes_before_the_one_for_all(clients: Clients, plane: DataPlane) -> None:
    """TCP to one port goes to its own rule's target, everything else to the rule for all protocols."""
    special = {"IPProtocol": "TCP", "allPorts": None, "ports": ["443"], "backendService": None}
    clients.do_all(
        *STANDARD,
        target(instance="node-a"),
        patch("regionBackendServices", "service", haPolicy=leads("node-b")),
        rule(name="web", target=f"zones/{ZONE}/targetInstances/target", **special),
    )
    ip = value(clients)
    assert plane.holder(ip, port=443) == {"node-a"}
    assert plane.holder(ip, port=80) == plane.holder(ip, protocol="UDP", port=443) == {"node-b"}


def test_service_without_leader_leads_nowhere(clients: Clients, plane: DataPlane) -> None:
    """A policy without a leader sends nobody anything, until a frame does."""
    clients.do_all(
        *EVERY_NODE, fast(backends=BACKENDS, haPolicy={"fastIPMove": "GARP_RA"}, network=NETWORK), address(), rule()
    )
    assert plane.holder(value(clients)) == frozenset()
    plane.garp("node-c", value(clients))
    assert plane.holder(value(clients)) == {"node-c"}
