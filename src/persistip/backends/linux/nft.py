"""
How are nftables objects written to and read from the kernel?

In: chains, sets, rules and elements as values.  Out: nfnetlink messages, sent as one atomic batch, or what a dump says.
The layout is the kernel's (linux/netfilter/nf_tables.h), numbers in network byte order. Written by hand because a
fresh machine has neither the nft program nor libnftables; in the tests both judge what is written here.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import attrs

from persistip.backends.linux.attributes import (
    attribute,
    attribute_be32,
    attribute_text,
    nested,
    parse_attributes,
    parse_list,
    read_be32,
    read_text,
)
from persistip.backends.linux.errors import error_from_code
from persistip.backends.linux.expressions import Expression, encode_expressions, parse_expressions
from persistip.backends.linux.interning import KEPT
from persistip.backends.linux.sockets import CREATE, Message, NetlinkSocket, Refusal

FAMILY_INET = 1
FAMILY_BRIDGE = 7
_FAMILY_ANY = 0

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE = 0, 1, 2
_NEW_CHAIN, _GET_CHAIN = 3, 4
_NEW_RULE, _GET_RULE = 6, 7
_NEW_SET, _GET_SET = 9, 10
_NEW_ELEMENTS, _GET_ELEMENTS, _DELETE_ELEMENTS = 12, 13, 14
_NEW_GENERATION, _GET_GENERATION = 15, 16

_APPEND = 0x800

_LIST_ELEMENT = 1
_DATA_VALUE = 1
_TABLE_NAME, _TABLE_FLAGS = 1, 2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_DESCRIPTION, _SET_ID = 1, 2, 3, 4, 5, 9, 10
_SET_USERDATA = 13
_USERDATA_HOST_ORDER = b"\0\4" + struct.pack("=I", 1)
_DESCRIPTION_FIELDS = 2
_FIELD_LENGTH = 1
_ELEMENTS_TABLE, _ELEMENTS_SET, _ELEMENTS_LIST = 1, 2, 3
_ELEMENT_KEY, _ELEMENT_FLAGS, _ELEMENT_USERDATA, _ELEMENT_KEY_END = 1, 3, 6, 10
_INTERVAL_END = 1
_USERDATA_COMMENT = 0

SET_INTERVAL = 4
_SET_CONCAT = 128
_POLICY_ACCEPT = 1

_HEAD = struct.Struct("!BBH")
_TABLES_KEPT = 16
_ELEMENTS_PER_MESSAGE = 400
"""So that the list, of at most 120 bytes an element, stays below the 64 KiB that an attribute can hold."""


@attrs.frozen
class Hook:
    """Where a base chain stands in the packet's way; its policy is always accept."""

    type: str
    number: int
    priority: int


@attrs.frozen
class Chain:
    """A chain and its rules; without hook it is only jumped to."""

    name: str
    hook: Hook | None
    rules: tuple[tuple[Expression, ...], ...]


@attrs.frozen(kw_only=True)
class SetSpec:
    """
    A set without its elements.

    ``fields`` are the byte lengths of a concatenated key, empty for a plain one; each is padded to four bytes.
    ``key_type`` is nft's number for the type, and ``host_order`` tells that keys are numbers in the machine's byte
    order: only people's listings need these.
    """

    name: str
    key_type: int
    key_length: int
    interval: bool = False
    fields: tuple[int, ...] = ()
    host_order: bool = attrs.field(default=False, eq=False)

    @property
    def flags(self) -> int:
        """The kernel's flags for it."""
        return (SET_INTERVAL if self.interval else 0) | (_SET_CONCAT if self.fields else 0)


@attrs.frozen(kw_only=True, cache_hash=True)
class Element:
    """
    One element of a set.

    A range in a concatenated set is one element with ``key_end``; in a plain interval set it is two, the second of
    which, with ``is_end``, is the first key that no longer belongs to it. ``comment`` is free text.
    """

    key: bytes
    key_end: bytes = b""
    is_end: bool = False
    comment: str = ""


@attrs.frozen(kw_only=True, cache_hash=True)
class TableSpec:
    """A whole table without elements, as wanted or as found."""

    name: str
    family: int
    sets: tuple[SetSpec, ...]
    chains: tuple[Chain, ...]
    flags: int = 0


def _message(command: int, flags: int, family: int, *attributes: bytes) -> Message:
    return Message(_SUBSYSTEM << 8 | command, flags, _HEAD.pack(family, 0, 0) + b"".join(attributes))


