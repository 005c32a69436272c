"""
What does the lab's network look like, and how is it built?

In: names of nodes and, one by one, Pods.  Out: network namespaces, joined as machines are on bare metal.

    client ───────── router ──┐
    198.51.100.2              │ one layer-2 segment (a bridge in a namespace of its own)
                    onlink ───┤ 192.0.2.0/24, 2001:db8:1::/64
              (a second        ├─ node-a ── Pods 10.244.1.0/24, fd00:244:1::/64   each node with a CNI of its own:
               client)         ├─ node-b ── Pods 10.244.2.0/24 …                  `ptp` (a veth and a /32 route each)
                               └─ node-c ── Pods 10.244.3.0/24 …                  or `bridge` (all on cni0)

Persistent addresses lie in the segment's subnet, as on bare metal: the router (for the client behind it) and the
onlink client ask for them by ARP and neighbour solicitation, so whoever answers gets the packets. Pod ranges are
unknown outside the nodes; the CNI masquerades them, and, as ip-masq-agent does, everything else too that does not go
to a Pod: the hostile neighbour that any datapath must live with.

A namespace is held by a file descriptor and has no name anywhere: when the lab is gone, so is everything here.
Netlink calls run in one worker thread, since pyroute2's synchronous sockets refuse a thread with an asyncio loop.
"""

import concurrent.futures
import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import attrs
from pyroute2 import IPRoute, NetlinkError
from pyroute2.nftables.expressions import genex, masq
from pyroute2.nftables.main import NFTables

from persistip.lab import sandbox
from persistip.lab.site import FabricError

Result = TypeVar("Result")
CNI = Literal["ptp", "bridge"]

