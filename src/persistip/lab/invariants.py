"""
Is what the system promises true of what was seen?

In: objects of the API, looks into kernels, answers of Pods; all values.  Out: Findings: how many things were looked at,
and a sentence for each that is not as promised. One function a question; nothing here waits or asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import attrs

from persistip.decide.catalog import Catalog
from persistip.decide.modes import BUILT_IN
from persistip.decide.plan_gateway import plan_class, plan_gateway
from persistip.decide.plan_route import RoutePlan, plan_route
from persistip.model.address import AddressSpec, IPAddress, Prefix, is_overlapping, is_within, parse_prefix, show
from persistip.model.attachment import AddressAttachment, Holder
from persistip.model.cloud import CloudState
from persistip.model.conditions import find_condition
from persistip.model.entry import NodeState, RouteEntry
from persistip.model.gateway import ConfigMap, Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.views import ClassView, GatewayView, Policy, RouteView
from persistip.strategies import Batch, ClusterObject

Named = Mapping[Prefix, frozenset[IPAddress]]
"""What the API names one node for: prefixes, and the IPs of the Pods that hold or release them there."""


@attrs.frozen
class Findings:
    """How many things were looked at, and a sentence for each that is not as promised."""

    checks: int = 0
    seen: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(self.checks + other.checks, self.seen + other.seen)


@attrs.frozen(kw_only=True)
class World:
    """
    All objects of one instant; ``unreadable`` are those that could not be decoded.

    ``leaders``: to which node a cloud sends the packets of each address; None: there is no cloud.
    """

    objects: Mapping[ObjectKey, ClusterObject]
    unreadable: Mapping[ObjectKey, str] = attrs.field(factory=dict)
    leaders: Mapping[str, str | None] | None = None

    @property
    def attachments(self) -> tuple[AddressAttachment, ...]:
        """Every attachment, by name."""
        return tuple(found for _, found in sorted(self.objects.items()) if isinstance(found, AddressAttachment))

    @property
    def routes(self) -> tuple[GKEIPRoute, ...]:
        """Every route, by name."""
        return tuple(found for _, found in sorted(self.objects.items()) if isinstance(found, GKEIPRoute))

    def without(self, keys: Iterable[ObjectKey]) -> World:
        """The same without some objects."""
        gone = frozenset(keys)
        return attrs.evolve(
            self, objects={key: found for key, found in self.objects.items() if key not in gone}, unreadable={}
        )

    def view(self, catalog: Catalog, key: ObjectKey, now: float) -> ClassView | GatewayView | RouteView:
        """What a decision may look at; of a cloud, where it sends packets, and not what its allocator believes."""
        view = catalog.view(key, now)
        if self.leaders is None or not isinstance(view, RouteView):
            return view
        prefixes = view.attachment.spec.held_prefixes if view.attachment is not None else ()
        leaders = {self.leaders.get(str(prefix.network_address)) for prefix in prefixes}
        leader = leaders.pop() if len(leaders) == 1 else None
        owned = ("what leads there",) if leader is not None else ()
        return attrs.evolve(view, cloud=CloudState(ready=leader is not None, leader=leader, owned=owned))


# ---------------------------------------------------------------- P1


def check_grants(attachments: Iterable[AddressAttachment]) -> Findings:
    """P1: what one attachment holds, no other holds or is still releasing."""
    all_ = tuple(attachments)
    seen = []
    for one, other in combinations(all_, 2):
        for first, second in ((one, other), (other, one)):
            released = tuple(prefix for release in second.spec.releasing for prefix in release.prefixes)
            for held in first.spec.held_prefixes:
                if first is one and any(is_overlapping(held, prefix) for prefix in second.spec.held_prefixes):
                    seen.append(f"{show(held)} is granted to {first.route_key} and {second.route_key} at once")
                elif any(is_overlapping(held, prefix) for prefix in released):
                    said = f"{show(held)} is granted to {first.route_key} while {second.route_key} still releases it"
                    seen.append(said)
    return Findings(sum(len(each.spec.held_prefixes) for each in all_), tuple(seen))


def check_epoch(before: AddressAttachment, after: AddressAttachment) -> Findings:
    """P1: the version of what agents must do never falls, or an old decision would pass for a new one."""
    if before.meta.uid != after.meta.uid:
        return Findings()
    if after.spec.epoch < before.spec.epoch:
        said = f"the epoch of {after.key} fell from {before.spec.epoch} to {after.spec.epoch}"
        return Findings(1, (said,))
    return Findings(1)


def check_named_pods(route: GKEIPRoute) -> Findings:
    """P1: a status names one Pod at most."""
    names = route.status.pods
    return Findings(1, (f"{route.key} names {len(names)} holders: {', '.join(names)}",) if len(names) > 1 else ())


# ---------------------------------------------------------------- P1 and P2, in the kernels


def check_kernel(node: str, state: NodeState, named: Mapping[str, Named]) -> tuple[Findings, Findings]:
    """
    P1 and P2: what a kernel holds, the API names this node for, and the Pod behind it.

    Two kernels may hold an address during a hand-over only, and then the API names both. *named* is all that was
    named, by node, at any time during the look.
    """
    mine = named.get(node, {})
    one_holder: list[str] = []
    permitted: list[str] = []
    prefixes = {entry.prefix for entry in state.entries | state.stale}
    for prefix in sorted(prefixes - mine.keys(), key=str):
        others = sorted(other for other, theirs in named.items() if prefix in theirs)
        if others:
            one_holder.append(f"{node}'s kernel holds {show(prefix)}, for which only {', '.join(others)} is named")
        else:
            permitted.append(f"{node}'s kernel holds {show(prefix)}, which no attachment grants")
    routes = [entry for entry in state.entries if isinstance(entry, RouteEntry) and entry.prefix in mine]
    permitted += [
        f"{node}'s kernel sends {show(entry.prefix)} to {entry.pod_ip}, the IP of no Pod that was chosen for it"
        for entry in sorted(routes, key=repr)
        if entry.pod_ip not in mine[entry.prefix]
    ]
    return Findings(len(prefixes), tuple(one_holder)), Findings(len(prefixes) + len(routes), tuple(permitted))


# ---------------------------------------------------------------- P2


def check_pod_namespace(attachment: AddressAttachment, pods: Mapping[str, tuple[str, str]]) -> Findings:
    """P2: the holder is a Pod of the route's namespace; *pods*: namespace and name of every Pod ever, by UID."""
    holder = attachment.spec.holder
    if holder is None:
        return Findings()
    expected = (attachment.spec.route.namespace, holder.pod_name)
    if pods.get(holder.pod_uid) == expected:
        return Findings(1)
    found = "/".join(pods.get(holder.pod_uid, ("no Pod", "")))
    return Findings(1, (f"{attachment.route_key} is held by a Pod of another namespace or name: {found}",))


