"""Which of many fixed ranges does a prefix overlap? Sorted once, so that the answer does not look at them all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable

from persistip.model.address import Prefix


class Spans:
    """
    Some prefixes, in an order that matters, never changed.

    Kept per prefix length: those around a given prefix cost one look-up a length in use, those inside it a search.
    """

    __slots__ = ("_levels", "_prefixes")

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        self._prefixes = tuple(dict.fromkeys(prefixes))
        places: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for order, prefix in enumerate(self._prefixes):
            places[prefix.version, prefix.prefixlen].append((int(prefix.network_address), order))
        self._levels = {
            level: ([start for start, _ in sorted(found)], [order for _, order in sorted(found)])
            for level, found in places.items()
        }

    def first_overlap(self, prefix: Prefix) -> Prefix | None:
        """The first of the prefixes, in their own order, that is equal to, around or inside *prefix*."""
        found: list[int] = []
        value, last = int(prefix.network_address), int(prefix.broadcast_address)
        for (version, length), (starts, orders) in self._levels.items():
            if version != prefix.version:
                continue
            shift = prefix.max_prefixlen - min(length, prefix.prefixlen)
            low = bisect_left(starts, (value >> shift) << shift)
            # One around *prefix* starts where its own bits end; those inside start anywhere in it.
            high = bisect_right(starts, last if length > prefix.prefixlen else (value >> shift) << shift)
            found += orders[low:high]
        return self._prefixes[min(found)] if found else None
