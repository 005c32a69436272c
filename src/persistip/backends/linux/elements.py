"""
How do prefixes, links and hardware addresses stand in the sets of our tables?

In: prefixes and owners.  Out: elements, and back.
A plain set of ranges holds two elements a prefix, the kernel's form; a concatenated one holds one with two keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Literal

from persistip.backends.linux.interning import KEPT, address_from, prefix_from
from persistip.backends.linux.nft import Element
from persistip.model.address import IPAddress, Prefix, is_single, parse_ip

_BYTE_ORDER: Literal["little", "big"] = "little" if memoryview(b"\1\0").cast("H")[0] == 1 else "big"


def prefix_elements(prefix: Prefix, comment: str = "") -> list[Element]:
    """A prefix in a set of addresses: its first address, and the first one after it where there is one."""
    first = prefix.network_address.packed
    after = int(prefix.broadcast_address) + 1
    start = Element(key=first, comment=comment)
    if after >> prefix.max_prefixlen:
        return [start]
    return [start, Element(key=after.to_bytes(len(first), "big"), is_end=True)]


def owner_element(link: int, hardware_address: str, prefix: Prefix) -> Element:
    """Who may send from a prefix; without hardware address the link alone decides."""
    address = bytes.fromhex(hardware_address.replace(":", "")) + b"\0\0" if hardware_address else b""
    first = prefix.network_address.packed
    if hardware_address and is_single(prefix):
        return Element(key=link.to_bytes(4, _BYTE_ORDER) + address + first)
    # Ranges are compared byte by byte, so that all of the key is in network order.
    head = link.to_bytes(4, "big") + address
    return Element(key=head + first, key_end=head + prefix.broadcast_address.packed)


def uplink_element(link: int) -> Element:
    """A link from which a guarded source may come: its packets were sent by machines, not by this node's Pods."""
    return Element(key=link.to_bytes(4, _BYTE_ORDER))


def read_uplink(element: Element) -> int:
    """The index in an element of the uplink set."""
    return int.from_bytes(element.key, _BYTE_ORDER)


def read_prefixes(elements: Sequence[Element]) -> tuple[dict[Prefix, str], bool]:
    """
    Prefixes of an interval set with their comments, and whether every interval was one.

    The kernel gives starts and ends in an order of its own; intervals never overlap, so sorting pairs them.
    """
    starts = sorted((element for element in elements if not element.is_end), key=attrgetter("key"))
    ends = sorted(element.key for element in elements if element.is_end)
    found: dict[Prefix, str] = {}
    is_clean, place = True, 0
    for start in starts:
        while place < len(ends) and ends[place] <= start.key:
            place += 1
        prefix = _prefix_between(start.key, ends[place] if place < len(ends) else b"")
        if prefix is None:
            is_clean = False
        else:
            found[prefix] = start.comment
    return found, is_clean


@lru_cache(maxsize=KEPT)
def _prefix_between(first: bytes, after: bytes) -> Prefix | None:
    """The prefix from *first* to before *after*, which is empty where the last address is the family's last."""
    start, bits = int.from_bytes(first, "big"), 8 * len(first)
    size = (int.from_bytes(after, "big") if after else 1 << bits) - start
    if size <= 0 or size & (size - 1) or start % size:
        return None
    return prefix_from(first, bits - size.bit_length() + 1)


@lru_cache(maxsize=KEPT)
def read_owner(element: Element, version: int, *, is_plain: bool) -> tuple[int, str, Prefix] | None:
    """Link, hardware address and prefix of an owner; None for a range that is no prefix."""
    size = 4 if version == 4 else 16
    link = int.from_bytes(element.key[:4], "big" if element.key_end else _BYTE_ORDER)
    hardware_address = "" if is_plain else element.key[4:10].hex(":")
    first, last = element.key[-size:], element.key_end[-size:] or element.key[-size:]
    after = int.from_bytes(last, "big") + 1
    prefix = _prefix_between(first, b"" if after >> (8 * size) else after.to_bytes(size, "big"))
    return None if prefix is None else (link, hardware_address, prefix)


def write_record(pod_ip: IPAddress, port: int) -> str:
    """The comment that says for which Pod IP a route was made, and behind which port of a bridge the Pod is."""
    return f"{pod_ip} port {port}" if port else str(pod_ip)


@lru_cache(maxsize=KEPT)
def read_record(comment: str) -> tuple[IPAddress | None, int]:
    """Pod IP and port of such a comment; a comment of others gives none."""
    ip, _, port = comment.partition(" port ")
    found = parse_ip(ip)
    return None if found is None else address_from(found.packed), int(port) if port.isdecimal() else 0
