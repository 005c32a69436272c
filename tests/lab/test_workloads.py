"""The stand-in workload controllers: Pods come and go in the order in which Kubernetes' own would have them."""

import copy
import itertools
from typing import Any

import pytest

from persistip.lab.workloads import Change, plan_workload, pods_to_evict, revision, select_node, suffixes

clock = itertools.count(1)


def workload(kind: str, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "echo", "image": "one"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", "uid": f"uid-{kind}"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def updated(owner: dict[str, Any]) -> dict[str, Any]:
    new = copy.deepcopy(owner)
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "two"
    return new


def alive(pod: Any, *, ready: bool = True) -> dict[str, Any]:
    """The Pod as the kubelet would have it a moment later."""
    made = copy.deepcopy(dict(pod))
    made["metadata"]["uid"] = f"uid-{next(clock)}"
    made["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{next(clock):06}Z"
    made["spec"]["nodeName"] = "node-a"
    made["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
    return made


def terminating(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


def plan(owner: dict[str, Any], pods: list[dict[str, Any]]) -> Change:
    return plan_workload(owner, pods, suffixes(1))


def names(pods: Any) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


def steps(owner: dict[str, Any], pods: list[dict[str, Any]], *, gone_at_once: bool = True) -> list[str]:
    """Run to the end: what was made (+) and deleted (-), step by step, everything made being ready at once."""
    story = []
    for _ in range(50):
        change = plan(owner, pods)
        if change == Change():
            return story
        story.append(" ".join([f"+{name}" for name in names(change.create)] + [f"-{n}" for n in names(change.delete)]))
        pods[:] = [pod for pod in pods if pod not in change.delete] + [alive(pod) for pod in change.create]
    raise AssertionError(f"no end: {story}")


def test_stateful_set_starts_one_after_the_other() -> None:
    """Each ordinal waits until the one before is running and ready."""
    owner = workload("StatefulSet", replicas=3)
    first = alive(plan(owner, []).create[0], ready=False)
    assert first["metadata"]["name"] == "web-0"
    assert plan(owner, [first]) == Change()
    assert steps(owner, []) == ["+web-0", "+web-1", "+web-2"]


def test_parallel_stateful_set_starts_at_once() -> None:
    """With podManagementPolicy Parallel nobody waits."""
    assert steps(workload("StatefulSet", replicas=3, podManagementPolicy="Parallel"), []) == ["+web-0 +web-1 +web-2"]


def test_stateful_set_shrinks_and_rolls_from_the_highest() -> None:
    """Surplus ordinals and old revisions go from the top, one at a time, each replacement ready before the next."""
    owner = workload("StatefulSet", replicas=3)
    pods: list[dict[str, Any]] = []
    steps(owner, pods)
    owner["spec"]["replicas"] = 2
    assert steps(owner, pods) == ["-web-2"]
    assert steps(updated(owner), pods) == ["-web-1", "+web-1", "-web-0", "+web-0"]


def test_stateful_set_waits_for_the_terminating_pod_of_the_same_name() -> None:
    """A name cannot be given out twice, so the replacement comes when the old Pod is gone."""
    owner = workload("StatefulSet", replicas=1)
    pod = alive(plan(owner, []).create[0])
    assert plan(owner, [terminating(pod)]) == Change()
    assert names(plan(owner, []).create) == ["web-0"]


def test_stateful_set_respects_partition_and_on_delete() -> None:
    """Ordinals below the partition keep their revision, and OnDelete keeps all of them."""
    owner = workload("StatefulSet", replicas=2, updateStrategy={"rollingUpdate": {"partition": 1}})
    pods: list[dict[str, Any]] = []
    steps(owner, pods)
    assert steps(updated(owner), pods) == ["-web-1", "+web-1"]
    owner["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert steps(updated(owner), pods) == []


def test_failed_pod_is_replaced() -> None:
    """A Pod that ended is deleted, then made anew."""
    owner = workload("StatefulSet", replicas=1)
    pod = alive(plan(owner, []).create[0])
    pod["status"]["phase"] = "Failed"
    assert names(plan(owner, [pod]).delete) == ["web-0"]


def test_deployment_rolls_with_surge_first() -> None:
    """With one replica the new Pod is ready before the old one is deleted (25 % up is one, down is none)."""
    owner = workload("Deployment", replicas=1)
    pods: list[dict[str, Any]] = []
    assert len(steps(owner, pods)) == 1
    new = updated(owner)
    change = plan(new, pods)
    assert len(change.create) == 1
    assert change.delete == ()
    pods.append(alive(change.create[0], ready=False))
    assert plan(new, pods) == Change()
    pods[-1] = alive(change.create[0])
    assert plan(new, pods).delete == (pods[0],)


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1), ("50%", "50%"), (0, 0), (2, 2)])
def test_deployment_never_leaves_its_limits(surge: Any, unavailable: Any) -> None:
    """At every step of a rolling update there are at most replicas + surge Pods and at least the available ones."""
    limits = {"maxSurge": surge, "maxUnavailable": unavailable}
    owner = workload("Deployment", replicas=4, strategy={"rollingUpdate": limits})
    pods: list[dict[str, Any]] = []
    steps(owner, pods)
    new = updated(owner)
    most = 4 + (2 if surge in ("50%", 2) else int(surge))
    least = 4 - (2 if unavailable in ("50%", 2) else max(int(unavailable), 1 if surge == 0 else 0))
    for _ in range(40):
        change = plan(new, pods)
        pods = [pod for pod in pods if pod not in change.delete]
        assert sum(1 for pod in pods if pod["status"]["conditions"][0]["status"] == "True") >= least
        unready = [alive(pod, ready=False) for pod in change.create]
        assert len(pods) + len(unready) <= most
        # What was made a step ago is ready by now; what was made in this step is not.
        pods = [alive(pod) if pod["status"]["conditions"][0]["status"] == "False" else pod for pod in pods] + unready
    assert plan(new, pods) == Change()
    assert {pod["metadata"]["labels"]["pod-template-hash"] for pod in pods} == {revision(new)}
    assert len(pods) == 4


def test_deployment_replaces_a_terminating_pod_at_once() -> None:
    """A drained Pod's replacement does not wait for its end."""
    owner = workload("Deployment", replicas=1)
    pod = alive(plan(owner, []).create[0])
    assert len(plan(owner, [terminating(pod)]).create) == 1


def test_deployment_scales_down_the_useless_and_the_young() -> None:
    """Pods without a node go first, then those not ready, then the younger."""
    owner = workload("Deployment", replicas=4)
    pods: list[dict[str, Any]] = []
    steps(owner, pods)
    pods[0]["status"]["conditions"][0]["status"] = "False"
    del pods[1]["spec"]["nodeName"]
    owner["spec"]["replicas"] = 1
    assert plan(owner, pods).delete == (pods[1], pods[0], pods[3])


def test_recreate_waits_until_all_old_pods_are_gone() -> None:
    """With the Recreate strategy no new Pod is made beside an old one, not even a terminating one."""
    owner = workload("Deployment", replicas=2, strategy={"type": "Recreate"})
    pods: list[dict[str, Any]] = []
    steps(owner, pods)
    new = updated(owner)
    assert len(plan(new, pods).delete) == 2
    assert plan(new, [terminating(pods[0])]) == Change()
    assert len(plan(new, []).create) == 2


def test_deleted_workload_takes_its_pods_along() -> None:
    """Garbage collection: the owner goes, and its Pods with it."""
    owner = workload("StatefulSet", replicas=2)
    pods: list[dict[str, Any]] = []
    steps(owner, pods)
    assert len(plan(terminating(owner), pods).delete) == 2


def test_node_is_schedulable_selected_and_least_loaded() -> None:
    """Cordoned, unready and unselected nodes are passed over; siblings are spread before anything else."""
    owner = workload("StatefulSet", replicas=2)
    nodes = [{"metadata": {"name": f"node-{x}", "labels": {"zone": x}}, "spec": {}} for x in "abc"]
    pod = plan(owner, []).create[0]
    placed = [alive(pod)]
    assert select_node(pod, nodes, placed) == "node-b"
    nodes[1]["spec"] = {"unschedulable": True}
    assert select_node(pod, nodes, placed) == "node-c"
    nodes[2]["status"] = {"conditions": [{"type": "Ready", "status": "False"}]}
    assert select_node(pod, nodes, placed) == "node-a"
    assert select_node({**pod, "spec": {"nodeSelector": {"zone": "b"}}}, nodes, placed) is None
    assert pods_to_evict("node-a", [*placed, terminating(placed[0])]) == tuple(placed)
