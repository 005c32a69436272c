"""What the cloud is to hold follows from the attachment as it is written, and from nothing that is about to be."""

import attrs
import pytest
from world import World, holder, pod, route

from persistip.decide.cloud import plan_cloud
from persistip.decide.plan_route import plan_route
from persistip.model.actions import DeleteAttachment
from persistip.model.attachment import How
from persistip.model.cloud import UNKNOWN, Attract, CloudState, Withdraw
from persistip.model.gateway import CLASS_NAMES, ClassBehaviour, Mode
from persistip.model.keys import CLASS_LABEL, Kind, ObjectKey
from persistip.strategies import Batch

NOTHING = CloudState(ready=False)
AT_A = CloudState(ready=True, leader="a", owned=("rule",))
FAST = CLASS_NAMES[ClassBehaviour(Mode.FAST, external=False)]


def wanted(world: World, cloud: CloudState | None) -> Attract | Withdraw | None:
    """What the cloud is to hold while it holds this."""
    return plan_cloud(attrs.evolve(world.view(), cloud=cloud))


def leader(world: World, cloud: CloudState | None = NOTHING) -> str | None:
    """The node to which the cloud is to send."""
    found = wanted(world, cloud)
    return found.node_name if isinstance(found, Attract) else None


def moving(*, ready: bool = True) -> World:
    """Pod x of node a held the address and has lost it to yy of node b, which has not confirmed yet."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(pod("x", "a", age=50, ready=ready), pod("yy", "b"))
    world.step()
    assert holder(world) == "yy"
    return world


def with_class(world: World, name: str) -> World:
    """The attachment was made through that class."""
    present = world.attachment()
    labels = {**present.meta.labels, CLASS_LABEL: name}
    world.put(attrs.evolve(present, meta=attrs.evolve(present.meta, labels=labels)))
    return world


def test_without_a_cloud_nothing_is_wanted_of_it() -> None:
    """Where nothing is provisioned there is nothing to say."""
    assert wanted(moving(), None) is None


def test_route_that_nobody_holds_has_nothing_in_the_cloud() -> None:
    """Without an attachment whatever is there is a leftover."""
    world = World()
    world.put(route())
    world.step()
    assert wanted(world, UNKNOWN) == Withdraw(prefixes=(), route=world.view().key.path)


def test_pending_address_is_not_asked_for() -> None:
    """Another claim may win it yet."""
    world = World()
    world.put(pod("x", "a"), route())
    world.step()
    assert [each.pending for each in world.attachment().spec.addresses] == [True]
    assert wanted(world, UNKNOWN) is None
    assert wanted(world, NOTHING) == Withdraw(prefixes=(), route=world.view().key.path)


def test_first_holder_is_led_to_before_it_has_confirmed() -> None:
    """Nobody else delivers, so the cloud's slow work begins at once."""
    world = World()
    world.put(pod("x", "a"), route())
    world.step()
    world.step()
    found = wanted(world, NOTHING)
    assert isinstance(found, Attract)
    assert not world.attachment().is_confirmed
    assert (found.node_name, found.nodes, found.external, found.route) == ("a", ("a",), True, world.view().key.path)
    assert found.prefixes == world.attachment().spec.held_prefixes


def test_packets_stay_at_the_node_that_delivers_until_the_next_confirms() -> None:
    """The next node is made ready meanwhile, so that the move itself is one call."""
    world = moving()
    found = wanted(world, AT_A)
    assert isinstance(found, Attract)
    assert (found.node_name, found.nodes) == ("a", ("a", "b"))
    assert leader(world) == "a"
    world.confirm(nodes=("b",))
    assert leader(world, AT_A) == "b"


def test_packets_that_nobody_takes_are_led_away_at_once() -> None:
    """A former holder that no longer delivers is not worth waiting for."""
    world = moving(ready=False)
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]
    assert leader(world, AT_A) == "b"


