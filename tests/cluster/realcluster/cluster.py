"""
How does a test get a real Kubernetes cluster?

In: how many nodes, which network plugin, which mode of kube-proxy.  Out: a Cluster that is up in seconds and leaves
nothing behind: no process, namespace, mount, cgroup or link. It ends with its owner; what is left of one that was
killed, its files and empty cgroups, the next takes away.

The steps of `Cluster.start` overlap: nodes boot and read images while the API server starts.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kubernetes_binaries import find_machines, find_programs
from owned_folder import OwnedFolder
from programs import until

from realcluster import files, groups
from realcluster.api import API
from realcluster.images import write_image
from realcluster.node import CONTAINERD, KUBELET, PROXY, Node
from realcluster.objects import condition, is_ready
from realcluster.plan import place_of_node
from realcluster.segment import Segment, routes_of_node

ECHO = "localhost/echo:1"
READY_SECONDS = 60.0
MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 << 30
NETWORK_FILE = "/etc/cni/net.d/10-pods.conflist"


@dataclass(frozen=True)
class Options:
    """What a cluster is made of."""

    nodes: int = 3
    plugin: files.Plugin = "ptp"
    proxy: files.ProxyMode = "nftables"
    fast: bool = True
    """Whether a dead node is noticed within seconds, instead of Kubernetes' own most of a minute."""


