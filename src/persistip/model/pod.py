"""What does a decision need to know of a Pod?"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from persistip.model.address import IPAddress
from persistip.model.keys import Kind, ObjectKey, ObjectMeta

FINISHED_PHASES = frozenset({"Succeeded", "Failed"})


@attrs.frozen(kw_only=True, weakref_slot=False)
class Pod:
    """A Pod; ``ready_at`` is when its Ready condition last changed, in seconds since the epoch."""

    meta: ObjectMeta
    node_name: str = ""
    phase: str = "Pending"
    ips: tuple[IPAddress, ...] = ()
    host_network: bool = False
    ready: bool = False
    ready_at: float = 0.0

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.POD, self.meta.namespace, self.meta.name)

    @property
    def is_finished(self) -> bool:
        """Its containers have ended for good."""
        return self.phase in FINISHED_PHASES

    def ips_of(self, families: Iterable[int]) -> tuple[IPAddress, ...]:
        """The first IP of each family (4, 6) asked for, in that order; families it lacks are left out."""
        if len(self.ips) == 1:
            return self.ips if self.ips[0].version in families else ()
        first = {ip.version: ip for ip in reversed(self.ips)}
        return tuple(first[family] for family in sorted(set(families)) if family in first)
