"""Does a process without memory find exactly its own, and leave alone what is not?"""

import socket
import struct
from ipaddress import ip_address, ip_network

import pytest

from persistip.backends.linux import neighbours, routes
from persistip.backends.linux.attributes import attribute
from persistip.backends.linux.sockets import CREATE, Message
from persistip.model.actions import ForgetPin, OutcomeState, RecordPin
from persistip.model.entry import Entry, LinkRef, Pin, ProxyEntry, RouteEntry

pytestmark = pytest.mark.requires("kernel")

V4, V6 = "203.0.113.7", "2001:db8:7::7"
IPS = ("10.9.1.5", "fd09:1::5")
PIN = Pin(attachment_uid="a", pod_uid="p", epoch=7, link=LinkRef("vp1", 3), hardware_address="02:00:00:00:00:01")


@pytest.mark.parametrize("make", ["add_pod", "add_bridged_pod"])
def test_restart_adopts_exactly_its_own_entries(node, make) -> None:
    """A new datapath reads back what the last one put, the Pod's IP included, and nothing else."""
    pod = getattr(node, make)("p1", *IPS)
    entries = node.entries(pod, V4, V6, "198.51.100.16/28", "2001:db8:9::/64")
    first = node.datapath()
    assert all(outcome.is_done for outcome in node.put(first, entries))
    first.close()
    state = node.observe(node.datapath())
    assert state.entries == frozenset(entries)
    assert not state.stale
    assert not state.obstacles


def test_put_of_what_stands_changes_nothing(node) -> None:
    """Entries put again by a new datapath are done, and the kernel's tables are what they were."""
    pod = node.add_pod("p1", *IPS)
    entries = node.entries(pod, V4, V6)
    node.put(node.datapath(), entries)
    before = node.own(), node.generation()
    assert all(outcome.is_done for outcome in node.put(node.datapath(), entries))
    assert (node.own(), node.generation()) == before


def test_removal_by_a_new_datapath_leaves_nothing_of_ours_and_all_of_others(node) -> None:
    """After put, restart and removal every foreign entry is what it was, and nothing of ours is left."""
    pod = node.add_pod("p1", *IPS)
    entries = node.entries(pod, V4, V6, "198.51.100.16/28")
    before = node.foreign()
    node.put(node.datapath(), entries)
    assert node.own()[0] == 3
    assert node.foreign() == before
    outcomes = node.remove(node.datapath(), entries)
    assert all(outcome.is_done for outcome in outcomes), outcomes
    assert node.foreign() == before
    assert node.own() == (0, 0, 0, False)


def test_removal_of_what_is_absent_is_done(node) -> None:
    """Absent is success, also for an entry that was there when the datapath last looked."""
    pod = node.add_pod("p1", *IPS)
    entries = node.entries(pod, V4, V6)
    first, second = node.datapath(), node.datapath()
    assert all(outcome.is_done for outcome in node.remove(first, entries))
    node.put(first, entries)
    node.remove(second, entries)
    assert all(outcome.is_done for outcome in node.remove(first, entries))
    assert node.own() == (0, 0, 0, False)


def test_put_on_an_outdated_look_is_done(node) -> None:
    """Entries that another process changed meanwhile are put whole on the second try."""
    pod = node.add_pod("p1", *IPS)
    entries = node.entries(pod, V4, V6)
    first, second = node.datapath(), node.datapath()
    node.put(first, entries)
    node.remove(second, entries)
    node.put(first, node.entries(pod, "203.0.113.9"))
    assert all(outcome.is_done for outcome in node.put(first, entries))
    node.observe(first)
    node.put(first, entries)
    assert node.observe(second).entries >= frozenset(entries)


