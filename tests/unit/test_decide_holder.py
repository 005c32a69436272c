"""Which Pod holds, and what becomes of the one that held: each rule of the choice alone."""

from ipaddress import ip_address, ip_network

import attrs
import pytest
from world import World, holder, node, pod, route

from persistip.decide.candidates import is_delivering
from persistip.decide.fields import mode_of
from persistip.decide.holder import damping_ends, select_holder
from persistip.decide.modes import BUILT_IN
from persistip.model.attachment import Damped, How, NodeReport, NodeStateName
from persistip.model.keys import CLASS_LABEL, ObjectMeta, node_label
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute

FOUR = frozenset({4})
ADDRESS = ip_network("203.0.113.9/32")


def annotated(**annotations: str) -> GKEIPRoute:
    """The route with annotations of ours."""
    found = route()
    named = {f"persistip.dev/{key}": value for key, value in annotations.items()}
    return attrs.evolve(found, meta=attrs.evolve(found.meta, annotations=named))


def terminating(found: Pod) -> Pod:
    """The Pod while it is being deleted."""
    return attrs.evolve(found, meta=attrs.evolve(found.meta, deleted_at=1.0))


def relabelled(found: Pod) -> Pod:
    """The Pod after an edit that takes it out of the selector."""
    return attrs.evolve(found, meta=attrs.evolve(found.meta, labels={"app": "db"}))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (pod("x", "a", ready=False), "is not Ready"),
        (pod("x", "a", phase="Succeeded"), "is Succeeded"),
        (pod("x", "a", phase="Failed"), "is Failed"),
        (terminating(pod("x", "a")), "is terminating"),
        (pod("x", "a", host_network=True), "uses the host network"),
        (pod("x", "a", node_name=""), "is not scheduled"),
        (pod("x", "z"), "is on Node z, which does not exist"),
        (pod("x", "a", ips=()), "has no IPv4 address yet"),
        (pod("x", "a", ips=(ip_address("fd00::1"),)), "has no IPv4 address yet"),
    ],
)
def test_pod_that_may_not_hold_is_counted_with_its_reason(found: Pod, why: str) -> None:
    """Each kind of refusal is told apart, for the message."""
    world = World()
    world.put(found, route())
    choice = select_holder(world.view(), FOUR)
    assert (choice.pod, choice.matched, choice.refused) == (None, 1, ((why, 1),))


def test_node_out_of_service_disqualifies() -> None:
    """The administrator's word that a machine is off counts against its Pods at once."""
    world = World()
    world.put(attrs.evolve(node("a"), out_of_service=True), pod("x", "a"), route())
    assert select_holder(world.view(), FOUR).refused == (("is on Node a, which is out of service", 1),)


def test_pod_of_another_label_is_not_counted() -> None:
    """Only what the selector matches is spoken of."""
    world = World()
    world.put(relabelled(pod("x", "a")), route())
    assert select_holder(world.view(), FOUR).matched == 0


def test_exists_takes_a_pod_without_ip_only_when_no_other_is_there() -> None:
    """A newer Pod that waits for its IP does not displace one that has it."""
    world = World()
    bare = pod("yy", "b", ips=(), ready=False)
    world.put(pod("x", "a", age=50, ready=False), bare, route(reaction_mode="Exists"))
    assert select_holder(world.view(), FOUR).pod.meta.name == "x"  # type: ignore[union-attr]
    world.drop(pod("x", "a"))
    choice = select_holder(world.view(), FOUR)
    assert (choice.pod.meta.name, choice.awaits_ip) == ("yy", True)  # type: ignore[union-attr]


def test_exists_needs_a_node() -> None:
    """A Pod exists for us once it is scheduled."""
    world = World()
    world.put(pod("x", "a", node_name="", ready=False), route(reaction_mode="Exists"))
    assert select_holder(world.view(), FOUR).refused == (("is not scheduled", 1),)


def test_equal_ages_go_to_the_present_holder_else_to_the_smaller_name() -> None:
    """Two controllers name the same Pod, and a tie moves nothing."""
    world = World()
    world.put(pod("yy", "b"), route())
    world.settle()
    world.put(pod("x", "a"))
    assert select_holder(world.view(), FOUR).pod.meta.name == "yy"  # type: ignore[union-attr]
    fresh = World()
    fresh.put(pod("yy", "b"), pod("x", "a"), route())
    assert select_holder(fresh.view(), FOUR).pod.meta.name == "x"  # type: ignore[union-attr]


