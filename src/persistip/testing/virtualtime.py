"""
How does a program that sleeps for minutes pass in none?

An event loop whose clock stands still while anything can be done, and jumps to the next timer when nothing can. With
the same choices everything happens in the same order, whatever the machine does meanwhile. Only for programs that wait
for nothing outside: no socket, no thread, no process.
"""

from __future__ import annotations

import asyncio
import selectors


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time."""

    def __init__(self) -> None:
        self._instant = _Instant()
        super().__init__(self._instant)

    def time(self) -> float:
        """Seconds since the loop was made, as its programs count them."""
        return self._instant.now


class _Instant(selectors.DefaultSelector):
    """Waits for nothing, and adds up what was not waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the loop asks: None when only the outside could go on, 0 when there is work, else until the next timer."""
        if timeout is None:
            message = "every task waits for something that nobody will do"
            raise RuntimeError(message)
        self.now += timeout
        return []


class LoopClock:
    """A Clock that goes by the running loop's time."""

    def __init__(self, start: float) -> None:
        self._start = start

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._start + asyncio.get_running_loop().time()
