"""How many nodes does a route's nodeSelector select? Kept up to date, so that a route's view need not look at all."""

from __future__ import annotations

from collections.abc import Iterable

from persistip.model.keys import ObjectKey
from persistip.model.node import Node
from persistip.model.selector import LabelSelector


class NodeSelections:
    """The nodes that each nodeSelector selects, by route; there are few such routes."""

    def __init__(self) -> None:
        self._selectors: dict[ObjectKey, LabelSelector] = {}
        self._selected: dict[ObjectKey, set[str]] = {}

    def watch(self, route: ObjectKey, selector: LabelSelector, nodes: Iterable[Node]) -> None:
        """Count for a route from now on."""
        self._selectors[route] = selector
        self._selected[route] = {node.meta.name for node in nodes if selector.matches(node.meta.labels)}

    def unwatch(self, route: ObjectKey) -> None:
        """The route is gone, or selects other nodes."""
        self._selectors.pop(route, None)
        self._selected.pop(route, None)

    def put(self, node: Node) -> None:
        """Add a node; a former version of it has been removed."""
        for route in self.routes_of(node):
            self._selected[route].add(node.meta.name)

    def remove(self, node: Node) -> None:
        """Take a node out."""
        for route in self.routes_of(node):
            self._selected[route].discard(node.meta.name)

    def routes_of(self, node: Node) -> set[ObjectKey]:
        """The routes that select the node."""
        return {route for route, selector in self._selectors.items() if selector.matches(node.meta.labels)}

    def count(self, route: ObjectKey) -> int:
        """How many nodes the route selects."""
        return len(self._selected.get(route, ()))
