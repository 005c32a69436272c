"""
What must be on the wire so that neighbours change their mind at once?

In: an address and the hardware address that answers for it from now on.  Out: Ethernet frames.
IPv4 by gratuitous ARP (RFC 826, RFC 5227), IPv6 by an unsolicited neighbour advertisement (RFC 4861, 7.2.6).

Both forms of gratuitous ARP are sent, because real receivers differ. RFC 5227 announces with a request, and some
routers and switches learn from requests alone; other stacks update what they have only from a reply. Linux takes
either, and takes it even within a second of the last update (``locktime``), but a reply only where its target hardware
address equals the sender's, so that is what the reply says.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from persistip.model.address import IPAddress

_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_HARDWARE = b"\x33\x33\x00\x00\x00\x01"

_ETHERTYPE_ARP, _ETHERTYPE_IPV6 = 0x0806, 0x86DD
_ARP_REQUEST, _ARP_REPLY = 1, 2

_ICMPV6, _NEIGHBOUR_ADVERTISEMENT = 58, 136
_OVERRIDE = 1 << 29
_TARGET_LINK_LAYER_ADDRESS = 2


def announcing_frames(address: IPAddress, hardware_address: bytes) -> tuple[bytes, ...]:
    """The frames that announce *address*, in the order to send them; *hardware_address* has 6 bytes."""
    if isinstance(address, IPv4Address):
        return (
            arp_frame(address, hardware_address, is_reply=False),
            arp_frame(address, hardware_address, is_reply=True),
        )
    return (advertisement_frame(address, hardware_address),)


def arp_frame(address: IPv4Address, hardware_address: bytes, *, is_reply: bool) -> bytes:
    """One gratuitous ARP: sender and target are the same address."""
    ethernet = _BROADCAST + hardware_address + struct.pack("!H", _ETHERTYPE_ARP)
    operation = _ARP_REPLY if is_reply else _ARP_REQUEST
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
    unsummed = struct.pack("!BBH", _NEIGHBOUR_ADVERTISEMENT, 0, 0) + body
    checksum = icmpv6_checksum(address, _ALL_NODES, unsummed)
    message = struct.pack("!BBH", _NEIGHBOUR_ADVERTISEMENT, 0, checksum) + body
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
