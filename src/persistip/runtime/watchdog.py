"""
Do the loops of this process still turn?

In: before each step of a loop, within how many seconds its next word is due.  Out: which loops are late.
A loop that rests, since nothing is asked of it, owes no word. Limits are for what a restart can mend: a step that never
ends. An outside system that does not answer has time limits of its own, far below these, and restarting us helps nobody
then.
"""

from __future__ import annotations

import asyncio

from persistip.runtime.loops import Tasks

STEP_SECONDS = 300.0
"""Within which a step of any loop must end."""


class Watchdog:
    """What is due from whom; for one event loop, by its clock."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def expect(self, name: str, within_seconds: float = STEP_SECONDS) -> None:
        """The next word of *name* is due then; whatever was due before has come."""
        self._due[name] = asyncio.get_running_loop().time() + within_seconds

    def rest(self, name: str) -> None:
        """*name* has nothing to do."""
        self._due.pop(name, None)

    def why_unhealthy(self, tasks: Tasks) -> str | None:
        """Which loop is late, and which of *tasks* has ended though nobody asked it to; None: neither."""
        now = asyncio.get_running_loop().time()
        said = [f"{name} is {now - due:.0f} s late" for name, due in sorted(self._due.items()) if now > due]
        said += [f"{name} has ended" for name in tasks.ended]
        return "; ".join(said) or None
