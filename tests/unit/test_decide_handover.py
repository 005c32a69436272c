"""What the next write says: prepared nodes, unknown fields, forgotten entries, attachments that nobody can read."""

from ipaddress import ip_address, ip_network

import attrs
from world import World, furniture, gateway, holder, pod, route

from persistip.decide.handover import (
    MAX_FORGETTABLE,
    Wanted,
    drained_spec,
    first_spec,
    is_leaving,
    next_epoch,
    next_spec,
)
from persistip.decide.plan_route import plan_route
from persistip.decide.verdict import Claim
from persistip.model.actions import ReplaceAttachment
from persistip.model.attachment import (
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Damped,
    How,
    NodeReport,
    Prepared,
    Reference,
    Release,
)
from persistip.model.keys import CLASS_LABEL, Kind, ObjectKey, ObjectMeta, node_label
from persistip.strategies import Batch

OTHERS = ObjectKey(Kind.ATTACHMENT, "", "r-of-somebody")


def settled(*pods: object) -> World:
    """A world in which Pod x of node a holds the address."""
    world = World()
    world.put(pod("x", "a", age=50), *pods, route())  # type: ignore[arg-type]
    world.settle()
    assert holder(world) == "x"
    return world


def replacement(world: World) -> ReplaceAttachment:
    """The replacement that the plan begins with."""
    action = plan_route(world.view()).actions[0]
    assert isinstance(action, ReplaceAttachment)
    return action


def with_strays(world: World, count: int) -> None:
    """Entries of nodes that no longer have a part in the attachment."""
    present = world.attachment()
    strays = tuple(NodeReport(node_name=f"n{number}", epoch=1) for number in range(count))
    others = tuple(report for report in present.nodes if not report.node_name.startswith("n"))
    world.put(attrs.evolve(present, nodes=(*others, *strays)))


def test_failover_forgets_the_entries_of_nodes_without_a_part() -> None:
    """The next write takes them away; the holder's entry and the releasing node's stay."""
    world = settled(pod("yy", "b", age=60))
    with_strays(world, 2)
    assert world.step().actions == (), "not for a write of its own"
    world.put(pod("x", "a", age=50, ready=False))
    action = replacement(world)
    assert action.forgotten == ("n0", "n1")
    assert [report.node_name for report in action.attachment.nodes] == ["a"]
    world.settle()
    assert holder(world) == "yy"
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60, ready=False))
    world.settle()
    assert {report.node_name for report in world.attachment().nodes} == {"a", "b"}


def test_planned_move_forgets_only_when_many_have_piled_up() -> None:
    """It has its eight writes without; a list that grew with every node of the cluster would have no end."""
    world = settled()
    with_strays(world, MAX_FORGETTABLE)
    world.put(pod("yy", "b"))
    assert replacement(world).forgotten == ()
    with_strays(world, MAX_FORGETTABLE + 1)
    assert len(replacement(world).forgotten) == MAX_FORGETTABLE + 1


def test_prepared_nodes_stay_with_their_labels_and_raise_no_epoch() -> None:
    """What was prepared outlives moves, is watched by its nodes, and ends with the drain."""
    world = settled()
    present = world.attachment()
    prepared = (Prepared(node_name="c", ip=ip_address("192.0.2.3")),)
    spec = attrs.evolve(present.spec, prepared=prepared)
    world.put(attrs.evolve(present, spec=spec))
    world.settle()
    assert world.attachment().spec.epoch == present.spec.epoch
    assert set(world.attachment().meta.labels) == {CLASS_LABEL, node_label("a"), node_label("c")}
    world.put(pod("yy", "b"))
    world.settle()
    assert (holder(world), world.attachment().spec.prepared) == ("yy", prepared)
    world.drop(route())
    world.step()
    assert world.attachment().spec.prepared == ()


def test_strategy_and_unknown_fields_survive_moves() -> None:
    """The strategy is pinned when the attachment is made, on static as none; a newer version's fields are its own."""
    world = settled()
    assert world.attachment().spec.strategy == ""
    present = world.attachment()
    spec = attrs.evolve(present.spec, strategy="forwarding-rule", unknown=(("fresh", "1"),))
    world.put(attrs.evolve(present, spec=spec))
    world.put(pod("yy", "b"))
    world.settle()
    assert holder(world) == "yy"
    assert world.attachment().spec.strategy == "forwarding-rule"
    assert world.attachment().spec.unknown == (("fresh", "1"),)


