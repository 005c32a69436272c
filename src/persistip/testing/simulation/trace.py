"""
What happened, in words short enough to be read?

In: steps of the scenario, writes, faults, kernel changes, each when it takes effect.  Out: lines, and the violations
found on the way. Everything that a reader needs to follow a failing seed is here, and nothing is looked up later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs


@attrs.frozen(kw_only=True)
class Violation:
    """A promise that was broken, which check saw it, and when (seconds of the run)."""

    promise: str
    check: str
    message: str
    at: float

    def __str__(self) -> str:
        return f"{self.promise} broken at {self.at:.3f} s, seen by {self.check}: {self.message}"


class Trace:
    """The diary of one run."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.violations: list[Violation] = []

    def note(self, who: str, what: str) -> None:
        """One line."""
        self.lines.append(f"{now():10.4f}  {who:<14} {what}")

    def accuse(self, promise: str, check: Callable[..., object], message: str) -> None:
        """A promise is broken; the same accusation again is not news."""
        name = check.__name__
        if any((each.check, each.message) == (name, message) for each in self.violations):
            return
        violation = Violation(promise=promise, check=name, message=message, at=now())
        self.violations.append(violation)
        self.note("!!!", f"{promise} {name}: {message}")


def now() -> float:
    """Seconds of the run."""
    return asyncio.get_running_loop().time()
