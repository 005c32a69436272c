"""
A small cluster for one test: namespaces held by file descriptors alone, so that nothing can be left behind.

    client ── bridge (the hub) ── node a ── Pods on links of their own (ptp), and on a bridge
                             └─── node b ── Pods

Everything happens in namespaces made for the test: the thread moves into a fresh one (the hub) before the test and
back after it. Hostile neighbours are always there on a node: a masquerade rule, the guest agent's local route, a
foreign table, routes and neighbours of others.
"""

import asyncio
import contextlib
import ctypes
import os
import select
import socket
import struct
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest

from persistip.backends.linux import LinuxDatapath, elements, neighbours, nft, routes, ruleset
from persistip.backends.linux.attributes import attribute, attribute_text, attribute_u32, nested
from persistip.backends.linux.expressions import Expression, load_meta
from persistip.backends.linux.links import Link, dump_links
from persistip.backends.linux.sockets import CREATE, EXCL, NETLINK_NETFILTER, NETLINK_ROUTE, Message, NetlinkSocket
from persistip.model.actions import DatapathAction, Outcome, PutEntry, RemoveEntry
from persistip.model.entry import Entry, ExemptEntry, GuardEntry, LinkRef, NodeScope, NodeState, ProxyEntry, RouteEntry

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """A network namespace; ``with`` moves the thread into it and back."""

    def __init__(self) -> None:
        outside = self._open()
        check(_libc.unshare(CLONE_NEWNET))
        self.fd = self._open()
        self._stack: list[int] = []
        self.set_up("lo")
        for which in ("all", "default"):
            # Duplicate address detection takes a second and more, and nobody here has a duplicate.
            Path("/proc/sys/net/ipv6/conf", which, "accept_dad").write_text("0")
        check(_libc.setns(outside, CLONE_NEWNET))
        os.close(outside)

    @staticmethod
    def _open() -> int:
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> "Namespace":
        self._stack.append(self._open())
        check(_libc.setns(self.fd, CLONE_NEWNET))
        return self

    def __exit__(self, *_: object) -> None:
        outside = self._stack.pop()
        check(_libc.setns(outside, CLONE_NEWNET))
        os.close(outside)

    def close(self) -> None:
        os.close(self.fd)

    @staticmethod
    def request(*messages: Message) -> None:
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            answers = netlink.request(messages)
            assert not any(answers), answers

    @classmethod
    def set_up(cls, name: str, *, up: bool = True) -> None:
        head = struct.pack("=BBHiII", 0, 0, 0, cls.index(name), 1 if up else 0, 1)
        cls.request(Message(16, 0, head))

    @staticmethod
    def links() -> dict[str, Link]:
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            return {link.name: link for link in dump_links(netlink)}

    @classmethod
    def index(cls, name: str) -> int:
        return socket.if_nametoindex(name)

    def link(self, name: str) -> Link:
        with self:
            return self.links()[name]

    def ref(self, name: str) -> LinkRef:
        return LinkRef(name, self.link(name).index)

    # ------------------------------------------------------------------------------------------------ setting up

    def add_veth(self, name: str, peer: "Namespace", peer_name: str, peer_address: str = "") -> None:
        hardware = attribute(1, bytes.fromhex(peer_address.replace(":", ""))) if peer_address else b""
        other = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attribute_text(3, peer_name) + attribute_u32(28, peer.fd)
        info = nested(18, attribute_text(1, "veth"), nested(2, attribute(1, other + hardware)))
        with self:
            self.request(
                Message(16, CREATE | EXCL, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attribute_text(3, name) + info)
            )
            self.set_up(name)
        with peer:
            peer.set_up(peer_name)

    def add_bridge(self, name: str, hardware_address: str = "") -> None:
        """A bridge; by itself it takes the lowest hardware address of its ports, and loses its neighbours with it."""
        head = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attribute_text(3, name)
        fixed = attribute(1, bytes.fromhex(hardware_address.replace(":", ""))) if hardware_address else b""
        with self:
            self.request(Message(16, CREATE | EXCL, head + fixed + nested(18, attribute_text(1, "bridge"))))
            self.set_up(name)

    def set_hardware_address(self, name: str, hardware_address: str) -> None:
        with self:
            head = struct.pack("=BBHiII", 0, 0, 0, self.index(name), 0, 0)
            self.request(Message(16, 0, head + attribute(1, bytes.fromhex(hardware_address.replace(":", "")))))

    def enslave(self, name: str, bridge: str) -> None:
        with self:
            head = struct.pack("=BBHiII", 0, 0, 0, self.index(name), 0, 0)
            self.request(Message(16, 0, head + attribute_u32(10, self.index(bridge))))

    def delete_link(self, name: str) -> None:
        with self:
            self.request(Message(17, 0, struct.pack("=BBHiII", 0, 0, 0, self.index(name), 0, 0)))

    def add_address(self, name: str, address: str) -> None:
        ip, _, length = address.partition("/")
        value = ip_address(ip)
        family, size = (2, 32) if value.version == 4 else (10, 128)
        flags = 0 if value.version == 4 else 0x02  # nodad
        with self:
            head = struct.pack("=BBBBi", family, int(length or size), flags, 0, self.index(name))
            self.request(Message(20, CREATE | EXCL, head + attribute(2, value.packed) + attribute(1, value.packed)))
            deadline = time.monotonic() + 2
            # The kernel finishes an IPv6 address some time later.
            while value.version == 6 and not self.is_local(value) and time.monotonic() < deadline:
                time.sleep(0.001)

    @staticmethod
    def is_local(address: object) -> bool:
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            local = routes.dump_routes(netlink, version=6, table=routes.TABLE_LOCAL)
            return any(each.prefix.network_address == address and each.type == routes.TYPE_LOCAL for each in local)

    def add_route(self, prefix: str, link: str, via: str = "", **fields: Any) -> None:
        with self:
            gateway = ip_address(via) if via else None
            scope = fields.pop("scope", 253 if gateway is None and ":" not in prefix else 0)
            route = routes.Route(
                prefix=ip_network(prefix),
                link=self.index(link),
                gateway=gateway,
                scope=scope,
                **({"protocol": 4} | fields),
            )
            self.request(routes.add_route(route))

    def delete_own_routes(self, prefix: str, protocol: int) -> None:
        with self, NetlinkSocket(NETLINK_ROUTE) as netlink:
            found = [
                route
                for route in routes.dump_routes(netlink, version=ip_network(prefix).version, table=routes.TABLE_LOCAL)
                if route.prefix == ip_network(prefix) and route.protocol == protocol
            ]
            assert found
            assert not any(netlink.request([routes.delete_route(route) for route in found]))

    def set(self, path: str, value: str) -> None:
        with self:
            Path("/proc/sys", path).write_text(value)

    def get(self, path: str) -> str:
        with self:
            return Path("/proc/sys", path).read_text().strip()

    # ------------------------------------------------------------------------------------------------- traffic

    def socket(self, kind: int, address: str, port: int = 0) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self:
            sock = socket.socket(family, kind)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock


