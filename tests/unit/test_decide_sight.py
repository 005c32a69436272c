"""What cannot be read: what waits for it, and what does not."""

import attrs
import pytest
from world import World, furniture, gateway, pod, route

from persistip.decide.plan_gateway import plan_class, plan_gateway
from persistip.decide.plan_route import plan_route
from persistip.model.actions import RecordEvent, ReportGateway
from persistip.model.gateway import ConfigMap, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.views import ClassView, GatewayView
from persistip.strategies import Batch, ClusterObject

CLASS, ALLOWED = furniture()[0], furniture()[1]


def lose(world: World, *keys: ObjectKey) -> frozenset[ObjectKey]:
    """These can no longer be read; the keys to plan again."""
    return world.catalog.update(Batch(unreadable=dict.fromkeys(keys, "is no object")))


def find(world: World, *keys: ObjectKey) -> frozenset[ObjectKey]:
    """These can be read again, as they were; the keys to plan again."""
    return world.catalog.update(Batch(objects={key: world.catalog.objects[key] for key in keys}))  # type: ignore[misc]


def planned(world: World) -> tuple[object, ...]:
    """What would be written to the class and to the Gateway."""
    views = (world.catalog.view(each.key, world.now + 60) for each in (CLASS, gateway()))
    actions: list[object] = []
    for view in views:
        assert not isinstance(view, ObjectKey)
        match view:
            case ClassView():
                actions += plan_class(view).actions
            case GatewayView():
                actions += plan_gateway(view).actions
    return tuple(actions)


@pytest.mark.parametrize("lost", [CLASS.key, ALLOWED.key])
def test_class_that_cannot_be_read_changes_no_status(lost: ObjectKey) -> None:
    """Neither the class nor its Gateway is judged on a guess, whatever else has changed; found again, both are."""
    world = World()
    world.settle_all()
    assert isinstance(CLASS, GatewayClass)
    lose(world, lost)
    changed = gateway(addresses=())
    world.put(attrs.evolve(changed, status=world.catalog.objects[changed.key].status))  # type: ignore[attr-defined]
    assert planned(world) == ()
    assert {CLASS.key, gateway().key} <= find(world, lost)
    assert [type(each) for each in planned(world)] == [ReportGateway, RecordEvent], "the Gateway lists nothing any more"


def test_pod_that_cannot_be_read_is_not_chosen_by_what_it_was() -> None:
    """A restarted controller would know nothing of it; the one that ran before decides the same."""
    world = World()
    world.put(route(), pod("x", "a", age=50), pod("yy", "b", age=10))
    lose(world, pod("yy", "b").key)
    world.settle()
    assert world.route().status.pods == ("x",)


def test_rival_that_cannot_be_judged_and_holds_nothing_stands_in_nobodys_way() -> None:
    """One broken object affects no other: the address goes to the route that can be judged."""
    world = World()
    older = route("older", age=200.0)
    world.put(older, route(), pod("x", "a"))
    assert plan_route(world.view()).verdict.faults
    touched = lose(world, older.key)
    assert route().key in touched
    assert not plan_route(world.view()).verdict.faults
    assert route().key in find(world, older.key)
    assert plan_route(world.view()).verdict.faults[0].winner == older.key


def test_finalizer_stays_while_a_gateway_cannot_be_read() -> None:
    """It may be of any class: none loses the finalizer that it has, and none gets one."""
    world = World()
    world.settle_all()
    lost = ObjectKey(Kind.GATEWAY, "infra", "lost")
    assert CLASS.key in lose(world, lost)
    world.drop(gateway())
    assert planned(world) == ()
    assert CLASS.key in world.catalog.update(Batch(objects={lost: None}))
    assert len(planned(world)) == 1


def test_what_is_lost_before_it_was_ever_seen_counts_as_present_for_what_rests_on_it() -> None:
    """After a restart a class's parameters that cannot be read are not taken for missing ones."""
    found: list[ClusterObject] = [each for each in furniture() if not isinstance(each, ConfigMap)]
    world = World(*found, route(), pod("x", "a"))
    lose(world, ALLOWED.key)
    assert planned(world) == ()
    assert plan_route(world.view()).actions == ()
    assert world.view().unreadable == "ConfigMap persistip-system/allowed: is no object"
