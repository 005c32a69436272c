"""Does a real neighbour change its mind at once when a node announces an address?"""

import asyncio
import socket
import time
from ipaddress import ip_address, ip_network

import pytest

from persistip.backends.announce import PacketAnnouncer
from persistip.backends.linux import neighbours
from persistip.backends.linux.sockets import NETLINK_ROUTE, NetlinkSocket
from persistip.model.actions import OutcomeState
from persistip.model.entry import Announcement, LinkRef
from persistip.settings import AnnounceSettings

pytestmark = pytest.mark.requires("kernel")

ADDRESSES = ("10.0.0.50", "fd00::50")
ONCE = AnnounceSettings(offsets_seconds=(0.0,), until_seconds=0.5)


@pytest.fixture
def old(cluster):
    """Return the node that has the addresses so far, which the client has learned."""
    made = cluster.add_node("old", 1)
    for address in ADDRESSES:
        made.space.add_address("eth0", address)
        learn(cluster, address, made)
    return made


@pytest.fixture
def new(cluster):
    """Return the node that announces."""
    return cluster.add_node("new", 2)


def known_to_client(cluster, address: str) -> str:
    with cluster.client, NetlinkSocket(NETLINK_ROUTE) as netlink:
        found = [each for each in neighbours.dump_neighbours(netlink) if each.address == ip_address(address)]
    return found[0].hardware_address if found else ""


def learn(cluster, address: str, node) -> None:
    outside = "fd00::c" if ":" in address else "10.0.0.100"
    with cluster.client.socket(socket.SOCK_DGRAM, outside) as sender:
        deadline = time.monotonic() + 3
        while known_to_client(cluster, address) != mac(node) and time.monotonic() < deadline:
            sender.sendto(b"?", (address, 9))
            time.sleep(0.01)
    assert known_to_client(cluster, address) == mac(node)


def mac(node) -> str:
    return node.space.link("eth0").hardware_address


def announce(node, *announcements: Announcement, settings: AnnounceSettings = ONCE, seconds: float = 0.0):
    """Announce from the node's namespace, and stay for a while."""

    async def run():
        async with PacketAnnouncer(settings) as announcer:
            outcomes = await announcer.announce(frozenset(announcements))
            await asyncio.sleep(seconds)
            return outcomes

    with node.space:
        return to_end(run())


def to_end(coroutine):
    """Run on a loop of its own; asyncio.run would also replace the one that the test runner keeps."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def of(address: str, link: LinkRef) -> Announcement:
    return Announcement(prefix=ip_network(address), link=link, epoch=1)


@pytest.mark.parametrize("address", ADDRESSES)
def test_neighbour_that_knows_the_old_node_learns_the_new_one_at_once(cluster, old, new, address) -> None:
    """One burst of frames, and the client's entry names the new node, though it was confirmed a moment ago."""
    outcomes = announce(new, of(address, new.space.ref("eth0")))
    assert [outcome.state for outcome in outcomes] == [OutcomeState.DONE]
    deadline = time.monotonic() + 0.2
    while known_to_client(cluster, address) == mac(old) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert known_to_client(cluster, address) == mac(new)


def test_other_addresses_of_the_old_node_are_left_alone(cluster, old, new) -> None:
    """Announcing one address changes nothing that the client knows of another."""
    announce(new, of(ADDRESSES[0], new.space.ref("eth0")))
    time.sleep(0.05)
    assert known_to_client(cluster, ADDRESSES[1]) == mac(old)


def test_hundreds_of_addresses_go_out_within_the_call(cluster, old, new) -> None:
    """Three hundred addresses of both families are on the wire, each once or twice, when the call returns."""
    with cluster.client:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    listener.setblocking(False)
    link = new.space.ref("eth0")
    wanted = [of(f"10.0.7.{last}", link) for last in range(150)] + [
        of(f"fd00:7::{last:x}", link) for last in range(150)
    ]
    start = time.monotonic()
    outcomes = announce(new, *wanted)
    took = time.monotonic() - start
    assert all(outcome.is_done for outcome in outcomes)
    frames = []
    with listener:
        while True:
            try:
                frames.append(listener.recv(2000))
            except BlockingIOError:
                break
    sender = bytes.fromhex(mac(new).replace(":", ""))
    arps = {frame[28:32] for frame in frames if frame[6:14] == sender + b"\x08\x06"}
    advertised = {frame[62:78] for frame in frames if frame[6:14] == sender + b"\x86\xdd" and frame[54] == 136}
    assert {ip_network(f"10.0.7.{last}").network_address.packed for last in range(150)} <= arps
    assert {ip_address(f"fd00:7::{last:x}").packed for last in range(150)} <= advertised
    assert took < 1.0


def test_link_that_is_down_stops_no_other(cluster, old, new) -> None:
    """With one link down its announcement fails, and the other link's neighbours learn at once."""
    other = cluster.namespace()
    new.space.add_veth("eth1", other, "eth0")
    broken = new.space.ref("eth1")
    with new.space:
        new.space.set_up("eth1", up=False)
    address = ADDRESSES[0]
    outcomes = announce(new, of(address, broken), of(address, new.space.ref("eth0")))
    assert sorted(outcome.state for outcome in outcomes) == [OutcomeState.DONE, OutcomeState.FAILED]
    assert known_to_client(cluster, address) == mac(new)


def test_link_made_again_is_not_taken_for_the_old_one(cluster, old, new) -> None:
    """A link that was deleted and made again under its name has another index, and nothing is sent on it."""
    other = cluster.namespace()
    new.space.add_veth("eth1", other, "eth0")
    former = new.space.ref("eth1")
    new.space.delete_link("eth1")
    new.space.add_veth("eth1", cluster.namespace(), "eth0")
    outcomes = announce(new, of(ADDRESSES[0], former))
    assert [outcome.state for outcome in outcomes] == [OutcomeState.FAILED]
    assert outcomes[0].stale


def test_link_without_ethernet_is_blocked(new) -> None:
    """The loopback link has no neighbours to tell, and the outcome says that it is no Ethernet link."""
    outcomes = announce(new, of(ADDRESSES[0], new.space.ref("lo")))
    assert [outcome.state for outcome in outcomes] == [OutcomeState.BLOCKED]
    assert "Ethernet" in outcomes[0].message


def test_repeats_reach_a_neighbour_that_missed_the_first(cluster, old, new) -> None:
    """A client whose link was down during the first burst learns from a repeat."""
    settings = AnnounceSettings(offsets_seconds=(0.0, 0.3), until_seconds=1.0)
    address = ADDRESSES[0]
    with cluster.hub:
        cluster.hub.set_up("h-client", up=False)

    async def run() -> str:
        async with PacketAnnouncer(settings) as announcer:
            await announcer.announce(frozenset({of(address, LinkRef("eth0", index))}))
            with cluster.hub:
                cluster.hub.set_up("h-client")
            learn(cluster, address, old)
            await asyncio.sleep(0.4)
            return known_to_client(cluster, address)

    index = new.space.ref("eth0").index
    with new.space:
        assert to_end(run()) == mac(new)
