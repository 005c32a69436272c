"""Which of many prefixes overlap a given one? An index that answers without looking at the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from persistip.model.address import Prefix

K = TypeVar("K", bound=Hashable)


class PrefixIndex(Generic[K]):
    """
    A multimap from prefix to keys.

    Kept per prefix length, so that the prefixes around a given one cost one look-up a length in use. Those inside it
    are walked only when it is wider than what is stored.
    """

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, set[K]]] = defaultdict(dict)

    def add(self, prefix: Prefix, key: K) -> None:
        """Let *key* stand at *prefix*."""
        level = self._by_length[prefix.version, prefix.prefixlen]
        level.setdefault(int(prefix.network_address), set()).add(key)

    def discard(self, prefix: Prefix, key: K) -> None:
        """Take *key* away from *prefix*; absent is fine."""
        level = self._by_length.get((prefix.version, prefix.prefixlen), {})
        keys = level.get(int(prefix.network_address))
        if keys is None:
            return
        keys.discard(key)
        if not keys:
            del level[int(prefix.network_address)]
            if not level:
                del self._by_length[prefix.version, prefix.prefixlen]

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def overlapping(self, prefix: Prefix) -> set[K]:
        """The keys at prefixes equal to, around or inside *prefix*."""
        found: set[K] = set()
        value, width = int(prefix.network_address), prefix.max_prefixlen
        for (version, length), level in self._by_length.items():
            if version != prefix.version:
                continue
            if length <= prefix.prefixlen:
                shift = width - length
                found |= level.get((value >> shift) << shift, set())
            else:
                last = int(prefix.broadcast_address)
                found |= set[K]().union(*(keys for start, keys in level.items() if value <= start <= last))
        return found

    def overlapping_any(self, prefixes: Iterable[Prefix]) -> set[K]:
        """The union over several prefixes."""
        return set[K]().union(*(self.overlapping(prefix) for prefix in prefixes))
