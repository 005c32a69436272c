"""
What is in a node's kernel: of ours, and of others?

Out: the addresses that the node is made to deliver, and, as lines of text, all that does not carry our mark and does
not come and go with Pods. Beforehand each node gets what others might have there, so that something can be harmed.
"""

import json
import re
from collections.abc import Mapping

from persistip.lab.foreign import look_at_foreign
from realcluster.node import Node

OUR_PROTOCOL = "190"
# The sets and chains of others that follow Pods and Services.
_FOLLOWING = ("kube-proxy", "KUBE-", "CNI-")
# How many rules stand in a chain, and chains in a table.
_COUNTS = re.compile(r", \('NFTA_\w+_USE', \d+\)|\('NFTA_\w+_USE', \d+\), ")

_FOREIGN = (
    "ip route add 203.0.113.0/24 dev lo proto static",
    "ip -6 route add 2001:db8:9::/64 dev lo proto static",
    "ip rule add from 203.0.113.0/24 lookup 77 pref 5000",
    "ip neigh add proxy 203.0.113.9 dev eth0",
)
_TABLE = """
table inet others {
    set known { type ipv4_addr; elements = { 192.0.2.150, 203.0.113.1 } }
    chain forward { type filter hook forward priority 10; policy accept; ip daddr @known accept; }
}
"""


def plant_foreign(node: Node) -> None:
    """Put in a node's kernel what somebody else might have there."""
    node.run("sh", "-ec", "\n".join(_FOREIGN))
    node.run("nft", "-f", "-", stdin=_TABLE)


def foreign(node: Node) -> frozenset[str]:
    """Return what is there that is not ours."""
    with node.network():
        seen = look_at_foreign()
    return frozenset(_COUNTS.sub("", line) for line in seen if not any(word in line for word in _FOLLOWING))


def delivered(node: Node) -> frozenset[str]:
    """Return the addresses that a node has entries of ours for."""
    found = set()
    for family in ("-4", "-6"):
        routes = json.loads(
            node.run("ip", family, "-json", "route", "show", "table", "all", "proto", OUR_PROTOCOL) or "[]"
        )
        found.update(str(each["dst"]) for each in routes)
        proxies = json.loads(node.run("ip", family, "-json", "neigh", "show", "proxy") or "[]")
        found.update(str(each["dst"]) for each in proxies if each.get("protocol") == OUR_PROTOCOL)
    return frozenset(found)


def wanted(attachments: Mapping[str, Mapping[str, object]], node: str) -> frozenset[str]:
    """Return the addresses that a node must have entries for, once everything has settled."""
    found = set()
    for attachment in attachments.values():
        spec = attachment["spec"]
        assert isinstance(spec, Mapping)
        if spec.get("nodeName") == node:
            found.update(each["prefix"].partition("/")[0] for each in spec["addresses"])
    return frozenset(found)
