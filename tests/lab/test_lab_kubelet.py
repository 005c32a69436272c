"""The stand-in for kubelet, scheduler and workload controllers, on simulated nodes and in simulated time."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from persistip.lab.cluster import Lab
from persistip.lab.lifecycle import EVICTED_SECONDS, NOTICED_SECONDS, UNREACHABLE, tolerates_loss
from persistip.lab.options import LabOptions
from persistip.lab.virtual import VirtualSite
from persistip.lab.virtualtime import VirtualTimeLoop
from persistip.lab.workloads import is_ready


def workload(kind: str = "Deployment", replicas: int = 2, **environment: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 3,
                    "containers": [{"env": [{"name": name, "value": value} for name, value in environment.items()]}],
                },
            },
        },
    }


def in_lab(use: Callable[[Lab], Awaitable[None]]) -> None:
    async def work() -> None:
        async with VirtualSite() as site, Lab(site, LabOptions(datapath="memory")) as lab:
            await use(lab)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(work())


def now() -> float:
    return asyncio.get_running_loop().time()


def name_of(pod: Any) -> str:
    return str(pod["metadata"]["name"])


def test_workload_becomes_ready_pods_on_different_nodes() -> None:
    """A Deployment's Pods are bound to different nodes, run with IPs of both families, and say that they are ready."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload())
        assert await lab.settled(10)
        pods = await lab.pods("shop")
        assert len(pods) == 2
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
        for pod in pods:
            assert is_ready(pod)
            assert [":" in ip["ip"] for ip in pod["status"]["podIPs"]] == [False, True]

    in_lab(use)


def test_killed_process_starts_again_in_its_pod_later_and_later() -> None:
    """A process that dies makes its Pod unready at once and starts again in it, each time after a longer wait."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload(replicas=1))
        assert await lab.settled(10)
        (pod,) = await lab.pods("shop")
        waits = []
        for _ in range(3):
            lab.signal_pod("shop", name_of(pod), signal.SIGKILL)
            begin = now()

            async def is_down() -> bool:
                return not is_ready((await lab.pods("shop"))[0])

            async def is_up() -> bool:
                return is_ready((await lab.pods("shop"))[0])

            assert await lab.until(is_down, 0.01)
            assert await lab.until(is_up, 10)
            waits.append(now() - begin)
        (again,) = await lab.pods("shop")
        assert again["metadata"]["uid"] == pod["metadata"]["uid"]
        assert again["status"]["podIPs"] == pod["status"]["podIPs"]
        assert waits == sorted(waits)
        assert waits[2] > waits[1] + 0.9 > waits[0] + 1.6

    in_lab(use)


def test_deleted_pod_serves_on_and_stays_ready_until_its_process_ends() -> None:
    """SIGTERM comes at once, and the Pod stays Ready as long as its process serves, and goes when that ends."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload("StatefulSet", 1, SHUTDOWN_SECONDS="2"))
        assert await lab.settled(10)
        (pod,) = await lab.pods("shop")
        await lab.delete("Pod", "shop", "web-0")
        begin = now()
        await asyncio.sleep(1.9)
        (going,) = await lab.pods("shop")
        assert going["metadata"]["deletionTimestamp"]
        assert is_ready(going)

        async def is_replaced() -> bool:
            return pod["metadata"]["uid"] not in {each["metadata"]["uid"] for each in await lab.pods("shop")}

        assert await lab.until(is_replaced, 10)
        assert now() - begin < 2.1
        assert await lab.settled(10)

    in_lab(use)


def test_process_that_ignores_sigterm_is_killed_after_the_grace_period() -> None:
    """What does not end by itself is killed when the Pod's three seconds of grace are over."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload("StatefulSet", 1, SHUTDOWN_SECONDS="60"))
        assert await lab.settled(10)
        (pod,) = await lab.pods("shop")
        await lab.delete("Pod", "shop", "web-0")
        await asyncio.sleep(2.9)
        assert [each["metadata"]["uid"] for each in await lab.pods("shop")] == [pod["metadata"]["uid"]]
        await asyncio.sleep(0.3)
        assert pod["metadata"]["uid"] not in {each["metadata"]["uid"] for each in await lab.pods("shop")}

    in_lab(use)


def test_readiness_follows_what_the_process_says() -> None:
    """SIGUSR1 and SIGUSR2 make the Pod unready and ready, and the condition's time moves with its status only."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload(replicas=1))
        assert await lab.settled(10)
        (pod,) = await lab.pods("shop")
        await asyncio.sleep(5)
        lab.signal_pod("shop", name_of(pod), signal.SIGUSR2)
        await asyncio.sleep(0.1)
        assert await lab.pods("shop") == (pod,)
        lab.signal_pod("shop", name_of(pod), signal.SIGUSR1)
        await asyncio.sleep(0.1)
        (unready,) = await lab.pods("shop")
        assert not is_ready(unready)
        (before,), (after,) = pod["status"]["conditions"], unready["status"]["conditions"]
        assert after["lastTransitionTime"] > before["lastTransitionTime"]

    in_lab(use)


def test_pods_of_a_deleted_workload_go() -> None:
    """Nobody owns them any more, so the garbage collector deletes them."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload())
        assert await lab.settled(10)
        await lab.delete("Deployment", "shop", "web")
        assert await lab.settled(10)
        assert await lab.pods("shop") == ()

    in_lab(use)


def test_drained_node_is_empty_until_it_is_uncordoned() -> None:
    """Draining moves a node's Pods elsewhere and keeps new ones away; afterwards the node is used again."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload(replicas=3))
        assert await lab.settled(10)
        await lab.drain("node-b")
        assert await lab.settled(10)
        places = [pod["spec"]["nodeName"] for pod in await lab.pods("shop")]
        assert sorted(set(places)) == ["node-a", "node-c"]
        assert len(places) == 3
        await lab.uncordon("node-b")
        await lab.patch("Deployment", "shop", "web", {"spec": {"replicas": 4}})
        assert await lab.settled(10)
        assert [pod["spec"]["nodeName"] for pod in await lab.pods("shop")].count("node-b") == 1

    in_lab(use)


