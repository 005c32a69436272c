"""
Which objects of the cluster cannot be read at present?

In: the batches of a source of changes.  Out: which, and for the telemetry how many of each kind. One is unread until it
is delivered in a form that can be read, or is gone, or is in a complete list of its kind no more.
"""

from __future__ import annotations

from persistip.model.keys import ObjectKey
from persistip.runtime.metrics import UNREAD, UNREADABLE, Telemetry
from persistip.strategies import Batch


class Unread:
    """What one process cannot read: ``keys``."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self.keys: frozenset[ObjectKey] = frozenset()

    def take(self, batch: Batch) -> None:
        """Take in what a batch says of it."""
        kept = {key for key in self.keys if key not in batch.objects and str(key.kind) not in batch.resynced}
        now = frozenset(kept | batch.unreadable.keys())
        for key in batch.unreadable:
            self._telemetry.count(UNREADABLE, key.kind)
        for kind in {key.kind for key in now ^ self.keys}:
            self._telemetry.set(UNREAD, sum(key.kind is kind for key in now), kind)
        self.keys = now
