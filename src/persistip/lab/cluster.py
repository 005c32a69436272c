"""
What can be done to the lab's cluster, and how does it stand?

In: a Site.  Out: a running cluster: the store as its API, the kubelet's stand-in, controller and agents started.
``Lab`` may only write manifests, signal processes and cut links; how things stand it reads from the store. It decides
nothing and touches no kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Self

import attrs

from persistip.backends.memory import AlreadyExistsError, MemoryStore, NotFoundError
from persistip.lab.echo import DEFAULT_PORT, port_of
from persistip.lab.kubelet import WORKLOADS, Journal, Kubelet, changes, delete_pod, host_of
from persistip.lab.lifecycle import NodeLifecycle
from persistip.lab.options import LabOptions
from persistip.lab.results import Place, RouteResult, Sight, bare_address, flow_of
from persistip.lab.site import NodeFacts, Site
from persistip.lab.workloads import is_ready, is_terminating, plan_workload, pods_to_evict, suffixes
from persistip.model.address import Malformed, Prefix, parse_prefix
from persistip.model.attachment import AddressAttachment
from persistip.model.conditions import find_condition
from persistip.model.entry import NodeState
from persistip.model.keys import attachment_name
from persistip.model.route import GKEIPRoute
from persistip.wire.decode import to_model

Manifest = Mapping[str, Any]

_WATCHED = ("Pod", "Node", "Namespace", "Gateway", "GKEIPRoute", "AddressAttachment", *WORKLOADS)
_QUIET_SECONDS = 0.15
"""How long nothing must be written before the cluster is at rest: well above a controller's or agent's reaction."""
_TRANSIENT = frozenset({"Programming", "AwaitingRelease", "AwaitingPodIP", "Pending"})


@attrs.frozen(kw_only=True)
class Standing:
    """One route with its decision: what the lab reads of it at one moment."""

    route: GKEIPRoute
    attachment: AddressAttachment | None
    prefixes: tuple[Prefix, ...]
    cut_off: frozenset[str] = frozenset()
    """Nodes of which nothing is heard at that moment."""

    @property
    def path(self) -> str:
        """``namespace/name``."""
        return self.route.key.path

    @property
    def place(self) -> Place | None:
        """The holder and its node, as the API names them."""
        holder = self.attachment.spec.holder if self.attachment else None
        return Place(holder.pod_name, holder.node_name) if holder else None

    @property
    def holder_uid(self) -> str:
        """The holder's UID, or nothing."""
        holder = self.attachment.spec.holder if self.attachment else None
        return holder.pod_uid if holder else ""

    @property
    def is_ready(self) -> bool:
        """
        The route's condition Ready is True for what its spec says now, its holder's node is there and has confirmed.

        Nobody still lets go, but for nodes that are cut off: they cannot.
        """
        ready = find_condition(self.route.status.conditions, "Ready")
        attachment, place = self.attachment, self.place
        return (
            ready is not None
            and ready.status == "True"
            and ready.observed_generation == self.route.meta.generation
            and attachment is not None
            and attachment.is_confirmed
            and not self._is_releasing
            and not (place is not None and place.node in self.cut_off)
        )

    @property
    def _is_releasing(self) -> bool:
        releasing = self.attachment.spec.releasing if self.attachment else ()
        return any(release.node_name not in self.cut_off for release in releasing)

    @property
    def conditions(self) -> dict[str, tuple[str, str]]:
        """Status and reason of each condition."""
        return {each.type: (str(each.status), str(each.reason)) for each in self.route.status.conditions}

    @property
    def is_at_rest(self) -> bool:
        """Ready, or not to become so without somebody's doing."""
        if self.is_ready or (self.place is not None and self.place.node in self.cut_off):
            return True
        reported = find_condition(self.route.status.conditions, "Ready")
        if reported is None or reported.status == "True" or reported.reason in _TRANSIENT:
            return False
        holder = self.attachment.spec.holder if self.attachment else None
        return holder is None and not self._is_releasing


