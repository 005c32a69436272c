"""
Which links does the node have, and how are they set?

In: rtnetlink bytes.  Out: Link values, and the addresses of the node itself.
One dump tells the per-link settings of both families too, so that no file under /proc/sys has to be read for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

import attrs

from persistip.backends.linux.attributes import attribute_u32, parse_attributes, read_text, read_u32
from persistip.backends.linux.sockets import Message, NetlinkSocket
from persistip.model.address import IPAddress

NEW_LINK = 16
_GET_LINK = 18
NEW_ADDRESS = 20
_GET_ADDRESS = 22

_TYPE_ETHERNET = 1
_FLAG_UP = 0x1
_FLAG_LOOPBACK = 0x8

_ADDRESS, _NAME, _MASTER, _LINKINFO, _AF_SPEC, _EXT_MASK = 1, 3, 10, 18, 26, 29
_KIND, _PORT_KIND = 1, 4
_SKIP_STATISTICS = 1 << 3
_INET_CONF, _INET6_CONF = 1, 2
_FAMILY_IPV4, _FAMILY_IPV6 = 2, 10

_IPV4_FORWARDING = 0
_IPV6_PROXY_NDP, _IPV6_DISABLED = 22, 26
"""Places in the kernel's arrays of settings (linux/ip.h counts from one, linux/ipv6.h from zero)."""

_IFA_ADDRESS, _IFA_LOCAL = 1, 2

_KEPT = 1 << 12
"""Links that the kernel describes in the same bytes are not parsed again; each takes a kilobyte or two."""

_LINK_HEAD = struct.Struct("=BBHiII")
_ADDRESS_HEAD = struct.Struct("=BBBBi")


@attrs.frozen(kw_only=True)
class Link:
    """
    One link.

    ``ipv6_enabled`` False: the kernel refuses IPv6 next hops and neighbours there. ``kind`` is the driver's word
    (veth, bridge, tun, ...), empty for hardware. ``bridge`` is the index of the bridge that the link is a port of, 0
    for none.
    """

    index: int
    name: str
    hardware_address: str = ""
    kind: str = ""
    bridge: int = 0
    is_ethernet: bool = True
    is_loopback: bool = False
    is_up: bool = True
    ipv4_forwarding: bool = False
    ipv6_enabled: bool = False
    proxy_ndp: bool = False


def dump_links(netlink: NetlinkSocket) -> Iterator[Link]:
    """All links of the namespace."""
    body = _LINK_HEAD.pack(0, 0, 0, 0, 0, 0) + attribute_u32(_EXT_MASK, _SKIP_STATISTICS)
    for number, data in netlink.dump(Message(_GET_LINK, 0, body)):
        if number == NEW_LINK:
            yield parse_link(data)


@lru_cache(maxsize=_KEPT)
def parse_link(data: bytes) -> Link:
    """A Link from the body of a message."""
    _family, _pad, kind, index, flags, _change = _LINK_HEAD.unpack_from(data)
    found = parse_attributes(data, _LINK_HEAD.size)
    families = parse_attributes(found.get(_AF_SPEC, b""))
    ipv4 = parse_attributes(families.get(_FAMILY_IPV4, b"")).get(_INET_CONF, b"")
    ipv6 = parse_attributes(families.get(_FAMILY_IPV6, b"")).get(_INET6_CONF, b"")
    info = parse_attributes(found.get(_LINKINFO, b""))
    is_ethernet = kind == _TYPE_ETHERNET
    is_port = read_text(info.get(_PORT_KIND, b"")) == "bridge"
    return Link(
        index=index,
        name=read_text(found.get(_NAME, b"")),
        hardware_address=found[_ADDRESS].hex(":") if is_ethernet and _ADDRESS in found else "",
        kind=read_text(info.get(_KIND, b"")),
        bridge=read_u32(found[_MASTER]) if is_port and _MASTER in found else 0,
        is_ethernet=is_ethernet,
        is_loopback=bool(flags & _FLAG_LOOPBACK),
        is_up=bool(flags & _FLAG_UP),
        ipv4_forwarding=_setting(ipv4, _IPV4_FORWARDING) > 0,
        ipv6_enabled=bool(ipv6) and _setting(ipv6, _IPV6_DISABLED) == 0,
        proxy_ndp=_setting(ipv6, _IPV6_PROXY_NDP) > 0,
    )


def _setting(values: bytes, place: int) -> int:
    if len(values) < 4 * place + 4:
        return 0
    return int(struct.unpack_from("=i", values, 4 * place)[0])


def dump_addresses(netlink: NetlinkSocket) -> Iterator[tuple[int, IPAddress]]:
    """The node's own addresses, each with the index of its link."""
    for number, data in netlink.dump(Message(_GET_ADDRESS, 0, _ADDRESS_HEAD.pack(0, 0, 0, 0, 0))):
        if number != NEW_ADDRESS:
            continue
        family, _length, _flags, _scope, link = _ADDRESS_HEAD.unpack_from(data)
        found = parse_attributes(data, _ADDRESS_HEAD.size)
        packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or b""
        if family == _FAMILY_IPV4 and len(packed) == 4:
            yield link, IPv4Address(packed)
        elif family == _FAMILY_IPV6 and len(packed) == 16:
            yield link, IPv6Address(packed)
