"""What the cloud holds delays the end of a former holder's delivery, for a bounded time, and is told."""

import attrs
import pytest
from world import World, holder, pod, route

from persistip.decide.cloud import LATE_SECONDS
from persistip.decide.plan_route import RoutePlan, plan_route
from persistip.model.actions import RecordEvent, ReplaceAttachment
from persistip.model.attachment import How
from persistip.model.cloud import CloudState
from persistip.model.conditions import ConditionType, Reason, find_condition
from persistip.model.route import RouteStatus

AT_A = CloudState(ready=True, leader="a")
AT_B = CloudState(ready=True, leader="b")


def moving() -> World:
    """Pod x of node a has lost the address to the newer yy of node b, which has confirmed; x still delivers."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(pod("yy", "b"))
    world.step()
    world.confirm(nodes=("b",))
    confirmed(world, world.now)
    assert holder(world) == "yy"
    assert releases(world) == [How.AFTER_READY]
    return world


def confirmed(world: World, at: float, node_name: str = "b") -> None:
    """The holder's node has confirmed at that moment, by its clock."""
    present = world.attachment()
    nodes = (attrs.evolve(each, at=at) if each.node_name == node_name else each for each in present.nodes)
    world.put(attrs.evolve(present, nodes=tuple(nodes)))


def releases(world: World) -> list[How]:
    """How what was held before is let go."""
    return [entry.how for entry in world.attachment().spec.releasing]


def plan(world: World, cloud: CloudState | None) -> RoutePlan:
    """What is due while the cloud holds this."""
    return plan_route(attrs.evolve(world.view(), cloud=cloud))


def next_releases(found: RoutePlan) -> list[How] | None:
    """What a plan makes of the releases; None: it leaves the attachment as it is."""
    write = next((action for action in found.actions if isinstance(action, ReplaceAttachment)), None)
    return None if write is None else [entry.how for entry in write.attachment.spec.releasing]


def test_former_holder_delivers_until_the_cloud_follows() -> None:
    """The node's confirmation alone would send the packets that still arrive at the former node to nobody."""
    world = moving()
    assert next_releases(plan(world, AT_A)) is None
    assert next_releases(plan(world, AT_B)) == [How.NOW]
    assert next_releases(plan(world, None)) == [How.NOW]


def test_cloud_that_is_late_is_not_waited_for_without_end() -> None:
    """The plan asks to be made again at that moment, and then lets the former node go."""
    world = moving()
    confirmed_at = world.now
    assert plan(world, AT_A).recheck_at == confirmed_at + LATE_SECONDS
    assert plan(world, AT_B).recheck_at is None
    world.now = confirmed_at + LATE_SECONDS - 0.001
    assert next_releases(plan(world, AT_A)) is None
    world.now = confirmed_at + LATE_SECONDS
    assert next_releases(plan(world, AT_A)) == [How.NOW]


@pytest.mark.parametrize(("ahead", "waits"), [(LATE_SECONDS, True), (LATE_SECONDS + 1, False)])
def test_confirmation_of_a_clock_that_is_far_ahead_is_not_waited_for(ahead: float, waits: bool) -> None:
    """An agent whose clock is an hour ahead must not hold up the former node for an hour."""
    world = moving()
    confirmed(world, world.now + ahead)
    assert (next_releases(plan(world, AT_A)) is None) is waits


def test_move_without_anything_to_let_go_has_no_deadline() -> None:
    """Where nobody delivers any more there is nothing to end by time."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    assert plan(world, AT_B).recheck_at is None
    confirmed(world, world.now, "a")
    assert plan(world, CloudState(ready=False)).recheck_at is None


def said(found: RoutePlan) -> RouteStatus:
    """The status that a plan reports."""
    return next(action.status for action in found.actions if hasattr(action, "status"))


def test_failure_of_the_cloud_is_told_in_an_event_once() -> None:
    """A warning with the cloud's reason and words, and none while they stay the same."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    quota = CloudState(ready=False, reason="QuotaExceeded", message="no forwarding rule is left")
    first = plan(world, quota)
    events = [action for action in first.actions if isinstance(action, RecordEvent)]
    assert [(each.reason, each.message, each.warning) for each in events] == [
        (Reason.QUOTA_EXCEEDED, "no forwarding rule is left", True)
    ]
    world.apply(first.actions)
    assert plan(world, quota).actions == ()
    other = plan(world, attrs.evolve(quota, message="still none"))
    assert [action.message for action in other.actions if isinstance(action, RecordEvent)] == ["still none"]


def test_claim_that_nobody_has_written_yet_is_being_provisioned() -> None:
    """Before there is an attachment the cloud has nobody to send packets to."""
    world = World()
    world.put(pod("x", "a"), route())
    rival = attrs.evolve(route("first"), meta=attrs.evolve(route("first").meta, created_at=1.0))
    world.put(rival)
    condition = find_condition(said(plan(world, CloudState(ready=False))).conditions, ConditionType.GCP_READY)
    assert condition is not None
    assert (condition.reason, condition.message) == ("Provisioning", "the cloud sends the packets to no node")
