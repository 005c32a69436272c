"""
Which key is worked on next?

In: keys, now or at a later time.  Out: one key at a time to each worker.
Written by hand because asyncio.Queue cannot coalesce, and coalescing is what turns ten thousand events into one pass:

    add(key) ──> waiting, in order of arrival, each key once ──get()──> in work ──done(key)──> gone
                 pressing  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ SHARE of them          │
                 others    ░░░░░ then one of these, so that they ──> │
                     ▲           never wait for ever                 │
    add_after(key) ──┤ timer, the earliest wins          added while in work: once more afterwards, at the end
                     └───────────────────────────────────────────────┘

A key that presses overtakes those that do not: traffic may be waiting for it, while a cluster is decided for the first
time or its status is brought up to date. Bounds: a key waits at most once, is in work at most once and has at most one
timer, so the queue never holds more than there are objects. Fair among equals: first come, first served; who comes
again goes to the end.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from persistip.runtime.metrics import QUEUE_DEPTH, QUEUE_WAIT, Silence, Telemetry

K = TypeVar("K", bound=Hashable)

SHARE = 8
"""Of so many pressing keys and one that does not press, each is handed out as long as both wait."""


class QueueClosed(Exception):  # noqa: N818 - the end of a loop, not an error
    """No more keys will come."""


class WorkQueue(Generic[K]):
    """
    A keyed queue for one event loop; nothing in it waits but ``get``.

    *is_pressing* is asked when the turn of a key that was added without a word about it is to be found.
    """

    def __init__(
        self, telemetry: Telemetry | None = None, *, is_pressing: Callable[[K], bool] = lambda _: False
    ) -> None:
        self._telemetry = telemetry or Silence()
        self._is_pressing = is_pressing
        self._since: dict[K, float] = {}
        self._waited: dict[K, float] = {}
        self._pressing: OrderedDict[K, None] = OrderedDict()
        self._others: OrderedDict[K, None] = OrderedDict()
        self._overtaken = 0
        self._in_work: set[K] = set()
        self._again: dict[K, bool] = {}
        self._due: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._held_until: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._closed = False

    def __len__(self) -> int:
        return self._depth() + len(self._in_work)

    def _depth(self) -> int:
        return len(self._pressing) + len(self._others)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is in work; timers may still run."""
        return not self._depth() and not self._in_work

    def add(self, key: K, *, pressing: bool | None = None) -> None:
        """
        Have *key* worked on as soon as its turn comes; a timer it has is used up.

        One that waits already and turns out to be *pressing* overtakes from then on; none falls back.
        """
        if self._closed or key in self._pressing:
            return
        if pressing is None:
            pressing = self._is_pressing(key)
        if key in self._others:
            if pressing:
                del self._others[key]
                self._pressing[key] = None
            return
        if (left := self._held_until.get(key, 0.0) - asyncio.get_running_loop().time()) > 0:
            self.add_after(key, left)
            return
        self._held_until.pop(key, None)
        self._due.pop(key, None)
        self._since.setdefault(key, asyncio.get_running_loop().time())
        if key in self._in_work:
            self._again[key] = pressing or self._again.get(key, False)
            return
        (self._pressing if pressing else self._others)[key] = None
        self._telemetry.set(QUEUE_DEPTH, self._depth())
        self._wake_one()

    def add_after(self, key: K, delay_seconds: float) -> None:
        """Have *key* worked on in *delay_seconds*; of several such wishes the earliest wins."""
        if delay_seconds <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + delay_seconds
        if self._closed or due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._timers, (due, self._sequence, key))
        if len(self._timers) > 64 + 4 * len(self._due):
            self._drop_void_timers()
        self._arm()

    def hold(self, key: K, delay_seconds: float) -> None:
        """For *delay_seconds* let *key* wait in its timer, whoever adds it."""
        self._held_until[key] = asyncio.get_running_loop().time() + delay_seconds
        if self._again.pop(key, None) is not None:
            self._since.pop(key, None)
            self.add_after(key, delay_seconds)

    async def get(self) -> K:
        """Wait for the next key; it is in work until ``done``. Raises QueueClosed."""
        while not self._depth():
            if self._closed:
                raise QueueClosed
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                # A wake-up that reached a cancelled worker belongs to the next one.
                if getter.done() and not getter.cancelled() and self._depth():
                    self._wake_one()
                raise
            finally:
                if getter in self._getters:
                    self._getters.remove(getter)
        key = self._next()
        self._in_work.add(key)
        now = asyncio.get_running_loop().time()
        self._waited[key] = now - self._since.pop(key, now)
        self._telemetry.set(QUEUE_DEPTH, self._depth())
        self._telemetry.observe(QUEUE_WAIT, self._waited[key])
        return key

    def _next(self) -> K:
        is_their_turn = self._overtaken >= SHARE and bool(self._others)
        lane = self._pressing if self._pressing and not is_their_turn else self._others
        self._overtaken = self._overtaken + 1 if lane is self._pressing and self._others else 0
        return lane.popitem(last=False)[0]

    def waited_seconds(self, key: K) -> float:
        """How long *key*, which is in work, has waited for that since it was due."""
        return self._waited.get(key, 0.0)

    def restart_waits(self) -> None:
        """Nothing could be worked on until now, whoever was due: waiting begins now."""
        now = asyncio.get_running_loop().time()
        self._since = dict.fromkeys(self._since, now)

    def done(self, key: K) -> None:
        """*key* is out of work; if it was added meanwhile, its next turn comes after all that wait."""
        self._in_work.discard(key)
        self._waited.pop(key, None)
        pressing = self._again.pop(key, None)
        if pressing is not None:
            self.add(key, pressing=pressing)

    def count_failure(self, key: K) -> int:
        """One more failure in a row of *key*; how many there are now."""
        self._failures[key] = self._failures.get(key, 0) + 1
        return self._failures[key]

    def forget_failures(self, key: K) -> None:
        """*key* went well, or is no more."""
        self._failures.pop(key, None)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is handed out any more."""
        return self._closed

    def close(self) -> None:
        """Let workers finish what they have in work and hand out nothing more."""
        self._closed = True
        self._pressing.clear()
        self._others.clear()
        self._again.clear()
        self._since.clear()
        self._due.clear()
        self._timers.clear()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        while self._getters:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _drop_void_timers(self) -> None:
        self._timers = [timer for timer in self._timers if self._due.get(timer[2]) == timer[0]]
        heapq.heapify(self._timers)

    def _arm(self) -> None:
        while self._timers and self._due.get(self._timers[0][2]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        if self._wake is not None:
            if self._timers and self._wake_at <= self._timers[0][0]:
                return
            self._wake.cancel()
            self._wake = None
        if self._timers:
            self._wake_at = self._timers[0][0]
            self._wake = asyncio.get_running_loop().call_at(self._wake_at, self._ring)

    def _ring(self) -> None:
        self._wake = None
        now = asyncio.get_running_loop().time()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        # A loop may call a little early; arming again keeps the rest.
        self._arm()
