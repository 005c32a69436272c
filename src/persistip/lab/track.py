"""
When was an address heard in one direction, by whom, and when was it silent?

In: each payload that a probe took in, and the stalls of the probe itself.  Out: stretches, doubles and the longest
silence. Instants are CLOCK_MONOTONIC nanoseconds.
"""

import bisect
import itertools
from collections.abc import Iterator
from typing import Any

import attrs

STRETCH_NS = 100_000_000
"""A pause this long ends a stretch."""


@attrs.define
class Stretch:
    """A run of payload from one Pod, without a pause of STRETCH_NS; those of two Pods overlap where both deliver."""

    who: str
    first_ns: int
    last_ns: int
    count: int = 1


@attrs.define
class Track:
    """What was heard in one direction."""

    heard: list[tuple[int, str]] = attrs.Factory(list)
    """Instant and Pod of each payload, in the order of reading; sorted before use."""
    numbers: dict[int, str] = attrs.Factory(dict)
    """Which requests were answered, or ticks served, and by whom first."""
    duplicates: int = 0
    """The same from the same Pod again."""
    overlaps: int = 0
    """The same from another Pod: two Pods delivered at once."""
    wrong_source: int = 0

    def hear(self, at_ns: int, number: int, who: str) -> None:
        """Take in one payload."""
        first = self.numbers.get(number)
        if first is None:
            self.numbers[number] = who
        elif first == who:
            self.duplicates += 1
        else:
            self.overlaps += 1
        self.heard.append((at_ns, who))

    def stretches(self) -> list[Stretch]:
        """All runs, in the order of their beginnings."""
        runs: list[Stretch] = []
        latest: dict[str, Stretch] = {}
        for at_ns, who in sorted(self.heard):
            run = latest.get(who)
            if run is not None and at_ns - run.last_ns < STRETCH_NS:
                run.last_ns = at_ns
                run.count += 1
            else:
                latest[who] = Stretch(who, at_ns, at_ns)
                runs.append(latest[who])
        return runs

    def silence(self, since_ns: int, until_ns: int, interval_ns: int, stalls: list[tuple[int, int]]) -> dict[str, Any]:
        """
        The longest time without payload between two instants, less one interval.

        `blackout_ms` leaves out what our own stalls cover; `silence_ms` does not. Both count the silence that is
        still going on at the end; `quiet_ms` is that one alone.
        """
        instants = sorted(at_ns for at_ns, _ in self.heard if since_ns <= at_ns <= until_ns)
        edges = [since_ns, *instants, until_ns]
        longest = (0, 0, since_ns)
        raw = 0
        for before, after in itertools.pairwise(edges):
            gap = after - before - interval_ns
            if gap > 0:
                raw = max(raw, gap)
                covered = sum(
                    max(0, min(after, end) - max(before, begin)) for begin, end in _touching(stalls, before, after)
                )
                longest = max(longest, (gap - covered, covered, before))
        blackout, covered, at_ns = longest
        return {
            "blackout_ms": max(0, blackout) / 1e6,
            "silence_ms": raw / 1e6,
            "quiet_ms": max(0, until_ns - edges[-2] - interval_ns) / 1e6,
            "stalled_ms": covered / 1e6,
            "blackout_at_ns": at_ns,
        }


def _touching(stalls: list[tuple[int, int]], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The stalls (in order of time, none overlapping) that share time with begin..end."""
    for index in range(max(0, bisect.bisect_left(stalls, (begin, 0)) - 1), len(stalls)):
        if stalls[index][0] >= end:
            return
        yield stalls[index]