class Cluster:
    """A cluster; use it as a context manager."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.programs, self.machines = find_programs(), find_machines()
        self._owned = OwnedFolder("persistip-cluster-", forget=groups.remove, root=_room())
        self.folder = self._owned.path
        self.group = self.folder.name
        self.segment = Segment(self.machines, self.folder / "machines")
        self.images = self._write_images()
        self.nodes: Mapping[str, Node] = {}
        self.booted: list[Callable[[str], None]] = []
        """Who wants to know the name of a node that was switched on again."""

    # ------------------------------------------------------------ life
    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, images: Iterable[Path] = ()) -> None:
        """Start everything; returns when every node is Ready."""
        self.images += list(images)
        indexes = range(1, self.options.nodes + 1)
        self.segment.start(map(place_of_node, indexes))
        # Programs end with the thread that starts them, so this one starts them all.
        self.api = API(self.segment.control, self.programs, self.folder / "control", fast=self.options.fast)
        self.api.start()
        self.nodes = {f"n{index}": self._make_node(index) for index in indexes}
        for node in self.nodes.values():
            node.switch_on(self.segment)
        self._at_each(self._fill)
        self.api.await_ready()
        for name, node in self.nodes.items():
            self.api.must("POST", "/api/v1/nodes", _node_object(name, node.place.pods))
            node.start_kubelet()
        self.await_nodes()
        # Without it no Pod can be made in a namespace.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        until(lambda: self.api.request("GET", account)[0] == 200, "the default ServiceAccount")

    def close(self) -> None:
        """End everything and leave nothing behind."""
        if self.segment.control.is_on:
            self.api.stop()
        for node in self.nodes.values():
            node.take_away()
        for machine in self.segment.machines:
            machine.cut_power()
        groups.remove(self.group)
        self._owned.remove()

    # ------------------------------------------------------------ nodes
    def boot(self, name: str) -> None:
        """Switch a node on again, with what was on its disk."""
        node = self.nodes[name]
        node.switch_on(self.segment)
        node.await_containerd()
        node.start_kubelet()
        for tell in self.booted:
            tell(name)

    def await_nodes(self, *, seconds: float = READY_SECONDS) -> None:
        """Return when every node is Ready."""
        self.until(
            lambda: (
                {node["metadata"]["name"] for node in self.list_nodes() if condition(node, "Ready") == "True"}
                == self.nodes.keys()
            ),
            "every node to be Ready",
            seconds,
        )

    def await_node(self, name: str, status: str, *, seconds: float = READY_SECONDS) -> None:
        """Return when the Ready condition of a node has this status: Unknown where nothing was heard of it."""
        path = f"/api/v1/nodes/{name}"
        self.until(lambda: condition(self.api.must("GET", path), "Ready") == status, f"{name} to be {status}", seconds)

    def list_nodes(self) -> Sequence[Mapping[str, Any]]:
        """Return the Node objects."""
        items: Sequence[Mapping[str, Any]] = self.api.must("GET", "/api/v1/nodes")["items"]
        return items

    def list_pods(self, namespace: str, selector: str = "") -> Sequence[Mapping[str, Any]]:
        """Return the Pods of a namespace."""
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
        items: Sequence[Mapping[str, Any]] = self.api.must("GET", path)["items"]
        return items

    def await_pods(self, namespace: str, selector: str, count: int, *, seconds: float = READY_SECONDS) -> None:
        """Return when exactly so many Pods are there, all of them Ready."""

        def ready() -> bool:
            pods = self.list_pods(namespace, selector)
            return len(pods) == count and all(is_ready(pod) for pod in pods)

        self.until(ready, f"{count} Pods {selector} in {namespace} to be Ready", seconds)

    def until(self, holds: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> Any:
        """Wait until *holds* returns something true; else raise with what the cluster says."""
        return until(holds, lambda: f"{what}\n{self.troubles()}", seconds)

    def troubles(self) -> str:
        """Return what may explain why something did not happen."""
        seen = [
            self.api.kubectl("get", "nodes,pods", "-A", "-o", "wide"),
            self.api.kubectl("get", "events", "-A")[-4000:],
        ]
        return "\n".join([*seen, *(node.troubles() for node in self.nodes.values() if node.is_on)])

    def _at_each(self, work: Callable[[Node], None]) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(work, self.nodes.values()))

    def _fill(self, node: Node) -> None:
        node.await_containerd()
        node.import_images(self.images)

    # ------------------------------------------------------------ what it is made of
    def _write_images(self) -> list[Path]:
        program = {"app": self.machines.read_bytes()}
        folder = self.folder / "images"
        folder.mkdir()
        return [
            write_image(folder / "pause.tar", files.PAUSE, program, ["/app", "pause"]),
            write_image(folder / "echo.tar", ECHO, program, ["/app", "echo"]),
        ]

    def _make_node(self, index: int) -> Node:
        name, place, folder = f"n{index}", place_of_node(index), self.folder / f"n{index}"
        folder.mkdir()
        kubeconfig = self.api.write_kubeconfig(f"system:node:{name}", groups=("system:nodes",))
        proxy = self.api.write_kubeconfig("system:kube-proxy")
        written = {
            "containerd.toml": files.containerd(),
            "kubelet.json": files.kubelet(self.api.authority_file, fast=self.options.fast),
            "proxy.json": files.proxy(self.options.proxy, name, proxy),
        }
        for file, content in written.items():
            (folder / file).write_text(content)
        daemons = {
            CONTAINERD: (shutil.which("containerd") or CONTAINERD, "--config", str(folder / "containerd.toml")),
            KUBELET: (
                str(self.programs / KUBELET),
                f"--config={folder / 'kubelet.json'}",
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={name}",
                f"--node-ip={place.ip4},{place.ip6}",
                "--v=2",
            ),
            PROXY: (str(self.programs / PROXY), f"--config={folder / 'proxy.json'}"),
        }
        return Node(
            name,
            place,
            program=self.machines,
            folder=folder,
            group=self.group,
            routes=routes_of_node(place, self.options.nodes),
            files={NETWORK_FILE: files.network(self.options.plugin, place)},
            daemons=daemons,
        )


def _room() -> Path | None:
    """Return where the machines' disks are: in memory, where there is enough; elsewhere each image takes seconds."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        return MEMORY
    return None


def _node_object(name: str, pods: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the Node before its kubelet comes, so that its ranges are those that the machines route to it."""
    labels = {"kubernetes.io/hostname": name}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"podCIDR": pods[0], "podCIDRs": list(pods)}}
