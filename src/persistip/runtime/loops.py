"""
Who keeps the loops of a process running, and how do they end?

In: coroutines, sources of changes.  Out: nothing; they run until they are stopped.
The rules: a source that breaks is opened anew with growing delays; a loop that ends by an error of ours ends its
process (whoever runs it starts it again, with no memory and therefore without the fault); a stop lets what is in work
finish.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from persistip.errors import BackendError, RefusedError, ThrottledError, UnavailableError
from persistip.runtime.metrics import SOURCE_GAPS, Silence, Telemetry
from persistip.runtime.retry import FAILED, Backoff, delay_after, outcome_of

logger = logging.getLogger("persistip")

T = TypeVar("T")

SOURCE = Backoff(last_seconds=2.0)
"""For a source that is away. While it is, nobody moves anything: it is looked for often, however long it takes."""


async def follow(
    source: Callable[[], AsyncIterator[T]],
    handle: Callable[[T], None],
    *,
    name: str,
    on_gap: Callable[[], None],
    backoff: Backoff = SOURCE,
    telemetry: Telemetry | None = None,
) -> None:
    """
    Hand every item of *source* to *handle*, and open the source anew whenever it breaks or ends.

    *on_gap* is called at each break: from then until the next complete delivery something may have been missed.
    What is refused comes back ever later, since mostly a person must lift that, but soon at first, however long the
    source was away before: an API server that has just started refuses what it allows a second later.
    """
    telemetry = telemetry or Silence()
    attempt = 0
    was_refused = False
    while True:
        items = source()
        try:
            async for item in items:
                attempt = 0
                handle(item)
            error: BackendError = UnavailableError("the source ended", operation=name)
        except BackendError as caught:
            error = caught
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        is_refused = isinstance(error, RefusedError)
        attempt = attempt + 1 if is_refused == was_refused else 1
        was_refused = is_refused
        on_gap()
        telemetry.count(SOURCE_GAPS, name)
        delay = (FAILED if is_refused else backoff).delay(attempt, name)
        if isinstance(error, ThrottledError):
            delay = max(delay, error.retry_after_seconds)
        logger.warning(
            "lost a source of changes", extra={"source": name, "error": str(error), "retry_in_seconds": round(delay, 3)}
        )
        await asyncio.sleep(delay)


def error_delay(error: BackendError, attempt: int, key: object) -> float:
    """Seconds after which an operation that ended in *error* may be tried again; never 0."""
    return delay_after(outcome_of(error), attempt, key) or FAILED.delay(attempt, key)


class Tasks:
    """The loops of one process; the first that fails ends the wait for all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run *coroutine* beside the others."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        return task

    @property
    def ended(self) -> tuple[str, ...]:
        """The names of those that have ended; while nobody has asked for a stop, each is a loop that is missing."""
        return tuple(sorted(task.get_name() for task in self._tasks if task.done()))

    async def wait(self) -> None:
        """Until all have ended; raises what the first one that failed raised."""
        pending = set(self._tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def stop(self, grace_seconds: float) -> None:
        """Give the loops *grace_seconds* to end by themselves, then cancel them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
