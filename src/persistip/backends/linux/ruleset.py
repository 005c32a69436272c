"""
Which nftables rules keep an address's packets honest and untranslated?

In: prefixes, links and hardware addresses.  Out: our table, and the elements of its sets.
The table is ``inet persistip``. It carries no owner flag, so that it goes on working while no agent runs.

    prerouting, before conntrack (-310)     from an uplink?                               -> accept
                                            source in guarded? owner of it by link,
                                            hardware address and source?                  -> accept
                                            else                                          -> drop
    postrouting, nat, before others (90)    source or destination in exempt?              -> source stays as it is

A nat rule that translates the source to itself settles the matter for the connection: masquerade rules of others,
which stand at 100, no longer see it. An ``accept`` there would not keep them away.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from persistip.backends.linux.expressions import (
    ACCEPT,
    BASE_LINK,
    BASE_NETWORK,
    DROP,
    ETHERNET,
    META_IIF,
    META_IIFTYPE,
    META_NFPROTO,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    REGISTER_1,
    REGISTER_32,
    Expression,
    compare,
    go_to,
    is_same_rule,
    load_meta,
    load_payload,
    look_up,
    source_nat,
    to_network_order,
)
from persistip.backends.linux.nft import FAMILY_INET, Chain, Element, Hook, SetSpec, TableSpec
from persistip.model.address import Prefix

TABLE_NAME = "persistip"

GUARD_PRIORITY = -310
"""Before connection tracking (-200) and before the raw tables of others (-300): a forged packet leaves no trace."""
EXEMPT_PRIORITY = 90
"""Before source translation of others (100)."""

_PREROUTING, _POSTROUTING = 0, 4
_TYPE_IPV4, _TYPE_IPV6, _TYPE_ETHERNET, _TYPE_LINK = 7, 8, 9, 20
_TYPE_BITS = 6

UPLINKS = "uplinks"


def set_of(name: str, version: int) -> str:
    """Name of the set for one family."""
    return f"{name}{version}"


EXEMPT, GUARDED, OWNERS, PLAIN_OWNERS, PODS = "exempt", "guarded", "owners", "plain", "pods"
"""
Families of sets: prefixes exempt from masquerade; prefixes whose source is guarded; who may send from them, on links
with and without hardware addresses; and the Pod IP that a prefix's route was made for, as a comment, which the
kernel's route cannot say.
"""


def _concatenate(*types: int) -> int:
    number = 0
    for kind in types:
        number = number << _TYPE_BITS | kind
    return number


def _sets(version: int) -> tuple[SetSpec, ...]:
    ip_type, size = (_TYPE_IPV4, 4) if version == 4 else (_TYPE_IPV6, 16)
    plain = (SetSpec(name=set_of(name, version), key_type=ip_type, key_length=size, interval=True)
             for name in (EXEMPT, GUARDED, PODS))  # fmt: skip
    return (
        *plain,
        SetSpec(
            name=set_of(OWNERS, version),
            key_type=_concatenate(_TYPE_LINK, _TYPE_ETHERNET, ip_type),
            key_length=12 + size,
            interval=True,
            fields=(4, 6, size),
        ),
        SetSpec(
            name=set_of(PLAIN_OWNERS, version),
            key_type=_concatenate(_TYPE_LINK, ip_type),
            key_length=4 + size,
            interval=True,
            fields=(4, size),
        ),
    )


def _load_address(version: int, *, source: bool, register: int = REGISTER_1) -> Expression:
    if version == 4:
        return load_payload(BASE_NETWORK, 12 if source else 16, 4, register)
    return load_payload(BASE_NETWORK, 8 if source else 24, 16, register)


def _is_family(version: int) -> tuple[Expression, ...]:
    return load_meta(META_NFPROTO), compare(bytes((NFPROTO_IPV4 if version == 4 else NFPROTO_IPV6,)))


def _guard_jump(version: int) -> tuple[Expression, ...]:
    return (
        *_is_family(version),
        _load_address(version, source=True),
        look_up(set_of(GUARDED, version)),
        go_to(f"guard{version}"),
    )


def _guard_chain(version: int) -> Chain:
    link = (load_meta(META_IIF), to_network_order())
    return Chain(
        f"guard{version}",
        None,
        (
            (
                load_meta(META_IIFTYPE),
                compare(ETHERNET.to_bytes(2, "little" if _IS_LITTLE else "big")),
                *_is_family(version),
                *link,
                load_payload(BASE_LINK, 6, 6, REGISTER_32 + 1),
                _load_address(version, source=True, register=REGISTER_32 + 3),
                look_up(set_of(OWNERS, version)),
                ACCEPT,
            ),
            (
                *_is_family(version),
                *link,
                _load_address(version, source=True, register=REGISTER_32 + 1),
                look_up(set_of(PLAIN_OWNERS, version)),
                ACCEPT,
            ),
            (DROP,),
        ),
    )


def _exempt_rule(version: int, *, source: bool) -> tuple[Expression, ...]:
    return (
        *_is_family(version),
        _load_address(version, source=source),
        look_up(set_of(EXEMPT, version)),
        _load_address(version, source=True),
        source_nat(NFPROTO_IPV4 if version == 4 else NFPROTO_IPV6),
    )


_IS_LITTLE = memoryview(b"\1\0").cast("H")[0] == 1

TABLE = TableSpec(
    name=TABLE_NAME,
    family=FAMILY_INET,
    sets=(SetSpec(name=UPLINKS, key_type=_TYPE_LINK, key_length=4, host_order=True), *_sets(4), *_sets(6)),
    chains=(
        _guard_chain(4),
        _guard_chain(6),
        Chain(
            "guard",
            Hook("filter", _PREROUTING, GUARD_PRIORITY),
            ((load_meta(META_IIF), look_up(UPLINKS), ACCEPT), _guard_jump(4), _guard_jump(6)),
        ),
        Chain(
            "exempt",
            Hook("nat", _POSTROUTING, EXEMPT_PRIORITY),
            tuple(_exempt_rule(version, source=source) for version in (4, 6) for source in (True, False)),
        ),
    ),
)
"""Our whole table, elements aside."""


def is_whole(found: TableSpec | None) -> bool:
    """Whether the table found is ours to the last rule: a flushed chain or an altered rule would go unnoticed."""
    if found is None or found.flags or frozenset(found.sets) != frozenset(TABLE.sets):
        return False
    chains = {chain.name: chain for chain in found.chains}
    return len(chains) == len(TABLE.chains) and all(
        _is_same_chain(chain, chains.get(chain.name)) for chain in TABLE.chains
    )


def _is_same_chain(wanted: Chain, found: Chain | None) -> bool:
    return (
        found is not None
        and found.hook == wanted.hook
        and len(found.rules) == len(wanted.rules)
        and all(map(is_same_rule, wanted.rules, found.rules))
    )


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
    head = link.to_bytes(4, "big")
    if hardware_address:
        head += bytes.fromhex(hardware_address.replace(":", "")) + b"\0\0"
    return Element(key=head + prefix.network_address.packed, key_end=head + prefix.broadcast_address.packed)


def uplink_element(link: int) -> Element:
    """A link from which a guarded source may come: its packets were sent by machines, not by this node's Pods."""
    return Element(key=link.to_bytes(4, "little" if _IS_LITTLE else "big"))


