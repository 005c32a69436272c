"""
How does a test get a cluster that does what it is told?

In: a control plane with persistip's manifests.  Out: beside it, in a thread of their own, a controller and an agent for
each node, on the memory fabric in place of kernels; and the hands of somebody who makes Gateways, routes and Pods.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from controlplane import ControlPlane
from programs import until

from persistip import Agent, Controller
from persistip.backends.apiserver import ApiServerCluster, find_access
from persistip.backends.memory import MemoryAnnouncer, MemoryDatapath, MemoryFabric
from persistip.backends.static import StaticAllocator
from persistip.runtime.clock import SystemClock
from persistip.runtime.election import Election

MERGE = "application/merge-patch+json"
ROUTES = "/apis/networking.gke.io/v1/namespaces/{}/gkeiproutes"
CLASS = "gke-persistent-regional-external-managed"


class Living:
    """A control plane, a controller that may be stopped, and two nodes."""

    nodes = ("node-a", "node-b")

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.fabric = MemoryFabric()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stacks: dict[str, AsyncExitStack] = {}
        self._count = 10

    @contextmanager
    def running(self) -> Iterator[Living]:
        """Give the cluster with everything at work, and end all of it."""
        self._thread.start()
        try:
            for number, name in enumerate(self.nodes):
                ip = ip_address(f"192.0.2.{10 + number}")
                self.plane.add_node(name, ip=str(ip), pod_cidr=f"10.1.{number}.0/24")
                labels = {"metadata": {"labels": {"kubernetes.io/hostname": name}}}
                self.plane.must("PATCH", f"/api/v1/nodes/{name}", labels, content_type=MERGE)
                self.fabric.add_node(name, ip)
                self.start(name)
            self.start("controller")
            yield self
        finally:
            for name in tuple(self._stacks):
                self.stop(name)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    # ------------------------------------------------------------ processes
    def start(self, name: str) -> None:
        """Start the controller, or the agent of a node."""
        self._do(self._start(name))

    def stop(self, name: str) -> None:
        """Stop it; what it made stays."""
        self._do(self._stacks.pop(name).aclose())

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _start(self, name: str) -> None:
        stack = AsyncExitStack()
        load = find_access(str(self.plane.kubeconfig), "", os.environ)
        node = None if name == "controller" else name
        cluster = await stack.enter_async_context(ApiServerCluster(load, SystemClock(), node_name=node))
        # As in a cluster: whoever leads keeps others out.
        lease = cluster.lease("persistip-system", "persistip-controller")
        election = Election(lease, f"test-{node}", SystemClock())
        worker: Any = Controller(cluster, StaticAllocator(), election=election)
        if node is not None:
            worker = Agent(node, cluster, MemoryDatapath(self.fabric, node), MemoryAnnouncer(self.fabric, node))
        await stack.enter_async_context(worker)
        self._stacks[name] = stack

    # ------------------------------------------------------------ objects
    def apply(self, text: str) -> None:
        """Create what is not there yet, as kubectl would."""
        self.plane.kubectl("apply", "--filename=-", stdin=text)

    def pool(self, namespace: str, cidr: str) -> None:
        """Make a Gateway with the addresses of *cidr*, for routes of every namespace."""
        self.plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        body = {"metadata": {"name": "addresses"}, "data": {"allowedAddresses": "203.0.113.0/24"}}
        self.plane.request("POST", path, body)
        ref = {"group": "", "kind": "ConfigMap", "name": "addresses", "namespace": namespace}
        classes = f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{CLASS}"
        self.plane.must("PATCH", classes, {"spec": {"parametersRef": ref}}, content_type=MERGE)
        listener = {"name": "any", "port": 1, "protocol": "none", "allowedRoutes": {"namespaces": {"from": "All"}}}
        spec = {
            "gatewayClassName": CLASS,
            "addresses": [{"type": "gke.networking.io/cidr", "value": cidr}],
            "listeners": [listener],
        }
        made = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": spec}
        self.apply(yaml.safe_dump(made | {"metadata": {"name": "public", "namespace": namespace}}))

    def route(self, namespace: str, name: str, address: str, **annotations: str) -> None:
        """Make a route for the Pods labelled with its name."""
        spec = {
            "parentRefs": [{"name": "public", "namespace": namespace}],
            "addresses": [{"value": address}],
            "podSelector": {"matchLabels": {"app": name}},
        }
        meta = {"name": name, "namespace": namespace, "annotations": annotations}
        self.apply(yaml.safe_dump(
            {"apiVersion": "networking.gke.io/v1", "kind": "GKEIPRoute", "metadata": meta, "spec": spec}
        ))  # fmt: skip

    def pod(self, namespace: str, name: str, node: str, *, app: str, ready: bool = True) -> None:
        """Make a Pod that runs on a node, there and on the fabric."""
        self._count += 1
        ip = f"10.1.{self.nodes.index(node)}.{self._count}"
        self.fabric.add_pod(node, name, [ip_address(ip)])
        pods = f"/api/v1/namespaces/{namespace}/pods"
        spec = {"nodeName": node, "containers": [{"name": "main", "image": "none.invalid/none"}]}
        self.plane.must("POST", pods, {"metadata": {"name": name, "labels": {"app": app}}, "spec": spec})
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [_ready(ready)]}
        self.plane.must("PATCH", f"{pods}/{name}/status", {"status": status}, content_type=MERGE)

    def status(self, namespace: str, name: str) -> Any:
        """Return the status of a route."""
        return self.plane.must("GET", f"{ROUTES.format(namespace)}/{name}").get("status", {})

    def wait_held(self, namespace: str, name: str, pod: str) -> None:
        """Return when *pod* holds the route's addresses and the route is Ready."""

        def is_held() -> bool:
            status = self.status(namespace, name)
            ready = {each["type"]: each["status"] for each in status.get("conditions", [])}
            return status.get("pods") == [pod] and ready.get("Ready") == "True"

        until(is_held, f"{pod} to hold {namespace}/{name}")

    def attachments(self) -> list[Any]:
        """Return all AddressAttachments."""
        found: list[Any] = self.plane.must("GET", "/apis/persistip.dev/v1alpha1/addressattachments")["items"]
        return found


def _ready(ready: bool) -> dict[str, str]:
    return {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}


def account(living: Living, name: str, *roles: str) -> Path:
    """Make a ServiceAccount with these ClusterRoles; return its kubeconfig."""
    plane = living.plane
    plane.must("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
    for role in roles:
        who = f"--serviceaccount=default:{name}"
        plane.kubectl("create", "clusterrolebinding", f"{name}-{role}", f"--clusterrole={role}", who)
    path = plane.write_kubeconfig(name, plane.token("default", name))

    def may() -> bool:
        return not roles or "yes" in plane.try_kubectl("auth", "can-i", "list", "nodes", kubeconfig=path).stdout

    until(may, f"the rights of {name}")
    return path