def test_nothing_is_granted_while_an_attachment_cannot_be_read() -> None:
    """Nobody knows which addresses it holds; what is held already stays and moves."""
    world = settled()
    touched = world.catalog.update(Batch(unreadable={OTHERS: "spec.epoch: no number"}))
    assert world.route().key in touched
    world.put(pod("yy", "b", age=40))
    world.settle()
    assert (holder(world), world.condition("Ready")) == ("yy", ("True", "Ready"))
    edited = route("web", "203.0.113.9", "203.0.113.8")
    world.put(attrs.evolve(edited, status=world.route().status))
    world.settle()
    assert [address.pending for address in world.attachment().spec.addresses] == [False, True]
    assert world.condition("DPV2Ready") == ("False", "AwaitingRelease")
    assert "r-of-somebody (spec.epoch: no number) cannot be read" in world.message("DPV2Ready")
    assert world.route().key in world.catalog.update(Batch(objects={OTHERS: None}))
    world.settle()
    assert [address.pending for address in world.attachment().spec.addresses] == [False, False]
    assert world.condition("Ready") == ("True", "Ready")


def test_refused_route_waits_for_nobodys_sight() -> None:
    """A live fault refuses new claims by itself, and what is held is delivered."""
    world = World()
    world.put(pod("x", "a"), route("web", "203.0.113.8"), route("late", "203.0.113.8/31", age=1.0))
    world.settle_all()
    world.catalog.update(Batch(unreadable={OTHERS: "spec: broken"}))
    edited = attrs.evolve(route("web", "203.0.113.8"), status=world.route().status)
    world.put(edited)
    world.settle_all()
    assert world.condition("DPV2Ready") == ("True", "Programmed")
    assert world.condition("Accepted", "late") == ("False", "AddressConflict")


def test_what_the_route_asks_of_the_pods_address_and_flows_is_in_the_attachment() -> None:
    """Agents read it there, and a change of it is a new duty."""
    world = settled()
    present = world.attachment()
    wanted = Wanted(
        route=present.spec.route,
        mode=present.spec.mode,
        network=present.spec.network,
        claims=tuple(Claim(prefix=each.prefix, gateway=each.gateway) for each in present.spec.addresses),
        holder=present.spec.holder,
        families=frozenset({4}),
        pod_address="nat",
        flows="reset",
    )
    for spec in (first_spec(world.view(), wanted), next_spec(world.view(), present, wanted)):
        assert (spec.pod_address, spec.flows) == ("nat", "reset")
        assert spec.epoch > present.spec.epoch


OTHER_CLASS = "gke-persistent-regional-internal-managed"


def of_other_class(world: World) -> None:
    """The Gateway's class becomes the other standard one, which is allowed the same."""
    other = attrs.evolve(furniture()[0], meta=ObjectMeta(name=OTHER_CLASS, uid="other"))
    world.put(other, attrs.evolve(gateway(), class_name=OTHER_CLASS))


def test_class_that_changes_is_followed_by_a_release_and_a_new_attachment() -> None:
    """What was attached through one class is never held through another: drained, deleted, and only then made anew."""
    world = settled()
    former = world.attachment()
    of_other_class(world)
    world.settle(agents=False)
    draining = world.attachment()
    assert (draining.meta.uid, draining.spec.addresses, draining.spec.holder) == (former.meta.uid, (), None)
    assert [(entry.node_name, entry.how) for entry in draining.spec.releasing] == [("a", How.NOW)]
    assert world.condition("DPV2Ready") == ("False", "AwaitingRelease")
    world.settle()
    made = world.attachment()
    assert made.meta.uid != former.meta.uid
    assert made.meta.labels[CLASS_LABEL] == OTHER_CLASS
    assert (holder(world), world.condition("Ready")) == ("x", ("True", "Ready"))


def test_class_that_changes_back_before_the_node_has_let_go_keeps_the_attachment() -> None:
    """The route claims anew what it drained, behind the release."""
    world = settled()
    former = world.attachment()
    of_other_class(world)
    world.step()
    world.put(gateway())
    world.settle()
    assert (world.attachment().meta.uid, holder(world)) == (former.meta.uid, "x")
    assert world.attachment().spec.epoch > former.spec.epoch


def test_attachment_that_names_no_class_is_taken_for_one_of_the_present_class() -> None:
    """It gets the label by a write that tells agents nothing."""
    world = settled()
    former = world.attachment()
    labels = {key: value for key, value in former.meta.labels.items() if key != CLASS_LABEL}
    world.put(attrs.evolve(former, meta=attrs.evolve(former.meta, labels=labels)))
    world.settle(agents=False)
    assert (world.attachment().meta.labels, world.attachment().spec) == (former.meta.labels, former.spec)


