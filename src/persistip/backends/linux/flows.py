"""
What becomes of flows that were open when an address is withdrawn, or given?

In: prefixes whose exemption has just been taken out, or put.  Out: no connection-tracking entry that names one of them.
An entry keeps the translation with which its flow began, for as long as packets come: the former holder would go on
sending from the address although no rule lets it any more, or the new one would be masqueraded as the former holder
was when it no longer held the address. With its entry gone, the flow begins anew under the rules that stand.

    one address    the kernel searches itself (a filter on the tuple, Linux 6.5 and newer)
    else           a dump, and one deletion for each entry found
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from persistip.backends.linux.attributes import NESTED, attribute, attribute_u32, nested, parse_attributes
from persistip.backends.linux.errors import error_from_code
from persistip.backends.linux.sockets import Message, NetlinkSocket, Refusal
from persistip.errors import RejectedError
from persistip.model.address import Prefix, is_single

_SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_HEAD = struct.Struct("!BBH")
_FAMILIES = {4: 2, 6: 10}
_VERSION = 1
"""Of the request's head; with version 0 the kernel takes no notice of the family."""

_TUPLE_ORIGIN, _TUPLE_REPLY, _ZONE, _FILTER = 1, 2, 18, 25
_TUPLE_IP = 1
_SOURCES, _DESTINATIONS = {4: 1, 6: 3}, {4: 2, 6: 4}
_FILTER_ORIGIN_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_SOURCE, _BY_DESTINATION = 1, 2
_GONE = frozenset({errno.ENOENT})


def forget_flows(netfilter: NetlinkSocket, prefixes: Iterable[Prefix]) -> None:
    """Delete every entry that begins or ends at one of *prefixes*; without connection tracking there is none."""
    for prefix in prefixes:
        if not is_single(prefix) or not _forget_by_filter(netfilter, prefix):
            _forget_by_dump(netfilter, prefix)


def _forget_by_filter(netfilter: NetlinkSocket, prefix: Prefix) -> bool:
    """Whether the kernel knows how to search by an address."""
    answers = netfilter.request([*_filtered(prefix)])
    return all(answer is None or answer.code in _GONE for answer in answers)


def _filtered(prefix: Prefix) -> Iterator[Message]:
    packed = prefix.network_address.packed
    for number, flag in (
        (_SOURCES[prefix.version], _BY_SOURCE),
        (_DESTINATIONS[prefix.version], _BY_DESTINATION),
    ):
        yield _message(
            _DELETE,
            prefix.version,
            nested(_TUPLE_ORIGIN, nested(_TUPLE_IP, attribute(number, packed))),
            nested(_FILTER, attribute_u32(_FILTER_ORIGIN_FLAGS, flag), attribute_u32(_FILTER_REPLY_FLAGS, 0)),
        )


def _forget_by_dump(netfilter: NetlinkSocket, prefix: Prefix) -> None:
    try:
        found = netfilter.dump(_message(_GET, prefix.version))
    except RejectedError:
        return  # the kernel tracks no connections
    deletions = []
    for _number, body in found:
        entry = parse_attributes(body, _HEAD.size)
        if any(_names(entry.get(number, b""), prefix) for number in (_TUPLE_ORIGIN, _TUPLE_REPLY)):
            parts = [attribute(_TUPLE_ORIGIN | NESTED, entry[_TUPLE_ORIGIN])]
            parts += [attribute(_ZONE, entry[_ZONE])] if _ZONE in entry else []
            deletions.append(_message(_DELETE, prefix.version, *parts))
    _raise_first(netfilter.request(deletions))


def _names(packed_tuple: bytes, prefix: Prefix) -> bool:
    """Whether a tuple's source or destination lies in *prefix*."""
    addresses = parse_attributes(parse_attributes(packed_tuple).get(_TUPLE_IP, b""))
    numbers = (_SOURCES[prefix.version], _DESTINATIONS[prefix.version])
    return any(ip_address(addresses[number]) in prefix for number in numbers if number in addresses)


def _raise_first(answers: Iterable[Refusal | None]) -> None:
    """Entries end by themselves all the time: one that is gone already is what was wanted."""
    for answer in answers:
        if answer is not None and answer.code not in _GONE:
            raise error_from_code(answer.code, answer.text, "delete", "connection tracking entry")


def _message(command: int, version: int, *attributes: bytes) -> Message:
    head = _HEAD.pack(_FAMILIES[version], _VERSION, 0)
    return Message(_SUBSYSTEM << 8 | command, 0, head + b"".join(attributes))
