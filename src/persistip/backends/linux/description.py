"""
Which of our entries are in the kernel, and whole?

In: a Snapshot.  Out: the entries of a NodeState.
An entry is whole when a packet would find all of it: a route that wins and whose pinned neighbour stands, a guard
whose rules are unaltered, a proxy entry that the kernel would answer by. What is ours and not whole is *stale*: the
next plan puts it again or removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from persistip.backends.linux.delivery import hardware_address_of, is_forwarding_ipv4, obstacle_for
from persistip.backends.linux.elements import read_record
from persistip.backends.linux.neighbours import PERMANENT
from persistip.backends.linux.routes import Route
from persistip.backends.linux.snapshot import PROTOCOL, Snapshot
from persistip.model.address import IPAddress, Prefix, is_within, show
from persistip.model.entry import Entry, ExemptEntry, GuardEntry, LinkRef, Obstacle, ProxyEntry, RouteEntry


def describe(snapshot: Snapshot) -> tuple[frozenset[Entry], frozenset[Entry], tuple[Obstacle, ...]]:
    """Entries that are whole, entries that are not, and what is in the way of either."""
    whole: set[Entry] = set()
    stale: set[Entry] = set()
    for describer in (_routes, _guards, _exempts, _proxies):
        for entry, is_whole in describer(snapshot):
            (whole if is_whole else stale).add(entry)
    return frozenset(whole), frozenset(stale - whole), tuple(_obstacles(snapshot, whole | stale))


def _routes(snapshot: Snapshot) -> Iterator[tuple[Entry, bool]]:
    refs = {index: snapshot.link_ref(index) for index in snapshot.links}
    is_table_whole = snapshot.rules.is_whole
    for prefix, routes in snapshot.routes.items():
        for place, route in enumerate(routes):
            if route.protocol != PROTOCOL:
                continue
            pod_ip, port = read_record(snapshot.rules.pods.get(prefix, "")) if place == 0 else (None, 0)
            link = port or route.link
            entry = RouteEntry(
                prefix=prefix,
                link=refs.get(link) or LinkRef("", link),
                hardware_address=hardware_address_of(route, snapshot),
                pod_ip=pod_ip if pod_ip is not None else _unknown(prefix),
            )
            is_there = snapshot.carrier(link) == route.link and pod_ip is not None
            yield entry, place == 0 and is_table_whole and is_there and _delivers(route, snapshot)


def _unknown(prefix: Prefix) -> IPAddress:
    return IPv4Address(0) if prefix.version == 4 else IPv6Address(0)


def _delivers(route: Route, snapshot: Snapshot) -> bool:
    link = snapshot.links.get(route.link)
    if link is None or not link.is_up or route.gateway is None:
        return False
    is_forwarding = is_forwarding_ipv4(route.link, snapshot) if route.prefix.version == 4 else snapshot.is_forwarding[6]
    if not is_forwarding:
        return False
    if not link.is_ethernet:
        return True
    neighbour = snapshot.neighbours.get((route.link, route.gateway))
    return (
        neighbour is not None
        and neighbour.protocol == PROTOCOL
        and neighbour.state == PERMANENT
        and neighbour.hardware_address == hardware_address_of(route, snapshot)
    )


def _guards(snapshot: Snapshot) -> Iterator[tuple[Entry, bool]]:
    """A guard on a port of a bridge stands in both tables; what routes to the bridge is then a part of it."""
    rules, port_rules = snapshot.rules, snapshot.port_rules
    is_whole = rules.is_whole and rules.uplinks == snapshot.uplink_indexes
    is_port_whole = is_whole and port_rules.is_whole and port_rules.uplinks == snapshot.uplink_ports
    parts = set()
    for port, hardware_address, prefix in port_rules.owners:
        part = (snapshot.carrier(port), hardware_address, prefix)
        parts.add(part)
        is_there = part[0] != port and part in rules.owners
        is_guarded = prefix in rules.guarded and prefix in port_rules.guarded
        entry = GuardEntry(prefix=prefix, link=snapshot.link_ref(port), hardware_address=hardware_address)
        yield entry, is_port_whole and is_there and is_guarded
    for link, hardware_address, prefix in rules.owners - parts:
        entry = GuardEntry(prefix=prefix, link=snapshot.link_ref(link), hardware_address=hardware_address)
        yield entry, is_whole and link in snapshot.links and prefix in rules.guarded
    for guarded in (rules, port_rules):
        for prefix in guarded.guarded - {prefix for _link, _address, prefix in guarded.owners}:
            # A prefix that nobody may use as a source: left by a change that was broken off.
            yield GuardEntry(prefix=prefix, link=LinkRef("", 0), hardware_address=""), False


def _exempts(snapshot: Snapshot) -> Iterator[tuple[Entry, bool]]:
    for prefix in snapshot.rules.exempt:
        yield ExemptEntry(prefix), snapshot.rules.is_whole


def _proxies(snapshot: Snapshot) -> Iterator[tuple[Entry, bool]]:
    for (link, address), neighbour in snapshot.proxies.items():
        if neighbour.protocol != PROTOCOL:
            continue
        prefix: Prefix
        prefix = IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)
        entry = ProxyEntry(prefix=prefix, link=snapshot.link_ref(link))
        yield entry, link in snapshot.links and snapshot.is_answering.get((link, prefix.version), False)


def _obstacles(snapshot: Snapshot, entries: set[Entry]) -> Iterator[Obstacle]:
    """
    What keeps packets for a prefix of ours from its Pod.

    For a prefix of more than one address also foreign routes inside it, which win by their length.
    """
    prefixes = {entry.prefix for entry in entries if isinstance(entry, RouteEntry)}
    for prefix in sorted(prefixes, key=str):
        message = obstacle_for(prefix, snapshot)
        if message:
            yield Obstacle(prefix=prefix, message=message)
    wide = [prefix for prefix in prefixes if prefix.prefixlen < prefix.max_prefixlen]
    for prefix, routes in snapshot.routes.items() if wide else ():
        if all(route.protocol == PROTOCOL for route in routes):
            continue
        for outer in wide:
            if prefix != outer and is_within(prefix, outer):
                message = f"a foreign route for {show(prefix)} in table local takes a part of {outer}"
                yield Obstacle(prefix=outer, message=message)
