"""
How does a packet for an address reach its Pod?

In: a RouteEntry and the working copy of the last look.  Out: Steps, or an Outcome.
By a route of ours in table local, where it comes before the guest agent's, to a *pinned next hop*: an address that
stands for the Pod's hardware address by a permanent neighbour entry. Packets go to that hardware address, whoever has
the Pod's IP by then.

A route moves within the node without a gap:

    IPv4   neighbour for the new hop -> prepend the new route -> delete the old route -> drop the old neighbour
    IPv6   neighbour for the new hop -> replace the route                            -> drop the old neighbour
"""

from __future__ import annotations

from functools import lru_cache

from persistip.backends.linux import sysctls
from persistip.backends.linux.elements import read_record, write_record
from persistip.backends.linux.filtering import put_record, remove_record
from persistip.backends.linux.interning import KEPT
from persistip.backends.linux.links import Link
from persistip.backends.linux.neighbours import PERMANENT, Neighbour, delete_neighbour, put_neighbour
from persistip.backends.linux.routes import (
    TABLE_LOCAL,
    Route,
    add_route,
    delete_route,
    prepend_route,
    replace_route,
)
from persistip.backends.linux.snapshot import PROTOCOL, PROTOCOL_KERNEL, Snapshot, pinned_hop, pinned_hop_ipv4
from persistip.backends.linux.steps import ABSENT, PRESENT, Step, Steps, blocked, failed, link_gone
from persistip.backends.linux.sysctls import Setting
from persistip.model.actions import Outcome
from persistip.model.address import IPAddress, Prefix, show
from persistip.model.entry import RouteEntry

METRIC_IPV6 = 1
"""Lower than any that routes get by default, so that ours wins; above 0, which only the node's own addresses have."""

_HOP_ATTEMPTS = 64


def put_route(entry: RouteEntry, snapshot: Snapshot) -> Steps | Outcome:
    """Make the route stand and win, pinned to the Pod's hardware address; in place of ours for the prefix."""
    link = snapshot.links.get(entry.link.index)
    if link is None or link.name != entry.link.name:
        return link_gone(entry.link.name)
    link = snapshot.links[snapshot.carrier(link.index)]
    obstacle = obstacle_for(entry.prefix, snapshot)
    if obstacle:
        return _withdraw(entry.prefix, obstacle, snapshot)
    if entry.prefix.version == 6 and not link.ipv6_enabled:
        return failed(f"IPv6 is disabled on link {link.name} (net.ipv6.conf.{link.name}.disable_ipv6)")
    hop = _select_hop(entry, link, snapshot)
    if isinstance(hop, Outcome):
        return hop
    steps = Steps(settings=_forwarding(entry.prefix, link, snapshot), is_record=True)
    if entry.hardware_address:
        _put_hop(hop, entry.hardware_address, link, snapshot, steps)
    _place_route(_route(entry.prefix, hop, link), snapshot, steps)
    put_record(entry.prefix, write_record(entry.pod_ip, _port(entry, snapshot)), snapshot, steps)
    return steps


def _withdraw(prefix: Prefix, obstacle: str, snapshot: Snapshot) -> Steps:
    """What cannot win goes: it would lead nowhere, or take from the node an address that it was given since."""
    steps = Steps(is_record=True, outcome=blocked(obstacle))
    _take_out(snapshot.own_routes(prefix), prefix, snapshot, steps)
    return steps


def _port(entry: RouteEntry, snapshot: Snapshot) -> int:
    """The link as a port, where a bridge routes to it."""
    return entry.link.index if snapshot.carrier(entry.link.index) != entry.link.index else 0


def _route(prefix: Prefix, hop: IPAddress, link: Link) -> Route:
    return Route(
        prefix=prefix,
        link=link.index,
        gateway=hop,
        table=TABLE_LOCAL,
        protocol=PROTOCOL,
        metric=METRIC_IPV6 if prefix.version == 6 else 0,
        onlink=True,
    )


