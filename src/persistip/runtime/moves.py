"""
How long was a route without its addresses?

In: each view of a route with the plan made of it, and when what it says was first known.  Out: for each move that ends,
its seconds and those of its outage, by cause.

    Pod A loses them ──write──> Pod B ──programs, reads back──> its node confirms ──> the controller sees it
    │<───────────────────────────────── move ──────────────────────────────────────────────────────────────>│
    │<───── outage, unless A goes on meanwhile (AfterReady); then from when it no longer can, if ever ──────>│

All instants are of the controller's own clock, so nodes whose clocks differ do no harm. The start is when the change
that cost the holder the addresses reached this process; the API's record (of the Ready condition alone) counts instead
where it is more than a second older, since it keeps whole seconds. So an outage leaves out what the API took to tell us
of its cause, and contains what it took to tell us of its end; and what came while nothing was observed, or another led,
counts from when this process could act. A memory of this process: of a move that another one began, only the instant of
its decision is known (cause TakenOver), and a move that begins and ends unseen is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

import attrs

from persistip.decide.cause import Cause, find_departure
from persistip.decide.events import is_moving
from persistip.model.actions import ClusterAction, ReplaceAttachment
from persistip.model.attachment import AddressAttachment, AttachmentSpec, Holder, How
from persistip.model.keys import ObjectKey
from persistip.model.views import RouteView
from persistip.runtime.metrics import MOVE_OUTAGE, MOVE_SECONDS, MOVES_UNDER_WAY, OLDEST_OUTAGE, Telemetry

_RESOLUTION_SECONDS = 1.0
"""Of the instants that the API keeps in conditions."""


@attrs.define(kw_only=True)
class _Move:
    cause: Cause
    epoch: int
    """The attachment's when it began."""
    began_at: float
    silent_at: float | None
    """Since when nobody who can use the addresses has them."""


class Moves:
    """The moves under way; at most one a route."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._under_way: dict[ObjectKey, _Move] = {}
        self._known: set[ObjectKey] = set()
        # The oldest first; those that have ended since are left out when they come to be the first.
        self._outages: list[tuple[float, ObjectKey]] = []

    def forget(self) -> None:
        """Another process has acted meanwhile: what is remembered may have ended without us."""
        self._under_way.clear()
        self._known.clear()
        self._publish()

    def look(self, view: RouteView, actions: Iterable[ClusterAction], known_at: float) -> None:
        """Take in one view and what is about to be done about it; *known_at* in seconds since the epoch."""
        before = self._silent_at(view.key)
        self._look(view, actions, known_at)
        since = self._silent_at(view.key)
        if since is not None and since != before:
            heappush(self._outages, (since, view.key))
        self._publish()

    def _silent_at(self, key: ObjectKey) -> float | None:
        move = self._under_way.get(key)
        return move.silent_at if move is not None else None

    def _publish(self) -> None:
        while self._outages and self._silent_at(self._outages[0][1]) != self._outages[0][0]:
            heappop(self._outages)
        self._telemetry.set(MOVES_UNDER_WAY, len(self._under_way))
        self._telemetry.set(OLDEST_OUTAGE, self._outages[0][0] if self._outages else 0)

    def _look(self, view: RouteView, actions: Iterable[ClusterAction], known_at: float) -> None:
        key, attachment = view.key, view.attachment
        is_first = key not in self._known
        self._known.add(key)
        if attachment is None:
            self._under_way.pop(key, None)
            if view.facts is None:
                self._known.discard(key)
            return
        spec = attachment.spec
        wanted = next((each.attachment.spec for each in actions if isinstance(each, ReplaceAttachment)), spec)
        if not spec.held_prefixes or not wanted.held_prefixes:
            self._under_way.pop(key, None)  # nothing granted yet, or withdrawn for good
            return
        move = self._under_way.get(key)
        is_leaving = spec.holder is not None and _place(spec.holder) != _place(wanted.holder)
        if move is None and is_first:
            move = _adopted(view, attachment)
        if move is None and is_leaving:
            move = _begun(view, attachment, wanted, known_at)
        if move is None:
            return
        self._under_way[key] = move
        if attachment.is_confirmed and not is_leaving:
            del self._under_way[key]
            # The same epoch: the holder recovered before anything was written, and nothing moved.
            if spec.epoch > move.epoch:
                self._tell(move, known_at)
        elif move.silent_at is None and not _is_lingering(wanted):
            move.silent_at = known_at

    def _tell(self, move: _Move, ended_at: float) -> None:
        self._telemetry.observe(MOVE_SECONDS, max(ended_at - move.began_at, 0.0), move.cause)
        silent_at = ended_at if move.silent_at is None else move.silent_at
        self._telemetry.observe(MOVE_OUTAGE, max(ended_at - silent_at, 0.0), move.cause)


def _place(holder: Holder | None) -> tuple[str, str] | None:
    return (holder.pod_uid, holder.node_uid) if holder is not None else None


def _is_lingering(spec: AttachmentSpec) -> bool:
    """A former holder goes on delivering."""
    return any(release.how is How.AFTER_READY for release in spec.releasing)


def _begun(view: RouteView, attachment: AddressAttachment, wanted: AttachmentSpec, known_at: float) -> _Move:
    holder = attachment.spec.holder
    assert holder is not None  # noqa: S101 - who leaves has held
    departure = find_departure(view, holder)
    since = known_at
    if departure.recorded_at is not None and known_at - departure.recorded_at > _RESOLUTION_SECONDS:
        since = departure.recorded_at
    return _Move(
        cause=departure.cause,
        epoch=attachment.spec.epoch,
        began_at=since,
        silent_at=None if _is_lingering(wanted) else since,
    )


def _adopted(view: RouteView, attachment: AddressAttachment) -> _Move | None:
    """
    A move that another process began, if there is one: nobody holds, or the holder's node has yet to confirm.

    A node that has confirmed, and says now that something has gone wrong since, moves nothing.
    """
    spec = attachment.spec
    if spec.holder is not None:
        report = attachment.report_of(spec.holder.node_name)
        is_new = any(release.pod_uid != spec.holder.pod_uid for release in spec.releasing)
        is_silent = report is None or report.epoch < spec.epoch
        is_told = view.facts is not None and is_moving(view.facts.route.status)
        if attachment.is_confirmed or not (is_told or (is_new and is_silent)):
            return None
    began_at = spec.epoch / 1000
    return _Move(
        cause=Cause.TAKEN_OVER,
        epoch=spec.epoch - 1,
        began_at=began_at,
        silent_at=None if _is_lingering(spec) else began_at,
    )