def create_table(table: TableSpec) -> list[Message]:
    """Table, sets, chains, rules, in the order in which they refer to each other; nothing may stand there yet."""
    messages = [
        _message(
            _NEW_TABLE,
            CREATE,
            table.family,
            attribute_text(_TABLE_NAME, table.name),
            attribute_be32(_TABLE_FLAGS, table.flags),
        )
    ]
    messages += [_new_set(table, spec, number) for number, spec in enumerate(table.sets, start=1)]
    messages += [_new_chain(table, chain) for chain in table.chains]
    messages += [_new_rule(table, chain, rule) for chain in table.chains for rule in chain.rules]
    return messages


def delete_table(name: str, family: int) -> Message:
    """The table with all that is in it."""
    return _message(_DELETE_TABLE, 0, family, attribute_text(_TABLE_NAME, name))


def _new_set(table: TableSpec, spec: SetSpec, number: int) -> Message:
    parts = [
        attribute_text(_SET_TABLE, table.name),
        attribute_text(_SET_NAME, spec.name),
        attribute_be32(_SET_FLAGS, spec.flags),
        attribute_be32(_SET_KEY_TYPE, spec.key_type),
        attribute_be32(_SET_KEY_LENGTH, spec.key_length),
        attribute_be32(_SET_ID, number),
    ]
    if spec.host_order:
        parts.append(attribute(_SET_USERDATA, _USERDATA_HOST_ORDER))
    if spec.fields:
        lengths = (nested(_LIST_ELEMENT, attribute_be32(_FIELD_LENGTH, length)) for length in spec.fields)
        parts.append(nested(_SET_DESCRIPTION, nested(_DESCRIPTION_FIELDS, *lengths)))
    return _message(_NEW_SET, CREATE, table.family, *parts)


def _new_chain(table: TableSpec, chain: Chain) -> Message:
    parts = [attribute_text(_CHAIN_TABLE, table.name), attribute_text(_CHAIN_NAME, chain.name)]
    if chain.hook is not None:
        parts += [
            nested(
                _CHAIN_HOOK,
                attribute_be32(_HOOK_NUMBER, chain.hook.number),
                attribute_be32(_HOOK_PRIORITY, chain.hook.priority),
            ),
            attribute_be32(_CHAIN_POLICY, _POLICY_ACCEPT),
            attribute_text(_CHAIN_TYPE, chain.hook.type),
        ]
    return _message(_NEW_CHAIN, CREATE, table.family, *parts)


def _new_rule(table: TableSpec, chain: Chain, rule: tuple[Expression, ...]) -> Message:
    return _message(
        _NEW_RULE,
        CREATE | _APPEND,
        table.family,
        attribute_text(_RULE_TABLE, table.name),
        attribute_text(_RULE_CHAIN, chain.name),
        nested(_RULE_EXPRESSIONS, encode_expressions(rule)),
    )


def add_elements(table: TableSpec, set_name: str, elements: Sequence[Element]) -> list[Message]:
    """Add the elements; those that stand there already are no error and keep their comment."""
    return _elements(_NEW_ELEMENTS, CREATE, table, set_name, elements)


def delete_elements(table: TableSpec, set_name: str, elements: Sequence[Element]) -> list[Message]:
    """Delete the elements, all of which must stand there."""
    return _elements(_DELETE_ELEMENTS, 0, table, set_name, elements)


def _elements(command: int, flags: int, table: TableSpec, set_name: str, elements: Sequence[Element]) -> list[Message]:
    head = (attribute_text(_ELEMENTS_TABLE, table.name), attribute_text(_ELEMENTS_SET, set_name))
    return [
        _message(
            command,
            flags,
            table.family,
            *head,
            nested(_ELEMENTS_LIST, *map(_encode_element, elements[start : start + _ELEMENTS_PER_MESSAGE])),
        )
        for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE)
    ]


def _encode_element(element: Element) -> bytes:
    parts = [nested(_ELEMENT_KEY, attribute(_DATA_VALUE, element.key))]
    if element.key_end:
        parts.append(nested(_ELEMENT_KEY_END, attribute(_DATA_VALUE, element.key_end)))
    if element.is_end:
        parts.append(attribute_be32(_ELEMENT_FLAGS, _INTERVAL_END))
    if element.comment:
        text = element.comment.encode() + b"\0"
        parts.append(attribute(_ELEMENT_USERDATA, bytes((_USERDATA_COMMENT, len(text))) + text))
    return nested(_LIST_ELEMENT, *parts)


