"""
How much may one object be written?

In: the key of each pass that wrote something.  Out: for how long the key must be held back, mostly 0.
A bucket for each key: a burst is free, a stream is slowed to a rate. Two writers that undo each other, or rules that
contradict themselves, then cost a few writes a second and not all that the API server has; and since a key is held for
one write's worth at most, a move in the middle of it still happens at once to the eye.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_PRUNE_ABOVE = 1024


class Allowance(Generic[K]):
    """*burst* passes at once, *per_second* in the long run; times are any clock's that never goes back."""

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._left: dict[K, tuple[float, float]] = {}

    def spend(self, key: K, now: float) -> float:
        """Count one pass of *key*; seconds for which it must be held back."""
        left = self._at(key, now) - 1.0
        self._left[key] = (left, now)
        if len(self._left) > _PRUNE_ABOVE:
            self._left = {each: state for each, state in self._left.items() if self._at(each, now) < self._burst}
        return max(-left, 0.0) / self._per_second

    def may(self, key: K, now: float) -> bool:
        """Whether one more is free now; it is counted if so, and what is refused costs nothing."""
        is_free = self._at(key, now) >= 1.0
        if is_free:
            self.spend(key, now)
        return is_free

    def _at(self, key: K, now: float) -> float:
        left, at = self._left.get(key, (self._burst, now))
        return min(left + (now - at) * self._per_second, self._burst)
