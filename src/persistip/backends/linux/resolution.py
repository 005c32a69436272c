"""
Behind which link and hardware address does a Pod live?

In: Pod IPs and a Snapshot.  Out: PodLinks; as a side effect the kernel is made to ask where it does not know.
The kernel's own routes say the link, whatever CNI made them: an IP that is reached by a gateway or an uplink is no
Pod of this node. The neighbour table says the hardware address, but an entry that nobody has confirmed may be the
previous owner's: it is believed only once the neighbour itself has answered, or where it agrees with what was
believed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from persistip.backends.linux import neighbours
from persistip.backends.linux.neighbours import Neighbour
from persistip.backends.linux.routes import TYPE_UNICAST, Route, find_route
from persistip.backends.linux.snapshot import PROTOCOL, Snapshot
from persistip.backends.linux.sockets import Message, NetlinkSocket, Refusal
from persistip.model.address import IPAddress
from persistip.model.entry import LinkRef, Pin, PodLink


class Resolver:
    """Finds Pods; remembers which hardware addresses were confirmed since it was made."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._confirmed: dict[tuple[int, IPAddress], str] = {}

    def resolve(
        self, pod_ips: Iterable[IPAddress], snapshot: Snapshot, pins: Iterable[Pin]
    ) -> Mapping[IPAddress, PodLink]:
        """
        The links of those of *pod_ips* that live on this node.

        A hardware address recorded in a pin on the same link counts as confirmed: it was, before it was recorded.
        """
        pinned = {(pin.link.index, pin.hardware_address) for pin in pins}
        uplinks = {uplink.index for uplink in snapshot.uplinks}
        found: dict[IPAddress, PodLink] = {}
        questions: list[Message] = []
        confirmed: dict[tuple[int, IPAddress], str] = {}
        for ip in pod_ips:
            route = find_route(self._netlink, ip)
            if isinstance(route, Refusal) or not _is_direct(route) or route.link in uplinks:
                continue
            link = snapshot.links.get(route.link)
            if link is None or link.is_loopback:
                continue
            hardware_address: str | None = ""
            if link.is_ethernet:
                neighbour = snapshot.neighbours.get((link.index, ip))
                hardware_address = self._believe(neighbour, pinned)
                if hardware_address is None:
                    questions.append(_question(neighbour, ip, link.index))
                else:
                    confirmed[link.index, ip] = hardware_address
            found[ip] = PodLink(ip=ip, link=LinkRef(link.name, link.index), hardware_address=hardware_address)
        self._confirmed = confirmed
        # A refusal here is no failure: the link has just gone, and the next look will say so.
        self._netlink.request(questions)
        return found

    def knows(self, link: int, ip: IPAddress) -> str | None:
        """The hardware address believed last."""
        return self._confirmed.get((link, ip))

    def _believe(self, neighbour: Neighbour | None, pinned: set[tuple[int, str]]) -> str | None:
        if neighbour is None or not neighbour.state & neighbours.HAS_ADDRESS or not neighbour.hardware_address:
            return None
        if neighbour.state & neighbours.CONFIRMED:
            return neighbour.hardware_address
        known = self._confirmed.get((neighbour.link, neighbour.address))
        if neighbour.hardware_address == known or (neighbour.link, neighbour.hardware_address) in pinned:
            return neighbour.hardware_address
        return None


def _is_direct(route: Route) -> bool:
    """Whether the destination itself is the neighbour; our own routes do not answer the question where a Pod lives."""
    return route.type == TYPE_UNICAST and route.gateway is None and route.link != 0 and route.protocol != PROTOCOL


def _question(neighbour: Neighbour | None, ip: IPAddress, link: int) -> Message:
    """Ask the one that is said to have the IP, at once, or whoever has it."""
    if neighbour is not None and neighbour.state & (neighbours.STALE | neighbours.DELAY):
        return neighbours.probe_neighbour(neighbour)
    return neighbours.resolve_neighbour(ip, link)
