"""Which Events are sent: for real moves, for conflicts on both sides, for nodes that fail; and for nothing else."""

import attrs
import pytest
from world import World, holder, pod, route

from persistip.decide.plan_route import plan_route
from persistip.model.actions import RecordEvent
from persistip.model.attachment import NodeReport, NodeStateName
from persistip.model.conditions import find_condition
from persistip.model.route import GKEIPRoute, ParentRef


def settled() -> World:
    """A world in which Pod x of node a holds the address."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    return world


def heard(world: World, since: int) -> list[tuple[str, str]]:
    """Reasons and messages of the Events since then."""
    return [(each.reason, each.message) for each in world.events[since:]]


def says(world: World, state: NodeStateName, reason: str = "", node_name: str = "a") -> None:
    """The node's agent reports so for the present epoch, and the controller acts once."""
    present = world.attachment()
    report = NodeReport(node_name=node_name, epoch=present.spec.epoch, state=state, reason=reason, message="why")
    world.put(attrs.evolve(present, nodes=(report,)))
    world.step()


def accepted_message(world: World) -> str:
    """What the condition Accepted of the route says."""
    found = find_condition(world.route().status.conditions, "Accepted")
    assert found is not None
    return found.message


def edited(*values: str, world: World) -> GKEIPRoute:
    """The route with other addresses, as the user's edit leaves it."""
    found = route("web", *values)
    return attrs.evolve(found, meta=attrs.evolve(found.meta, generation=2), status=world.route().status)


def test_first_grant_tells_that_nobody_held_before() -> None:
    """An address that comes to a Pod for the first time has moved, too."""
    (accepted, moved) = settled().events
    assert accepted.reason == "Accepted"
    assert moved.message.endswith("; before: nobody; rule: newest")


def test_node_that_recovers_has_moved_nothing() -> None:
    """A failure is told, and its end is in the condition; where the addresses are has not changed."""
    world = settled()
    since = len(world.events)
    says(world, NodeStateName.FAILED, "PodLinkNotFound")
    assert world.condition("DPV2Ready") == ("False", "PodLinkNotFound")
    says(world, NodeStateName.PROGRAMMED)
    assert world.condition("DPV2Ready") == ("True", "Programmed")
    assert [reason for reason, _ in heard(world, since)] == ["PodLinkNotFound"]


def test_edit_that_leaves_the_pod_has_moved_nothing() -> None:
    """A new epoch is confirmed, and the holder is who it was."""
    world = settled()
    since = len(world.events)
    world.put(edited("203.0.113.9", "203.0.113.8", world=world))
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    assert heard(world, since) == []


def test_move_that_fails_first_still_tells_where_it_came_from() -> None:
    """Whatever lies between the decision and the confirmation: from, to and why are said once, at the end."""
    world = settled()
    since = len(world.events)
    world.put(pod("yy", "b"))
    world.step()
    assert world.message("DPV2Ready").endswith("; before: Pod x on Node a; rule: newest")
    says(world, NodeStateName.FAILED, node_name="b")
    says(world, NodeStateName.PROGRAMMED, node_name="b")
    reasons = [reason for reason, _ in heard(world, since)]
    assert reasons == ["ProgrammingFailed", "Moved"]
    assert world.events[-1].message.endswith("; before: Pod x on Node a; rule: newest")
    assert "before" not in world.message("DPV2Ready")


def test_move_overtaken_by_another_is_told_as_one() -> None:
    """The former holder is the last that was confirmed, the rule the one that decided last."""
    world = settled()
    world.put(pod("yy", "b", age=40))
    world.step()
    found = route()
    annotated = attrs.evolve(found.meta, annotations={"persistip.dev/prefer": "zzz"})
    world.put(pod("zzz", "c", age=60), attrs.evolve(found, meta=annotated, status=world.route().status))
    world.settle()
    assert holder(world) == "zzz"
    assert world.events[-1].message.endswith("; before: Pod x on Node a; rule: preferred by annotation")


def test_move_whose_beginning_was_never_reported_is_told_by_what_the_status_said() -> None:
    """The status write at the beginning was lost, and the node was quick: the Pod's name is all that is left."""
    world = settled()
    world.put(pod("yy", "b"))
    world.apply(plan_route(world.view()).actions[:1])
    says(world, NodeStateName.PROGRAMMED, node_name="b")
    assert world.events[-1].message.endswith("; before: Pod x; rule: newest")


