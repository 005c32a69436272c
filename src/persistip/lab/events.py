"""
Which events are there?

Each is a function of a Scene that does nothing where it does not apply: the manifests may be the user's own. All it may
do is write manifests, signal processes and cut links.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

from persistip.lab.cluster import Manifest
from persistip.lab.lifecycle import NOTICED_SECONDS
from persistip.lab.measure import Event
from persistip.lab.scene import Expected, Scene, Subject
from persistip.model.route import ReactionModeName

Act = Callable[[Scene], Awaitable[None]]

_RESTARTED = "kubectl.kubernetes.io/restartedAt"
_RIVAL, _UNREADABLE, _FAULTY = "rival", "unreadable", "faulty"


def has_standby(subject: Subject) -> bool:
    """Another Pod could take over at once."""
    return subject.has_standby


def is_alone(subject: Subject) -> bool:
    """A workload makes the Pod anew, and until then nobody is there."""
    return subject.workload is not None and not subject.has_standby


def waits_for_readiness(subject: Subject) -> bool:
    """Alone, and only a Pod that is Ready may hold its addresses."""
    return is_alone(subject) and subject.waits_for_readiness


# --- Pods ---------------------------------------------------------------------------------------------------


async def process_killed(scene: Scene) -> None:
    """A process that dies says nothing to anybody: kubelet sees it, and the standby takes over, if there is one."""
    subject = await scene.choose("process-killed", has_standby) or await scene.choose("process-killed", is_alone)
    if subject is None:
        return
    other = subject.has_standby
    await scene.happen(
        Event(
            name="process-killed",
            sentence=f"kill -9 of the process of {subject.pod}, which holds {subject.addresses}"
            + ("" if other else "; it is started again"),
            standby=other,
        ),
        subject.standing,
        lambda: _signal(scene, subject, signal.SIGKILL),
        Expected.OTHER_POD if other else Expected.SAME_POD,
        done=(lambda: scene.is_elsewhere(subject)) if other else (lambda: scene.is_restarted(subject)),
    )


async def pod_deleted(scene: Scene) -> None:
    """The holder is deleted; where a standby is, it takes over while the old one still serves."""
    subject = await scene.choose("pod-deleted", has_standby)
    if subject is None:
        return
    await scene.new_second(subject)
    await scene.happen(
        Event(
            name="pod-deleted",
            sentence=f"kubectl delete pod {subject.pod}: it holds {subject.addresses}, and another Pod stands by",
            planned=True,
        ),
        subject.standing,
        lambda: scene.lab.delete("Pod", subject.namespace, subject.pod),
        Expected.OTHER_POD,
    )


async def lone_pod_deleted(scene: Scene) -> None:
    """Without a standby the address waits for the Pod that the workload makes in its place."""
    for mode in ReactionModeName:
        subject = await scene.choose(
            f"lone-pod-deleted/{mode}",
            lambda each, mode=mode: is_alone(each) and each.standing.route.reaction_mode == mode,  # type: ignore[misc]
        )
        if subject is not None:
            await _delete_lone_pod(scene, subject)


async def _delete_lone_pod(scene: Scene, subject: Subject) -> None:
    await scene.new_second(subject)
    await scene.happen(
        Event(
            name="pod-deleted",
            sentence=f"kubectl delete pod {subject.pod}: it holds {subject.addresses}, and no other Pod could; "
            f"its {subject.kind} makes another",
            standby=False,
        ),
        subject.standing,
        lambda: scene.lab.delete("Pod", subject.namespace, subject.pod),
        Expected.OTHER_POD,
        done=lambda: scene.is_elsewhere(subject),
    )


async def pod_unready(scene: Scene) -> None:
    """A Pod says itself that it is not well; well again, and still the newest, it takes the addresses back."""
    subject = await scene.choose("pod-unready", has_standby) or await scene.choose("pod-unready", waits_for_readiness)
    if subject is None:
        return
    other = subject.has_standby
    await scene.happen(
        Event(
            name="pod-unready",
            sentence=f"the readiness probe of {subject.pod} fails; it holds {subject.addresses}",
            standby=other,
        ),
        subject.standing,
        lambda: _signal(scene, subject, signal.SIGUSR1),
        Expected.OTHER_POD if other else Expected.NOBODY,
    )
    returns = not other or scene.will_return(subject)
    words = ", and takes its addresses back once it has been so for ten seconds" if other and returns else ""
    await scene.happen(
        Event(
            name="pod-ready",
            sentence=f"{subject.pod} is ready again{words}",
            planned=other,
            standby=other,
            is_delayed=bool(words),
        ),
        subject.standing,
        lambda: _signal(scene, subject, signal.SIGUSR2),
        Expected.OTHER_POD if returns else Expected.UNDISTURBED,
        done=(lambda: scene.is_with(subject)) if returns else None,
    )


async def rolling_update(scene: Scene) -> None:
    """Where a new Pod is Ready before the old one goes, nothing is lost."""
    subject = await scene.choose("rolling-update", lambda each: each.surges) or await scene.choose(
        "rolling-update", waits_for_readiness
    )
    if subject is None or subject.workload is None:
        return
    name = subject.workload["metadata"]["name"]
    await scene.new_second(subject)
    await scene.happen(
        Event(
            name="rolling-update",
            sentence=f"kubectl rollout restart {subject.kind.lower()} {name}: "
            "its Pods are replaced, one after the other",
            planned=subject.surges,
            standby=subject.surges,
        ),
        subject.standing,
        lambda: _restart(scene, subject),
        Expected.OTHER_POD,
    )


async def newer_pod(scene: Scene) -> None:
    """The newest Pod holds the addresses: one more Pod takes them, one Pod less gives them back."""
    subject = await scene.choose("pod-added", lambda each: each.covers_workload)
    if subject is None or subject.workload is None:
        return
    name, replicas = subject.workload["metadata"]["name"], subject.workload["spec"].get("replicas", 1)
    for event, count in (("pod-added", replicas + 1), ("pod-removed", replicas)):
        await scene.new_second(subject)
        await scene.happen(
            Event(
                name=event,
                sentence=f"kubectl scale {subject.kind.lower()} {name} --replicas={count}: "
                + ("a newer Pod comes" if count > replicas else "the newest Pod goes"),
                planned=True,
            ),
            subject.standing,
            lambda count=count: scene.lab.patch(  # type: ignore[misc]
                subject.kind, subject.namespace, name, {"spec": {"replicas": count}}
            ),
            Expected.OTHER_POD,
        )


# --- nodes and agents ---------------------------------------------------------------------------------------


async def node_drained(scene: Scene) -> None:
    """A node is emptied for maintenance, then used again."""
    subject = await scene.choose("node-drained", has_standby) or await scene.choose("node-drained", is_alone)
    if subject is None:
        return
    await scene.new_second(subject)
    await scene.happen(
        Event(
            name="node-drained",
            sentence=f"kubectl drain {subject.node}, where {subject.pod} holds {subject.addresses}",
            planned=subject.has_standby,
            standby=subject.has_standby,
        ),
        subject.standing,
        lambda: scene.lab.drain(subject.node),
        Expected.OTHER_POD,
    )
    await scene.lab.uncordon(subject.node)


async def agent_killed(scene: Scene) -> None:
    """Traffic does not need the agent; started again, it takes up what it finds."""
    subject = await scene.choose("agent-killed", lambda _: True)
    if subject is None:
        return
    await scene.happen(
        Event(
            name="agent-killed",
            sentence=f"kill -9 of the agent of {subject.node}, which carries {subject.addresses}; then a new one",
        ),
        subject.standing,
        lambda: _kill_agent_and_start(scene, subject.node),
        Expected.UNDISTURBED,
    )


async def moved_without_agent(scene: Scene) -> None:
    """A move while the old node's agent is dead: the new node serves, the old one lets go when its agent is back."""
    subject = await scene.choose("agent-dead-move", has_standby)
    if subject is None:
        return
    await scene.new_second(subject)
    scene.lab.signal_agent(subject.node, signal.SIGKILL)

    async def act() -> None:
        await scene.lab.delete("Pod", subject.namespace, subject.pod)
        await scene.lab.until(lambda: scene.is_elsewhere(subject, confirmed=True), scene.lab.options.settle_seconds)
        await scene.lab.start_agent(subject.node)

    await scene.happen(
        Event(
            name="agent-killed",
            sentence=f"the agent of {subject.node} is dead while {subject.pod} there is deleted; "
            "it comes back after the move",
            planned=True,
        ),
        subject.standing,
        act,
        Expected.OTHER_POD,
    )