def test_half_of_a_move_is_seen_and_cleared(node) -> None:
    """A second route of ours for a prefix, left by a crash between two messages, is stale and can be removed."""
    old, new = node.add_pod("p1", *IPS), node.add_pod("p2", "10.9.1.6", "fd09:1::6")
    entries = node.entries(old, V4)
    node.put(node.datapath(), entries)
    left = routes.Route(
        prefix=ip_network(V4),
        link=node.space.ref(new.link).index,
        gateway=ip_address("10.9.1.6"),
        table=routes.TABLE_LOCAL,
        protocol=190,
        onlink=True,
    )
    with node.space:
        node.space.request(routes.prepend_route(left))
    datapath = node.datapath()
    state = node.observe(datapath)
    ours = next(entry for entry in entries if isinstance(entry, RouteEntry))
    assert not any(isinstance(entry, RouteEntry) for entry in state.entries)
    assert {entry.link.name for entry in state.stale if isinstance(entry, RouteEntry)} == {old.link, new.link}
    assert all(outcome.is_done for outcome in node.put(datapath, [ours]))
    assert ours in node.observe(datapath).entries
    assert not any(isinstance(entry, RouteEntry) for entry in node.observe(datapath).stale)


@pytest.mark.parametrize(
    ("address", "fields"),
    [(V6, {"metric": 1, "protocol": 66}), ("203.0.113.9", {"protocol": 2}), ("2001:db8:7::9", {"protocol": 2})],
)
def test_foreign_route_that_would_win_blocks_and_stays(node, address, fields) -> None:
    """A foreign route in table local that ours cannot beat, or the node's own address, is named and not touched."""
    pod = node.add_pod("p1", *IPS)
    if fields["protocol"] == 2:
        node.space.add_address("eth0", address)
    else:
        node.space.add_route(address, "eth0", type=routes.TYPE_LOCAL, table=routes.TABLE_LOCAL, **fields)
    before = node.foreign()
    entries = node.entries(pod, address)
    datapath = node.datapath()
    outcomes = dict(zip(map(type, entries), node.put(datapath, entries), strict=True))
    assert outcomes[RouteEntry].state is OutcomeState.BLOCKED
    assert address in outcomes[RouteEntry].message
    assert node.foreign() == before
    state = node.observe(datapath)
    assert not any(isinstance(entry, RouteEntry) for entry in state.entries)
    assert ip_network(address) in {obstacle.prefix for obstacle in state.obstacles}, "though nothing of ours was put"


def test_foreign_route_that_comes_to_win_is_an_obstacle(node) -> None:
    """When the node itself gets the address later, ours is no longer whole and the state says why."""
    pod = node.add_pod("p1", *IPS)
    address = "2001:db8:7::9"
    datapath = node.datapath()
    node.put(datapath, node.entries(pod, address))
    assert not node.observe(datapath).obstacles
    node.space.add_address("eth0", address)
    state = node.observe(datapath)
    assert not any(isinstance(entry, RouteEntry) for entry in state.entries)
    assert [obstacle.prefix for obstacle in state.obstacles] == [ip_network(address)]
    assert ip_address(address) in state.own_ips, "so that the agent refuses it, whoever decided it"


def test_foreign_proxy_entry_blocks_and_stays(node) -> None:
    """A proxy entry of others for the same address is not taken over."""
    pod = node.add_pod("p1", *IPS)
    proxy = next(entry for entry in node.entries(pod, "192.0.2.99") if isinstance(entry, ProxyEntry))
    before = node.foreign()
    datapath = node.datapath()
    (outcome,) = node.put(datapath, [proxy])
    assert outcome.state is OutcomeState.BLOCKED
    node.remove(datapath, [proxy])
    assert node.foreign() == before


def test_foreign_neighbour_at_the_pinned_hop_blocks_and_stays(node) -> None:
    """A permanent neighbour of others at the very next hop is not overwritten."""
    pod = node.add_pod("p1", *IPS)
    hop = ip_address("fe80::7069:" + ":".join(pod.hardware_address.replace(":", "")[at : at + 4] for at in (0, 4, 8)))
    foreign = neighbours.Neighbour(
        address=hop,
        link=node.space.ref(pod.link).index,
        hardware_address="02:00:00:00:00:66",
        state=neighbours.PERMANENT,
        protocol=66,
    )
    with node.space:
        node.space.request(neighbours.put_neighbour(foreign))
    before = node.foreign()
    route = next(entry for entry in node.entries(pod, V4) if isinstance(entry, RouteEntry))
    (outcome,) = node.put(node.datapath(), [route])
    assert outcome.state is OutcomeState.BLOCKED
    assert node.foreign() == before


