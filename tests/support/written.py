"""How does an AddressAttachment look that the controller has written?"""

from typing import Any

ATTACHMENTS = "/apis/persistip.dev/v1alpha1/addressattachments"
GATEWAY = {"namespace": "infra", "name": "pool", "uid": "uid-pool"}


def release(**changes: Any) -> dict[str, Any]:
    """Return an entry of ``releasing`` that stands in every attachment here."""
    return {
        "prefixes": ["203.0.113.20/32"],
        "pod": {"name": "nat-old", "uid": "uid-nat-old"},
        "nodeName": "node-b",
        "nodeUID": "uid-node-b",
        "how": "AfterReady",
        "epoch": 5,
        "since": "2026-01-05T10:00:00.000000Z",
    } | changes


def manifest(**changes: Any) -> dict[str, Any]:
    """Return an attachment as the controller writes it, held and with a node that lets go; None takes a field away."""
    spec: dict[str, Any] = {
        "routeRef": {"namespace": "tenant", "name": "nat-0", "uid": "uid-nat-0"},
        "mode": "standard",
        "network": "default",
        "addresses": [{"prefix": "203.0.113.20/32", "gatewayRef": GATEWAY}],
        "pod": {"name": "nat-new", "uid": "uid-nat-new", "ips": ["10.0.0.2"]},
        "nodeName": "node-a",
        "nodeUID": "uid-node-a",
        "podAddress": "app",
        "flows": "keep",
        "releasing": [release()],
        "epoch": 5,
    } | changes
    return {
        "apiVersion": "persistip.dev/v1alpha1",
        "kind": "AddressAttachment",
        "metadata": {"name": "r-rules"},
        "spec": {name: value for name, value in spec.items() if value is not None},
    }