SEGMENT = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8:1::/64"))
POOL = (ipaddress.ip_network("192.0.2.128/25"), ipaddress.ip_network("2001:db8:1::f0:0/112"))
"""The part of the segment's subnet that no machine uses: persistent addresses are taken from here."""
CLIENT_SUBNET = (ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8:51::/64"))
CLUSTER = (ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00:244::/32"))
"""All Pod ranges; node number n has 10.244.n.0/24 and fd00:244:n::/64."""

CLIENT, ROUTER, ONLINK = "client", "router", "onlink"
UPLINK, POD_LINK, BRIDGE = "eth0", "eth0", "cni0"

_FORWARDING = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
# Duplicate address detection would hold every IPv6 address back for a second; nobody here sends router advertisements.
_QUIET = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
}
_IFA_F_NODAD = 0x02


@attrs.frozen
class Machine:
    """One network namespace: a host, a node or a Pod."""

    name: str
    netns: int
    """An open descriptor of the namespace; it belongs to the fabric."""
    ips: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class NodeSite(Machine):
    """A node: where its uplink and its Pods are."""

    uplink: str
    pod_cidrs: tuple[str, ...]
    gateways: tuple[str, ...]
    cni: CNI


@attrs.frozen(kw_only=True)
class PodSite(Machine):
    """A Pod: its node and the node's link to it (with `bridge`: the port, while the node routes to the bridge)."""

    node: str
    link: str
    route_link: str
    hwaddr: str


class Fabric:
    """
    The network, built on entering and gone on leaving.

    Methods are synchronous and safe to call from an asyncio program (a few milliseconds each) or from several
    threads; NetlinkError and OSError from the kernel are passed on.
    """

    def __init__(self, nodes: Mapping[str, CNI] | None = None) -> None:
        self._plan: dict[str, CNI] = dict(nodes or {"node-a": "ptp", "node-b": "bridge", "node-c": "ptp"})
        self.machines: dict[str, Machine] = {}
        """Everything with a namespace, by name: client, router, onlink, nodes and Pods."""
        self._netlinks: dict[str, IPRoute] = {}
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._next_ip: dict[str, int] = {}
        self._links_made = 0
        self._worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="fabric")

    # --- life -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._call(self._build)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process started here and let go of every namespace."""
        for name in list(self._processes):
            self._kill(name)
        self._call(self._release)
        self._worker.shutdown()

    @property
    def nodes(self) -> dict[str, NodeSite]:
        return {name: machine for name, machine in self.machines.items() if isinstance(machine, NodeSite)}

    @property
    def pods(self) -> dict[str, PodSite]:
        return {name: machine for name, machine in self.machines.items() if isinstance(machine, PodSite)}

    # --- Pods -------------------------------------------------------------------------------------------------

    def add_pod(self, node: str, name: str, ips: Sequence[str] = ()) -> PodSite:
        """
        Attach a new namespace to *node* as its CNI would, with the node's next free IPs unless *ips* are given.

        Raises ValueError for a name that is taken, FabricError when the node's range is used up.
        """
        return self._call(lambda: self._add_pod(node, name, tuple(ips)))

    def delete_pod(self, name: str) -> None:
        """Kill the Pod's processes, then remove its links and its namespace."""
        self._kill(name)
        self._call(lambda: self._delete_pod(name))

    # --- what a cloud must know -------------------------------------------------------------------------------

    def hardware_address(self, name: str) -> str:
        """That of the uplink of a machine on the segment."""
        return self._call(lambda: self._hardware_address(name, UPLINK))

    def port_of(self, name: str) -> str:
        """The segment's link to a machine, in the namespace of `fabric`."""
        return _port(name)

    # --- faults -----------------------------------------------------------------------------------------------

    def cut(self, name: str, *, carrier: bool = False) -> None:
        """
        Take *name* (a machine on the segment) off the segment.

        As if its cable were pulled: the machine's link loses its carrier. With *carrier* the light stays on and the
        switch forwards nothing, which is the nastier fault.
        """
        if carrier:
            self._call(lambda: self._set_link("fabric", _port(name), master=0))
        else:
            self._call(lambda: self._set_link("fabric", _port(name), state="down"))

    def restore(self, name: str) -> None:
        """Undo `cut`, of either kind."""
        self._call(lambda: self._set_link("fabric", _port(name), master=self._index("fabric", "segment"), state="up"))

    # --- processes --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Run the body, in this thread alone, in the network namespace of *name*."""
        with sandbox.inside(self.machines[name].netns):
            yield

    def spawn(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """
        Start *command* in the network namespace of *name*; *options* are subprocess.Popen's.

        The process has a session of its own, so that a terminal's Ctrl-C is the lab's alone to act on. It dies with
        the Pod, the fabric and the lab; without a PID namespace the kernel sees to the latter as long as the calling
        thread lives, so call it from a thread that lasts.
        """
        place = sandbox.current()
        if place is None or not place.pid_namespace:
            # The function runs in the child and makes system calls only, which is safe beside other threads.
            options["preexec_fn"] = partial(sandbox.die_with, os.getpid())
        # A child is born into the namespace of the thread that makes it. Entered here and not in the child, which then
        # needs no copy of this process: a fork of the whole lab would hold everything up for milliseconds.
        with sandbox.inside(self.machines[name].netns):
            process: subprocess.Popen[bytes] = subprocess.Popen(list(command), start_new_session=True, **options)
        running = [each for each in self._processes.get(name, []) if each.poll() is None]
        self._processes[name] = [*running, process]
        return process

    def sysctl(self, name: str, settings: Mapping[str, str]) -> None:
        """Write kernel settings (`net.…`, with `/` for a dot inside a name) in the namespace of *name*."""
        self._call(lambda: self._sysctl(name, settings))

    def netlink(self, name: str, use: Callable[[IPRoute], Result]) -> Result:
        """Hand *use* a netlink socket of the namespace of *name*, in the worker thread, and return what it returns."""
        return self._call(lambda: use(self._netlinks[name]))

    # --- all below runs in the worker -------------------------------------------------------------------------

    def _call(self, work: Callable[[], Result]) -> Result:
        return self._worker.submit(work).result()

    def _build(self) -> None:
        self._make("fabric")
        try:
            self._netlinks["fabric"].link(
                "add", ifname="segment", kind="bridge", br_mcast_snooping=0, br_forward_delay=0
            )
        except NetlinkError as error:
            raise FabricError(f"this kernel has no bridge links (module `bridge`): {error}") from error
        self._set_link("fabric", "segment", state="up")

        self._make(ROUTER, _FORWARDING)
        router = self._join(ROUTER, 1)
        self._make(CLIENT)
        self._veth(ROUTER, "wan", CLIENT, UPLINK)
        client = self._address(CLIENT, UPLINK, [_host(subnet, 2) for subnet in CLIENT_SUBNET])
        gateways = self._address(ROUTER, "wan", [_host(subnet, 1) for subnet in CLIENT_SUBNET])
        self._routes(CLIENT, ["default", "default"], via=gateways, link=UPLINK)
        self.machines[CLIENT] = attrs.evolve(self.machines[CLIENT], ips=client)

        self._make(ONLINK)
        onlink = self._join(ONLINK, 20)
        self._routes(ONLINK, [str(subnet) for subnet in CLIENT_SUBNET], via=router, link=UPLINK)
        self.machines[ROUTER] = attrs.evolve(self.machines[ROUTER], ips=router)
        self.machines[ONLINK] = attrs.evolve(self.machines[ONLINK], ips=onlink)

        for number, (name, cni) in enumerate(self._plan.items(), start=1):
            self._build_node(name, number, cni, router)
        for site in self.nodes.values():
            for other in self.nodes.values():
                if other is not site:
                    self._routes(site.name, other.pod_cidrs, via=other.ips, link=site.uplink)

    def _build_node(self, name: str, number: int, cni: CNI, router: Sequence[str]) -> None:
        ranges = (
            ipaddress.ip_network((int(CLUSTER[0].network_address) + (number << 8), 24)),
            ipaddress.ip_network((int(CLUSTER[1].network_address) + (number << 80), 64)),
        )
        gateways = tuple(str(subnet.network_address + 1) for subnet in ranges)
        self._make(name, _FORWARDING)
        ips = self._join(name, 10 + number)
        self._routes(name, ["default", "default"], via=router, link=UPLINK)
        if cni == "bridge":
            # A fixed hardware address, as the bridge plugin gives: by itself it takes the lowest of its ports',
            # and when that goes with its Pod, the others send to an address that is no more.
            self._netlinks[name].link(
                "add",
                ifname=BRIDGE,
                kind="bridge",
                address=f"02:00:0a:f4:{number:02x}:01",
                br_mcast_snooping=0,
                br_forward_delay=0,
            )
            self._set_link(name, BRIDGE, state="up")
            self._address(
                name, BRIDGE, [f"{ip}/{subnet.prefixlen}" for ip, subnet in zip(gateways, ranges, strict=True)]
            )
        machine = self.machines[name]
        self.machines[name] = NodeSite(
            name=name,
            netns=machine.netns,
            ips=ips,
            uplink=UPLINK,
            pod_cidrs=tuple(str(subnet) for subnet in ranges),
            gateways=gateways,
            cni=cni,
        )
        with sandbox.inside(machine.netns):
            _masquerade()

    def _add_pod(self, node: str, name: str, ips: tuple[str, ...]) -> PodSite:
        site = self.nodes[node]
        if name in self.machines:
            raise ValueError(f"there is a machine {name} already")
        ips = ips or self._free_ips(site)
        self._links_made += 1
        link = f"veth{self._links_made}"
        self._make(name)
        self._veth(node, link, name, POD_LINK)
        if site.cni == "bridge":
            self._set_link(node, link, master=self._index(node, BRIDGE))
            subnets = [ipaddress.ip_network(cidr) for cidr in site.pod_cidrs]
            self._address(name, POD_LINK, [f"{ip}/{net.prefixlen}" for ip, net in zip(ips, subnets, strict=True)])
        else:
            # The ptp plugin: the gateway's address on every link, and a host route each way.
            self._address(node, link, [_single(ip) for ip in site.gateways])
            self._address(name, POD_LINK, [_single(ip) for ip in ips])
            self._routes(node, [_single(ip) for ip in ips], link=link)
            self._routes(name, [_single(ip) for ip in site.gateways], link=POD_LINK)
        self._routes(name, ["default", "default"], via=site.gateways, link=POD_LINK)
        pod = PodSite(
            name=name,
            netns=self.machines[name].netns,
            ips=ips,
            node=node,
            link=link,
            route_link=BRIDGE if site.cni == "bridge" else link,
            hwaddr=self._hardware_address(name, POD_LINK),
        )
        self.machines[name] = pod
        return pod

    def _free_ips(self, site: NodeSite) -> tuple[str, ...]:
        """As the host-local plugin does: the next one after the last given, so that IPs come back late."""
        taken = {ip for pod in self.pods.values() for ip in pod.ips}
        for _ in range(252):
            number = self._next_ip.get(site.name, 2)
            self._next_ip[site.name] = number + 1 if number < 253 else 2
            ips = tuple(str(ipaddress.ip_network(cidr).network_address + number) for cidr in site.pod_cidrs)
            if not taken.intersection(ips):
                return ips
        raise FabricError(f"{site.name} has no free Pod IP")

    def _delete_pod(self, name: str) -> None:
        pod = self.pods[name]
        with contextlib.suppress(NetlinkError):
            self._netlinks[pod.node].link("del", index=self._index(pod.node, pod.link))
        self._drop(name)

    # One namespace.

    def _make(self, name: str, settings: Mapping[str, str] | None = None) -> None:
        netns = _new_namespace()
        self.machines[name] = Machine(name=name, netns=netns)
        with sandbox.inside(netns):
            self._netlinks[name] = IPRoute()
        self._set_link(name, "lo", state="up")
        self._sysctl(name, {**_QUIET, **(settings or {})})

    def _drop(self, name: str) -> None:
        netlink = self._netlinks.pop(name, None)
        if netlink is not None:
            netlink.close()
        os.close(self.machines.pop(name).netns)

    def _release(self) -> None:
        for name in list(self.machines):
            self._drop(name)

    def _sysctl(self, name: str, settings: Mapping[str, str]) -> None:
        with sandbox.inside(self.machines[name].netns):
            for key, value in settings.items():
                path = "/".join(part.replace("/", ".") for part in key.split("."))
                Path("/proc/sys", path).write_text(value)

    def _index(self, name: str, link: str) -> int:
        found = self._netlinks[name].link_lookup(ifname=link)
        if not found:
            raise FabricError(f"{name} has no link {link}")
        return int(found[0])

    def _hardware_address(self, name: str, link: str) -> str:
        (described,) = self._netlinks[name].get_links(self._index(name, link))
        return str(described.get("address"))

    def _set_link(self, name: str, link: str, **settings: object) -> None:
        self._netlinks[name].link("set", index=self._index(name, link), **settings)

    def _veth(self, name: str, link: str, peer: str, peer_link: str) -> None:
        try:
            self._netlinks[name].link(
                "add", ifname=link, kind="veth", peer={"ifname": peer_link, "net_ns_fd": self.machines[peer].netns}
            )
        except NetlinkError as error:
            raise FabricError(f"this kernel has no veth links (module `veth`): {error}") from error
        self._set_link(peer, peer_link, state="up")
        self._set_link(name, link, state="up")

    def _join(self, name: str, number: int) -> tuple[str, ...]:
        """Give *name* an uplink on the segment, and the host address *number* there."""
        self._veth("fabric", _port(name), name, UPLINK)
        self._set_link("fabric", _port(name), master=self._index("fabric", "segment"))
        return self._address(name, UPLINK, [_host(subnet, number) for subnet in SEGMENT])

    def _address(self, name: str, link: str, addresses: Sequence[str]) -> tuple[str, ...]:
        index = self._index(name, link)
        for address in addresses:
            ip, _, length = address.partition("/")
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            flags = {"flags": _IFA_F_NODAD} if family == socket.AF_INET6 else {}
            self._netlinks[name].addr("add", index=index, address=ip, prefixlen=int(length), family=family, **flags)
        return tuple(address.partition("/")[0] for address in addresses)

    def _routes(self, name: str, prefixes: Sequence[str], *, link: str, via: Sequence[str] = ()) -> None:
        """One route for each family: the first of *prefixes* is IPv4, the second IPv6."""
        index = self._index(name, link)
        for position, family in enumerate((socket.AF_INET, socket.AF_INET6)):
            prefix = prefixes[position]
            hop: dict[str, object] = {"gateway": via[position]} if via else {"scope": "link"}
            if family == socket.AF_INET6:
                hop.pop("scope", None)
            self._netlinks[name].route("add", family=family, dst=prefix, oif=index, **hop)

    def _kill(self, name: str) -> None:
        processes = self._processes.pop(name, [])
        for process in processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        for process in processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def _host(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network, number: int) -> str:
    """The *number*-th host; in IPv6 written so that it reads like the IPv4 one (…::11 for .11)."""
    offset = number if subnet.version == 4 else int(str(number), 16)
    return f"{subnet.network_address + offset}/{subnet.prefixlen}"


def _single(ip: str) -> str:
    return f"{ip}/{128 if ':' in ip else 32}"


def _port(name: str) -> str:
    return f"to-{name}"[:15]


def _new_namespace() -> int:
    """A descriptor of a new network namespace; made in a thread of its own, since making it means moving there."""
    made: list[int] = []

    def work() -> None:
        sandbox.unshare(sandbox.CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if not made:
        raise FabricError("no more network namespaces can be made: see sysctl user.max_net_namespaces")
    return made[0]


def _masquerade() -> None:
    """
    Be the CNI's masquerade, in the present namespace: whatever does not go to a Pod leaves with the node's address.

    As ip-masq-agent has it, without asking for the source, so it hits persistent addresses in both directions.
    A prefix of whole bytes is compared by loading only these, without a mask.
    """
    for nfproto, offset, subnet in ((2, 16, CLUSTER[0]), (10, 24, CLUSTER[1])):
        length = subnet.prefixlen // 8
        prefix = subnet.network_address.packed[:length]
        with NFTables(nfgen_family=nfproto) as nft:
            nft.table("add", name="cni")
            nft.chain("add", table="cni", name="postrouting", hook="postrouting", type="nat", priority=100, policy=1)
            nft.rule(
                "add",
                table="cni",
                chain="postrouting",
                expressions=(
                    [
                        genex("payload", {"dreg": 1, "base": 1, "offset": offset, "len": length}),
                        genex("cmp", {"sreg": 1, "op": 1, "data": {"attrs": [("NFTA_DATA_VALUE", prefix)]}}),
                    ],
                    masq(),
                ),
            )
