"""Is a Pod found behind the link that is its own, and only when it vouches for its hardware address?"""

import asyncio
import contextlib
import socket
import time
from ipaddress import ip_address

import pytest

from persistip.backends.linux import neighbours
from persistip.model.actions import RecordPin
from persistip.model.entry import Pin, RouteEntry

pytestmark = pytest.mark.requires("kernel")

V4 = "203.0.113.7"
IPS = ("10.9.1.5", "fd09:1::5")
MAKES = pytest.mark.parametrize("make", ["add_pod", "add_bridged_pod"])


def found(node, datapath, *ips, seconds=1.0):
    """Look again and again, as the agent does on the kernel's notifications, until all is known or time is up."""
    deadline = time.monotonic() + seconds
    while True:
        links = node.observe(datapath, *ips).pod_links
        if all(link.hardware_address is not None for link in links.values()) or time.monotonic() > deadline:
            return {str(ip): (link.link.name, link.hardware_address) for ip, link in links.items()}
        time.sleep(0.005)


@MAKES
def test_pod_is_found_behind_its_own_link(node, make) -> None:
    """Asked for the first time the kernel resolves the Pod, whose link on a bridge is its port."""
    pod = getattr(node, make)("p1", *IPS)
    there = (pod.port, pod.hardware_address)
    assert found(node, node.datapath(), *IPS) == dict.fromkeys(IPS, there)


@MAKES
def test_pod_that_was_never_asked_is_found_by_the_first_look(node, make) -> None:
    """Traffic may wait for the take-over, so a look that has to ask a Pod that is there returns with its answer."""
    pod = getattr(node, make)("p1", *IPS)
    # Two looks: the first of a node may fall into the moment in which the kernel still sets the link up.
    found(node, node.datapath(), *IPS)
    for ip in IPS:
        drop_neighbour(node, ip, pod.link)
    assert found(node, node.datapath(), *IPS, seconds=0) == dict.fromkeys(IPS, (pod.port, pod.hardware_address))


def test_ip_that_is_no_pod_of_this_node_is_absent(node) -> None:
    """What is reached by a gateway, over the uplink, or not at all, is on no link of a Pod."""
    assert found(node, node.datapath(), "198.51.100.9", "10.0.0.100", "192.0.2.200", "fd00::c", "127.0.0.1") == {}


def test_silent_pod_is_on_its_link_without_hardware_address(node) -> None:
    """A Pod that does not answer yet is told with its link, and found once it answers."""
    pod = node.add_bridged_pod("p1", *IPS)
    with pod.space:
        pod.space.set_up("eth0", up=False)
    datapath = node.datapath()
    assert found(node, datapath, IPS[0], seconds=0.1) == {IPS[0]: ("cni0", None)}
    with pod.space:
        pod.space.set_up("eth0")
    assert found(node, datapath, IPS[0], seconds=3) == {IPS[0]: (pod.port, pod.hardware_address)}


@pytest.mark.parametrize("state", [neighbours.STALE, neighbours.DELAY])
def test_hardware_address_of_the_previous_owner_is_not_believed(node, state) -> None:
    """A stale neighbour entry of whoever had the IP before is checked first, and gives way to the one who answers."""
    pod = node.add_bridged_pod("p1", *IPS)
    leave_neighbour(node, IPS[0], "02:00:00:00:00:99", state)
    datapath = node.datapath()
    assert found(node, datapath, IPS[0], seconds=0) == {IPS[0]: ("cni0", None)}
    assert found(node, datapath, IPS[0], seconds=8) == {IPS[0]: (pod.port, pod.hardware_address)}


def test_stale_entry_of_the_pod_itself_is_confirmed_at_once(node) -> None:
    """The check costs one look, not the five seconds after which the kernel would ask by itself."""
    pod = node.add_bridged_pod("p1", *IPS)
    datapath = node.datapath()
    found(node, datapath, IPS[0])
    leave_neighbour(node, IPS[0], pod.hardware_address, neighbours.STALE)
    assert found(node, node.datapath(), IPS[0], seconds=0.5) == {IPS[0]: (pod.port, pod.hardware_address)}


