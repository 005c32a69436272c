"""Do packets for an address reach the Pod and come back, among hostile neighbours, and nobody else's?"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from persistip.model.actions import OutcomeState
from persistip.model.entry import ExemptEntry, GuardEntry, ProxyEntry, RouteEntry

pytestmark = pytest.mark.requires("kernel")

V4, V6 = "203.0.113.7", "2001:db8:7::7"
BOTH = pytest.mark.parametrize("address", [V4, V6])
MAKES = pytest.mark.parametrize("make", ["add_pod", "add_bridged_pod"])
IPS = ("10.9.1.5", "fd09:1::5")


def client_of(address):
    return "fd00::c" if ":" in address else "10.0.0.100"


def assert_done(outcomes):
    assert all(outcome.is_done for outcome in outcomes), outcomes


@BOTH
@MAKES
def test_udp_to_held_address_reaches_pod_unchanged(cluster, node, address, make) -> None:
    """A datagram reaches the Pod with the client's source, and the answer leaves with the address as source."""
    pod = getattr(node, make)("p1", *IPS)
    pod.hold(address)
    cluster.route_to(address, node)
    assert pod.answers(address, 0.2) == ("", "")
    assert_done(node.put(node.datapath(), node.entries(pod, address)))
    assert pod.answers(address) == (client_of(address), address)
    assert pod.reaches_client_as(address) == address


@BOTH
@MAKES
def test_tcp_to_and_from_held_address_carries_payload(cluster, node, address, make) -> None:
    """TCP connections to the address and from it carry payload both ways, with both ends' own addresses."""
    pod = getattr(node, make)("p1", *IPS)
    pod.hold(address)
    cluster.route_to(address, node)
    assert_done(node.put(node.datapath(), node.entries(pod, address)))
    outside = client_of(address)
    ends = [(pod.space, address, cluster.client, outside), (cluster.client, outside, pod.space, address)]
    for server_space, server, caller_space, caller in ends:
        with (
            server_space.socket(socket.SOCK_STREAM, server, 7100) as listener,
            caller_space.socket(socket.SOCK_STREAM, caller) as near,
        ):
            listener.listen()
            near.settimeout(2)
            listener.settimeout(2)
            near.connect((server, 7100))
            far, source = listener.accept()
            with far:
                assert source[0] == caller
                far.settimeout(2)
                near.sendall(b"question")
                assert far.recv(100) == b"question"
                far.sendall(b"answer")
                assert near.recv(100) == b"answer"


@BOTH
def test_masquerade_of_others_is_real_and_exempted(cluster, node, address) -> None:
    """Without the exemption the foreign masquerade rule hides both ends, with it neither."""
    pod = node.add_pod("p1", *IPS)
    pod.hold(address)
    cluster.route_to(address, node)
    datapath, entries = node.datapath(), node.entries(pod, address)
    assert_done(node.put(datapath, [entry for entry in entries if not isinstance(entry, ExemptEntry)]))
    seen, _back = pod.answers(address)
    assert seen not in ("", client_of(address))
    assert pod.reaches_client_as(address) == node.ips[0 if "." in address else 1]
    assert_done(node.put(datapath, [entry for entry in entries if isinstance(entry, ExemptEntry)]))
    assert pod.answers(address) == (client_of(address), address)
    assert pod.reaches_client_as(address) == address


def test_strict_reverse_path_filter_lets_address_in_and_out(cluster, node) -> None:
    """With rp_filter=1 everywhere on the node the address works both ways."""
    pod = node.add_pod("p1", *IPS)
    pod.hold(V4)
    cluster.route_to(V4, node)
    for name in ("all", "default", "eth0", pod.link):
        node.space.set(f"net/ipv4/conf/{name}/rp_filter", "1")
    assert_done(node.put(node.datapath(), node.entries(pod, V4)))
    assert pod.answers(V4) == (client_of(V4), V4)
    assert pod.reaches_client_as(V4) == V4


def test_link_without_ipv6_delivers_ipv4_pinned(cluster, node) -> None:
    """Where IPv6 is disabled on the Pod's link, an IPv4 address is delivered by a pinned next hop all the same."""
    pod = node.add_pod("p1", *IPS)
    pod.hold(V4)
    cluster.route_to(V4, node)
    node.space.set(f"net/ipv6/conf/{pod.link}/disable_ipv6", "1")
    datapath, entries = node.datapath(), node.entries(pod, V4)
    assert_done(node.put(datapath, entries))
    assert pod.answers(V4) == (client_of(V4), V4)
    assert node.observe(datapath).entries == frozenset(entries)
    assert node.own() == (1, 1, 1, True)


def test_link_without_ipv6_refuses_ipv6_with_reason(cluster, node) -> None:
    """An IPv6 address on a link where IPv6 is disabled fails and names the setting."""
    pod = node.add_pod("p1", *IPS)
    entries = node.entries(pod, V6)
    node.space.set(f"net/ipv6/conf/{pod.link}/disable_ipv6", "1")
    datapath = node.datapath()
    outcomes = dict(zip(map(type, entries), node.put(datapath, entries), strict=True))
    assert outcomes[RouteEntry].state is OutcomeState.FAILED
    assert "disable_ipv6" in outcomes[RouteEntry].message
    assert RouteEntry not in map(type, node.observe(datapath).entries)


