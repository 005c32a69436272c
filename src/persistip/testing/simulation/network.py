"""
What can happen between a process and the API server?

    process ──request──> there (late, lost, twice, refused) ──> Ledger ──> MemoryStore
       ▲                                                          │ checks, trace
       └──reply, or none──────────── back (late, lost) <──────────┘

In: a store, the weather.  Out: a Door for each process, an ObjectStore like the real one. A request that has left
arrives also when its sender is dead or no longer leads. Events of one kind keep their order, as a watch does; kinds
overtake each other.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import Random
from typing import Any, TypeVar

import attrs

from persistip.backends.memory import ConflictError, ExpiredError, Listing, MemoryStore, NotFoundError, WatchEvent
from persistip.errors import BackendError, UnavailableError
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import ClusterObject
from persistip.testing.simulation.trace import Trace, now
from persistip.wire.decode import Unreadable, to_model

T = TypeVar("T")
JSON = dict[str, Any]

MAX_LATE_SECONDS = 4.0
"""How long a request may be under way, and a watch behind."""


@attrs.define(kw_only=True)
class Weather:
    """How likely each fault is, at each opportunity; drawn anew for each run, so that runs differ in kind."""

    latency_seconds: float = 0.005
    late_requests: float = 0.0
    lost_requests: float = 0.0
    lost_replies: float = 0.0
    duplicates: float = 0.0
    refusals: float = 0.0
    late_events: float = 0.0
    kernel_failures: float = 0.0

    @classmethod
    def draw(cls, random: Random) -> Weather:
        """Some runs are calm in some respect, some are not."""
        return cls(
            latency_seconds=random.choice((0.0005, 0.005, 0.05)),
            late_requests=random.choice((0.0, 0.02, 0.15)),
            lost_requests=random.choice((0.0, 0.02, 0.1)),
            lost_replies=random.choice((0.0, 0.05, 0.2)),
            duplicates=random.choice((0.0, 0.05, 0.2)),
            refusals=random.choice((0.0, 0.02, 0.1)),
            late_events=random.choice((0.0, 0.2, 0.5)),
            kernel_failures=random.choice((0.0, 0.02, 0.1)),
        )

    def calm(self) -> None:
        """No more faults."""
        self.late_requests = self.lost_requests = self.lost_replies = self.duplicates = 0.0
        self.refusals = self.late_events = self.kernel_failures = 0.0
        self.latency_seconds = 0.005


@attrs.frozen(kw_only=True)
class Written:
    """One write that changed something; ``old`` None: created, ``new`` None: gone or unreadable."""

    actor: str
    key: ObjectKey
    old: ClusterObject | None
    new: ClusterObject | None
    age: float = 0.0
    """How many seconds ago it was asked for; what it was decided on is older by what its sender had missed."""


class Ledger:
    """All writes to the store, in their order: whoever wants to judge them hears of each at once."""

    def __init__(self, store: MemoryStore, trace: Trace) -> None:
        self.store = store
        self.objects: dict[ObjectKey, ClusterObject] = {}
        """What stands in the store, decoded; unreadable objects are left out."""
        self.unreadable: dict[ObjectKey, str] = {}
        """Those, each with why."""
        self.listeners: list[Callable[[Written], None]] = []
        self._trace = trace

    async def write(self, actor: str, key: ObjectKey, call: Callable[[], Awaitable[T]], age: float = 0.0) -> T:
        """Let *call*, asked for *age* seconds ago, change the object of *key*, in one step."""
        before = self.store.revision
        result = await call()
        if self.store.revision != before:
            after = await self.peek(key)
            old = self.objects.pop(key, None)
            self.unreadable.pop(key, None)
            new = None if after is None else to_model(after)
            if isinstance(new, Unreadable):
                self.unreadable[key] = new.message
                new = None
            elif new is not None:
                self.objects[key] = new
            for listener in self.listeners:
                listener(Written(actor=actor, key=key, old=old, new=new, age=age))
        return result

    async def peek(self, key: ObjectKey) -> JSON | None:
        """The object as it stands, or None."""
        try:
            return await self.store.get(key.kind, key.namespace, key.name)
        except NotFoundError:
            return None


@attrs.define
class Link:
    """The state of one process's connection."""

    is_cut: bool = False
    is_slow: bool = False
    """Whether every write from here is late."""
    behind_until: dict[str, float] = attrs.field(factory=dict)
    """Until when the watch of a kind hears nothing."""
    broken: set[str] = attrs.field(factory=set)
    expired: set[str] = attrs.field(factory=set)
    """Kinds whose watch breaks with its next event, and how: connection lost, or 410."""

    async def catch_up(self, kind: str) -> None:
        """Until the watch of a kind hears again."""
        # Asked anew: what is late may become later. In virtual time a turn costs nothing.
        while (wait := 0.1 if self.is_cut else self.behind_until.get(kind, 0.0) - now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)


