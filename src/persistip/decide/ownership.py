"""
To which of two Gateways does an address belong that both list?

In: a Gateway's entries, the other Gateways that list some of it, what is attached.  Out: what it lost, and to whom.
An address belongs to the Gateway through which it is attached now, else to the older, then by ``namespace/name``. Of a
wide entry, only the part that another Gateway lists may belong to that.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from persistip.model.address import Prefix, is_overlapping, is_single, is_within, show
from persistip.model.attachment import AttachedAddress
from persistip.model.gateway import Gateway


@attrs.frozen
class Rival:
    """Another accepted Gateway, and those of its usable entries that overlap ours."""

    gateway: Gateway
    prefixes: tuple[Prefix, ...]


@attrs.frozen(kw_only=True)
class Contest:
    """One Gateway and those it shares addresses with; ``attached``: what attachments hold of its entries."""

    gateway: Gateway
    rivals: tuple[Rival, ...] = ()
    attached: tuple[AttachedAddress, ...] = ()

    def owner(self, prefix: Prefix) -> Gateway | None:
        """The other Gateway that *prefix* belongs to, or None."""
        listing = [rival.gateway for rival in self.rivals if any(is_overlapping(prefix, p) for p in rival.prefixes)]
        first = min((self.gateway, *listing), key=lambda each: (not self._attaches(each, prefix), *_age(each)))
        return None if first is self.gateway else first

    def is_lost(self, entry: Prefix) -> bool:
        """Whether nothing of *entry* is left: one other Gateway lists all of it, and comes first everywhere in it."""
        if is_single(entry):
            return self.owner(entry) is not None
        if self._attaches(self.gateway, entry):
            return False
        older = (rival for rival in self.rivals if _age(rival.gateway) < _age(self.gateway))
        return any(is_within(entry, prefix) for rival in older for prefix in rival.prefixes)

    def losses(self, entry: Prefix) -> Iterator[str]:
        """Which parts of *entry* belong to whom, and why."""
        for rival in self.rivals:
            theirs = {address.prefix for address in self.attached if address.gateway.uid == rival.gateway.meta.uid}
            shared = {entry if is_within(entry, prefix) else prefix for prefix in rival.prefixes}
            parts = sorted((part for part in shared | theirs if is_within(part, entry)), key=str)
            lost = [part for part in parts if self._belongs(part, rival.gateway, is_attached=part in theirs)]
            if lost:
                why = "is attached through" if self._attaches(rival.gateway, lost[0]) else "belongs to"
                shown = ", ".join(show(part) for part in lost[:_SHOWN])
                rest = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
                name = f"Gateway {rival.gateway.meta.namespace}/{rival.gateway.meta.name}"
                yield f"{shown}{rest} {why} {name}, which lists it too"

    def _belongs(self, part: Prefix, other: Gateway, *, is_attached: bool) -> bool:
        if is_attached or is_single(part):
            return self.owner(part) is other
        return _age(other) < _age(self.gateway)

    def _attaches(self, gateway: Gateway, prefix: Prefix) -> bool:
        return any(
            address.gateway.uid == gateway.meta.uid and is_overlapping(address.prefix, prefix)
            for address in self.attached
        )


_SHOWN = 5


def _age(gateway: Gateway) -> tuple[float, str]:
    return gateway.meta.created_at, gateway.key.path