async def conditions_of(lab: Lab, node: str) -> tuple[str, set[str]]:
    found = await lab.store.get("Node", "", node)
    (ready,) = [each["status"] for each in found["status"]["conditions"] if each["type"] == "Ready"]
    return ready, {each["effect"] for each in found["spec"].get("taints") or ()}


def test_node_that_is_cut_off_counts_as_lost_and_its_pods_are_evicted_in_turn() -> None:
    """First the node is Unknown and tainted, its Pods not Ready, then they are deleted; none ends until it is back."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload("StatefulSet", 3))
        assert await lab.settled(20)
        (there,) = [pod for pod in await lab.pods("shop") if pod["spec"]["nodeName"] == "node-b"]

        async def again() -> Any:
            return await lab.store.get("Pod", "shop", name_of(there))

        await lab.cut("node-b")
        await asyncio.sleep(NOTICED_SECONDS - 0.1)
        assert await conditions_of(lab, "node-b") == ("True", set())
        assert is_ready(await again())
        await asyncio.sleep(0.2)
        assert await conditions_of(lab, "node-b") == ("Unknown", {"NoSchedule", "NoExecute"})
        assert not is_ready(await again())
        assert "deletionTimestamp" not in (await again())["metadata"]
        await asyncio.sleep(EVICTED_SECONDS)
        assert (await again())["metadata"]["deletionTimestamp"]
        await asyncio.sleep(60)
        assert (await again())["metadata"]["uid"] == there["metadata"]["uid"]
        await lab.restore("node-b")
        assert await conditions_of(lab, "node-b") == ("True", set())
        assert await lab.settled(20)
        assert (await again())["metadata"]["uid"] != there["metadata"]["uid"]
        assert is_ready(await again())

    in_lab(use)


def test_node_that_is_back_before_its_pods_are_evicted_has_them_ready_again() -> None:
    """A short cut costs readiness alone: the same Pods are Ready again, and nothing is deleted afterwards."""

    async def use(lab: Lab) -> None:
        await lab.apply(workload(replicas=3))
        assert await lab.settled(20)
        before = {pod["metadata"]["uid"] for pod in await lab.pods("shop")}
        await lab.cut("node-b")
        await asyncio.sleep(NOTICED_SECONDS + 0.1)
        assert [is_ready(pod) for pod in await lab.pods("shop")].count(False) == 1
        await lab.restore("node-b")
        await asyncio.sleep(EVICTED_SECONDS + 5)
        pods = await lab.pods("shop")
        assert {pod["metadata"]["uid"] for pod in pods} == before
        assert all(map(is_ready, pods))

    in_lab(use)


@pytest.mark.parametrize(
    ("toleration", "stays"),
    [
        ({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}, True),
        ({"operator": "Exists"}, True),
        ({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}, False),
        ({"key": UNREACHABLE, "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_pod_that_tolerates_the_loss_of_its_node_for_ever_stays(toleration: dict[str, Any], stays: bool) -> None:
    """Only a toleration of the very taint, without an end, keeps a Pod on a node that is lost."""
    assert tolerates_loss({"spec": {"tolerations": [toleration]}}) is stays


def test_pod_with_such_a_toleration_is_not_evicted() -> None:
    """On a lost node one Pod is deleted and the other, which bears it, is not."""

    async def use(lab: Lab) -> None:
        pods = workload("StatefulSet", 1)
        pods["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
        await lab.apply(pods)
        assert await lab.settled(20)
        (there,) = await lab.pods("shop")
        await lab.cut(there["spec"]["nodeName"])
        await asyncio.sleep(NOTICED_SECONDS + EVICTED_SECONDS + 5)
        (still,) = await lab.pods("shop")
        assert not is_ready(still)
        assert "deletionTimestamp" not in still["metadata"]

    in_lab(use)


def test_pod_that_names_no_addresses_is_given_those_of_its_routes() -> None:
    """A program that is not configured holds what the routes of its own namespace that select it claim."""

    async def use(lab: Lab) -> None:
        for name, namespace, app in (("mine", "shop", "web"), ("other", "shop", "db"), ("far", "bank", "web")):
            await lab.apply(
                {
                    "apiVersion": "networking.gke.io/v1",
                    "kind": "GKEIPRoute",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": {
                        "parentRefs": [{"name": "none"}],
                        "addresses": [{"type": "IPAddress", "value": f"192.0.2.{150 + len(name)}"}],
                        "podSelector": {"matchLabels": {"app": app}},
                    },
                }
            )
        await lab.apply(workload(replicas=1))
        await asyncio.sleep(1)
        (pod,) = await lab.pods("shop")
        assert isinstance(lab.site, VirtualSite)
        assert lab.site.addresses_in(f"shop/{name_of(pod)}") == {"192.0.2.154"}

    in_lab(use)


def test_namespace_gets_the_label_of_its_name() -> None:
    """As an API server does: kubernetes.io/metadata.name selects a namespace that nobody labelled."""

    async def use(lab: Lab) -> None:
        await lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}})
        found = await lab.store.get("Namespace", "", "shop")
        assert found["metadata"]["labels"] == {"a": "b", "kubernetes.io/metadata.name": "shop"}

    in_lab(use)