class Network:
    """Carries requests and events; draws what becomes of each."""

    def __init__(self, ledger: Ledger, weather: Weather, random: Random, trace: Trace) -> None:
        self.ledger = ledger
        self.weather = weather
        self.trace = trace
        self._late_until = 0.0
        self._random = random
        self._under_way: dict[asyncio.Task[Any], None] = {}

    def chance(self, probability: float) -> bool:
        """Draw."""
        return probability > 0 and self._random.random() < probability

    async def hop(self) -> None:
        """The usual time that a message takes."""
        await asyncio.sleep(self._random.uniform(0.0, self.weather.latency_seconds))

    def late(self) -> float:
        """The time that a message takes that is late."""
        return self._random.uniform(0.05, MAX_LATE_SECONDS)

    def expect_late(self, seconds: float) -> None:
        """Some watch hears nothing for that long."""
        self._late_until = max(self._late_until, now() + seconds)

    def was_late(self, moment: float) -> bool:
        """Whether somebody might decide at *moment* by what was long past."""
        return moment <= self._late_until + 1.0

    async def read(self, link: Link, call: Callable[[], Awaitable[T]]) -> T:
        """A request that changes nothing."""
        await self.hop()
        if link.is_cut or self.chance(self.weather.refusals):
            raise UnavailableError("the API server cannot be reached", system="simulation")
        result = await call()
        await self.hop()
        return result

    async def write(self, actor: str, link: Link, key: ObjectKey, call: Callable[[], Awaitable[T]]) -> T:
        """A request that changes something; it arrives even if its sender does not live to see it."""
        weather = self.weather
        if link.is_cut:
            await self.hop()
            raise UnavailableError("the API server cannot be reached", system="simulation")
        if self.chance(weather.refusals):
            await self.hop()
            self.trace.note(actor, f"is refused: {key}")
            raise self._random.choice((ConflictError, UnavailableError))("refused by the weather", system="simulation")
        if self.chance(weather.lost_requests):
            await self.hop()
            self.trace.note(actor, f"request lost: {key}")
            raise UnavailableError("the request is lost", system="simulation")
        delay = self.late() if link.is_slow or self.chance(weather.late_requests) else 0.0
        if delay:
            self.trace.note(actor, f"request is slow ({delay:.2f} s): {key}")
        carried: asyncio.Task[T | BackendError] = self._send(self._carry(actor, key, call, delay))
        if self.chance(weather.duplicates):
            self._send(self._carry(f"{actor}, again", key, call, delay + self.late()))
        result = await asyncio.shield(carried)
        if self.chance(weather.lost_replies):
            self.trace.note(actor, f"reply lost: {key}")
            raise UnavailableError("the reply is lost", system="simulation")
        await self.hop()
        if isinstance(result, BackendError):
            raise result
        return result

    def _send(self, carry: Any) -> asyncio.Task[Any]:
        # In a context of its own: what is on the wire belongs to no process any more.
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(carry, context=contextvars.Context())
        self._under_way[task] = None
        task.add_done_callback(lambda done: self._under_way.pop(done, None))
        return task

    async def _carry(
        self, actor: str, key: ObjectKey, call: Callable[[], Awaitable[T]], delay: float
    ) -> T | BackendError:
        asked_at = now()
        await self.hop()
        await asyncio.sleep(delay)
        try:
            return await self.ledger.write(actor, key, call, now() - asked_at)
        except BackendError as error:
            self.trace.note(actor, f"is answered {type(error).__name__}: {error}")
            return error

    async def settle(self) -> None:
        """Nothing is under way any more."""
        while self._under_way:
            await asyncio.wait(self._under_way)