def check_permissions(world: World) -> Findings:
    """P2: at rest, what is held is in the route's spec, in its Gateway's pool and within the class's parameters."""
    checks, seen = 0, []
    for attachment in world.attachments:
        route = world.objects.get(attachment.route_key)
        for address in attachment.spec.addresses:
            checks += 1
            why = _why_not_permitted(world, route, attachment, address.prefix, address.gateway.uid)
            if why is not None:
                seen.append(f"{attachment.route_key} holds {show(address.prefix)}, {why}")
    return Findings(checks, tuple(seen))


def _why_not_permitted(
    world: World, route: object, attachment: AddressAttachment, prefix: Prefix, gateway_uid: str
) -> str | None:
    if not isinstance(route, GKEIPRoute) or route.meta.uid != attachment.spec.route.uid:
        return "and the route does not exist"
    if prefix not in {parse_prefix(address) for address in route.addresses}:
        return "which the route does not ask for"
    accepted = find_condition(route.status.conditions, "Accepted")
    if accepted is not None and accepted.status == "False" and "what is attached stays" not in accepted.message:
        return f"though it is refused: {accepted.reason}"
    gateways = (found for found in world.objects.values() if isinstance(found, Gateway))
    gateway = next((found for found in gateways if found.meta.uid == gateway_uid), None)
    if gateway is None:
        return "from a Gateway that does not exist"
    if not _is_inside(prefix, (parse_prefix(address) for address in gateway.addresses)):
        return f"which is outside the pool of {gateway.key}"
    # A cloud knows whose an address is, and needs nobody's list.
    if world.leaders is None and not _is_inside(prefix, _allowed(world, gateway)):
        return f"which the parameters of class {gateway.class_name} do not allow"
    return None


def _is_inside(prefix: Prefix, pools: Iterable[object]) -> bool:
    return any(is_within(prefix, pool) for pool in pools if isinstance(pool, Prefix))


def _allowed(world: World, gateway: Gateway) -> Iterable[object]:
    """Read here and not by the code that decides: two readers must agree."""
    found = world.objects.get(ObjectKey(Kind.GATEWAY_CLASS, "", gateway.class_name))
    ref = found.parameters_ref if isinstance(found, GatewayClass) else None
    if ref is None:
        return ()
    parameters = world.objects.get(ObjectKey(Kind.CONFIG_MAP, ref.namespace, ref.name))
    text = dict(parameters.data).get("allowedAddresses", "") if isinstance(parameters, ConfigMap) else ""
    return (_network(word) for word in text.replace(",", " ").split())


