"""
What may happen next?

A Step is a name, some numbers and a wait; what it does to the world is a function here, which reads the numbers as
choices among what is there. So a scenario is a value: drawn from a seed, played again, and shortened when it fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from persistip.model.attachment import AddressAttachment
from persistip.model.keys import Kind, attachment_name
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.testing.simulation.site import (
    ADDRESSES,
    CLASSES,
    LABEL,
    NAMESPACES,
    OTHER_CLASS,
    POOLS,
    USER,
    Machine,
    Sandbox,
    addresses,
    gateway_class,
)
from persistip.testing.simulation.site import gateway as gateway_body
from persistip.testing.simulation.site import listener as listener_body
from persistip.testing.simulation.site import route as route_body
from persistip.testing.simulation.trace import now

if TYPE_CHECKING:
    from persistip.testing.simulation.processes import Process
    from persistip.testing.simulation.run import Simulation

T = TypeVar("T")

PODS = ("web-0", "web-1", "api-0")
ROUTES = (("shop", "web"), ("shop", "api"), ("bank", "web"), ("shop", "web-old"), ("bank", "api"))
PARENTS = (("pool",), ("pool", "second"), ("second",), ("pool", "second"))
WAITS = (0.0, 0.001, 0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 12.0)


@attrs.frozen
class Step:
    """One thing that happens, and how long until the next."""

    name: str
    numbers: tuple[int, ...]
    wait: float

    def pick(self, index: int, among: Sequence[T]) -> T | None:
        """The choice that number *index* makes."""
        return among[self.numbers[index] % len(among)] if among else None

    def fraction(self, index: int) -> float:
        """Number *index* as a share of one."""
        return self.numbers[index] % 1000 / 1000


Act = Callable[["Simulation", Step], Awaitable[None]]
_STEPS: dict[str, tuple[int, Act]] = {}


def step(weight: int) -> Callable[[Act], Act]:
    """A kind of step, and how often it comes compared with the others."""

    def register(act: Act) -> Act:
        _STEPS[act.__name__] = (weight, act)
        return act

    return register


def draw(random: Random, count: int) -> tuple[Step, ...]:
    """
    A scenario: first some Pods and routes, then anything.

    Each has a taste of its own: some kinds of step often, some never, and few addresses, over which routes quarrel.
    """
    names = list(_STEPS)
    weights = [_STEPS[name][0] * random.choice((0, 1, 1, 4)) for name in names]
    if not any(weights):
        weights = [1] * len(names)
    wanted = random.sample(range(len(ADDRESSES)), random.choice((1, 2, 3, len(ADDRESSES))))
    begin = ["pod_starts"] * 3 + ["route_made"] * 2
    rest = random.choices(names, weights, k=count)
    return tuple(Step(name, _numbers(random, wanted), random.choice(WAITS)) for name in begin + rest)


def _numbers(random: Random, wanted: Sequence[int]) -> tuple[int, ...]:
    """Any numbers, but for the last two, which choose addresses."""
    numbers = [random.randrange(1 << 16) for _ in range(6)]
    return (*numbers, *(random.choice(wanted) + len(ADDRESSES) * random.randrange(1 << 12) for _ in range(2)))


async def play(simulation: Simulation, step_: Step) -> None:
    """Do it."""
    await _STEPS[step_.name][1](simulation, step_)


def fall_behind(simulation: Simulation, process: Process, kind: Kind, seconds: float) -> None:
    """One watch of one process hears nothing for a while."""
    simulation.trace.note("network", f"{process.name} hears nothing of {kind}s for {seconds:.2f} s")
    process.link.behind_until[kind] = now() + seconds
    simulation.network.expect_late(seconds)


# ---------------------------------------------------------------- Pods
def machines(simulation: Simulation, *, is_on: bool) -> list[Machine]:
    """Those that run, or those that do not."""
    return [each for each in simulation.site.machines.values() if each.is_on is is_on]


def _staying(simulation: Simulation) -> list[Pod]:
    return [pod for pod in simulation.site.pods() if not pod.meta.is_terminating]


def _sandboxes(simulation: Simulation) -> list[Sandbox]:
    return [each for each in simulation.site.sandboxes.values() if each.is_up]


@step(9)
async def pod_starts(simulation: Simulation, step_: Step) -> None:
    """A Pod comes."""
    machine = step_.pick(0, machines(simulation, is_on=True))
    namespace, name = step_.pick(1, NAMESPACES), step_.pick(2, PODS)
    if machine is not None and namespace is not None and name is not None:
        await simulation.site.start_pod(namespace, name, machine, ready_after=2.0 * step_.fraction(3) ** 2)


@step(8)
async def pod_turns(simulation: Simulation, step_: Step) -> None:
    """A Pod turns Ready, or not Ready."""
    pod = step_.pick(0, [each for each in simulation.site.pods() if each.ips])
    if pod is not None and simulation.site.machines[pod.node_name].is_on:
        await simulation.site.set_ready(pod.key, not pod.ready, pod.meta.uid)


@step(4)
async def pod_deleted(simulation: Simulation, step_: Step) -> None:
    """A Pod is deleted as it should be."""
    pod = step_.pick(0, _staying(simulation))
    if pod is not None:
        await simulation.site.end_pod(pod, grace=30, sandbox_after=step_.fraction(1) * 3, object_after=0.1)


@step(3)
async def pod_forced(simulation: Simulation, step_: Step) -> None:
    """A Pod is deleted by force; its machine hears of it later."""
    pod = step_.pick(0, simulation.site.pods())
    if pod is not None:
        await simulation.site.end_pod(pod, grace=0, sandbox_after=step_.fraction(1), object_after=0.0)


@step(4)
async def pod_replaced(simulation: Simulation, step_: Step) -> None:
    """A Pod is deleted by force and made again under its name, on some machine."""
    pod = step_.pick(0, simulation.site.pods())
    machine = step_.pick(1, machines(simulation, is_on=True))
    if pod is not None and machine is not None:
        leaders = [each for each in simulation.processes() if each.name.startswith("controller")]
        if leaders and step_.numbers[4] % 3 == 0:
            fall_behind(simulation, leaders[-1], Kind.POD, 1.0)
        await simulation.site.end_pod(pod, grace=0, sandbox_after=step_.fraction(2), object_after=0.0)
        await simulation.site.start_pod(pod.meta.namespace, pod.meta.name, machine, ready_after=step_.fraction(3) ** 3)


@step(3)
async def ip_used_again(simulation: Simulation, step_: Step) -> None:
    """A Pod's sandbox dies, and another Pod gets its IP at once; now and then the machine's agent dies as well."""
    sandbox = step_.pick(0, [each for each in _sandboxes(simulation) if simulation.site.is_present(each)])
    if sandbox is None:
        return
    await simulation.site.crash_sandbox(sandbox, back_after=0.2 + step_.fraction(1))
    free = [
        (namespace, name)
        for namespace in NAMESPACES
        for name in (*PODS, "db-0", "db-1")
        if simulation.site.find(Kind.POD, namespace, name) is None
    ]
    other = step_.pick(2, free)
    if other is not None:
        await simulation.site.start_pod(*other, simulation.site.machines[sandbox.machine], ready_after=0.1)
    if step_.numbers[3] % 2:
        await simulation.crash_agent(sandbox.machine, back_after=step_.fraction(4) * 0.1)


@step(2)
async def link_made_again(simulation: Simulation, step_: Step) -> None:
    """A Pod's link is made anew, a holder's where there is one."""
    attachments = (each for each in simulation.ledger.objects.values() if isinstance(each, AddressAttachment))
    holders = {each.spec.holder.pod_uid for each in attachments if each.spec.holder is not None}
    held = [each for each in _sandboxes(simulation) if each.uid in holders]
    sandbox = step_.pick(0, held or _sandboxes(simulation))
    if sandbox is not None:
        simulation.trace.note("machine", f"makes the link of {sandbox.key.path} anew")
        simulation.site.recreate_link(sandbox)


# ---------------------------------------------------------------- routes
def chosen_values(step_: Step) -> list[str]:
    """One or two addresses that do not overlap."""
    first, second = step_.pick(6, ADDRESSES), step_.pick(7, (*ADDRESSES, *[None] * len(ADDRESSES)))
    values = [each for each in (first, second) if each is not None]
    return sorted(set(values)) if "203.0.113.0/30" not in values else values[:1]


def _describe(values: Sequence[str], parents: Sequence[str]) -> str:
    return f"{', '.join(values)} by {' and '.join(parents)}"


@step(6)
async def route_made(simulation: Simulation, step_: Step) -> None:
    """A route is made."""
    place, parents = step_.pick(0, ROUTES), step_.pick(3, PARENTS)
    assert place is not None
    assert parents is not None
    mode = "Exists" if step_.numbers[4] % 4 == 0 else "ReadyCondition"
    body = route_body(*place, chosen_values(step_), parents, mode)
    plugged = sorted(simulation.modes)
    if plugged and step_.numbers[5] % 2 == 0:
        body["metadata"]["annotations"] = {"persistip.dev/reaction-mode": plugged[step_.numbers[5] % len(plugged)]}
    elif step_.numbers[5] % 7 == 1:
        body["metadata"]["annotations"] = {"persistip.dev/failback": "never"}
    if await simulation.site.create(body):
        simulation.trace.note(USER, f"route {'/'.join(place)} for {_describe(chosen_values(step_), parents)}, {mode}")


def routes(simulation: Simulation) -> list[GKEIPRoute]:
    """Those that are ours, by name."""
    found = (simulation.ledger.objects[key] for key in sorted(simulation.ledger.objects) if key.kind is Kind.ROUTE)
    return [each for each in found if isinstance(each, GKEIPRoute) and each.meta.name != "foreign"]


@step(6)
async def route_edited(simulation: Simulation, step_: Step) -> None:
    """A route claims other addresses, or through other Gateways."""
    found, parents, values = step_.pick(0, routes(simulation)), step_.pick(3, PARENTS), chosen_values(step_)
    if found is None or parents is None:
        return

    def change(body: Any) -> None:
        body["spec"]["addresses"] = addresses(values)
        body["spec"]["parentRefs"] = [{"name": parent, "namespace": "infra"} for parent in parents]

    simulation.trace.note(USER, f"route {found.key.path} is edited: {_describe(values, parents)}")
    await simulation.site.edit(Kind.ROUTE, found.meta.namespace, found.meta.name, change)


@step(3)
async def route_extended(simulation: Simulation, step_: Step) -> None:
    """A route claims one more address, perhaps another's."""
    found = step_.pick(0, routes(simulation))
    if found is None or "203.0.113.0/30" in (*chosen_values(step_), *(each.value for each in found.addresses)):
        return
    values = sorted({each.value for each in found.addresses} | set(chosen_values(step_)))
    simulation.trace.note(USER, f"route {found.key.path} is extended: {', '.join(values)}")
    await simulation.site.edit(
        Kind.ROUTE,
        found.meta.namespace,
        found.meta.name,
        lambda body: body["spec"].update({"addresses": addresses(values)}),
    )


