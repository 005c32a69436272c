"""
Do the loops of this process still turn?

In: before each step of a loop, within how many seconds its next word is due.  Out: which loops are late.
A loop that rests, since nothing is asked of it, owes no word. Limits are for what a restart can mend: a step that never
ends. An outside system that does not answer has time limits of its own, far below these, and restarting us helps nobody
then.
"""

from __future__ import annotations

import asyncio

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

    def late(self) -> dict[str, float]:
        """Who is late, and by how many seconds."""
        now = asyncio.get_running_loop().time()
        return {name: now - due for name, due in sorted(self._due.items()) if now > due}
