"""
What is the world that controller and agents live in?

Three machines on the memory fabric, two tenants and an administrator who write objects, a small stand-in for kubelet
and the node controller. It does what users and machines do, at once and without mistakes; what is late, lost or doubled
on the way to a process is the network's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from random import Random
from typing import Any

import attrs

from persistip.backends.memory import MemoryFabric
from persistip.errors import StaleError
from persistip.model.address import IPAddress
from persistip.model.entry import Entry
from persistip.model.keys import Kind, ObjectKey
from persistip.model.pod import Pod
from persistip.strategies import ClusterObject
from persistip.testing.builders import STANDARD_CLASS
from persistip.testing.simulation.network import JSON, Ledger
from persistip.testing.simulation.trace import Trace
from persistip.wire.times import format_time

MACHINES = ("a", "b", "c")
NAMESPACES = ("shop", "bank")
LABEL = "persistent-ip"
ADDRESSES = ("203.0.113.1", "203.0.113.2", "203.0.113.0/30", "203.0.113.17", "2001:db8::1", "2001:db8::2")
SINGLES = tuple(ip_address(each) for each in ADDRESSES if "/" not in each)
POOLS: Mapping[str, tuple[str, ...]] = {
    "pool": ("203.0.113.0/28", "2001:db8::/124"),
    "second": ("203.0.113.16/28", "203.0.113.32/28"),
}
CLIENT: Mapping[int, IPAddress] = {4: ip_address("198.51.100.7"), 6: ip_address("2001:db8:ffff::7")}
OTHER_CLASS = "gke-persistent-regional-internal-managed"
"""The other class of ours that a Gateway may change to."""
CLASSES = (STANDARD_CLASS, OTHER_CLASS)
FOREIGN_CLASS = "gke-persistent-regional-of-theirs"
USER = "user"
SYSTEM = "persistip-system"
EXCUSED_SECONDS = 15.0
"""How long after a running machine's Node was deleted what happens there is the fault of whoever deleted it."""


@attrs.define(kw_only=True)
class Machine:
    """One machine: what its power switch and its kubelet know."""

    name: str
    number: int
    is_on: bool = True
    mistaken_until: float = -1.0
    """Until when the word of an administrator that it is gone, while it runs, excuses what happens there."""


@attrs.define(kw_only=True)
class Sandbox:
    """A Pod as its machine knows it."""

    key: ObjectKey
    uid: str
    machine: str
    number: int
    is_up: bool = False