@step(3)
async def route_deleted(simulation: Simulation, step_: Step) -> None:
    """A route is deleted."""
    found = step_.pick(0, routes(simulation))
    if found is not None:
        simulation.trace.note(USER, f"route {found.key.path} is deleted")
        await simulation.site.delete(Kind.ROUTE, found.meta.namespace, found.meta.name)


@step(4)
async def route_made_again(simulation: Simulation, step_: Step) -> None:
    """A route is deleted and at once made again under its name."""
    found, parents, values = step_.pick(0, routes(simulation)), step_.pick(3, PARENTS), chosen_values(step_)
    if found is None or parents is None:
        return
    simulation.trace.note(USER, f"route {found.key.path} is made again: {_describe(values, parents)}")
    await simulation.site.delete(Kind.ROUTE, found.meta.namespace, found.meta.name)
    await simulation.site.create(route_body(found.meta.namespace, found.meta.name, values, parents))


# ---------------------------------------------------------------- permissions
@step(3)
async def namespace_labelled(simulation: Simulation, step_: Step) -> None:
    """A namespace loses or gains its label."""
    name = step_.pick(0, NAMESPACES)

    def change(body: Any) -> None:
        labels = body["metadata"].setdefault("labels", {})
        if labels.pop(LABEL, None) is None or step_.numbers[1] % 3:
            labels[LABEL] = "yes"
        simulation.trace.note(USER, f"namespace {name} has labels {labels}")

    await simulation.site.edit(Kind.NAMESPACE, "", name or "", change)


