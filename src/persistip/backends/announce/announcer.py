"""
Which announcement is sent when?

In: the whole set of what is to be announced, whenever it changes.  Out: frames, at once and by a schedule.
The rules: what is new goes out before ``announce`` returns; what is no longer wanted is never sent again, and that is
checked before every single frame; a link that fails stops no other.

    announce(wanted) ── new ones: first frames now ──> due heap ──(one task)──> still wanted? ──> frame ──> next due
                     └─ others: forgotten
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence

import attrs

from persistip.backends.announce.frames import frames_of
from persistip.backends.announce.link import PacketWire, Wire
from persistip.decide.announcing import FAST_IP_MOVE, offset_of
from persistip.errors import BackendError, RefusedError, RejectedError, StaleError
from persistip.model.actions import DONE, Outcome, OutcomeState
from persistip.model.address import sort_key
from persistip.model.entry import Announcement, LinkRef, Manner
from persistip.settings import AnnounceSettings

logger = logging.getLogger("persistip")

_AGAIN_SECONDS = 0.5
"""After a frame that could not be sent; its step of the schedule is not used up."""
_BATCH = 64
"""Announcements sent between two turns of the event loop: about a millisecond."""


@attrs.define
class _Running:
    """An announcement under way: when it began and which step of its schedule is next."""

    announcement: Announcement
    schedule: AnnounceSettings
    started_at: float
    step: int = 0
    last: Outcome = DONE


class PacketAnnouncer:
    """
    An ``Announcer`` on packet sockets; ``async with``, or ``close`` at the end.

    *settings* is the schedule for neighbours; that of a cloud's fast IP move is the cloud's. ``open_wire`` opens a link
    for sending and may be replaced in tests.
    """

    def __init__(
        self, settings: AnnounceSettings | None = None, *, open_wire: Callable[[LinkRef], Wire] = PacketWire
    ) -> None:
        self._settings = settings or AnnounceSettings()
        self._open_wire = open_wire
        self._wires: dict[LinkRef, Wire] = {}
        self._broken: dict[LinkRef, tuple[float, BackendError]] = {}
        self._running: dict[Announcement, _Running] = {}
        self._due: list[tuple[float, int, _Running]] = []
        self._sequence = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PacketAnnouncer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop everything."""
        self._running.clear()
        self._due.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()

    async def announce(self, wanted: frozenset[Announcement]) -> Sequence[Outcome]:
        """
        Announce exactly *wanted* from now on; one outcome for each of it, the last, in the order of their addresses.

        An announcement that could not be sent is tried again by itself as long as it is wanted.
        """
        for gone in self._running.keys() - wanted:
            del self._running[gone]
        self._forget_links()
        now = asyncio.get_running_loop().time()
        new = sorted(wanted - self._running.keys(), key=_order)
        for announcement in new:
            self._running[announcement] = _Running(announcement, self._schedule_of(announcement.manner), now)
        for number, announcement in enumerate(new, start=1):
            # Another call may have come while this one gave way.
            if (running := self._running.get(announcement)) is not None:
                self._send_step(running)
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        if self._due and self._task is None:
            self._task = asyncio.create_task(self._repeat(), name="announcements")
        self._wake.set()
        states = (self._running.get(announcement) for announcement in sorted(wanted, key=_order))
        return [running.last if running is not None else _OVERTAKEN for running in states]

    def _schedule_of(self, manner: Manner) -> AnnounceSettings:
        return FAST_IP_MOVE if manner is Manner.FAST_IP_MOVE else self._settings

    async def _repeat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_BATCH):
                if not self._due or self._due[0][0] > loop.time():
                    break
                running = heapq.heappop(self._due)[2]
                if self._running.get(running.announcement) is running:
                    self._send_step(running)
            else:
                await asyncio.sleep(0)
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout_at(self._due[0][0] if self._due else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _send_step(self, running: _Running) -> None:
        """Send the frames of one step, unless the end has passed, and put the next on the heap."""
        now = asyncio.get_running_loop().time()
        if running.step and now - running.started_at > running.schedule.until_seconds:
            return
        try:
            self._send(running.announcement, now)
        except BackendError as error:
            if not isinstance(error, RejectedError) and now - running.started_at < running.schedule.until_seconds:
                self._put(now + _AGAIN_SECONDS, running)
            running.last = _outcome_of(error)
            return
        running.last = DONE
        before = offset_of(running.step, running.schedule)
        running.step += 1
        offset = offset_of(running.step, running.schedule)
        if offset is not None:
            due = running.started_at + offset
            if due <= now:
                # After a stall or on a link that was broken, what was missed is no burst: the pauses stay as they are.
                due = now + offset - (before or 0.0)
            self._put(due, running)

    def _send(self, announcement: Announcement, now: float) -> None:
        link = announcement.link
        if link in self._broken:
            until, error = self._broken[link]
            if now < until:
                # Hundreds of addresses share a link: its fault is met, and told, once.
                raise error.with_traceback(None)
            del self._broken[link]
        try:
            if link not in self._wires:
                self._wires[link] = self._open_wire(link)
            wire = self._wires[link]
            for frame in frames_of(announcement, wire.hardware_address()):
                wire.send(frame)
        except BackendError as error:
            logger.warning("could not announce", extra={"link": link.name, "error": str(error)})
            # A socket that failed is opened anew: its link may have been made again.
            self._close(link)
            self._broken[link] = (now + _AGAIN_SECONDS, error)
            raise

    def _put(self, due: float, running: _Running) -> None:
        self._sequence += 1
        heapq.heappush(self._due, (due, self._sequence, running))

    def _close(self, link: LinkRef) -> None:
        wire = self._wires.pop(link, None)
        if wire is not None:
            wire.close()

    def _forget_links(self) -> None:
        used = {announcement.link for announcement in self._running}
        for link in (self._wires.keys() | self._broken.keys()) - used:
            self._close(link)
            self._broken.pop(link, None)
        if len(self._due) > 64 + 4 * len(self._running):
            self._due = [item for item in self._due if self._running.get(item[2].announcement) is item[2]]
            heapq.heapify(self._due)


_OVERTAKEN = Outcome(state=OutcomeState.FAILED, message="no longer wanted by a later call", stale=True)


def _order(announcement: Announcement) -> tuple[tuple[int, int, int], LinkRef, int, str]:
    return sort_key(announcement.prefix), announcement.link, announcement.epoch, announcement.manner


def _outcome_of(error: BackendError) -> Outcome:
    is_blocked = isinstance(error, RefusedError | RejectedError)
    return Outcome(
        state=OutcomeState.BLOCKED if is_blocked else OutcomeState.FAILED,
        reason=type(error).__name__.removesuffix("Error"),
        message=str(error),
        stale=isinstance(error, StaleError),
    )