def _network(word: str) -> object:
    return parse_prefix(AddressSpec("IPAddress", word))


# ---------------------------------------------------------------- P3 and P6


def instant_of(world: World) -> float:
    """
    The latest instant that the objects themselves tell.

    A cluster at rest has not been written since, so a decision made then and one made now are the same.
    """
    instants = [0.0]
    for found in world.objects.values():
        instants.append(found.meta.created_at)
        if isinstance(found, AddressAttachment):
            instants.append(found.spec.epoch / 1000)
            instants += [report.at for report in found.nodes]
        if isinstance(found, Pod):
            instants.append(found.ready_at)
        if isinstance(found, GKEIPRoute):
            instants += [condition.last_transition_at for condition in found.status.conditions]
    return max(instants)


def decide_anew(world: World, *, backwards: bool = False) -> Catalog:
    """A controller's memory that has seen nothing but these objects, one by one, in the order of keys or against it."""
    catalog = Catalog(Policy(knows_owners=world.leaders is not None), BUILT_IN)
    for key in sorted(world.objects, reverse=backwards):
        catalog.update(Batch(objects={key: world.objects[key]}))
    if world.unreadable:
        catalog.update(Batch(unreadable=dict(world.unreadable)))
    return catalog


def plan_anew(catalog: Catalog, world: World) -> Mapping[ObjectKey, RoutePlan]:
    """The plan of every route, by key."""
    now = instant_of(world)
    plans = {}
    for key in sorted(catalog.keys()):
        view = world.view(catalog, key, now)
        if isinstance(view, RouteView):
            plans[key] = plan_route(view)
    return plans


def check_same_decision(world: World) -> Findings:
    """P6: decided anew from the objects alone, in two orders, the holder is the one that the API names."""
    present = {each.route_key: each.spec.holder for each in world.attachments}
    checks, seen = 0, []
    for backwards in (False, True):
        for key, plan in plan_anew(decide_anew(world, backwards=backwards), world).items():
            checks += 1
            holder = present.get(key)
            # Who lost its claim would have a holder if it had an address.
            wanted = plan.holder if key in present or plan.verdict.is_accepted else None
            if (wanted and wanted.pod_uid) != (holder and holder.pod_uid):
                said = f"{_name(wanted)}, and the API names {_name(holder)}"
                seen.append(f"decided anew, {key} is held by {said}")
    return Findings(checks, tuple(dict.fromkeys(seen)))


def _name(holder: Holder | None) -> str:
    return holder.pod_name if holder is not None else "nobody"


def check_at_rest(world: World) -> Findings:
    """P3: nothing is left to do, and what should be held is Ready."""
    catalog, now = decide_anew(world), instant_of(world)
    plans = plan_anew(catalog, world)
    checks, seen = 0, []
    for key in sorted(catalog.keys()):
        checks += 1
        view = world.view(catalog, key, now)
        if isinstance(view, RouteView):
            actions = plans[key].actions
        else:
            actions = (plan_gateway(view) if isinstance(view, GatewayView) else plan_class(view)).actions
        if actions:
            names = ", ".join(type(action).__name__ for action in actions)
            seen.append(f"at rest, {key} still asks for {names}")
    for route in world.routes:
        plan = plans.get(route.key)
        if plan is not None and plan.verdict.is_accepted and plan.holder is not None:
            checks += 1
            if not _is_ready(route):
                ready = find_condition(route.status.conditions, "Ready")
                why = f"{ready.reason}: {ready.message}" if ready is not None else "nobody has said anything"
                seen.append(f"at rest, {route.key} is not Ready though {plan.holder.pod_name} should hold it ({why})")
    return Findings(checks, tuple(seen))


def check_quiet(before: Mapping[str, str], after: Mapping[str, str]) -> Findings:
    """P3: at rest nothing is written; versions of all objects, by name, some time apart."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return Findings(1, (f"at rest, somebody still writes: {', '.join(changed)}",) if changed else ())


def _is_ready(route: GKEIPRoute) -> bool:
    ready = find_condition(route.status.conditions, "Ready")
    return ready is not None and ready.status == "True" and ready.observed_generation == route.meta.generation


# ---------------------------------------------------------------- P4


def check_leaks(world: World, kernels: Mapping[str, NodeState]) -> Findings:
    """P4: at rest, a node has entries and pins of ours for what its Pods hold, and for nothing else."""
    checks, seen = 0, []
    for node, state in sorted(kernels.items()):
        held = {
            prefix: each.meta.uid
            for each in world.attachments
            if each.spec.holder is not None and each.spec.holder.node_name == node
            for prefix in each.spec.held_prefixes
        }
        prefixes = {entry.prefix for entry in state.entries | state.stale}
        checks += len(prefixes) + len(state.pins) + 1
        seen += [f"{node} still carries {show(prefix)}" for prefix in sorted(prefixes - held.keys(), key=str)]
        pins = {pin.attachment_uid for pin in state.pins} - set(held.values())
        seen += [f"{node} keeps the pin of attachment {uid}, which it does not serve" for uid in sorted(pins)]
    return Findings(checks, tuple(seen))


@attrs.frozen(kw_only=True)
class Kept:
    """What a node's kernel held of ours while these decisions stood: attachment and epoch, and which agent ran."""

    decisions: frozenset[tuple[str, int]]
    state: NodeState