def is_heard(
    sender: socket.socket, payload: bytes, target: tuple[str, int], receiver: socket.socket, seconds: float
) -> str:
    """Send one datagram; the source that the receiver saw, or nothing."""
    while select.select([receiver], [], [], 0)[0]:
        receiver.recv(4096)
    with contextlib.suppress(OSError):
        sender.sendto(payload, target)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([receiver], [], [], left)[0]:
            break
        data, source = receiver.recvfrom(4096)
        if data == payload:
            return str(source[0])
    return ""


class Pod:
    """A Pod: a namespace, an IP of each family, and the addresses it holds on its loopback."""

    is_heard = staticmethod(is_heard)

    def __init__(self, node: "Node", name: str, ips: Sequence[str], link: str, port: str = "") -> None:
        self.node, self.name, self.ips, self.link = node, name, tuple(ips), link
        self.port = port or link
        self.space = node.cluster.namespace()

    @property
    def hardware_address(self) -> str:
        return self.space.link("eth0").hardware_address

    def hold(self, *addresses: str) -> None:
        for address in addresses:
            self.space.add_address("lo", address)

    def answers(self, address: str, seconds: float = 1.0) -> tuple[str, str]:
        """UDP from the client to *address* and back: the source that the Pod saw, and the one the client saw."""
        client = self.node.cluster.client
        outside = "fd00::c" if ":" in address else "10.0.0.100"
        with (
            self.space.socket(socket.SOCK_DGRAM, address, 7000) as server,
            client.socket(socket.SOCK_DGRAM, outside) as caller,
        ):
            seen = is_heard(caller, os.urandom(8), (address, 7000), server, seconds)
            if not seen:
                return "", ""
            return seen, is_heard(server, os.urandom(8), (outside, caller.getsockname()[1]), caller, seconds)

    def reaches_client_as(self, source: str, seconds: float = 1.0) -> str:
        """A datagram from the Pod with *source* to the client: the source the client saw, or nothing."""
        client = self.node.cluster.client
        outside = "fd00::c" if ":" in source else "10.0.0.100"
        with (
            client.socket(socket.SOCK_DGRAM, outside, 7001) as receiver,
            self.space.socket(socket.SOCK_DGRAM, source) as sender,
        ):
            return is_heard(sender, os.urandom(8), (outside, 7001), receiver, seconds)


