"""
How does a process of ours live and die?

In: a worker (a Controller or an Agent) and what it works on.  Out: tasks that can be killed at any instant, as by
SIGKILL: what is on the wire arrives, what is in the kernel stays, nothing else is left. A process started anew is a new
object with no memory.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any

import attrs

from persistip.model.actions import ClusterAction, DatapathAction, Outcome, OutcomeState
from persistip.model.attachment import AddressAttachment
from persistip.model.entry import Announcement, NodeScope, NodeState
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import Announcer, Batch, Cluster, Datapath
from persistip.testing.simulation.network import Link, Network
from persistip.testing.simulation.trace import Trace, now

_OWNER: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """Something that runs; every task that it starts, or that those start, is its own."""

    def __init__(self, name: str, main: Callable[[], Awaitable[None]], trace: Trace) -> None:
        self.name = name
        self.link = Link()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._main = main
        self._trace = trace

    def start(self) -> None:
        """Run until it ends or is killed."""
        context = contextvars.copy_context()
        context.run(_OWNER.set, self)
        asyncio.get_running_loop().create_task(self._run(), context=context)

    @property
    def is_alive(self) -> bool:
        """Whether any of it runs."""
        return bool(self.tasks)

    async def _run(self) -> None:
        try:
            await self._main()
        except Exception as error:  # noqa: BLE001 - whatever ended it is a finding
            self._trace.accuse("P3", self._run, f"{self.name} ended by {type(error).__name__}: {error}")

    async def kill(self) -> None:
        """End at once."""
        while self.tasks:
            tasks = list(self.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def own_tasks(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
) -> asyncio.Future[Any]:
    """A task factory that notes whose a task is."""
    context: contextvars.Context | None = options.get("context")
    owner = _OWNER.get() if context is None else context.get(_OWNER)
    task = asyncio.Task(coro, loop=loop, **options)
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))
    return task


@attrs.define
class Knowledge:
    """What an agent has been told, and since when it knows the last of it."""

    attachments: dict[ObjectKey, AddressAttachment] = attrs.field(factory=dict)
    since: float = 0.0

    def take(self, batch: Batch) -> None:
        """One batch of the watch; it may say again, late, what an answer has long said."""
        if Kind.ATTACHMENT in batch.resynced:
            self.attachments = {}
        for key, found in batch.objects.items():
            if not isinstance(found, AddressAttachment):
                self.attachments.pop(key, None)
            elif self._is_news(found):
                self.attachments[key] = found
        self.since = now()

    def take_answer(self, outcome: Outcome) -> None:
        """The answer to a report carries the whole attachment, and may come before the watch tells of it."""
        written = outcome.written
        if isinstance(written, AddressAttachment) and written.key in self.attachments and self._is_news(written):
            self.attachments[written.key] = written
            self.since = now()

    def _is_news(self, found: AddressAttachment) -> bool:
        """Whether it is not older than what is known: epochs never fall."""
        known = self.attachments.get(found.key)
        return known is None or known.meta.uid != found.meta.uid or known.spec.epoch <= found.spec.epoch


@attrs.frozen
class HeardCluster:
    """A Cluster that notes what it tells."""

    inner: Cluster
    knowledge: Knowledge

    async def changes(self) -> AsyncIterator[Batch]:
        """The inner one's."""
        batches = self.inner.changes()
        try:
            async for batch in batches:
                self.knowledge.take(batch)
                yield batch
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """The inner one's."""
        outcomes = await self.inner.apply(actions)
        for outcome in outcomes:
            self.knowledge.take_answer(outcome)
        return outcomes


@attrs.frozen
class SlowDatapath:
    """A Datapath in which time passes between any two actions, and which fails now and then."""

    inner: Datapath
    network: Network
    judge: Callable[[], None]
    """Called after each action."""

    async def observe(self, scope: NodeScope) -> NodeState:
        """A look that is a little old when it arrives."""
        state = await self.inner.observe(scope)
        await asyncio.sleep(self.network.weather.latency_seconds / 10)
        return state

    def changes(self) -> AsyncIterator[None]:
        """The inner one's."""
        return self.inner.changes()

    async def apply(self, actions: Sequence[DatapathAction]) -> Sequence[Outcome]:
        """One after the other."""
        outcomes: list[Outcome] = []
        for action in actions:
            await asyncio.sleep(self.network.weather.latency_seconds / 10)
            if self.network.chance(self.network.weather.kernel_failures):
                outcomes.append(Outcome(state=OutcomeState.FAILED, message="refused by the weather"))
                continue
            outcomes += await self.inner.apply([action])
            self.judge()
        return outcomes


@attrs.frozen
class JudgedAnnouncer:
    """An Announcer that is looked at after each call."""

    inner: Announcer
    judge: Callable[[], None]

    async def announce(self, wanted: frozenset[Announcement]) -> Sequence[Outcome]:
        """The inner one's."""
        outcomes = await self.inner.announce(wanted)
        self.judge()
        return outcomes
