"""Which Nodes are gone: what a process saw leave, what a live read says, and never what is merely not in sight."""

import attrs
from world import World, holder, node, pod, route

from persistip.decide.departed import _REMEMBERED, Departed, select_unconfirmed
from persistip.decide.plan_route import plan_route
from persistip.model.actions import ConfirmNodeGone, ReplaceAttachment, ReportRoute
from persistip.model.attachment import AddressAttachment
from persistip.model.keys import Kind, ObjectKey


def blind_to_node_a() -> World:
    """Pod x of node a holds; a process whose watch of Nodes has never shown node a sees that Pod y follows."""
    old = World()
    old.put(pod("x", "a", age=50), route())
    old.settle()
    seeing = World(*(each for key, each in sorted(old.catalog.objects.items()) if key.name != "a"))  # type: ignore[misc]
    seeing.revision = old.revision
    assert seeing.attachment().spec.holder is not None
    seeing.put(pod("yy", "b"))
    return seeing


def asked(world: World) -> list[ConfirmNodeGone]:
    """What the plan wants to be confirmed."""
    return [action for action in plan_route(world.view()).actions if isinstance(action, ConfirmNodeGone)]


def test_node_that_is_not_in_sight_keeps_its_release() -> None:
    """Another leader may have granted on a Node made a moment ago: the release is written, and the Node asked for."""
    world = blind_to_node_a()
    [move] = [action for action in plan_route(world.view()).actions if isinstance(action, ReplaceAttachment)]
    assert [release.node_name for release in move.attachment.spec.releasing] == ["a"]
    assert asked(world) == [], "the move waits for no answer"
    world.step()
    assert holder(world) == "yy"
    [question] = asked(world)
    assert (question.name, question.uid) == ("a", "node-a")
    assert question.resource_version == world.attachment().meta.resource_version


def test_live_read_that_finds_no_node_ends_the_release() -> None:
    """The answer is news for the route, and ends what rested on that Node."""
    world = blind_to_node_a()
    world.step()
    [question] = asked(world)
    assert world.catalog.confirm(question) == {world.route().key}
    world.step()
    assert world.attachment().spec.releasing == ()
    assert asked(world) == []


def test_question_comes_behind_every_write_of_a_plan() -> None:
    """An answer that fails must keep nothing else back."""
    world = blind_to_node_a()
    world.step()
    world.put(attrs.evolve(world.route(), status=route().status))
    kinds = [type(action) for action in plan_route(world.view()).actions]
    assert (kinds[0], kinds[-1]) == (ReportRoute, ConfirmNodeGone)


def test_node_seen_leaving_is_gone_without_a_read() -> None:
    """Nothing is asked of the API: the watch has told, and no UID comes twice."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=40), route())
    world.settle()
    world.drop(node("b"), pod("yy", "b"))
    assert [type(action) for action in plan_route(world.view()).actions].count(ConfirmNodeGone) == 0
    world.step()
    assert (holder(world), world.attachment().spec.releasing) == ("x", ())


def test_node_made_again_under_its_name_is_another() -> None:
    """The former one is gone, whatever the new one says."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=40), route())
    world.settle()
    world.put(node("b", "node-b-again"), pod("yy", "b", ready=False, age=40))
    world.step()
    assert (holder(world), world.attachment().spec.releasing) == ("x", ())


def test_taint_counts_when_a_live_read_shows_it() -> None:
    """A taint in sight may be an old one; the move goes ahead, and the release ends with the answer."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=40), route())
    world.settle()
    world.put(attrs.evolve(node("b"), out_of_service=True))
    world.step()
    assert holder(world) == "x"
    assert [release.node_name for release in world.attachment().spec.releasing] == ["b"]
    [question] = asked(world)
    world.catalog.confirm(question)
    world.step()
    assert world.attachment().spec.releasing == ()


def test_answer_counts_for_the_attachment_as_it_stood() -> None:
    """Once the attachment is another, a machine that was off may run again: it is asked anew."""
    world = blind_to_node_a()
    world.step()
    [question] = asked(world)
    world.put(world.attachment())
    world.catalog.confirm(question)
    [again] = asked(world)
    assert again.resource_version != question.resource_version


def test_drained_attachment_asks_for_its_nodes() -> None:
    """A route that is gone waits for a Node out of sight, and for no longer than the answer takes."""
    world = blind_to_node_a()
    world.drop(route())
    world.step()
    [question] = asked(world)
    assert question.uid == "node-a"
    world.catalog.confirm(question)
    for _ in range(4):
        world.step()
    assert world.attachments() == ()


def _naming(world: World, *names: str) -> AddressAttachment:
    """An attachment with a release on each of these nodes."""
    present = world.attachment()
    [release] = present.spec.releasing
    releases = tuple(attrs.evolve(release, node_name=name, node_uid=f"node-{name}") for name in names)
    return attrs.evolve(present, spec=attrs.evolve(present.spec, holder=None, releasing=releases))


def test_answers_about_several_nodes_add_up() -> None:
    """Each is asked for, and the answers for one version of an attachment are kept together."""
    world = blind_to_node_a()
    world.step()
    attachment = _naming(world, "x", "w")
    view = attrs.evolve(world.view(), attachment=attachment)
    questions = select_unconfirmed(view, attachment)
    assert [question.name for question in questions] == ["w", "x"]
    departed = Departed()
    for question in questions:
        departed.confirm(question)
    assert departed.of(attachment) == {"node-x", "node-w"}
    departed.see(attachment.key, attachment, None)
    assert departed.of(attachment) == frozenset()


def test_memory_of_departures_is_bounded() -> None:
    """The oldest are forgotten, which costs a read."""
    world = blind_to_node_a()
    world.step()
    departed = Departed()
    for number in range(_REMEMBERED + 1):
        name = f"n{number}"
        departed.see(ObjectKey(Kind.NODE, "", name), attrs.evolve(node("a", f"node-{name}")), None)
    assert departed.of(_naming(world, "n0")) == frozenset()
    assert departed.of(_naming(world, "n1")) == {"node-n1"}


def test_what_if_a_node_dies_is_answered_for_good() -> None:
    """A view without a node takes it for gone, and what nobody knows of changes nothing."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=40), route())
    world.settle()
    [move] = [
        each for each in plan_route(world.view().without_node("b")).actions if isinstance(each, ReplaceAttachment)
    ]
    assert move.attachment.spec.releasing == ()
    assert world.view().without_node("nowhere").gone_nodes == frozenset()
