"""The rules of a route, write by write: each write of a plan is applied and the next plan made until none is due."""

from ipaddress import ip_address, ip_network

import attrs
from world import CLASS, World, holder, node, pod, route

from persistip.decide.plan_route import plan_route
from persistip.model.attachment import How
from persistip.model.conditions import Status, find_condition
from persistip.model.keys import CLASS_LABEL, ObjectMeta, node_label
from persistip.model.node import Namespace
from persistip.model.selector import LabelSelector
from persistip.strategies import Batch


def test_first_grant_takes_two_writes() -> None:
    """The first is a claim, by which no agent may act; the next grants it, under a newer epoch."""
    world = World()
    world.put(pod("x", "a"), route())
    world.step()
    assert [address.pending for address in world.attachment().spec.addresses] == [True]
    first = world.attachment().spec.epoch
    world.now += 0.001
    world.step()
    assert [address.pending for address in world.attachment().spec.addresses] == [False]
    assert world.attachment().spec.epoch > first


def test_first_grant_settles_with_all_conditions_true() -> None:
    """A route with a Ready Pod ends Ready, and then nothing more is written."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    assert {each: world.condition(each) for each in ("Accepted", "GCPReady", "DPV2Ready", "Ready")} == {
        "Accepted": ("True", "Accepted"),
        "GCPReady": ("True", "NotRequired"),
        "DPV2Ready": ("True", "Programmed"),
        "Ready": ("True", "Ready"),
    }
    assert world.attachment().meta.labels == {CLASS_LABEL: CLASS, node_label("a"): ""}
    assert world.step().actions == ()


def test_claim_written_by_two_leaders_is_withdrawn_by_who_sees_both() -> None:
    """Each claims one address: who sees both claims first takes its own back, and the other route is granted it."""
    ours, theirs = World(), World()
    for world, name in ((ours, "web"), (theirs, "rival")):
        world.put(pod("x", "a"), route(name))
        world.step(name)
    ours.put(route("rival"), theirs.attachment("rival"))
    ours.step("web")
    assert ours.attachment("web").spec.addresses == ()
    ours.step("rival")
    assert [each.pending for each in ours.attachment("rival").spec.addresses] == [False]


def test_newer_ready_pod_takes_over_and_the_old_node_delivers_until_confirmed() -> None:
    """A planned move is make-before-break: AfterReady, then Now on confirmation, then gone."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    before = world.attachment().spec.epoch
    world.put(pod("yy", "b", age=1))
    world.step()
    spec = world.attachment().spec
    assert (holder(world), [entry.how for entry in spec.releasing]) == ("yy", [How.AFTER_READY])
    assert spec.epoch > before
    assert spec.releasing[0].epoch == spec.epoch
    assert world.condition("DPV2Ready") == ("False", "Programming")

    world.confirm(nodes=("b",))
    world.step()
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]
    assert world.attachment().spec.epoch == spec.epoch, "turning to Now is no new duty"
    world.settle()
    assert world.attachment().spec.releasing == ()
    assert world.condition("Ready") == ("True", "Ready")
    assert set(world.attachment().meta.labels) == {CLASS_LABEL, node_label("b")}


def test_planned_move_takes_at_most_eight_writes() -> None:
    """All writes of a move together, ours and the agents', Event included, are at most eight."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    writes, events = world.revision, len(world.events)
    world.put(pod("yy", "b", age=1))
    world.settle()
    assert holder(world) == "yy"
    assert (world.revision - writes - 1) + (len(world.events) - events) <= 8


def test_unready_holder_loses_the_address_at_once() -> None:
    """An unready Pod is released Now, whether or not somebody follows."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), route())
    world.settle()
    assert holder(world) == "x"
    world.put(pod("x", "a", age=50, ready=False))
    world.step()
    assert holder(world) == "yy"
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]


def test_no_eligible_pod_is_said_and_the_attachment_stays() -> None:
    """Held by nobody, the object keeps epoch and incumbency, and the message counts why."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    epoch = world.attachment().spec.epoch
    world.put(pod("x", "a", ready=False), route("older", age=10_000))
    world.settle()
    world.settle("older")
    assert holder(world) is None
    assert world.attachment().spec.epoch > epoch
    assert world.attachment().spec.held_prefixes == (ip_network("203.0.113.9/32"),)
    assert world.condition("Accepted", "older") == ("False", "AddressConflict")
    assert world.condition("Ready") == ("False", "NoEligiblePod")
    facts = world.view().facts
    assert facts is not None
    assert "1 is not Ready" in find_condition(facts.route.status.conditions, "DPV2Ready").message  # type: ignore[union-attr]
    assert facts.route.status.pods == ()


def test_damped_pod_takes_back_only_after_ten_seconds_of_readiness() -> None:
    """A Pod that lost the address for want of readiness does not displace a Ready holder at once."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), route())
    world.settle()
    world.put(pod("x", "a", age=50, ready=False))
    world.settle()
    back = world.now + 1
    world.now = back
    world.put(pod("x", "a", age=50, ready=True, ready_at=back))
    plan = world.settle()
    assert holder(world) == "yy"
    assert plan.choice.rule == "newest but for a Pod that was not Ready"
    assert plan.recheck_at is not None
    assert plan.recheck_at >= back + 10
    world.now = plan.recheck_at
    world.settle()
    assert holder(world) == "x"
    assert world.attachment().spec.damped is None


