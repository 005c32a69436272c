"""
What of a Pod or Node do rules read?

In: an object as it was delivered.  Out: the same without annotations that no rule reads. There are very many Pods, and
others write many and long annotations on them; kept, they would be most of the memory of a controller.
"""

from __future__ import annotations

from collections.abc import Collection

from persistip.model.evolving import evolve
from persistip.model.keys import DOMAIN
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import ROUTE_GROUP

READ_DOMAINS = (f"{ROUTE_GROUP}/", f"{DOMAIN}/")
"""Annotations of Pods and Nodes that rules may read begin so; reaction modes name theirs."""


def extract(found: object, named: Collection[str]) -> object:
    """The object with those annotations that rules read, and the *named*; the very same where it has no others."""
    if not isinstance(found, Pod | Node):
        return found
    annotations = found.meta.annotations
    for key in annotations:
        if not key.startswith(READ_DOMAINS) and key not in named:
            break
    else:
        return found
    read = {key: value for key, value in annotations.items() if key.startswith(READ_DOMAINS) or key in named}
    return evolve(found, meta=evolve(found.meta, annotations=read))
