"""
On which network do a route's addresses live, and which of a Pod's IPs lie there?

In: a route with its Network, and the annotations of Pods and Nodes.  Out: faults, and Pods as that network sees them.
The annotations are GKE's (``networking.gke.io``). A Pod's are a tenant's to write, so an IP is believed only inside the
ranges that its node has of the network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

import attrs

from persistip.decide.verdict import Fault
from persistip.model.address import IPAddress, Prefix, parse_ip
from persistip.model.conditions import Reason
from persistip.model.network import Network, NetworkType
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import DEFAULT_NETWORK
from persistip.model.views import NetworkFacts, RouteFacts, RouteView

_DOMAIN = "networking.gke.io"
_USABLE = frozenset({NetworkType.L3, NetworkType.DEVICE})


def network_fault(facts: RouteFacts) -> Fault | None:
    """What stands against the route's network; one that is not Ready may become so, and withdraws nothing."""
    route = facts.route
    if route.network_name == DEFAULT_NETWORK:
        return None
    found = facts.network.network
    if found is None:
        said = f"there is no Network {route.network!r}; create it, or leave the field out for the default network"
        return Fault(reason=Reason.UNKNOWN_NETWORK, path="spec.network", message=said)
    if found.type not in _USABLE:
        said = f"Network {route.network!r} is of type {found.type}; use one of type L3 or Device"
        return Fault(reason=Reason.UNSUPPORTED_NETWORK, path="spec.network", message=said)
    if not found.ready:
        said = f"Network {route.network!r} is not Ready{_why_pending(found, facts.network)}"
        return Fault(reason=Reason.PENDING_NETWORK, path="spec.network", message=said, is_live=True)
    return None


def _why_pending(network: Network, facts: NetworkFacts) -> str:
    words = [network.message] if network.message else []
    ref, parameters = network.parameters_ref, facts.parameters
    if ref is not None and facts.unreadable:
        words.append(f"its {ref.kind} {ref.name!r} cannot be read: {facts.unreadable}")
    elif ref is not None and parameters is None:
        words.append(f"its {ref.kind} {ref.name!r} does not exist")
    elif parameters is not None and not parameters.ready:
        why = f": {parameters.message}" if parameters.message else ""
        words.append(f"its {parameters.key.kind} {parameters.meta.name!r} is not Ready{why}")
    return f" ({'; '.join(words)})" if words else ""


def why_network_unserved(network_name: str) -> str:
    """Why this version's agents program nothing on such a network; empty for the default one."""
    if network_name == DEFAULT_NETWORK:
        return ""
    return f"network {network_name!r} is a secondary network, which this version judges and does not program"


def network_refusal(pod: Pod, network_name: str) -> str | None:
    """Why *pod* cannot be reached on that network; the end of the sentence "Pod x …"."""
    if network_name == DEFAULT_NETWORK or network_name in _networks_of(pod):
        return None
    return f"is not attached to network {network_name}"


def seen_on_network(view: RouteView) -> RouteView:
    """The view with the IPs that its Pods have on the route's network, instead of those of the default network."""
    if view.facts is None or view.facts.route.network_name == DEFAULT_NETWORK:
        return view
    name = view.facts.route.network_name
    pods = tuple(attrs.evolve(pod, ips=_believed_ips(pod, view.nodes.get(pod.node_name), name)) for pod in view.pods)
    return attrs.evolve(view, pods=pods)


def _networks_of(pod: Pod) -> frozenset[str]:
    named = [each.get("network") for each in _entries(pod.meta.annotations, "interfaces")]
    for key in ("pod-ips", "interface-status"):
        named += [each.get("networkName") for each in _entries(pod.meta.annotations, key)]
    return frozenset(name for name in named if isinstance(name, str))


def _believed_ips(pod: Pod, node: Node | None, network_name: str) -> tuple[IPAddress, ...]:
    entries = _entries(node.meta.annotations if node is not None else {}, "networks")
    texts = [text for each in entries if each.get("name") == network_name for text in _texts(each.get("cidrs"))]
    ranges = [found for text in texts if (found := _range(text)) is not None]
    return tuple(dict.fromkeys(ip for ip in _claimed_ips(pod, network_name) if any(ip in range_ for range_ in ranges)))


def _claimed_ips(pod: Pod, network_name: str) -> Iterator[IPAddress]:
    texts: list[Any] = [
        each.get("ip") for each in _entries(pod.meta.annotations, "pod-ips") if each.get("networkName") == network_name
    ]
    for each in _entries(pod.meta.annotations, "interface-status"):
        if each.get("networkName") == network_name:
            texts += _texts(each.get("ipAddresses"))
    yield from (ip for text in texts if isinstance(text, str) and (ip := parse_ip(text)) is not None)


def _entries(annotations: Mapping[str, str], key: str) -> list[dict[str, Any]]:
    """The objects of an annotation that is a JSON list; whatever else it is says nothing."""
    try:
        value = json.loads(annotations.get(f"{_DOMAIN}/{key}", "[]"))
    except (ValueError, RecursionError):
        return []
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _range(text: str) -> Prefix | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