class Lab:
    """A running cluster; an asynchronous context manager around a Site that was entered."""

    def __init__(self, site: Site, options: LabOptions) -> None:
        self.site = site
        self.options = options
        self.store = MemoryStore(site.clock)
        self.journal = Journal(site.monotonic_ns)
        self._suffix = suffixes(options.seed)
        self._kubelet = Kubelet(self.store, site, self.journal, self._suffix)
        self._lifecycle = NodeLifecycle(self.store, site.clock, self.journal)
        self._cut_off: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes."""
        return tuple(self.site.nodes)

    @property
    def cut_off(self) -> frozenset[str]:
        """The nodes whose uplink is cut."""
        return frozenset(self._cut_off)

    def leaders(self) -> Mapping[str, str | None] | None:
        """To which node a cloud sends the packets of each address; None: there is no cloud."""
        return self.site.leaders()

    async def __aenter__(self) -> Self:
        for name, facts in self.site.nodes.items():
            await self.apply(_node(name, facts))
            await self.store.patch("Node", "", name, {"status": _node_status(facts)}, subresource="status")
        try:
            await self._start()
        except BaseException:
            # Nothing of ours may run on while the site is taken down under it.
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(kind)) for kind in _WATCHED]
        self._tasks.append(asyncio.create_task(self._kubelet.run()))
        # The socket is there once the controller is started; the agents come together after it.
        await self.site.start_controller(self.store)
        if self.options.with_agents:
            await asyncio.gather(*(self.site.start_agent(node) for node in self.nodes))

    async def __aexit__(self, *_: object) -> None:
        await self._lifecycle.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, kind: str) -> None:
        async for _ in changes(self.store, kind):
            async with self._changed:
                self._changed.notify_all()

    def check(self) -> None:
        """Raise what ended one of the lab's own tasks, if anything did."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    # --- manifests --------------------------------------------------------------------------------------------

    async def apply(self, manifest: Manifest) -> None:
        """Create the object, or bring it to what *manifest* says, as kubectl apply does."""
        body = {key: value for key, value in manifest.items() if key != "status"}
        if body["kind"] == "Namespace":
            name = body["metadata"]["name"]
            labels = {**(body["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": name}
            body["metadata"] = {**body["metadata"], "labels": labels}
        try:
            await self.store.create(body)
        except AlreadyExistsError:
            metadata = body["metadata"]
            await self.store.patch(body["kind"], metadata.get("namespace", ""), metadata["name"], body)

    async def patch(self, kind: str, namespace: str, name: str, patch: Manifest) -> None:
        """JSON merge patch of an object."""
        await self.store.patch(kind, namespace, name, patch)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Ask for the deletion of an object; a Pod takes its grace period."""
        if kind == "Pod":
            await delete_pod(self.store, self.journal, await self.store.get("Pod", namespace, name))
        else:
            with contextlib.suppress(NotFoundError):  # gone is what was asked for
                await self.store.delete(kind, namespace, name)

    async def drain(self, node: str) -> None:
        """Cordon the node and evict its Pods, as kubectl drain does; returns when they are gone."""
        await self.patch("Node", "", node, {"spec": {"unschedulable": True}})
        evicted = pods_to_evict(node, await self.pods())
        for pod in evicted:
            await delete_pod(self.store, self.journal, pod)
        gone = {pod["metadata"]["uid"] for pod in evicted}

        async def is_empty() -> bool:
            return gone.isdisjoint(pod["metadata"]["uid"] for pod in await self.pods())

        await self.until(is_empty, self.options.settle_seconds)

    async def uncordon(self, node: str) -> None:
        """Let Pods come to the node again."""
        await self.patch("Node", "", node, {"spec": {"unschedulable": None}})

    # --- processes and links ----------------------------------------------------------------------------------

    def signal_pod(self, namespace: str, pod: str, number: signal.Signals) -> None:
        """Signal the process of a Pod; LookupError when it has none."""
        process = self._kubelet.process_named(namespace, pod)
        if process is None:
            raise LookupError(f"no process runs in Pod {namespace}/{pod}")
        process.signal(number)

    def signal_agent(self, node: str, number: signal.Signals) -> None:
        """Signal a node's agent; LookupError when none runs there."""
        self.site.signal_agent(node, number)

    async def start_agent(self, node: str) -> None:
        """Start a node's agent, unless it runs."""
        await self.site.start_agent(node)

    def agents(self) -> Mapping[str, bool]:
        """Which nodes' agents run."""
        return self.site.agents()

    async def cut(self, node: str) -> None:
        """Pull the cable of the node's uplink: nothing of the node is heard any more, nor does it hear anything."""
        self._cut_off.add(node)
        await self.site.cut(node)
        self._kubelet.disconnect(node)
        self._lifecycle.lose(node)

    async def restore(self, node: str) -> None:
        """Undo ``cut``."""
        await self.site.restore(node)
        self._cut_off.discard(node)
        await self._lifecycle.find(node)
        self._kubelet.connect(node)

    async def run_inside(self, machine: str, command: Sequence[str]) -> int:
        """Run a command in the namespace of a machine (node, Pod as ``namespace/name``, client); its exit status."""
        return await self.site.run_inside(machine, command)

    # --- how things stand -------------------------------------------------------------------------------------

    async def pods(self, namespace: str | None = None) -> tuple[Manifest, ...]:
        """The Pods there are."""
        return (await self.store.list("Pod", namespace=namespace)).items

    async def candidates(self, standing: Standing) -> tuple[Manifest, ...]:
        """Ready Pods of the route's selector that are not being deleted."""
        return tuple(
            pod
            for pod in await self.pods(standing.route.meta.namespace)
            if standing.route.pod_selector.matches(pod["metadata"].get("labels") or {})
            and is_ready(pod)
            and not is_terminating(pod)
        )

    async def standings(self) -> tuple[Standing, ...]:
        """Every readable route with its attachment."""
        found = []
        for item in (await self.store.list("GKEIPRoute")).items:
            route = to_model(item)
            if isinstance(route, GKEIPRoute):
                found.append(await self._standing(route))
        return tuple(found)

    async def standing(self, namespace: str, name: str) -> Standing | None:
        """One route with its attachment; None when there is no such route."""
        return next((each for each in await self.standings() if each.path == f"{namespace}/{name}"), None)

    async def _standing(self, route: GKEIPRoute) -> Standing:
        attachment = None
        with contextlib.suppress(NotFoundError):
            name = attachment_name(route.meta.namespace, route.meta.name)
            found = to_model(await self.store.get("AddressAttachment", "", name))
            attachment = found if isinstance(found, AddressAttachment) else None
        prefixes = tuple(
            prefix for address in route.addresses if not isinstance(prefix := parse_prefix(address), Malformed)
        )
        return Standing(route=route, attachment=attachment, prefixes=prefixes, cut_off=self.cut_off)

    async def routes(self) -> tuple[RouteResult, ...]:
        """How every route stands."""
        return tuple(
            RouteResult(
                route=each.path,
                addresses=tuple(bare_address(str(prefix)) for prefix in each.prefixes),
                place=each.place,
                conditions=each.conditions,
            )
            for each in await self.standings()
        )

    async def kernel(self, node: str) -> NodeState:
        """What a look into the node's kernel shows of ours."""
        return await self.site.kernel(node)

    async def foreign(self, node: str) -> frozenset[str]:
        """What is in the node's kernel and not ours, a line for each; but for what comes and goes with Pods."""
        return await self.site.foreign(node)

    async def measure(self, address: str, seconds: float) -> Sight:
        """What the client outside sees of *address* for so long, a payload a millisecond in each direction."""
        probe = self.site.probes()[ip_address(address).version]
        await probe.start(address, await self._port_at(address), settle_seconds=0.1)
        await asyncio.sleep(seconds)
        seen = await probe.stop()
        who = tuple(dict.fromkeys(stretch[0] for stretch in seen["ingress"]["stretches"]))
        return Sight(who=who, ingress=flow_of(seen["ingress"]), egress=flow_of(seen["egress"]))

    @staticmethod
    def port_of(pod: Manifest) -> int:
        """The port of a Pod's program."""
        for container in pod["spec"].get("containers", ()):
            for variable in container.get("env") or ():
                if variable["name"] == "PORT":
                    return port_of(variable.get("value"))
        return DEFAULT_PORT

    async def reach(self, address: str) -> str | None:
        """Who answers at *address* to the client outside, by UDP and by TCP alike: ``name@uid`` of the Pod."""
        answer = await self.site.probes()[6 if ":" in address else 4].reach(address, await self._port_at(address))
        return answer["udp"] if answer["udp"] == answer["tcp"] else None

    async def _port_at(self, address: str) -> int:
        for standing in await self.standings():
            if address in map(host_of_prefix, standing.prefixes):
                return await self.port_for(standing)
        return DEFAULT_PORT

    async def port_for(self, standing: Standing) -> int:
        """The port on which the Pods of a route answer."""
        pods = await self.candidates(standing)
        return self.port_of(pods[0]) if pods else DEFAULT_PORT

    # --- waiting ----------------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], Awaitable[bool]], timeout_seconds: float) -> bool:
        """Wait until *holds* (asked again after each change of the cluster) is true; whether it became so in time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                while not await holds():
                    self.check()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def settled(self, timeout_seconds: float) -> bool:
        """Whether the cluster came to rest in time: no workload, Pod, route or attachment has anything to do."""
        end = asyncio.get_running_loop().time() + timeout_seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            if not await self.until(self._is_at_rest, left):
                return False
            revision = self.store.revision
            await asyncio.sleep(_QUIET_SECONDS)
            if revision == self.store.revision:
                return True
        return False

    async def _is_at_rest(self) -> bool:
        if not self._kubelet.is_at_rest:
            return False
        # Of a node that is cut off nothing is to be expected.
        pods = await self.pods()
        within = [pod for pod in pods if pod["spec"].get("nodeName") not in self._cut_off]
        if any(is_terminating(pod) or (pod["spec"].get("nodeName") and not _is_running(pod)) for pod in within):
            return False
        for kind in WORKLOADS:
            for workload in (await self.store.list(kind)).items:
                change = plan_workload(workload, pods, lambda: "")
                if change.create or change.delete:
                    return False
        return all(each.is_at_rest for each in await self.standings())


def host_of_prefix(prefix: Prefix) -> str:
    """The address that is tested for a prefix."""
    return host_of(str(prefix))


def _is_running(pod: Manifest) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Running")


def _node(name: str, facts: NodeFacts) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": facts.pod_cidrs[0], "podCIDRs": list(facts.pod_cidrs)},
    }


def _node_status(facts: NodeFacts) -> Manifest:
    return {
        "addresses": [{"type": "InternalIP", "address": ip} for ip in facts.ips],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    }
