"""
What is this node like?

In: the network namespace of this process.  Out: NodeFacts. Nothing is changed; what may not be looked at is told so.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

from persistip.backends.linux import sysctls
from persistip.backends.linux.attributes import parse_attributes, read_u32
from persistip.backends.linux.links import dump_addresses, dump_links
from persistip.backends.linux.nft import dump_base_chains
from persistip.backends.linux.routes import dump_default_hops
from persistip.backends.linux.sockets import NETLINK_NETFILTER, NETLINK_ROUTE, Message, NetlinkSocket
from persistip.doctor.node import Chain, NodeFacts, Rule
from persistip.errors import BackendError

STATUS = Path("/proc/self/status")
_GET_RULE = 34
_RULE_HEAD = struct.Struct("=BBBBBBBBI")
_TABLE, _PRIORITY = 15, 6
# What narrows a rule: an address, a link, a mark, ports, a user; the rest says what it does.
_NARROWING = frozenset({1, 2, 3, 10, 17, 19, 20, 22, 23, 24, 25})
_RTF_ADDRCONF = 0x00040000
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_NFT_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def look_at_node(uplinks: tuple[str, ...] = ()) -> NodeFacts:
    """Look; *uplinks* are the links of the default routes where none is named. Raises BackendError without netlink."""
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        links = {link.index: link.name for link in dump_links(netlink) if not link.is_loopback}
        hops = {link for version in _FAMILIES for link, _ in dump_default_hops(netlink, version=version)}
        addresses = list(dump_addresses(netlink))
        rules = tuple(rule for version in _FAMILIES for rule in _dump_rules(netlink, version))
    chosen = uplinks or tuple(sorted(links[index] for index in hops if index in links))
    chains, refusal = _look_at_chains()
    return NodeFacts(
        kernel=os.uname().release,
        capabilities=_capabilities(),
        settings=dict(_settings(chosen)),
        links=tuple(sorted(links.values())),
        uplinks=chosen,
        has_ipv6=any(
            isinstance(ip, IPv6Address) and not ip.is_link_local and links.get(index) in chosen
            for index, ip in addresses
        ),
        learns_ipv6_route=_learns_ipv6_route(chosen),
        rules=rules,
        chains=chains,
        refusal=refusal,
        packet_refusal=_packet_refusal(),
    )


def _dump_rules(netlink: NetlinkSocket, version: int) -> Iterator[Rule]:
    body = _RULE_HEAD.pack(_FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)
    for _number, data in netlink.dump(Message(_GET_RULE, 0, body)):
        _family, to_length, from_length, tos, table, _1, _2, action, _flags = _RULE_HEAD.unpack_from(data)
        found = parse_attributes(data, _RULE_HEAD.size)
        narrows = to_length or from_length or tos or found.keys() & _NARROWING
        # Action 1 looks a table up; others, such as a jump, look into none.
        looked_up = read_u32(found[_TABLE]) if _TABLE in found else table
        yield Rule(
            version=version,
            priority=read_u32(found[_PRIORITY]) if _PRIORITY in found else 0,
            table=looked_up if action == 1 else 0,
            matches_all=not narrows,
        )


def _look_at_chains() -> tuple[tuple[Chain, ...] | None, str]:
    try:
        with NetlinkSocket(NETLINK_NETFILTER) as netfilter:
            found = tuple(
                Chain(
                    family=_NFT_FAMILIES.get(each.family, str(each.family)), table=each.table, name=each.name,
                    type=each.type, hook=each.hook, priority=each.priority, drops=each.drops,
                )
                for each in dump_base_chains(netfilter)
            )  # fmt: skip
    except BackendError as error:
        return None, str(error)
    return found, ""


def _packet_refusal() -> str:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""


def _capabilities() -> frozenset[int]:
    found = re.search(r"(?m)^CapEff:\s*([0-9a-f]+)$", STATUS.read_text(encoding="ascii"))
    effective = int(found[1], 16) if found else 0
    return frozenset(number for number in range(effective.bit_length()) if effective >> number & 1)


def _learns_ipv6_route(uplinks: tuple[str, ...]) -> bool:
    """Whether a default route has the flag RTF_ADDRCONF, as those that come from router advertisements do."""
    try:
        lines = Path("/proc/net/ipv6_route").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return False
    routes = (line.split() for line in lines)
    return any(
        (route[0], route[1]) == ("0" * 32, "00") and route[9] in uplinks and int(route[8], 16) & _RTF_ADDRCONF
        for route in routes
    )


def _settings(uplinks: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    paths = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter"]
    for link in uplinks:
        paths += [f"net/ipv4/conf/{link}/{name}" for name in ("rp_filter", "proxy_arp", "proxy_arp_pvlan")]
        paths.append(f"net/ipv6/conf/{link}/accept_ra")
    for path in paths:
        if (value := sysctls.read_setting(path)) is not None:
            yield path, value