def test_prefer_wins_while_its_pod_is_eligible() -> None:
    """The annotation beats age, and nothing when its Pod may not hold."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b"), annotated(prefer="x"))
    world.settle()
    assert holder(world) == "x"
    assert select_holder(world.view(), FOUR).rule == "preferred by annotation"
    world.put(pod("x", "a", age=50, ready=False))
    world.settle()
    assert holder(world) == "yy"


def test_failback_never_keeps_the_present_holder_while_it_is_eligible() -> None:
    """A newer Pod waits until the holder is gone; prefer goes first."""
    world = World()
    world.put(pod("x", "a", age=50), annotated(failback="never"))
    world.settle()
    world.put(pod("yy", "b"))
    world.settle()
    assert holder(world) == "x"
    assert select_holder(world.view(), FOUR).rule == "the present holder, failback being off"
    world.put(annotated(failback="never", prefer="yy"))
    world.settle()
    assert holder(world) == "yy"
    world.put(annotated(failback="never"), pod("yy", "b", ready=False))
    world.settle()
    assert holder(world) == "x"


def test_hold_freezes_the_choice_whatever_becomes_of_readiness() -> None:
    """The address stays with an unready Pod, and goes only with the Pod itself."""
    world = World()
    world.put(pod("x", "a", age=50), annotated(hold="true"))
    world.settle()
    world.put(pod("x", "a", age=50, ready=False), pod("yy", "b"))
    world.settle()
    assert holder(world) == "x"
    world.put(pod("x", "a", age=50, phase="Failed"))
    world.step()
    assert holder(world) == "yy", "in one move, and not by way of nobody"


def test_hold_chooses_where_nobody_holds_yet_and_false_is_no_hold() -> None:
    """There is nothing to freeze before the first grant."""
    world = World()
    world.put(pod("x", "a", age=50), annotated(hold="true"))
    world.settle()
    assert holder(world) == "x"
    world.put(annotated(hold="false"), pod("yy", "b"))
    world.settle()
    assert holder(world) == "yy"


def test_hold_on_a_node_that_is_gone_withdraws() -> None:
    """A frozen choice does not reach beyond the machine."""
    world = World()
    world.put(pod("x", "a"), annotated(hold="true"))
    world.settle()
    world.drop(node("a"))
    world.settle()
    assert holder(world) is None


@pytest.mark.parametrize(
    "end",
    [
        relabelled(terminating(pod("x", "a"))),
        terminating(pod("x", "a", ready=False)),
        terminating(pod("x", "a", phase="Failed")),
    ],
    ids=["deselected", "unready", "finished"],
)
def test_terminating_holder_keeps_only_what_nothing_else_denies_it(end: Pod) -> None:
    """Termination alone is forgiven, and only while the selector still means the Pod."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    world.put(terminating(pod("x", "a")))
    world.settle()
    assert holder(world) == "x"
    world.put(end)
    world.settle()
    assert holder(world) is None


def test_terminating_holder_loses_to_a_node_out_of_service() -> None:
    """A machine that is off keeps no Pod, terminating or not."""
    world = World()
    world.put(terminating(pod("x", "a")), route())
    assert select_holder(world.view(), FOUR).pod is None, "and it is never chosen anew"
    world.put(pod("x", "a"))
    world.settle()
    world.put(terminating(pod("x", "a")), attrs.evolve(node("a"), out_of_service=True))
    world.settle(agents=False)
    assert holder(world) is None
    assert world.attachment().spec.releasing == (), "the machine is off: nothing to wait for"


def test_plugged_in_mode_judges_in_place_of_the_specs() -> None:
    """The annotation names a mode that the process knows; one that it does not know is nobody's."""
    found = annotated(**{"reaction-mode": "Exists"})
    assert mode_of(found, BUILT_IN) is BUILT_IN["Exists"]
    assert mode_of(annotated(**{"reaction-mode": "Warm"}), BUILT_IN) is None
    world = World()
    world.put(pod("x", "a"), route(reaction_mode="Sometimes"))
    assert select_holder(world.view(), FOUR).pod is None
    assert not is_delivering(world.view(), "pod-x", FOUR)


