"""
Is a frame an announcement that moves an address in Compute Engine?

IPv4: an ARP *reply* to everybody whose sender and target are both the address, and whose sender's hardware address is
the link's own. IPv6: a router advertisement; that its source is the address is our inference.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import attrs

_ARP, _IPV6 = 0x0806, 0x86DD
_REPLY = 2
_ICMPV6, _ROUTER_ADVERTISEMENT = 58, 134
_EVERYBODY = b"\xff" * 6


@attrs.frozen
class Announced:
    """An address, and the hardware address that has it."""

    address: IPv4Address | IPv6Address
    sender: str


def read_frame(frame: bytes) -> Announced | None:
    """What a frame announces; None where it is no such announcement."""
    if len(frame) < 14:
        return None
    kind, source, payload = int.from_bytes(frame[12:14], "big"), frame[6:12], frame[14:]
    if kind == _ARP and len(payload) >= 28:
        return _read_arp(payload, source)
    if kind == _IPV6 and len(payload) > 40 and payload[6] == _ICMPV6 and payload[40] == _ROUTER_ADVERTISEMENT:
        return Announced(IPv6Address(payload[8:24]), _text(source))
    return None


def _read_arp(payload: bytes, source: bytes) -> Announced | None:
    operation = int.from_bytes(payload[6:8], "big")
    sender, address, target, asked = payload[8:14], payload[14:18], payload[18:24], payload[24:28]
    if operation != _REPLY or sender != source or target != _EVERYBODY or address != asked:
        return None
    return Announced(IPv4Address(address), _text(sender))


def _text(mac: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in mac)