async def link_cut(scene: Scene) -> None:
    """
    A node is cut off: Kubernetes finds out, the standby takes over, the node's Pods are evicted.

    The node cannot let go while it hears nothing. Back again it answers, and may repeat its announcement, until its
    agent has heard of the move: so long some packets may come to the old Pod, or to nobody.
    """
    subject = await scene.choose("link-cut", lambda each: each.has_standby_elsewhere)
    if subject is None:
        return
    await scene.new_second(subject)
    node = subject.node
    await scene.happen(
        Event(
            name="link-cut",
            sentence=f"the cable of {node} is pulled, where {subject.pod} holds {subject.addresses}; here a node is "
            f"missed after {NOTICED_SECONDS:g} s instead of 40, and then its Pods are evicted",
            standby=False,
        ),
        subject.standing,
        lambda: scene.lab.cut(node),
        Expected.OTHER_POD,
        done=lambda: scene.is_given_up(subject),
    )
    await scene.happen(
        Event(
            name="link-restored",
            sentence=f"the cable of {node} is plugged in again; until its agent hears of the move, two nodes answer",
            standby=False,
        ),
        subject.standing,
        lambda: scene.lab.restore(node),
        Expected.SAME_POD,
    )


# --- permissions --------------------------------------------------------------------------------------------