def obstacle_for(prefix: Prefix, snapshot: Snapshot) -> str:
    """
    Why a route of ours for *prefix* could not win, or nothing.

    A route of equal or lower metric wins for IPv6. For IPv4 ours is put before all others; but a prefix that is an
    address of the node itself is no one's to deliver.
    """
    for route in snapshot.routes.get(prefix, ()):
        if route.protocol == PROTOCOL:
            continue
        if route.protocol == PROTOCOL_KERNEL:
            return f"{show(prefix)} is an address of this node, on link {snapshot.link_ref(route.link).name}"
        if prefix.version == 6 and route.metric <= METRIC_IPV6:
            return (
                f"a foreign route for {show(prefix)} in table local (protocol {route.protocol}, metric {route.metric},"
                f" link {snapshot.link_ref(route.link).name}) comes before ours"
            )
    return ""


def _select_hop(entry: RouteEntry, link: Link, snapshot: Snapshot) -> IPAddress | Outcome:
    """
    The next hop that pins the Pod.

    On a link without hardware addresses there is one machine at the other end, so the Pod's IP does.
    """
    if not entry.hardware_address:
        if entry.prefix.version == 6 and entry.pod_ip.version == 4:
            return failed(f"{show(entry.prefix)} needs an IPv6 address of the Pod on link {link.name}")
        return entry.pod_ip
    candidates: list[IPAddress] = (
        [pinned_hop(entry.hardware_address)]
        if link.ipv6_enabled
        else [pinned_hop_ipv4(entry.hardware_address, attempt) for attempt in range(_HOP_ATTEMPTS)]
    )
    for hop in candidates:
        present = snapshot.neighbours.get((link.index, hop))
        if present is None or not present.state & PERMANENT:
            # What the kernel has learned by itself is a cache, and nobody's.
            return hop
        if present.protocol == PROTOCOL and present.hardware_address == entry.hardware_address:
            return hop
    return blocked(f"a foreign neighbour entry for {candidates[0]} stands on link {link.name}")


def _put_hop(hop: IPAddress, hardware_address: str, link: Link, snapshot: Snapshot, steps: Steps) -> None:
    wanted = Neighbour(
        address=hop, link=link.index, hardware_address=hardware_address, state=PERMANENT, protocol=PROTOCOL
    )
    if snapshot.neighbours.get((wanted.link, hop)) != wanted:
        steps.routes.append(Step(put_neighbour(wanted)))
        snapshot.neighbours[wanted.link, hop] = wanted


def _place_route(route: Route, snapshot: Snapshot, steps: Steps) -> None:
    present = snapshot.routes.setdefault(route.prefix, [])
    own = [each for each in present if each.protocol == PROTOCOL]
    others = [each for each in own if each != route]
    if route.prefix.version == 6:
        rivals = [each for each in others if each.metric == route.metric]
        if rivals:
            steps.routes.append(Step(replace_route(route)))
        elif route not in own:
            steps.routes.append(Step(add_route(route)))
        others = [each for each in others if each.metric != route.metric]
    elif present[:1] != [route]:
        if route in own:
            # Ours stands behind another's, where it serves nobody; it cannot be prepended while it is there.
            steps.routes.append(Step(delete_route(route), ABSENT))
        steps.routes.append(Step(prepend_route(route), PRESENT))
    steps.routes += [Step(delete_route(each), ABSENT) for each in others]
    snapshot.routes[route.prefix] = [route, *(each for each in present if each.protocol != PROTOCOL)]
    snapshot.count_hop(route, +1)
    for each in own:
        snapshot.count_hop(each, -1)
        _drop_unused_hop(each, snapshot, steps)


