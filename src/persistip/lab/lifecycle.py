"""
What does a cluster make of a node of which it hears nothing more?

In: which nodes are cut off.  Out: writes to the store. The stand-in for Kubernetes' node lifecycle controller and its
taint manager, by their rules and in their order, but sooner:

    cut off ── NOTICED_SECONDS ──> Node Ready=Unknown, tainted; its Pods Ready=False
            ── EVICTED_SECONDS ──> its Pods are deleted; nobody there hears of it
    back    ──────────────────────> Node Ready=True, no taint; its kubelet carries the deletions out
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from persistip.backends.memory import MemoryStore
from persistip.errors import StaleError
from persistip.lab.kubelet import Journal, delete_pod
from persistip.lab.workloads import is_finished, is_terminating
from persistip.strategies import Clock
from persistip.wire.times import format_time

logger = logging.getLogger("persistip")

Manifest = Mapping[str, Any]

UNREACHABLE = "node.kubernetes.io/unreachable"
NOTICED_SECONDS = 1.0
"""After which silence a node counts as lost; in Kubernetes 40 to 50 (node-monitor-grace-period)."""
EVICTED_SECONDS = 1.0
"""How long its Pods are borne from then on; in Kubernetes 300 unless a Pod's tolerations say otherwise."""


class NodeLifecycle:
    """Watches over nodes; ``stop`` ends it."""

    def __init__(self, store: MemoryStore, clock: Clock, journal: Journal) -> None:
        self._store, self._clock, self._journal = store, clock, journal
        self._losing: dict[str, asyncio.Task[None]] = {}

    def lose(self, node: str) -> None:
        """Nothing is heard of *node* from now on."""
        if node not in self._losing:
            self._losing[node] = asyncio.create_task(self._lose(node), name=f"losing {node}")

    async def find(self, node: str) -> None:
        """*Node* is heard of again."""
        task = self._losing.pop(node, None)
        if task is None:
            return
        await _end(task)
        await self._mark(node, is_ready=True)

    async def stop(self) -> None:
        """Do nothing more."""
        for task in self._losing.values():
            await _end(task)

    async def _lose(self, node: str) -> None:
        await asyncio.sleep(NOTICED_SECONDS)
        await self._mark(node, is_ready=False)
        for pod in await self._pods_of(node):
            await self._mark_unready(pod)
        await asyncio.sleep(EVICTED_SECONDS)
        for pod in await self._pods_of(node):
            if not is_terminating(pod) and not tolerates_loss(pod):
                await delete_pod(self._store, self._journal, pod)

    async def _pods_of(self, node: str) -> tuple[Manifest, ...]:
        pods = (await self._store.list("Pod")).items
        return tuple(pod for pod in pods if pod["spec"].get("nodeName") == node and not is_finished(pod))

    async def _mark(self, node: str, *, is_ready: bool) -> None:
        now = format_time(self._clock.now())
        found = await self._store.get("Node", "", node)
        taints = [each for each in found["spec"].get("taints") or () if each["key"] != UNREACHABLE]
        if not is_ready:
            taints += [
                {"key": UNREACHABLE, "effect": effect, "timeAdded": now} for effect in ("NoSchedule", "NoExecute")
            ]
        ready = {
            "type": "Ready",
            "status": "True" if is_ready else "Unknown",
            "reason": "KubeletReady" if is_ready else "NodeStatusUnknown",
            "lastTransitionTime": now,
        }
        await self._store.patch("Node", "", node, {"spec": {"taints": taints or None}})
        conditions = _with(found["status"]["conditions"], ready)
        await self._store.patch("Node", "", node, {"status": {"conditions": conditions}}, subresource="status")

    async def _mark_unready(self, pod: Manifest) -> None:
        metadata, conditions = pod["metadata"], pod.get("status", {}).get("conditions", ())
        if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
            return
        self._journal.of(metadata["uid"]).unready_ns = self._journal.now_ns()
        ready = {"type": "Ready", "status": "False", "lastTransitionTime": format_time(self._clock.now())}
        patch = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": _with(conditions, ready)}}
        with contextlib.suppress(StaleError):
            await self._store.patch("Pod", metadata["namespace"], metadata["name"], patch, subresource="status")


def tolerates_loss(pod: Manifest) -> bool:
    """Whether a Pod stays on a lost node for ever: a toleration of the taint that names no seconds."""
    return any(
        "tolerationSeconds" not in each
        and each.get("effect", "NoExecute") in ("NoExecute", "")
        and (each.get("key") == UNREACHABLE or (not each.get("key") and each.get("operator") == "Exists"))
        for each in pod["spec"].get("tolerations") or ()
    )


def _with(conditions: Iterable[Manifest], changed: Manifest) -> list[Manifest]:
    return [each for each in conditions if each["type"] != changed["type"]] + [changed]


async def _end(task: asyncio.Task[None]) -> None:
    """A fault of the task's own must not keep the rest from being taken down; a cancelled caller is cancelled."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("the loss of a node was not carried through", extra={"error": repr(error)})
