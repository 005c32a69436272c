"""Networks and Services: what goldens cannot say of annotations, of what changes, and of who came first."""

import json
from ipaddress import ip_address, ip_network

import attrs
import pytest
from world import T0, World, gateway, node, pod, route

from persistip.decide.networks import seen_on_network
from persistip.decide.plan_route import plan_route
from persistip.model.gateway import ParametersRef
from persistip.model.keys import ObjectMeta
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.service import Service, ServiceCIDR
from persistip.model.views import Policy
from persistip.strategies import Batch

RANGES = [{"name": "blue", "cidrs": ["10.60.1.0/24", "fd60:1::/64", "nonsense", 7]}, {"name": "red", "cidrs": None}]


def faults(world: World, name: str = "web") -> list[tuple[str, str]]:
    """Reason and path of each fault of a route, in order."""
    return [(fault.reason, fault.path) for fault in plan_route(world.view(name)).verdict.faults]


def network(**changes: object) -> Network:
    """The network blue, Ready."""
    fields: dict[str, object] = {"meta": ObjectMeta(name="blue", uid="blue"), "ready": True}
    return Network(**fields | changes)  # type: ignore[arg-type]


def noted(found: Pod | Node, **annotations: object) -> Pod | Node:
    """The object with annotations of GKE's; text as it is, the rest as JSON."""
    texts = {
        f"networking.gke.io/{key.replace('_', '-')}": value if isinstance(value, str) else json.dumps(value)
        for key, value in annotations.items()
    }
    return attrs.evolve(found, meta=attrs.evolve(found.meta, annotations=texts))


def blue_world(**annotations: object) -> World:
    """A route on network blue, and a Pod with *annotations* on a node that has ranges of it."""
    world = World()
    world.put(network(), noted(node("a"), networks=RANGES), noted(pod("x", "a"), **annotations))
    world.put(route(network="blue"))
    return world


@pytest.mark.parametrize(
    ("annotations", "ips"),
    [
        ({"pod_ips": [{"networkName": "blue", "ip": "10.60.1.5"}]}, ["10.60.1.5"]),
        ({"pod_ips": [{"networkName": "blue", "ip": "10.60.2.5"}]}, []),
        ({"pod_ips": [{"networkName": "red", "ip": "10.60.1.5"}, {"networkName": "blue"}]}, []),
        ({"pod_ips": "null", "interface_status": "["}, []),
        ({"pod_ips": ["text", {"networkName": "blue", "ip": "nonsense"}]}, []),
        (
            {
                "pod_ips": [{"networkName": "blue", "ip": "10.60.1.5"}],
                "interface_status": [
                    {"networkName": "blue", "ipAddresses": ["10.60.1.5", "fd60:1::5", "10.0.1.11"]},
                    {"networkName": "red", "ipAddresses": ["10.60.1.9"]},
                ],
            },
            ["10.60.1.5", "fd60:1::5"],
        ),
    ],
)
def test_ip_of_a_secondary_network_is_believed_inside_the_nodes_ranges_only(
    annotations: dict[str, object], ips: list[str]
) -> None:
    """A Pod's annotations are a tenant's to write; broken ones say nothing, and its other IPs are no matter."""
    (seen,) = seen_on_network(blue_world(**annotations).view()).pods
    assert [str(ip) for ip in seen.ips] == ips


def test_node_without_ranges_believes_nothing() -> None:
    """A node that is not on the network, or is not there, vouches for no IP."""
    world = blue_world(pod_ips=[{"networkName": "blue", "ip": "10.60.1.5"}])
    world.put(node("a"))
    assert seen_on_network(world.view()).pods[0].ips == ()
    world.drop(node("a"))
    assert seen_on_network(world.view()).pods[0].ips == ()


@pytest.mark.parametrize(
    ("annotations", "why"),
    [
        ({}, "is not attached to network blue"),
        (
            {"interfaces": [{"interfaceName": "eth1", "network": "blue"}]},
            "has no IPv4 address on network blue inside the ranges that its Node has of it yet",
        ),
        ({"interfaces": [{"interfaceName": "eth1", "interface": "nic"}]}, "is not attached to network blue"),
        ({"pod_ips": [{"networkName": "blue", "ip": "10.60.1.5"}]}, None),
    ],
)
def test_pod_that_is_not_attached_is_no_candidate(annotations: dict[str, object], why: str | None) -> None:
    """Only Pods of the route's network are chosen, by their IPs there, and the reason is kept."""
    plan = plan_route(blue_world(**annotations).view())
    assert (plan.choice.pod is not None) is (why is None)
    assert [reason for reason, _ in plan.choice.refused] == ([why] if why else [])
    assert plan.holder is None, "nothing acts on such a network yet"


