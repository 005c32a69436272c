"""
How is a route written to and read from the kernel?

In: a Route, or rtnetlink bytes.  Out: the message that adds, prepends, replaces, deletes or looks up, or a Route.
The layout is rtnetlink's (linux/rtnetlink.h).

The two families differ where it matters to us:

              same prefix again, another next hop       the one that wins
    IPv4      prepend puts it before all others         the first in the table
    IPv6      becomes a multipath of both (!)           the lowest metric

so an IPv4 route moves by prepending the new and deleting the old, an IPv6 route by replacing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import attrs

from persistip.backends.linux.attributes import attribute, attribute_u32, parse_attributes, read_u32
from persistip.backends.linux.interning import KEPT, address_from, prefix_from
from persistip.backends.linux.sockets import CREATE, EXCL, REPLACE, Message, NetlinkSocket, Refusal
from persistip.model.address import IPAddress, Prefix

NEW_ROUTE = 24
DELETE_ROUTE = 25
_GET_ROUTE = 26

TABLE_MAIN = 254
TABLE_LOCAL = 255

TYPE_UNICAST = 1
TYPE_LOCAL = 2

SCOPE_UNIVERSE = 0
SCOPE_HOST = 254
_SCOPE_NOWHERE = 255

_FAMILY_IPV4 = 2
_FAMILY_IPV6 = 10
_FLAG_ONLINK = 4
_FLAG_FIB_MATCH = 0x2000

_DST, _OIF, _GATEWAY, _PRIORITY, _MULTIPATH, _TABLE, _VIA = 1, 4, 5, 6, 9, 15, 18

_HEAD = struct.Struct("=BBBBBBBBI")
_VIA_IPV6 = struct.pack("=H", _FAMILY_IPV6)


@attrs.frozen(kw_only=True)
class Route:
    """
    One route.

    ``link`` is the index of the link it leaves by, 0 where the route has none or several. ``gateway`` may be an IPv6
    address for an IPv4 prefix. ``metric`` 0 stands for the kernel's default (IPv4: none, IPv6: 1024).
    """

    prefix: Prefix
    link: int
    gateway: IPAddress | None = None
    table: int = TABLE_MAIN
    protocol: int = 0
    type: int = TYPE_UNICAST
    scope: int = SCOPE_UNIVERSE
    metric: int = 0
    onlink: bool = False


def prepend_route(route: Route) -> Message:
    """Add in front of every IPv4 route for the prefix; refused (EEXIST) only where this very route stands already."""
    return Message(NEW_ROUTE, CREATE, _body(route))


def add_route(route: Route) -> Message:
    """Add, refused where the prefix has a route with this metric, whoever made it."""
    return Message(NEW_ROUTE, CREATE | EXCL, _body(route))


def replace_route(route: Route) -> Message:
    """
    Put in place of the route with the same prefix and metric, whoever made it, or add.

    For IPv4 this takes the first of several: only for prefixes that have none of others.
    """
    return Message(NEW_ROUTE, CREATE | REPLACE, _body(route))


def delete_route(route: Route) -> Message:
    """Delete the route that agrees in every field given; the protocol keeps it from taking another's."""
    return Message(DELETE_ROUTE, 0, _body(route, deleting=True))


def _body(route: Route, *, deleting: bool = False) -> bytes:
    prefix = route.prefix
    is_ipv4 = isinstance(prefix, IPv4Network)
    parts = [
        _HEAD.pack(
            _FAMILY_IPV4 if is_ipv4 else _FAMILY_IPV6,
            prefix.prefixlen,
            0,
            0,
            route.table if route.table < 256 else 0,
            route.protocol,
            _SCOPE_NOWHERE if deleting and route.scope == SCOPE_UNIVERSE else route.scope,
            route.type,
            _FLAG_ONLINK if route.onlink else 0,
        ),
        attribute(_DST, prefix.network_address.packed),
    ]
    if route.table >= 256:
        parts.append(attribute_u32(_TABLE, route.table))
    if route.gateway is not None:
        if is_ipv4 and isinstance(route.gateway, IPv6Address):
            parts.append(attribute(_VIA, _VIA_IPV6 + route.gateway.packed))
        else:
            parts.append(attribute(_GATEWAY, route.gateway.packed))
    if route.link:
        parts.append(attribute_u32(_OIF, route.link))
    if route.metric:
        parts.append(attribute_u32(_PRIORITY, route.metric))
    return b"".join(parts)


