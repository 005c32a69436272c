"""What the next write says: prepared nodes, unknown fields, forgotten entries, attachments that nobody can read."""

from ipaddress import ip_address

import attrs
from world import World, furniture, gateway, holder, pod, route

from persistip.decide.handover import MAX_FORGETTABLE, Wanted, first_spec, next_spec
from persistip.decide.plan_route import plan_route
from persistip.decide.verdict import Claim
from persistip.model.actions import ReplaceAttachment
from persistip.model.attachment import How, NodeReport, Prepared
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
