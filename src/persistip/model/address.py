"""
What does an address string mean?

A route's or Gateway's ``{type, value}`` becomes a ``Prefix``: an IPv4 or IPv6 network of the standard library, a bare
address being /32 or /128. A value that cannot be one is a sentence, not an exception: it is the user's to mend.
The types accepted are Gateway API's and those seen in GKE manifests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import attrs

IPAddress = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

IP_ADDRESS = "IPAddress"
NAMED_ADDRESS = "NamedAddress"
CIDR_TYPES = frozenset({"gke.networking.io/cidr", "networking.gke.io/cidr"})

# The standard library also reads netmasks ("/255.0.0.0"), lengths such as "/08" and zones ("%eth0"), which no API here
# has. Two prefixes that differ in their zone alone would be two to a dict and one to the kernel.
_WRITTEN = re.compile(r"[0-9a-fA-F:.]+(/(0|[1-9][0-9]{0,2}))?")


# Every decision reads the same strings again, and the standard library takes its time over each.
_KEPT = 32_768


@attrs.frozen
class AddressSpec:
    """One entry of ``spec.addresses``, as the user wrote it."""

    type: str
    value: str


@attrs.frozen
class Malformed:
    """Why a value is no usable address, in words that name the fix."""

    message: str


@lru_cache(maxsize=_KEPT)
def parse_prefix(spec: AddressSpec) -> Prefix | Malformed:
    """
    Normalise one entry to a network.

    Host bits set in a CIDR are an error and not masked away: masking would claim more than the user wrote.
    """
    value = spec.value.strip()
    if spec.type == NAMED_ADDRESS:
        said = f"type NamedAddress ({value!r}) needs a cloud that knows reserved addresses by name"
        return Malformed(f"{said}; here, write the address itself with type IPAddress")
    if spec.type != IP_ADDRESS and spec.type not in CIDR_TYPES:
        return Malformed(f"type {spec.type!r} is not supported; use IPAddress or gke.networking.io/cidr")
    if not value:
        return Malformed("an address without value needs a cloud that can reserve one; here, write the address itself")
    if spec.type in CIDR_TYPES and "/" not in value:
        return Malformed(f"{value!r} has type {spec.type} but no prefix length; write {value}/{_full_length(value)}")
    if not _WRITTEN.fullmatch(value):
        return Malformed(_no_address(value))
    try:
        return ip_network(value, strict=True)
    except ValueError:
        return Malformed(_why_malformed(value))


def _full_length(value: str) -> int:
    return 128 if ":" in value else 32


def _no_address(value: str) -> str:
    said = f"{value!r} is not an IPv4 or IPv6 address or CIDR"
    return f"{said}; write it in full, such as 203.0.113.10, 2001:db8::10 or 203.0.113.0/28"


def _why_malformed(value: str) -> str:
    try:
        masked = ip_network(value, strict=False)
    except ValueError:
        return _no_address(value)
    host = value.split("/", maxsplit=1)[0]
    single = f"{host}/{masked.max_prefixlen}"
    return f"{value!r} has host bits set; write {masked} for the network or {single} for the address"


def well_formed(specs: Iterable[AddressSpec]) -> tuple[Prefix, ...]:
    """Those of *specs* that are prefixes; what an index of claims is built from."""
    parsed = (parse_prefix(spec) for spec in specs)
    return tuple(prefix for prefix in parsed if not isinstance(prefix, Malformed))


def parse_ip(text: str) -> IPAddress | None:
    """An IP literal, or None for anything else."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_within(prefix: Prefix, pool: Prefix) -> bool:
    """Whether *prefix* is *pool* or lies inside it; families never mix."""
    if isinstance(prefix, IPv4Network):
        return isinstance(pool, IPv4Network) and prefix.subnet_of(pool)
    return isinstance(pool, IPv6Network) and prefix.subnet_of(pool)


def is_overlapping(one: Prefix, other: Prefix) -> bool:
    """Whether the two share an address: equal or nested."""
    return one.version == other.version and one.overlaps(other)


def overlap(one: Iterable[Prefix], others: Iterable[Prefix]) -> Prefix | None:
    """The first of *one* that overlaps any of *others*."""
    rest = tuple(others)
    return next((prefix for prefix in one if any(is_overlapping(prefix, other) for other in rest)), None)


def is_single(prefix: Prefix) -> bool:
    """Whether *prefix* is one address, which the kernel can answer for on layer 2."""
    return prefix.prefixlen == prefix.max_prefixlen


def show(prefix: Prefix) -> str:
    """The way people write it: a bare address where the prefix is one address."""
    return str(prefix.network_address) if is_single(prefix) else str(prefix)


def sort_key(prefix: Prefix) -> tuple[int, int, int]:
    """An order across families: IPv4 first, then by address, then the wider first."""
    return prefix.version, int(prefix.network_address), prefix.prefixlen


_MAPPED = IPv6Network("::ffff:0:0/96")
_NEVER = (
    (ip_network("0.0.0.0/8"), "the unspecified network"),
    (ip_network("127.0.0.0/8"), "loopback"),
    (ip_network("169.254.0.0/16"), "link-local"),
    (ip_network("224.0.0.0/4"), "multicast"),
    (ip_network("255.255.255.255/32"), "broadcast"),
    (ip_network("::/128"), "the unspecified address"),
    (ip_network("::1/128"), "loopback"),
    (_MAPPED, "IPv4 addresses mapped into IPv6"),
    (ip_network("fe80::/10"), "link-local"),
    (ip_network("ff00::/8"), "multicast"),
)


@lru_cache(maxsize=_KEPT)
def never_usable(prefix: Prefix) -> str | None:
    """
    Why no cluster may ever use *prefix*, and what to write instead, or None.

    Loopback, link-local, multicast, the unspecified address, IPv4 mapped into IPv6 and a default route, each also when
    only overlapped.
    """
    if prefix.prefixlen == 0:
        return f"{prefix} is a default route; write the addresses themselves, or narrower prefixes"
    if isinstance(prefix, IPv6Network) and prefix.subnet_of(_MAPPED):
        # Told as IPv4: how the other is written differs between versions of Python.
        as_ipv4 = show(IPv4Network((int(prefix.network_address) & 0xFFFF_FFFF, prefix.prefixlen - _MAPPED.prefixlen)))
        return f"{as_ipv4} is written as an IPv4-mapped IPv6 address; write {as_ipv4} itself"
    for range_, what in _NEVER:
        if is_within(prefix, range_):
            return f"{show(prefix)} is {what}; write a unicast address that is routed in your network"
        if is_overlapping(prefix, range_):
            return f"{show(prefix)} overlaps {what}; write narrower prefixes that leave it out"
    return None
