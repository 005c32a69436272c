"""
How are addresses and prefixes read from the kernel without paying for them again and again?

In: packed bytes.  Out: addresses and prefixes equal to the standard library's, hash included.
The standard library computes the hash of a prefix anew each time, in Python (1.5 µs); a look at a thousand addresses
takes tens of thousands of them. Here equal ones are one object that keeps its hash: the look takes a third of the time.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from persistip.model.address import IPAddress, Prefix

KEPT = 1 << 16
"""How many parsed objects are kept, of each kind: what a kernel says again in the same bytes is not parsed again."""


class _IPv4Address(IPv4Address):
    __slots__ = ("_hash",)

    def __init__(self, address: bytes) -> None:
        super().__init__(address)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"IPv4Address({str(self)!r})"

    def __reduce__(self) -> tuple[type[IPv4Address], tuple[str]]:
        return IPv4Address, (str(self),)


class _IPv6Address(IPv6Address):
    __slots__ = ("_hash",)

    def __init__(self, address: bytes) -> None:
        super().__init__(address)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"IPv6Address({str(self)!r})"

    def __reduce__(self) -> tuple[type[IPv6Address], tuple[str]]:
        return IPv6Address, (str(self),)


class _IPv4Network(IPv4Network):
    def __init__(self, address: tuple[bytes, int]) -> None:
        super().__init__(address)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"IPv4Network({str(self)!r})"

    def __reduce__(self) -> tuple[type[IPv4Network], tuple[str]]:
        return IPv4Network, (str(self),)


class _IPv6Network(IPv6Network):
    def __init__(self, address: tuple[bytes, int]) -> None:
        super().__init__(address)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"IPv6Network({str(self)!r})"

    def __reduce__(self) -> tuple[type[IPv6Network], tuple[str]]:
        return IPv6Network, (str(self),)


@lru_cache(maxsize=KEPT)
def address_from(packed: bytes) -> IPAddress:
    """The address of four or sixteen bytes."""
    return _IPv4Address(packed) if len(packed) == 4 else _IPv6Address(packed)


@lru_cache(maxsize=KEPT)
def prefix_from(packed: bytes, length: int) -> Prefix:
    """The prefix that begins with the address of four or sixteen bytes."""
    return _IPv4Network((packed, length)) if len(packed) == 4 else _IPv6Network((packed, length))
