"""
What would a packet do? Nodes, Pods and the segment between them, without a kernel.

    outside ── neighbour cache ── who answers ──> node ── RouteEntry ── link, hardware address ──> Pod
    outside <── masquerade unless exempt <── node <── GuardEntry, reverse path <── link <── Pod

In: entries that datapaths put, frames that announcers send, faults that tests inject.  Out: what becomes of one packet,
as ``Delivered`` or ``Dropped`` with the reason. Rules are the Linux kernel's where this says nothing: the last
announcement wins in a neighbour's cache; a cached neighbour is used until forgotten, even when it answers no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_network

import attrs

from persistip.model.actions import DatapathAction, Outcome
from persistip.model.address import IPAddress, Prefix, is_overlapping, is_within
from persistip.model.entry import (
    Announcement,
    Entry,
    ExemptEntry,
    GuardEntry,
    LinkRef,
    Obstacle,
    Pin,
    ProxyEntry,
    RouteEntry,
)


@attrs.frozen
class Delivered:
    """The packet arrived: at Pod *pod* of *node*, or outside, showing *source*."""

    pod: str
    node: str
    source: IPAddress


@attrs.frozen
class Dropped:
    """The packet was lost at *node* (empty: before any node), and why."""

    node: str
    reason: str


@attrs.frozen
class FabricPod:
    """A Pod on the fabric; its link and hardware address are the node's view of it."""

    name: str
    node: str
    ips: tuple[IPAddress, ...]
    link: LinkRef
    hardware_address: str
    is_mute: bool = False
    """It answers no neighbour's question at the moment."""


class FabricNode:
    """One node's kernel: it outlives every datapath that works on it."""

    def __init__(self, name: str, ip: IPAddress, uplinks: tuple[LinkRef, ...]) -> None:
        self.name = name
        self.ip = ip
        self.uplinks = uplinks
        self.gateways: frozenset[IPAddress] = frozenset()
        self.is_up = True
        self.masquerades = True
        self.entries: set[Entry] = set()
        self.stale: set[Entry] = set()
        self.pins: set[Pin] = set()
        self.obstacles: dict[Prefix, Obstacle] = {}
        self.announced: frozenset[Announcement] = frozenset()
        self.failure: Callable[[DatapathAction], Outcome | None] = lambda _: None
        self._listeners: dict[asyncio.Event, None] = {}  # in order, so that a story can be told twice

    def listen(self) -> asyncio.Event:
        """An event that is set whenever something here changes."""
        event = asyncio.Event()
        self._listeners[event] = None
        return event

    def unlisten(self, event: asyncio.Event) -> None:
        """End what ``listen`` began."""
        self._listeners.pop(event, None)

    def wake(self) -> None:
        """Something changed."""
        for event in self._listeners:
            event.set()


