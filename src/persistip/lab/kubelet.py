"""
Who turns a StatefulSet into running Pods, without Kubernetes?

In: the store's objects, through watches; what the Pods' processes say.  Out: Pods created, bound, run, restarted and
removed, their status written. The stand-in for kubelet, scheduler and workload controllers, by their rules:

    workload ──> Pods ──> a node ──> namespace, IPs ──> process ── `ready`/`unready` ──> condition Ready
                 deletion: SIGTERM ── grace ── SIGKILL ──> not Ready ──> namespace gone ──> object gone

Everything happens when a watch or a process says something: the client outside counts in milliseconds. The kubelet of
a node that is cut off hears nothing of the API and writes nothing; what runs there goes on running.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs

from persistip.backends.memory import ExpiredError, MemoryStore
from persistip.errors import StaleError
from persistip.lab.site import Process, Program, Site
from persistip.lab.workloads import is_finished, is_terminating, plan_workload, select_node
from persistip.model.address import Malformed, parse_prefix
from persistip.model.route import GKEIPRoute
from persistip.wire.decode import to_model
from persistip.wire.times import format_time

Manifest = Mapping[str, Any]

WORKLOADS = ("StatefulSet", "Deployment")
_WATCHED = ("Pod", "Node", *WORKLOADS)
_RESTART_SECONDS = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0)
"""As kubelet's back-off, ten times as fast: soon, then later and later."""


@attrs.define
class Moments:
    """When a Pod last changed in what decides over it, on the probes' clock (0: never)."""

    running_ns: int = 0
    ready_ns: int = 0
    unready_ns: int = 0
    terminating_ns: int = 0


class Journal:
    """When each Pod changed, by UID: taken just before the write, so no reaction looks faster than it was."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self._moments: dict[str, Moments] = {}

    def of(self, uid: str) -> Moments:
        """The record of one Pod."""
        return self._moments.setdefault(uid, Moments())


class Kubelet:
    """Runs until cancelled; a fault of its own ends ``run``."""

    def __init__(self, store: MemoryStore, site: Site, journal: Journal, suffix: Callable[[], str]) -> None:
        self._store, self._site, self._journal, self._suffix = store, site, journal, suffix
        self._wake = asyncio.Event()
        self._workers: dict[str, _PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reaches_api = {node: asyncio.Event() for node in site.nodes}
        for reached in self._reaches_api.values():
            reached.set()

    async def run(self) -> None:
        """Follow the store."""
        async with asyncio.TaskGroup() as group:
            for kind in _WATCHED:
                group.create_task(self._follow(kind))
            while True:
                self._wake.clear()
                await self._reconcile(group)
                await self._wake.wait()

    def process_named(self, namespace: str, pod: str) -> Process | None:
        """The process of a Pod, if it has one now."""
        for worker in self._workers.values():
            if worker.machine == f"{namespace}/{pod}":
                return worker.process
        return None

    def disconnect(self, node: str) -> None:
        """The API is out of the reach of a node's kubelet."""
        self._reaches_api[node].clear()

    def connect(self, node: str) -> None:
        """It is within reach again: the kubelet tells how its Pods are, and hears what it missed."""
        self._reaches_api[node].set()
        for worker in self._workers.values():
            if worker.node == node:
                worker.tell_again()
        self._wake.set()

    @property
    def is_at_rest(self) -> bool:
        """Whether every program runs and has said how it is."""
        return all(worker.is_at_rest for worker in self._workers.values())

    async def _follow(self, kind: str) -> None:
        async for _ in changes(self._store, kind):
            self._wake.set()

    async def _reconcile(self, group: asyncio.TaskGroup) -> None:
        pods = (await self._store.list("Pod")).items
        workloads = [each for kind in WORKLOADS for each in (await self._store.list(kind)).items]
        for workload in workloads:
            change = plan_workload(workload, pods, self._suffix)
            for pod in change.delete:
                await delete_pod(self._store, self._journal, pod)
            for manifest in change.create:
                with contextlib.suppress(StaleError):
                    await self._store.create(manifest)
        for pod in orphans(pods, {each["metadata"]["uid"] for each in workloads}):
            await delete_pod(self._store, self._journal, pod)
        await self._schedule()
        await self._keep_up(group)

    async def _schedule(self) -> None:
        """Bind what has no node yet, one by one, each seeing the one before."""
        nodes = (await self._store.list("Node")).items
        for pod in (await self._store.list("Pod")).items:
            if pod["spec"].get("nodeName") or is_terminating(pod):
                continue
            node = select_node(pod, nodes, (await self._store.list("Pod")).items)
            if node is not None:
                namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
                with contextlib.suppress(StaleError):
                    await self._store.patch("Pod", namespace, name, {"spec": {"nodeName": node}})

    async def _keep_up(self, group: asyncio.TaskGroup) -> None:
        """One worker for each Pod that a node of ours runs; workers learn of deletions."""
        present = {pod["metadata"]["uid"]: pod for pod in (await self._store.list("Pod")).items}
        for uid, pod in present.items():
            reached = self._reaches_api.get(pod["spec"].get("nodeName", ""))
            if reached is None or not reached.is_set():
                continue
            if uid not in self._workers and not is_finished(pod):
                worker = self._workers[uid] = _PodWorker(self._store, self._site, self._journal, pod, reached)
                self._tasks[uid] = group.create_task(self._work(uid, worker))
            if is_terminating(pod) and uid in self._workers:
                self._workers[uid].terminate(pod["metadata"].get("deletionGracePeriodSeconds", 0))
        for uid, worker in self._workers.items():
            if uid not in present and self._reaches_api[worker.node].is_set():
                worker.terminate(0)

    async def _work(self, uid: str, worker: _PodWorker) -> None:
        await worker.run()
        del self._workers[uid], self._tasks[uid]
        # A Pod of the same name may wait for this one's namespace to be gone.
        self._wake.set()


