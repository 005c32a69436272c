"""
How many accepted routes name a Gateway, and in which ways?

In: routes that come and go.  Out: for each Gateway its accepted routes, counted by Namespace and parentRefs. What a
listener admits is a question to each kind of route, of which there are few, and not to each route.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from typing import TypeVar

from persistip.model.conditions import ConditionType, Status, find_condition
from persistip.model.keys import ObjectKey
from persistip.model.route import GKEIPRoute, ParentRef

K = TypeVar("K")
V = TypeVar("V")

Alike = tuple[str, tuple[ParentRef, ...]]
"""A route's namespace, and those of its parentRefs that name the Gateway."""


class AcceptedIndex:
    """Accepted routes by Gateway, counted."""

    def __init__(self) -> None:
        self._alike: dict[ObjectKey, Counter[Alike]] = defaultdict(Counter)
        self._named_in: dict[str, Counter[ObjectKey]] = defaultdict(Counter)

    def change(self, route: GKEIPRoute, parents: Iterable[ObjectKey], *, present: bool) -> None:
        """Count a route in or out; one that is not accepted does not count."""
        if not is_accepted(route):
            return
        refs: dict[ObjectKey, list[ParentRef]] = defaultdict(list)
        for ref, gateway in zip(route.parent_refs, parents, strict=True):
            refs[gateway].append(ref)
        namespace, by = route.meta.namespace, 1 if present else -1
        for gateway, named in refs.items():
            _count(self._alike, gateway, (namespace, tuple(named)), by)
            _count(self._named_in, namespace, gateway, by)

    def of(self, gateway: ObjectKey) -> Mapping[Alike, int]:
        """How many there are of each kind."""
        return self._alike.get(gateway, {})

    def named_in(self, namespace: str) -> Set[ObjectKey]:
        """The Gateways that accepted routes of a Namespace name."""
        return self._named_in.get(namespace, Counter[ObjectKey]()).keys()


def _count(index: dict[K, Counter[V]], at: K, what: V, by: int) -> None:
    counts = index[at]
    counts[what] += by
    if not counts[what]:
        del counts[what]
    if not counts:
        del index[at]


def is_accepted(route: GKEIPRoute) -> bool:
    """Whether the route's status says so."""
    accepted = find_condition(route.status.conditions, ConditionType.ACCEPTED)
    return accepted is not None and accepted.status == Status.TRUE