class Tunnel:
    """A link without hardware addresses, whose other end is this object."""

    def __init__(self, space) -> None:
        with space:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.fd, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x0001 | 0x1000))
            space.set_up("tun0")

    def close(self) -> None:
        os.close(self.fd)

    def receive(self, wanted: bytes, seconds: float = 1.0) -> bytes:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                packet = os.read(self.fd, 4096)
                if packet.endswith(wanted):
                    return packet
        return b""


@pytest.mark.parametrize(("address", "pod_ip"), [(V4, IPS[0]), (V6, IPS[1])])
def test_link_without_hardware_addresses_delivers_and_guards(cluster, node, address, pod_ip) -> None:
    """On a link without hardware addresses the packet arrives, the answer leaves, and others may not use the source."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun")
    other = node.add_pod("p2", "10.9.2.5", "fd09:2::5")
    other.hold(address)
    tunnel = Tunnel(node.space)
    with contextlib.closing(tunnel):
        cluster.route_to(address, node)
        link, prefix = node.space.ref("tun0"), ip_network(address)
        datapath = node.datapath()
        entries = [
            GuardEntry(prefix=prefix, link=link, hardware_address=""),
            ExemptEntry(prefix),
            RouteEntry(prefix=prefix, link=link, hardware_address="", pod_ip=ip_address(pod_ip)),
        ]
        assert_done(node.put(datapath, entries))
        assert node.observe(datapath).entries == frozenset(entries)
        with cluster.client.socket(socket.SOCK_DGRAM, client_of(address), 7200) as client:
            client.sendto(b"to the tunnel", (address, 7300))
            packet = tunnel.receive(b"to the tunnel")
            assert packet
            head, payload = packet[: -len(b"to the tunnel")], b"to the tunnel"
            if ":" in address:
                answer = head[:8] + head[24:40] + head[8:24] + head[42:44] + head[40:42] + head[44:48] + payload
            else:
                answer = head[:12] + head[16:20] + head[12:16] + head[22:24] + head[20:22] + head[24:28] + payload
            os.write(tunnel.fd, answer)
            assert select.select([client], [], [], 1)[0]
            assert client.recvfrom(100)[1][0] == address
        assert other.reaches_client_as(address, 0.3) == ""


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [("203.0.113.16/28", "203.0.113.20", "203.0.113.32"), ("2001:db8:9::/64", "2001:db8:9::42", "2001:db8:9:1::42")],
)
def test_wide_prefix_is_delivered_guarded_and_exempt(cluster, node, prefix, inside, outside) -> None:
    """Every address of a CIDR reaches the Pod and leaves unmasqueraded, the next one beyond it does not."""
    pod, other = node.add_pod("p1", *IPS), node.add_pod("p2", "10.9.2.5", "fd09:2::5")
    for each in (inside, outside):
        pod.hold(each)
        cluster.route_to(each, node)
    other.hold(inside)
    datapath, entries = node.datapath(), node.entries(pod, prefix)
    assert ProxyEntry not in map(type, entries)
    assert_done(node.put(datapath, entries))
    assert node.observe(datapath).entries == frozenset(entries)
    assert pod.answers(inside) == (client_of(inside), inside)
    assert pod.answers(outside, 0.2) == ("", "")
    assert other.reaches_client_as(inside, 0.3) == ""
    assert_done(node.remove(datapath, entries))
    assert node.own() == (0, 0, 0, False)


@pytest.mark.parametrize("address", ["10.0.0.50", "fd00::50"])
def test_kernel_answers_for_address_at_once_while_no_agent_runs(cluster, node, address) -> None:
    """A neighbour on the segment resolves the address and reaches the Pod within milliseconds, agent or not."""
    pod = node.add_pod("p1", *IPS)
    pod.hold(address)
    datapath = node.datapath()
    assert_done(node.put(datapath, node.entries(pod, address)))
    datapath.close()
    started = time.monotonic()
    assert pod.answers(address) == (client_of(address), address)
    # With the kernel's default delay for proxied answers this takes up to 0.8 s, and 0.4 s on average, each way.
    assert time.monotonic() - started < 0.2


@BOTH
@pytest.mark.parametrize("hardware_address", ["", "0a:58:0a:09:01:05"], ids=["by chance", "from the IP"])
@pytest.mark.parametrize("make", ["add_pod", "add_bridged_pod"])
def test_next_owner_of_pod_ip_gets_nothing_while_agent_is_dead(cluster, node, address, hardware_address, make) -> None:
    """After the Pod is gone and another has its IP, and with some CNIs its hardware address, packets reach nobody."""
    pod = getattr(node, make)("p1", *IPS, hardware_address=hardware_address)
    pod.hold(address)
    cluster.route_to(address, node)
    datapath = node.datapath()
    assert_done(node.put(datapath, node.entries(pod, address)))
    assert pod.answers(address)[0]
    datapath.close()
    node.space.delete_link(pod.port)
    heir = getattr(node, make)("p2", *IPS, hardware_address=hardware_address)
    heir.hold(address)
    # The heir's IP is known to the whole node: its neighbour entry is up to date.
    ip = IPS[0 if "." in address else 1]
    assert heir.reaches_client_as(ip) != ""
    assert heir.answers(address, 0.4)[0] == ""


@BOTH
@MAKES
def test_move_within_node_loses_no_packet(cluster, node, address, make) -> None:
    """While the route is put for another Pod of the node, packets at 1 ms spacing all reach one of the two."""
    old = getattr(node, make)("p1", *IPS)
    new = getattr(node, make)("p2", "10.9.1.6", "fd09:1::6")
    cluster.route_to(address, node)
    datapath = node.datapath()
    for pod in (old, new):
        pod.hold(address)
    assert_done(node.put(datapath, node.entries(old, address)))
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(cluster.client.socket(socket.SOCK_DGRAM, client_of(address)))
        receivers = [stack.enter_context(pod.space.socket(socket.SOCK_DGRAM, address, 7000)) for pod in (old, new)]
        for number in range(60):
            if number == 30:
                assert_done(node.put(datapath, node.entries(new, address)))
            client.sendto(number.to_bytes(2, "big"), (address, 7000))
            time.sleep(0.001)
        time.sleep(0.05)
        got = [received(receiver) for receiver in receivers]
    assert got == [list(range(30)), list(range(30, 60))]
    state = node.observe(datapath)
    assert {entry for entry in state.entries if isinstance(entry, RouteEntry)} == {
        entry for entry in node.entries(new, address) if isinstance(entry, RouteEntry)
    }
    assert not state.stale - frozenset(node.entries(old, address))


def received(sock):
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(int.from_bytes(sock.recv(100), "big"))
    return found


@BOTH
def test_move_between_nodes_loses_no_packet(cluster, node, address) -> None:
    """New node, then the network outside, then the old node: no packet at 1 ms spacing is lost."""
    other = cluster.add_node("b", 2)
    other.add_hostile_neighbours(address)
    old, new = node.add_pod("p1", *IPS), other.add_pod("p2", "10.9.2.5", "fd09:2::5")
    for pod in (old, new):
        pod.hold(address)
    cluster.route_to(address, node)
    first, second = node.datapath(), other.datapath()
    assert_done(node.put(first, node.entries(old, address)))
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(cluster.client.socket(socket.SOCK_DGRAM, client_of(address)))
        receivers = [stack.enter_context(pod.space.socket(socket.SOCK_DGRAM, address, 7000)) for pod in (old, new)]
        for number in range(100):
            if number == 30:
                assert_done(other.put(second, other.entries(new, address)))
            if number == 50:
                cluster.route_to(address, other)
            if number == 70:
                assert_done(node.remove(first, node.entries(old, address)))
            client.sendto(number.to_bytes(2, "big"), (address, 7000))
            time.sleep(0.001)
        time.sleep(0.05)
        got = [received(receiver) for receiver in receivers]
    assert got == [list(range(50)), list(range(50, 100))]


def test_only_changed_settings_are_written_and_told(node) -> None:
    """What delivery needs is switched on and reported with its value before, and a second put changes nothing."""
    told = []
    pod = node.add_pod("p1", *IPS)
    datapath = node.datapath(on_setting_changed=told.append)
    assert node.space.get("net/ipv4/ip_forward") == "0"
    assert_done(node.put(datapath, node.entries(pod, V4, V6)))
    changed = {each.path: (each.before, each.after) for each in told}
    assert changed["net/ipv4/ip_forward"] == ("0", "1")
    assert changed["net/ipv6/conf/all/forwarding"] == ("0", "1")
    assert changed["net/ipv4/neigh/eth0/proxy_delay"][1] == "0"
    # A host that forwards stops listening to router advertisements, unless told to go on.
    assert changed["net/ipv6/conf/eth0/accept_ra"] == ("1", "2")
    assert {path: node.space.get(path) for path in changed} == {path: after for path, (_, after) in changed.items()}
    told.clear()
    node.observe(datapath)
    assert_done(node.put(datapath, node.entries(pod, V4, V6)))
    assert told == []


def test_settings_are_written_where_the_node_has_them(node, tmp_path: Path) -> None:
    """Where the node's settings are mounted elsewhere, as for an agent in a container, they are written there."""
    (tmp_path / "net" / "ipv4" / "neigh" / "eth0").mkdir(parents=True)
    pod = node.add_pod("p1", *IPS)
    node.put(node.datapath(sysctl_directory=tmp_path), node.entries(pod, V4))
    assert (tmp_path / "net" / "ipv4" / "ip_forward").read_text() == "1"
    assert node.space.get("net/ipv4/ip_forward") == "0"
