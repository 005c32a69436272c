"""Which values stand at a key? An index that is cheap where nearly every key has one value, and there are many keys."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Multimap(Generic[K, V]):
    """
    Keys to values. One value stands by itself; only several make a collection, which takes four times the memory.

    The collection is a dict that maps to nothing: of the same few values a set takes twice the memory.
    """

    __slots__ = ("_many", "_one")

    def __init__(self) -> None:
        self._one: dict[K, V] = {}
        self._many: dict[K, dict[V, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._one or self._many)

    def add(self, key: K, value: V) -> None:
        """Let *value* stand at *key*."""
        if (many := self._many.get(key)) is not None:
            many[value] = None
        elif self._one.setdefault(key, value) != value:
            self._many[key] = {self._one.pop(key): None, value: None}

    def discard(self, key: K, value: V) -> None:
        """Take *value* away from *key*; absent is fine."""
        if (many := self._many.get(key)) is not None:
            many.pop(value, None)
            if len(many) == 1:
                (self._one[key],) = self._many.pop(key)
        elif self._one.get(key) == value:
            del self._one[key]

    def get(self, key: K) -> Collection[V]:
        """The values at *key*; not to be kept, since they change with the index."""
        if (many := self._many.get(key)) is not None:
            return many
        return (self._one[key],) if key in self._one else ()

    def keys(self) -> set[K]:
        """Every key at which something stands."""
        return {*self._one, *self._many}

    def union(self, keys: Iterable[K]) -> set[V]:
        """The values at any of *keys*."""
        return set[V]().union(*(self.get(key) for key in keys))
