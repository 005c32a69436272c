"""Does an address that was withdrawn stay withdrawn for flows that were open?"""

import os
import socket
from ipaddress import ip_network
from pathlib import Path

import pytest

from persistip.backends.linux.flows import forget_flows
from persistip.backends.linux.sockets import NETLINK_NETFILTER, NetlinkSocket
from persistip.model.actions import PutEntry, RemoveEntry
from persistip.model.entry import ExemptEntry, GuardEntry

pytestmark = pytest.mark.requires("kernel")

V4, V6 = "203.0.113.7", "2001:db8:7::7"
IPS = ("10.9.1.5", "fd09:1::5")
OUTSIDE = {V4: "10.0.0.100", V6: "fd00::c"}


def tracked(node, address: str) -> list[str]:
    """The node's connection-tracking entries that name *address*."""
    written = address if "." in address else ":".join(f"{int(part or '0', 16):04x}" for part in full(address))
    with node.space:
        lines = Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines()
    return [line for line in lines if f"={written} " in line]


def full(address: str) -> list[str]:
    return ip_network(address).network_address.exploded.split(":")


@pytest.fixture
def serving(cluster, node):
    """A Pod that holds both addresses, what makes it so, and the datapath."""
    pod = node.add_pod("p1", *IPS)
    pod.hold(V4, V6)
    for address in (V4, V6):
        cluster.route_to(address, node)
    datapath = node.datapath()
    entries = node.entries(pod, V4, V6)
    assert all(outcome.is_done for outcome in node.put(datapath, entries))
    return pod, entries, datapath


@pytest.mark.parametrize(("address", "other"), [(V4, V6), (V6, V4)])
async def test_open_flow_of_withdrawn_address_ends(cluster, node, serving, address, other) -> None:
    """A Pod that goes on sending on an open socket is no longer heard from the address; flows of others stay."""
    pod, entries, datapath = serving
    outside = OUTSIDE[address]
    with (
        cluster.client.socket(socket.SOCK_DGRAM, outside, 7001) as receiver,
        pod.space.socket(socket.SOCK_DGRAM, address) as sender,
    ):
        assert pod.is_heard(sender, os.urandom(8), (outside, 7001), receiver, 1.0) == address
        assert pod.answers(other)[1] == other
        assert tracked(node, address)
        leaving = [entry for entry in reversed(entries) if entry.prefix == ip_network(address)]
        with node.space:
            outcomes = await datapath.apply([RemoveEntry(entry) for entry in leaving])
        assert all(outcome.is_done for outcome in outcomes), outcomes
        assert tracked(node, address) == []
        assert tracked(node, other)
        assert pod.is_heard(sender, os.urandom(8), (outside, 7001), receiver, 0.3) != address


@pytest.mark.parametrize("address", [V4, V6])
async def test_flow_of_a_former_holder_does_not_capture_that_of_the_next(cluster, node, serving, address) -> None:
    """A former holder sends on, masqueraded; when another Pod of the node is given the address, its flow is exempt."""
    old, entries, datapath = serving
    new = node.add_pod("p2", "10.9.1.6", "fd09:1::6")
    new.hold(V4, V6)
    outside = OUTSIDE[address]
    with (
        cluster.client.socket(socket.SOCK_DGRAM, outside, 7001) as receiver,
        old.space.socket(socket.SOCK_DGRAM, address, 7002) as former,
        new.space.socket(socket.SOCK_DGRAM, address, 7002) as latter,
    ):
        # The route stays, since the source check of IPv4 would stop the packet; not every node has one.
        leaving = [entry for entry in entries if isinstance(entry, ExemptEntry) and entry.prefix == ip_network(address)]
        with node.space:
            await datapath.apply([RemoveEntry(entry) for entry in leaving])
        assert old.is_heard(former, os.urandom(8), (outside, 7001), receiver, 1.0) not in ("", address)
        assert tracked(node, address)
        given = [entry for entry in node.entries(new, V4, V6) if entry.prefix == ip_network(address)]
        (guard,) = [entry for entry in entries if isinstance(entry, GuardEntry) and entry.prefix == ip_network(address)]
        with node.space:
            outcomes = await datapath.apply([*map(PutEntry, given), RemoveEntry(guard)])
        assert all(outcome.is_done for outcome in outcomes), outcomes
        former.sendto(b"guarded", (outside, 7001))
        assert new.is_heard(latter, os.urandom(8), (outside, 7001), receiver, 1.0) == address


@pytest.mark.parametrize(("address", "prefix"), [(V4, "203.0.113.0/24"), (V6, "2001:db8:7::/64")])
def test_flows_of_a_whole_prefix_end(node, serving, address, prefix) -> None:
    """Where the kernel cannot search by address, each entry found is deleted by itself."""
    pod, _entries, _datapath = serving
    assert pod.answers(address)[1] == address
    assert tracked(node, address)
    with node.space, NetlinkSocket(NETLINK_NETFILTER) as netfilter:
        forget_flows(netfilter, [ip_network(prefix)])
    assert tracked(node, address) == []
