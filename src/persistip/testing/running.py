"""How is an asynchronous test run where no plugin may be asked for? In a loop of its own, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_LIMIT_SECONDS = 30.0

S = TypeVar("S")


def whole(test: Callable[[S], Awaitable[None]]) -> Callable[[S], None]:
    """A plain function of an asynchronous test; one that waits for what never comes fails."""

    def run(self: S) -> None:
        # A factory of its own leaves the thread's current loop alone, which may be another plugin's.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(_limited(test(self)))

    # By hand: functools.wraps leaves a trace by which plugins would take the function for a coroutine's.
    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    return run


async def _limited(work: Awaitable[None]) -> None:
    await asyncio.wait_for(work, _LIMIT_SECONDS)
