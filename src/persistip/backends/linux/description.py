"""
Which of our entries are in the kernel, and whole?

In: a Snapshot.  Out: the entries of a NodeState.
An entry is whole when a packet would find all of it: a route that wins and whose pinned neighbour stands, a guard
whose rules are unaltered, a proxy entry that the kernel would answer by. What is ours and not whole is *stale*: the
next plan puts it again or removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from persistip.backends.linux.delivery import hardware_address_of, is_forwarding_ipv4, obstacle_for
from persistip.backends.linux.elements import read_record
from persistip.backends.linux.interning import prefix_from
from persistip.backends.linux.neighbours import PERMANENT
from persistip.backends.linux.routes import Route
from persistip.backends.linux.snapshot import PROTOCOL, Owner, Snapshot
from persistip.model.address import IPAddress, Prefix, is_within, show, sort_key
from persistip.model.entry import Entry, ExemptEntry, GuardEntry, LinkRef, Obstacle, ProxyEntry, RouteEntry

_UNKNOWN: dict[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}
"""In place of a Pod IP that nothing tells."""


def describe(
    snapshot: Snapshot, asked: frozenset[Prefix] = frozenset()
) -> tuple[frozenset[Entry], frozenset[Entry], tuple[Obstacle, ...]]:
    """Entries that are whole, entries that are not, and what is in the way of them or of the prefixes *asked* for."""
    whole: set[Entry] = set()
    stale: set[Entry] = set()
    refs = _LinkRefs(snapshot)
    for describer in (_routes, _guards, _exempts, _proxies):
        for entry, is_whole in describer(snapshot, refs):
            (whole if is_whole else stale).add(entry)
    obstacles = sorted(
        _obstacles(snapshot, whole | stale, asked), key=lambda each: (sort_key(each.prefix), each.message)
    )
    return frozenset(whole), frozenset(stale - whole), tuple(obstacles)


class _LinkRefs(dict[int, LinkRef]):
    """References to links by index, each made once."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot

    def __missing__(self, index: int) -> LinkRef:
        self[index] = made = self._snapshot.link_ref(index)
        return made


class _Forwarding(dict[int, bool]):
    """Whether IPv4 is forwarded towards a link, found out once for each."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot

    def __missing__(self, index: int) -> bool:
        self[index] = found = is_forwarding_ipv4(index, self._snapshot)
        return found


def _routes(snapshot: Snapshot, refs: _LinkRefs) -> Iterator[tuple[Entry, bool]]:
    """The record is of the route put last, which is the first of ours; others were left by a change broken off."""
    forwarding, pods = _Forwarding(snapshot), snapshot.rules.pods
    is_table_whole = snapshot.rules.is_whole
    for prefix, routes in snapshot.routes.items():
        record = pods.get(prefix, "")
        for place, route in enumerate(routes):
            if route.protocol != PROTOCOL:
                continue
            pod_ip, port = read_record(record)
            record = ""
            link = port or route.link
            hardware_address = hardware_address_of(route, snapshot)
            entry = RouteEntry(
                prefix=prefix,
                link=refs[link],
                hardware_address=hardware_address,
                pod_ip=_UNKNOWN[prefix.version] if pod_ip is None else pod_ip,
            )
            is_first = place == 0 and pod_ip is not None and is_table_whole
            is_first = is_first and (len(routes) == 1 or not obstacle_for(prefix, snapshot))
            is_there = is_first and snapshot.carrier(link) == route.link
            yield entry, is_there and _delivers(route, hardware_address, snapshot, forwarding)


def _delivers(route: Route, hardware_address: str, snapshot: Snapshot, forwarding: _Forwarding) -> bool:
    link = snapshot.links.get(route.link)
    if link is None or not link.is_up or route.gateway is None:
        return False
    if not (forwarding[route.link] if route.prefix.version == 4 else snapshot.is_forwarding[6]):
        return False
    if not link.is_ethernet:
        return True
    neighbour = snapshot.neighbours.get((route.link, route.gateway))
    return (
        neighbour is not None
        and neighbour.protocol == PROTOCOL
        and neighbour.state == PERMANENT
        and neighbour.hardware_address == hardware_address
    )


def _guards(snapshot: Snapshot, refs: _LinkRefs) -> Iterator[tuple[Entry, bool]]:
    """A guard on a port of a bridge stands in both tables; what routes to the bridge is then a part of it."""
    rules, port_rules = snapshot.rules, snapshot.port_rules
    is_whole = rules.is_whole and rules.uplinks == snapshot.uplink_indexes
    is_port_whole = is_whole and port_rules.is_whole and port_rules.uplinks == snapshot.uplink_ports
    parts: dict[Prefix, set[Owner]] = {}
    for prefix, owners in port_rules.owners.items():
        carried = rules.owners.get(prefix, set())
        is_guarded = is_port_whole and prefix in rules.guarded and prefix in port_rules.guarded
        for port, hardware_address in owners:
            part = (snapshot.carrier(port), hardware_address)
            parts.setdefault(prefix, set()).add(part)
            entry = GuardEntry(prefix=prefix, link=refs[port], hardware_address=hardware_address)
            yield entry, is_guarded and part[0] != port and part in carried
    for prefix, owners in rules.owners.items():
        is_guarded = is_whole and prefix in rules.guarded
        for link, hardware_address in owners - parts[prefix] if prefix in parts else owners:
            entry = GuardEntry(prefix=prefix, link=refs[link], hardware_address=hardware_address)
            yield entry, is_guarded and link in snapshot.links
    for table in (rules, port_rules):
        for prefix in table.guarded - table.owners.keys():
            # A prefix that nobody may use as a source: left by a change that was broken off.
            yield GuardEntry(prefix=prefix, link=LinkRef("", 0), hardware_address=""), False


def _exempts(snapshot: Snapshot, _refs: _LinkRefs) -> Iterator[tuple[Entry, bool]]:
    for prefix in snapshot.rules.exempt:
        yield ExemptEntry(prefix), snapshot.rules.is_whole


def _proxies(snapshot: Snapshot, refs: _LinkRefs) -> Iterator[tuple[Entry, bool]]:
    for (link, address), neighbour in snapshot.proxies.items():
        if neighbour.protocol == PROTOCOL:
            prefix = prefix_from(address.packed, address.max_prefixlen)
            is_answering = snapshot.is_answering.get((link, prefix.version), False)
            yield ProxyEntry(prefix=prefix, link=refs[link]), is_answering and link in snapshot.links


def _obstacles(snapshot: Snapshot, entries: set[Entry], asked: frozenset[Prefix]) -> Iterator[Obstacle]:
    """
    What keeps packets for a prefix of ours, or for one asked for in vain, from its Pod.

    For a prefix of more than one address also foreign routes inside it, which win by their length.
    """
    prefixes = {entry.prefix for entry in entries if isinstance(entry, RouteEntry)} | asked
    for prefix in prefixes:
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