@attrs.frozen
class _Said:
    """A line from the process; None: it has ended."""

    line: str | None


@attrs.frozen
class _Terminate:
    grace_seconds: float


@attrs.frozen
class _Restart:
    pass


@attrs.frozen
class _TellAgain:
    pass


_Item = _Said | _Terminate | _Restart | _TellAgain


class _PodWorker:
    """What kubelet does for one Pod, from binding to removal; everything that happens to it goes through one queue."""

    def __init__(
        self, store: MemoryStore, site: Site, journal: Journal, pod: Manifest, reaches_api: asyncio.Event
    ) -> None:
        self._store, self._site, self._journal, self._pod = store, site, journal, pod
        self._reaches_api = reaches_api
        self.node: str = pod["spec"]["nodeName"]
        self._uid: str = pod["metadata"]["uid"]
        self._name: str = pod["metadata"]["name"]
        self._namespace: str = pod["metadata"]["namespace"]
        self.machine = f"{self._namespace}/{self._name}"
        self._ips: tuple[str, ...] = ()
        self._inbox: asyncio.Queue[_Item] = asyncio.Queue()
        self._is_terminating = False
        self._restarts = 0
        self._ready = False
        self._has_spoken = False
        self._ready_since = format_time(site.clock.now())
        self._timers: list[asyncio.TimerHandle] = []
        self.process: Process | None = None

    def terminate(self, grace_seconds: float) -> None:
        """Deletion was asked for; said again, the shorter time counts."""
        self._inbox.put_nowait(_Terminate(grace_seconds))

    def tell_again(self) -> None:
        """Others may have written meanwhile how the Pod is."""
        self._inbox.put_nowait(_TellAgain())

    @property
    def is_at_rest(self) -> bool:
        """Whether its program runs and has said whether it is ready: nothing more happens by itself."""
        return self.process is not None and self._has_spoken and not self._is_terminating

    async def run(self) -> None:
        """Until the Pod is gone."""
        self._ips = await self._site.add_pod(self.node, self.machine)
        try:
            environment = await self._environment()
            await self._start(environment)
            while not (self._is_terminating and self.process is None):
                await self._take(await self._inbox.get(), environment)
        finally:
            for timer in self._timers:
                timer.cancel()
            await self._site.delete_pod(self.machine)
        await self._reaches_api.wait()
        with contextlib.suppress(StaleError):
            await self._store.delete("Pod", self._namespace, self._name, uid=self._uid, grace_seconds=0)

    async def _take(self, item: _Item, environment: Mapping[str, str]) -> None:
        match item:
            case _Said(line=None):
                self.process = None
                # A terminating Pod has ended for good; another's container starts again, in the same Pod.
                await self._report(ready=False, phase="Succeeded" if self._is_terminating else "Running")
                if not self._is_terminating:
                    delay = _RESTART_SECONDS[min(self._restarts, len(_RESTART_SECONDS) - 1)]
                    self._restarts += 1
                    self._later(delay, lambda: self._inbox.put_nowait(_Restart()))
            case _Said(line=line):
                self._has_spoken = True
                await self._report(ready=line == "ready")
            case _Restart():
                if not self._is_terminating:
                    await self._start(environment)
            case _TellAgain():
                await self._report(ready=self._ready)
            case _Terminate(grace_seconds=grace):
                if self.process is not None:
                    if not self._is_terminating:
                        self.process.signal(signal.SIGTERM)
                    self._later(grace, self._kill)
                self._is_terminating = True

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, do))

    def _kill(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGKILL)

    async def _start(self, environment: Mapping[str, str]) -> None:
        program = Program(
            environment=environment,
            on_line=lambda line: self._inbox.put_nowait(_Said(line)),
            on_exit=lambda: self._inbox.put_nowait(_Said(None)),
        )
        self._has_spoken = False
        self.process = await self._site.start_program(self.machine, program)
        await self._report(ready=False)

    async def _environment(self) -> dict[str, str]:
        """The containers' own variables; who says no addresses is given those of the routes that select it."""
        variables = {
            variable["name"]: variable["value"]
            for container in self._pod["spec"].get("containers", ())
            for variable in container.get("env") or ()
            if "value" in variable
        }
        if "PERSISTENT_ADDRESSES" not in variables:
            labels = self._pod["metadata"].get("labels") or {}
            routes = (await self._store.list("GKEIPRoute", namespace=self._namespace)).items
            addresses = [
                address.value
                for route in map(to_model, routes)
                if isinstance(route, GKEIPRoute) and route.pod_selector.matches(labels)
                for address in route.addresses
                if not isinstance(parse_prefix(address), Malformed)
            ]
            variables["PERSISTENT_ADDRESSES"] = ",".join(host_of(each) for each in dict.fromkeys(addresses))
        return {**variables, "POD_NAME": f"{self._name}@{self._uid}"}

    async def _report(self, *, ready: bool, phase: str = "Running") -> None:
        """Write the status, as kubelet does: the condition's time changes with it only."""
        await self._reaches_api.wait()
        moments = self._journal.of(self._uid)
        moments.running_ns = moments.running_ns or self._journal.now_ns()
        if ready != self._ready:
            self._ready = ready
            self._ready_since = format_time(self._site.clock.now())
            if ready:
                moments.ready_ns = self._journal.now_ns()
            else:
                moments.unready_ns = self._journal.now_ns()
        status = {
            "phase": phase,
            "podIP": self._ips[0],
            "podIPs": [{"ip": ip} for ip in self._ips],
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": self._ready_since,
                }
            ],
        }
        patch = {"metadata": {"uid": self._uid}, "status": status}
        with contextlib.suppress(StaleError):
            await self._store.patch("Pod", self._namespace, self._name, patch, subresource="status", manager="kubelet")