def test_terminating_holder_keeps_the_address_until_another_is_eligible() -> None:
    """A StatefulSet's replacement does not exist yet when its Pod begins to terminate."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    leaving = pod("x", "a", age=50)
    world.put(attrs.evolve(leaving, meta=attrs.evolve(leaving.meta, deleted_at=world.now)))
    world.settle()
    assert holder(world) == "x"
    world.put(pod("yy", "b"))
    world.step()
    assert holder(world) == "yy"
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.AFTER_READY]


def test_same_pod_name_made_again_is_another_pod() -> None:
    """Pods are compared by UID: the replacement of a StatefulSet's Pod is a move."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    again = pod("x", "b")
    world.put(attrs.evolve(again, meta=attrs.evolve(again.meta, uid="pod-x-again")))
    world.settle()
    spec = world.attachment().spec
    assert spec.holder is not None
    assert (spec.holder.pod_uid, spec.holder.node_name) == ("pod-x-again", "b")


def test_move_back_to_a_releasing_node_drops_its_entry() -> None:
    """Becoming holder again ends the node's own release."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=10), route())
    world.settle()
    world.put(pod("yy", "b", age=10, ready=False))
    world.step()
    assert [entry.pod_name for entry in world.attachment().spec.releasing] == ["yy"]
    world.put(pod("x", "a", age=50, ready=False), pod("yy", "b", age=10))
    world.now += 30
    world.step()
    assert holder(world) == "yy"
    assert [entry.pod_name for entry in world.attachment().spec.releasing] == ["x"]


def test_release_ends_only_by_confirmation_or_by_the_node_gone() -> None:
    """Time ends nothing."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=60), route())
    world.settle()
    world.drop(pod("x", "a"))
    for _ in range(5):
        world.step()
        world.confirm(nodes=("b",))
        world.now += 3600
    assert [entry.node_name for entry in world.attachment().spec.releasing] == ["a"]
    world.drop(node("a"))
    world.settle(agents=False)
    assert world.attachment().spec.releasing == ()


def test_namespace_that_loses_its_label_loses_its_addresses() -> None:
    """A permission taken away withdraws and deletes the attachment."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    world.put(Namespace(ObjectMeta(name="tenant", uid="ns")))
    world.settle()
    assert world.view().attachment is None
    assert world.condition("Accepted") == ("False", "NotAllowedByListeners")
    assert world.condition("Ready") == ("False", "NotAllowedByListeners")
    world.put(Namespace(ObjectMeta(name="tenant", uid="ns", labels={"persistent-ip": "yes"})))
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")


def test_drain_waits_for_the_node_and_says_so() -> None:
    """The object stays while a node has not let go."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    world.drop(route())
    world.settle(agents=False)
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]
    world.settle()
    assert world.view().attachment is None


def test_route_made_again_with_the_same_name_waits_for_the_old_attachment() -> None:
    """Another UID is another route; the old one's attachment is drained first."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    again = route()
    world.put(attrs.evolve(again, meta=attrs.evolve(again.meta, uid="route-web-again")))
    world.settle(agents=False)
    assert world.condition("DPV2Ready") == ("False", "AwaitingRelease")
    world.settle()
    assert world.attachment().spec.route.uid == "route-web-again"
    assert world.condition("Ready") == ("True", "Ready")


def test_older_route_wins_an_address_that_nobody_holds() -> None:
    """Between idle claims the oldest wins, and the loser's message names it."""
    world = World()
    world.put(route("older", age=200), route("newer", age=100))
    world.settle("older")
    world.settle("newer")
    assert world.condition("Accepted", "older") == ("True", "Accepted")
    assert world.condition("Accepted", "newer") == ("False", "AddressConflict")
    facts = world.view("newer").facts
    assert facts is not None
    assert "tenant/older" in find_condition(facts.route.status.conditions, "Accepted").message  # type: ignore[union-attr]


def test_edit_of_an_older_route_does_not_steal_a_held_address() -> None:
    """The incumbent keeps what it holds against any age."""
    world = World()
    world.put(pod("x", "a"), route("newer", "203.0.113.9", age=100), route("older", "203.0.113.8", age=200))
    world.settle("newer")
    world.settle("older")
    world.put(route("older", "203.0.113.8", "203.0.113.9", age=200))
    world.settle("older")
    world.settle("newer")
    assert world.condition("Accepted", "newer") == ("True", "Accepted")
    assert world.condition("Accepted", "older") == ("False", "AddressConflict")
    assert world.attachment("older").spec.held_prefixes == (ip_network("203.0.113.8/32"),), "what it held stays"
    assert holder(world, "older") == "x"