NINE, TEN = ip_network("203.0.113.9/32"), ip_network("203.0.113.10/32")
POOL = Reference(namespace="infra", name="pool", uid="gw-pool")
OTHER_POOL = Reference(namespace="infra", name="other", uid="gw-other")


def wanted_of(world: World, **changes: object) -> Wanted:
    """What the plan of the route as it stands would ask for, and *changes*."""
    spec = world.attachment().spec
    fields: dict[str, object] = {
        "route": spec.route,
        "mode": spec.mode,
        "network": spec.network,
        "claims": tuple(Claim(prefix=each.prefix, gateway=each.gateway) for each in spec.addresses),
        "holder": spec.holder,
        "families": frozenset({4}),
    }
    return Wanted(**fields | changes)  # type: ignore[arg-type]


def on_release(world: World, *entries: Release, **fields: object) -> AddressAttachment:
    """The attachment as it stands, with these entries of ``releasing``."""
    present = world.attachment()
    return attrs.evolve(present, spec=attrs.evolve(present.spec, releasing=entries, **fields))


def entry(name: str, on: str, how: How = How.NOW, epoch: int = 1) -> Release:
    """An entry of ``releasing`` for a Pod of a node."""
    return Release(
        prefixes=(NINE,),
        pod_name=name,
        pod_uid=f"pod-{name}",
        node_name=on,
        node_uid=f"node-{on}",
        how=how,
        epoch=epoch,
        since_at=0.0,
    )


def test_epoch_is_the_clocks_or_one_more_than_before() -> None:
    """A clock that is behind raises it too, by no more than it must."""
    assert next_epoch(5, 1.5) == 1500
    assert next_epoch(1500, 1.5) == 1501
    assert next_epoch(9000, 1.5) == 9001


def test_first_spec_holds_all_that_is_wanted_with_every_address_pending() -> None:
    """Mode, network, Gateways, Pod: nothing waits for the second write but the grant."""
    world = settled()
    claims = (Claim(prefix=NINE, gateway=POOL), Claim(prefix=TEN, gateway=OTHER_POOL))
    wanted = wanted_of(world, mode="fast", network="blue", claims=claims)
    assert first_spec(attrs.evolve(world.view(), now=0.0), wanted) == AttachmentSpec(
        route=wanted.route,
        mode="fast",
        network="blue",
        addresses=(
            AttachedAddress(prefix=NINE, gateway=POOL, pending=True),
            AttachedAddress(prefix=TEN, gateway=OTHER_POOL, pending=True),
        ),
        holder=wanted.holder,
        epoch=1,
    )


def test_next_spec_follows_mode_network_and_gateway() -> None:
    """What the route lives on may change under what it holds, and agents hear of it."""
    world = settled()
    claims = (Claim(prefix=NINE, gateway=OTHER_POOL),)
    spec = next_spec(world.view(), world.attachment(), wanted_of(world, mode="fast", network="blue", claims=claims))
    assert (spec.mode, spec.network) == ("fast", "blue")
    assert spec.addresses == (AttachedAddress(prefix=NINE, gateway=OTHER_POOL),)
    assert spec.epoch > world.attachment().spec.epoch


def test_drained_spec_releases_all_at_once_and_keeps_what_is_on_its_way() -> None:
    """The holder and those who still delivered let go now; what damping remembered is of no use any more."""
    world = settled()
    damped = Damped(pod_uid="pod-old", until_at=world.now)
    present = on_release(world, entry("old", "b", How.AFTER_READY), damped=damped)
    spec = drained_spec(world.view(), present)
    assert [(each.node_name, each.how) for each in spec.releasing] == [("b", How.NOW), ("a", How.NOW)]
    assert (spec.addresses, spec.holder, spec.damped) == ((), None, None)


def test_drained_spec_of_a_claim_that_was_never_granted_releases_nothing() -> None:
    """On a pending address no node has acted; and nobody lets go of what nobody holds."""
    world = settled()
    present = world.attachment()
    pending = tuple(attrs.evolve(each, pending=True) for each in present.spec.addresses)
    for spec in (
        attrs.evolve(present.spec, addresses=pending),
        attrs.evolve(present.spec, holder=None),
    ):
        assert drained_spec(world.view(), attrs.evolve(present, spec=spec)).releasing == ()


