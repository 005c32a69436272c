"""
Which Pods does a route's selector match, which routes does a Pod concern, and who else claims its IPs?

Pods are indexed by the one label pair that each route's selector requires, so that neither question looks at the
rest of the namespace. A selector without a required pair falls back to the whole namespace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from persistip.model.address import IPAddress
from persistip.model.keys import ObjectKey
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute

Pair = tuple[str, str]


class PodIndex:
    """Pods by namespace, node, IP and watched label pair; routes by the pair that they watch."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, Pod]] = defaultdict(dict)
        self._by_node: dict[str, set[tuple[str, str]]] = defaultdict(set)
        # Tuples, since nearly every IP is one Pod's alone and there may be many of them.
        self._by_ip: dict[IPAddress, tuple[Pod, ...]] = {}
        self._by_pair: dict[tuple[str, Pair], set[str]] = {}
        self._routes_by_pair: dict[tuple[str, Pair], dict[ObjectKey, GKEIPRoute]] = defaultdict(dict)
        self._routes_without_pair: dict[str, dict[ObjectKey, GKEIPRoute]] = defaultdict(dict)

    def put(self, pod: Pod) -> None:
        """Add a Pod; a former version of it has been removed."""
        namespace = pod.meta.namespace
        self._pods[namespace][pod.meta.name] = pod
        if pod.node_name:
            self._by_node[pod.node_name].add((namespace, pod.meta.name))
        for ip in claimed_ips(pod):
            self._by_ip[ip] = tuple(sorted((*self._by_ip.get(ip, ()), pod), key=lambda each: each.key))
        for pair in pod.meta.labels.items():
            if (names := self._by_pair.get((namespace, pair))) is not None:
                names.add(pod.meta.name)

    def remove(self, pod: Pod) -> None:
        """Take a Pod out."""
        namespace = pod.meta.namespace
        self._pods[namespace].pop(pod.meta.name, None)
        if not self._pods[namespace]:
            del self._pods[namespace]
        if pod.node_name:
            self._by_node[pod.node_name].discard((namespace, pod.meta.name))
            if not self._by_node[pod.node_name]:
                del self._by_node[pod.node_name]
        for ip in claimed_ips(pod):
            left = tuple(each for each in self._by_ip.pop(ip) if each.key != pod.key)
            if left:
                self._by_ip[ip] = left
        for pair in pod.meta.labels.items():
            if (names := self._by_pair.get((namespace, pair))) is not None:
                names.discard(pod.meta.name)

    def watch(self, route: GKEIPRoute) -> None:
        """Keep the Pods of the route's pair at hand."""
        namespace, pair = route.meta.namespace, required_pair(route)
        if pair is None:
            self._routes_without_pair[namespace][route.key] = route
            return
        self._routes_by_pair[namespace, pair][route.key] = route
        if (namespace, pair) not in self._by_pair:
            key, value = pair
            self._by_pair[namespace, pair] = {
                pod.meta.name for pod in self._pods.get(namespace, {}).values() if pod.meta.labels.get(key) == value
            }

    def unwatch(self, route: GKEIPRoute) -> None:
        """Let go of what only this route needed."""
        namespace, pair = route.meta.namespace, required_pair(route)
        if pair is None:
            self._routes_without_pair[namespace].pop(route.key, None)
            return
        routes = self._routes_by_pair[namespace, pair]
        routes.pop(route.key, None)
        if not routes:
            del self._routes_by_pair[namespace, pair]
            self._by_pair.pop((namespace, pair), None)

    def matching(self, route: GKEIPRoute) -> Iterable[Pod]:
        """The Pods that the route's selector matches."""
        namespace, pair = route.meta.namespace, required_pair(route)
        pods = self._pods.get(namespace, {})
        if pair is None:
            found: Iterable[Pod] = pods.values()
        else:
            found = (pods[name] for name in self._by_pair.get((namespace, pair), set()))
        return [pod for pod in found if route.pod_selector.matches(pod.meta.labels)]

    def routes_of(self, pod: Pod) -> set[ObjectKey]:
        """The routes whose selector matches the Pod."""
        namespace, labels = pod.meta.namespace, pod.meta.labels
        candidates = dict(self._routes_without_pair.get(namespace, {}))
        for pair in labels.items():
            candidates |= self._routes_by_pair.get((namespace, pair), {})
        return {key for key, route in candidates.items() if route.pod_selector.matches(labels)}

    def doubled_ips(self, pods: Iterable[Pod]) -> dict[IPAddress, tuple[Pod, ...]]:
        """Those IPs of *pods* that more than one live Pod claims, with all that do."""
        found = {ip: self._by_ip.get(ip, ()) for pod in pods for ip in pod.ips}
        return {ip: claimants for ip, claimants in found.items() if len(claimants) > 1}

    def routes_beside(self, pod: Pod) -> set[ObjectKey]:
        """The routes whose selector matches another Pod that claims an IP of this one."""
        doubled = self.doubled_ips([pod]).values() if claimed_ips(pod) else ()
        return {route for claimants in doubled for each in claimants for route in self.routes_of(each)}

    def on_node(self, name: str) -> Iterable[Pod]:
        """The Pods bound to that Node."""
        return [self._pods[namespace][pod] for namespace, pod in self._by_node.get(name, set())]


def claimed_ips(pod: Pod) -> frozenset[IPAddress]:
    """The IPs that are this Pod's alone by right: a finished Pod has left its IP, one of the host shares the node's."""
    return frozenset() if pod.is_finished or pod.host_network else frozenset(pod.ips)


def required_pair(route: GKEIPRoute) -> Pair | None:
    """One label pair that every matching Pod must carry, the rarest-looking one: the longest value."""
    pairs = route.pod_selector.match_labels
    return max(pairs, key=lambda pair: (len(pair[1]), pair)) if pairs else None
