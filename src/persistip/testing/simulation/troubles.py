"""
What may go wrong with machines, processes and what is between them? Steps beside those of users.

In: choices, as in ``steps.py``.  Out: crashes, hand-overs, watches that lag and break, nodes that go and come.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from persistip.model.keys import Kind
from persistip.testing.simulation.network import MAX_LATE_SECONDS
from persistip.testing.simulation.site import ADDRESSES, EXCUSED_SECONDS, USER, addresses
from persistip.testing.simulation.site import route as route_body
from persistip.testing.simulation.steps import Step, chosen_values, fall_behind, machines, step
from persistip.testing.simulation.trace import now

if TYPE_CHECKING:
    from persistip.testing.simulation.run import Simulation


# ---------------------------------------------------------------- machines
@step(2)
async def machine_dies(simulation: Simulation, step_: Step) -> None:
    """A machine loses power; the node controller says so a little later, or is told by an administrator."""
    machine = step_.pick(0, machines(simulation, is_on=True))
    if machine is None or len(machines(simulation, is_on=True)) == 1:
        return
    simulation.trace.note("machine", f"{machine.name} dies")
    await simulation.power_off(machine)
    for pod in simulation.site.pods():
        if pod.node_name == machine.name:
            simulation.site.later(step_.fraction(1) * 5, simulation.site.set_ready, pod.key, False, pod.meta.uid)


@step(2)
async def machine_declared_gone(simulation: Simulation, step_: Step) -> None:
    """An administrator says of a dead machine that it is off, by taint or by deleting its Node."""
    machine = step_.pick(0, machines(simulation, is_on=False))
    if machine is None:
        return
    by_taint = step_.numbers[1] % 2 == 0
    simulation.trace.note(USER, f"{'taints' if by_taint else 'deletes'} Node {machine.name}")
    if not by_taint:
        await simulation.site.delete(Kind.NODE, "", machine.name)
        for pod in simulation.site.pods():
            if pod.node_name == machine.name:
                await simulation.site.delete(Kind.POD, pod.meta.namespace, pod.meta.name)
        return
    taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    await simulation.site.edit(Kind.NODE, "", machine.name, lambda body: body["spec"].update({"taints": [taint]}))


@step(1)
async def node_made_again(simulation: Simulation, step_: Step) -> None:
    """Somebody deletes the Node object of a running machine, whose kubelet registers it again."""
    machine = step_.pick(0, machines(simulation, is_on=True))
    if machine is not None:
        simulation.trace.note(USER, f"deletes Node {machine.name}; its kubelet makes it again")
        machine.mistaken_until = now() + EXCUSED_SECONDS
        await simulation.site.delete(Kind.NODE, "", machine.name)
        for pod in simulation.site.pods():
            if pod.node_name == machine.name and step_.numbers[1] % 2:
                # The garbage collector was quicker than kubelet.
                await simulation.site.end_pod(pod, grace=0, sandbox_after=step_.fraction(2), object_after=0.0)
        await asyncio.sleep(step_.fraction(3))
        machine.mistaken_until = now() + EXCUSED_SECONDS
        await simulation.site.register(machine)


@step(3)
async def machine_boots(simulation: Simulation, step_: Step) -> None:
    """A dead machine comes back."""
    machine = step_.pick(0, machines(simulation, is_on=False))
    if machine is not None:
        simulation.trace.note("machine", f"{machine.name} boots")
        await simulation.power_on(machine)


@step(3)
async def kernel_drifts(simulation: Simulation, step_: Step) -> None:
    """Somebody removes or damages an entry of ours."""
    machine = step_.pick(0, machines(simulation, is_on=True))
    if machine is None:
        return
    kernel = simulation.site.fabric.node(machine.name)
    entry = step_.pick(1, sorted(kernel.entries, key=repr))
    if entry is not None:
        simulation.trace.note("machine", f"{machine.name} loses {entry}")
        act = simulation.site.fabric.lose if step_.numbers[2] % 2 else simulation.site.fabric.damage
        act(machine.name, entry)
        simulation.site.drifted.add((machine.name, entry))


# ---------------------------------------------------------------- processes and what is between them
@step(5)
async def controller_crashes(simulation: Simulation, step_: Step) -> None:
    """The leader dies; another process leads a little later."""
    await simulation.crash_leader()
    simulation.site.later(3 * step_.fraction(0) ** 2, simulation.lead_if_nobody_does)


@step(5)
async def leader_changes(simulation: Simulation, step_: Step) -> None:
    """The leader is deposed and another leads at once; what the old one asked for last arrives late."""
    await simulation.depose(after=0.3 * step_.fraction(0))


@step(2)
async def leaders_overlap(simulation: Simulation, step_: Step) -> None:
    """Another process leads, and the old leader, which should know, leads on for a while."""
    simulation.hand_over(overlap=MAX_LATE_SECONDS * step_.fraction(0))


@step(5)
async def agent_crashes(simulation: Simulation, step_: Step) -> None:
    """An agent dies and starts anew."""
    machine = step_.pick(0, machines(simulation, is_on=True))
    if machine is not None:
        await simulation.crash_agent(machine.name, back_after=3 * step_.fraction(1) ** 2)


@step(5)
async def watch_lags(simulation: Simulation, step_: Step) -> None:
    """One watch of one process hears nothing for a while."""
    process = step_.pick(0, simulation.processes())
    kind = step_.pick(1, (Kind.POD, Kind.ROUTE, Kind.ATTACHMENT, Kind.NAMESPACE, Kind.GATEWAY, Kind.NODE))
    if process is not None and kind is not None:
        kind = Kind.ATTACHMENT if process.name.startswith("agent") else kind
        fall_behind(simulation, process, kind, MAX_LATE_SECONDS * step_.fraction(2))


@step(3)
async def leaders_disagree(simulation: Simulation, step_: Step) -> None:
    """Two leaders, of whom the old one has not heard of an edit, decide about one address for two routes at once."""
    site, value, place = simulation.site, chosen_values(step_)[0], "shop"
    other = next(each for each in ADDRESSES if each not in (value, "203.0.113.0/30"))
    for name in ("web", "web-old"):
        await site.delete(Kind.ROUTE, place, name)
    for pod in site.pods(place):
        await site.set_ready(pod.key, False, pod.meta.uid)
    simulation.trace.note(USER, f"routes shop/web for {other} and, younger, shop/web-old for {value}; no Pod is Ready")
    await site.create(route_body(place, "web", [other], ["pool", "second"]))
    await asyncio.sleep(1.0)
    await site.create(route_body(place, "web-old", [value], ["pool", "second"]))
    await asyncio.sleep(1.0 + step_.fraction(1))
    deposed = [each for each in simulation.processes() if each.name.startswith("controller")]
    simulation.hand_over(overlap=MAX_LATE_SECONDS)
    for process in deposed:
        fall_behind(simulation, process, Kind.ROUTE, 2.0)
    await asyncio.sleep(0.3)
    if step_.numbers[2] % 2:
        for process in simulation.processes():
            if process.name.startswith("controller"):
                fall_behind(simulation, process, Kind.ATTACHMENT, 0.5)
    simulation.trace.note(USER, f"route shop/web is edited: {value}")
    await site.edit(Kind.ROUTE, place, "web", lambda body: body["spec"].update({"addresses": addresses([value])}))
    await asyncio.sleep(0.1)
    for pod in site.pods(place):
        if pod.ips and site.machines[pod.node_name].is_on:
            await site.set_ready(pod.key, True, pod.meta.uid)


@step(3)
async def watch_breaks(simulation: Simulation, step_: Step) -> None:
    """A watch of a process breaks with its next event, or its history expires."""
    process = step_.pick(0, simulation.processes())
    kind = step_.pick(1, (Kind.POD, Kind.ATTACHMENT, Kind.ROUTE))
    if process is not None and kind is not None:
        expires = step_.numbers[2] % 2 == 0
        simulation.trace.note("network", f"{process.name}: watch of {kind}s {'expires' if expires else 'breaks'}")
        (process.link.expired if expires else process.link.broken).add(kind)


@step(1)
async def server_restarts(simulation: Simulation, _: Step) -> None:
    """All watches end, and the history is gone."""
    simulation.trace.note("network", "the API server restarts")
    simulation.ledger.store.compact()
    simulation.ledger.store.break_watches()


@step(2)
async def agent_cut_off(simulation: Simulation, step_: Step) -> None:
    """An agent cannot reach the API server for a while."""
    process = step_.pick(0, [each for each in simulation.processes() if each.name.startswith("agent")])
    if process is None:
        return
    seconds = 8 * step_.fraction(1)
    simulation.trace.note("network", f"{process.name} is cut off for {seconds:.2f} s")
    process.link.is_cut = True

    async def mend() -> None:
        process.link.is_cut = False

    simulation.site.later(seconds, mend)