def test_attachment_leaves_until_it_names_nothing_any_more() -> None:
    """Addresses that nobody holds are something to take out, too."""
    world = settled()
    spec = attrs.evolve(world.attachment().spec, holder=None)
    assert is_leaving(attrs.evolve(world.attachment(), spec=spec))
    assert not is_leaving(attrs.evolve(world.attachment(), spec=attrs.evolve(spec, addresses=())))


def test_edit_in_the_middle_of_a_move_keeps_what_is_on_its_way() -> None:
    """What the edit drops is released beside what the move releases."""
    world = settled(pod("old", "b", age=90))
    present = on_release(world, entry("old", "b", How.AFTER_READY))
    spec = next_spec(world.view(), present, wanted_of(world, claims=()))
    assert [(each.node_name, each.prefixes) for each in spec.releasing] == [("b", (NINE,)), ("a", (NINE,))]


def test_former_holder_that_lost_an_ip_of_a_family_delivers_no_more() -> None:
    """It lingers for the families of the addresses, not for any."""
    world = settled(pod("old", "b", age=90, ips=(ip_address("10.0.2.9"),)))
    present = on_release(world, entry("old", "b", How.AFTER_READY))
    silent = attrs.evolve(present, nodes=())
    for families, how in ((frozenset({4}), How.AFTER_READY), (frozenset({4, 6}), How.NOW)):
        spec = next_spec(world.view(), silent, wanted_of(world, families=families))
        assert [each.how for each in spec.releasing] == [how]


def test_one_claim_that_waits_holds_up_no_other() -> None:
    """Behind an address that another attachment has, the next is claimed all the same."""
    world = settled()
    taken = AttachmentSpec(
        route=Reference(namespace="tenant", name="other", uid="route-other"),
        epoch=1,
        addresses=(AttachedAddress(prefix=TEN, gateway=POOL),),
    )
    other = AddressAttachment(meta=ObjectMeta(name="r-other", uid="att-other"), spec=taken)
    eleven = ip_network("203.0.113.11/32")
    claims = tuple(Claim(prefix=each, gateway=OTHER_POOL) for each in (TEN, eleven))
    view = attrs.evolve(world.view(), overlapping=(other,))
    spec = next_spec(view, world.attachment(), wanted_of(world, claims=claims))
    assert spec.addresses == (AttachedAddress(prefix=eleven, gateway=OTHER_POOL, pending=True),)


def test_grant_goes_through_the_gateway_that_gives_it_now() -> None:
    """A pending claim follows its Gateway, too."""
    world = settled()
    present = world.attachment()
    pending = tuple(attrs.evolve(each, pending=True) for each in present.spec.addresses)
    claims = (Claim(prefix=NINE, gateway=OTHER_POOL),)
    spec = next_spec(
        world.view(),
        attrs.evolve(present, spec=attrs.evolve(present.spec, addresses=pending)),
        wanted_of(world, claims=claims),
    )
    assert spec.addresses == (AttachedAddress(prefix=NINE, gateway=OTHER_POOL, pending=False),)


def test_release_that_ends_leaves_the_others_behind_it() -> None:
    """Of a node that is gone, of the holder itself, of one that has let go: each alone."""
    world = settled()
    waiting = entry("last", "c")
    ended = {
        "gone": entry("old", "z"),
        "holder": entry("x", "a"),
        "done": entry("old", "b"),
    }
    view = attrs.evolve(world.view(), gone_nodes=frozenset({"node-z"}))
    for each in ended.values():
        present = on_release(world, each, waiting)
        said = (*present.nodes, NodeReport(node_name="b", epoch=1, released=1))
        spec = next_spec(view, attrs.evolve(present, nodes=said), wanted_of(world))
        assert spec.releasing == (waiting,)


def test_pod_that_loses_for_want_of_readiness_is_remembered_from_now_on() -> None:
    """For as long as the policy says; another that stays where it is changes nothing about it."""
    world = settled(pod("yy", "b", age=60))
    world.put(pod("x", "a", age=50, ready=False))
    spec = replacement(world).attachment.spec
    assert spec.damped == Damped(pod_uid="pod-x", until_at=world.now + world.view().policy.damping_seconds)
    world.settle()
    assert holder(world) == "yy"
    world.put(pod("yy", "b", age=60, ready=False))
    kept = next_spec(world.view(), world.attachment(), wanted_of(world))
    assert kept.damped == spec.damped