def check_kept(node: str, before: Kept, after: Kept) -> Findings:
    """P4: with the same decisions, a node holds the same after its agent died, and after another began."""
    if before.decisions != after.decisions:
        return Findings()
    lost = before.state.entries - after.state.entries
    new = after.state.entries - before.state.entries
    seen = [f"{node} lost {_show_entry(entry)} with its agent" for entry in sorted(lost, key=repr)]
    seen += [f"{node} gained {_show_entry(entry)} with a new agent" for entry in sorted(new, key=repr)]
    return Findings(1 + len(before.state.entries), tuple(seen))


def _show_entry(entry: object) -> str:
    prefix = getattr(entry, "prefix", None)
    return f"its {type(entry).__name__} for {show(prefix)}" if prefix is not None else repr(entry)


def check_foreign(node: str, before: frozenset[str], after: frozenset[str]) -> Findings:
    """P4: what is not ours is as it was."""
    seen = [f"{node} lost what is not ours: {what}" for what in sorted(before - after)]
    seen += [f"{node} has something new that is not ours: {what}" for what in sorted(after - before)]
    return Findings(max(1, len(before)), tuple(seen))


# ---------------------------------------------------------------- P5


def check_ready(world: World, kernels: Mapping[str, NodeState], answers: Mapping[str, str | None]) -> Findings:
    """
    P5: Ready names a Pod, its node's kernel leads there, and the Pod answers at the address, in and out.

    *answers*: by address, ``name@uid`` of who answered the client outside. A reply has the address as its source, or
    the client would not have taken it.
    """
    attachments = {each.route_key: each for each in world.attachments}
    checks, seen = 0, []
    for route in world.routes:
        if not _is_ready(route):
            continue
        attachment = attachments.get(route.key)
        holder = attachment.spec.holder if attachment is not None else None
        checks += 1
        if attachment is None or holder is None or route.status.pods != (holder.pod_name,):
            named = ", ".join(route.status.pods) or "nobody"
            seen.append(f"{route.key} is Ready and names {named}, and {_name(holder)} holds it")
            continue
        state = kernels.get(holder.node_name, NodeState())
        for prefix in attachment.spec.held_prefixes:
            checks += 2
            leads = [entry for entry in state.entries if isinstance(entry, RouteEntry) and entry.prefix == prefix]
            if not any(entry.pod_ip in holder.pod_ips for entry in leads):
                seen.append(f"{route.key} is Ready, and {holder.node_name} does not send {show(prefix)} to its Pod")
            who = answers.get(str(prefix.network_address))
            if who != f"{holder.pod_name}@{holder.pod_uid}":
                said = f"{who.partition('@')[0]} answers" if who else "nobody answers"
                seen.append(f"{route.key} is Ready and held by {holder.pod_name}, and {said} at {show(prefix)}")
    return Findings(checks, tuple(seen))


# ---------------------------------------------------------------- P7


def check_others(world: World) -> Findings:
    """P7: without a refused route, or an object nobody can read, every other route is decided as it is with it."""
    present = {each.route_key: each.spec.holder for each in world.attachments}
    broken = {key for key, plan in plan_anew(decide_anew(world), world).items() if not plan.verdict.is_accepted}
    broken |= world.unreadable.keys()
    if not broken:
        return Findings()
    alone = world.without(broken)
    checks, seen = 0, []
    for key, plan in plan_anew(decide_anew(alone), world).items():
        if key not in alone.objects:
            continue
        checks += 1
        route, holder = alone.objects[key], present.get(key)
        accepted = find_condition(route.status.conditions, "Accepted") if isinstance(route, GKEIPRoute) else None
        is_same = (plan.holder and plan.holder.pod_uid) == (holder and holder.pod_uid)
        if not is_same or (accepted is not None and accepted.status == "True") != plan.verdict.is_accepted:
            names = ", ".join(str(each) for each in sorted(broken))
            seen.append(f"{key} is not what it would be without {names}")
    return Findings(checks, tuple(seen))
