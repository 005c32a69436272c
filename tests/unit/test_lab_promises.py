"""Does each check of a promise fail when the promise is broken, and hold when it is not?"""

import asyncio
import signal
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

import attrs
import pytest

from persistip.cli.lab import EXAMPLE
from persistip.lab import promises
from persistip.lab.cluster import Lab
from persistip.lab.invariants import (
    Kept,
    World,
    check_at_rest,
    check_epoch,
    check_foreign,
    check_grants,
    check_kept,
    check_kernel,
    check_leaks,
    check_named_pods,
    check_others,
    check_permissions,
    check_pod_namespace,
    check_quiet,
    check_ready,
    check_same_decision,
)
from persistip.lab.options import LabOptions
from persistip.lab.promises import Timeline, make_promises, read_world
from persistip.lab.results import PromiseResult
from persistip.lab.virtual import VirtualSite
from persistip.lab.virtualtime import VirtualTimeLoop
from persistip.model.address import AddressSpec
from persistip.model.attachment import AddressAttachment, How, Release
from persistip.model.entry import NodeState, Pin, RouteEntry
from persistip.model.gateway import Gateway
from persistip.model.keys import Kind, ObjectKey, attachment_name
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.wire.files import read_files

NAT = ObjectKey(Kind.ROUTE, "phone", "nat")
SIP = ObjectKey(Kind.ROUTE, "phone", "sip-0")
ADDRESS = ip_network("192.0.2.140")


@attrs.frozen
class Rest:
    """The example cluster at rest: its objects, its kernels, and who answers at its addresses."""

    world: World
    kernels: Mapping[str, NodeState]
    answers: Mapping[str, str | None]

    def attachment(self, route: ObjectKey = NAT) -> AddressAttachment:
        """Return the decision about a route."""
        found = self.world.objects[ObjectKey(Kind.ATTACHMENT, "", attachment_name(route.namespace, route.name))]
        assert isinstance(found, AddressAttachment)
        return found

    def route(self, key: ObjectKey = NAT) -> GKEIPRoute:
        """Return a route."""
        found = self.world.objects[key]
        assert isinstance(found, GKEIPRoute)
        return found

    def holder_node(self) -> str:
        """Return the node on which the addresses are held."""
        holder = self.attachment().spec.holder
        assert holder is not None
        return holder.node_name

    def with_spec(self, **changes: object) -> World:
        """Return the objects, the decision about NAT changed."""
        old = self.attachment()
        return self.having(attrs.evolve(old, spec=attrs.evolve(old.spec, **changes)))

    def having(self, *objects: GKEIPRoute | AddressAttachment | Gateway | Pod) -> World:
        """Return the objects with some replaced or added."""
        return World(objects={**self.world.objects, **{found.key: found for found in objects}})


async def run_lab(use: Callable[[Lab], object]) -> None:
    """Bring the example up on simulated packets, and let *use* look at it."""
    async with VirtualSite() as site, Lab(site, LabOptions(datapath="memory")) as lab:
        for manifest in read_files([EXAMPLE]).objects:
            await lab.apply(manifest.body)
        assert await lab.settled(30)
        result = use(lab)
        if asyncio.iscoroutine(result):
            await result


