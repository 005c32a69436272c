"""Which of many prefixes overlap a given one? An index that answers without looking at the rest."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Hashable, Iterable, Iterator, Set
from itertools import chain
from typing import Generic, TypeVar

from persistip.decide.multimap import Multimap
from persistip.model.address import Prefix

K = TypeVar("K", bound=Hashable)


class PrefixIndex(Generic[K]):
    """
    A multimap from prefix to keys.

    Kept per prefix length, so that the prefixes around a given one cost one look-up a length in use, and those inside
    it a search among the sorted ones.
    """

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], Multimap[int, K]] = {}
        self._starts: dict[tuple[int, int], list[int]] = {}

    def add(self, prefix: Prefix, key: K) -> None:
        """Let *key* stand at *prefix*."""
        length, start = (prefix.version, prefix.prefixlen), int(prefix.network_address)
        level = self._by_length.setdefault(length, Multimap())
        if not level.get(start):
            insort(self._starts.setdefault(length, []), start)
        level.add(start, key)

    def discard(self, prefix: Prefix, key: K) -> None:
        """Take *key* away from *prefix*; absent is fine."""
        length, start = (prefix.version, prefix.prefixlen), int(prefix.network_address)
        level = self._by_length.get(length)
        if level is None or not level.get(start):
            return
        level.discard(start, key)
        if not level.get(start):
            starts = self._starts[length]
            del starts[bisect_left(starts, start)]
            if not starts:
                del self._by_length[length], self._starts[length]

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def overlapping_any(self, prefixes: Iterable[Prefix]) -> set[K]:
        """The keys at prefixes equal to, around or inside any of *prefixes*."""
        found: set[K] = set()
        for prefix in prefixes:
            found.update(*self._overlapping(prefix))
        return found

    def _overlapping(self, prefix: Prefix) -> Iterator[Collection[K]]:
        """The keys at each prefix that overlaps *prefix*."""
        version, own, width = prefix.version, prefix.prefixlen, prefix.max_prefixlen
        value = int(prefix.network_address)
        for (family, length), level in self._by_length.items():
            if family != version:
                continue
            if length <= own:
                shift = width - length
                yield level.get((value >> shift) << shift)
            else:
                starts, last = self._starts[family, length], int(prefix.broadcast_address)
                for start in starts[bisect_left(starts, value) : bisect_right(starts, last)]:
                    yield level.get(start)


class ContestIndex(PrefixIndex[K]):
    """
    One that also knows which keys overlap another at all.

    Of ten thousand routes hardly any contests another's address, and a question about all of them need not look for it.
    Counted by pairs of prefixes, so that what comes and goes costs what it overlaps.
    """

    def __init__(self) -> None:
        super().__init__()
        self._overlaps: dict[K, int] = {}

    @property
    def contested(self) -> Set[K]:
        """The keys that stand at a prefix which overlaps one of another key; not to be kept."""
        return self._overlaps.keys()

    def add(self, prefix: Prefix, key: K) -> None:
        """Let *key*, which does not yet, stand at *prefix*."""
        self._count(prefix, key, 1)
        super().add(prefix, key)

    def discard(self, prefix: Prefix, key: K) -> None:
        """Take *key*, which stands there, away from *prefix*."""
        super().discard(prefix, key)
        self._count(prefix, key, -1)

    def _count(self, prefix: Prefix, key: K, by: int) -> None:
        for other in chain.from_iterable(self._overlapping(prefix)):
            for each in (key, other) if other != key else ():
                self._overlaps[each] = self._overlaps.get(each, 0) + by
                if not self._overlaps[each]:
                    del self._overlaps[each]