@step(3)
async def gateway_edited(simulation: Simulation, step_: Step) -> None:
    """A Gateway loses or regains half of its pool, or opens or closes its listener."""
    name = step_.pick(0, tuple(POOLS)) or ""

    def change(body: Any) -> None:
        if step_.numbers[1] % 3:
            whole = addresses(POOLS[name])
            is_whole = body["spec"]["addresses"] == whole
            body["spec"]["addresses"] = whole[1:] if is_whole and step_.numbers[2] % 2 else whole
            simulation.trace.note(USER, f"Gateway {name} lists {[each['value'] for each in body['spec']['addresses']]}")
        else:
            opened = listener_body(is_open=True)
            opens = body["spec"]["listeners"] != [opened]
            body["spec"]["listeners"] = [opened if opens else listener_body(is_open=False)]
            simulation.trace.note(USER, f"Gateway {name} admits {'everybody' if opens else 'by label'}")

    await simulation.site.edit(Kind.GATEWAY, "infra", name, change)


@step(1)
async def gateway_made_again(simulation: Simulation, step_: Step) -> None:
    """A Gateway is deleted and made again, at once or when this comes next."""
    name = step_.pick(0, tuple(POOLS)) or ""
    gone = await simulation.site.delete(Kind.GATEWAY, "infra", name)
    if not gone or step_.numbers[1] % 3:
        await simulation.site.create(gateway_body(name))
    simulation.trace.note(USER, f"Gateway {name} is {'deleted' if gone else 'made'}")