def in_virtual_time(use: Callable[[Lab], object]) -> None:
    """Run the lab in a loop that need not wait."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run_lab(use))


@pytest.fixture(scope="module")
def rest() -> Rest:
    """Return the example cluster at rest."""
    found: list[Rest] = []

    async def look(lab: Lab) -> None:
        world = await read_world(lab.store)
        kernels = {node: await lab.kernel(node) for node in lab.nodes}
        prefixes = [prefix for each in world.attachments for prefix in each.spec.held_prefixes]
        answers = {str(each.network_address): await lab.reach(str(each.network_address)) for each in prefixes}
        found.append(Rest(world, kernels, answers))

    in_virtual_time(look)
    return found[0]


def test_cluster_at_rest_breaks_no_promise(rest: Rest) -> None:
    """What the real controller and agents reach passes every check that looks at a cluster at rest."""
    named = Timeline().named(rest.world.attachments)
    findings = [
        check_grants(rest.world.attachments),
        check_permissions(rest.world),
        check_at_rest(rest.world),
        check_leaks(rest.world, rest.kernels),
        check_ready(rest.world, rest.kernels, rest.answers),
        check_same_decision(rest.world),
        *(found for node in rest.kernels for found in check_kernel(node, rest.kernels[node], named)),
    ]
    assert [sentence for found in findings for sentence in found.seen] == []
    assert all(found.checks for found in findings)


# ---------------------------------------------------------------- P1


def test_address_granted_twice_is_seen(rest: Rest) -> None:
    """One address, not pending, in two attachments breaks P1."""
    other = rest.attachment(SIP)
    twice = attrs.evolve(other, spec=attrs.evolve(other.spec, addresses=rest.attachment().spec.addresses))
    seen = check_grants((rest.attachment(), twice)).seen
    assert "192.0.2.140 is granted to GKEIPRoute phone/nat and GKEIPRoute phone/sip-0 at once" in seen


def test_pending_claim_is_no_grant(rest: Rest) -> None:
    """An address that is pending in the second attachment breaks nothing."""
    other = rest.attachment(SIP)
    pending = tuple(attrs.evolve(each, pending=True) for each in rest.attachment().spec.addresses)
    waiting = attrs.evolve(other, spec=attrs.evolve(other.spec, addresses=pending))
    assert check_grants((rest.attachment(), waiting)).seen == ()


@pytest.mark.parametrize("is_first", [True, False])
def test_address_granted_while_still_released_is_seen(rest: Rest, is_first: bool) -> None:
    """An address that goes to another route before the last node let go breaks P1."""
    other = rest.attachment(SIP)
    releasing = (release("node-a", rest),)
    leaving = attrs.evolve(other, spec=attrs.evolve(other.spec, addresses=(), releasing=releasing))
    both = (rest.attachment(), leaving) if is_first else (leaving, rest.attachment())
    said = "192.0.2.140 is granted to GKEIPRoute phone/nat while GKEIPRoute phone/sip-0 still releases it"
    assert check_grants(both).seen == (said,)


def release(node: str, rest: Rest) -> Release:
    """Return an entry by which *node* still has to let the address go."""
    holder = rest.attachment().spec.holder
    assert holder is not None
    return Release(
        prefixes=(ADDRESS,),
        pod_name=holder.pod_name,
        pod_uid=holder.pod_uid,
        node_name=node,
        node_uid="of-the-node",
        how=How.NOW,
        epoch=1,
        since_at=0.0,
    )


def test_epoch_that_falls_is_seen(rest: Rest) -> None:
    """The epoch of one attachment never falls, and that of another object of the name is not compared."""
    new = rest.attachment()
    old = attrs.evolve(new, spec=attrs.evolve(new.spec, epoch=new.spec.epoch - 1))
    assert check_epoch(old, new).seen == ()
    assert "fell from" in check_epoch(new, old).seen[0]
    other = attrs.evolve(old, meta=attrs.evolve(old.meta, uid="another"))
    assert check_epoch(new, other) == attrs.evolve(check_epoch(new, other), checks=0, seen=())


def test_status_with_two_pods_is_seen(rest: Rest) -> None:
    """A route's status that names two holders breaks P1."""
    route = rest.route()
    two = attrs.evolve(route, status=attrs.evolve(route.status, pods=("a", "b")))
    assert check_named_pods(route).seen == ()
    assert "names 2 holders: a, b" in check_named_pods(two).seen[0]


def test_second_kernel_with_the_address_is_seen_unless_it_is_handing_over(rest: Rest) -> None:
    """A kernel that holds an address of another node's breaks P1, and none while the API names it for the release."""
    node = rest.holder_node()
    other = next(each for each in rest.kernels if each != node)
    named = Timeline().named(rest.world.attachments)
    one_holder, permitted = check_kernel(other, rest.kernels[node], named)
    assert any(
        f"{other}'s kernel holds 192.0.2.140, for which only {node} is named" in said for said in one_holder.seen
    )
    assert permitted.seen == ()
    handing = Timeline().named(rest.with_spec(releasing=(release(other, rest),)).attachments)
    assert not any("192.0.2.140," in said for said in check_kernel(other, rest.kernels[node], handing)[0].seen)


# ---------------------------------------------------------------- P2


def test_kernel_entry_that_nobody_granted_is_seen(rest: Rest) -> None:
    """A kernel that holds what no attachment grants breaks P2."""
    node = rest.holder_node()
    permitted = check_kernel(node, rest.kernels[node], {})[1]
    assert f"{node}'s kernel holds 192.0.2.140, which no attachment grants" in permitted.seen


