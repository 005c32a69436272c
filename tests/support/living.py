"""
How does a test get a cluster that does what it is told?

In: a control plane with persistip's manifests.  Out: beside it a controller and an agent for each node, each a process
with the shipped rights, on kernels that are files; and the hands of somebody who makes Gateways, routes and Pods.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filed_kernel
import yaml
from controlplane import ControlPlane
from programs import Program, until
from whole_system import AGENT, SYSTEM, System

MERGE = "application/merge-patch+json"
ROUTES = "/apis/networking.gke.io/v1/namespaces/{}/gkeiproutes"
CLASS = "gke-persistent-regional-external-managed"


class Living:
    """A control plane, a controller that may be stopped, and two nodes."""

    nodes = ("node-a", "node-b")

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        # With the times that are shipped.
        self._system = System(plane, election=())
        self._programs: dict[str, Program] = {}
        self._count = 10

    @contextmanager
    def running(self) -> Iterator[Living]:
        """Give the cluster with everything at work, and end all of it."""
        filed_kernel.install_as_plugin(self.plane.folder / "plugins")
        try:
            for number, name in enumerate(self.nodes):
                node = self.plane.add_node(name, ip=f"192.0.2.{10 + number}", pod_cidr=f"10.1.{number}.0/24")
                # Bound to the node, as that of a Pod on it is: no kubelet is here, and no Pod of ours need be.
                bound = {"kind": "Node", "metadata": node["metadata"]}
                token = self.plane.token(SYSTEM, AGENT, bound_to=bound)
                self._programs[name] = self._system.add_agent(name, token=token)
            self._programs["controller"] = self._system.add_controller("controller")
            self._system.wait_led()
            yield self
        finally:
            self._system.close()

    # ------------------------------------------------------------ processes
    def start(self, name: str) -> None:
        """Start the controller, or the agent of a node, again."""
        self._programs[name].start()

    def stop(self, name: str) -> None:
        """Stop it as its kubelet would; what it made stays."""
        self._programs[name].end(signal.SIGTERM)

    def entries(self, node: str) -> int:
        """Return how many entries of ours a node's kernel holds."""
        entries, _ = filed_kernel.read_kernel(self._system.kernel(node))
        return len(entries)

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
        """Make a Pod that runs on a node."""
        self._count += 1
        ip = f"10.1.{self.nodes.index(node)}.{self._count}"
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