def test_deselected_holder_is_released_now() -> None:
    """A Pod that the selector no longer means can not use what still arrives."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(pod("yy", "b"), relabelled(pod("x", "a", age=50)))
    world.step()
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]


def test_after_ready_turns_to_now_when_its_pod_can_no_longer_use_it() -> None:
    """Without waiting for the new holder, without a new epoch, and never back."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(pod("yy", "b"))
    world.step()
    epoch = world.attachment().spec.epoch
    world.put(pod("x", "a", age=50, ready=False))
    world.step()
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]
    world.put(pod("x", "a", age=50))
    world.step()
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]
    assert world.attachment().spec.epoch == epoch


def test_second_move_lets_the_first_node_deliver_on() -> None:
    """The holder's confirmation is no word of the next one: what lingers on a former node waits for the new holder."""
    world = World()
    world.put(pod("x", "a", age=90), route())
    world.settle()
    world.put(pod("yy", "b", age=50))
    world.step()
    report = NodeReport(node_name="b", epoch=world.attachment().spec.epoch, state=NodeStateName.PROGRAMMED)
    world.put(attrs.evolve(world.attachment(), nodes=(report,)), pod("zzz", "c", age=10))
    world.step()
    spec = world.attachment().spec
    assert holder(world) == "zzz"
    assert [(each.pod_name, each.how) for each in spec.releasing] == [("x", How.AFTER_READY), ("yy", How.AFTER_READY)]


def test_after_ready_turns_to_now_when_nobody_holds_any_more() -> None:
    """A release that waits for a successor does not wait for none."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(pod("yy", "b"))
    world.step()
    world.put(terminating(pod("x", "a", age=50)))
    assert world.step().actions == ()
    world.drop(pod("yy", "b"))
    world.step()
    assert holder(world) is None
    assert {entry.node_name for entry in world.attachment().spec.releasing} == {"a", "b"}
    assert {entry.how for entry in world.attachment().spec.releasing} == {How.NOW}


def test_terminating_ready_pod_goes_on_delivering() -> None:
    """A Pod that shuts down in order still serves what arrives."""
    world = World()
    world.put(terminating(pod("x", "a")), route())
    assert is_delivering(world.view(), "pod-x", FOUR)
    world.put(terminating(pod("x", "a", ready=False)))
    assert not is_delivering(world.view(), "pod-x", FOUR)
    world.put(pod("x", "a", ips=()))
    assert not is_delivering(world.view(), "pod-x", FOUR)
    assert not is_delivering(world.view(), "nobody", FOUR)


def test_damping_applies_after_a_time_without_any_holder() -> None:
    """The Pod that lost it for want of readiness is damped although nobody followed at once."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(pod("x", "a", age=50, ready=False))
    world.settle()
    world.put(pod("yy", "b", age=60))
    world.settle()
    assert holder(world) == "yy"
    world.put(pod("x", "a", age=50, ready_at=world.now))
    world.settle()
    assert holder(world) == "yy"


@pytest.mark.parametrize(("ready_at", "ends_at"), [(0.0, 100.0), (80.0, 100.0), (95.0, 105.0)])
def test_damping_ends_after_its_time_and_not_before_the_pod_has_been_ready_for_as_long(
    ready_at: float, ends_at: float
) -> None:
    """Whichever is later: the instant that was recorded, or ten seconds of readiness since."""
    damped = Damped(pod_uid="pod-x", until_at=100.0)
    assert damping_ends(pod("x", "a", ready_at=ready_at), damped, 96.0, 10.0) == ends_at


@pytest.mark.parametrize(
    ("until_at", "ready_at", "ends_at"),
    [
        (106.0, 90.0, 106.0),  # as far ahead as the leader of this very instant would write it
        (106.1, 90.0, 100.0),
        (100.0, 106.0, 116.0),
        (100.0, 106.1, 100.0),
        (3600.0, 3600.0, 96.0),
    ],
)
def test_instants_of_a_clock_that_is_far_ahead_damp_nobody(until_at: float, ready_at: float, ends_at: float) -> None:
    """What lies further ahead than damping lasts is not believed, whether a leader or a kubelet wrote it."""
    damped = Damped(pod_uid="pod-x", until_at=until_at)
    assert damping_ends(pod("x", "a", ready_at=ready_at), damped, 96.0, 10.0) == ends_at