def test_kernel_route_to_a_pod_that_nobody_chose_is_seen(rest: Rest) -> None:
    """A route in the kernel that leads to another Pod than the decision names breaks P2."""
    node = rest.holder_node()
    named = Timeline().named(rest.world.attachments)
    astray = {
        attrs.evolve(entry, pod_ip=ip_address("10.244.9.9")) if isinstance(entry, RouteEntry) else entry
        for entry in rest.kernels[node].entries
    }
    permitted = check_kernel(node, NodeState(entries=frozenset(astray)), named)[1]
    assert any("sends 192.0.2.140 to 10.244.9.9, the IP of no Pod that was chosen" in said for said in permitted.seen)


@pytest.mark.parametrize("where", [("shop", "nat"), None])
def test_holder_of_another_namespace_is_seen(rest: Rest, where: tuple[str, str] | None) -> None:
    """A holder whose UID belongs to a Pod of another namespace, or to none, breaks P2."""
    attachment = rest.attachment()
    assert attachment.spec.holder is not None
    uid, name = attachment.spec.holder.pod_uid, attachment.spec.holder.pod_name
    assert check_pod_namespace(attachment, {uid: ("phone", name)}).seen == ()
    assert "another namespace" in check_pod_namespace(attachment, {} if where is None else {uid: where}).seen[0]


def gateway_of(rest: Rest) -> Gateway:
    """Return the example's Gateway."""
    found = rest.world.objects[ObjectKey(Kind.GATEWAY, "network", "public")]
    assert isinstance(found, Gateway)
    return found


def refused(route: GKEIPRoute) -> GKEIPRoute:
    """Return the route with a status that refuses it."""
    conditions = tuple(
        attrs.evolve(each, status="False", reason="NotAllowedByListeners", message="no")
        if each.type == "Accepted"
        else each
        for each in route.status.conditions
    )
    return attrs.evolve(route, status=attrs.evolve(route.status, conditions=conditions))


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda rest: rest.world.without([NAT]), "and the route does not exist"),
        (lambda rest: rest.having(attrs.evolve(rest.route(), addresses=())), "which the route does not ask for"),
        (lambda rest: rest.having(refused(rest.route())), "though it is refused: NotAllowedByListeners"),
        (lambda rest: rest.world.without([gateway_of(rest).key]), "from a Gateway that does not exist"),
        (
            lambda rest: rest.having(
                attrs.evolve(gateway_of(rest), addresses=(AddressSpec("IPAddress", "192.0.2.200"),))
            ),
            "which is outside the pool of Gateway network/public",
        ),
        (
            lambda rest: rest.world.without([ObjectKey(Kind.CONFIG_MAP, "network", "public-addresses")]),
            "which the parameters of class gke-persistent-regional-external-managed do not allow",
        ),
    ],
)
def test_address_held_without_permission_is_seen(rest: Rest, plant: Callable[[Rest], World], said: str) -> None:
    """Each permission that is missing at rest breaks P2 by its own name."""
    assert f"GKEIPRoute phone/nat holds 192.0.2.140, {said}" in check_permissions(plant(rest)).seen


# ---------------------------------------------------------------- P3


def test_work_left_at_rest_is_seen(rest: Rest) -> None:
    """A route whose holder's Pod is gone still asks for a write: the cluster is not where the rules say."""
    holder = rest.attachment().spec.holder
    assert holder is not None
    world = rest.world.without([ObjectKey(Kind.POD, "phone", holder.pod_name)])
    assert any(
        "at rest, GKEIPRoute phone/nat still asks for ReplaceAttachment" in said for said in check_at_rest(world).seen
    )


def test_route_that_should_be_ready_and_is_not_is_seen(rest: Rest) -> None:
    """A holder that no agent ever confirmed breaks P3, and so does a route of which nobody says anything."""
    route = rest.route()
    conditions = tuple(
        attrs.evolve(each, status="False", reason="Programming") if each.type == "Ready" else each
        for each in route.status.conditions
    )
    for these in (conditions, ()):
        world = rest.having(attrs.evolve(route, status=attrs.evolve(route.status, conditions=these)))
        assert any("phone/nat is not Ready though" in said for said in check_at_rest(world).seen)


def test_write_at_rest_is_seen() -> None:
    """A version that changes, comes or goes while nothing should be written breaks P3."""
    before = {"GKEIPRoute phone/nat": "7"}
    assert check_quiet(before, before).seen == ()
    for after in ({"GKEIPRoute phone/nat": "8"}, {}, {**before, "Event phone/x": "9"}):
        assert "somebody still writes" in check_quiet(before, after).seen[0]


# ---------------------------------------------------------------- P4


