"""
What does the kernel hold that has to do with us?

In: two netlink sockets.  Out: a Snapshot: raw facts, ours and foreign, not yet judged.
One dump of each kind, whatever the number of addresses. What is ours carries our protocol number, or stands in our
nftables table; nothing else tells it, so a process without memory finds exactly its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address

import attrs

from persistip.backends.linux import sysctls
from persistip.backends.linux.elements import read_owner, read_prefixes, read_uplink
from persistip.backends.linux.errors import unavailable
from persistip.backends.linux.links import Link, dump_links
from persistip.backends.linux.neighbours import Neighbour, dump_neighbours, dump_ports
from persistip.backends.linux.nft import Element, TableSpec, dump_elements, read_generation, read_table
from persistip.backends.linux.routes import TABLE_LOCAL, TYPE_LOCAL, Route, dump_default_hops, dump_routes
from persistip.backends.linux.ruleset import (
    BRIDGE_TABLE,
    EXEMPT,
    GUARDED,
    OWNERS,
    PLAIN_OWNERS,
    PODS,
    TABLE,
    UPLINKS,
    WIDE_OWNERS,
    is_whole,
    set_of,
)
from persistip.backends.linux.sockets import NetlinkSocket
from persistip.errors import StaleError
from persistip.model.address import IPAddress, Prefix, is_single
from persistip.model.entry import LinkRef

PROTOCOL = 190
"""Protocol of our routes (in table `local`), next hops and proxy entries, which no other program we know of uses:
`ip route show table local proto 190`."""

PROTOCOL_KERNEL = 2
"""The kernel's own, of routes that follow from the addresses of links."""

VERSIONS = (4, 6)

_READ_ATTEMPTS = 8

_POD_KINDS = frozenset({"veth", "tun", "netkit"})

Owner = tuple[int, str]
"""Who may send from a prefix: link index, and hardware address (empty on links without)."""


@attrs.define
class Rules:
    """
    One of our nftables tables as it stands, or as it will stand after the messages made so far.

    ``is_whole`` False: absent, or altered by somebody; it has to be built anew before elements are put.
    """

    table: TableSpec
    is_present: bool = False
    is_whole: bool = False
    uplinks: frozenset[int] = frozenset()
    exempt: set[Prefix] = attrs.field(factory=set)
    guarded: set[Prefix] = attrs.field(factory=set)
    owners: dict[Prefix, set[Owner]] = attrs.field(factory=dict)
    pods: dict[Prefix, str] = attrs.field(factory=dict)

    @property
    def is_empty(self) -> bool:
        """Nothing of any address is in it."""
        return not (self.exempt or self.guarded or self.owners or self.pods)


