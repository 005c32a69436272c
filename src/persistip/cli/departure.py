"""
How does every address go, although its route stays?

In: a cluster.  Out: the same cluster as it would look without any route and Gateway. A controller of the ordinary kind,
run upon it, drains and deletes every AddressAttachment by its own rules, waits for the nodes to let go, and takes the
finalizers off the GatewayClasses; nothing of that is written here anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import attrs

from persistip.model.actions import ClusterAction, Outcome, OutcomeState
from persistip.model.attachment import AddressAttachment
from persistip.model.gateway import IN_USE_FINALIZER, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import Batch, Cluster

_GONE = frozenset({Kind.ROUTE, Kind.GATEWAY})
_PERMISSION = "PermissionDenied"


class Departing:
    """The Cluster *inner* without routes and Gateways; ``done`` is set while nothing of ours hangs in it."""

    def __init__(self, inner: Cluster, controller_name: str) -> None:
        self._inner, self._controller_name = inner, controller_name
        self.attachments: dict[ObjectKey, AddressAttachment | None] = {}
        self.refusal = ""
        self.done = asyncio.Event()
        self._classes: dict[ObjectKey, GatewayClass] = {}

    async def changes(self) -> AsyncIterator[Batch]:
        """Everything but routes and Gateways."""
        async for batch in self._inner.changes():
            self._note(batch)
            yield attrs.evolve(
                batch,
                objects={key: each for key, each in batch.objects.items() if key.kind not in _GONE},
                unreadable={key: why for key, why in batch.unreadable.items() if key.kind not in _GONE},
            )

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """Carry out *actions*; what is refused comes again soon: a deleted policy holds for a moment longer."""
        outcomes = await self._inner.apply(actions)
        refused = [outcome for outcome in outcomes if _is_refused(outcome)]
        if refused:
            self.refusal = refused[0].message
        return [attrs.evolve(each, state=OutcomeState.FAILED) if _is_refused(each) else each for each in outcomes]

    def _note(self, batch: Batch) -> None:
        if Kind.ATTACHMENT in batch.resynced:
            self.attachments.clear()
        if Kind.GATEWAY_CLASS in batch.resynced:
            self._classes.clear()
        for key, each in batch.objects.items():
            if key.kind is Kind.ATTACHMENT:
                self.attachments.pop(key, None)
                if isinstance(each, AddressAttachment):
                    self.attachments[key] = each
            elif key.kind is Kind.GATEWAY_CLASS:
                self._classes.pop(key, None)
                if isinstance(each, GatewayClass) and each.controller_name == self._controller_name:
                    self._classes[key] = each
        for key in batch.unreadable:
            if key.kind is Kind.ATTACHMENT:
                self.attachments[key] = None
        held = any(IN_USE_FINALIZER in each.meta.finalizers for each in self._classes.values())
        if batch.synced and not self.attachments and not held:
            self.done.set()
        else:
            self.done.clear()


def _is_refused(outcome: Outcome) -> bool:
    return outcome.state is OutcomeState.BLOCKED and outcome.reason == _PERMISSION
