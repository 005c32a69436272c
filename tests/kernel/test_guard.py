"""May anybody but the holder send from an address?"""

import os
import socket
from ipaddress import ip_network

import pytest

from persistip.model.entry import GuardEntry, RouteEntry

pytestmark = pytest.mark.requires("kernel")

# Not those that the guest agent swallows: a node that has an address itself drops IPv4 packets from it anyway.
V4, V6 = "203.0.113.8", "2001:db8:7::8"
BOTH = pytest.mark.parametrize("address", [V4, V6])
IPS, OTHER_IPS = ("10.9.1.5", "fd09:1::5"), ("10.9.1.6", "fd09:1::6")
MAKES = pytest.mark.parametrize(("holder", "spoofer"), [("add_pod", "add_pod"), ("add_bridged_pod", "add_bridged_pod"),
                                                        ("add_pod", "add_bridged_pod")])  # fmt: skip


def pods_of(node, address, holder, spoofer):
    first = getattr(node, holder)("p1", *IPS)
    ips = OTHER_IPS if holder == spoofer else ("10.9.2.6", "fd09:2::6")
    second = getattr(node, spoofer)("p2", *ips)
    for pod in (first, second):
        pod.hold(address)
    node.space.set("net/ipv4/ip_forward", "1")
    node.space.set("net/ipv6/conf/all/forwarding", "1")
    return first, second


@BOTH
@MAKES
def test_spoofing_pod_is_dropped_and_holder_is_not(cluster, node, address, holder, spoofer) -> None:
    """Once the address is guarded, only its holder gets packets out from it, on its own link or on a shared bridge."""
    pod, other = pods_of(node, address, holder, spoofer)
    cluster.route_to(address, node)
    assert other.reaches_client_as(address) != ""
    outcomes = node.put(node.datapath(), node.entries(pod, address))
    assert all(outcome.is_done for outcome in outcomes), outcomes
    assert other.reaches_client_as(address, 0.3) == ""
    assert pod.reaches_client_as(address) == address
    # The twin: what the other Pod sends from its own IP is none of our business.
    assert other.reaches_client_as(other.ips[0 if "." in address else 1]) != ""


@BOTH
def test_pod_that_forges_the_hardware_address_too_is_dropped(cluster, node, address) -> None:
    """On a shared bridge the port decides: a Pod with the holder's hardware address sends nothing, and gets nothing."""
    pod = node.add_bridged_pod("p1", *IPS)
    pod.hold(address)
    cluster.route_to(address, node)
    entries = node.entries(pod, address)
    forger = node.add_bridged_pod("p2", *OTHER_IPS, hardware_address=pod.hardware_address)
    forger.hold(address)
    outcomes = node.put(node.datapath(), entries)
    assert all(outcome.is_done for outcome in outcomes), outcomes
    assert pod.reaches_client_as(address) == address
    assert forger.reaches_client_as(address, 0.3) == ""
    # Its own traffic is none of our business, and makes the bridge believe that the hardware address is there.
    assert forger.reaches_client_as(OTHER_IPS[0 if "." in address else 1]) != ""
    assert forger.answers(address, 0.3)[0] == ""


@BOTH
def test_spoofed_packet_to_pod_of_same_node_is_dropped(cluster, node, address) -> None:
    """The guard also holds for what never leaves the node."""
    pod, other = pods_of(node, address, "add_pod", "add_pod")
    victim = node.add_pod("p3", "10.9.3.5", "fd09:3::5")
    node.put(node.datapath(), node.entries(pod, address))
    target = victim.ips[0 if "." in address else 1]
    with victim.space.socket(socket.SOCK_DGRAM, target, 7000) as receiver:
        assert heard(other, address, receiver, target) == ""
        assert heard(pod, address, receiver, target) == address


def heard(pod, source, receiver, target):
    with pod.space.socket(socket.SOCK_DGRAM, source) as sender:
        return pod.is_heard(sender, os.urandom(8), (target, 7000), receiver, 0.3)


@BOTH
def test_guarded_source_from_uplink_reaches_pods(cluster, node, address) -> None:
    """After a move the old node still has the address guarded: the new holder, behind the uplink, reaches its Pods."""
    pod, _other = pods_of(node, address, "add_pod", "add_pod")
    target = node.add_pod("p3", "10.9.3.5", "fd09:3::5")
    node.put(node.datapath(), [entry for entry in node.entries(pod, address) if not isinstance(entry, RouteEntry)])
    ip = target.ips[0 if "." in address else 1]
    cluster.client.add_address("lo", address)
    node.space.add_route(address, "eth0", "fd00::c" if ":" in address else "10.0.0.100")
    cluster.route_to(ip, node)
    with (
        target.space.socket(socket.SOCK_DGRAM, ip, 7000) as receiver,
        cluster.client.socket(socket.SOCK_DGRAM, address) as sender,
    ):
        assert pod.is_heard(sender, b"from outside", (ip, 7000), receiver, 1) == address


def test_guard_moves_to_the_next_pod_with_its_entries(cluster, node) -> None:
    """Both may send while both are put; after the removal of the first only the second may."""
    pod, other = pods_of(node, V4, "add_bridged_pod", "add_bridged_pod")
    datapath = node.datapath()
    first, second = node.entries(pod, V4), node.entries(other, V4)
    node.put(datapath, first)
    assert other.reaches_client_as(V4, 0.3) == ""
    node.put(datapath, second)
    assert other.reaches_client_as(V4) == V4
    assert pod.reaches_client_as(V4) == V4
    node.remove(datapath, [entry for entry in first if entry not in second])
    assert other.reaches_client_as(V4) == V4
    assert pod.reaches_client_as(V4, 0.3) == ""
    node.remove(datapath, second)
    assert pod.reaches_client_as(V4) != ""
    assert node.own() == (0, 0, 0, False)


def test_guard_of_a_former_port_goes_and_the_pods_own_stays(cluster, node) -> None:
    """A Pod that is behind another port of its bridge by now goes on sending when the guard of the old port goes."""
    pod, other = pods_of(node, V4, "add_bridged_pod", "add_bridged_pod")
    now = next(entry for entry in node.entries(pod, V4) if isinstance(entry, GuardEntry))
    former = GuardEntry(prefix=now.prefix, link=node.space.ref(other.port), hardware_address=now.hardware_address)
    datapath = node.datapath()
    node.put(datapath, [former, now])
    node.remove(datapath, [former])
    state = node.observe(datapath)
    assert now in state.entries
    assert former not in state.entries | state.stale


def test_guard_left_without_owner_is_stale_and_removable(node) -> None:
    """A prefix that nobody may use as a source, left by a change that was broken off, is seen and can be cleared."""
    pod = node.add_pod("p1", *IPS)
    datapath = node.datapath()
    entries = node.entries(pod, V4)
    node.put(datapath, entries)
    guard = next(entry for entry in entries if isinstance(entry, GuardEntry))
    node.forget_owner(guard)
    state = node.observe(datapath)
    assert guard not in state.entries
    orphans = [entry for entry in state.stale if isinstance(entry, GuardEntry)]
    assert [orphan.prefix for orphan in orphans] == [ip_network(V4)]
    node.remove(datapath, orphans)
    assert not any(isinstance(entry, GuardEntry) for entry in node.observe(datapath).stale)