def commit(netlink: NetlinkSocket, messages: Sequence[Message]) -> Refusal | None:
    """
    Carry out all of *messages* or none of them; the first refusal is the answer.

    The kernel takes what stands between begin and end as one transaction, so no packet sees half a change.
    """
    begin = Message(_BATCH_BEGIN, 0, _HEAD.pack(0, 0, _SUBSYSTEM))
    end = Message(_BATCH_END, 0, _HEAD.pack(0, 0, _SUBSYSTEM))
    answers = netlink.request_whole([begin, *messages, end])
    return next((answer for answer in answers if answer is not None), None)


def read_generation(netlink: NetlinkSocket) -> int:
    """The kernel's count of changes to any ruleset of the namespace: equal means untouched."""
    answer = netlink.ask(_message(_GET_GENERATION, 0, _FAMILY_ANY))
    if isinstance(answer, Refusal):
        raise error_from_code(answer.code, answer.text, "read", "nftables generation")
    return read_be32(parse_attributes(answer[1], _HEAD.size)[1])


def read_table(netlink: NetlinkSocket, name: str, family: int) -> TableSpec | None:
    """The table as it stands, elements aside; None where there is none."""
    answer = netlink.ask(_message(_GET_TABLE, 0, family, attribute_text(_TABLE_NAME, name)))
    if isinstance(answer, Refusal):
        if answer.code == errno.ENOENT:
            return None
        raise error_from_code(answer.code, answer.text, "read", f"nftables table {name}")
    flags = parse_attributes(answer[1], _HEAD.size).get(_TABLE_FLAGS, b"\0\0\0\0")
    rules = _dump(netlink, _GET_RULE, family, _RULE_TABLE, name)
    chains = _dump(netlink, _GET_CHAIN, family, _CHAIN_TABLE, name)
    sets = _dump(netlink, _GET_SET, family, _SET_TABLE, name)
    return _parse_table(
        (name, family, read_be32(flags)),
        rules=tuple(_pick(found, _RULE_PARTS) for found in rules),
        chains=tuple(_pick(found, _CHAIN_PARTS) for found in chains),
        sets=tuple(_pick(found, _SET_PARTS) for found in sets),
    )


_Parts = tuple[bytes | None, ...]
_RULE_PARTS = (_RULE_CHAIN, _RULE_EXPRESSIONS)
_CHAIN_PARTS = (_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE, _CHAIN_POLICY)
_SET_PARTS = (_SET_NAME, _SET_FLAGS, _SET_DESCRIPTION, _SET_KEY_TYPE, _SET_KEY_LENGTH)
"""What of a rule, chain or set is told apart; handles and counts of users are not."""


def _pick(found: dict[int, bytes], numbers: Iterable[int]) -> _Parts:
    return tuple(map(found.get, numbers))


@lru_cache(maxsize=_TABLES_KEPT)
def _parse_table(
    head: tuple[str, int, int], *, rules: tuple[_Parts, ...], chains: tuple[_Parts, ...], sets: tuple[_Parts, ...]
) -> TableSpec:
    """The same bytes are the same table, which need not be worked out again: traffic may be waiting for it."""
    name, family, flags = head
    by_chain: dict[str, list[tuple[Expression, ...]]] = {}
    for chain, expressions in rules:
        by_chain.setdefault(read_text(chain or b""), []).append(parse_expressions(expressions or b""))
    return TableSpec(
        name=name,
        family=family,
        sets=tuple(_parse_set(dict(zip(_SET_PARTS, parts, strict=True))) for parts in sets),
        chains=tuple(_parse_chain(dict(zip(_CHAIN_PARTS, parts, strict=True)), by_chain) for parts in chains),
        flags=flags,
    )


def _dump(
    netlink: NetlinkSocket, command: int, family: int, table_attribute: int, table: str
) -> Iterator[dict[int, bytes]]:
    """Objects of one table; kernels that ignore the filter send those of others as well."""
    for _number, data in netlink.dump(_message(command, 0, family, attribute_text(table_attribute, table))):
        found = parse_attributes(data, _HEAD.size)
        if data[0] == family and read_text(found.get(table_attribute, b"")) == table:
            yield found