class Node:
    """A node: its namespace, its Pods, and datapaths that come and go."""

    def __init__(self, cluster: "Cluster", name: str, ips: Sequence[str], state: Path) -> None:
        self.cluster, self.name, self.ips, self.state = cluster, name, ips, state
        self.space = cluster.namespace()
        self._bridged = False

    def datapath(self, **settings: Any) -> LinuxDatapath:
        with self.space:
            made = LinuxDatapath(self.state, uplinks=["eth0"], **settings)
        self.cluster.stack.callback(made.close)
        return made

    def add_pod(self, name: str, *ips: str, hardware_address: str = "") -> Pod:
        """A Pod on a link of its own, as the ptp, Calico and GKE CNIs make it."""
        pod = Pod(self, name, ips, f"v{name}")
        self.space.add_veth(pod.link, pod.space, "eth0", hardware_address)
        for ip in ips:
            pod.space.add_address("eth0", ip)
            gateway = "fe80::1" if ":" in ip else "169.254.1.1"
            if ":" in ip:
                self.space.add_address(pod.link, f"{gateway}/64")
                pod.space.add_route("::/0", "eth0", gateway)
            else:
                self.space.add_address(pod.link, f"{gateway}/32")
                pod.space.add_route(f"{gateway}/32", "eth0")
                pod.space.add_route("0.0.0.0/0", "eth0", gateway)
            self.space.add_route(ip, pod.link)
        return pod

    def add_bridged_pod(self, name: str, *ips: str, hardware_address: str = "") -> Pod:
        """A Pod on the node's bridge, as the bridge CNI makes it: IPs of 10.9.N.0/24 and fd09:N::/64."""
        if not self._bridged:
            self._bridged = True
            # With an address of its own, as the bridge plugin gives it.
            self.space.add_bridge("cni0", "02:00:00:00:c0:01")
            for ip in ips:
                self.space.add_address("cni0", _first_of(ip))
        pod = Pod(self, name, ips, "cni0", port=f"v{name}")
        self.space.add_veth(pod.port, pod.space, "eth0", hardware_address)
        self.space.enslave(pod.port, "cni0")
        for ip in ips:
            gateway = _first_of(ip)
            length = gateway.partition("/")[2]
            pod.space.add_address("eth0", f"{ip}/{length}")
            pod.space.add_route("::/0" if ":" in ip else "0.0.0.0/0", "eth0", gateway.partition("/")[0])
        return pod

    def entries(self, pod: Pod, *addresses: str) -> list[Entry]:
        """What the agent would put for the Pod's addresses, in its order."""
        link, made = self.space.ref(pod.port), []
        hardware = pod.hardware_address
        for address in addresses:
            prefix = ip_network(address)
            ip = next(ip_address(each) for each in pod.ips if ip_address(each).version == prefix.version)
            made += [
                GuardEntry(prefix=prefix, link=link, hardware_address=hardware),
                ExemptEntry(prefix),
                RouteEntry(prefix=prefix, link=link, hardware_address=hardware, pod_ip=ip),
            ]
            if prefix.prefixlen == prefix.max_prefixlen:
                made.append(ProxyEntry(prefix=prefix, link=self.space.ref("eth0")))
        return made

    def put(self, datapath: LinuxDatapath, entries: Sequence[Entry]) -> list[Outcome]:
        return self.apply(datapath, self.puts(entries))

    @staticmethod
    def puts(entries: Sequence[Entry]) -> list[DatapathAction]:
        return [PutEntry(entry) for entry in entries]

    @staticmethod
    def order(entry: Entry) -> tuple[int, str]:
        """The order in which the agent puts entries."""
        return (GuardEntry, ExemptEntry, RouteEntry, ProxyEntry).index(type(entry)), repr(entry)

    def prepend_local_route(self, address: str, *, protocol: int, link: str) -> None:
        with self.space:
            self.space.request(
                routes.prepend_route(
                    routes.Route(
                        prefix=ip_network(address),
                        link=self.space.index(link),
                        type=routes.TYPE_LOCAL,
                        table=routes.TABLE_LOCAL,
                        scope=routes.SCOPE_HOST,
                        protocol=protocol,
                    )
                )
            )

    def flood_with_routes(self, number: int) -> None:
        first = int(ip_address("192.168.0.0"))
        with self.space, NetlinkSocket(NETLINK_ROUTE) as netlink:
            link = self.space.index("eth0")
            made = [
                routes.Route(prefix=IPv4Network((first + each, 32)), link=link, scope=253, protocol=66)
                for each in range(number)
            ]
            assert not any(netlink.request([routes.add_route(route) for route in made]))

    def generation(self) -> int:
        with self.space, NetlinkSocket(NETLINK_NETFILTER) as netlink:
            return nft.read_generation(netlink)

    def remove(self, datapath: LinuxDatapath, entries: Sequence[Entry]) -> list[Outcome]:
        return self.apply(datapath, [RemoveEntry(entry) for entry in reversed(entries)])

    def apply(self, datapath: LinuxDatapath, actions: Sequence[DatapathAction]) -> list[Outcome]:
        with self.space:
            return list(run(datapath.apply(actions)))

    def observe(self, datapath: LinuxDatapath, *pod_ips: str) -> NodeState:
        with self.space:
            return run(datapath.observe(NodeScope(pod_ips=frozenset(ip_address(ip) for ip in pod_ips))))

    def add_hostile_neighbours(self, *addresses: str) -> None:
        """What others do on real nodes: masquerade all, swallow the addresses, keep tables, routes and neighbours."""
        masquerade = nft.TableSpec(
            name="hostile",
            family=nft.FAMILY_INET,
            sets=(),
            chains=(
                nft.Chain("post", nft.Hook("nat", 4, 100), ((load_meta(5), Expression("masq", ())),)),
                nft.Chain("idle", None, ((load_meta(4),),)),
            ),
        )
        with self.space, NetlinkSocket(NETLINK_NETFILTER) as netlink:
            assert nft.commit(netlink, nft.create_table(masquerade)) is None
        for address in addresses:
            self.space.add_route(
                address,
                "eth0",
                type=routes.TYPE_LOCAL,
                table=routes.TABLE_LOCAL,
                protocol=66,
                scope=254 if ":" not in address else 0,
            )
        self.space.add_route("198.51.100.0/24", "eth0", "10.0.0.100", protocol=66)
        with self.space:
            self.space.request(
                neighbours.put_neighbour(
                    neighbours.Neighbour(
                        address=ip_address("10.0.0.77"),
                        link=self.space.index("eth0"),
                        hardware_address="02:00:00:00:00:77",
                        state=neighbours.PERMANENT,
                        protocol=66,
                    )
                ),
                neighbours.put_neighbour(
                    neighbours.Neighbour(
                        address=ip_address("192.0.2.99"), link=self.space.index("eth0"), protocol=66, is_proxy=True
                    )
                ),
            )

    def foreign(self) -> list[object]:
        """Everything in the kernel that is not ours and does not change by itself, as the kernel says it."""
        anycast = 4  # a forwarding host has one for every prefix of its own
        found: list[object] = []
        with self.space, NetlinkSocket(NETLINK_ROUTE) as netlink, NetlinkSocket(NETLINK_NETFILTER) as netfilter:
            for version in (4, 6):
                for table in (routes.TABLE_MAIN, routes.TABLE_LOCAL):
                    found += [
                        each
                        for each in routes.dump_routes(netlink, version=version, table=table)
                        if each.protocol != 190
                        and not str(each.prefix).startswith(("ff00", "fe80"))
                        and each.type != anycast
                    ]
            for proxies in (False, True):
                found += [each for each in neighbours.dump_neighbours(netlink, proxies=proxies) if each.protocol == 66]
            found.append(nft.read_table(netfilter, "hostile", nft.FAMILY_INET))
        return sorted(found, key=repr)

    def delete_our_table(self) -> None:
        with self.space, NetlinkSocket(NETLINK_NETFILTER) as netlink:
            assert nft.commit(netlink, [nft.delete_table(ruleset.TABLE.name, ruleset.TABLE.family)]) is None

    def forget_owner(self, guard: GuardEntry) -> None:
        """Delete the owner of a guarded prefix, as a change that was broken off would leave it."""
        owner = elements.owner_element(guard.link.index, guard.hardware_address, guard.prefix)
        with self.space, NetlinkSocket(NETLINK_NETFILTER) as netlink:
            assert nft.commit(netlink, nft.delete_elements(ruleset.TABLE, "owners4", [owner])) is None

    def own(self) -> tuple[int, int, int, bool]:
        """How many routes, neighbours and proxy entries carry our number, and whether a table of ours is there."""
        with self.space, NetlinkSocket(NETLINK_ROUTE) as netlink, NetlinkSocket(NETLINK_NETFILTER) as netfilter:
            own_routes = [
                each
                for version in (4, 6)
                for each in routes.dump_routes(netlink, version=version, table=routes.TABLE_LOCAL)
                if each.protocol == 190
            ]
            counts = [
                sum(each.protocol == 190 for each in neighbours.dump_neighbours(netlink, proxies=proxies))
                for proxies in (False, True)
            ]
            tables = [
                nft.read_table(netfilter, each.name, each.family) for each in (ruleset.TABLE, ruleset.BRIDGE_TABLE)
            ]
            return len(own_routes), *counts, any(tables)


