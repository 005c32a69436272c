"""
How many calls are under way, and when may the next one begin?

In: calls that block.  Out: what they return. A bounded number runs at a time, in threads; those on which traffic waits
go first. When the service says that a minute's quota is used up, none begins before the next one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from persistip.errors import ThrottledError

P = ParamSpec("P")
T = TypeVar("T")

AT_A_TIME = 8
"""Calls under way; beyond ten, the client would throw its connections away after each."""


class Gate:
    """Bounds the calls of one client. *sleep* waits for a new minute."""

    def __init__(
        self, *, at_a_time: int = AT_A_TIME, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._threads = ThreadPoolExecutor(at_a_time, thread_name_prefix="persistip-gce")
        self._free = at_a_time
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._sequence = 0
        self._sleep = sleep
        self._closed_until = 0.0

    def close(self) -> None:
        """Begin no more calls; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call when its turn comes."""
        return await self._call(False, lambda: method(*args, **kwargs))

    async def call_pressing(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call before all that do not press."""
        return await self._call(True, lambda: method(*args, **kwargs))

    async def _call(self, pressing: bool, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        if (left := self._closed_until - loop.time()) > 0:
            await self._sleep(left)
        await self._enter(pressing)
        try:
            future = self._threads.submit(call)
        except BaseException:
            self._leave()
            raise
        # The place is free when the thread is, which after a cancellation is later than the call's end.
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._leave))
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except ThrottledError as error:
            self._closed_until = max(self._closed_until, loop.time() + error.retry_after_seconds)
            raise

    async def _enter(self, pressing: bool) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sequence += 1
        heapq.heappush(self._waiting, (not pressing, self._sequence, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