def read_uplink(element: Element) -> int:
    """The index in an element of the uplink set."""
    return int.from_bytes(element.key, "little" if _IS_LITTLE else "big")


def read_prefixes(elements: Iterable[Element]) -> tuple[dict[Prefix, str], bool]:
    """
    Prefixes of an interval set with their comments, and whether every interval was one.

    The kernel gives starts and ends in an order of its own; intervals never overlap, so sorting pairs them.
    """
    starts = sorted((element for element in elements_of(elements, is_end=False)), key=lambda element: element.key)
    ends = sorted(element.key for element in elements_of(elements, is_end=True))
    found: dict[Prefix, str] = {}
    is_clean, place = True, 0
    for start in starts:
        while place < len(ends) and ends[place] <= start.key:
            place += 1
        end = int.from_bytes(ends[place], "big") if place < len(ends) else 1 << (8 * len(start.key))
        prefix = _prefix_between(start.key, end)
        if prefix is None:
            is_clean = False
        else:
            found[prefix] = start.comment
    return found, is_clean


def elements_of(elements: Iterable[Element], *, is_end: bool) -> Iterable[Element]:
    """The elements that start an interval, or those that end one."""
    return (element for element in elements if element.is_end is is_end)


def _prefix_between(first: bytes, after: int) -> Prefix | None:
    start, bits = int.from_bytes(first, "big"), 8 * len(first)
    size = after - start
    if size <= 0 or size & (size - 1) or start % size:
        return None
    length = bits - size.bit_length() + 1
    return IPv4Network((start, length)) if bits == 32 else IPv6Network((start, length))


def read_owner(element: Element, version: int, *, plain: bool) -> tuple[int, str, Prefix] | None:
    """Link, hardware address and prefix of an owner; None for a range that is no prefix."""
    size = 4 if version == 4 else 16
    link = int.from_bytes(element.key[:4], "big")
    hardware_address = "" if plain else element.key[4:10].hex(":")
    last = element.key_end[-size:] or element.key[-size:]
    prefix = _prefix_between(element.key[-size:], int.from_bytes(last, "big") + 1)
    return None if prefix is None else (link, hardware_address, prefix)
