"""
A Pod changes: when does the first packet come through the new holder?

    floor   a Pod's status is patched ─> a watch has it; a move is two such hops
    move    a Pod loses the label that its route selects ─> controller ─> attachment ─> agent ─> packet at the client

In turns, in one run. Out: a table of milliseconds, each from the instant at which the API server had the change.
"""

import time
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Any

from realcluster.client import PORT
from realcluster.extras import mover
from realcluster.journal import is_programmed
from realcluster.objects import is_ready
from realcluster.stage import MERGE, NAMESPACE, Stage

ROUTE, ADDRESS = "mover", "192.0.2.157"
NODES = ("n1", "n2")
STRATEGIC = "application/strategic-merge-patch+json"
FLOW_SECONDS, PAUSE_SECONDS = 5.0, 0.05
STEPS = ("floor: one patch until a watch has it", "the same twice", "decided", "first packet", "confirmed by the node")

Manifest = Mapping[str, Any]


def measure(stage: Stage, count: int) -> str:
    """Move an address so many times, and return the table."""
    manifests = mover(NAMESPACE, NODES, ADDRESS)
    stage.api.kubectl("apply", "--filename=-", stdin=manifests)
    try:
        stage.cluster.until(lambda: stage.is_held(ROUTE), "the mover to be held")
        stage.cluster.await_pods(NAMESPACE, f"app={ROUTE}", len(NODES))
        stage.await_answer(ROUTE)
        rows = [_move(stage, index) for index in range(count)]
    finally:
        stage.api.kubectl("delete", "--wait=true", "--filename=-", stdin=manifests)
    lines = ["| milliseconds | p50 | p99 |", "|---|---|---|"]
    for index, step in enumerate(STEPS):
        cuts = quantiles((row[index] for row in rows), n=100, method="inclusive")
        lines.append(f"| {step} | {cuts[49]:.1f} | {cuts[98]:.1f} |")
    return "\n".join(lines)


def _patch(stage: Stage, pod: str, change: Manifest, *, part: str = "", kind: str = MERGE) -> tuple[int, int, int]:
    """Patch a Pod; return when that was sent, when it was answered, and when a watch had it."""
    sent = time.monotonic_ns()
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}{part}"
    version = stage.api.must("PATCH", path, change, content_type=kind)["metadata"]["resourceVersion"]
    answered = time.monotonic_ns()
    heard: int = stage.cluster.until(lambda: stage.journal.heard("pods", resourceVersion=version), "a watch to have it")
    return sent, answered, heard


def _move(stage: Stage, index: int) -> Sequence[float]:
    holder = stage.holder(ROUTE)
    name, uid = holder["metadata"]["name"], holder["metadata"]["uid"]
    (other,) = (pod for pod in stage.cluster.list_pods(NAMESPACE, f"app={ROUTE}") if pod["metadata"]["uid"] != uid)
    assert is_ready(other)
    told = {"type": "example.com/floor", "status": str(bool(index % 2)), "message": str(index)}
    sent, _, heard = _patch(
        stage, other["metadata"]["name"], {"status": {"conditions": [told]}}, part="/status", kind=STRATEGIC
    )
    hop = heard - sent

    started = stage.probe.start(ADDRESS, PORT, settle_seconds=FLOW_SECONDS)
    assert started["ok"], started
    _, answered, heard = _patch(stage, name, {"metadata": {"labels": {"may-hold": None}}})
    known, new = min(answered, heard), other["metadata"]["uid"]

    def instants() -> tuple[int, int] | None:
        found = [
            (at, is_programmed(each))
            for at, each in stage.journal.since("attachments", known - hop)
            if each["spec"]["routeRef"]["name"] == ROUTE and each["spec"].get("pod", {}).get("uid") == new
        ]
        confirmed = [at for at, is_done in found if is_done]
        return (found[0][0], confirmed[0]) if confirmed else None

    decided, confirmed = stage.cluster.until(instants, f"the move to {other['metadata']['name']}")
    time.sleep(PAUSE_SECONDS)
    seen = stage.probe.stop()
    first = min(
        at for flow in ("ingress", "egress") for who, at in seen[flow]["first_ns"].items() if who.endswith(f"@{new}")
    )
    _patch(stage, name, {"metadata": {"labels": {"may-hold": "yes"}}})
    return [ns / 1e6 for ns in (hop, 2 * hop, decided - known, first - known, confirmed - known)]