def _first_of(ip: str) -> str:
    return str(ip_network(f"{ip}/64" if ":" in ip else f"{ip}/24", strict=False)[1]) + ("/64" if ":" in ip else "/24")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a thread of its own, which stands where this one does: this one may be in a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Cluster:
    """Client, segment, nodes."""

    def __init__(self, stack: contextlib.ExitStack, state: Path) -> None:
        self.stack, self._state = stack, state
        self.hub = self.namespace()
        self.hub.add_bridge("br0")
        self.client = self.namespace()
        self._plug("client", self.client, "10.0.0.100/24", "fd00::c/64")
        self.nodes: dict[str, Node] = {}

    def namespace(self) -> Namespace:
        made = Namespace()
        self.stack.callback(made.close)
        return made

    def _plug(self, name: str, space: Namespace, *addresses: str) -> None:
        self.hub.add_veth(f"h-{name}", space, "eth0")
        self.hub.enslave(f"h-{name}", "br0")
        for address in addresses:
            space.add_address("eth0", address)

    def add_node(self, name: str, number: int) -> Node:
        ips = (f"10.0.0.{number}", f"fd00::{number}")
        node = Node(self, name, ips, self._state / name)
        self._plug(name, node.space, f"{ips[0]}/24", f"{ips[1]}/64")
        self.nodes[name] = node
        return node

    def route_to(self, address: str, node: Node) -> None:
        """The network outside sends packets for *address* to *node*: the client's route, moved without a gap."""
        with self.client:
            prefix = ip_network(address)
            hop = ip_address(node.ips[0 if prefix.version == 4 else 1])
            self.client.request(
                routes.replace_route(
                    routes.Route(prefix=prefix, link=self.client.index("eth0"), gateway=hop, protocol=4)
                )
            )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A fresh segment with a client; the thread is in a namespace of its own for the time of the test."""
    with contextlib.ExitStack() as stack:
        shelter = Namespace()
        stack.callback(shelter.close)
        stack.enter_context(shelter)
        yield Cluster(stack, tmp_path)


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """One node, as others have left it: forwarding as usual on a cluster node, hostile neighbours present."""
    made = cluster.add_node("a", 1)
    made.add_hostile_neighbours("203.0.113.7", "2001:db8:7::7")
    return made


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Namespace]:
    """A bare namespace, entered."""
    made = Namespace()
    try:
        with made:
            yield made
    finally:
        made.close()