@pytest.mark.parametrize("alias", ["", "default", "pod-network"])
def test_default_network_has_three_names(alias: str) -> None:
    """All mean the Pods' first IPs, and no Network object is asked for."""
    world = World()
    world.put(pod("x", "a"), route(network=alias))
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    assert world.attachment().spec.network == "default"


def test_network_is_judged_as_it_is_now() -> None:
    """Each change of the Network or its parameters names the route and changes the verdict."""
    world = World()
    world.put(route(network="blue"))
    ref = ParametersRef("networking.gke.io", "GKENetworkParamSet", "params")
    params = GKENetworkParamSet(meta=ObjectMeta(name="params", uid="params"))
    steps: list[tuple[Network | GKENetworkParamSet, str, str]] = [
        (network(type="L2"), "UnsupportedNetwork", "of type L2"),
        (network(ready=False), "PendingNetwork", "is not Ready"),
        (network(ready=False, message="NoParams"), "PendingNetwork", "is not Ready (NoParams)"),
        (network(ready=False, parameters_ref=ref), "PendingNetwork", "'params' does not exist"),
        (params, "PendingNetwork", "'params' is not Ready)"),
        (attrs.evolve(params, message="VPCNotFound"), "PendingNetwork", "is not Ready: VPCNotFound)"),
        (attrs.evolve(params, ready=True), "PendingNetwork", "is not Ready"),
        (network(parameters_ref=ref), "", ""),
        (network(type="Device"), "", ""),
    ]
    for found, reason, words in steps:
        assert route().key in world.catalog.update(Batch(objects={found.key: found}))
        verdict = plan_route(world.view()).verdict
        assert [fault.reason for fault in verdict.faults] == ([reason] if reason else [])
        assert words in verdict.message
        assert not verdict.is_refused or reason == "UnsupportedNetwork", "what others can change withdraws nothing"
    world.drop(network())
    assert faults(world) == [("UnknownNetwork", "spec.network")]


def service(name: str, *ips: str, age: float) -> Service:
    """A Service with external IPs."""
    meta = ObjectMeta(name=name, namespace="other", uid=f"svc-{name}", created_at=T0 - age)
    return Service(meta=meta, ips=tuple(ip_address(ip) for ip in ips))


@pytest.mark.parametrize(("age", "is_first"), [(101.0, True), (100.0, True), (99.0, False)])
def test_older_object_had_the_address_first(age: float, is_first: bool) -> None:
    """Nobody records when a Service got its IP, so their ages decide where nothing is attached."""
    world = World()
    world.put(route("web", "203.0.113.8/30"), service("s", "2001:db8::9", "203.0.113.10", age=age))
    assert faults(world) == ([("AddressConflict", "spec.addresses[0].value")] if is_first else [])
    assert ("Service other/s" in plan_route(world.view()).verdict.message) is True
    world.drop(service("s", age=age))
    assert plan_route(world.view()).verdict.message == ""


def test_service_that_takes_a_held_address_is_reported_and_refuses_nothing() -> None:
    """What the route holds it had first, whatever the age of the Service; the message names the thief."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    thief = service("s", "203.0.113.9", age=5000.0)
    assert route().key in world.catalog.update(Batch(objects={thief.key: thief}))
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    assert "came later and takes the packets" in world.message("Accepted")
    assert world.attachment().spec.held_prefixes == (ip_network("203.0.113.9/32"),)


def test_service_ranges_are_never_usable() -> None:
    """From ServiceCIDR objects and from the setting alike, for the Gateway and its routes."""
    world = World(policy=Policy(service_cidrs=(ip_network("203.0.113.0/29"),)))
    world.put(route("web", "203.0.113.9"), route("other", "203.0.113.1"))
    assert faults(world, "other")[-1] == ("UnsupportedAddress", "spec.addresses[0].value")
    found = ServiceCIDR(meta=ObjectMeta(name="kubernetes", uid="cidr"), cidrs=(ip_network("203.0.113.8/30"),))
    touched = world.catalog.update(Batch(objects={found.key: found}))
    assert {route().key, gateway().key} <= touched
    assert faults(world)[-1] == ("UnsupportedAddress", "spec.addresses[0].value")
    assert "Service range 203.0.113.8/30" in plan_route(world.view()).verdict.message