class Door:
    """What one process sees of the API server: an ObjectStore."""

    def __init__(self, network: Network, actor: str, link: Link) -> None:
        self._network = network
        self._store = network.ledger.store
        self._actor = actor
        self._link = link

    async def create(self, body: Mapping[str, Any]) -> JSON:
        """POST."""
        return await self._write(_key_of(body), lambda: self._store.create(body))

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        """GET."""
        return await self._network.read(self._link, lambda: self._store.get(kind, namespace, name))

    async def list(self, kind: str, *, namespace: str | None = None, labels: str = "") -> Listing:
        """GET a collection."""
        return await self._network.read(self._link, lambda: self._store.list(kind, namespace=namespace, labels=labels))

    async def update(self, body: Mapping[str, Any], *, subresource: str = "", manager: str = "") -> JSON:
        """PUT."""
        return await self._write(
            _key_of(body), lambda: self._store.update(body, subresource=subresource, manager=manager)
        )

    async def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
        manager: str = "",
    ) -> JSON:
        """PATCH."""
        return await self._write(
            ObjectKey(Kind(kind), namespace, name),
            lambda: self._store.patch(kind, namespace, name, patch, subresource=subresource, manager=manager),
        )

    async def apply(self, body: Mapping[str, Any], *, manager: str, force: bool = False) -> JSON:
        """Server-side apply."""
        return await self._write(_key_of(body), lambda: self._store.apply(body, manager=manager, force=force))

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
    ) -> JSON | None:
        """DELETE."""
        return await self._write(
            ObjectKey(Kind(kind), namespace, name),
            lambda: self._store.delete(
                kind, namespace, name, uid=uid, resource_version=resource_version, grace_seconds=grace_seconds
            ),
        )

    async def record_event(
        self, *, regarding: Mapping[str, Any], reason: str, action: str, note: str, warning: bool, manager: str
    ) -> JSON:
        """An Event; nobody judges it."""
        return await self._network.read(
            self._link,
            lambda: self._store.record_event(
                regarding=regarding, reason=reason, action=action, note=note, warning=warning, manager=manager
            ),
        )

    async def watch(
        self, kind: str, *, resource_version: str, namespace: str | None = None, labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """A watch that may be late and may break."""
        link, network = self._link, self._network
        events = self._store.watch(kind, resource_version=resource_version, namespace=namespace, labels=labels)
        try:
            async for event in events:
                if network.chance(network.weather.late_events):
                    await network.hop()
                await link.catch_up(kind)
                if kind in link.broken:
                    link.broken.discard(kind)
                    raise UnavailableError("the watch is broken", system="simulation")
                if kind in link.expired:
                    link.expired.discard(kind)
                    raise ExpiredError("too old resource version", system="simulation")
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    async def _write(self, key: ObjectKey, call: Callable[[], Awaitable[T]]) -> T:
        return await self._network.write(self._actor, self._link, key, call)


def _key_of(body: Mapping[str, Any]) -> ObjectKey:
    metadata = body["metadata"]
    return ObjectKey(Kind(body["kind"]), metadata.get("namespace", ""), metadata["name"])
