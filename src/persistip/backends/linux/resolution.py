"""
Behind which link and hardware address does a Pod live?

In: Pod IPs and a Snapshot.  Out: PodLinks; as a side effect the kernel is made to ask where it does not know.
The kernel's own routes say the link, whatever CNI made them: an IP that is reached by a gateway or an uplink is no
Pod of this node. The neighbour table says the hardware address, but an entry that nobody has confirmed may be the
previous owner's: it is believed only once the neighbour itself has answered, or where it agrees with what was
believed before. On a bridge the Pod's link is its port, since the bridge is everybody's: the one that was believed
before while it is there, else the one that the bridge has learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from persistip.backends.linux import neighbours
from persistip.backends.linux.elements import read_record
from persistip.backends.linux.links import Link
from persistip.backends.linux.neighbours import Neighbour
from persistip.backends.linux.routes import TYPE_UNICAST, Route, find_route
from persistip.backends.linux.snapshot import PROTOCOL, Snapshot
from persistip.backends.linux.sockets import Message, NetlinkSocket, Refusal
from persistip.model.address import IPAddress
from persistip.model.entry import Pin, PodLink

Believed = tuple[int, str]
"""Index of a Pod's link, and its hardware address."""


class Resolver:
    """Finds Pods; remembers what was believed of each since it was made."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._believed: dict[tuple[int, IPAddress], Believed] = {}
        self._silent: frozenset[tuple[int, IPAddress]] = frozenset()
        self.awaited: frozenset[tuple[int, IPAddress]] = frozenset()
        """Who was asked for the first time by the latest resolve that asked, and has not answered."""

    def resolve(
        self, pod_ips: Iterable[IPAddress], snapshot: Snapshot, pins: Iterable[Pin], *, is_asking: bool = True
    ) -> Mapping[IPAddress, PodLink]:
        """
        The links of those of *pod_ips* that live on this node; not *is_asking*: whoever is silent was just asked.

        What is recorded in a pin, or with a route of ours, counts as believed: it was, before it was recorded.
        """
        uplinks = snapshot.uplink_indexes
        pinned = {(pin.link.index, pin.hardware_address) for pin in pins}
        recorded = _recorded_ports(snapshot)
        found: dict[IPAddress, PodLink] = {}
        questions: dict[tuple[int, IPAddress], Message] = {}
        believed: dict[tuple[int, IPAddress], Believed] = {}
        for ip in pod_ips:
            route = find_route(self._netlink, ip)
            if isinstance(route, Refusal) or not _is_direct(route) or route.link in uplinks:
                continue
            link = snapshot.links.get(route.link)
            if link is None or link.is_loopback:
                continue
            if not link.is_ethernet:
                found[ip] = PodLink(ip=ip, link=snapshot.link_ref(link.index), hardware_address="")
                continue
            neighbour = snapshot.neighbours.get((link.index, ip))
            belief = self._believe(neighbour, link, snapshot, pinned)
            if belief is None:
                questions[link.index, ip] = _question(neighbour, ip, link.index)
                port, _address = self._believed.get((link.index, ip), (recorded.get(ip, 0), ""))
                silent = port if snapshot.carrier(port) == link.index else link.index
                found[ip] = PodLink(ip=ip, link=snapshot.link_ref(silent), hardware_address=None)
            else:
                believed[link.index, ip] = belief
                found[ip] = PodLink(ip=ip, link=snapshot.link_ref(belief[0]), hardware_address=belief[1])
        self._believed = believed
        if is_asking:
            # A refusal here is no failure: the link has just gone, and the next look will say so.
            self._netlink.request(list(questions.values()))
            self.awaited = frozenset(questions) - self._silent
        else:
            self.awaited &= questions.keys()
        self._silent = frozenset(questions)
        return found

    def knows(self, link: int, ip: IPAddress) -> str | None:
        """The hardware address believed last of *ip*, which the node's routes seek on *link*."""
        belief = self._believed.get((link, ip))
        return None if belief is None else belief[1]

    def _believe(
        self, neighbour: Neighbour | None, link: Link, snapshot: Snapshot, pinned: set[Believed]
    ) -> Believed | None:
        if neighbour is None or not neighbour.state & neighbours.HAS_ADDRESS or not neighbour.hardware_address:
            return None
        address = neighbour.hardware_address
        known = self._believed.get((link.index, neighbour.address))
        former = [known] if known is not None and known[1] == address else []
        former += [belief for belief in pinned if belief[1] == address and snapshot.carrier(belief[0]) == link.index]
        for belief in former:
            # While its port is there the Pod is believed to be behind it: what a bridge learns can be forged.
            if belief[0] in snapshot.links and snapshot.carrier(belief[0]) == link.index:
                return belief
        if neighbour.state & neighbours.CONFIRMED:
            return snapshot.ports.get((link.index, address), link.index), address
        return None


def _recorded_ports(snapshot: Snapshot) -> dict[IPAddress, int]:
    records = map(read_record, snapshot.rules.pods.values())
    return {ip: port for ip, port in records if ip is not None and port}


def _is_direct(route: Route) -> bool:
    """Whether the destination itself is the neighbour; our own routes do not answer the question where a Pod lives."""
    return route.type == TYPE_UNICAST and route.gateway is None and route.link != 0 and route.protocol != PROTOCOL


def _question(neighbour: Neighbour | None, ip: IPAddress, link: int) -> Message:
    """Ask the one that is said to have the IP, at once, or whoever has it."""
    if neighbour is not None and neighbour.state & (neighbours.STALE | neighbours.DELAY):
        return neighbours.probe_neighbour(neighbour)
    return neighbours.resolve_neighbour(ip, link)