def test_leader_whose_clock_was_an_hour_ahead_leaves_ten_seconds_of_damping() -> None:
    """The successor damps the Pod by its readiness, and not for the hour that stands in the attachment."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), route())
    world.settle()
    world.now += 3600
    world.put(pod("x", "a", age=50, ready=False))
    world.settle()
    world.now -= 3600
    world.put(pod("x", "a", age=50, ready_at=world.now))
    world.settle()
    assert holder(world) == "yy"
    world.now += 10
    world.settle()
    assert holder(world) == "x"


def test_damped_pod_takes_back_at_once_from_nobody() -> None:
    """Damping protects a Ready holder, not an address that nobody holds; then it is over."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(pod("x", "a", age=50, ready=False))
    world.settle()
    assert world.attachment().spec.damped is not None
    world.put(pod("x", "a", age=50, ready_at=world.now))
    world.settle()
    assert holder(world) == "x"
    assert world.attachment().spec.damped is None


def test_damping_is_not_for_others_nor_for_what_ended_otherwise() -> None:
    """A newer Pod that never lost it takes over at once; a deleted holder's successor was not unready."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), route())
    world.settle()
    world.put(pod("x", "a", age=50, ready=False))
    world.settle()
    world.put(pod("zzz", "c", age=1))
    world.settle()
    assert holder(world) == "zzz"
    world.put(terminating(pod("zzz", "c", age=1)))
    world.settle()
    assert holder(world) == "yy"
    assert world.attachment().spec.damped.pod_uid == "pod-x"  # type: ignore[union-attr]


def existing(found: GKEIPRoute) -> GKEIPRoute:
    """The route in the mode that does not ask for readiness."""
    return attrs.evolve(found, reaction_mode="Exists")


@pytest.mark.parametrize(
    ("of_route", "away"),
    [
        (existing(route()), relabelled(pod("x", "a", age=50, ready=False))),
        (route(), relabelled(pod("x", "a", age=50, ready=False))),
    ],
)
def test_pod_that_lost_it_by_its_labels_takes_back_at_once(of_route: GKEIPRoute, away: Pod) -> None:
    """An unready Pod that is deselected has not lost the address for want of readiness."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), of_route)
    world.settle()
    assert holder(world) == "x"
    world.put(away)
    world.settle()
    assert holder(world) == "yy"
    assert world.attachment().spec.damped is None
    world.put(pod("x", "a", age=50, ready_at=world.now))
    world.settle()
    assert holder(world) == "x"


def test_holder_that_a_newer_pod_displaced_is_not_damped() -> None:
    """Where readiness is not asked for, nobody loses the address for want of it."""
    world = World()
    world.put(pod("x", "a", age=50, ready=False), existing(route()))
    world.settle()
    world.put(pod("yy", "b", age=1, ready=False))
    world.settle()
    assert holder(world) == "yy"
    assert world.attachment().spec.damped is None


def test_unready_holder_is_not_protected_from_a_damped_pod() -> None:
    """Damping spares a Ready holder; one that holds unready by its mode gives way at once."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), route())
    world.settle()
    world.put(pod("x", "a", age=50, ready=False))
    world.settle()
    world.put(existing(world.route()), pod("yy", "b", age=60, ready=False), pod("x", "a", age=50, ready_at=world.now))
    world.settle()
    assert holder(world) == "x"


def test_damped_entry_of_the_holder_itself_means_nothing() -> None:
    """An attachment that somebody else wrote may name its own holder; the holder goes on holding."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    spec = attrs.evolve(world.attachment().spec, damped=Damped(pod_uid="pod-x", until_at=world.now + 100))
    world.put(attrs.evolve(world.attachment(), spec=spec))
    world.settle()
    assert holder(world) == "x"
    assert world.attachment().spec.damped is None


def test_dropped_address_that_is_claimed_again_keeps_its_release_until_granted() -> None:
    """While the claim is pending nobody holds it: the node's confirmation is still due."""
    world = World()
    world.put(pod("x", "a"), route("web", "203.0.113.8", "203.0.113.9"))
    world.settle()
    world.put(route("web", "203.0.113.8"))
    world.step()
    assert [entry.prefixes for entry in world.attachment().spec.releasing] == [(ADDRESS,)]
    world.put(route("web", "203.0.113.8", "203.0.113.9"))
    world.step()
    spec = world.attachment().spec
    assert [address.pending for address in spec.addresses] == [False, True]
    assert [entry.prefixes for entry in spec.releasing] == [(ADDRESS,)]
    world.step()
    spec = world.attachment().spec
    assert ADDRESS in spec.held_prefixes
    assert spec.releasing == ()


