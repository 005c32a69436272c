"""
What stands in the cluster for the length of one scenario?

Out: manifests as kubectl takes them. The workloads that are there all the time are docs/examples.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MANY, MOVER, TENANT = "many", "mover", "tenant"
APPLICATION = "registry.example/egress:1"


def _container(addresses: Sequence[str]) -> Mapping[str, Any]:
    return {
        "name": "application",
        "image": APPLICATION,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PERSISTENT_ADDRESSES", "value": " ".join(addresses)},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}},
    }


def addresses_of_many(count: int) -> Sequence[str]:
    """Return so many addresses of the examples' pool that no example uses."""
    return [f"2001:db8:1::f0:{0x80 + index:x}" for index in range(count)]


def names_of_many(count: int) -> Sequence[str]:
    """Return the names of so many routes."""
    return [f"{MANY}-{index}" for index in range(count)]


def many(namespace: str, count: int) -> str:
    """Return a Deployment with a standby on another node, and so many routes to it with one address each."""
    labels = {"app": MANY}
    meta = {"namespace": namespace, "labels": labels}
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    addresses = addresses_of_many(count)
    pod = {
        "terminationGracePeriodSeconds": 3,
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "containers": [_container(addresses)],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**meta, "name": MANY},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    routes = [
        {
            "apiVersion": "networking.gke.io/v1",
            "kind": "GKEIPRoute",
            "metadata": {**meta, "name": name, "annotations": {"persistip.dev/failback": "never"}},
            "spec": {
                "parentRefs": [{"name": "public", "namespace": "network"}],
                "addresses": [{"type": "IPAddress", "value": address}],
                "podSelector": {"matchLabels": labels},
            },
        }
        for name, address in zip(names_of_many(count), addresses, strict=True)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [deployment, *routes]})


def mover(namespace: str, nodes: Sequence[str], address: str) -> str:
    """Return a Pod on each of these nodes, and a route for those of them that have a label which is taken away."""
    meta = {"namespace": namespace, "name": MOVER}
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**meta, "name": f"{MOVER}-{node}", "labels": {"app": MOVER, "may-hold": "yes"}},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [_container([address])]},
        }
        for node in nodes
    ]
    route = {
        "apiVersion": "networking.gke.io/v1",
        "kind": "GKEIPRoute",
        "metadata": {**meta, "annotations": {"persistip.dev/failback": "never"}},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "network"}],
            "addresses": [{"type": "IPAddress", "value": address}],
            "podSelector": {"matchLabels": {"app": MOVER, "may-hold": "yes"}},
        },
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*pods, route]})


def tenant(node: str, addresses: Sequence[str]) -> str:
    """Return a Pod of somebody else on a node, which has put on itself addresses that are not its own."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": TENANT, "namespace": TENANT},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [_container(addresses)]},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [namespace, pod]})


def pool_by_label(label: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a patch of the examples' Gateway, by which it admits the namespaces with a label."""
    namespaces = {"from": "Selector", "selector": {"matchLabels": label}}
    listener = {"name": "telephony", "port": 1, "protocol": "none", "allowedRoutes": {"namespaces": namespaces}}
    return {"spec": {"listeners": [listener]}}