@step(1)
async def gateway_changes_class(simulation: Simulation, step_: Step) -> None:
    """A Gateway goes over to the other class of ours, which is made for the first that does."""
    name = step_.pick(0, tuple(POOLS)) or ""
    await simulation.site.create(gateway_class(OTHER_CLASS, "persistip.dev/controller"))

    def change(body: Any) -> None:
        present = body["spec"]["gatewayClassName"]
        body["spec"]["gatewayClassName"] = next(each for each in CLASSES if each != present)
        simulation.trace.note(USER, f"Gateway {name} is of class {body['spec']['gatewayClassName']}")

    await simulation.site.edit(Kind.GATEWAY, "infra", name, change)


@step(1)
async def attachment_deleted(simulation: Simulation, step_: Step) -> None:
    """An administrator deletes an attachment by hand."""
    place = step_.pick(0, ROUTES)
    assert place is not None
    if await simulation.site.delete(Kind.ATTACHMENT, "", attachment_name(*place)):
        simulation.trace.note(USER, f"deletes the attachment of {'/'.join(place)}")


@step(1)
async def broken_object(simulation: Simulation, step_: Step) -> None:
    """Somebody writes an object that cannot be read; it concerns nobody else."""
    kind = step_.pick(0, ("Pod", "GKEIPRoute", "Gateway"))
    bodies: dict[str, Any] = {
        "Pod": {"apiVersion": "v1", "spec": {"nodeName": 7}, "status": {"podIPs": "none"}},
        "GKEIPRoute": {"apiVersion": "networking.gke.io/v1", "spec": {"addresses": "203.0.113.1"}},
        "Gateway": {"apiVersion": "gateway.networking.k8s.io/v1", "spec": {"listeners": {"a": 1}}},
    }
    assert kind is not None
    namespace = "infra" if kind == "Gateway" else "shop"
    metadata = {"name": "broken", "namespace": namespace, "labels": {"app": "web"}}
    if await simulation.site.create({**bodies[kind], "kind": kind, "metadata": metadata}):
        simulation.trace.note(USER, f"writes a {kind} that cannot be read")
    else:
        await simulation.site.delete(Kind(kind), namespace, "broken")
