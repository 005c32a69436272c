"""
What must be on the wire so that neighbours, or a cloud, change their mind at once?

In: an address and the hardware address that answers for it from now on.  Out: Ethernet frames.
IPv4 by gratuitous ARP (RFC 826, RFC 5227), IPv6 by an unsolicited neighbour advertisement (RFC 4861, 7.2.6).

Both forms of gratuitous ARP are sent, because real receivers differ. RFC 5227 announces with a request, and some
routers and switches learn from requests alone; other stacks update what they have only from a reply. Linux takes
either, and takes it even within a second of the last update (``locktime``), but a reply only where its target hardware
address equals the sender's, so that is what the reply says.

Compute Engine's fast IP move hears one frame alone: for IPv4 an ARP reply whose target hardware address is everybody's,
for IPv6 a router advertisement. That the advertisement's source is the address to be moved is our reading: nothing else
in it could name one.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from persistip.model.address import IPAddress
from persistip.model.entry import Announcement, Manner

_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_HARDWARE = b"\x33\x33\x00\x00\x00\x01"

_ETHERTYPE_ARP, _ETHERTYPE_IPV6 = 0x0806, 0x86DD
_ARP_REQUEST, _ARP_REPLY = 1, 2

_ICMPV6, _ROUTER_ADVERTISEMENT, _NEIGHBOUR_ADVERTISEMENT = 58, 134, 136
_OVERRIDE = 1 << 29
_SOURCE_LINK_LAYER_ADDRESS, _TARGET_LINK_LAYER_ADDRESS = 1, 2


def frames_of(announcement: Announcement, hardware_address: bytes) -> tuple[bytes, ...]:
    """The frames of one announcement, in the order to send them; *hardware_address* has 6 bytes."""
    address = announcement.prefix.network_address
    if announcement.manner is Manner.FAST_IP_MOVE:
        return (moving_frame(address, hardware_address),)
    return announcing_frames(address, hardware_address)


def moving_frame(address: IPAddress, hardware_address: bytes) -> bytes:
    """The one frame by which a cloud moves *address*, and what belongs to it, to who sends it."""
    if isinstance(address, IPv4Address):
        return arp_frame(address, hardware_address, is_reply=True, target_hardware=_BROADCAST)
    return router_advertisement_frame(address, hardware_address)


def announcing_frames(address: IPAddress, hardware_address: bytes) -> tuple[bytes, ...]:
    """The frames that announce *address*, in the order to send them; *hardware_address* has 6 bytes."""
    if isinstance(address, IPv4Address):
        return (
            arp_frame(address, hardware_address, is_reply=False),
            arp_frame(address, hardware_address, is_reply=True),
        )
    return (advertisement_frame(address, hardware_address),)


def arp_frame(
    address: IPv4Address, hardware_address: bytes, *, is_reply: bool, target_hardware: bytes | None = None
) -> bytes:
    """One gratuitous ARP: sender and target are the same address."""
    ethernet = _BROADCAST + hardware_address + struct.pack("!H", _ETHERTYPE_ARP)
    operation = _ARP_REPLY if is_reply else _ARP_REQUEST
    if target_hardware is None:
        target_hardware = hardware_address if is_reply else bytes(6)
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return ethernet + header + hardware_address + address.packed + target_hardware + address.packed


def advertisement_frame(address: IPv6Address, hardware_address: bytes) -> bytes:
    """
    One unsolicited neighbour advertisement to all nodes, with the override flag: replace what you have.

    Its source is the address itself. A link-local one of the node would do as well, but a link may have none, and
    networks that check sources let this address through anyway. Without the router flag: a Pod is a host.
    """
    body = struct.pack("!I", _OVERRIDE) + address.packed
    body += struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + hardware_address
    return _to_all_nodes(address, hardware_address, _NEIGHBOUR_ADVERTISEMENT, body)


def router_advertisement_frame(address: IPv6Address, hardware_address: bytes) -> bytes:
    """
    One router advertisement to all nodes that offers no router: its lifetime is zero, and it names no prefix.

    Hosts discard one whose source is not link-local (RFC 4861, 6.1.2), so that it moves the address and nothing else.
    """
    body = struct.pack("!BBHII", 0, 0, 0, 0, 0)
    body += struct.pack("!BB", _SOURCE_LINK_LAYER_ADDRESS, 1) + hardware_address
    return _to_all_nodes(address, hardware_address, _ROUTER_ADVERTISEMENT, body)


def _to_all_nodes(address: IPv6Address, hardware_address: bytes, kind: int, body: bytes) -> bytes:
    """A message of neighbour discovery from *address* to everybody."""
    checksum = icmpv6_checksum(address, _ALL_NODES, struct.pack("!BBH", kind, 0, 0) + body)
    message = struct.pack("!BBH", kind, 0, checksum) + body
    # Hop limit 255 proves to the receiver that no router forwarded it; anything else is discarded.
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255) + address.packed + _ALL_NODES.packed
    return _ALL_NODES_HARDWARE + hardware_address + struct.pack("!H", _ETHERTYPE_IPV6) + header + message


def icmpv6_checksum(source: IPv6Address, destination: IPv6Address, message: bytes) -> int:
    """The Internet checksum over pseudo-header and *message*, whose checksum field is zero (RFC 4443, 2.3)."""
    data = source.packed + destination.packed + struct.pack("!II", len(message), _ICMPV6) + message
    if len(data) % 2:
        data += b"\x00"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