def test_pending_address_is_not_ready() -> None:
    """Ready speaks of every address of the route: one that is not granted yet is not delivered."""
    world = World()
    world.put(pod("x", "a"), route("web", "203.0.113.9"))
    world.settle()
    edited = route("web", "203.0.113.9", "203.0.113.8")
    world.put(attrs.evolve(edited, meta=attrs.evolve(edited.meta, generation=2), status=world.route().status))
    world.step()
    world.confirm()
    assert world.condition("Ready") == ("False", "Programming")
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")


def test_labels_of_others_on_an_attachment_stay() -> None:
    """A write takes away node labels of ours and nothing else."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    present = world.attachment()
    labels = {**present.meta.labels, "example.com/mine": "yes"}
    world.put(attrs.evolve(present, meta=attrs.evolve(present.meta, labels=labels)))
    world.put(pod("yy", "b"))
    world.settle()
    assert world.attachment().meta.labels["example.com/mine"] == "yes"
    assert set(world.attachment().meta.labels) == {CLASS_LABEL, node_label("b"), "example.com/mine"}


def test_attachment_that_a_user_deletes_is_drained_and_made_anew() -> None:
    """The finalizer holds it until the node has let go."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    present = world.attachment()
    world.put(attrs.evolve(present, meta=attrs.evolve(present.meta, deleted_at=world.now)))
    world.settle(agents=False)
    assert world.attachment().spec.addresses == ()
    assert world.condition("DPV2Ready") == ("False", "AwaitingRelease")
    world.settle()
    assert world.attachment().meta.uid != present.meta.uid
    assert world.condition("Ready") == ("True", "Ready")


def test_foreign_finalizer_is_left_to_its_owner() -> None:
    """We take our own finalizer away, wait, and write no more."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    present = world.attachment()
    finalizers = (*present.meta.finalizers, "example.com/mine")
    world.put(attrs.evolve(present, meta=attrs.evolve(present.meta, finalizers=finalizers)))
    world.drop(route())
    world.settle()
    assert world.attachment().meta.finalizers == ("example.com/mine",)


def test_attachment_of_another_name_decides_nothing() -> None:
    """One route has one attachment, the one of its name: any other only stands in the way of its addresses."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    rogue = attrs.evolve(world.attachment(), meta=ObjectMeta(name="a-rogue", uid="rogue"))
    world.put(rogue)
    assert world.attachment().meta.uid != "rogue"
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")


def test_move_is_told_in_an_event_with_its_ways_and_time() -> None:
    """From, to and how long it took, once."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    assert [(each.reason, each.warning) for each in world.events] == [("Accepted", False), ("Moved", False)]
    world.put(pod("yy", "b"))
    world.step()
    epoch = world.attachment().spec.epoch
    world.confirm(nodes=("b",))
    present = world.attachment()
    nodes = tuple(attrs.evolve(each, at=epoch / 1000 + 0.25) for each in present.nodes if each.node_name == "b")
    world.put(attrs.evolve(present, nodes=nodes))
    world.step()
    assert world.events[-1].reason == "Moved"
    words = "held by Pod yy on Node b, 250 ms after the decision; before: Pod x on Node a; rule: newest"
    assert world.events[-1].message == words
    told = len(world.events)
    world.settle()
    assert len(world.events) == told


@pytest.mark.parametrize(
    ("state", "reason", "expected", "is_told"),
    [
        (NodeStateName.FAILED, "PodLinkNotFound", "PodLinkNotFound", True),
        (NodeStateName.FAILED, "", "ProgrammingFailed", True),
        (NodeStateName.FAILED, "UnsupportedAddress", "UnsupportedAddress", True),
        (NodeStateName.UNSUPPORTED, "", "Programming", False),
        (NodeStateName.PROGRAMMING, "", "Programming", False),
    ],
)
@pytest.mark.parametrize("message", ["why", ""])
def test_word_of_the_holders_node_reaches_the_route(
    state: NodeStateName, reason: str, expected: str, is_told: bool, message: str
) -> None:
    """What the agent says of the present epoch is what the condition says; a failure is told in an Event."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    present = world.attachment()
    report = attrs.evolve(present.nodes[0], state=state, reason=reason, message=message)
    world.put(attrs.evolve(present, nodes=(report,)))
    told = len(world.events)
    world.step()
    assert world.condition("DPV2Ready") == ("False", expected)
    assert message in world.message("DPV2Ready")
    assert "Pod x on Node a" in world.message("DPV2Ready")
    assert [each.warning for each in world.events[told:]] == [True] * is_told


