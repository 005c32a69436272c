"""
Which Pods does a route's selector match, which routes does a Pod concern, and who else claims its IPs?

Pods are indexed by the label keys that selectors name, one column for each, and each route stands in one column under
the values that it looks for, so that neither question looks at the rest of the namespace. Only a selector that asks for
no label at all (NotIn and DoesNotExist alone) falls back to the whole namespace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

import attrs

from persistip.decide.multimap import Multimap
from persistip.model.address import IPAddress
from persistip.model.keys import ObjectKey
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.selector import LabelSelector, Operator

Wanted = tuple[str, tuple[str | None, ...]]
"""A label key, and the values of which every matching Pod has one; None: any value."""


@attrs.define
class _Column:
    """One label key in one namespace: the Pods by its value, the routes that look there, and who uses it at all."""

    pods: Multimap[str, ObjectKey] = attrs.field(factory=Multimap)
    routes: Multimap[str | None, ObjectKey] = attrs.field(factory=Multimap)
    users: set[ObjectKey] = attrs.field(factory=set)

    def having(self, values: tuple[str | None, ...]) -> list[Collection[ObjectKey]]:
        """The Pods that have one of the values, or any."""
        wanted = self.pods.keys() if None in values else values
        return [self.pods.get(str(value)) for value in wanted]


class PodIndex:
    """Pods by namespace, node, IP and watched label; routes by the label that they watch."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[ObjectKey, Pod]] = defaultdict(dict)
        self._by_node: Multimap[str, ObjectKey] = Multimap()
        self._by_ip: Multimap[IPAddress, ObjectKey] = Multimap()
        self._columns: dict[str, dict[str, _Column]] = defaultdict(dict)
        self._selectors: dict[ObjectKey, LabelSelector] = {}
        self._wanted: dict[ObjectKey, tuple[Wanted, ...]] = {}
        self._places: dict[ObjectKey, Wanted] = {}
        self._routes_without_label: Multimap[str, ObjectKey] = Multimap()

    def keys(self) -> Iterator[ObjectKey]:
        """Every Pod."""
        return chain.from_iterable(self._pods.values())

    def replace(self, key: ObjectKey, old: object, new: object) -> None:
        """Let *new* stand where *old* stood; what is no Pod is not there."""
        if isinstance(new, Pod):
            self._pods[key.namespace][key] = new
        else:
            del self._pods[key.namespace][key]
            if not self._pods[key.namespace]:
                del self._pods[key.namespace]
        if isinstance(old, Pod) and isinstance(new, Pod) and self.is_found_alike(old, new):
            return
        before, after = (list(self._places_of(each)) if isinstance(each, Pod) else [] for each in (old, new))
        for index, at in before:
            index.discard(at, key)
        for index, at in after:
            index.add(at, key)

    def is_found_alike(self, one: Pod, other: Pod) -> bool:
        """Whether two versions of a Pod stand in the same places."""
        return _found_by(one) == _found_by(other)

    def _places_of(self, pod: Pod) -> Iterator[tuple[Multimap[Any, ObjectKey], Any]]:
        if pod.node_name:
            yield self._by_node, pod.node_name
        for ip in claimed_ips(pod):
            yield self._by_ip, ip
        for column, value in self._columns_of(pod):
            yield column.pods, value

    def _columns_of(self, pod: Pod) -> Iterator[tuple[_Column, str]]:
        columns = self._columns.get(pod.meta.namespace, {})
        for key, value in pod.meta.labels.items() if columns else ():
            if (column := columns.get(key)) is not None:
                yield column, value

    def _pod(self, key: ObjectKey) -> Pod:
        return self._pods[key.namespace][key]

    def watch(self, route: GKEIPRoute) -> None:
        """Keep the Pods of the labels that the route asks for at hand."""
        namespace, key, options = route.meta.namespace, route.key, wanted_labels(route.pod_selector)
        self._selectors[key] = route.pod_selector
        self._wanted[key] = options
        if not options:
            self._routes_without_label.add(namespace, key)
            return
        for label, _ in options:
            self._column(namespace, label).users.add(key)
        columns = self._columns[namespace]

        def crowd(wanted: Wanted) -> int:
            label, values = wanted
            return sum(len(columns[label].routes.get(value)) for value in values)

        # Where the fewest others stand: a Pod that has the label looks at all who do.
        label, values = self._places[key] = min(options, key=crowd)
        for value in values:
            columns[label].routes.add(value, key)

    def _column(self, namespace: str, label: str) -> _Column:
        columns = self._columns[namespace]
        if label not in columns:
            columns[label] = _Column()
            for key, pod in self._pods.get(namespace, {}).items():
                if (value := pod.meta.labels.get(label)) is not None:
                    columns[label].pods.add(value, key)
        return columns[label]

    def unwatch(self, route: GKEIPRoute) -> None:
        """Let go of what only this route needed."""
        namespace, key = route.meta.namespace, route.key
        del self._selectors[key]
        options = self._wanted.pop(key)
        if not options:
            self._routes_without_label.discard(namespace, key)
            return
        columns = self._columns[namespace]
        label, values = self._places.pop(key)
        for value in values:
            columns[label].routes.discard(value, key)
        for label in {label for label, _ in options}:
            columns[label].users.discard(key)
            if not columns[label].users:
                del columns[label]
        if not columns:
            del self._columns[namespace]

    def matching(self, route: GKEIPRoute) -> Iterable[Pod]:
        """The Pods that the route's selector matches."""
        pods = self._pods.get(route.meta.namespace, {})
        found: Iterable[Pod] = pods.values()
        if options := self._wanted[route.key]:
            columns = self._columns[route.meta.namespace]
            having = [columns[label].having(values) for label, values in options]
            fewest = min(having, key=_size) if len(having) > 1 else having[0]
            found = [pods[key] for key in chain.from_iterable(fewest)]
        return [pod for pod in found if route.pod_selector.matches(pod.meta.labels)]

    def routes_of(self, pod: Pod) -> set[ObjectKey]:
        """The routes whose selector matches the Pod."""
        labels = pod.meta.labels
        candidates = set(self._routes_without_label.get(pod.meta.namespace))
        for column, value in self._columns_of(pod):
            candidates.update(column.routes.get(value), column.routes.get(None))
        return {key for key in candidates if self._selectors[key].matches(labels)}

    def doubled_ips(self, pods: Iterable[Pod]) -> dict[IPAddress, tuple[Pod, ...]]:
        """Those IPs of *pods* that more than one live Pod claims, with all that do."""
        claimants = {ip: keys for pod in pods for ip in pod.ips if len(keys := self._by_ip.get(ip)) > 1}
        return {ip: tuple(self._pod(key) for key in sorted(keys)) for ip, keys in claimants.items()}

    def routes_beside(self, pod: Pod) -> set[ObjectKey]:
        """The routes whose selector matches another Pod that claims an IP of this one."""
        doubled = self.doubled_ips([pod]).values() if claimed_ips(pod) else ()
        return {route for claimants in doubled for each in claimants for route in self.routes_of(each)}

    def on_node(self, name: str) -> Iterable[Pod]:
        """The Pods bound to that Node."""
        return [self._pod(key) for key in self._by_node.get(name)]


def _found_by(pod: Pod) -> tuple[object, ...]:
    return pod.node_name, pod.ips, pod.meta.labels, pod.is_finished, pod.host_network


def claimed_ips(pod: Pod) -> frozenset[IPAddress]:
    """The IPs that are this Pod's alone by right: a finished Pod has left its IP, one of the host shares the node's."""
    return frozenset() if pod.is_finished or pod.host_network else frozenset(pod.ips)


def _size(sets: list[Collection[ObjectKey]]) -> int:
    return sum(map(len, sets))


def wanted_labels(selector: LabelSelector) -> tuple[Wanted, ...]:
    """What a selector asks for: each label of which every matching Pod has one of the values, the narrowest first."""
    pairs = [(key, (value,)) for key, value in selector.match_labels]
    lists = [
        (each.key, tuple(dict.fromkeys(each.values)))
        for each in selector.match_expressions
        if each.operator == Operator.IN
    ]
    exist = [(each.key, (None,)) for each in selector.match_expressions if each.operator == Operator.EXISTS]
    return (*sorted(pairs, key=lambda pair: -len(pair[1][0])), *lists, *exist)
