"""
What cannot be read, and what must therefore not be decided?

In: keys of objects that exist and could not be decoded.  Out: why a decision that rests on some of them has to wait.
Such an object is neither present nor gone, so nothing follows from it: what rests on it stays as it is, and is not
planned. Of others it is out of the way: it contests nothing, as it would after a restart, when nothing is known of it.
What it holds by an attachment stands in the attachment, so no address can be given twice by that.
"""

from __future__ import annotations

from collections.abc import Iterable

from persistip.model.keys import Kind, ObjectKey
from persistip.model.pod import Pod


class Sight:
    """The objects that cannot be read, each with why."""

    def __init__(self) -> None:
        self._unreadable: dict[ObjectKey, str] = {}

    def lose(self, key: ObjectKey, why: str) -> None:
        """The object cannot be read."""
        self._unreadable[key] = why

    def regain(self, key: ObjectKey) -> bool:
        """The object can be read, or is gone; whether it could not be read before."""
        return self._unreadable.pop(key, None) is not None

    def lost(self, kind: str) -> set[ObjectKey]:
        """Those of a kind."""
        return {key for key in self._unreadable if key.kind == kind}

    def has(self, key: ObjectKey) -> bool:
        """Whether the object can be read, as far as it exists."""
        return key not in self._unreadable

    def readable(self, pods: Iterable[Pod]) -> Iterable[Pod]:
        """Those of *pods* that can be read."""
        return (pod for pod in pods if pod.key not in self._unreadable) if self._unreadable else pods

    def reason(self, key: ObjectKey) -> str:
        """Why that one cannot be read; empty: it can."""
        return self._unreadable.get(key, "")

    def why(self, rests_on: Iterable[ObjectKey]) -> str | None:
        """The first of these that cannot be read, and why; None: all can."""
        if not self._unreadable:
            return None
        lost = sorted(self._unreadable.keys() & set(rests_on))
        return f"{lost[0]}: {self._unreadable[lost[0]]}" if lost else None

    def blind_to(self, kind: Kind) -> str | None:
        """Some object of that kind that cannot be read, so that nobody knows what it says; None: all can."""
        lost = sorted(self.lost(kind))
        return f"{lost[0]} ({self._unreadable[lost[0]]})" if lost else None