class MemoryFabric:
    """
    Nodes on one layer-2 segment with a router outside.

    ``leads`` takes the segment's place: a cloud, which alone says to which node it delivers the packets for an address.
    """

    def __init__(self) -> None:
        self.leads: Callable[[IPAddress], str | None] | None = None
        self._nodes: dict[str, FabricNode] = {}
        self._pods: dict[str, FabricPod] = {}
        self._neighbours: dict[IPAddress, str] = {}
        self._last_index = 0

    # ------------------------------------------------------------ the world
    def add_node(self, name: str, ip: IPAddress, *, uplinks: Iterable[str] = ("eth0",)) -> FabricNode:
        """A node with its own *ip* and links towards the segment."""
        node = FabricNode(name, ip, tuple(self._new_link(uplink) for uplink in uplinks))
        self._nodes[name] = node
        return node

    def node(self, name: str) -> FabricNode:
        """The node of that name; KeyError when there is none."""
        return self._nodes[name]

    def add_pod(self, node: str, name: str, ips: Iterable[IPAddress]) -> FabricPod:
        """Start a Pod: a new link on *node*, with a hardware address that no other Pod ever had."""
        link = self._new_link("veth")
        pod = FabricPod(name, node, tuple(ips), link, f"02:00:00:00:{link.index >> 8:02x}:{link.index & 255:02x}")
        self._pods[name] = pod
        self._nodes[node].wake()
        return pod

    def remove_pod(self, name: str) -> None:
        """The Pod and its link go, and with the link what rests on it."""
        pod = self._pods.pop(name)
        self._drop_link(self._nodes[pod.node], pod.link)

    def pod_at(self, node: str, ip: IPAddress) -> FabricPod | None:
        """The Pod on *node* that answers for *ip*; the last one started, where several do."""
        return next((pod for pod in reversed(self._pods.values()) if pod.node == node and ip in pod.ips), None)

    def has_link(self, node: str, link: LinkRef) -> bool:
        """Whether *link* is a Pod's on *node* now."""
        return any(pod.node == node and pod.link == link for pod in self._pods.values())

    # ------------------------------------------------------------ packets
    def send(self, to: IPAddress, *, source: IPAddress) -> Delivered | Dropped:
        """A packet from outside."""
        node = self._next_hop(to)
        if node is None:
            said = f"nobody answers for {to}" if self.leads is None else f"the cloud leads {to} nowhere"
            return Dropped("", said)
        if not node.is_up:
            return Dropped(node.name, "the node is down")
        obstacle = next((each for prefix, each in node.obstacles.items() if is_within(ip_network(to), prefix)), None)
        route = _longest(node.entries, RouteEntry, to)
        if obstacle is not None and (route is None or obstacle.prefix.prefixlen >= route.prefix.prefixlen):
            return Dropped(node.name, obstacle.message)
        if not isinstance(route, RouteEntry):
            return Dropped(node.name, f"no route for {to}")
        pod = self._pod_behind(node, route.link, route.hardware_address)
        if pod is None:
            return Dropped(node.name, f"nobody at {route.hardware_address} on {route.link.name}")
        return Delivered(pod.name, node.name, source)

    def send_from(self, pod_name: str, source: IPAddress) -> Delivered | Dropped:
        """A packet from a Pod to the outside, with *source* as its source address."""
        pod = self._pods[pod_name]
        node = self._nodes[pod.node]
        if not node.is_up:
            return Dropped(node.name, "the node is down")
        if source not in pod.ips:
            why = self._source_refusal(node, pod, source)
            if why is not None:
                return Dropped(node.name, why)
        if (
            node.masquerades
            and _longest(node.entries, ExemptEntry, source) is None
            and source.version == node.ip.version
        ):
            return Delivered(pod.name, node.name, node.ip)
        return Delivered(pod.name, node.name, source)

    def _source_refusal(self, node: FabricNode, pod: FabricPod, source: IPAddress) -> str | None:
        guards = [
            entry
            for entry in node.entries
            if isinstance(entry, GuardEntry) and entry.prefix.version == source.version and source in entry.prefix
        ]
        own = [guard for guard in guards if (guard.link, guard.hardware_address) == (pod.link, pod.hardware_address)]
        if guards and not own:
            return f"{source} is guarded for another Pod"
        route = _longest(node.entries, RouteEntry, source)
        # IPv6 knows no reverse path filter: without a guard nothing stops the packet.
        if source.version == 4 and not (isinstance(route, RouteEntry) and route.link == pod.link):
            return f"no route back to {source} by {pod.link.name}"
        return None

    def _next_hop(self, ip: IPAddress) -> FabricNode | None:
        """
        Where the cloud sends it, if there is one.

        Else the cached neighbour, else whoever answers now; of several the last by name, whose reply comes last.
        """
        if self.leads is not None:
            return self._nodes.get(self.leads(ip) or "")
        cached = self._neighbours.get(ip)
        if cached is not None:
            return self._nodes[cached]
        answering = [name for name in sorted(self._nodes) if self.answers(name, ip)]
        if not answering:
            return None
        self._neighbours[ip] = answering[-1]
        return self._nodes[answering[-1]]

    def answers(self, node_name: str, ip: IPAddress) -> bool:
        """Whether *node_name* would answer a neighbour's question for *ip*."""
        node = self._nodes[node_name]
        single = ip_network(ip)
        return node.is_up and any(
            isinstance(entry, ProxyEntry) and entry.prefix == single and entry.link in node.uplinks
            for entry in node.entries
        )

    def answering(self, ip: IPAddress) -> tuple[str, ...]:
        """Every node that would answer for *ip*, by name."""
        return tuple(name for name in sorted(self._nodes) if self.answers(name, ip))

    def _pod_behind(self, node: FabricNode, link: LinkRef, hardware_address: str) -> FabricPod | None:
        for pod in self._pods.values():
            if (pod.node, pod.link, pod.hardware_address) == (node.name, link, hardware_address):
                return pod
        return None

    # ------------------------------------------------------------ neighbours
    def announce(self, node_name: str, announcement: Announcement) -> None:
        """One frame: every neighbour's cache now names this node."""
        if self._nodes[node_name].is_up:
            self._neighbours[_address(announcement.prefix)] = node_name

    def repeat_announcements(self) -> None:
        """What time does: every announcer repeats what it announces, in the order of the nodes' names."""
        for name in sorted(self._nodes):
            for announcement in sorted(self._nodes[name].announced, key=repr):
                self.announce(name, announcement)

    def forget_neighbours(self) -> None:
        """Caches run out: the next packet asks again."""
        self._neighbours.clear()

    # ------------------------------------------------------------ faults
    def cut(self, node_name: str) -> None:
        """The node's uplinks are cut."""
        self._nodes[node_name].is_up = False

    def mend(self, node_name: str) -> None:
        """The node's uplinks carry frames again."""
        self._nodes[node_name].is_up = True

    def obstruct(self, node_name: str, prefix: Prefix, message: str) -> None:
        """Something foreign stands in the way: what of ours it shadows is no longer whole."""
        node = self._nodes[node_name]
        node.obstacles[prefix] = Obstacle(prefix=prefix, message=message)
        shadowed = {
            entry for entry in node.entries if isinstance(entry, RouteEntry) and is_overlapping(entry.prefix, prefix)
        }
        node.entries -= shadowed
        node.stale |= shadowed
        node.wake()

    def clear(self, node_name: str, prefix: Prefix) -> None:
        """The foreign thing is gone."""
        node = self._nodes[node_name]
        del node.obstacles[prefix]
        freed = {
            entry for entry in node.stale if isinstance(entry, RouteEntry) and is_overlapping(entry.prefix, prefix)
        }
        node.stale -= freed
        node.entries |= freed
        node.wake()

    def lose(self, node_name: str, entry: Entry) -> None:
        """Drift: somebody removed our entry."""
        node = self._nodes[node_name]
        node.entries.discard(entry)
        node.stale.discard(entry)
        node.wake()

    def damage(self, node_name: str, entry: Entry) -> None:
        """Drift: our entry is there and no longer whole."""
        node = self._nodes[node_name]
        node.entries.remove(entry)
        node.stale.add(entry)
        node.wake()

    def recreate_link(self, pod_name: str, hardware_address: str | None = None) -> FabricPod:
        """The Pod's link is made anew under the same name, with another index and hardware address."""
        old = self._pods[pod_name]
        self._drop_link(self._nodes[old.node], old.link)
        self._last_index += 1
        link = LinkRef(old.link.name, self._last_index)
        fresh = hardware_address or f"02:00:00:01:{link.index >> 8:02x}:{link.index & 255:02x}"
        self._pods[pod_name] = FabricPod(old.name, old.node, old.ips, link, fresh)
        self._nodes[old.node].wake()
        return self._pods[pod_name]

    def mute(self, pod_name: str, *, is_mute: bool = True) -> None:
        """The Pod stops to answer for its IPs, or answers again."""
        pod = attrs.evolve(self._pods[pod_name], is_mute=is_mute)
        self._pods[pod_name] = pod
        self._nodes[pod.node].wake()

    def fail(self, node_name: str, failure: Callable[[DatapathAction], Outcome | None]) -> None:
        """From now on an action for which *failure* returns an Outcome is not carried out and gets that Outcome."""
        self._nodes[node_name].failure = failure

    def _drop_link(self, node: FabricNode, link: LinkRef) -> None:
        # The kernel removes routes with their link; a guard is a rule and stays until somebody removes it.
        for entries in (node.entries, node.stale):
            entries -= {entry for entry in entries if isinstance(entry, RouteEntry | ProxyEntry) and entry.link == link}
        node.wake()

    def _new_link(self, name: str) -> LinkRef:
        self._last_index += 1
        return LinkRef(f"veth{self._last_index}" if name == "veth" else name, self._last_index)


def _longest(entries: Iterable[Entry], kind: type[RouteEntry | ExemptEntry], ip: IPAddress) -> Entry | None:
    """The entry of that kind with the longest prefix that holds *ip*."""
    matching = [
        entry
        for entry in entries
        if isinstance(entry, kind) and entry.prefix.version == ip.version and ip in entry.prefix
    ]
    return max(matching, key=lambda entry: entry.prefix.prefixlen, default=None)


def _address(prefix: Prefix) -> IPAddress:
    return prefix.network_address
