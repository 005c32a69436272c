"""The parts of the runtime, each by itself: delays, dependent actions, outcomes, loops, reports, threads."""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network

import attrs
import pytest

from persistip.decide.catalog import Catalog
from persistip.decide.modes import BUILT_IN
from persistip.errors import (
    BackendError,
    BugError,
    OwnershipError,
    RefusedError,
    RejectedError,
    StaleError,
    ThrottledError,
    UnavailableError,
)
from persistip.model.actions import (
    DONE,
    ClusterAction,
    ConfirmNodeGone,
    CreateAttachment,
    DatapathAction,
    ForgetPin,
    Outcome,
    OutcomeState,
    PutEntry,
    RecordEvent,
    RecordPin,
    RemoveEntry,
    ReplaceAttachment,
    ReportNode,
    ReportRoute,
)
from persistip.model.attachment import AddressAttachment, AttachmentSpec, NodeReport, Reference
from persistip.model.entry import ExemptEntry, GuardEntry, LinkRef, Pin, ProxyEntry, RouteEntry
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.route import GKEIPRoute, RouteStatus
from persistip.model.views import Policy
from persistip.runtime.allowance import Allowance
from persistip.runtime.clock import SystemClock
from persistip.runtime.cycle import EVENT_BURST, ObjectCycle
from persistip.runtime.execute import Result, execute_cluster, execute_node
from persistip.runtime.loops import SOURCE, Tasks, follow
from persistip.runtime.outcomes import Outcomes
from persistip.runtime.reporter import Reporter
from persistip.runtime.retry import LATE_SECONDS, Backoff, delay_after, outcome_of, soonest_delay
from persistip.runtime.telemetry import facts_of, log_outcome
from persistip.runtime.threads import threaded
from persistip.strategies import AllocatorFeatures, Batch, CloudAction, CloudScope, CloudState

pytestmark = [pytest.mark.looptime]

FAILED = Outcome(state=OutcomeState.FAILED, message="broken")
ROUTE = ObjectKey(Kind.ROUTE, "shop", "web")
PREFIX = ip_network("203.0.113.5/32")
OTHER_PREFIX = ip_network("203.0.113.6/32")
OLD, NEW = LinkRef("veth0", 7), LinkRef("veth1", 8)


# ---------------------------------------------------------------------------------------------- when to try again