@MAKES
def test_idle_pod_stays_known_across_a_restart_by_its_pin(node, make) -> None:
    """An entry that has gone stale is believed where it agrees with the pin, so a restart interrupts nothing."""
    pod = getattr(node, make)("p1", *IPS)
    first = node.datapath()
    there = found(node, first, IPS[0])
    pin = Pin(
        attachment_uid="a",
        pod_uid="p",
        epoch=1,
        link=node.space.ref(pod.port),
        hardware_address=pod.hardware_address,
    )
    node.apply(first, [RecordPin(pin)])
    node.put(first, node.entries(pod, V4))
    leave_neighbour(node, IPS[0], pod.hardware_address, neighbours.STALE, link=pod.link)
    second = node.datapath()
    assert found(node, second, IPS[0], seconds=0) == there
    # With no neighbour entry at all and no answer the Pod is silent, but on the link that it was pinned to.
    set_answering(pod, False)
    drop_neighbour(node, IPS[0], pod.link)
    assert found(node, node.datapath(), IPS[0], seconds=0) == {IPS[0]: (pod.port, None)}


def test_forged_place_on_the_bridge_does_not_move_a_pinned_pod(node) -> None:
    """While its port is there, the Pod is behind it, whatever the bridge has learned since."""
    pod = node.add_bridged_pod("p1", *IPS)
    datapath = node.datapath()
    there = found(node, datapath, IPS[0])
    forger = node.add_bridged_pod("p2", "10.9.1.6", "fd09:1::6", hardware_address=pod.hardware_address)
    with forger.space.socket(socket.SOCK_DGRAM, "10.9.1.6") as sender:
        sender.sendto(b"I am here now", ("10.9.1.1", 9))
    time.sleep(0.02)
    assert found(node, datapath, IPS[0]) == there
    node.space.delete_link(pod.port)
    with forger.space.socket(socket.SOCK_DGRAM, "10.9.1.6") as sender:
        sender.sendto(b"I am here now", ("10.9.1.1", 9))
    time.sleep(0.02)
    assert found(node, datapath, IPS[0], seconds=0)[IPS[0]][0] != pod.port


@MAKES
async def test_pod_that_begins_to_answer_wakes_the_datapath(node, make) -> None:
    """The agent need not ask again and again: the notification comes when the Pod is there."""
    pod = getattr(node, make)("p1", *IPS)
    datapath = node.datapath()
    iterator = datapath.changes()
    wake = asyncio.ensure_future(anext(iterator))
    try:
        with contextlib.suppress(TimeoutError):
            while True:
                await asyncio.wait_for(asyncio.shield(wake), 0.1)
                wake = asyncio.ensure_future(anext(iterator))
        set_answering(pod, False)
        assert node.observe(datapath, IPS[0]).pod_links[ip_address(IPS[0])].hardware_address is None
        set_answering(pod, True)
        await asyncio.wait_for(wake, 3)
        link = node.observe(datapath, IPS[0]).pod_links[ip_address(IPS[0])]
        assert (link.link.name, link.hardware_address) == (pod.port, pod.hardware_address)
    finally:
        wake.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await wake
        await iterator.aclose()


def test_link_of_bridged_pod_is_the_port_in_all_entries(node) -> None:
    """What is put for the port is read back for the port, and nothing is left after its removal."""
    pod = node.add_bridged_pod("p1", *IPS)
    datapath = node.datapath()
    entries = node.entries(pod, V4, "2001:db8:7::7")
    assert {entry.link.name for entry in entries if isinstance(entry, RouteEntry)} == {pod.port}
    node.put(datapath, entries)
    assert node.observe(node.datapath()).entries == frozenset(entries)
    node.space.delete_link(pod.port)
    state = node.observe(node.datapath())
    assert not any(isinstance(entry, RouteEntry) for entry in state.entries)
    # A later look shows what the removal of the first could not know to be left over.
    fresh = node.datapath()
    for _ in range(2):
        state = node.observe(fresh)
        node.remove(fresh, sorted(state.entries | state.stale, key=node.order))
    assert node.own() == (0, 0, 0, False)


def set_answering(pod, is_answering):
    """Whether the Pod's kernel answers ARP."""
    pod.space.set("net/ipv4/conf/all/arp_ignore", "0" if is_answering else "8")


def leave_neighbour(node, ip, hardware_address, state, link="cni0"):
    with node.space:
        left = neighbours.Neighbour(
            address=ip_address(ip), link=node.space.index(link), hardware_address=hardware_address, state=state
        )
        node.space.request(neighbours.put_neighbour(left))


def drop_neighbour(node, ip, link):
    with node.space:
        gone = neighbours.Neighbour(address=ip_address(ip), link=node.space.index(link))
        node.space.request(neighbours.delete_neighbour(gone))
