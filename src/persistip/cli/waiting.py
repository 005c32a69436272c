"""
When have the addresses moved?

In: a route, the holder that it shall have, and annotations to set.  Out: the milliseconds until that holder's node
delivers and until the route says so; or what was still missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from persistip.cli import given
from persistip.cli.changes import Change
from persistip.model.attachment import AddressAttachment, Holder, NodeStateName
from persistip.model.conditions import Condition, ConditionType, Status, find_condition
from persistip.model.keys import ObjectKey, attachment_key
from persistip.model.route import GKEIPRoute
from persistip.strategies import Batch, ClusterObject

if TYPE_CHECKING:
    from persistip.backends.apiserver import Console


class Waiting:
    """Sets annotations, then looks on until the addresses are where they shall be."""

    def __init__(self, console: Console, key: ObjectKey, uid: str, aim: Holder | None) -> None:
        self._console, self._key, self._uid, self._aim = console, key, uid, aim
        self._objects: dict[ObjectKey, ClusterObject | None] = {}
        self._began_at = 0.0
        self._delivers_after: float | None = None

    async def run(self, annotations: Mapping[str, str | None], timeout_seconds: float) -> bool:
        """True when it is done in time; says how long it took, or what is missing."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._follow(annotations)
        except TimeoutError:
            given.say(f"not done after {timeout_seconds:g} s: {self._missing()}")
            return False
        took = _milliseconds(self._now() - self._began_at)
        if self._aim is None:
            print(f"nobody holds the addresses, after {took}")
        else:
            delivers = _milliseconds(self._delivers_after or 0.0)
            print(
                f"{Change.place(self._aim)} holds the addresses; it delivered after {delivers}, DPV2Ready after {took}"
            )
        return True

    async def _follow(self, annotations: Mapping[str, str | None]) -> None:
        batches = self._console.follow((self._key, attachment_key(self._key)))
        async with aclosing(batches):  # type: ignore[type-var]
            async for batch in batches:
                self._take(batch)
                if not self._began_at and batch.synced:
                    # Only now, so that the first thing that happens is seen.
                    self._began_at = self._now()
                    await self._console.annotate(self._key, self._uid, annotations)
                elif self._began_at and self._is_done():
                    return

    def _take(self, batch: Batch) -> None:
        for kind in batch.resynced:
            self._objects = {key: each for key, each in self._objects.items() if key.kind != kind}
        self._objects.update(batch.objects)

    def _is_done(self) -> bool:
        attachment = self._attachment()
        if self._aim is None:
            return attachment is None or attachment.spec.holder is None
        if attachment is None or attachment.spec.holder is None or not self._is_delivering(attachment):
            return False
        if self._delivers_after is None:
            self._delivers_after = self._now() - self._began_at
        route, said = self._route(), self._said()
        follows = route is not None and route.status.pods == (self._aim.pod_name,)
        return follows and said is not None and said.status == Status.TRUE

    def _is_delivering(self, attachment: AddressAttachment) -> bool:
        assert self._aim is not None  # noqa: S101 - asked of a holder alone
        holder, report = attachment.spec.holder, attachment.report_of(self._aim.node_name)
        return (
            holder is not None
            and holder.pod_uid == self._aim.pod_uid
            and report is not None
            and report.state == NodeStateName.PROGRAMMED
            and report.epoch == attachment.spec.epoch
        )

    def _missing(self) -> str:
        attachment = self._attachment()
        holder = attachment.spec.holder if attachment is not None else None
        if not self._began_at:
            return "the cluster cannot be followed"
        if (holder.pod_uid if holder else None) != (self._aim.pod_uid if self._aim else None):
            where = f"it is {Change.place(holder)} that holds the addresses"
            return f"{where}; is the controller running? `persistip explain {self._key.path}` says what it would do"
        found = self._said()
        said = f"DPV2Ready is {found.status}, {found.reason}: {found.message}" if found else "DPV2Ready is not said"
        return f"{Change.place(holder)} holds the addresses, but {said}"

    def _said(self) -> Condition | None:
        route = self._route()
        return find_condition(route.status.conditions, ConditionType.DPV2_READY) if route is not None else None

    def _route(self) -> GKEIPRoute | None:
        found = self._objects.get(self._key)
        return found if isinstance(found, GKEIPRoute) else None

    def _attachment(self) -> AddressAttachment | None:
        found = self._objects.get(attachment_key(self._key))
        return found if isinstance(found, AddressAttachment) else None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