def test_entry_and_pin_left_behind_are_seen(rest: Rest) -> None:
    """Entries and pins on a node that no longer holds their address break P4."""
    world = rest.with_spec(holder=None)
    node = rest.holder_node()
    pin = Pin(
        attachment_uid="gone", pod_uid="gone", epoch=1, link=next(iter(rest.kernels[node].uplinks)), hardware_address=""
    )
    kernels = {**rest.kernels, node: attrs.evolve(rest.kernels[node], pins=frozenset({pin}))}
    seen = check_leaks(world, kernels).seen
    assert f"{node} still carries 192.0.2.140" in seen
    assert f"{node} keeps the pin of attachment gone, which it does not serve" in seen


def test_entry_lost_or_gained_with_the_agent_is_seen(rest: Rest) -> None:
    """Under the same decisions any difference breaks P4; under others there is nothing to compare."""
    node = rest.holder_node()
    full = Kept(decisions=frozenset({("uid", 1)}), state=rest.kernels[node])
    bare = attrs.evolve(full, state=NodeState())
    assert check_kept(node, full, full).seen == ()
    assert any(f"{node} lost its RouteEntry for 192.0.2.140" in said for said in check_kept(node, full, bare).seen)
    assert any("gained" in said for said in check_kept(node, bare, full).seen)
    assert check_kept(node, full, attrs.evolve(bare, decisions=frozenset())).checks == 0


def test_foreign_thing_touched_is_seen() -> None:
    """What is not ours and is gone, or new, breaks P4."""
    both = frozenset({"route one", "route two"})
    assert check_foreign("node-a", both, both).seen == ()
    assert check_foreign("node-a", both, frozenset({"route two"})).seen == ("node-a lost what is not ours: route one",)
    assert "something new" in check_foreign("node-a", frozenset(), both).seen[0]


# ---------------------------------------------------------------- P5


@pytest.mark.parametrize(("who", "said"), [(None, "nobody answers"), ("other@uid", "other answers")])
def test_ready_route_that_does_not_answer_is_seen(rest: Rest, who: str | None, said: str) -> None:
    """Ready while nobody, or somebody else, answers at the address breaks P5."""
    seen = check_ready(rest.world, rest.kernels, {**rest.answers, "192.0.2.140": who}).seen
    assert [sentence for sentence in seen if f"{said} at 192.0.2.140" in sentence]


def test_ready_route_without_kernel_route_is_seen(rest: Rest) -> None:
    """Ready while the holder's kernel does not lead to the Pod breaks P5."""
    seen = check_ready(rest.world, {}, rest.answers).seen
    assert any("does not send 192.0.2.140 to its Pod" in sentence for sentence in seen)


def test_ready_route_that_names_another_pod_is_seen(rest: Rest) -> None:
    """Ready while status.pods names another Pod than the attachment breaks P5."""
    route = rest.route()
    world = rest.having(attrs.evolve(route, status=attrs.evolve(route.status, pods=("another",))))
    seen = check_ready(world, rest.kernels, rest.answers).seen
    assert any("is Ready and names another" in sentence for sentence in seen)


# ---------------------------------------------------------------- P6 and P7


def test_other_holder_decided_anew_is_seen(rest: Rest) -> None:
    """A holder that the objects alone do not give breaks P6."""
    holder = rest.attachment().spec.holder
    assert holder is not None
    wrong = rest.with_spec(holder=attrs.evolve(holder, pod_uid="another", pod_name="another"))
    seen = check_same_decision(wrong).seen
    assert any("the API names another" in said for said in seen)
    assert check_same_decision(rest.with_spec(holder=None)).seen


def rival_of(rest: Rest) -> GKEIPRoute:
    """Return a younger route that claims the same addresses, refused as the controller would."""
    route = rest.route()
    meta = attrs.evolve(route.meta, name="rival", uid="rival", created_at=route.meta.created_at + 60)
    status = attrs.evolve(route.status, pods=())
    return refused(attrs.evolve(route, meta=meta, status=status))


def test_broken_object_that_disturbs_nobody_is_no_breach(rest: Rest) -> None:
    """A refused route beside others is looked at, and nothing is seen; without one there is no occasion."""
    found = check_others(rest.having(rival_of(rest)))
    assert (found.checks, found.seen) == (4, ())
    assert check_others(rest.world).checks == 0