# --- what others need too -----------------------------------------------------------------------------------


async def changes(store: MemoryStore, kind: str) -> AsyncIterator[None]:
    """Once for what there is, then with every change of an object of *kind*."""
    while True:
        start = (await store.list(kind)).resource_version
        yield
        with contextlib.suppress(ExpiredError):
            async for _ in store.watch(kind, resource_version=start):
                yield


async def delete_pod(store: MemoryStore, journal: Journal, pod: Manifest, *, grace_seconds: int | None = None) -> None:
    """Ask for a Pod's deletion, this very Pod's; one that is gone already is what was asked for."""
    metadata = pod["metadata"]
    journal.of(metadata["uid"]).terminating_ns = journal.of(metadata["uid"]).terminating_ns or journal.now_ns()
    with contextlib.suppress(StaleError):
        await store.delete(
            "Pod", metadata["namespace"], metadata["name"], uid=metadata["uid"], grace_seconds=grace_seconds
        )


def orphans(pods: tuple[dict[str, Any], ...], owners: set[str]) -> list[Manifest]:
    """Pods whose workload is gone: Kubernetes' garbage collector deletes them."""
    return [
        pod
        for pod in pods
        if not is_terminating(pod)
        and any(
            owner["kind"] in WORKLOADS and owner["uid"] not in owners
            for owner in pod["metadata"].get("ownerReferences", ())
        )
    ]


def host_of(address: str) -> str:
    """The single address that stands for a route's address: itself, or the first host of a range."""
    network = ipaddress.ip_network(address, strict=False)
    return str(network[0] if network.num_addresses == 1 else network[1])