def test_address_changes_route_only_after_its_release() -> None:
    """The winner of a freed claim is accepted at once and served when the last node has let go."""
    world = World()
    world.put(pod("x", "a"), route("first"), route("second", age=50))
    world.settle("first")
    world.settle("second")
    world.drop(route("first"))
    world.settle("first", agents=False)
    world.settle("second", agents=False)
    assert world.condition("Accepted", "second") == ("True", "Accepted")
    assert world.condition("DPV2Ready", "second") == ("False", "AwaitingRelease")
    assert world.view("second").attachment is None
    world.settle("first")
    world.settle("second")
    assert world.condition("Ready", "second") == ("True", "Ready")


def test_edit_releases_what_it_drops_and_keeps_the_rest_uninterrupted() -> None:
    """Addresses of both generations stay with the holder, dropped ones are released Now, new ones claimed."""
    world = World()
    world.put(pod("x", "a"), route("web", "203.0.113.8", "203.0.113.9"))
    world.settle()
    world.put(route("web", "203.0.113.9", "203.0.113.10"))
    world.step()
    spec = world.attachment().spec
    assert spec.held_prefixes == (ip_network("203.0.113.9/32"),)
    assert [(entry.prefixes, entry.how) for entry in spec.releasing] == [((ip_network("203.0.113.8/32"),), How.NOW)]
    world.settle()
    assert set(world.attachment().spec.held_prefixes) == {ip_network("203.0.113.9/32"), ip_network("203.0.113.10/32")}


def test_both_families_need_a_pod_with_both() -> None:
    """A Pod that lacks an IP of a family in the addresses is no candidate."""
    world = World()
    only_four = pod("x", "a", ips=(ip_address("10.0.1.11"),))
    world.put(only_four, route("web", "203.0.113.9", "2001:db8::9"))
    world.settle()
    assert world.condition("Ready") == ("False", "NoEligiblePod")
    assert world.message("DPV2Ready") == (
        "1 Pod matches spec.podSelector, none may hold the addresses: 1 has no IPv6 address yet; "
        "give Pod x an IPv6 address, or let the route list IPv4 addresses only"
    )
    world.put(pod("yy", "b"))
    world.settle()
    assert holder(world) == "yy"
    assert world.attachment().spec.holder.pod_ips == (ip_address("10.0.2.12"), ip_address("fd00::2:12"))  # type: ignore[union-attr]


def test_plan_answers_what_if_a_node_dies() -> None:
    """The library's own example: the same view without a node names the next holder."""
    world = World()
    world.put(pod("x", "a", age=50), pod("yy", "b", age=10), route())
    world.settle()
    assert plan_route(world.view()).holder.pod_name == "yy"  # type: ignore[union-attr]
    assert plan_route(world.view().without_node("b")).holder.pod_name == "x"  # type: ignore[union-attr]


def test_unreadable_route_withdraws_nothing() -> None:
    """An object that cannot be decoded is neither present nor gone."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    world.catalog.update(Batch(unreadable={route().key: "spec.addresses: expected array"}))
    world.put(pod("x", "a", ready=False))
    assert plan_route(world.view()).actions == ()


def test_every_fault_is_listed_and_the_first_in_order_gives_the_reason() -> None:
    """A user mends all at once."""
    world = World()
    world.put(
        route(
            "web",
            "203.0.113.77/24",
            "198.51.100.1",
            pod_selector=LabelSelector(),
            reaction_mode="Sometimes",
            node_selector=LabelSelector((("a", "b"),)),
        )
    )
    world.settle()
    assert world.condition("Accepted") == ("False", "InvalidSelector")
    facts = world.view().facts
    assert facts is not None
    message = find_condition(facts.route.status.conditions, "Accepted").message  # type: ignore[union-attr]
    for part in (
        "spec.podSelector",
        "203.0.113.0/24",
        "198.51.100.1 is not in the pool",
        "spec.reactionMode",
        "spec.nodeSelector",
    ):
        assert part in message


def test_status_of_a_newer_generation_is_never_overwritten() -> None:
    """A slow replica does not turn back what another wrote for a newer spec."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    facts = world.view().facts
    assert facts is not None
    newer = tuple(
        attrs.evolve(each, observed_generation=9, status=Status.UNKNOWN) for each in facts.route.status.conditions
    )
    world.put(attrs.evolve(facts.route, status=attrs.evolve(facts.route.status, conditions=newer)))
    world.settle()
    assert world.condition("Ready")[0] == Status.UNKNOWN
