"""
How is a synchronous SDK made to fit an asynchronous interface?

In: an allocator whose methods block.  Out: the same as an ``AddressAllocator``, each call in one of a few threads.
A call that is cancelled goes on in its thread: its outcome is unknown, as the interface says, and the next observation
tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from persistip.model.actions import Outcome
from persistip.strategies import AllocatorFeatures, CloudAction, CloudScope, CloudState

P = ParamSpec("P")
T = TypeVar("T")


class BlockingAllocator(Protocol):
    """An ``AddressAllocator`` whose methods block; they are called from several threads at once."""

    @property
    def features(self) -> AllocatorFeatures:
        """What it can do; must not block."""
        ...

    def observe(self, scope: CloudScope) -> CloudState:
        """How things stand for *scope*."""
        ...

    def apply(self, action: CloudAction) -> Outcome:
        """Start the work."""
        ...


class ThreadedAllocator:
    """What ``threaded`` returns; an asynchronous context manager that ends its threads."""

    def __init__(self, blocking: BlockingAllocator, threads: int) -> None:
        self._blocking = blocking
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"persistip-{blocking.features.name}")
        # Without it, callers beyond the pool would pile up in its unbounded queue and could not be cancelled there.
        self._places = asyncio.Semaphore(threads)

    @property
    def features(self) -> AllocatorFeatures:
        """What the wrapped allocator can do."""
        return self._blocking.features

    async def observe(self, scope: CloudScope) -> CloudState:
        """How things stand for *scope*."""
        return await self._call(self._blocking.observe, scope)

    async def apply(self, action: CloudAction) -> Outcome:
        """Start the work; the next ``observe`` tells how it went."""
        return await self._call(self._blocking.apply, action)

    async def __aenter__(self) -> ThreadedAllocator:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more calls; those under way end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._places.acquire()
        try:
            future = self._pool.submit(method, *args, **kwargs)
        except RuntimeError:
            self._places.release()
            raise
        loop = asyncio.get_running_loop()
        # The place is free when the thread is, which after a cancellation is later than the call's end.
        future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._places.release))
        return await asyncio.shield(asyncio.wrap_future(future))


def threaded(blocking: BlockingAllocator, *, threads: int = 4) -> ThreadedAllocator:
    """Adapt an allocator written against a synchronous SDK; at most *threads* of its calls run at a time."""
    return ThreadedAllocator(blocking, threads)
