"""
How does a simulated lab pass ten seconds in none?

An event loop whose clock stands still while anything can be done, and jumps to the next timer when nothing can. With
the same choices everything happens in the same order, whatever the machine does meanwhile. Only for programs that wait
for nothing outside; for a person at a prompt it can be told to go by the real clock from then on.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Iterable
from typing import Any

from persistip.strategies import Clock


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time."""

    def __init__(self) -> None:
        self._selector_of_time = _Selector()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        """Seconds since the loop was made, as its programs count them."""
        return self._selector_of_time.now

    def follow_real_time(self) -> None:
        """Let waiting take its time from now on."""
        self._selector_of_time.is_real = True


class _Selector(selectors.DefaultSelector):
    """Waits for nothing that is only a timer, and adds up what was not waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.is_real = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the loop asks: None waits for files alone, 0 not at all, anything else until the next timer."""
        if timeout is None or self.is_real:
            begin = time.monotonic()
            found: Iterable[Any] = super().select(timeout)
            self.now += time.monotonic() - begin
            return list(found)
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return list(ready)


class LoopClock:
    """A Clock that goes by the running loop's time, from the instant at which it is made."""

    def __init__(self, wall: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        # A whole second: whether two Pods are of one age must not depend on when the lab was started.
        self._offset = int(wall.now()) - self._loop.time()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._loop.time() + self._offset