def test_latest_of_several_that_deliver_keeps_the_packets() -> None:
    """Where the cloud leads elsewhere, the newest of them is the one that it was told last."""
    world = moving()
    present = world.attachment()
    older = attrs.evolve(present.spec.releasing[0], node_name="c", epoch=1)
    spec = attrs.evolve(present.spec, releasing=(older, *present.spec.releasing))
    world.put(attrs.evolve(present, spec=spec))
    assert leader(world) == "a"
    assert leader(world, attrs.evolve(AT_A, leader="c")) == "c"


def test_fast_class_is_led_by_the_cloud_after_the_agents() -> None:
    """The new node's frames move the packets; until it has confirmed the cloud's leader stays."""
    world = with_class(moving(ready=False), FAST)
    found = wanted(world, AT_A)
    assert isinstance(found, Attract)
    assert (found.node_name, found.mode, found.external) == ("a", Mode.FAST, False)
    assert leader(world) == "b"


@pytest.mark.parametrize("name", ["", "of-somebody-else"])
def test_attachment_of_an_unknown_class_leaves_the_cloud_as_it_is(name: str) -> None:
    """Nobody knows what it is to hold for it."""
    assert wanted(with_class(moving(), name), AT_A) is None


def test_while_nobody_may_hold_the_leader_stays() -> None:
    """Its node drops the packets, and the next holder is often there again."""
    world = moving()
    present = world.attachment()
    world.put(attrs.evolve(present, spec=attrs.evolve(present.spec, holder=None)))
    found = wanted(world, AT_A)
    assert isinstance(found, Attract)
    assert (found.node_name, found.nodes) == ("a", ("a", "b"))


def drained() -> World:
    """The route is deleted, every node has let go, and the attachment is still there."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    world.drop(route())
    for _ in range(5):
        world.apply(plan_route(attrs.evolve(world.view(), cloud=AT_A)).actions)
        world.confirm()
    return world


def test_attachment_is_deleted_only_when_the_cloud_is_empty() -> None:
    """It is what remembers that something of the route's may be there."""
    world = drained()
    for cloud, deletes in ((UNKNOWN, 0), (AT_A, 0), (NOTHING, 1), (None, 1)):
        plan = plan_route(attrs.evolve(world.view(), cloud=cloud))
        assert plan.cloud == (None if cloud is None else Withdraw(prefixes=(), route=world.view().key.path))
        assert len([each for each in plan.actions if isinstance(each, DeleteAttachment)]) == deletes


def test_process_that_has_not_looked_at_the_cloud_repeats_what_was_said_of_it() -> None:
    """A controller that starts would else say of every route that the cloud does not lead to it."""
    world = moving()
    world.confirm(nodes=("b",))
    for cloud in (attrs.evolve(AT_A, leader="b"), UNKNOWN):
        plan = plan_route(attrs.evolve(world.view(), cloud=cloud))
        world.apply(plan.actions)
        assert world.condition("GCPReady") == ("True", "Provisioned")


def test_process_that_has_not_looked_at_a_new_cloud_says_that_it_is_provisioned() -> None:
    """What was said where there was no cloud is not what one holds."""
    world = moving()
    world.apply(plan_route(attrs.evolve(world.view(), cloud=UNKNOWN)).actions)
    assert world.condition("GCPReady") == ("False", "Provisioning")


def test_owners_in_a_cloud_are_all_routes_and_all_that_an_attachment_speaks_of() -> None:
    """What is of none of them is a leftover."""
    world = moving()
    world.put(route("late"))
    assert world.catalog.owners() == {world.view().key.path, world.view("late").key.path}
    world.drop(route())
    assert world.view().key.path in (world.catalog.owners() or ())


@pytest.mark.parametrize("kind", [Kind.ROUTE, Kind.ATTACHMENT])
def test_while_an_owner_cannot_be_read_nobody_knows_them_all(kind: Kind) -> None:
    """What it has in the cloud must not be taken for a leftover."""
    world = moving()
    world.catalog.update(Batch(unreadable={ObjectKey(kind, "", "broken"): "a field is missing"}))
    assert world.catalog.owners() is None
