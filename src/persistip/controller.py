"""
How do the parts make a controller?

In: a cluster, an allocator, reaction modes, settings.  Out: objects of the API that say what the rules say.
Wire only: the rules are in ``decide``, the order of one pass in ``runtime/cycle.py``.

    Cluster.changes() ──batch──> Catalog.update ──keys touched──> WorkQueue ──key──> ObjectCycle.run
                                     ▲                               ▲                   │
                                     └───── own writes, at once ─────┴──── retry, recheck┤
                                                                     └──── Provisioner <─┘ what the cloud is to hold

Whatever may cost a route its addresses or move them comes before what follows from decisions, and before first grants.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import attrs

from persistip.decide.catalog import Catalog
from persistip.model.keys import Kind, ObjectKey
from persistip.model.views import ClassView, GatewayView, RouteView
from persistip.runtime.allowance import Allowance
from persistip.runtime.clock import SystemClock
from persistip.runtime.cycle import ObjectCycle, Pass
from persistip.runtime.election import Election
from persistip.runtime.loops import Tasks, follow
from persistip.runtime.metrics import (
    CLUSTER_SYNCED,
    HELD_BACK,
    LEADER_CHANGES,
    LEADING,
    PASS_SECONDS,
    PASSES,
    QUEUE_RETRIES,
    RELISTS,
    Result,
    Silence,
    Telemetry,
)
from persistip.runtime.moves import Moves
from persistip.runtime.outcomes import Outcomes
from persistip.runtime.provisioning import Provisioner
from persistip.runtime.retry import LATE_SECONDS, soonest_delay
from persistip.runtime.unread import Unread
from persistip.runtime.watchdog import Watchdog
from persistip.runtime.workqueue import QueueClosed, WorkQueue
from persistip.settings import ControllerSettings
from persistip.strategies import AddressAllocator, Batch, Clock, Cluster, ReactionMode

logger = logging.getLogger("persistip")

_LEAST_RECHECK_SECONDS = 0.001
_NOT_NOW_SECONDS = 0.05
_ELECTED_SECONDS = 0.5
_AT_ONCE = 1_000


class Controller:
    """
    Decides which Pod holds which address, for a whole cluster.

    Run it with ``await controller.run()``, or as ``async with controller:`` inside a program of yours. It acts only
    while it has seen everything: never before the first complete observation (``synced``), and not from a break of the
    watch until the lists that follow it. With an *election* it acts only while it leads, and lists everything anew
    before its first act; until then it follows the cluster and is ready.
    """

    def __init__(
        self,
        cluster: Cluster,
        allocator: AddressAllocator,
        modes: Mapping[str, ReactionMode] | None = None,
        *,
        settings: ControllerSettings | None = None,
        clock: Clock | None = None,
        election: Election | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.synced = asyncio.Event()
        self._settings = settings or ControllerSettings()
        self._clock: Clock = clock or SystemClock()
        self._cluster = cluster
        self._outcomes: Outcomes[ObjectKey, str] = Outcomes()
        policy = self._settings.policy
        if allocator.features.knows_owners:
            policy = attrs.evolve(policy, knows_owners=True)
        self._catalog = Catalog(policy, modes)
        self._telemetry = telemetry or Silence()
        self._unreadable = Unread(self._telemetry)
        self._moves = Moves(self._telemetry)
        self._watchdog = Watchdog()
        self._queue: WorkQueue[ObjectKey] = WorkQueue(self._telemetry, is_pressing=self._catalog.is_attached)
        self._provisioner = (
            Provisioner(
                allocator,
                touch=self._touch,
                may_act=self._may_act_now,
                resync_seconds=self._settings.cloud_resync_seconds,
            )
            if allocator.features.needs_provisioning
            else None
        )
        self._cycle = ObjectCycle(
            catalog=self._catalog,
            cluster=cluster,
            clock=self._clock,
            outcomes=self._outcomes,
            touch=self._touch_behind,
            telemetry=self._telemetry,
            moves=self._moves,
            provisioner=self._provisioner,
        )
        self._election = election
        self._is_leader = election is None
        self._is_observed = False
        self._lists_anew = asyncio.Event()
        self._may_act = asyncio.Event()
        self._allowance: Allowance[ObjectKey] = Allowance(self._settings.write_burst, self._settings.writes_per_second)
        self._tasks = Tasks()
        self._source: asyncio.Task[None] | None = None

    def view(self, key: ObjectKey) -> RouteView | GatewayView | ClassView:
        """All that a decision about *key* may look at now: what the next pass would be handed."""
        return self._cycle.view(key)

    def why_unhealthy(self) -> str | None:
        """Why this process should be started anew, as a sentence; None: its loops turn."""
        return self._watchdog.why_unhealthy(self._tasks)

    def why_unready(self) -> str | None:
        """Why it could neither act nor take over now, as a sentence; None: it has observed everything."""
        return None if self._is_observed else "not everything in the cluster is observed"

    async def run(self) -> None:
        """Work until ``stop``; raises when a fault of ours ended a loop."""
        async with self:
            await self._tasks.wait()

    async def __aenter__(self) -> Controller:
        self._telemetry.set(CLUSTER_SYNCED, 0)
        self._telemetry.set(LEADING, self._is_leader)
        self._source = self._tasks.start(self._observe(), "changes")
        if self._election is not None:
            self._tasks.start(self._election.run(self._note_leadership), "election")
        for number in range(self._settings.workers):
            self._tasks.start(self._work(f"worker-{number}"), f"worker-{number}")
            if self._provisioner is not None:
                self._tasks.start(self._provisioner.work(), f"cloud-{number}")
        if self._provisioner is not None:
            self._tasks.start(self._provisioner.sweep(self._catalog.owners), "cloud-sweep")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Finish what is in work, take up nothing new. What stands in cluster and kernels stays."""
        if self._source is not None:
            self._source.cancel()
        self._queue.close()
        if self._provisioner is not None:
            self._provisioner.close()
        self._may_act.set()
        if self._election is not None:
            self._election.resign()
        await self._tasks.stop(self._settings.grace_seconds)
        if self._election is not None:
            # Last of all: who takes over must find nothing of ours still under way.
            await self._election.release()

    async def _observe(self) -> None:
        """Follow the cluster; from complete lists on anew when leadership is gained."""
        if self._election is not None:
            # Who leads at once would throw these lists away, which are most of a start; who does not has time.
            with suppress(TimeoutError):
                async with asyncio.timeout(_ELECTED_SECONDS):
                    await self._lists_anew.wait()
        while True:
            self._lists_anew.clear()
            following = asyncio.create_task(
                follow(
                    self._cluster.changes,
                    self._take,
                    name="cluster",
                    on_gap=self._note_gap,
                    telemetry=self._telemetry,
                )
            )
            anew = asyncio.create_task(self._lists_anew.wait())
            try:
                await asyncio.wait({following, anew}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (following, anew):
                    task.cancel()
                ended, _ = await asyncio.gather(following, anew, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended

    def _take(self, batch: Batch) -> None:
        ours, theirs = _split(batch)
        self._touch_behind(self._catalog.update(ours))
        self._touch(self._catalog.update(theirs))
        for kind in batch.resynced:
            self._telemetry.count(RELISTS, kind)
        self._unreadable.take(batch)
        for key, why in batch.unreadable.items():
            logger.warning("cannot read an object", extra={"object": str(key), "error": why})
        if batch.synced and not self._is_observed:
            logger.info("observed everything", extra={"keys": len(self._queue)})
            self.synced.set()
        self._is_observed = batch.synced
        self._permit()

    def _note_gap(self) -> None:
        self._is_observed = False
        self._permit()

    def _note_leadership(self, is_leader: bool) -> None:
        self._is_leader = is_leader
        self._telemetry.set(LEADING, is_leader)
        self._telemetry.count(LEADER_CHANGES, "gained" if is_leader else "lost")
        self._moves.forget()
        if is_leader:
            # What was followed so far may be a while behind what the former leader did.
            self._is_observed = False
            self._lists_anew.set()
        self._permit()

    def _permit(self) -> None:
        """Let the workers act, or not."""
        self._telemetry.set(CLUSTER_SYNCED, self._is_observed)
        if self._is_observed and self._is_leader:
            if not self._may_act.is_set():
                self._queue.restart_waits()
            self._may_act.set()
        elif not self._queue.is_closed:
            self._may_act.clear()

    def _may_act_now(self) -> bool:
        """Also between a leader's time being up and its hearing of it."""
        return self._may_act.is_set() and (self._election is None or self._election.is_leading)

    def _touch(self, keys: Iterable[ObjectKey]) -> None:
        # Sorted: in which turn a key comes must not hang on how a process hashes its name.
        self._queue_up(sorted(keys), None)

    def _touch_behind(self, keys: Iterable[ObjectKey]) -> None:
        """After a decision has been written: statuses, ends of releases, grants. No traffic waits for these."""
        self._queue_up(sorted(keys), pressing=False)

    def _queue_up(self, keys: Sequence[ObjectKey], pressing: bool | None) -> None:
        """In pieces: an edit may touch every route there is, and a move must not wait until all have queued up."""
        for key in keys[:_AT_ONCE]:
            self._queue.add(key, pressing=pressing)
        if rest := keys[_AT_ONCE:]:
            asyncio.get_running_loop().call_soon(self._queue_up, rest, pressing)

    async def _work(self, name: str) -> None:
        while True:
            await self._may_act.wait()
            try:
                key = await self._queue.get()
            except QueueClosed:
                return
            try:
                if self._may_act_now():
                    self._watchdog.expect(name)
                    await self._pass(key)
                else:
                    self._queue.add_after(key, _NOT_NOW_SECONDS)
            except Exception:
                self._telemetry.count(PASSES, key.kind, Result.FAULT)
                # One object that our rules cannot handle must not stop the others; it is loud, and comes again late.
                logger.exception("a fault of ours stopped one key", extra={"object": str(key)})
                self._queue.add_after(key, LATE_SECONDS)
            finally:
                self._watchdog.rest(name)
                self._queue.done(key)
            # A pass that found nothing to do never waited; the source of changes must get its turn.
            await asyncio.sleep(0)

    async def _pass(self, key: ObjectKey) -> None:
        began_at = asyncio.get_running_loop().time()
        result = await self._cycle.run(key, self._queue.waited_seconds(key))
        self._telemetry.observe(PASS_SECONDS, asyncio.get_running_loop().time() - began_at, key.kind)
        went = Result.QUIET if result.is_quiet else Result.FAILED if result.is_failed else Result.DONE
        self._telemetry.count(PASSES, key.kind, went)
        self._schedule(key, result)

    def _schedule(self, key: ObjectKey, result: Pass) -> None:
        """Decide by how the pass went when *key* comes again by itself."""
        if result.is_failed:
            delay = soonest_delay(result.outcomes, self._queue.count_failure(key), key)
            if delay is not None:
                self._telemetry.count(QUEUE_RETRIES, key.kind)
                self._queue.add_after(key, delay)
        else:
            self._queue.forget_failures(key)
        if result.recheck_at is not None:
            self._queue.add_after(key, max(result.recheck_at - self._clock.now(), _LEAST_RECHECK_SECONDS))
        self._slow_down(key, result)

    def _slow_down(self, key: ObjectKey, result: Pass) -> None:
        """Hold a key back that writes and writes: what touches it again waits in a timer."""
        if not any(outcome.is_done for outcome in result.outcomes):
            return
        hold = self._allowance.spend(key, asyncio.get_running_loop().time())
        if hold > 0:
            self._queue.hold(key, hold)
            self._telemetry.count(HELD_BACK, key.kind)
            logger.warning("an object does not settle", extra={"object": str(key), "held_seconds": round(hold, 3)})


def _split(batch: Batch) -> tuple[Batch, Batch]:
    """What *batch* says of attachments, which is what follows from decisions, and what it says of all else."""

    def part(*, attachments: bool) -> Batch:
        return Batch(
            objects={key: each for key, each in batch.objects.items() if (key.kind is Kind.ATTACHMENT) == attachments},
            unreadable={
                key: why for key, why in batch.unreadable.items() if (key.kind is Kind.ATTACHMENT) == attachments
            },
            resynced=frozenset(kind for kind in batch.resynced if (kind == Kind.ATTACHMENT) == attachments),
            synced=batch.synced,
        )

    return part(attachments=True), part(attachments=False)