@attrs.define(kw_only=True)
class Snapshot:
    """
    One look at the kernel; also the working copy on which a program of changes is worked out.

    ``routes`` are those of table local by prefix, foreign ones too, the one that wins first. ``neighbours`` and
    ``proxies`` are keyed by link and address.
    """

    links: dict[int, Link]
    uplinks: tuple[LinkRef, ...]
    gateways: frozenset[IPAddress]
    """Those of the node's default routes."""
    routes: dict[Prefix, list[Route]]
    neighbours: dict[tuple[int, IPAddress], Neighbour]
    proxies: dict[tuple[int, IPAddress], Neighbour]
    rules: Rules
    port_rules: Rules
    ports: dict[tuple[int, str], int]
    """By bridge and hardware address, the port behind which it was seen last."""
    is_forwarding: dict[int, bool]
    """By IP version, the switch for all links."""
    is_answering: dict[tuple[int, int], bool]
    """By link and IP version, for uplinks: proxied addresses are answered for, at once."""
    hop_uses: Counter[tuple[int, IPAddress]] = attrs.field(factory=Counter)
    """How many routes of ours go through a next hop."""

    def __attrs_post_init__(self) -> None:
        for several in self.routes.values():
            for route in several:
                if route.protocol == PROTOCOL:
                    self.count_hop(route, +1)

    def count_hop(self, route: Route, change: int) -> None:
        """One more or one less route of ours through its next hop."""
        if route.gateway is not None:
            self.hop_uses[route.link, route.gateway] += change

    def link_ref(self, index: int) -> LinkRef:
        """The link by name and index; one that is gone has no name any more."""
        link = self.links.get(index)
        return LinkRef(link.name if link else "", index)

    def carrier(self, index: int) -> int:
        """The link that routes to a Pod's link name: the bridge of which it is a port, else itself."""
        link = self.links.get(index)
        return link.bridge if link is not None and link.bridge else index

    @property
    def uplink_indexes(self) -> frozenset[int]:
        """The node's uplinks, as routed packets see them."""
        return frozenset(uplink.index for uplink in self.uplinks)

    @property
    def uplink_ports(self) -> frozenset[int]:
        """
        The ports by which bridges that are uplinks reach the network outside.

        Those of Pods are made by software; what is neither a veth nor a tap is taken for the way out.
        """
        return frozenset(
            link.index
            for link in self.links.values()
            if link.bridge in self.uplink_indexes and link.kind not in _POD_KINDS
        )

    @property
    def own_ips(self) -> frozenset[IPAddress]:
        """The addresses of the node's links: for each, the kernel itself has made a route in table local."""
        return frozenset(
            prefix.network_address
            for prefix, several in self.routes.items()
            if is_single(prefix)
            and any((each.protocol, each.type) == (PROTOCOL_KERNEL, TYPE_LOCAL) for each in several)
        )

    def own_routes(self, prefix: Prefix) -> list[Route]:
        """Our routes for the prefix, the one that wins first."""
        return [route for route in self.routes.get(prefix, ()) if route.protocol == PROTOCOL]


class Reader:
    """Takes snapshots; remembers the ruleset's generation, so that untouched rules are not read twice."""

    def __init__(self, route: NetlinkSocket, netfilter: NetlinkSocket, uplinks: Sequence[str]) -> None:
        self._route = route
        self._netfilter = netfilter
        self._uplinks = tuple(uplinks)
        self._rules: tuple[Rules, Rules] | None = None
        self._generation = -1

    def read(self) -> Snapshot:
        """Look at everything."""
        links = {link.index: link for link in dump_links(self._route)}
        hops = {hop for version in VERSIONS for hop in dump_default_hops(self._route, version=version)}
        uplinks = self._select_uplinks(links.values(), {link for link, _ in hops})
        rules, port_rules = self._read_rules()
        return Snapshot(
            links=links,
            uplinks=uplinks,
            gateways=frozenset(gateway for _, gateway in hops if gateway is not None),
            routes=self._read_routes(),
            neighbours=self._read_neighbours(),
            proxies={(each.link, each.address): each for each in dump_neighbours(self._route, proxies=True)},
            rules=rules,
            port_rules=port_rules,
            ports=self._read_ports(links.values()),
            is_forwarding={
                4: sysctls.read_setting("net/ipv4/ip_forward") == "1",
                6: sysctls.read_setting("net/ipv6/conf/all/forwarding") in ("1", "2"),
            },
            is_answering={
                (uplink.index, version): sysctls.is_set(sysctls.answering(uplink.name, version))
                for uplink in uplinks
                for version in VERSIONS
            },
        )

    def read_neighbours(self, snapshot: Snapshot) -> None:
        """Bring *snapshot* up to date in what tells where a Pod is that has answered since."""
        snapshot.neighbours = self._read_neighbours()
        snapshot.ports = self._read_ports(snapshot.links.values())

    def _read_neighbours(self) -> dict[tuple[int, IPAddress], Neighbour]:
        return {(each.link, each.address): each for each in dump_neighbours(self._route)}

    def _select_uplinks(self, links: Iterable[Link], default: Collection[int]) -> tuple[LinkRef, ...]:
        """The links named in the settings; without settings those of the default routes."""
        if self._uplinks:
            chosen = [link for link in links if any(fnmatchcase(link.name, pattern) for pattern in self._uplinks)]
        else:
            chosen = [link for link in links if link.index in default]
        return tuple(sorted(LinkRef(link.name, link.index) for link in chosen if not link.is_loopback))

    def _read_routes(self) -> dict[Prefix, list[Route]]:
        routes: dict[Prefix, list[Route]] = {}
        for version in VERSIONS:
            for route in dump_routes(self._route, version=version, table=TABLE_LOCAL):
                routes.setdefault(route.prefix, []).append(route)
        for several in routes.values():
            if len(several) > 1:
                # A stable sort: equal metrics keep the kernel's order, which for IPv4 is the order of preference.
                several.sort(key=lambda route: route.metric)
        return routes

    def _read_ports(self, links: Iterable[Link]) -> dict[tuple[int, str], int]:
        if not any(link.bridge for link in links):
            return {}
        return {(bridge, address): port for bridge, address, port in dump_ports(self._route)}

    def _read_rules(self) -> tuple[Rules, Rules]:
        """
        The generation is read first: a change during the reading makes the next look read again.

        A set that was there a moment ago may be gone when its elements are asked for: somebody makes the table anew.
        """
        for _ in range(_READ_ATTEMPTS):
            generation = read_generation(self._netfilter)
            if self._rules is None or generation != self._generation:
                try:
                    self._rules = _read_rules(self._netfilter, TABLE), _read_rules(self._netfilter, BRIDGE_TABLE)
                except StaleError:
                    continue
                self._generation = generation
            rules, port_rules = self._rules
            return _copy(rules), _copy(port_rules)
        raise unavailable("the tables kept changing under the look", "read", "nftables")


