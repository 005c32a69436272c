"""
What of a Pod or Node do rules read?

In: an object as it was delivered.  Out: the same without annotations that no rule reads. There are very many Pods, and
others write many and long annotations on them; kept, they would be most of the memory of a controller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from persistip.model.evolving import evolve
from persistip.model.keys import DOMAIN
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import ROUTE_GROUP

READ_DOMAINS = (f"{ROUTE_GROUP}/", f"{DOMAIN}/")
"""Annotations of Pods and Nodes that rules may read begin so; reaction modes name theirs."""


def reader(named: Collection[str]) -> Callable[[str], bool]:
    """Tells which annotations of Pods and Nodes rules read, the *named* among them."""
    known = frozenset(named)
    return lambda key: key.startswith(READ_DOMAINS) or key in known


def extract(found: object, is_read: Callable[[str], bool]) -> object:
    """The object with those annotations that are read; the very same where it has no others."""
    if not isinstance(found, Pod | Node) or all(map(is_read, found.meta.annotations)):
        return found
    read = {key: value for key, value in found.meta.annotations.items() if is_read(key)}
    return evolve(found, meta=evolve(found.meta, annotations=read))
