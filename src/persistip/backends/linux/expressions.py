"""
What is a rule of nftables made of?

In: expressions as values.  Out: the kernel's list of them, and back.
A rule is read and written by the same table, so that a rule read back can be compared with the rule wanted.

    ip saddr @set accept  =  meta nfproto -> reg 1 | cmp reg 1 ipv4 | payload -> reg 1 | lookup reg 1 @set | accept
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import attrs

from persistip.backends.linux.attributes import (
    attribute,
    attribute_text,
    nested,
    parse_attributes,
    parse_list,
    read_text,
)

_LIST_ELEMENT = 1
_NAME, _DATA = 1, 2

META_PROTOCOL, META_IIF, META_OIF, META_IIFTYPE, META_NFPROTO = 1, 4, 5, 8, 15
NFPROTO_IPV4, NFPROTO_IPV6 = 2, 10
ETHERNET = 1

BASE_LINK, BASE_NETWORK = 0, 1

REGISTER_1 = 1
"""The first register of 16 bytes."""
REGISTER_32 = 8
"""The same place as the first of sixteen registers of four bytes, in which concatenated keys are laid out."""

_DROP, _ACCEPT, _GOTO = 0, 1, -4
_NAT_SOURCE = 0
_NAT_MAP_ADDRESSES = 1
_HOST_TO_NETWORK = 1
_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 1, 2
_VALUE = 1

_NESTED_ATTRIBUTES = {"cmp": 3, "immediate": 2}
"""Which attribute of an expression holds a value or a verdict."""


@attrs.frozen
class Expression:
    """Name and attributes of one expression; a value or verdict is given by its innermost bytes."""

    name: str
    attributes: tuple[tuple[int, bytes], ...]


def _be32(value: int) -> bytes:
    return struct.pack("!I", value & 0xFFFFFFFF)


def load_meta(key: int, register: int = REGISTER_1) -> Expression:
    """Load a fact about the packet, such as the link it came by."""
    return Expression("meta", ((2, _be32(key)), (1, _be32(register))))


def load_payload(base: int, offset: int, length: int, register: int = REGISTER_1) -> Expression:
    """Load bytes of the packet."""
    return Expression("payload", ((1, _be32(register)), (2, _be32(base)), (3, _be32(offset)), (4, _be32(length))))


def compare(value: bytes, register: int = REGISTER_1) -> Expression:
    """Go on only if the register holds *value*."""
    return Expression("cmp", ((1, _be32(register)), (2, _be32(0)), (3, value)))


def to_network_order(register: int = REGISTER_1) -> Expression:
    """Turn a number of four bytes round: ranges over concatenated keys, and listings, want network order."""
    place, size = _be32(register), _be32(4)
    return Expression("byteorder", ((1, place), (2, place), (3, _be32(_HOST_TO_NETWORK)), (4, size), (5, size)))


def look_up(set_name: str, register: int = REGISTER_1) -> Expression:
    """Go on only if the set has what stands in the register."""
    return Expression("lookup", ((1, set_name.encode() + b"\0"), (2, _be32(register))))


def _verdict(code: int, chain: str = "") -> Expression:
    return Expression("immediate", ((1, _be32(0)), (2, _be32(code) + chain.encode())))


ACCEPT = _verdict(_ACCEPT)
DROP = _verdict(_DROP)


def go_to(chain: str) -> Expression:
    """Go on in *chain* and do not come back."""
    return _verdict(_GOTO, chain)


def source_nat(family: int, register: int = REGISTER_1) -> Expression:
    """Translate the source to what stands in the register."""
    register_bytes = _be32(register)
    return Expression(
        "nat",
        (
            (1, _be32(_NAT_SOURCE)),
            (2, _be32(family)),
            (3, register_bytes),
            (4, register_bytes),
            (7, _be32(_NAT_MAP_ADDRESSES)),
        ),
    )


def encode_expressions(expressions: Iterable[Expression]) -> bytes:
    """The list as the kernel reads it."""
    return b"".join(
        nested(_LIST_ELEMENT, attribute_text(_NAME, expression.name), nested(_DATA, *_encode(expression)))
        for expression in expressions
    )


def _encode(expression: Expression) -> Iterable[bytes]:
    holder = _NESTED_ATTRIBUTES.get(expression.name)
    for number, value in expression.attributes:
        if number != holder:
            yield attribute(number, value)
        elif expression.name == "immediate":
            parts = [attribute(_VERDICT_CODE, value[:4])]
            if len(value) > 4:
                parts.append(attribute_text(_VERDICT_CHAIN, value[4:].decode()))
            yield nested(number, nested(_VERDICT, *parts))
        else:
            yield nested(number, attribute(_VALUE, value))


def parse_expressions(data: bytes) -> tuple[Expression, ...]:
    """Expressions from the kernel's list; one that we never write keeps its raw attributes."""
    found = []
    for _number, entry in parse_list(data):
        parts = parse_attributes(entry)
        name = read_text(parts.get(_NAME, b""))
        values = (_parse_value(name, number, value) for number, value in parse_list(parts.get(_DATA, b"")))
        found.append(Expression(name, tuple(values)))
    return tuple(found)


def _parse_value(name: str, number: int, value: bytes) -> tuple[int, bytes]:
    if _NESTED_ATTRIBUTES.get(name) != number:
        return number, value
    parts = parse_attributes(value)
    if _VERDICT in parts:
        verdict = parse_attributes(parts[_VERDICT])
        chain = verdict.get(_VERDICT_CHAIN, b"").rstrip(b"\0")
        return number, verdict.get(_VERDICT_CODE, b"") + chain
    return number, parts.get(_VALUE, b"")


def is_same_rule(wanted: tuple[Expression, ...], found: tuple[Expression, ...]) -> bool:
    """
    Whether the kernel's rule does what the wanted one says.

    The kernel spells out attributes that were left at their default, zero; anything else more is another rule.
    """
    return len(wanted) == len(found) and all(map(_is_same, wanted, found))


def _is_same(wanted: Expression, found: Expression) -> bool:
    if wanted.name != found.name:
        return False
    given, read = dict(wanted.attributes), dict(found.attributes)
    return all(read.get(number) == value for number, value in given.items()) and all(
        number in given or not any(value) for number, value in read.items()
    )