def _copy(rules: Rules) -> Rules:
    return attrs.evolve(
        rules,
        exempt=set(rules.exempt),
        guarded=set(rules.guarded),
        owners={prefix: set(owners) for prefix, owners in rules.owners.items()},
        pods=dict(rules.pods),
    )


def _read_rules(netfilter: NetlinkSocket, wanted: TableSpec) -> Rules:
    table = read_table(netfilter, wanted.name, wanted.family)
    rules = Rules(table=wanted)
    if table is None:
        return rules
    rules.is_present, rules.is_whole = True, is_whole(table, wanted)
    present = {spec.name for spec in table.sets}

    def elements(name: str) -> list[Element]:
        return list(dump_elements(netfilter, wanted, name)) if name in present else []

    rules.uplinks = frozenset(map(read_uplink, elements(UPLINKS)))
    for version in VERSIONS:
        for family, into in ((EXEMPT, rules.exempt), (GUARDED, rules.guarded)):
            prefixes, is_clean = read_prefixes(elements(set_of(family, version)))
            into.update(prefixes)
            rules.is_whole = rules.is_whole and is_clean
        pods, is_clean = read_prefixes(elements(set_of(PODS, version)))
        rules.pods.update(pods)
        rules.is_whole = rules.is_whole and is_clean
        for family in (OWNERS, WIDE_OWNERS, PLAIN_OWNERS):
            for element in elements(set_of(family, version)):
                owner = read_owner(element, version, is_plain=family == PLAIN_OWNERS)
                if owner is None:
                    rules.is_whole = False
                else:
                    link, address, prefix = owner
                    rules.owners.setdefault(prefix, set()).add((link, address))
    return rules


def pinned_hop(hardware_address: str) -> IPv6Address:
    """
    The next hop that stands for a hardware address: fe80::7069:<the address's six bytes>.

    Derived, so that it needs no allocation and two addresses never meet; on the link's own prefix, so that nothing
    else routes to it. Its neighbour entry is permanent: packets go to that hardware address, whoever has the Pod's IP.
    """
    return IPv6Address(b"\xfe\x80\0\0\0\0\0\0\x70\x69" + bytes.fromhex(hardware_address.replace(":", "")))


def pinned_hop_ipv4(hardware_address: str, attempt: int = 0) -> IPv4Address:
    """
    The same where IPv6 is switched off on the link: an address of 0.0.0.0/8, which no host can have.

    Only 24 bits are left of the hardware address; *attempt* leads past an address that stands for another one.
    """
    number = int(hardware_address.replace(":", ""), 16)
    return IPv4Address(1 + ((number & 0xFFFFFF) + attempt) % 0xFFFFFE)