class Site:
    """The world, and what may be done to it."""

    def __init__(self, ledger: Ledger, random: Random, trace: Trace, clock: Callable[[], float]) -> None:
        self.ledger = ledger
        self.fabric = MemoryFabric()
        self.machines = {name: Machine(name=name, number=index) for index, name in enumerate(MACHINES, start=1)}
        self.sandboxes: dict[str, Sandbox] = {}
        self.link_owners: dict[tuple[str, int], str] = {}
        """Which Pod (UID) was ever behind which link (node, index); a link is never used twice."""
        self.drifted: set[tuple[str, Entry]] = set()
        """Which entries somebody took out of which kernel, and that have not been seen there since."""
        self.told_ips: dict[str, set[IPAddress]] = {}
        """Which IPs the API ever gave to which Pod (UID)."""
        self.random = random
        self.trace = trace
        self._clock = clock
        self._store = ledger.store
        self._kubelets: dict[asyncio.Task[None], None] = {}
        for machine in self.machines.values():
            self.fabric.add_node(machine.name, ip_address(f"192.0.2.{10 + machine.number}"))

    # ------------------------------------------------------------ objects
    def find(self, kind: Kind, namespace: str, name: str) -> ClusterObject | None:
        """An object as it stands."""
        return self.ledger.objects.get(ObjectKey(kind, namespace, name))

    def pods(self, namespace: str | None = None) -> list[Pod]:
        """All Pods, by name."""
        found = (self.ledger.objects[key] for key in sorted(self.ledger.objects) if key.kind is Kind.POD)
        return [each for each in found if isinstance(each, Pod) and namespace in (None, each.meta.namespace)]

    async def create(self, body: JSON) -> bool:
        """POST, status included; False when the name is taken."""
        key = ObjectKey(Kind(body["kind"]), body["metadata"].get("namespace", ""), body["metadata"]["name"])

        async def call() -> None:
            made = await self._store.create(body)
            if "status" in body:
                await self._store.update({**made, "status": body["status"]}, subresource="status", manager=USER)

        try:
            await self.ledger.write(USER, key, call)
        except StaleError:
            return False
        return True

    async def edit(
        self, kind: Kind, namespace: str, name: str, change: Callable[[JSON], object], *, status: bool = False
    ) -> bool:
        """GET, change, PUT; False when there is no such object."""
        key = ObjectKey(kind, namespace, name)
        body = await self.ledger.peek(key)
        if body is None:
            return False
        change(body)
        subresource = "status" if status else ""
        await self.ledger.write(USER, key, lambda: self._store.update(body, subresource=subresource, manager=USER))
        return True

    async def delete(self, kind: Kind, namespace: str, name: str, grace: int | None = 0) -> bool:
        """DELETE; False when there is no such object."""
        key = ObjectKey(kind, namespace, name)
        try:
            await self.ledger.write(USER, key, lambda: self._store.delete(kind, namespace, name, grace_seconds=grace))
        except StaleError:
            return False
        return True

    async def furnish(self) -> None:
        """A class with its parameters, two Gateways, two namespaces, three nodes; and another controller's objects."""
        await self.create(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "allowed", "namespace": SYSTEM},
                "data": {"allowedAddresses": "203.0.113.0/24, 2001:db8::/64"},
            }
        )
        await self.create(gateway_class(STANDARD_CLASS, "persistip.dev/controller"))
        await self.create(gateway_class(FOREIGN_CLASS, "networking.gke.io/gateway"))
        for name in NAMESPACES:
            await self.create(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {LABEL: "yes"}}}
            )
        for name in POOLS:
            await self.create(gateway(name))
        foreign = gateway("foreign", pool="pool")
        foreign["spec"]["gatewayClassName"] = FOREIGN_CLASS
        await self.create(foreign)
        await self.create(route("shop", "foreign", ["203.0.113.1"], ["foreign"]))
        for machine in self.machines.values():
            await self.register(machine)

    # ------------------------------------------------------------ machines
    async def register(self, machine: Machine) -> None:
        """The Node object of a machine."""
        number = machine.number
        await self.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": machine.name},
                "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:244:{number}::/64"]},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": f"192.0.2.{10 + number}"}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )

    def power_off(self, machine: Machine) -> None:
        """The machine stops, its kernel's memory with it; the pins are on its disk."""
        machine.is_on = False
        self.fabric.cut(machine.name)
        kernel = self.fabric.node(machine.name)
        for each in (kernel.entries, kernel.stale, kernel.obstacles):
            each.clear()
        kernel.announced = frozenset()
        for sandbox in list(self.sandboxes.values()):
            if sandbox.machine == machine.name:
                self._take_down(sandbox)

    async def power_on(self, machine: Machine) -> None:
        """The machine boots; its Pods that still exist get new sandboxes, and perhaps each other's IPs."""
        machine.is_on = True
        self.fabric.mend(machine.name)
        if self.find(Kind.NODE, "", machine.name) is None:
            await self.register(machine)
        else:
            await self.edit(Kind.NODE, "", machine.name, lambda body: body["spec"].pop("taints", None))
        for sandbox in list(self.sandboxes.values()):
            if sandbox.machine != machine.name:
                continue
            if not self.is_present(sandbox):
                del self.sandboxes[sandbox.uid]
            elif self.ledger.objects[sandbox.key].meta.is_terminating:
                await self._finish(sandbox)
            else:
                await self._come_back(sandbox)
                self.later(0.5, self.set_ready, sandbox.key, True, sandbox.uid)

    # ------------------------------------------------------------ Pods
    async def start_pod(self, namespace: str, name: str, machine: Machine, *, ready_after: float) -> bool:
        """Create a Pod on a machine; it gets its IPs a moment later and is Ready after that."""
        key = ObjectKey(Kind.POD, namespace, name)
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name.split("-", maxsplit=1)[0]}},
            "spec": {"nodeName": machine.name, "containers": [{"name": "app", "image": "app"}]},
        }
        if not machine.is_on or not await self.create(body):
            return False
        made = self.ledger.objects[key]
        number = self._free_number(machine)
        sandbox = Sandbox(key=key, uid=made.meta.uid, machine=machine.name, number=number)
        self.sandboxes[sandbox.uid] = sandbox
        self.trace.note(USER, f"Pod {key.path} on {machine.name}, IP 10.244.{machine.number}.{number}, {sandbox.uid}")
        self._put_up(sandbox)
        self.later(self.random.uniform(0.0, 0.1), self._tell_ips, sandbox)
        if ready_after >= 0:
            self.later(0.1 + ready_after, self.set_ready, key, True, sandbox.uid)
        return True

    async def end_pod(self, pod: Pod, *, grace: int, sandbox_after: float, object_after: float) -> None:
        """
        Delete a Pod. With *grace* 0 its object goes at once and its sandbox when kubelet notices; else both later.

        Its IP is free from the moment at which its sandbox is gone.
        """
        self.trace.note(USER, f"deletes Pod {pod.key.path}{' by force' if grace == 0 else ''} ({pod.meta.uid})")
        await self.delete(Kind.POD, pod.meta.namespace, pod.meta.name, grace)
        sandbox = self.sandboxes.get(pod.meta.uid)
        if sandbox is not None:
            self.later(sandbox_after, self.remove_sandbox, sandbox)
            if grace:
                self.later(sandbox_after + object_after, self._finish, sandbox)

    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        """The Pod's link goes, and its IP is free."""
        if not self.machines[sandbox.machine].is_on:
            return
        self._take_down(sandbox)
        if not self.is_present(sandbox):
            self.sandboxes.pop(sandbox.uid, None)

    async def crash_sandbox(self, sandbox: Sandbox, *, back_after: float) -> None:
        """The Pod's sandbox dies and its IP is free; the same Pod comes back with another link and perhaps IP."""
        self.trace.note("kubelet", f"sandbox of {sandbox.key.path} dies ({sandbox.uid})")
        self._take_down(sandbox)
        self.later(back_after, self._come_back, sandbox)

    async def _come_back(self, sandbox: Sandbox) -> None:
        machine = self.machines[sandbox.machine]
        if not machine.is_on or not self.is_present(sandbox) or sandbox.is_up:
            return
        sandbox.number = self._free_number(machine)
        self._put_up(sandbox)
        self.trace.note("kubelet", f"sandbox of {sandbox.key.path} is back with number {sandbox.number}")
        await self._tell_ips(sandbox)

    async def _finish(self, sandbox: Sandbox) -> None:
        if self.machines[sandbox.machine].is_on and self.is_present(sandbox):
            self.sandboxes.pop(sandbox.uid, None)
            await self.delete(Kind.POD, sandbox.key.namespace, sandbox.key.name, 0)

    async def _tell_ips(self, sandbox: Sandbox) -> None:
        if not sandbox.is_up or not self.is_present(sandbox):
            return

        self.told_ips.setdefault(sandbox.uid, set()).update(self.ips_of(sandbox))

        def change(body: JSON) -> None:
            ips = [{"ip": str(ip)} for ip in self.ips_of(sandbox)]
            old = body.get("status") or {}
            body["status"] = {**old, "phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips}

        await self.edit(Kind.POD, sandbox.key.namespace, sandbox.key.name, change, status=True)

    async def set_ready(self, key: ObjectKey, is_ready: bool, uid: str) -> None:
        """Kubelet, or for a dead node the node controller, says so."""
        pod = self.ledger.objects.get(key)
        if not isinstance(pod, Pod) or pod.meta.uid != uid or pod.ready == is_ready:
            return
        self.trace.note("kubelet", f"Pod {key.path} is {'Ready' if is_ready else 'not Ready'}")
        condition = {
            "type": "Ready",
            "status": "True" if is_ready else "False",
            "lastTransitionTime": format_time(self._clock()),
        }

        def change(body: JSON) -> None:
            body["status"] = {**(body.get("status") or {}), "conditions": [condition]}

        await self.edit(Kind.POD, key.namespace, key.name, change, status=True)

    def is_present(self, sandbox: Sandbox) -> bool:
        """Whether the API still has this very Pod."""
        pod = self.ledger.objects.get(sandbox.key)
        return pod is not None and pod.meta.uid == sandbox.uid

    def ips_of(self, sandbox: Sandbox) -> tuple[IPAddress, ...]:
        """IPv4 and IPv6."""
        machine = self.machines[sandbox.machine]
        return (
            ip_address(f"10.244.{machine.number}.{sandbox.number}"),
            ip_address(f"fd00:244:{machine.number}::{sandbox.number}"),
        )

    def _put_up(self, sandbox: Sandbox) -> None:
        pod = self.fabric.add_pod(sandbox.machine, sandbox.uid, self.ips_of(sandbox))
        self.link_owners[sandbox.machine, pod.link.index] = sandbox.uid
        sandbox.is_up = True

    def recreate_link(self, sandbox: Sandbox) -> None:
        """Somebody makes the Pod's link anew."""
        pod = self.fabric.recreate_link(sandbox.uid)
        self.link_owners[sandbox.machine, pod.link.index] = sandbox.uid

    def _take_down(self, sandbox: Sandbox) -> None:
        if sandbox.is_up:
            sandbox.is_up = False
            self.fabric.remove_pod(sandbox.uid)

    def _free_number(self, machine: Machine) -> int:
        """The lowest free one: an IP is used again as soon as may be."""
        taken = {each.number for each in self.sandboxes.values() if each.machine == machine.name and each.is_up}
        return next(number for number in range(2, 250) if number not in taken)

    # ------------------------------------------------------------ time
    def later(self, seconds: float, act: Callable[..., Any], *arguments: object) -> None:
        """Have the world do something by itself."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            await act(*arguments)

        task = asyncio.get_running_loop().create_task(wait())
        self._kubelets[task] = None
        task.add_done_callback(self._kubelet_done)

    def _kubelet_done(self, task: asyncio.Task[None]) -> None:
        self._kubelets.pop(task, None)
        if not task.cancelled():
            task.result()

    async def settle(self) -> None:
        """The world has nothing more to do by itself."""
        while self._kubelets:
            await asyncio.wait(self._kubelets)


def gateway_class(name: str, controller: str) -> JSON:
    """A class that shares its parameters with the others."""
    ref = {"group": "", "kind": "ConfigMap", "name": "allowed", "namespace": SYSTEM}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller, "parametersRef": ref},
    }


def addresses(values: Any) -> list[dict[str, str]]:
    """``spec.addresses`` of these values."""
    return [{"type": "gke.networking.io/cidr" if "/" in each else "IPAddress", "value": each} for each in values]


def listener(*, is_open: bool) -> dict[str, Any]:
    """A listener that admits all namespaces, or those with the label."""
    chosen: dict[str, Any] = {"from": "All"}
    if not is_open:
        chosen = {"from": "Selector", "selector": {"matchLabels": {LABEL: "yes"}}}
    return {"name": "any", "port": 1, "protocol": "none", "allowedRoutes": {"namespaces": chosen}}


def gateway(name: str, *, pool: str = "", is_open: bool = False) -> JSON:
    """A Gateway with its pool."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "infra"},
        "spec": {
            "gatewayClassName": STANDARD_CLASS,
            "addresses": addresses(POOLS[pool or name]),
            "listeners": [listener(is_open=is_open)],
        },
    }


def route(namespace: str, name: str, values: Any, parents: Any, mode: str = "ReadyCondition") -> JSON:
    """A route for the Pods of the app that its name begins with."""
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "GKEIPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": parent, "namespace": "infra"} for parent in parents],
            "addresses": addresses(values),
            "podSelector": {"matchLabels": {"app": name.split("-", maxsplit=1)[0]}},
            "reactionMode": mode,
        },
    }