def test_word_on_an_older_epoch_says_nothing() -> None:
    """The route waits for the node to speak of what was decided last."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    present = world.attachment()
    world.put(attrs.evolve(present, nodes=tuple(attrs.evolve(each, epoch=1) for each in present.nodes)))
    world.step()
    assert world.condition("DPV2Ready") == ("False", "Programming")


class Grown:
    """A mode of somebody else's: a Pod holds from a size on, which the Pod or its route names."""

    annotations = frozenset({"persistip.dev/least", "example.com/least"})

    def refusal(self, pod: Pod) -> str | None:
        """Refuse a Pod that is smaller than what is asked for."""
        least = pod.meta.annotations.get("persistip.dev/least") or pod.meta.annotations.get("example.com/least", "0")
        return None if int(pod.meta.labels.get("size", "0")) >= int(least) else f"is smaller than {least}"


def grown(route_annotations: dict[str, str], pod_annotations: dict[str, str]) -> World:
    """A route that asks for the mode, and a Pod of size 5."""
    world = World()
    world.catalog.modes = {**BUILT_IN, "Grown": Grown()}
    found = pod("x", "a")
    labels = {**found.meta.labels, "size": "5"}
    meta = attrs.evolve(found.meta, labels=labels, annotations=pod_annotations)
    world.put(attrs.evolve(found, meta=meta), annotated(**route_annotations))
    return world


@pytest.mark.parametrize(("least", "holds"), [("5", True), ("6", False)])
def test_mode_reads_what_its_route_says(least: str, *, holds: bool) -> None:
    """A route may carry an annotation of the mode that it asks for, and the mode sees it on each of its Pods."""
    world = grown({"reaction-mode": "Grown", "least": least}, {})
    world.settle()
    assert world.condition("Accepted") == ("True", "Accepted")
    assert bool(world.route().status.pods) is holds
    assert holds or "is smaller than 6" in world.message("Ready")


def test_pods_own_word_to_a_mode_beats_its_routes() -> None:
    """Where both say something, the Pod is heard."""
    world = grown({"reaction-mode": "Grown", "least": "9"}, {"persistip.dev/least": "4"})
    world.settle()
    assert world.route().status.pods == ("x",)


def test_annotation_of_a_mode_is_refused_without_the_mode() -> None:
    """A key that only a mode reads says nothing on a route that does not ask for it; the message names the mode."""
    world = grown({"least": "4"}, {})
    world.settle()
    assert world.condition("Accepted") == ("False", "UnsupportedValue")
    assert "persistip.dev/least]: is read by reaction mode Grown only" in world.message("Accepted")


def test_mode_cannot_claim_a_key_of_ours() -> None:
    """A key that has a meaning of its own keeps it, and its values, whatever a mode says that it reads."""

    class Greedy(Grown):
        annotations = frozenset({"persistip.dev/hold"})

    world = World()
    world.catalog.modes = {**BUILT_IN, "Greedy": Greedy()}
    world.put(pod("x", "a"), annotated(**{"reaction-mode": "Greedy", "hold": "maybe"}))
    world.settle()
    assert "'maybe' is unknown; use false or true" in world.message("Accepted")


def test_each_rule_that_bends_the_choice_is_named() -> None:
    """`persistip explain` and the Event of a move say which rule decided, in these words."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), route())
    world.settle()
    of_route = world.route()
    held = attrs.evolve(of_route, meta=attrs.evolve(of_route.meta, annotations={"persistip.dev/hold": "true"}))
    world.put(held, pod("zzz", "c", age=1))
    assert select_holder(world.view(), FOUR).rule == "held by annotation"
    world.put(of_route)
    world.drop(pod("yy", "b"), pod("zzz", "c"))
    world.put(terminating(pod("x", "a", age=50)))
    assert select_holder(world.view(), FOUR).rule == "the terminating holder, nobody else being eligible"
    world.drop(pod("x", "a"))
    world.put(existing(of_route), pod("new", "c", ips=(), ready=False))
    assert select_holder(world.view(), FOUR).rule == "newest, waiting for its IP"


def test_of_two_pods_of_one_age_that_lack_an_ip_the_present_holder_is_waited_for() -> None:
    """A sandbox that is made again has no IP for a moment; a name is no reason to move."""
    world = World()
    world.put(existing(route()), pod("yy", "b", age=50))
    world.settle()
    world.put(pod("yy", "b", age=50, ips=()), pod("x", "a", age=50, ips=()))
    choice = select_holder(world.view(), FOUR)
    assert choice.pod is not None
    assert (choice.pod.meta.name, choice.awaits_ip) == ("yy", True)
