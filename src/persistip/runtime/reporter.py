"""
How does a node's word reach the API, without the API being able to hold up the node?

In: after each pass, all reports that differ from what the attachments show.  Out: one write each, the latest only.
Apart from the pass, since an API server that hangs must delay neither a repair nor a withdrawal. What is wanted
replaces what was not yet sent: a report is true at the look it was decided on, and an older one is worth nothing. One
that a later look took back while it was under way may be written all the same; then the node must look again, since
nothing else would tell that what now stands is not true. What an answer says stands is of the moment of the write:
whoever hears of it has to know whether the watch has told of a later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import attrs

from persistip.errors import BackendError
from persistip.model.actions import Outcome, ReportNode
from persistip.runtime.metrics import API_ACTIONS, Silence, Telemetry, outcome_label
from persistip.runtime.retry import outcome_of, soonest_delay
from persistip.runtime.telemetry import log_outcome
from persistip.strategies import Cluster


class Reporter:
    """
    Sends reports for one node.

    *note* hears of each that was written, with what the answer says stands; *look_again* that one was not true by then.
    """

    def __init__(
        self,
        cluster: Cluster,
        node_name: str,
        note: Callable[[ReportNode, object | None], None],
        look_again: Callable[[], None],
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or Silence()
        self._cluster = cluster
        self._node_name = node_name
        self._note = note
        self._look_again = look_again
        self._wanted: dict[str, ReportNode] = {}
        self._sending: dict[str, ReportNode] = {}
        self._taken_back: set[str] = set()
        """Which of those under way the latest look does not say."""
        self._wake = asyncio.Event()
        self._attempt = 0
        self._is_stopping = False

    def want(self, reports: Sequence[ReportNode]) -> None:
        """From now on exactly *reports* are to be sent, but for those already under way."""
        wanted = {report.name: report for report in reports if not _is_same(report, self._sending.get(report.name))}
        is_news = any(not _is_same(report, self._wanted.get(name)) for name, report in wanted.items())
        self._wanted = wanted
        self._taken_back = self._sending.keys() - {report.name for report in reports}
        if is_news:
            self._wake.set()

    def hurry(self) -> None:
        """The API has just been heard: what waits for it need wait no longer."""
        if self._wanted:
            self._wake.set()

    def finish(self) -> None:
        """Send what is wanted, once, and end."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until ``finish``."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            delay = await self._send() if self._wanted else None
            if self._is_stopping:
                return
            if delay is not None:
                # Not by a sleep of its own: news and a recovered API cut it short.
                asyncio.get_running_loop().call_later(delay, self.hurry)

    async def _send(self) -> float | None:
        """Send all that is wanted; seconds until what failed may be sent again."""
        self._sending, self._wanted = self._wanted, {}
        reports = tuple(self._sending.values())
        try:
            outcomes: Sequence[Outcome] = await self._cluster.apply(reports)
        except BackendError as error:
            outcomes = [outcome_of(error)] * len(reports)
        taken_back, self._sending, self._taken_back = self._taken_back, {}, set()
        failed: list[Outcome] = []
        for report, outcome in zip(reports, outcomes, strict=True):
            log_outcome(report, outcome, node=self._node_name)
            label = outcome_label(outcome.state, is_stale=outcome.stale)
            self._telemetry.count(API_ACTIONS, type(report).__name__, label)
            if outcome.is_done:
                self._note(report, outcome.written)
                if report.name in taken_back:
                    self._look_again()
            elif not outcome.stale and report.name not in taken_back:
                failed.append(outcome)
                self._wanted.setdefault(report.name, report)
            # Stale: the attachment is gone or another by now, and the watch brings a pass that knows.
        self._attempt = self._attempt + 1 if failed else 0
        return soonest_delay(failed, self._attempt, self._node_name)


def _is_same(report: ReportNode, other: ReportNode | None) -> bool:
    """Equal but for the instant of the look."""
    return other is not None and report == attrs.evolve(other, report=attrs.evolve(other.report, at=report.report.at))