def test_two_hardware_addresses_that_shorten_alike_are_told_apart(node) -> None:
    """Where a next hop keeps 24 bits of the hardware address, two that agree in them get different hops."""
    pods = [
        node.add_bridged_pod("p1", "10.9.1.5", hardware_address="02:00:01:aa:bb:cc"),
        node.add_bridged_pod("p2", "10.9.1.6", hardware_address="02:00:02:aa:bb:cc"),
    ]
    node.space.set("net/ipv6/conf/cni0/disable_ipv6", "1")
    entries: list[Entry] = [*node.entries(pods[0], "203.0.113.8"), *node.entries(pods[1], "203.0.113.9")]
    datapath = node.datapath()
    outcomes = node.put(datapath, entries)
    assert all(outcome.is_done for outcome in outcomes), outcomes
    assert node.own()[:2] == (2, 2)
    assert node.observe(node.datapath()).entries == frozenset(entries)


def test_pins_survive_a_restart_and_are_forgotten_one_by_one(node) -> None:
    """A pin is there for the next process once the action is done, and only the very pin named is dropped."""
    first = node.datapath()
    assert all(outcome.is_done for outcome in node.apply(first, [RecordPin(PIN)]))
    second = node.datapath()
    assert node.observe(second).pins == {PIN}
    other = Pin(**{**{name: getattr(PIN, name) for name in PIN.__slots__ if not name.startswith("_")}, "epoch": 8})
    node.apply(second, [ForgetPin(other)])
    assert node.observe(second).pins == {PIN}
    node.apply(second, [RecordPin(other)])
    assert node.observe(node.datapath()).pins == {other}
    node.apply(second, [ForgetPin(other)])
    assert node.observe(node.datapath()).pins == frozenset()


def test_pod_whose_pin_cannot_be_recorded_is_not_programmed(node) -> None:
    """When the disk refuses the pin, the route that rests on it is not put."""
    pod = node.add_pod("p1", *IPS)
    route = next(entry for entry in node.entries(pod, V4) if isinstance(entry, RouteEntry))
    pin = Pin(attachment_uid="a", pod_uid="p", epoch=1, link=route.link, hardware_address=route.hardware_address)
    datapath = node.datapath()
    node.state.joinpath("pins.new").mkdir()
    pinned, put = node.apply(datapath, [RecordPin(pin), *node.puts([route])])
    assert pinned.state is OutcomeState.FAILED
    assert put.state is OutcomeState.BLOCKED
    assert node.own()[0] == 0


def test_gateways_of_the_node_are_seen(node) -> None:
    """The next hops of the default routes are told, so that nobody takes one of them."""
    datapath = node.datapath()
    before = node.observe(datapath).gateways
    for prefix, via in (("0.0.0.0/0", "10.0.0.77"), ("::/0", "fd00::77")):
        node.space.add_route(prefix, "eth0", via, metric=77)
    assert node.observe(datapath).gateways - before == {ip_address("10.0.0.77"), ip_address("fd00::77")}


def test_gateways_of_a_route_with_several_are_all_seen(node) -> None:
    """A default route that shares its packets among next hops is lost without any of them."""
    datapath = node.datapath()
    with node.space:
        link = node.space.index("eth0")
    hops = b"".join(
        struct.pack("=HBBi", 16, 0, 0, link) + attribute(5, ip_address(f"10.0.0.{each}").packed) for each in (78, 79)
    )
    head = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, routes.TABLE_MAIN, 4, 0, routes.TYPE_UNICAST, 0)
    body = head + attribute(9, hops)
    with node.space:
        node.space.request(Message(routes.NEW_ROUTE, CREATE, body))
    assert {ip_address("10.0.0.78"), ip_address("10.0.0.79")} <= node.observe(datapath).gateways
