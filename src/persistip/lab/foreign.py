"""
What is in a node's kernel that is not ours?

In: the present network namespace.  Out: one line of text for each route, rule, fixed neighbour and nftables object that
does not carry our mark, so that two looks can be compared as sets.
Left out is what comes and goes with Pods and by itself: whatever lies on a Pod's link, and neighbours that the kernel
learned.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2.nftables.main import NFTables

_OURS = 190
"""Our protocol number; said here again and not imported, so that a slip in one place does not hide in the other."""
_OUR_TABLE = "persistip"
_POD_LINKS = "veth"
_PERMANENT, _PROXY = 0x80, 0x08
_CLONED = 0x200


def look_at_foreign() -> frozenset[str]:
    """Look at the namespace of the calling thread, which must not run an event loop."""
    with IPRoute() as route, NFTables(nfgen_family=0) as netfilter:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in route.get_links()}
        return frozenset((*_routes(route, names), *_rules(route), *_neighbours(route, names), *_tables(netfilter)))


def _routes(route: IPRoute, names: dict[int, str]) -> Iterator[str]:
    for family in (socket.AF_INET, socket.AF_INET6):
        for each in route.route("dump", family=family):
            link = names.get(each.get_attr("RTA_OIF"), "")
            to = f"{each.get_attr('RTA_DST') or 'default'}/{each['dst_len']}"
            # A bridge takes its hardware address, and with it its link-local one, from the Pods' links.
            is_fleeting = each["flags"] & _CLONED or link.startswith(_POD_LINKS) or to.startswith(("fe80:", "ff00:"))
            if each["proto"] == _OURS or is_fleeting:
                continue
            via = each.get_attr("RTA_GATEWAY") or "no gateway"
            metric = each.get_attr("RTA_PRIORITY") or 0
            yield (
                f"route {to} via {via} on {link}, table {each.get_attr('RTA_TABLE')}, type {each['type']}, "
                f"protocol {each['proto']}, metric {metric}"
            )


def _rules(route: IPRoute) -> Iterator[str]:
    for family in (socket.AF_INET, socket.AF_INET6):
        for each in route.get_rules(family=family):
            if each.get_attr("FRA_PROTOCOL") != _OURS:
                yield f"rule of family {family}: {_plain(each['attrs'])}"


def _neighbours(route: IPRoute, names: dict[int, str]) -> Iterator[str]:
    for is_proxy in (False, True):
        for family in (socket.AF_INET, socket.AF_INET6):
            flags = {"flags": _PROXY} if is_proxy else {}
            for each in route.neigh("dump", family=family, **flags):
                link = names.get(each["ifindex"], "")
                is_fixed = is_proxy or each["state"] & _PERMANENT
                if each.get_attr("NDA_PROTOCOL") == _OURS or not is_fixed or link.startswith(_POD_LINKS):
                    continue
                word = "proxy neighbour" if is_proxy else "neighbour"
                yield f"{word} {each.get_attr('NDA_DST')} at {each.get_attr('NDA_LLADDR')} on {link}"


def _tables(netfilter: NFTables) -> Iterator[str]:
    for word, found, attribute in (
        ("table", netfilter.get_tables(), "NFTA_TABLE_NAME"),
        ("chain", netfilter.get_chains(), "NFTA_CHAIN_TABLE"),
        ("rule", netfilter.get_rules(), "NFTA_RULE_TABLE"),
        ("set", netfilter.get_sets(), "NFTA_SET_TABLE"),
    ):
        for each in found:
            if each.get_attr(attribute) != _OUR_TABLE:
                yield f"nftables {word} of family {each['nfgen_family']}: {_plain(each['attrs'])}"


def _plain(value: Any) -> str:
    """Attributes as text, without counts, which change with every use."""
    if isinstance(value, list | tuple):
        parts = [each for each in value if not (isinstance(each, tuple) and str(each[0]).endswith("_USE"))]
        return "[" + ", ".join(_plain(each) for each in parts) + "]"
    if isinstance(value, dict):
        return _plain(value.get("attrs", sorted(value.items())))
    if isinstance(value, set | frozenset):
        return _plain(sorted(map(str, value)))
    return str(value)