def test_pod_made_again_under_its_name_is_a_move() -> None:
    """A StatefulSet's replacement has the name of its predecessor, and is another."""
    world = settled()
    since = len(world.events)
    again = pod("x", "b")
    world.put(attrs.evolve(again, meta=attrs.evolve(again.meta, uid="again")))
    world.settle()
    ((reason, message),) = heard(world, since)
    assert reason == "Moved"
    assert message.endswith("; before: Pod x on Node a; rule: newest")


def test_conflict_is_told_on_both_sides_and_when_it_ends() -> None:
    """The loser is refused, the winner hears who asked, and the loser hears that it has won after all."""
    world = settled()
    since = len(world.events)
    bystander = route("aside", "203.0.113.10", age=1.0)
    world.put(route("late", "203.0.113.8/30", age=1.0), bystander)
    world.settle_all()
    lost = [each for each in world.events[since:] if each.regarding.name == "late"]
    won = [each for each in world.events[since:] if each.reason == "ConflictWon"]
    assert [(each.reason, each.warning) for each in lost] == [("AddressConflict", True)]
    assert {each.regarding.name for each in won} == {"web"}
    assert "GKEIPRoute tenant/late claims addresses of this route too" in won[0].message
    world.drop(route(), bystander)
    world.settle_all()
    accepted = next(each for each in world.events if each.regarding.name == "late" and each.reason == "Accepted")
    assert accepted.message.endswith("; the conflict about them is over")


def test_refusal_for_another_reason_is_no_conflict() -> None:
    """A route that is refused anyway has lost nothing to anybody, and nobody is told."""
    world = settled()
    found = route("late", "203.0.113.9", age=1.0)
    world.put(attrs.evolve(found, reaction_mode="Sometimes"))
    actions = plan_route(world.view("late")).actions
    assert [each.reason for each in actions if isinstance(each, RecordEvent)] == ["UnsupportedValue"]


def test_route_refused_for_another_fault_of_the_same_reason_is_told_again() -> None:
    """Who mends one field and leaves the next hears of that one; the same words again are no Event."""
    world = World()
    world.put(pod("x", "a", age=50), route("web", "127.0.0.1"))
    world.settle()
    (first,) = heard(world, 0)
    world.put(edited("0.0.0.0/0", world=world))
    world.settle()
    (second,) = heard(world, 1)
    assert first[0] == second[0] == "UnsupportedAddress"
    assert "is loopback; write" in first[1]
    assert "is a default route; write" in second[1]
    world.put(attrs.evolve(world.route(), meta=attrs.evolve(world.route().meta, generation=3)))
    world.settle()
    assert heard(world, 2) == []


def test_words_of_acceptance_that_change_are_no_event() -> None:
    """What is accepted and stays so has had its Event, though its message may list another parent that fails."""
    world = settled()
    since = len(world.events)
    found = edited("203.0.113.7", world=world)
    refs = (*found.parent_refs, ParentRef(name="none", namespace="infra"))
    world.put(attrs.evolve(found, parent_refs=refs))
    before = accepted_message(world)
    world.settle()
    assert accepted_message(world) != before
    assert "Accepted" not in {reason for reason, _ in heard(world, since)}


@pytest.mark.parametrize(("mode", "told"), [("hovering", 1), ("fast", 1), ("standard", 0)])
def test_attachment_of_a_strange_mode_that_outlives_its_route_is_told_once(mode: str, told: int) -> None:
    """No route is left whose condition could say it, and agents that do not know the mode will not let go."""
    world = settled()
    stands = world.attachment()
    world.put(attrs.evolve(stands, spec=attrs.evolve(stands.spec, mode=mode)))
    since = len(world.events)
    world.drop(route())
    world.settle(agents=False)
    events = world.events[since:]
    assert [(each.reason, each.warning, each.regarding, each.uid) for each in events] == [
        ("Unsupported", True, stands.key, stands.meta.uid)
    ] * told
    for each in events:
        assert f"GKEIPRoute tenant/web is gone, and this attachment is of mode '{mode}'" in each.message
        assert each.message.endswith(
            "it keeps 203.0.113.9 until an agent that knows the mode has let go on Node a; upgrade the agents"
        )


def test_attachment_of_a_strange_mode_that_nobody_holds_needs_no_word() -> None:
    """Nothing stands in any kernel: it goes with its route."""
    world = settled()
    stands = world.attachment()
    spec = attrs.evolve(stands.spec, mode="hovering", holder=None, addresses=())
    world.put(attrs.evolve(stands, spec=spec))
    since = len(world.events)
    world.drop(route())
    world.settle(agents=False)
    assert world.events[since:] == []