def test_broken_object_that_disturbs_another_is_seen(rest: Rest) -> None:
    """Another route that lost its holder, or its acceptance, beside a broken one breaks P7."""
    old, rival = rest.attachment(), rival_of(rest)
    empty = attrs.evolve(old, spec=attrs.evolve(old.spec, holder=None))
    said = "GKEIPRoute phone/nat is not what it would be without GKEIPRoute phone/rival"
    assert check_others(rest.having(rival, empty)).seen == (said,)
    assert check_others(rest.having(rival, refused(rest.route()))).seen == (said,)


def test_unreadable_object_counts_as_broken(rest: Rest) -> None:
    """An object that nobody can read is an occasion for P7 too."""
    key = ObjectKey(Kind.POD, "phone", "garbled")
    assert check_others(attrs.evolve(rest.world, unreadable={key: "is no Pod"})).checks == 4


# ---------------------------------------------------------------- the watch


def watched(use: Callable[[Lab], object]) -> Mapping[str, PromiseResult]:
    """Run the example with the watch over it, and *use* meanwhile; return what was found."""
    watch = make_promises()

    async def act(lab: Lab) -> None:
        watching = asyncio.create_task(watch.watch(lab))
        await asyncio.sleep(3)
        result = use(lab)
        if asyncio.iscoroutine(result):
            await result
        await asyncio.sleep(3)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    in_virtual_time(act)
    return watch.results()


async def kill_and_start_agent(lab: Lab) -> None:
    """Kill an agent that carries something, and start another."""
    node = next(route.place.node for route in await lab.routes() if route.place is not None)
    lab.signal_agent(node, signal.SIGKILL)
    await asyncio.sleep(1)
    await lab.start_agent(node)


def test_watch_over_a_move_and_a_dead_agent_counts_and_sees_nothing() -> None:
    """The watch looks at versions and kernels, and at a node whose agent died; the real system breaks nothing."""

    async def act(lab: Lab) -> None:
        await kill_and_start_agent(lab)
        await lab.delete("Pod", "phone", "sip-0")

    results = watched(act)
    assert {name: found.seen for name, found in results.items() if found.seen} == {}
    assert all(results[name].checks for name in ("P1", "P2", "P4"))


def test_watch_sees_a_grant_made_by_hand() -> None:
    """An attachment that somebody writes for an address of another is seen by the watch."""

    async def act(lab: Lab) -> None:
        name = attachment_name("phone", "nat")
        body = await lab.store.get("AddressAttachment", "", name)
        body["metadata"] = {"name": "r-by-hand"}
        body["spec"]["routeRef"] = {"namespace": "phone", "name": "thief", "uid": "thief"}
        await lab.store.create(body)

    results = watched(act)
    assert not results["P1"].held
    assert any("at once" in said for said in results["P1"].seen)


def test_watch_sees_entries_lost_with_an_agent() -> None:
    """A kernel entry that disappears while the agent is dead is seen as lost with it."""

    async def act(lab: Lab) -> None:
        node = next(route.place.node for route in await lab.routes() if route.place is not None)
        lab.signal_agent(node, signal.SIGKILL)
        site = lab.site
        assert isinstance(site, VirtualSite)
        entry = next(iter((await lab.kernel(node)).entries))
        site.fabric.lose(node, entry)
        await asyncio.sleep(1)

    results = watched(act)
    assert not results["P4"].held
    assert any("with its agent" in said for said in results["P4"].seen)


def test_watch_that_ends_by_itself_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the watch itself fails, no promise counts as kept."""

    def fail(*_: object) -> None:
        raise ArithmeticError("of ours")

    monkeypatch.setattr(promises, "check_kernel", fail)
    results = watched(lambda _: None)
    assert not any(found.held for found in results.values())
    assert "ended by itself" in results["P6"].seen[-1]


def test_look_at_rest_covers_every_promise_but_p7() -> None:
    """One look at the example at rest checks P2 to P6 and finds nothing."""
    watch = make_promises()
    in_virtual_time(watch.look)
    results = watch.results()
    assert {name: found.seen for name, found in results.items() if found.seen} == {}
    assert [name for name, found in results.items() if found.checks] == ["P2", "P3", "P4", "P5", "P6"]


def test_look_without_agents_sees_that_the_rules_are_not_reached() -> None:
    """Without agents the cluster never comes to be where the rules say, and P3 tells."""
    watch = make_promises()

    async def stop_and_look(lab: Lab) -> None:
        for node in lab.nodes:
            lab.signal_agent(node, signal.SIGKILL)
        await lab.delete("Pod", "phone", "sip-0")
        await asyncio.sleep(5)
        await watch.look(lab)

    in_virtual_time(stop_and_look)
    assert any("sip-0 is not Ready" in said for said in watch.results()["P3"].seen)
