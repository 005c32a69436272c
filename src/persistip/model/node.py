"""What does a decision need to know of a Node and of a Namespace?"""

from __future__ import annotations

import attrs

from persistip.model.address import IPAddress, Prefix
from persistip.model.keys import Kind, ObjectKey, ObjectMeta

OUT_OF_SERVICE_TAINT = "node.kubernetes.io/out-of-service"


@attrs.frozen(kw_only=True)
class Node:
    """A Node; ``out_of_service`` is the administrator's word (a taint) that the machine is off."""

    meta: ObjectMeta
    ips: tuple[IPAddress, ...] = ()
    pod_cidrs: tuple[Prefix, ...] = ()
    ready: bool = True
    out_of_service: bool = False

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.NODE, "", self.meta.name)


@attrs.frozen
class Namespace:
    """A Namespace: its labels admit its routes to listeners."""

    meta: ObjectMeta

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.NAMESPACE, "", self.meta.name)
