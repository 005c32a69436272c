"""
Which replica acts?

    stand by ──free, or not renewed for its duration──> write ──> lead ──renew──┐
       ^                                                           │   ^        │
       └── another wrote, or no renewal succeeded in time ─────────┘   └────────┘

In: a Lease, this process's name.  Out: ``is_leading``, and a call at each change of it.
The rules are client-go's. Time is counted by each process's own monotonic clock alone: from when it first saw a record
for those who wait, from before its last successful renewal for the one who leads; so clocks that differ do no harm, and
who leads stops in time, also when it was paused. (A machine's suspension stops that clock: the preconditions of every
write remain.) By hand, since the official client's election has no release: a stop would leave the cluster without a
controller for the lease's whole duration.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import attrs

from persistip.errors import BackendError, StaleError, UnavailableError
from persistip.runtime.retry import Backoff
from persistip.settings import ElectionSettings
from persistip.strategies import Clock, Lease, LeaseRecord

logger = logging.getLogger("persistip")

_RELEASE_SECONDS = 1.0
_FAILED = Backoff(first_seconds=0.1, last_seconds=2.0)


class Election:
    """Takes part in the election for *lease* as *identity*, which no other process may have."""

    def __init__(self, lease: Lease, identity: str, clock: Clock, *, settings: ElectionSettings | None = None) -> None:
        self.identity = identity
        self._lease = lease
        self._clock = clock
        self._settings = settings or ElectionSettings()
        self._record = LeaseRecord()
        self._leads = False
        self._leads_until = 0.0
        self._attempt = 0
        self._resigned = asyncio.Event()

    @property
    def is_leading(self) -> bool:
        """Whether this process may act at this very moment."""
        return self._leads and asyncio.get_running_loop().time() < self._leads_until

    async def run(self, note: Callable[[bool], None]) -> None:
        """Stand by, lead, stand by … until ``resign``; *note* hears of each gain and loss."""
        while not self._resigned.is_set():
            await self._stand_by()
            if self._resigned.is_set():
                return
            logger.info("leading", extra={"identity": self.identity, "transitions": self._record.transitions})
            note(True)
            await self._lead()
            if not self._resigned.is_set():
                self._leads = False
                logger.warning("no longer leading", extra={"identity": self.identity})
                note(False)

    def resign(self) -> None:
        """Take no further part; ``run`` ends. Who leads goes on leading until ``release``, or until its time is up."""
        self._resigned.set()

    async def release(self) -> None:
        """Let another lead at once; call it when nothing is in work any more."""
        if not self._leads:
            return
        self._leads = False
        freed = attrs.evolve(self._record, holder="", duration_seconds=1.0, renewed_at=self._clock.now())
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._lease.write(freed)
        except (BackendError, TimeoutError) as error:
            # It ends by itself, only later.
            logger.warning("could not release the lease", extra={"identity": self.identity, "error": str(error)})

    # ------------------------------------------------------------ stand by
    async def _stand_by(self) -> None:
        """Until this process leads, or has resigned."""
        seen, seen_at = None, 0.0
        loop = asyncio.get_running_loop()
        while not self._resigned.is_set():
            try:
                found = await self._lease.read()
                if seen is None or found.version != seen:
                    seen, seen_at = found.version, loop.time()
                left = seen_at + found.duration_seconds - loop.time()
                if found.holder in ("", self.identity) or left <= 0:
                    await self._take(found)
                    return
                await self._unless_resigned(self._lease.changed(found.version, left))
                self._attempt = 0
            except StaleError:
                continue  # another was faster
            except BackendError as error:
                logger.warning("cannot look at the lease", extra={"identity": self.identity, "error": str(error)})
                await self._pause()

    async def _take(self, found: LeaseRecord) -> None:
        now = self._clock.now()
        wanted = LeaseRecord(
            holder=self.identity,
            duration_seconds=self._settings.lease_seconds,
            acquired_at=now,
            renewed_at=now,
            transitions=found.transitions + (1 if found.version else 0),
            version=found.version,
        )
        await self._write(wanted, self._settings.renew_seconds)
        self._leads = True

    # ------------------------------------------------------------ lead
    async def _lead(self) -> None:
        """Until this process no longer leads, or has resigned."""
        loop = asyncio.get_running_loop()
        delay = self._settings.retry_seconds
        while self._leads_until > loop.time():
            await self._sleep(min(delay, self._leads_until - loop.time()))
            left = self._leads_until - loop.time()
            if self._resigned.is_set() or left <= 0:
                return
            try:
                await self._write(attrs.evolve(self._record, renewed_at=self._clock.now()), left)
                delay, self._attempt = self._settings.retry_seconds, 0
            except StaleError:
                if not await self._is_still_ours(left):
                    return
                delay = 0.0
            except BackendError as error:
                logger.warning("could not renew the lease", extra={"identity": self.identity, "error": str(error)})
                self._attempt += 1
                delay = _FAILED.delay(self._attempt, self.identity)

    async def _is_still_ours(self, seconds: float) -> bool:
        """Whether the version that stands is one of ours, of a write whose answer was lost."""
        try:
            async with asyncio.timeout(seconds):
                found = await self._lease.read()
        except (BackendError, TimeoutError):
            return True  # until it is known otherwise, or the time is up
        if found.holder != self.identity:
            return False
        self._record = found
        return True

    async def _write(self, record: LeaseRecord, seconds: float) -> None:
        """Write, and lead from before the write on; raises BackendError, also when it takes too long."""
        began_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                self._record = await self._lease.write(record)
        except TimeoutError as error:
            # Whether it was written is not known: the time that is left runs on.
            raise UnavailableError("no answer in time", operation="write", target="the lease") from error
        self._leads_until = began_at + self._settings.renew_seconds

    # ------------------------------------------------------------ wait
    async def _pause(self) -> None:
        self._attempt += 1
        await self._sleep(_FAILED.delay(self._attempt, self.identity))

    async def _sleep(self, seconds: float) -> None:
        await self._unless_resigned(asyncio.sleep(seconds))

    async def _unless_resigned(self, awaited: Awaitable[None]) -> None:
        """Wait for *awaited*, but not beyond ``resign``."""
        tasks = (asyncio.ensure_future(awaited), asyncio.ensure_future(self._resigned.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended, _ = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended
