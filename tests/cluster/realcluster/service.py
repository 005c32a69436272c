"""
What would a user pick instead? The same Pods behind a Service with an external IP and externalTrafficPolicy Local.

Out: a Service for each route, and a balancer that sends its IP to a node with a ready endpoint, as soon as the API says
which. No real one is quicker: announcers and health checks come on top of what is measured here. Such a Service takes
in what others send; what a Pod sends of itself leaves with another source.
"""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from realcluster.api import API
from realcluster.client import PORT
from realcluster.machine import Machine
from realcluster.plan import Place

NAMESPACE = "telephony"
SELECTORS = {
    "sip-0": {"statefulset.kubernetes.io/pod-name": "sip-0"},
    "sip-1": {"statefulset.kubernetes.io/pod-name": "sip-1"},
    "border": {"app": "border"},
}
ADDRESSES = {name: f"192.0.2.{20 + index}" for index, name in enumerate(SELECTORS)}
WATCH_SECONDS = 3600.0
_PATH = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"

Manifest = Mapping[str, Any]


def manifests() -> str:
    """Return the Services."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"beside-{name}", "namespace": NAMESPACE},
            "spec": {
                "selector": selector,
                "externalIPs": [ADDRESSES[name]],
                "externalTrafficPolicy": "Local",
                "ports": [
                    {"name": protocol.lower(), "port": PORT, "protocol": protocol} for protocol in ("UDP", "TCP")
                ],
            },
        }
        for name, selector in SELECTORS.items()
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


class Balancer:
    """Follows the endpoints until it is closed."""

    def __init__(self, api: API, router: Machine, nodes: Mapping[str, Place]) -> None:
        self._api, self._router, self._nodes = api, router, nodes
        self._slices: dict[str, Manifest] = {}
        self._at: dict[str, str] = {}
        self._ended = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        """End it; its watch breaks off with the API server."""
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                for _, event in self._api.watch(_PATH, WATCH_SECONDS):
                    if self._ended.is_set():
                        return
                    self._hear(event["type"], event["object"])
            time.sleep(0.1)

    def _hear(self, how: str, endpoints: Manifest) -> None:
        if how not in ("ADDED", "MODIFIED", "DELETED"):
            return
        name = endpoints["metadata"]["name"]
        if how == "DELETED":
            self._slices.pop(name, None)
        else:
            self._slices[name] = endpoints
        service = endpoints["metadata"]["labels"].get("kubernetes.io/service-name", "")
        address = ADDRESSES.get(service.removeprefix("beside-"))
        if address is not None and (node := self._best(service)) not in (None, self._at.get(address)):
            self._at[address] = node
            self._router.ip(f"route replace {address} via {self._nodes[node].ip4}")

    def _best(self, service: str) -> str | None:
        """Return the node to send to: that of now while it has a ready endpoint; ending ones, where none is ready."""
        found: dict[str, list[str]] = {"ready": [], "serving": []}
        for each in self._slices.values():
            if each["metadata"]["labels"].get("kubernetes.io/service-name") == service:
                for endpoint in each.get("endpoints") or ():
                    for state, nodes in found.items():
                        if endpoint.get("conditions", {}).get(state) and "nodeName" in endpoint:
                            nodes.append(endpoint["nodeName"])
        now = self._at.get(ADDRESSES[service.removeprefix("beside-")])
        for nodes in found.values():
            if nodes:
                return now if now in nodes else min(nodes)
        return None