def dump_routes(netlink: NetlinkSocket, *, version: int, table: int) -> Iterator[Route]:
    """
    The routes of one family in one table, in the order in which the kernel considers equal prefixes.

    The table is filtered here too: kernels before 4.20 dump them all.
    """
    family = _FAMILY_IPV4 if version == 4 else _FAMILY_IPV6
    body = _HEAD.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute_u32(_TABLE, table)
    for number, data in netlink.dump(Message(_GET_ROUTE, 0, body)):
        if number == NEW_ROUTE:
            route = parse_route(data)
            if route is not None and route.table == table:
                yield route


def dump_default_hops(netlink: NetlinkSocket, *, version: int) -> Iterator[tuple[int, IPAddress | None]]:
    """The links by which the default routes of the main table leave, each with the gateway that it leaves to."""
    family = _FAMILY_IPV4 if version == 4 else _FAMILY_IPV6
    body = _HEAD.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute_u32(_TABLE, TABLE_MAIN)
    for number, data in netlink.dump(Message(_GET_ROUTE, 0, body)):
        if number == NEW_ROUTE and data[1] == 0 and data[7] == TYPE_UNICAST and data[4] == TABLE_MAIN:
            yield from _hops_of(data)


def _hops_of(data: bytes) -> Iterator[tuple[int, IPAddress | None]]:
    found = parse_attributes(data, _HEAD.size)
    if _OIF in found:
        yield read_u32(found[_OIF]), _gateway(found)
    hops, offset = found.get(_MULTIPATH, b""), 0
    while offset + 8 <= len(hops):
        size, _flags, _weight, link = struct.unpack_from("=HBBi", hops, offset)
        yield link, _gateway(parse_attributes(hops[offset : offset + size], 8))
        offset += max((size + 3) & ~3, 8)


@lru_cache(maxsize=KEPT)
def parse_route(data: bytes) -> Route | None:
    """A Route from the body of a message, None for families other than IPv4 and IPv6."""
    family, length, _source, _tos, table, protocol, scope, kind, flags = _HEAD.unpack_from(data)
    found = parse_attributes(data, _HEAD.size)
    if family == _FAMILY_IPV4:
        prefix = prefix_from(found.get(_DST, b"\0\0\0\0"), length)
    elif family == _FAMILY_IPV6:
        prefix = prefix_from(found.get(_DST, bytes(16)), length)
    else:
        return None
    return Route(
        prefix=prefix,
        link=read_u32(found[_OIF]) if _OIF in found else 0,
        gateway=_gateway(found),
        table=read_u32(found[_TABLE]) if _TABLE in found else table,
        protocol=protocol,
        type=kind,
        scope=scope,
        metric=read_u32(found[_PRIORITY]) if _PRIORITY in found else 0,
        onlink=bool(flags & _FLAG_ONLINK),
    )


def _gateway(found: dict[int, bytes]) -> IPAddress | None:
    if _GATEWAY in found:
        return address_from(found[_GATEWAY])
    if _VIA in found:
        return address_from(found[_VIA][2:])
    return None


def match_route(address: IPAddress) -> Message:
    """The question which route a packet for *address* would take."""
    is_ipv4 = isinstance(address, IPv4Address)
    head = _HEAD.pack(
        _FAMILY_IPV4 if is_ipv4 else _FAMILY_IPV6, 32 if is_ipv4 else 128, 0, 0, 0, 0, 0, 0, _FLAG_FIB_MATCH
    )
    return Message(_GET_ROUTE, 0, head + attribute(_DST, address.packed))


def find_route(netlink: NetlinkSocket, address: IPAddress) -> Route | Refusal:
    """The route itself that a packet for *address* would take, or the kernel's word that there is none."""
    answer = netlink.ask(match_route(address))
    if isinstance(answer, Refusal):
        return answer
    route = parse_route(answer[1])
    return Refusal(0, "not an IP route") if route is None else route
