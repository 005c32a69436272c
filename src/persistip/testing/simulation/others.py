"""
What do others do with the addresses, and with the machines on which they are delivered? Steps beside those of users.

In: choices, as in ``steps.py``.  Out: a second Gateway that lists the same addresses, Services that want them, wishes
about who holds, foreign routes in the way, machines that are suspected.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from persistip.model.attachment import AddressAttachment
from persistip.model.keys import Kind, attachment_key
from persistip.testing.simulation.rules import is_frozen
from persistip.testing.simulation.site import ADDRESSES, SINGLES, SYSTEM, USER, addresses
from persistip.testing.simulation.steps import PODS, Step, machines, routes, step

if TYPE_CHECKING:
    from persistip.testing.simulation.run import Simulation

SHARED = "203.0.113.0/30"
"""What the second Gateway lists too, when somebody makes it."""
SERVICES = ("front", "back")


@step(2)
async def gateway_lists_anothers(simulation: Simulation, _: Step) -> None:
    """The second Gateway lists addresses of the first one too, or no longer."""

    def change(body: Any) -> None:
        own = [each for each in body["spec"]["addresses"] if each["value"] != SHARED]
        shares = len(own) == len(body["spec"]["addresses"])
        body["spec"]["addresses"] = [*own, *addresses([SHARED])] if shares or not own else own
        simulation.trace.note(USER, f"Gateway second lists {[each['value'] for each in body['spec']['addresses']]}")

    await simulation.site.edit(Kind.GATEWAY, "infra", "second", change)


@step(4)
async def route_annotated(simulation: Simulation, step_: Step) -> None:
    """Somebody wishes a Pod, freezes the choice just before a newer Pod comes, or takes all wishes back."""
    found = step_.pick(0, routes(simulation))
    if found is None:
        return
    app = found.meta.name.split("-", maxsplit=1)[0]
    attachment = simulation.ledger.objects.get(attachment_key(found.key))
    present = attachment.spec.holder if isinstance(attachment, AddressAttachment) else None
    theirs = [
        pod.meta.name
        for pod in simulation.site.pods(found.meta.namespace)
        if pod.meta.name.startswith(app) and (present is None or present.pod_uid != pod.meta.uid)
    ]
    wishes: tuple[dict[str, str], ...] = (
        {"persistip.dev/prefer": step_.pick(2, theirs) or PODS[0]},
        {"persistip.dev/hold": "true"},
        {"persistip.dev/failback": "never"},
        {},
    )
    wish = step_.pick(1, wishes)
    simulation.trace.note(USER, f"route {found.key.path} is annotated: {wish}")
    kept = {key: value for key, value in found.meta.annotations.items() if key.endswith("/reaction-mode")}

    def change(body: Any) -> None:
        body["metadata"]["annotations"] = {**kept, **(wish or {})}

    await simulation.site.edit(Kind.ROUTE, found.meta.namespace, found.meta.name, change)
    if is_frozen(found) or not (wish or {}).get("persistip.dev/hold"):
        return
    await asyncio.sleep(1.5)
    machine = step_.pick(3, machines(simulation, is_on=True))
    if machine is not None:
        name = f"{app}-{step_.numbers[4] % 4}"
        await simulation.site.start_pod(found.meta.namespace, name, machine, ready_after=0.0)


@step(2)
async def service_wants_address(simulation: Simulation, step_: Step) -> None:
    """A Service with one of the addresses comes, or goes."""
    name, ip = step_.pick(0, SERVICES) or "", step_.pick(6, SINGLES)
    if await simulation.site.delete(Kind.SERVICE, "shop", name):
        simulation.trace.note(USER, f"Service {name} goes")
        return
    simulation.trace.note(USER, f"Service {name} has the external IP {ip}")
    spec = {"externalIPs": [str(ip)], "ports": [{"port": 80}]}
    metadata = {"name": name, "namespace": "shop"}
    await simulation.site.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})


@step(2)
async def obstacle_appears(simulation: Simulation, step_: Step) -> None:
    """Something foreign stands in a kernel where an address does or should, or is taken away again."""
    machine, value = step_.pick(0, machines(simulation, is_on=True)), step_.pick(6, ADDRESSES)
    if machine is not None and step_.numbers[1] % 2:
        standing = {str(entry.prefix) for entry in simulation.site.fabric.node(machine.name).entries}
        value = step_.pick(2, [each for each in ADDRESSES if str(ip_network(each)) in standing]) or value
    if machine is None or value is None:
        return
    fabric, prefix = simulation.site.fabric, ip_network(value)
    if prefix in fabric.node(machine.name).obstacles:
        simulation.trace.note("machine", f"{machine.name} has no foreign route for {value} any more")
        fabric.clear(machine.name, prefix)
    else:
        simulation.trace.note("machine", f"{machine.name} has a foreign route for {value}")
        fabric.obstruct(machine.name, prefix, f"a foreign route for {value}")


@step(2)
async def obstacle_to_successor(simulation: Simulation, step_: Step) -> None:
    """Something foreign stands where an address is delivered; then its Pod is not Ready, and another there follows."""
    site = simulation.site
    held = [
        each
        for each in simulation.ledger.objects.values()
        if isinstance(each, AddressAttachment) and each.spec.holder is not None and each.spec.held_prefixes
    ]
    attachment = step_.pick(0, sorted(held, key=lambda each: each.meta.name))
    holder = attachment.spec.holder if attachment is not None else None
    if attachment is None or holder is None or not site.machines[holder.node_name].is_on:
        return
    for prefix in attachment.spec.held_prefixes:
        simulation.trace.note("machine", f"{holder.node_name} has a foreign route for {prefix}")
        site.fabric.obstruct(holder.node_name, prefix, f"a foreign route for {prefix}")
    namespace, app = attachment.spec.route.namespace, attachment.spec.route.name.split("-", maxsplit=1)[0]
    name = f"{app}-{step_.numbers[1] % 4}"
    await site.start_pod(namespace, name, site.machines[holder.node_name], ready_after=0.0)
    await asyncio.sleep(0.5)
    for pod in site.pods(namespace):
        if pod.meta.uid == holder.pod_uid:
            await site.set_ready(pod.key, False, pod.meta.uid)


@step(2)
async def machine_suspected(simulation: Simulation, step_: Step) -> None:
    """A machine, running or not, is recorded as dead, or cleared."""
    machine = step_.pick(0, tuple(simulation.site.machines.values()))
    node = simulation.site.find(Kind.NODE, "", machine.name) if machine is not None else None
    if machine is None or node is None:
        return
    name = "persistip-suspects"
    await simulation.site.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": SYSTEM}, "data": {}}
    )

    def change(body: Any) -> None:
        data = body.get("data") or {}
        if data.pop(machine.name, None) is None:
            data[machine.name] = f"{node.meta.uid} since some time"
        body["data"] = data
        simulation.trace.note("controller", f"suspects {sorted(data)}")

    await simulation.site.edit(Kind.CONFIG_MAP, SYSTEM, name, change)