def test_delays_grow_to_their_ceiling() -> None:
    """Each failure in a row waits longer, up to the last delay, and never longer than that."""
    backoff = Backoff(first_seconds=0.1, last_seconds=5.0, spread=0.0)
    assert [backoff.delay(attempt) for attempt in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert backoff.delay(50) == backoff.delay(10_000) == 5.0


def test_keys_that_fail_together_come_back_apart() -> None:
    """The spread depends on the key, is the same on every run, and stays within its share."""
    backoff = Backoff(first_seconds=1.0, last_seconds=1.0, spread=0.2)
    delays = [backoff.delay(1, f"key-{number}") for number in range(200)]
    assert delays == [backoff.delay(1, f"key-{number}") for number in range(200)]
    assert len(set(delays)) > 190
    assert all(0.8 <= delay <= 1.0 for delay in delays)


@pytest.mark.parametrize(
    ("error", "state", "reason", "is_stale"),
    [
        (StaleError("x"), OutcomeState.FAILED, "Stale", True),
        (ThrottledError("x", retry_after_seconds=7), OutcomeState.FAILED, "Throttled", False),
        (RefusedError("x", reason="QuotaExceeded"), OutcomeState.BLOCKED, "QuotaExceeded", False),
        (RejectedError("x"), OutcomeState.BLOCKED, "Rejected", False),
        (OwnershipError("x"), OutcomeState.BLOCKED, "NotOurs", False),
        (UnavailableError("x"), OutcomeState.FAILED, "Unavailable", False),
        (BackendError("x"), OutcomeState.FAILED, "Failed", False),
    ],
)
def test_error_becomes_the_outcome_its_class_names(
    error: BackendError, state: OutcomeState, reason: str, is_stale: bool
) -> None:
    """Every class of error has an outcome of its own kind, with the error's words."""
    outcome = outcome_of(error)
    assert (outcome.state, outcome.reason, outcome.stale, outcome.message) == (state, reason, is_stale, "x")


def test_outcome_says_when_it_may_be_tried_again() -> None:
    """Success and the unsupported never, stale before failed before blocked, which ends late, or as long as told."""
    assert delay_after(DONE, 1) is None
    assert delay_after(Outcome(state=OutcomeState.UNSUPPORTED), 1) is None
    stale, failed = delay_after(outcome_of(StaleError("x")), 1), delay_after(FAILED, 1)
    assert stale is not None
    assert failed is not None
    assert 0 < stale < failed < 1
    refused = [delay_after(outcome_of(RefusedError("x")), attempt) or 0 for attempt in (1, 2, 50)]
    assert failed < refused[0] <= 1 < refused[1] <= 2
    assert 0.8 * LATE_SECONDS <= refused[2] <= LATE_SECONDS
    assert delay_after(outcome_of(ThrottledError("x", retry_after_seconds=7)), 1) == 7
    assert delay_after(Outcome(state=OutcomeState.STARTED), 1) is not None


def test_of_several_outcomes_the_soonest_counts() -> None:
    """One blocked action does not keep another from its early retry."""
    delay = soonest_delay([outcome_of(RefusedError("x")), FAILED, DONE], 1)
    assert delay == delay_after(FAILED, 1)
    assert soonest_delay([DONE], 1) is None


def test_burst_is_free_and_a_stream_is_slowed() -> None:
    """The first passes cost nothing, then each waits for one write's worth, and rest restores the burst."""
    allowance: Allowance[str] = Allowance(burst=3, per_second=2.0)
    assert [allowance.spend("a", 0.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert allowance.spend("b", 0.0) == 0
    assert allowance.spend("a", 100.0) == 0


def test_allowance_that_is_asked_first_counts_only_what_it_gives() -> None:
    """What is refused costs nothing, so that a stream never pushes the next free one away."""
    allowance: Allowance[str] = Allowance(burst=2, per_second=0.1)
    assert [allowance.may("a", 0.0) for _ in range(5)] == [True, True, False, False, False]
    assert allowance.may("b", 0.0)
    assert [allowance.may("a", 10.0) for _ in range(2)] == [True, False]


def test_allowances_of_rested_keys_take_no_room() -> None:
    """A key that has not been written for a while is forgotten."""
    allowance: Allowance[int] = Allowance(burst=3, per_second=1.0)
    for key in range(5000):
        allowance.spend(key, float(key))
    assert len(allowance._left) <= 1100


def test_outcomes_are_the_last_ones_and_a_copy() -> None:
    """A view keeps what it was handed when outcomes go on changing, and a gone object leaves nothing."""
    outcomes: Outcomes[str, str] = Outcomes(limit=2)
    outcomes.record("a", "put", FAILED)
    view = outcomes.of("a")
    outcomes.record("a", "put", DONE)
    assert (view["put"], outcomes.of("a")["put"]) == (FAILED, DONE)
    outcomes.record("a", "one", DONE)
    outcomes.record("a", "two", DONE)
    assert set(outcomes.of("a")) == {"one", "two"}
    outcomes.keep("a", lambda name: name == "two")
    assert set(outcomes.of("a")) == {"two"}
    outcomes.keep("a", lambda _: False)
    assert len(outcomes) == 0
    outcomes.record("b", "put", DONE)
    outcomes.forget("b")
    assert not outcomes.of("b")


# ---------------------------------------------------------------------------------------------- what depends on what


class Backend:
    """Carries out everything but what it is told to refuse; notes each call's actions."""

    def __init__(self, *refused: object, error: BackendError | None = None) -> None:
        self.refused = refused
        self.error = error
        self.calls: list[list[object]] = []

    async def apply(self, actions: Sequence[object]) -> Sequence[Outcome]:
        self.calls.append(list(actions))
        if self.error is not None:
            raise self.error
        return [FAILED if action in self.refused else DONE for action in actions]

    async def changes(self) -> AsyncIterator[None]:
        yield None

    async def observe(self, _: object) -> None:
        """Return nothing; no test here looks."""


ATTACHMENT = AddressAttachment(
    meta=ObjectMeta(name="r-x", uid="u"), spec=AttachmentSpec(route=Reference(namespace="shop", name="web", uid="r"))
)
WRITE = ReplaceAttachment(ATTACHMENT)
REPORT = ReportRoute(key=ROUTE, uid="r", resource_version="1", status=RouteStatus())
EVENTS = tuple(
    RecordEvent(regarding=ROUTE, uid="r", reason=reason, action="Move", message="m") for reason in ("Moved", "Ready")
)


async def carry_out(backend: Backend, *actions: ClusterAction) -> list[Result[ClusterAction]]:
    results: list[Result[ClusterAction]] = []
    await execute_cluster(backend, actions, results.append)  # type: ignore[arg-type]
    return results


async def test_write_goes_alone_and_events_together() -> None:
    """Traffic waits for one call with one write; the Events, which nobody waits for, share one."""
    backend = Backend()
    results = await carry_out(backend, WRITE, REPORT, *EVENTS)
    assert backend.calls == [[WRITE], [REPORT], list(EVENTS)]
    assert all(result.outcome.is_done for result in results)


async def test_status_of_a_write_that_failed_is_not_written() -> None:
    """What speaks of a decision stops with it, and its outcome says why it was not tried."""
    backend = Backend(WRITE)
    results = await carry_out(backend, WRITE, REPORT, *EVENTS)
    assert backend.calls == [[WRITE]]
    assert [result.outcome.state for result in results[1:]] == [OutcomeState.BLOCKED] * 3
    assert "broken" in results[1].outcome.message


async def test_events_of_a_status_that_failed_are_not_recorded() -> None:
    """An Event that tells of a change is decided again with the change, so it is not told twice."""
    backend = Backend(REPORT)
    await carry_out(backend, WRITE, REPORT, *EVENTS)
    assert backend.calls == [[WRITE], [REPORT]]


async def test_one_event_that_fails_stops_no_other() -> None:
    """Events depend on nothing among themselves."""
    results = await carry_out(Backend(EVENTS[0]), *EVENTS)
    assert [result.outcome.state for result in results] == [OutcomeState.FAILED, OutcomeState.DONE]


async def test_backend_that_fails_as_a_whole_fails_its_action() -> None:
    """An error of the outside world is an outcome like any other."""
    results = await carry_out(Backend(error=UnavailableError("away")), CreateAttachment(ATTACHMENT))
    assert [result.outcome.reason for result in results] == ["Unavailable"]


async def test_backend_that_answers_too_little_is_a_bug() -> None:
    """A backend that loses outcomes is told so instead of being believed."""

    class Forgetful(Backend):
        async def apply(self, actions: Sequence[object]) -> Sequence[Outcome]:
            return []

    with pytest.raises(BugError, match="0 outcomes for 1"):
        await carry_out(Forgetful(), WRITE)


def route_entry(link: LinkRef) -> RouteEntry:
    return RouteEntry(
        prefix=PREFIX, link=link, hardware_address=f"02:00:00:00:00:0{link.index}", pod_ip=ip_address("10.0.0.9")
    )


def guard_entry(link: LinkRef) -> GuardEntry:
    return GuardEntry(prefix=PREFIX, link=link, hardware_address=f"02:00:00:00:00:0{link.index}")


def pin(link: LinkRef) -> Pin:
    return Pin(attachment_uid="u", pod_uid=link.name, epoch=1, link=link, hardware_address="02:00:00:00:00:01")


MOVE: tuple[DatapathAction, ...] = (
    RecordPin(pin(NEW)),
    PutEntry(guard_entry(NEW)),
    PutEntry(ExemptEntry(PREFIX)),
    PutEntry(route_entry(NEW)),
    RemoveEntry(route_entry(OLD)),
    RemoveEntry(guard_entry(OLD)),
    ForgetPin(pin(OLD)),
)


async def states(backend: Backend, tried: dict[DatapathAction, Outcome] | None = None) -> list[tuple[str, str]]:
    results = await execute_node(backend, MOVE, tried or {})  # type: ignore[arg-type]
    done = {result.action: result.outcome.state for result in results}
    return [(type(action).__name__, str(done.get(action, "-"))) for action in MOVE]


async def test_kernel_gets_together_what_does_not_depend_on_each_other() -> None:
    """A guard and its exemption go in one call, after the pin and before the route; removals the other way round."""
    backend = Backend()
    assert {state for _, state in await states(backend)} == {"done"}
    assert [tuple(call) for call in backend.calls] == [
        MOVE[:1],
        MOVE[1:3],
        MOVE[3:4],
        MOVE[4:5],
        MOVE[5:6],
        MOVE[6:],
    ]


async def test_without_its_pin_no_entry_leads_to_a_link() -> None:
    """A pin that could not be recorded keeps all that is for its link out of the kernel, and the old entries in."""
    found = await states(Backend(MOVE[0]))
    assert [state for _, state in found] == ["failed", *["blocked"] * 6]


async def test_address_whose_route_was_stopped_is_not_answered_for() -> None:
    """What attracts or lets through an address waits for what leads to its Pod, and says what really failed."""
    link = LinkRef("eth0", 9)
    actions = (*MOVE[:4], PutEntry(ProxyEntry(prefix=PREFIX, link=link)), PutEntry(ExemptEntry(OTHER_PREFIX)))
    results = await execute_node(Backend(MOVE[0]), actions, {})  # type: ignore[arg-type]
    found = {result.action: result.outcome for result in results}
    assert [str(found[action].state) for action in actions] == ["failed", *["blocked"] * 4, "done"]
    assert {found[action].message for action in actions[1:5]} == {
        f"not tried, since an action before it did not succeed: {FAILED.message}"
    }


async def test_old_entry_stays_while_its_replacement_does_not_stand() -> None:
    """A route that could not be put keeps the old route, the guard beside it and the old pin with them."""
    found = await states(Backend(MOVE[3]))
    assert [state for _, state in found] == ["done", "done", "done", "failed", "blocked", "blocked", "blocked"]


@pytest.mark.parametrize("missing", [1, 2], ids=["guard", "exemption"])
async def test_route_waits_for_what_lets_its_pod_send(missing: int) -> None:
    """An address is not delivered while every Pod could send from it, or no reply carries it; what stood stands."""
    found = [state for _, state in await states(Backend(MOVE[missing]))]
    assert (found[missing], found[3:6]) == ("failed", ["blocked"] * 3)


async def test_what_lets_a_pod_send_outlives_the_route_beside_it() -> None:
    """A route that could not be taken away keeps its guard and its exemption."""
    actions = (*MOVE[4:6], RemoveEntry(ExemptEntry(PREFIX)), RemoveEntry(ExemptEntry(OTHER_PREFIX)))
    results = await execute_node(Backend(MOVE[4]), actions, {})  # type: ignore[arg-type]
    assert {result.action: str(result.outcome.state) for result in results} == {
        actions[0]: "failed",
        actions[1]: "blocked",
        actions[2]: "blocked",
        actions[3]: "done",
    }


async def test_what_is_due_goes_although_nothing_can_take_its_place() -> None:
    """A release is done whatever becomes of the Pod that follows on the node."""
    actions = (*MOVE[:4], *(RemoveEntry(entry, is_due=True) for entry in (route_entry(OLD), guard_entry(OLD))))
    results = await execute_node(Backend(MOVE[3]), actions, {})  # type: ignore[arg-type]
    assert [str(result.outcome.state) for result in results] == ["done", "done", "done", "failed", "done", "done"]


async def test_what_was_tried_in_this_pass_is_not_repeated_and_still_counts() -> None:
    """In a second round the failed put has had its turn, and what depends on it stays stopped."""
    backend = Backend()
    found = await states(backend, {MOVE[3]: FAILED, MOVE[0]: DONE})
    assert dict(found[:1] + found[3:5]) == {"RecordPin": "-", "PutEntry": "-", "RemoveEntry": "blocked"}
    assert not any(MOVE[3] in call or MOVE[0] in call for call in backend.calls)


# ---------------------------------------------------------------------------------------------- loops


async def test_source_that_breaks_is_opened_anew_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    """Each break is told as a gap and followed by a new start, with growing pauses that an item resets."""
    loop = asyncio.get_running_loop()
    opened: list[float] = []
    items: list[int] = []
    gaps: list[float] = []

    async def source() -> AsyncIterator[int]:
        opened.append(loop.time())
        if len(opened) == 4:
            yield 1
        if len(opened) == 6:
            return
        raise UnavailableError("away")

    task = asyncio.create_task(follow(source, items.append, name="test", on_gap=lambda: gaps.append(loop.time())))
    await asyncio.sleep(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pauses = [after - before for before, after in itertools.pairwise(opened)]
    assert pauses[0] < pauses[1] < pauses[2]
    assert pauses[3] == pytest.approx(pauses[0], rel=0.3)
    assert items == [1]
    assert len(gaps) == len(opened)
    assert "lost a source of changes" in caplog.text


async def test_source_that_is_refused_is_asked_again_soon_and_then_ever_later() -> None:
    """A server that refuses because it has just started is not left alone for long, one that goes on refusing is."""
    loop = asyncio.get_running_loop()
    opened: list[float] = []

    async def source() -> AsyncIterator[int]:
        opened.append(loop.time())
        raise RefusedError("who are you?")
        yield  # makes it an iterator

    task = asyncio.create_task(follow(source, lambda _: None, name="test", on_gap=lambda: None))
    await asyncio.sleep(300)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pauses = [after - before for before, after in itertools.pairwise(opened)]
    assert sum(pauses[:4]) < 2
    assert min(pauses[-3:]) > 20


@pytest.mark.parametrize(
    ("error", "longest_seconds"),
    [
        (UnavailableError("away"), 2),
        (ThrottledError("later", retry_after_seconds=12), 12),
        (RefusedError("no", reason="Forbidden"), 30),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_source_long_away_is_looked_for_as_often_as_its_error_allows(
    error: BackendError, longest_seconds: float
) -> None:
    """In the long run one that is away is asked every 2 s, one that refuses twice a minute, a busy one as told."""
    loop = asyncio.get_running_loop()
    opened: list[float] = []

    async def source() -> AsyncIterator[int]:
        opened.append(loop.time())
        raise error
        yield 0

    task = asyncio.create_task(follow(source, lambda _: None, name="test", on_gap=lambda: None))
    await asyncio.sleep(600)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pauses = [after - before for before, after in itertools.pairwise(opened)]
    assert 0.8 * longest_seconds <= max(pauses) <= longest_seconds
    assert max(pauses[-5:]) >= 0.8 * longest_seconds


async def test_source_that_refuses_when_it_is_back_is_asked_again_soon() -> None:
    """After a long outage one refusal costs a moment, not the half minute that the outage's many tries would make."""
    loop = asyncio.get_running_loop()
    heard_at: list[float] = []
    back_at = loop.time() + 60
    answers = iter((RefusedError("nobody may, yet", reason="PermissionDenied"),))

    async def source() -> AsyncIterator[int]:
        if loop.time() < back_at:
            raise UnavailableError("away")
        for error in answers:
            raise error
        yield 1
        await asyncio.Event().wait()

    task = asyncio.create_task(follow(source, lambda _: heard_at.append(loop.time()), name="test", on_gap=lambda: None))
    await asyncio.sleep(120)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (at,) = heard_at
    assert at - back_at < SOURCE.last_seconds + 0.1


async def test_loop_that_fails_ends_the_wait_for_all() -> None:
    """A fault of ours in one loop ends the process's wait with that fault, and the others can still be stopped."""
    tasks = Tasks()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    tasks.start(work(), "work")
    tasks.start(fail(), "fail")
    with pytest.raises(ZeroDivisionError):
        await tasks.wait()
    await tasks.stop(grace_seconds=0.1)
    assert ended.is_set()


# ---------------------------------------------------------------------------------------------- reports


class Slow(Backend):
    """A cluster that answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()
        self.outcomes: list[Outcome] = []

    async def apply(self, actions: Sequence[object]) -> Sequence[Outcome]:
        self.calls.append(list(actions))
        await self.may_answer.wait()
        return [self.outcomes.pop(0) if self.outcomes else DONE for _ in actions]


def report(epoch: int, at: float = 0.0, name: str = "r-x") -> ReportNode:
    return ReportNode(name=name, uid="u", report=NodeReport(node_name="a", epoch=epoch, at=at))


def nothing() -> None:
    """Take no notice."""


async def test_latest_report_replaces_the_unsent_and_the_same_is_not_sent_twice() -> None:
    """While one report is under way, only the last of those wanted since is sent after it."""
    cluster = Slow()
    written: list[ReportNode] = []
    reporter = Reporter(cluster, "a", lambda each, _: written.append(each), nothing)  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run())
    reporter.want([report(1)])
    await asyncio.sleep(0.1)
    reporter.want([report(1, at=5.0)])
    reporter.want([report(2)])
    reporter.want([report(3)])
    await asyncio.sleep(0.1)
    cluster.may_answer.set()
    await asyncio.sleep(0.1)
    reporter.finish()
    await task
    assert cluster.calls == [[report(1)], [report(3)]]
    assert written == [report(1), report(3)]


async def test_report_that_failed_is_sent_again_and_a_stale_one_is_not() -> None:
    """A failure is retried by itself, while what met another object waits for the pass that knows."""
    cluster = Slow()
    cluster.may_answer.set()
    cluster.outcomes = [FAILED, outcome_of(StaleError("another"))]
    reporter = Reporter(cluster, "a", lambda *_: None, nothing)  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run())
    reporter.want([report(1), report(1, name="r-y")])
    await asyncio.sleep(1)
    reporter.finish()
    await task
    assert cluster.calls == [[report(1), report(1, name="r-y")], [report(1)]]


async def test_report_under_way_is_not_sent_again_by_a_look_that_says_the_same() -> None:
    """While the API is slow, looks at another instant that find the same ask for nothing more."""
    cluster = Slow()
    reporter = Reporter(cluster, "a", lambda *_: None, nothing)  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run())
    reporter.want([report(1)])
    await asyncio.sleep(0.1)
    reporter.want([report(1, at=5.0)])
    cluster.may_answer.set()
    await asyncio.sleep(0.1)
    reporter.finish()
    await task
    assert cluster.calls == [[report(1)]]


async def test_report_that_failed_does_not_take_the_place_of_a_later_one() -> None:
    """What is tried again is what is wanted by then."""
    cluster = Slow()
    cluster.outcomes = [FAILED]
    reporter = Reporter(cluster, "a", lambda *_: None, nothing)  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run())
    reporter.want([report(1)])
    await asyncio.sleep(0.1)
    reporter.want([report(2)])
    cluster.may_answer.set()
    await asyncio.sleep(60)
    reporter.finish()
    await task
    assert cluster.calls == [[report(1)], [report(2)]]


@pytest.mark.parametrize(("outcome", "looks"), [(DONE, 1), (FAILED, 0)])
async def test_report_taken_back_while_under_way_asks_for_a_look_or_is_dropped(outcome: Outcome, looks: int) -> None:
    """What a later look no longer says is not sent again; where it was written all the same, the node looks again."""
    cluster = Slow()
    cluster.outcomes = [outcome]
    looked: list[None] = []
    reporter = Reporter(cluster, "a", lambda *_: None, lambda: looked.append(None))  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run())
    reporter.want([report(1)])
    await asyncio.sleep(0.1)
    reporter.want([])
    cluster.may_answer.set()
    await asyncio.sleep(60)
    reporter.finish()
    await task
    assert cluster.calls == [[report(1)]]
    assert len(looked) == looks


async def test_report_waiting_for_its_retry_is_sent_when_the_api_is_heard() -> None:
    """A recovered connection cuts the pause short."""
    cluster = Slow()
    cluster.may_answer.set()
    cluster.outcomes = [outcome_of(RefusedError("no"))]
    reporter = Reporter(cluster, "a", lambda *_: None, nothing)  # type: ignore[arg-type]
    task = asyncio.create_task(reporter.run())
    reporter.want([report(1)])
    await asyncio.sleep(0.5)
    assert len(cluster.calls) == 1
    reporter.hurry()
    await asyncio.sleep(0.01)
    assert len(cluster.calls) == 2
    reporter.finish()
    await task


# ---------------------------------------------------------------------------------------------- threads


class Blocking:
    """A client that notes how many of its calls run at a time."""

    features = AllocatorFeatures(name="blocking", needs_provisioning=True, knows_owners=True)

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.finished = 0
        self._lock = threading.Lock()

    def observe(self, scope: CloudScope) -> CloudState:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.02)
        with self._lock:
            self.running -= 1
            self.finished += 1
        return CloudState(ready=True, leader="a")

    def apply(self, action: CloudAction) -> Outcome:
        raise UnavailableError("away")


@pytest.mark.looptime(False)
async def test_blocking_calls_run_in_few_threads_beside_the_loop() -> None:
    """Many calls at once take turns in the pool while the loop goes on, and errors arrive as they were raised."""
    client = Blocking()
    scope = CloudScope(prefixes=(PREFIX,))
    async with threaded(client, threads=3) as allocator:
        looks = [asyncio.create_task(allocator.observe(scope)) for _ in range(12)]
        await asyncio.sleep(0)
        assert client.finished < 12
        assert [look.leader for look in await asyncio.gather(*looks)] == ["a"] * 12
        with pytest.raises(UnavailableError, match="away"):
            await allocator.apply(None)  # type: ignore[arg-type]
    assert 2 <= client.most <= 3


@pytest.mark.looptime(False)
async def test_cancelled_call_goes_on_and_keeps_its_place() -> None:
    """A cancelled call returns at once, its thread finishes, and until then it counts against the bound."""
    client = Blocking()
    scope = CloudScope(prefixes=(PREFIX,))
    async with threaded(client, threads=1) as allocator:
        first = asyncio.create_task(allocator.observe(scope))
        await asyncio.sleep(0.005)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        await allocator.observe(scope)
        assert client.finished == 2
        assert client.most == 1


# ---------------------------------------------------------------------------------------------- what the log says


def test_log_names_the_object_the_epoch_and_the_node(caplog: pytest.LogCaptureFixture) -> None:
    """A decision is one record whose facts can be filtered by, and losing a race is no warning."""
    with caplog.at_level(logging.INFO, logger="persistip"):
        log_outcome(WRITE, DONE, object=str(ROUTE))
        log_outcome(WRITE, outcome_of(StaleError("moved on")), object=str(ROUTE))
        log_outcome(WRITE, FAILED, object=str(ROUTE))
    first = vars(caplog.records[0])
    assert (first["action"], first["epoch"], first["node"], first["object"]) == (
        "ReplaceAttachment",
        0,
        None,
        "GKEIPRoute shop/web",
    )
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert vars(caplog.records[2])["error"] == "broken"


GONE = ConfirmNodeGone(name="a", uid="node-a", attachment=ATTACHMENT.key, resource_version="1")


@pytest.mark.parametrize(
    "action", [GONE, *MOVE, WRITE, REPORT, *EVENTS, report(4), object()], ids=lambda each: str(type(each).__name__)
)
def test_every_action_can_be_logged(action: object, caplog: pytest.LogCaptureFixture) -> None:
    """No action's facts collide with a record's own fields, and each names its kind."""
    assert facts_of(action)["action"] == type(action).__name__
    with caplog.at_level(logging.INFO, logger="persistip"):
        log_outcome(action, DONE, node="a")
    assert len(caplog.records) == 1


async def test_events_about_one_object_are_bounded_and_conditions_are_not() -> None:
    """A route that flaps is told some times and then now and then; its status is written each time."""

    class Flapping:
        async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
            written.extend(type(action).__name__ for action in actions)
            return [DONE] * len(actions)

        def changes(self) -> AsyncIterator[Batch]:
            raise NotImplementedError

    written: list[str] = []
    catalog = Catalog(Policy(), BUILT_IN)
    lonely = GKEIPRoute(meta=ObjectMeta(name="web", namespace="shop", uid="r", resource_version="1"))
    cycle = ObjectCycle(
        catalog=catalog, cluster=Flapping(), clock=SystemClock(), outcomes=Outcomes(), touch=lambda _: None
    )
    for number in range(EVENT_BURST + 5):
        catalog.update(Batch(objects={ROUTE: attrs.evolve(lonely, meta=attrs.evolve(lonely.meta, generation=number))}))
        await cycle.run(ROUTE)
    assert written.count("ReportRoute") == EVENT_BURST + 5
    assert written.count("RecordEvent") == EVENT_BURST
