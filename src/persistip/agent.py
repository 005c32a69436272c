"""
How do the parts make an agent?

In: a node's name, the cluster, the node's datapath, an announcer, settings.  Out: a kernel that holds what the
attachments say, neighbours that know, and a status that says what was read back.
Wire only: the rules are in ``decide``, the order of one pass in ``runtime/cycle.py``.

    Cluster.changes() ──> attachments ─┐
    Datapath.changes() ── wake ────────┼──> NodeCycle.run ──reports──> Reporter ──> Cluster.apply
    recheck, retry, resync ── wake ────┘        ▲                         │
                                                └── own entry, at once ◄──┘
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from operator import attrgetter

import attrs

from persistip.decide.versions import Versions
from persistip.errors import BackendError
from persistip.model.actions import ReportNode
from persistip.model.attachment import AddressAttachment, NodeReport, NodeStateName
from persistip.model.keys import Kind, ObjectKey, node_label
from persistip.runtime.clock import SystemClock
from persistip.runtime.cycle import NodeCycle, Pass
from persistip.runtime.loops import Tasks, error_delay, follow
from persistip.runtime.metrics import (
    AGENT_ATTACHMENTS,
    AGENT_PASS_SECONDS,
    AGENT_PASSES,
    AGENT_PROGRAM_SECONDS,
    CLUSTER_SYNCED,
    RELISTS,
    Result,
    Silence,
    Telemetry,
)
from persistip.runtime.reporter import Reporter
from persistip.runtime.retry import FAILED, soonest_delay
from persistip.runtime.unread import Unread
from persistip.runtime.watchdog import STEP_SECONDS, Watchdog
from persistip.settings import AgentSettings
from persistip.strategies import Announcer, Batch, Clock, Cluster, Datapath

logger = logging.getLogger("persistip")

_LEAST_RECHECK_SECONDS = 0.001
_TICK_SECONDS = 0.0001
_EAGER_PASSES = 3
"""How many passes after news from the API do not wait for the kernel to be quiet: a Pod's link is asked for in one
pass and found in the next, and traffic waits for it."""


class Agent:
    """
    Programs, announces and reports for one node.

    Run it with ``await agent.run()``, or as ``async with agent:``. Nothing is touched before the first complete list of
    attachments (``synced``). While the API cannot be reached, the last known attachments hold: what is programmed stays
    and is repaired. A stop leaves the kernel as it is, so that traffic goes on.
    """

    def __init__(
        self,
        node_name: str,
        cluster: Cluster,
        datapath: Datapath,
        announcer: Announcer,
        *,
        settings: AgentSettings | None = None,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.node_name = node_name
        self.synced = asyncio.Event()
        self._settings = settings or AgentSettings()
        self._clock: Clock = clock or SystemClock()
        self._cluster = cluster
        self._datapath = datapath
        self._announcer = announcer
        self._label = node_label(node_name)
        self._attachments: dict[ObjectKey, AddressAttachment] = {}
        self._versions = Versions()
        self._unread: set[ObjectKey] = set()
        self._telemetry = telemetry or Silence()
        self._unreadable = Unread(self._telemetry)
        self._watchdog = Watchdog()
        self._unlooked: str | None = "nothing has looked at the kernel yet"
        self._granted_at: dict[tuple[str, int], float | None] = {}
        self._reporter = Reporter(cluster, node_name, self._note_report, self._urge, self._telemetry)
        self._cycle = NodeCycle(
            node_name=node_name,
            attachments=self._concerning,
            is_complete=lambda: not self._unread,
            datapath=datapath,
            announcer=announcer,
            clock=self._clock,
            report=self._report,
            rounds=self._settings.rounds,
            telemetry=self._telemetry,
        )
        self._wake = asyncio.Event()
        self._is_urgent = False
        self._eager_passes = 0
        self._is_stopping = False
        self._attempt = 0
        self._tasks = Tasks()
        self._sources: list[asyncio.Task[None]] = []

    def why_unhealthy(self) -> str | None:
        """Why this process should be started anew, as a sentence; None: its loops turn."""
        return self._watchdog.why_unhealthy(self._tasks)

    def why_unready(self) -> str | None:
        """
        Why it cannot serve its node now, as a sentence; None: it has gone over the node, and read everything back.

        An entry that cannot be programmed is no reason: it is told in its attachment, and stops no other.
        """
        return self._unlooked if self.synced.is_set() else "not every attachment has been observed yet"

    async def run(self) -> None:
        """Work until ``stop``; raises when a fault of ours ended a loop."""
        async with self:
            await self._tasks.wait()

    async def __aenter__(self) -> Agent:
        told = self._telemetry
        told.set(CLUSTER_SYNCED, 0)
        cluster = follow(self._cluster.changes, self._take, name="cluster", on_gap=self._note_gap, telemetry=told)
        kernel = follow(
            self._datapath.changes, self._hear_kernel, name="datapath", on_gap=self._wake.set, telemetry=told
        )
        self._sources = [
            self._tasks.start(cluster, "cluster-changes"),
            self._tasks.start(kernel, "datapath-changes"),
        ]
        self._tasks.start(self._reporter.run(), "reports")
        self._tasks.start(self._work(), "passes")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Finish the pass in work and its reports, and fall silent: who does not watch must not announce."""
        for source in self._sources:
            source.cancel()
        self._is_stopping = True
        self._wake.set()
        self.synced.set()
        self._reporter.finish()
        await self._tasks.stop(self._settings.grace_seconds)
        try:
            await self._announcer.announce(frozenset())
        except BackendError as error:
            logger.warning("could not stop announcing", extra={"node": self.node_name, "error": str(error)})

    def _concerning(self) -> tuple[AddressAttachment, ...]:
        """The latest attachments that carry this node's label; the only ones that ask anything of it."""
        return tuple(attachment for attachment in self._attachments.values() if self._label in attachment.meta.labels)

    def _take(self, batch: Batch) -> None:
        known = {} if Kind.ATTACHMENT in batch.resynced else dict(self._attachments)
        for key, found in batch.objects.items():
            if isinstance(found, AddressAttachment):
                # What our own report returned is newer than what the watch has come to; it will come to that, too.
                known[key] = found if self._versions.deliver(found) else self._attachments.get(key, found)
            elif key.kind is Kind.ATTACHMENT:
                known.pop(key, None)
        self._unreadable.take(batch)
        for key, why in batch.unreadable.items():
            # Neither present nor gone: what was known of it goes on holding.
            if key in self._attachments:
                known[key] = self._attachments[key]
            logger.warning("cannot read an object", extra={"object": str(key), "error": why})
        unread = {key for key in self._unreadable.keys - known.keys() if key.kind is Kind.ATTACHMENT}
        for key in self._attachments.keys() - known.keys():
            self._versions.depart(key)
        is_news = unread != self._unread or not _is_same(known, self._attachments)
        self._attachments, self._unread = known, unread
        for kind in batch.resynced:
            self._telemetry.count(RELISTS, kind)
        if is_news:
            self._note_grants()
            self._urge()
        self._telemetry.set(CLUSTER_SYNCED, batch.synced)
        if batch.synced:
            if not self.synced.is_set():
                logger.info("observed everything", extra={"node": self.node_name, "attachments": len(known)})
                self.synced.set()
                self._urge()
            self._reporter.hurry()

    def _note_gap(self) -> None:
        """The API is out of reach: nothing changes, and the kernel is still looked after."""
        self._telemetry.set(CLUSTER_SYNCED, 0)

    def _note_grants(self) -> None:
        """Since when this node is to hold what it has not confirmed, by attachment and epoch; None: it does."""
        concerning = self._concerning()
        held = [
            each
            for each in concerning
            if each.spec.holder is not None and each.spec.holder.node_name == self.node_name and each.spec.held_prefixes
        ]
        self._telemetry.set(AGENT_ATTACHMENTS, len(held), "held")
        self._telemetry.set(AGENT_ATTACHMENTS, len(concerning) - len(held), "other")
        now = asyncio.get_running_loop().time()
        due = {(each.meta.uid, each.spec.epoch) for each in held if not each.is_confirmed}
        self._granted_at = {grant: self._granted_at.get(grant, now) for grant in due}

    def _report(self, reports: Sequence[ReportNode]) -> None:
        for each in reports:
            granted_at = self._granted_at.get((each.uid, each.report.epoch))
            if granted_at is not None and each.report.state == NodeStateName.PROGRAMMED:
                self._granted_at[each.uid, each.report.epoch] = None
                self._telemetry.observe(AGENT_PROGRAM_SECONDS, asyncio.get_running_loop().time() - granted_at)
        self._reporter.want(reports)

    def _hear_kernel(self, _: None) -> None:
        self._wake.set()

    def _urge(self) -> None:
        self._is_urgent = True
        self._eager_passes = _EAGER_PASSES
        self._wake.set()

    def _note_report(self, action: ReportNode, written: object | None) -> None:
        """
        The attachment as our report left it is part of the next view; the watch will say it again.

        Unless it has told of a later write: what that one made of our word is what stands, and where it has undone it,
        its delivery was news to nobody, since the attachment was as before.
        """
        known = next((each for each in self._attachments.values() if each.meta.uid == action.uid), None)
        if known is None or not isinstance(written, AddressAttachment):
            return
        noted = attrs.evolve(known, nodes=(*_of_others(known, self.node_name), action.report))
        if self._versions.write(written):
            self._attachments[known.key] = written
            is_news = _essence(written) != _essence(noted)
        else:
            is_news = self._versions.is_overtaken(written) and _essence(known) != _essence(noted)
        if is_news:
            self._note_grants()
            self._urge()

    async def _work(self) -> None:
        await self.synced.wait()
        while not self._is_stopping:
            self._wake.clear()
            self._is_urgent = False
            self._watchdog.expect("passes")
            delay = await self._pass()
            self._watchdog.expect("passes", delay + STEP_SECONDS)
            await self._wait(delay)
        self._watchdog.rest("passes")

    async def _pass(self) -> float:
        """One pass; seconds until the next though nothing is heard."""
        began_at = asyncio.get_running_loop().time()
        try:
            result = await self._cycle.run()
        except BackendError as error:
            self._attempt += 1
            self._unlooked = f"the kernel cannot be looked at: {error}"
            self._telemetry.count(AGENT_PASSES, Result.FAILED)
            logger.warning("a pass failed", extra={"node": self.node_name, "error": str(error)})
            return error_delay(error, self._attempt, self.node_name)
        except Exception:
            # The node's traffic depends on this loop: whatever went wrong, it looks again.
            self._attempt += 1
            self._unlooked = "a fault of ours ended the last look at the kernel; see the log"
            self._telemetry.count(AGENT_PASSES, Result.FAULT)
            logger.exception("a fault of ours ended a pass", extra={"node": self.node_name})
            return FAILED.delay(self._attempt, self.node_name)
        self._unlooked = None
        self._telemetry.observe(AGENT_PASS_SECONDS, asyncio.get_running_loop().time() - began_at)
        self._telemetry.count(AGENT_PASSES, Result.FAILED if result.is_failed else Result.DONE)
        return self._delay_after(result)

    def _delay_after(self, result: Pass) -> float:
        delays = [self._settings.resync_seconds]
        self._attempt = self._attempt + 1 if result.is_failed else 0
        if (retry := soonest_delay(result.outcomes, self._attempt, self.node_name)) is not None:
            delays.append(retry)
        if result.recheck_at is not None:
            delays.append(max(result.recheck_at - self._clock.now(), _LEAST_RECHECK_SECONDS))
        return min(delays)

    async def _wait(self, delay_seconds: float) -> None:
        """Until something is heard, or *delay_seconds*; the kernel's own events alone wake only so often."""
        loop = asyncio.get_running_loop()
        quiet_until = loop.time()
        if self._eager_passes:
            self._eager_passes -= 1
        else:
            quiet_until += self._settings.kernel_quiet_seconds
        await _wait_for(self._wake, delay_seconds)
        # A remainder that the loop's clock cannot tell would be waited for over and over.
        while not (self._is_urgent or self._is_stopping) and (left := quiet_until - loop.time()) > _TICK_SECONDS:
            self._wake.clear()
            await _wait_for(self._wake, left)


def _is_same(attachments: Mapping[ObjectKey, AddressAttachment], others: Mapping[ObjectKey, AddressAttachment]) -> bool:
    """
    Whether a decision on the one cannot differ from one on the other.

    Our own word comes back by the watch: it must not cost a look at the kernel while traffic may wait for another.
    """
    return attachments.keys() == others.keys() and all(
        each is others[key] or _essence(each) == _essence(others[key]) for key, each in attachments.items()
    )


def _essence(attachment: AddressAttachment) -> AddressAttachment:
    """All that a decision can rest on: without version, instants of reports, and their order."""
    reports = sorted((attrs.evolve(report, at=0.0) for report in attachment.nodes), key=attrgetter("node_name"))
    return attrs.evolve(attachment, meta=attrs.evolve(attachment.meta, resource_version=""), nodes=tuple(reports))


def _of_others(attachment: AddressAttachment, node_name: str) -> tuple[NodeReport, ...]:
    return tuple(report for report in attachment.nodes if report.node_name != node_name)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
