"""Is the cluster that everything else stands on a real one, do its faults happen, and does nothing of it stay?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from owned_folder import OwnedFolder
from programs import until

if TYPE_CHECKING:
    from realcluster.cluster import Cluster

pytestmark = pytest.mark.requires("cluster")

HERE = Path(__file__).parent
ECHO = HERE / "echo.yaml"
SELECTOR = "app=echo"
REACH_SECONDS = 20


@pytest.fixture
def echoes(cluster: "Cluster") -> "Iterator[Cluster]":
    """Return the cluster with one Pod Ready on each node."""
    cluster.api.kubectl("apply", f"--filename={ECHO}")
    cluster.await_pods("default", SELECTOR, len(cluster.nodes))
    yield cluster
    cluster.api.kubectl("delete", f"--filename={ECHO}", "--wait")
    cluster.until(lambda: not cluster.list_pods("default", SELECTOR), "the Pods to be gone")


def answers(cluster: "Cluster", ip: str) -> bool:
    """Whether an address answers to the outside client, which asks anew where it is."""
    # Else a question that was in vain before would be repeated a second later, and this one wait for that.
    cluster.segment.client.run("ip", "neigh", "flush", "to", ip)
    return " 0% packet loss" in cluster.segment.client.run("ping", "-c1", "-W1", ip, check=False)


def test_client_outside_reaches_a_pod_on_every_node(echoes: "Cluster") -> None:
    """Each node runs a Pod, and the client behind the router reaches it over IPv4 and IPv6."""
    pods = echoes.list_pods("default", SELECTOR)
    assert {pod["spec"]["nodeName"] for pod in pods} == echoes.nodes.keys()
    for pod in pods:
        ips = [each["ip"] for each in pod["status"]["podIPs"]]
        assert len(ips) == 2
        for ip in ips:
            echoes.until(lambda ip=ip: answers(echoes, ip), f"{ip} to answer", REACH_SECONDS)


def test_killed_container_comes_back_in_its_pod(echoes: "Cluster") -> None:
    """A container that is killed is started again by its kubelet, in the same Pod with the same IP."""
    before = echoes.list_pods("default", SELECTOR)[0]
    container = before["status"]["containerStatuses"][0]["containerID"].partition("//")[2]
    echoes.nodes[before["spec"]["nodeName"]].kill_container(container)

    def restarted() -> bool:
        after = next(each for each in echoes.list_pods("default", SELECTOR) if each["metadata"]["uid"] == uid)
        return bool(after["status"]["containerStatuses"][0]["restartCount"]) and after["status"]["podIP"] == ip

    uid, ip = before["metadata"]["uid"], before["status"]["podIP"]
    echoes.until(restarted, "the container to be started again")
    echoes.await_pods("default", SELECTOR, len(echoes.nodes))


def test_power_cut_is_noticed_and_the_node_comes_back(cluster: "Cluster") -> None:
    """A node without power is found not Ready, and is Ready again after it was switched on."""
    name, node = next(iter(cluster.nodes.items()))
    node.cut_power()
    cluster.await_node(name, "Unknown")
    assert not answers(cluster, node.place.ip4)
    cluster.boot(name)
    cluster.await_nodes()
    assert answers(cluster, node.place.ip4)


def test_node_cut_off_from_the_api_is_still_reached(cluster: "Cluster") -> None:
    """A partition takes what it says and nothing else: without the API server a node goes on answering outside."""
    name, node = list(cluster.nodes.items())[1]
    cluster.segment.cut(name, "api")
    cluster.await_node(name, "Unknown")
    assert answers(cluster, node.place.ip4)
    cluster.segment.cut(name, "both")
    assert not answers(cluster, node.place.ip4)
    cluster.segment.cut(name, "fabric")
    cluster.await_nodes()
    assert not answers(cluster, node.place.ip4)
    cluster.segment.heal(name)
    assert answers(cluster, node.place.ip4)


# ---------------------------------------------------------------- without a trace
def processes_with(*marks: str) -> list[str]:
    """Return the processes whose command line or cgroup shows one of *marks*."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            shown = (folder / "cmdline").read_text().replace("\0", " ") + (folder / "cgroup").read_text()
        except OSError:
            continue
        if any(mark in shown for mark in marks):
            found.append(f"{folder.name}: {shown[:200]}")
    return found


def namespaces(ticks: int) -> set[str]:
    """Return the namespaces of processes from before an instant: the numbers of old ones are given out anew."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[19]) <= ticks:
                found.update(str(link.readlink()) for link in (folder / "ns").iterdir())
        except OSError:
            continue
    return found


def ticks_now() -> int:
    """Return this instant as /proc tells the starts of processes."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def links() -> set[str]:
    """Return the links of this process's own network."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def test_cluster_that_ended_leaves_nothing() -> None:
    """No process, namespace, mount, cgroup, link or file stays of a cluster in which Pods ran."""
    from realcluster.cluster import Cluster, Options  # noqa: PLC0415

    mounts, own_links = Path("/proc/self/mountinfo").read_text(), links()
    with Cluster(Options(nodes=1, plugin="bridge", proxy="iptables")) as cluster:
        cluster.api.kubectl("apply", f"--filename={ECHO}")
        cluster.await_pods("default", SELECTOR, 1)
        mark = cluster.group
        its_own = {
            str(Path(f"/proc/{machine.pid}/ns/{kind}").readlink())
            for machine in (*cluster.segment.machines, *cluster.nodes.values())
            for kind in ("net", "pid", "mnt", "uts", "ipc", "cgroup")
        } - {str(link.readlink()) for link in Path("/proc/self/ns").iterdir()}
        assert processes_with(mark)
        last = ticks_now()
        assert its_own <= namespaces(last)
    assert processes_with(mark) == []
    assert its_own & namespaces(last) == set()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert links() == own_links
    assert [path for path in Path("/sys/fs/cgroup").glob(f"**/{mark}") if path.is_dir()] == []
    assert not cluster.folder.exists()


def test_cluster_ends_with_its_owner(tmp_path: Path) -> None:
    """When the process that started a cluster is killed, its processes end; the next cluster takes the rest away."""
    command = [sys.executable, "-m", "realcluster", "--nodes=1"]
    found = os.pathsep.join(str(path) for path in (HERE, HERE.parent / "support"))
    environment = os.environ | {"PYTHONPATH": found, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment) as owner:
        assert owner.stdout is not None
        assert b"up" in owner.stdout.readline()
        assert processes_with(str(tmp_path))
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    until(lambda: not processes_with(str(tmp_path)), lambda: f"these to end: {processes_with(str(tmp_path))}", 20)
    from realcluster import groups  # noqa: PLC0415

    (left,) = tmp_path.glob("persistip-cluster-*")
    OwnedFolder("persistip-cluster-", forget=groups.remove, root=tmp_path).remove()
    assert not left.exists()
    assert [path for path in Path("/sys/fs/cgroup").glob(f"**/{left.name}") if path.is_dir()] == []
