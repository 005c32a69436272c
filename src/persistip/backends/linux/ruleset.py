"""
Which nftables rules keep an address's packets honest and untranslated?

In: prefixes, links and hardware addresses.  Out: our table, and the elements of its sets.
The table is ``inet persistip``. It carries no owner flag, so that it goes on working while no agent runs.
For Pods on a bridge there is ``bridge persistip`` besides, since on a shared link a hardware address can be forged.

    prerouting, before conntrack (-310)     from an uplink?                               -> accept
                                            source in guarded? owner of it by link,
                                            hardware address and source?                  -> accept
                                            else                                          -> drop
    postrouting, nat, before others (90)    source or destination in exempt?              -> source stays as it is

A nat rule that translates the source to itself settles the matter for the connection: masquerade rules of others,
which stand at 100, no longer see it. An ``accept`` there would not keep them away.

    bridge prerouting     source in guarded? the port it came by is its owner's?          -> accept, else drop
    bridge postrouting    destination in guarded? the port it leaves by is its owner's?   -> accept, else drop
"""

from __future__ import annotations

from functools import lru_cache

from persistip.backends.linux.expressions import (
    ACCEPT,
    BASE_LINK,
    BASE_NETWORK,
    DROP,
    ETHERNET,
    META_IIF,
    META_IIFTYPE,
    META_NFPROTO,
    META_OIF,
    META_PROTOCOL,
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
from persistip.backends.linux.nft import FAMILY_BRIDGE, FAMILY_INET, Chain, Hook, SetSpec, TableSpec

TABLE_NAME = "persistip"
"""Our tables of nftables, families `inet` and `bridge`: `nft list table inet persistip`."""

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


EXEMPT, GUARDED, PODS = "exempt", "guarded", "pods"
"""
Families of sets of prefixes: exempt from masquerade; guarded as a source; and the Pod IP that a prefix's route was made
for, as a comment, which the kernel's route cannot say.
"""

OWNERS, WIDE_OWNERS, PLAIN_OWNERS = "owners", "wide", "plain"
"""
Families of sets of who may send: from a single address; from a prefix of several; from either on links without
hardware addresses. Single addresses have a set of their own since sets of ranges cost more the more they hold:
deleting a thousand took the kernel five seconds.
"""


def _concatenate(*types: int) -> int:
    number = 0
    for kind in types:
        number = number << _TYPE_BITS | kind
    return number


def _sets(version: int) -> tuple[SetSpec, ...]:
    ip_type, size = (_TYPE_IPV4, 4) if version == 4 else (_TYPE_IPV6, 16)
    owner_type = _concatenate(_TYPE_LINK, _TYPE_ETHERNET, ip_type)
    plain = (SetSpec(name=set_of(name, version), key_type=ip_type, key_length=size, interval=True)
             for name in (EXEMPT, GUARDED, PODS))  # fmt: skip
    return (
        *plain,
        SetSpec(name=set_of(OWNERS, version), key_type=owner_type, key_length=12 + size),
        SetSpec(
            name=set_of(WIDE_OWNERS, version),
            key_type=owner_type,
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


def _look_up_owner(version: int, name: str, *, source: bool) -> tuple[Expression, ...]:
    """Link, hardware address and address, side by side in the registers as in the set's key."""
    return (
        load_meta(META_IIF if source else META_OIF),
        *([to_network_order()] if name == WIDE_OWNERS else []),
        load_payload(BASE_LINK, 6 if source else 0, 6, REGISTER_32 + 1),
        _load_address(version, source=source, register=REGISTER_32 + 3),
        look_up(set_of(name, version)),
    )


def _guard_chain(version: int) -> Chain:
    return Chain(
        f"guard{version}",
        None,
        (
            *(
                (
                    load_meta(META_IIFTYPE),
                    compare(ETHERNET.to_bytes(2, "little" if _IS_LITTLE else "big")),
                    *_is_family(version),
                    *_look_up_owner(version, name, source=True),
                    ACCEPT,
                )
                for name in (OWNERS, WIDE_OWNERS)
            ),
            (
                *_is_family(version),
                load_meta(META_IIF),
                to_network_order(),
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


def _is_framed_family(version: int) -> tuple[Expression, ...]:
    """In a bridge the frame says what it carries."""
    return load_meta(META_PROTOCOL), compare(b"\x08\x00" if version == 4 else b"\x86\xdd")


def _port_jump(version: int, *, source: bool) -> tuple[Expression, ...]:
    return (
        *_is_framed_family(version),
        _load_address(version, source=source),
        look_up(set_of(GUARDED, version)),
        go_to(f"{'from' if source else 'to'}{version}"),
    )


def _port_chain(version: int, *, source: bool) -> Chain:
    owner_rules = (
        (*_is_framed_family(version), *_look_up_owner(version, name, source=source), ACCEPT)
        for name in (OWNERS, WIDE_OWNERS)
    )
    return Chain(f"{'from' if source else 'to'}{version}", None, (*owner_rules, (DROP,)))


BRIDGE_TABLE = TableSpec(
    name=TABLE_NAME,
    family=FAMILY_BRIDGE,
    sets=(
        SetSpec(name=UPLINKS, key_type=_TYPE_LINK, key_length=4, host_order=True),
        *(spec for version in (4, 6) for spec in _sets(version) if spec.name[:-1] in (GUARDED, OWNERS, WIDE_OWNERS)),
    ),
    chains=(
        *(_port_chain(version, source=source) for version in (4, 6) for source in (True, False)),
        Chain(
            "from",
            Hook("filter", _PREROUTING, GUARD_PRIORITY),
            (
                (load_meta(META_IIF), look_up(UPLINKS), ACCEPT),
                _port_jump(4, source=True),
                _port_jump(6, source=True),
            ),
        ),
        Chain(
            "to",
            Hook("filter", _POSTROUTING, GUARD_PRIORITY),
            (
                (load_meta(META_OIF), look_up(UPLINKS), ACCEPT),
                _port_jump(4, source=False),
                _port_jump(6, source=False),
            ),
        ),
    ),
)
"""Our table for the ports of bridges; made only where a Pod is on one."""


@lru_cache(maxsize=16)
def is_whole(found: TableSpec | None, wanted: TableSpec) -> bool:
    """Whether the table found is the one wanted to the last rule: a flushed chain would go unnoticed otherwise."""
    if found is None or found.flags or frozenset(found.sets) != frozenset(wanted.sets):
        return False
    chains = {chain.name: chain for chain in found.chains}
    return len(chains) == len(wanted.chains) and all(
        _is_same_chain(chain, chains.get(chain.name)) for chain in wanted.chains
    )


def _is_same_chain(wanted: Chain, found: Chain | None) -> bool:
    return (
        found is not None
        and found.hook == wanted.hook
        and len(found.rules) == len(wanted.rules)
        and all(map(is_same_rule, wanted.rules, found.rules))
    )
