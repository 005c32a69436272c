"""
How are netlink attributes laid out?

In: attribute numbers and payload bytes.  Out: the bytes the kernel reads, or a mapping of number to payload.
The layout is the kernel's (linux/netlink.h): length and number, two bytes each in the machine's byte order, then the
payload, padded to four bytes. Written by hand because programming a route with a general library costs fifty times
what the kernel needs (docs/explanation/decisions/0003-own-nfnetlink-codec.md).
"""

from __future__ import annotations

import struct

_HEAD = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_BE32 = struct.Struct("!I")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

NESTED = 0x8000
"""Flag on an attribute whose payload is attributes again."""

_NUMBER_MASK = 0x3FFF
"""An attribute's number without the flags NESTED and NET_BYTEORDER."""


def attribute(number: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    size = len(payload)
    return _HEAD.pack(size + 4, number) + payload + _PADDING[size & 3]


def attribute_u32(number: int, value: int) -> bytes:
    """An attribute holding a number in the machine's byte order, as rtnetlink wants it."""
    return _HEAD.pack(8, number) + _U32.pack(value)


def attribute_be32(number: int, value: int) -> bytes:
    """An attribute holding a number in network byte order, as nfnetlink wants it; negative values wrap."""
    return _HEAD.pack(8, number) + _BE32.pack(value & 0xFFFFFFFF)


def attribute_text(number: int, text: str) -> bytes:
    """An attribute holding a zero-terminated string."""
    return attribute(number, text.encode() + b"\0")


def nested(number: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(number | NESTED, b"".join(attributes))


def parse_attributes(data: bytes, offset: int = 0, end: int | None = None) -> dict[int, bytes]:
    """
    Payloads by attribute number; of a number given twice the last counts, as in the kernel.

    A malformed length ends the walk: the kernel sends none, and a loop that trusts one would never end.
    """
    found: dict[int, bytes] = {}
    stop = len(data) if end is None else end
    unpack = _HEAD.unpack_from
    while offset + 4 <= stop:
        size, number = unpack(data, offset)
        if size < 4:
            break
        found[number & _NUMBER_MASK] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def parse_list(data: bytes) -> list[tuple[int, bytes]]:
    """Attributes in order, for lists whose members share one number."""
    found: list[tuple[int, bytes]] = []
    offset, stop = 0, len(data)
    while offset + 4 <= stop:
        size, number = _HEAD.unpack_from(data, offset)
        if size < 4:
            break
        found.append((number & _NUMBER_MASK, data[offset + 4 : offset + size]))
        offset += (size + 3) & ~3
    return found


def read_u32(payload: bytes) -> int:
    """A number in the machine's byte order."""
    value: int = _U32.unpack(payload)[0]
    return value


def read_be32(payload: bytes) -> int:
    """A number in network byte order."""
    value: int = _BE32.unpack(payload)[0]
    return value


def read_text(payload: bytes) -> str:
    """A zero-terminated string."""
    return payload.rstrip(b"\0").decode(errors="replace")