async def namespace_unlabelled(scene: Scene) -> None:
    """The label that admits a namespace is live: without it its addresses are withdrawn."""
    subject = await scene.choose("namespace-unlabelled", lambda _: True)
    labels = await scene.admitting_labels(subject) if subject is not None else {}
    if subject is None or not labels:
        return
    namespace = subject.namespace
    shown = ", ".join(f"{key}={value}" for key, value in labels.items())
    await scene.happen(
        Event(
            name="namespace-unlabelled",
            sentence=f"namespace {namespace} loses its label {shown}, by which the listener admitted it",
        ),
        subject.standing,
        lambda: scene.lab.patch("Namespace", "", namespace, {"metadata": {"labels": dict.fromkeys(labels)}}),
        Expected.NOBODY,
    )
    await scene.happen(
        Event(name="namespace-labelled", sentence=f"namespace {namespace} has its label {shown} again", standby=False),
        subject.standing,
        lambda: scene.lab.patch("Namespace", "", namespace, {"metadata": {"labels": labels}}),
        Expected.OTHER_POD,
    )


async def address_conflict(scene: Scene) -> None:
    """Who claims what another holds gets nothing, disturbs nothing, and is told who won."""
    subject = await scene.choose("address-conflict", lambda _: True)
    if subject is None:
        return
    await scene.new_second(subject)
    body = await scene.lab.store.get("GKEIPRoute", subject.namespace, subject.standing.route.meta.name)
    rival = {**_beside(body, f"{body['metadata']['name']}-{_RIVAL}"), "spec": body["spec"]}
    await scene.happen(
        Event(
            name="address-conflict",
            sentence=f"another route, {rival['metadata']['name']}, claims {subject.addresses}",
        ),
        subject.standing,
        lambda: scene.lab.apply(rival),
        Expected.UNDISTURBED,
        done=lambda: scene.is_refused(rival["metadata"], "AddressConflict", subject.standing.path),
    )
    await scene.lab.delete("GKEIPRoute", subject.namespace, rival["metadata"]["name"])


async def broken_object(scene: Scene) -> None:
    """
    What nobody can read, and what is in itself wrong, stands beside what works, and touches it in nothing.

    A route that is no GKEIPRoute at all, as a CRD without its schema lets through; one with several faults; a Gateway
    that cannot be read. All three speak of the very addresses that are held.
    """
    subject = await scene.choose("broken-object", lambda _: True)
    if subject is None:
        return
    body = await scene.lab.store.get("GKEIPRoute", subject.namespace, subject.standing.route.meta.name)
    spec, name = body["spec"], body["metadata"]["name"]
    wrong = [{"type": "IPAddress", "value": "192.0.2.999"}, {"type": "Telephone", "value": "1"}, *spec["addresses"]]
    broken = [
        {**_beside(body, f"{name}-{_UNREADABLE}"), "spec": {**spec, "addresses": subject.addresses}},
        {
            **_beside(body, f"{name}-{_FAULTY}"),
            "spec": {**spec, "addresses": wrong, "parentRefs": [{"name": "nowhere"}]},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"namespace": subject.namespace, "name": f"{name}-{_UNREADABLE}"},
            "spec": {"gatewayClassName": 7, "listeners": "all"},
        },
    ]

    async def act() -> None:
        for each in broken:
            await scene.lab.apply(each)

    faulty = broken[1]["metadata"]
    await scene.happen(
        Event(
            name="broken-object",
            sentence=f"beside {subject.standing.path} come a route and a Gateway {name}-{_UNREADABLE} that nobody can "
            f"read, and a route {name}-{_FAULTY} full of faults",
        ),
        subject.standing,
        act,
        Expected.UNDISTURBED,
        done=lambda: scene.is_refused(faulty, "NoMatchingParent", "192.0.2.999"),
    )
    for each in broken:
        await scene.lab.delete(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])


# --- how ----------------------------------------------------------------------------------------------------


def _beside(body: Manifest, name: str) -> dict[str, Any]:
    """Another object of the same kind in the same namespace, without a spec."""
    metadata = {"namespace": body["metadata"]["namespace"], "name": name}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata}


async def _signal(scene: Scene, subject: Subject, number: signal.Signals) -> None:
    scene.lab.signal_pod(subject.namespace, subject.pod, number)


async def _restart(scene: Scene, subject: Subject) -> None:
    """What ``kubectl rollout restart`` writes."""
    if subject.workload is not None:
        annotations = {_RESTARTED: str(scene.lab.store.revision)}
        patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        await scene.lab.patch(subject.kind, subject.namespace, subject.workload["metadata"]["name"], patch)


async def _kill_agent_and_start(scene: Scene, node: str) -> None:
    scene.lab.signal_agent(node, signal.SIGKILL)
    await scene.pause()
    await scene.lab.start_agent(node)
    await scene.pause()


EVENTS: tuple[tuple[str, Act], ...] = (
    ("process-killed", process_killed),
    ("pod-deleted", pod_deleted),
    ("pod-deleted", lone_pod_deleted),
    ("pod-unready", pod_unready),
    ("rolling-update", rolling_update),
    ("pod-added", newer_pod),
    ("node-drained", node_drained),
    ("agent-killed", agent_killed),
    ("agent-killed", moved_without_agent),
    ("link-cut", link_cut),
    ("namespace-unlabelled", namespace_unlabelled),
    ("address-conflict", address_conflict),
    ("broken-object", broken_object),
)
