"""
Which Pods should there be, and on which node?

In: a StatefulSet or Deployment (Kubernetes-shaped dicts), the Pods and Nodes there are.
Out: the Pods to create and to delete now; the node for a Pod.
The rules are those of Kubernetes' own controllers, as far as they decide when a Pod comes and goes: ordinals and their
order, template revisions, surge and unavailability, cordoned nodes. Pure: the lab calls again after every change, and
an empty answer means that nothing is to be done until something else happens.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

Manifest = Mapping[str, Any]

REVISION_LABEL = {"StatefulSet": "controller-revision-hash", "Deployment": "pod-template-hash"}
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own choice for generated names: no vowels, hence no words."""


@attrs.frozen
class Change:
    """What a workload's controller does next: Pods without node or status to create, Pods to delete."""

    create: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()


def plan_workload(workload: Manifest, pods: Iterable[Manifest], suffix: Callable[[], str]) -> Change:
    """
    Bring the Pods that *workload* owns one step nearer to its spec.

    *suffix* makes the random end of a Deployment's Pod names. A workload that is being deleted deletes its Pods.
    Raises ValueError for a kind that is neither StatefulSet nor Deployment.
    """
    owned = [pod for pod in pods if _owner_uid(pod) == workload["metadata"]["uid"]]
    if workload["metadata"].get("deletionTimestamp"):
        return Change(delete=tuple(pod for pod in owned if not is_terminating(pod)))
    match workload["kind"]:
        case "StatefulSet":
            return _plan_stateful_set(workload, owned)
        case "Deployment":
            return _plan_deployment(workload, owned, suffix)
        case kind:
            raise ValueError(f"no controller here for {kind}")


# --- StatefulSet --------------------------------------------------------------------------------------------


def _plan_stateful_set(workload: Manifest, owned: Sequence[Manifest]) -> Change:
    """
    Make missing ordinals upwards, remove surplus ones downwards, then replace old revisions downwards.

    With OrderedReady (the default) one step at a time, and none while an earlier Pod is not running and ready.
    """
    spec = workload["spec"]
    start = spec.get("ordinals", {}).get("start", 0)
    wanted = range(start, start + spec.get("replicas", 1))
    parallel = spec.get("podManagementPolicy", "OrderedReady") == "Parallel"
    by_ordinal = {ordinal(pod): pod for pod in owned}
    create: list[Manifest] = []
    delete: list[Manifest] = []
    for number in wanted:
        pod = by_ordinal.get(number)
        if pod is None:
            create.append(_stateful_pod(workload, number))
        elif is_finished(pod) and not is_terminating(pod):
            delete.append(pod)
        elif is_ready(pod) and not is_terminating(pod):
            continue
        if not parallel:
            return Change(create=tuple(create), delete=tuple(delete))
    surplus = sorted((number for number in by_ordinal if number not in wanted), reverse=True)
    for number in surplus:
        if not is_terminating(by_ordinal[number]):
            delete.append(by_ordinal[number])
        if not parallel:
            return Change(delete=tuple(delete))
    if create or delete:
        return Change(create=tuple(create), delete=tuple(delete))
    return _replace_old_revision(workload, wanted, by_ordinal)


def _replace_old_revision(workload: Manifest, wanted: range, by_ordinal: Mapping[int, Manifest]) -> Change:
    strategy = workload["spec"].get("updateStrategy", {})
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return Change()
    partition = strategy.get("rollingUpdate", {}).get("partition", 0)
    for number in reversed(wanted):
        pod = by_ordinal[number]
        if number < partition:
            break
        if is_terminating(pod):
            break
        if _revision_of(pod, "StatefulSet") != revision(workload):
            return Change(delete=(pod,))
        if not is_ready(pod):
            break
    return Change()


def ordinal(pod: Manifest) -> int:
    """The number at the end of a StatefulSet's Pod name."""
    return int(pod["metadata"]["name"].rpartition("-")[2])


def _stateful_pod(workload: Manifest, number: int) -> Manifest:
    name = f"{workload['metadata']['name']}-{number}"
    labels = {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(number)}
    return _pod(workload, name, labels)


# --- Deployment ---------------------------------------------------------------------------------------------


