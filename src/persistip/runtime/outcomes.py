"""
How did the last try of each action go?

In: outcomes as they come.  Out: the last one of each action, for the next view.
A memory of the process and no more: empty after a restart, and no decision may need it to be right, only to be
informative. Forgotten with the object, and bounded whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from persistip.model.actions import Outcome

K = TypeVar("K", bound=Hashable)
N = TypeVar("N", bound=Hashable)


class Outcomes(Generic[K, N]):
    """For each key (an object, a node) the last outcome of each named action; the oldest go beyond *limit* a key."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._by_key: dict[K, dict[N, Outcome]] = {}

    def of(self, key: K) -> Mapping[N, Outcome]:
        """A copy: a view must not change under the decision that reads it."""
        return dict(self._by_key.get(key, ()))

    def record(self, key: K, name: N, outcome: Outcome) -> None:
        """Remember the last outcome of *name*."""
        known = self._by_key.setdefault(key, {})
        known.pop(name, None)
        known[name] = outcome
        while len(known) > self._limit:
            del known[next(iter(known))]

    def keep(self, key: K, is_kept: Callable[[N], bool]) -> None:
        """Forget those of *key* for which *is_kept* is False."""
        known = {name: outcome for name, outcome in self._by_key.get(key, {}).items() if is_kept(name)}
        if known:
            self._by_key[key] = known
        else:
            self._by_key.pop(key, None)

    def forget(self, key: K) -> None:
        """The object is gone."""
        self._by_key.pop(key, None)

    def __len__(self) -> int:
        return len(self._by_key)