@attrs.frozen(kw_only=True)
class BaseChain:
    """A chain of whoever that hangs in the way of packets; ``drops``: what none of its rules takes."""

    family: int
    table: str
    name: str
    type: str
    hook: int
    priority: int
    drops: bool


def dump_base_chains(netlink: NetlinkSocket) -> Iterator[BaseChain]:
    """The base chains of every table of every family."""
    for _number, data in netlink.dump(_message(_GET_CHAIN, 0, _FAMILY_ANY)):
        found = parse_attributes(data, _HEAD.size)
        if (where := found.get(_CHAIN_HOOK)) is None:
            continue
        place = parse_attributes(where)
        yield BaseChain(
            family=data[0],
            table=read_text(found[_CHAIN_TABLE]),
            name=read_text(found[_CHAIN_NAME]),
            type=read_text(found.get(_CHAIN_TYPE, b"")),
            hook=read_be32(place[_HOOK_NUMBER]),
            priority=struct.unpack("!i", place[_HOOK_PRIORITY])[0],
            drops=read_be32(found.get(_CHAIN_POLICY, b"\0\0\0\1")) != _POLICY_ACCEPT,
        )


def _parse_chain(found: dict[int, bytes | None], rules: dict[str, list[tuple[Expression, ...]]]) -> Chain:
    name = read_text(found[_CHAIN_NAME] or b"")
    hook = None
    if (where := found[_CHAIN_HOOK]) is not None:
        place = parse_attributes(where)
        priority = struct.unpack("!i", place[_HOOK_PRIORITY])[0]
        kind = read_text(found[_CHAIN_TYPE] or b"")
        policy = read_be32(found[_CHAIN_POLICY] or b"\0\0\0\1")
        kind = kind if policy == _POLICY_ACCEPT else f"{kind} policy {policy}"
        hook = Hook(kind, read_be32(place[_HOOK_NUMBER]), priority)
    return Chain(name, hook, tuple(rules.get(name, ())))


def _parse_set(found: dict[int, bytes | None]) -> SetSpec:
    flags = read_be32(found[_SET_FLAGS] or b"\0\0\0\0")
    description = parse_attributes(found[_SET_DESCRIPTION] or b"")
    fields = tuple(
        read_be32(parse_attributes(data)[_FIELD_LENGTH])
        for _number, data in parse_list(description.get(_DESCRIPTION_FIELDS, b""))
    )
    return SetSpec(
        name=read_text(found[_SET_NAME] or b""),
        key_type=read_be32(found[_SET_KEY_TYPE] or b"\0\0\0\0"),
        key_length=read_be32(found[_SET_KEY_LENGTH] or b"\0\0\0\0"),
        interval=bool(flags & SET_INTERVAL),
        fields=fields,
    )


def dump_elements(netlink: NetlinkSocket, table: TableSpec, set_name: str) -> Iterator[Element]:
    """The elements of one set, in the kernel's order."""
    request = _message(
        _GET_ELEMENTS,
        0,
        table.family,
        attribute_text(_ELEMENTS_TABLE, table.name),
        attribute_text(_ELEMENTS_SET, set_name),
    )
    for _number, data in netlink.dump(request):
        for _kind, entry in parse_list(parse_attributes(data, _HEAD.size).get(_ELEMENTS_LIST, b"")):
            yield _parse_element(entry)


@lru_cache(maxsize=KEPT)
def _parse_element(data: bytes) -> Element:
    found = parse_attributes(data)
    key = parse_attributes(found.get(_ELEMENT_KEY, b"")).get(_DATA_VALUE, b"")
    key_end = parse_attributes(found[_ELEMENT_KEY_END]).get(_DATA_VALUE, b"") if _ELEMENT_KEY_END in found else b""
    flags = read_be32(found[_ELEMENT_FLAGS]) if _ELEMENT_FLAGS in found else 0
    userdata = found.get(_ELEMENT_USERDATA, b"")
    comment = read_text(userdata[2 : 2 + userdata[1]]) if len(userdata) > 2 and userdata[0] == _USERDATA_COMMENT else ""
    return Element(key=key, key_end=key_end, is_end=bool(flags & _INTERVAL_END), comment=comment)


def is_about(data: bytes, tables: Iterable[str]) -> bool:
    """Whether an nftables event, given as the body of its message, names one of *tables*."""
    name = parse_attributes(data, _HEAD.size).get(_TABLE_NAME)
    return name is not None and read_text(name) in tables