def _plan_deployment(workload: Manifest, owned: Sequence[Manifest], suffix: Callable[[], str]) -> Change:
    """
    Scale the new revision up within maxSurge, and old ones down within maxUnavailable.

    Terminating Pods do not count, as in Kubernetes: a replacement is made before the old one is gone.
    """
    spec = workload["spec"]
    replicas = spec.get("replicas", 1)
    alive = [pod for pod in owned if not is_terminating(pod) and not is_finished(pod)]
    delete = [pod for pod in owned if is_finished(pod) and not is_terminating(pod)]
    new = [pod for pod in alive if _revision_of(pod, "Deployment") == revision(workload)]
    old = [pod for pod in alive if _revision_of(pod, "Deployment") != revision(workload)]
    strategy = spec.get("strategy", {})
    if strategy.get("type", "RollingUpdate") == "Recreate":
        if any(_revision_of(pod, "Deployment") != revision(workload) for pod in owned):
            return Change(delete=(*delete, *old))
        surge, unavailable = 0, replicas
    else:
        surge, unavailable = _surge_and_unavailable(strategy.get("rollingUpdate", {}), replicas)

    missing = min(replicas - len(new), replicas + surge - len(alive))
    create = [_deployment_pod(workload, suffix()) for _ in range(missing)]
    delete += _first_to_go(new)[: max(0, len(new) - replicas)]
    # Old Pods that serve nobody go first: losing them takes nothing away, as long as the new ones come.
    floor = replicas - unavailable
    budget = max(0, len(alive) - floor - sum(1 for pod in new if not is_ready(pod)))
    sick = [pod for pod in old if not is_ready(pod)][:budget]
    available = sum(1 for pod in alive if is_ready(pod))
    healthy = [pod for pod in _first_to_go(old) if is_ready(pod)][: max(0, min(available - floor, budget - len(sick)))]
    return Change(create=tuple(create), delete=(*delete, *sick, *healthy))


def _surge_and_unavailable(limits: Manifest, replicas: int) -> tuple[int, int]:
    surge = _count(limits.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _count(limits.get("maxUnavailable", "25%"), replicas, up=False)
    # Both zero would stand still for ever; Kubernetes then allows one to be missing.
    return surge, unavailable if surge or unavailable else 1


def _count(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.removesuffix("%")) * replicas
    return -(-share // 100) if up else share // 100


def _first_to_go(pods: Iterable[Manifest]) -> list[Manifest]:
    """Without a node, then not ready, then the younger: the order in which a ReplicaSet gives Pods up."""
    by_age = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True)
    return sorted(by_age, key=lambda pod: (bool(pod["spec"].get("nodeName")), is_ready(pod)))


def _deployment_pod(workload: Manifest, suffix: str) -> Manifest:
    return _pod(workload, f"{workload['metadata']['name']}-{revision(workload)}-{suffix}", {})


# --- both ---------------------------------------------------------------------------------------------------


def revision(workload: Manifest) -> str:
    """A name for the Pod template: the same template, the same revision."""
    text = json.dumps(workload["spec"]["template"], sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:9])


def _revision_of(pod: Manifest, kind: str) -> str | None:
    found: str | None = pod["metadata"].get("labels", {}).get(REVISION_LABEL[kind])
    return found


def _owner_uid(pod: Manifest) -> str | None:
    for owner in pod["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            uid: str = owner["uid"]
            return uid
    return None


def _pod(workload: Manifest, name: str, labels: Mapping[str, str]) -> Manifest:
    template = workload["spec"]["template"]
    metadata = workload["metadata"]
    kind = workload["kind"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template.get("metadata", {}),
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {
                **template.get("metadata", {}).get("labels", {}),
                **labels,
                REVISION_LABEL[kind]: revision(workload),
            },
            "ownerReferences": [
                {
                    "apiVersion": workload["apiVersion"],
                    "kind": kind,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": dict(template["spec"]),
    }


def is_ready(pod: Manifest) -> bool:
    """Running, and its condition Ready is True."""
    status = pod.get("status", {})
    conditions = status.get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return status.get("phase") == "Running" and ready


def is_terminating(pod: Manifest) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_finished(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


# --- nodes --------------------------------------------------------------------------------------------------


def select_node(pod: Manifest, nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> str | None:
    """
    The node for *pod*: schedulable, Ready, selected; of these the one with fewest siblings, then Pods, then by name.

    None: the Pod waits, as a Pending one does.
    """
    placed = [each for each in pods if each["spec"].get("nodeName") and not is_finished(each)]
    owner = _owner_uid(pod)

    def load(name: str) -> tuple[int, int, str]:
        here = [each for each in placed if each["spec"]["nodeName"] == name]
        return sum(1 for each in here if owner and _owner_uid(each) == owner), len(here), name

    fitting = [node["metadata"]["name"] for node in nodes if _fits(pod, node)]
    return min(fitting, key=load, default=None)


def _fits(pod: Manifest, node: Manifest) -> bool:
    labels = node["metadata"].get("labels", {})
    selector = pod["spec"].get("nodeSelector", {})
    conditions = node.get("status", {}).get("conditions", ())
    ready = all(each["status"] == "True" for each in conditions if each["type"] == "Ready")
    selected = all(labels.get(key) == value for key, value in selector.items())
    return ready and selected and not node["spec"].get("unschedulable")


def pods_to_evict(node: str, pods: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """What draining *node* evicts: every Pod there that is neither terminating, finished, nor a DaemonSet's."""
    return tuple(
        pod
        for pod in pods
        if pod["spec"].get("nodeName") == node
        and not is_terminating(pod)
        and not is_finished(pod)
        and not any(owner.get("kind") == "DaemonSet" for owner in pod["metadata"].get("ownerReferences", ()))
    )


def suffixes(seed: int) -> Callable[[], str]:
    """Five-character ends of names, the same ones in the same order for the same seed."""
    numbers = itertools.count()

    def following() -> str:
        digest = hashlib.sha256(f"{seed}/{next(numbers)}".encode()).digest()
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:5])

    return following