def _drop_unused_hop(route: Route, snapshot: Snapshot, steps: Steps) -> None:
    """A pinned neighbour goes with the last route of ours through it."""
    if route.gateway is None:
        return
    neighbour = snapshot.neighbours.get((route.link, route.gateway))
    if neighbour is None or neighbour.protocol != PROTOCOL:
        return
    if snapshot.hop_uses[route.link, route.gateway] > 0:
        return
    steps.routes.append(Step(delete_neighbour(neighbour), ABSENT))
    del snapshot.neighbours[route.link, route.gateway]


def remove_route(entry: RouteEntry, snapshot: Snapshot) -> Steps:
    """Take our route to that Pod out; one that was put since for another Pod of the prefix stays."""
    steps = Steps(is_record=True)
    pod_ip, port = read_record(snapshot.rules.pods.get(entry.prefix, ""))
    if pod_ip is not None and not entry.pod_ip.is_unspecified and pod_ip != entry.pod_ip:
        return steps
    own = snapshot.own_routes(entry.prefix)
    gone = [
        route
        for place, route in enumerate(own)
        if _is_by(entry.link.index, route, port if place == 0 else 0, snapshot)
        and hardware_address_of(route, snapshot) == entry.hardware_address
    ]
    _take_out(gone, entry.prefix, snapshot, steps)
    return steps


def _take_out(gone: list[Route], prefix: Prefix, snapshot: Snapshot, steps: Steps) -> None:
    """The routes, the neighbours that they alone needed, and with the last of them the record."""
    if not gone:
        return
    steps.routes += [Step(delete_route(route), ABSENT) for route in gone]
    left = [route for route in snapshot.routes[prefix] if route not in gone]
    if left:
        snapshot.routes[prefix] = left
    else:
        del snapshot.routes[prefix]
    for route in gone:
        snapshot.count_hop(route, -1)
        _drop_unused_hop(route, snapshot, steps)
    if not snapshot.own_routes(prefix):
        remove_record(prefix, snapshot, steps)


def _is_by(link: int, route: Route, port: int, snapshot: Snapshot) -> bool:
    """Whether the route leads to a Pod behind *link*: the route's own, the port recorded, or a port of its bridge."""
    if port:
        return link == port
    return route.link in (link, snapshot.carrier(link))


def hardware_address_of(route: Route, snapshot: Snapshot) -> str:
    """
    Which hardware address a route of ours is pinned to, by its next hop; empty on links without.

    The next hop itself tells it, so that a route whose neighbour entry was lost is still known; only the short form
    of links without IPv6 has to be looked up.
    """
    if route.gateway is None:
        return ""
    address = _address_in(route.gateway)
    if address:
        return address
    neighbour = snapshot.neighbours.get((route.link, route.gateway))
    return neighbour.hardware_address if neighbour is not None and neighbour.protocol == PROTOCOL else ""


@lru_cache(maxsize=KEPT)
def _address_in(hop: IPAddress) -> str:
    """The hardware address that the long form of next hop spells out."""
    packed = hop.packed
    return packed[10:].hex(":") if packed[:10] == _HOP_START else ""


_HOP_START = pinned_hop("00:00:00:00:00:00").packed[:10]


def _forwarding(prefix: Prefix, link: Link, snapshot: Snapshot) -> list[Setting]:
    """Forwarding for the family, on the links that the packets come by."""
    names = [uplink.name for uplink in snapshot.uplinks]
    if prefix.version == 6:
        return [] if snapshot.is_forwarding[6] else sysctls.forwarding_ipv6(names)
    names.append(link.name)
    return [] if is_forwarding_ipv4(link.index, snapshot) else sysctls.forwarding_ipv4(names)


def is_forwarding_ipv4(link: int, snapshot: Snapshot) -> bool:
    """Whether IPv4 is forwarded from every uplink and from *link*."""
    links = (*snapshot.uplink_indexes, link)
    return snapshot.is_forwarding[4] and all(
        snapshot.links[index].ipv4_forwarding for index in links if index in snapshot.links
    )
