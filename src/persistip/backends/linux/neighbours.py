"""
How is a neighbour entry written to and read from the kernel?

In: a Neighbour, or rtnetlink bytes.  Out: the message that puts, deletes, probes or resolves, or a Neighbour.
The layout is rtnetlink's (linux/neighbour.h). A *proxy* entry has no hardware address: it makes the kernel answer
for the address. The protocol number tells whose an entry is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address

import attrs

from persistip.backends.linux.attributes import attribute, parse_attributes, read_u32
from persistip.backends.linux.interning import KEPT, address_from
from persistip.backends.linux.sockets import CREATE, REPLACE, Message, NetlinkSocket
from persistip.model.address import IPAddress

NEW_NEIGHBOUR = 28
DELETE_NEIGHBOUR = 29
_GET_NEIGHBOUR = 30

REACHABLE = 0x02
STALE = 0x04
DELAY = 0x08
PROBE = 0x10
FAILED = 0x20
NOARP = 0x40
PERMANENT = 0x80
HAS_ADDRESS = REACHABLE | STALE | DELAY | PROBE | NOARP | PERMANENT
"""States in which the entry's hardware address would be used."""
CONFIRMED = REACHABLE | NOARP | PERMANENT
"""States in which somebody vouches for it: the neighbour itself just now, or an administrator."""

_FLAG_USE = 0x01
_FLAG_PROXY = 0x08
_FAMILY_IPV4 = 2
_FAMILY_IPV6 = 10
_FAMILY_BRIDGE = 7

_DST, _LLADDR, _MASTER, _PROTOCOL = 1, 2, 9, 12

_HEAD = struct.Struct("=BBHiHBB")


@attrs.frozen(kw_only=True)
class Neighbour:
    """One entry; ``hardware_address`` is empty where none is known, and on proxy entries."""

    address: IPAddress
    link: int
    hardware_address: str = ""
    state: int = 0
    protocol: int = 0
    is_proxy: bool = False


def put_neighbour(neighbour: Neighbour) -> Message:
    """Put the entry, in place of one for the same address on the same link."""
    return Message(NEW_NEIGHBOUR, CREATE | REPLACE, _body(neighbour, _FLAG_PROXY if neighbour.is_proxy else 0))


def delete_neighbour(neighbour: Neighbour) -> Message:
    """Delete the entry for that address on that link, whoever made it: look first."""
    bare = attrs.evolve(neighbour, hardware_address="", state=0, protocol=0)
    return Message(DELETE_NEIGHBOUR, 0, _body(bare, _FLAG_PROXY if neighbour.is_proxy else 0))


def resolve_neighbour(address: IPAddress, link: int) -> Message:
    """Make the kernel ask for the address, as a packet to it would."""
    return Message(NEW_NEIGHBOUR, CREATE, _body(Neighbour(address=address, link=link), _FLAG_USE))


def probe_neighbour(neighbour: Neighbour) -> Message:
    """
    Make the kernel ask the known hardware address, now, whether it still has the IP.

    Using a stale entry would do so only five seconds later.
    """
    return Message(NEW_NEIGHBOUR, REPLACE, _body(attrs.evolve(neighbour, state=PROBE, protocol=0), 0))


def _body(neighbour: Neighbour, flags: int) -> bytes:
    family = _FAMILY_IPV4 if isinstance(neighbour.address, IPv4Address) else _FAMILY_IPV6
    parts = [
        _HEAD.pack(family, 0, 0, neighbour.link, neighbour.state, flags, 0),
        attribute(_DST, neighbour.address.packed),
    ]
    if neighbour.hardware_address:
        parts.append(attribute(_LLADDR, bytes.fromhex(neighbour.hardware_address.replace(":", ""))))
    if neighbour.protocol:
        parts.append(attribute(_PROTOCOL, bytes((neighbour.protocol,))))
    return b"".join(parts)


def dump_neighbours(netlink: NetlinkSocket, *, proxies: bool = False) -> Iterator[Neighbour]:
    """All neighbour entries of both families, or all proxy entries."""
    body = _HEAD.pack(0, 0, 0, 0, 0, _FLAG_PROXY if proxies else 0, 0)
    for number, data in netlink.dump(Message(_GET_NEIGHBOUR, 0, body)):
        if number == NEW_NEIGHBOUR:
            neighbour = parse_neighbour(data)
            if neighbour is not None:
                yield neighbour


def dump_ports(netlink: NetlinkSocket) -> Iterator[tuple[int, str, int]]:
    """
    What bridges have learned: bridge, hardware address, port behind which it was seen last.

    The addresses of the ports themselves, which the kernel marks permanent, are left out.
    """
    for number, data in netlink.dump(Message(_GET_NEIGHBOUR, 0, _HEAD.pack(_FAMILY_BRIDGE, 0, 0, 0, 0, 0, 0))):
        family, _pad, _pad2, port, state, _flags, _kind = _HEAD.unpack_from(data)
        if number != NEW_NEIGHBOUR or family != _FAMILY_BRIDGE or state & PERMANENT:
            continue
        found = parse_attributes(data, _HEAD.size)
        if _LLADDR in found and _MASTER in found:
            yield read_u32(found[_MASTER]), found[_LLADDR].hex(":"), port


@lru_cache(maxsize=KEPT)
def parse_neighbour(data: bytes) -> Neighbour | None:
    """A Neighbour from the body of a message, None for families other than IPv4 and IPv6."""
    family, _pad, _pad2, link, state, flags, _kind = _HEAD.unpack_from(data)
    if family not in (_FAMILY_IPV4, _FAMILY_IPV6):
        return None
    found = parse_attributes(data, _HEAD.size)
    packed = found.get(_DST, b"")
    if len(packed) != (4 if family == _FAMILY_IPV4 else 16):
        return None
    protocol = found.get(_PROTOCOL)
    return Neighbour(
        address=address_from(packed),
        link=link,
        hardware_address=found[_LLADDR].hex(":") if _LLADDR in found else "",
        state=state,
        protocol=protocol[0] if protocol else 0,
        is_proxy=bool(flags & _FLAG_PROXY),
    )
