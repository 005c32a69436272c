"""What a rehearsed cluster comes to: who holds, who waits, what is left alone."""

import itertools
from ipaddress import ip_network

import attrs
import pytest

from persistip.decide.catalog import Planned
from persistip.decide.plan_route import RoutePlan
from persistip.errors import BugError
from persistip.model.actions import ReportRoute
from persistip.model.attachment import AddressAttachment, How, NodeReport, NodeStateName, Release
from persistip.model.conditions import ConditionType, Reason, find_condition
from persistip.model.gateway import From, Gateway, GatewayClass, Listener
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Namespace
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, RouteStatus
from persistip.runtime.rehearsal import Rehearsal, Settled
from persistip.runtime.standins import NAME_LABEL, complete, stand_in_uid
from persistip.strategies import ClusterObject
from persistip.testing.builders import (
    START,
    attachment,
    config_map,
    gateway,
    gateway_class,
    namespace,
    node,
    pod,
    route,
)

BASE = (gateway_class(), config_map(), namespace(), node("node-a"), node("node-b"))
OLD, NEW = pod("old", created_at=START - 50), pod("new", node="node-b", ips=["10.0.1.2"], created_at=START - 5)
KEY = route().key


def rehearsal(*objects: ClusterObject, **options: object) -> Rehearsal:
    """Return a rehearsal of the base and *objects*, which replace those of the base that have their names."""
    found = {each.key: each for each in (*BASE, gateway(), *objects)}
    return Rehearsal(found.values(), now=START, **options)  # type: ignore[arg-type]


def condition(settled: Settled, type_: str, key: ObjectKey = KEY) -> tuple[str, str]:
    """Return status and reason of a condition of an object at rest."""
    found = settled.objects[key]
    assert isinstance(found, GKEIPRoute | Gateway)
    said = find_condition(found.status.conditions, type_)
    assert said is not None
    return said.status, said.reason


def spec_of(settled: Settled, key: ObjectKey = KEY) -> AddressAttachment:
    """Return the attachment of a route at rest."""
    found = settled.attachment_of(key)
    assert found is not None
    return found


def holder(settled: Settled, key: ObjectKey = KEY) -> str | None:
    """Return the name of the Pod that holds."""
    found = spec_of(settled, key).spec.holder
    return found.pod_name if found else None


def test_newest_pod_holds_and_nothing_is_left_to_do() -> None:
    """The newest Pod holds, its node has confirmed, nothing is pending and nothing is being released."""
    settled = rehearsal(route(), OLD, NEW).settle()
    found = spec_of(settled)
    assert holder(settled) == "new"
    assert found.is_confirmed
    assert (found.spec.releasing, [address.pending for address in found.spec.addresses]) == ((), [False])
    assert condition(settled, ConditionType.READY) == ("True", Reason.READY)
    assert settled.plans[KEY].actions == ()


def test_node_that_goes_takes_its_pods_and_the_addresses_move() -> None:
    """Without the holder's node the next Pod holds, under a later epoch, and nobody waits for the dead node."""
    world = rehearsal(route(), OLD, NEW)
    before = spec_of(world.settle())
    world.without_node("node-b")
    settled = world.settle()
    assert holder(settled) == "old"
    assert spec_of(settled).spec.epoch > before.spec.epoch
    assert spec_of(settled).spec.releasing == ()
    assert not any(isinstance(each, Pod) and each.node_name == "node-b" for each in settled.objects.values())


def test_last_pod_that_goes_leaves_the_attachment_held_by_nobody() -> None:
    """Without any Pod the attachment stays, since it keeps epoch and incumbency, and the route says why."""
    world = rehearsal(route(), OLD)
    world.settle()
    world.without_pod("tenant", "old")
    settled = world.settle()
    assert holder(settled) is None
    assert condition(settled, ConditionType.READY) == ("False", Reason.NO_ELIGIBLE_POD)


def test_taking_out_what_is_not_there_changes_nothing() -> None:
    """Neither an unknown Pod nor an unknown Node makes a difference."""
    world = rehearsal(route(), OLD)
    before = world.settle()
    world.without_pod("tenant", "nobody")
    world.without_node("nowhere")
    assert world.settle().objects == before.objects


def test_routes_that_swap_addresses_both_get_what_they_want() -> None:
    """Two routes that were edited to hold each other's address come to rest with the addresses exchanged."""
    one = route("one", addresses=["203.0.113.9"])
    two = route("two", addresses=["203.0.113.10"])
    pool = gateway(addresses=["203.0.113.8/29"])
    past = [
        attachment(one, holder=OLD, addresses=["203.0.113.10"]),
        attachment(two, holder=OLD, addresses=["203.0.113.9"]),
    ]
    settled = rehearsal(pool, OLD, one, two, *past).settle()
    for each, prefix in ((one, "203.0.113.9/32"), (two, "203.0.113.10/32")):
        assert spec_of(settled, each.key).spec.held_prefixes == (ip_network(prefix),)
        assert condition(settled, ConditionType.READY, each.key) == ("True", Reason.READY)


@pytest.mark.parametrize("node_uid", ["uid-node-a", "former"])
def test_release_ends_by_confirmation_or_with_its_node(node_uid: str) -> None:
    """A node that exists confirms what it had to let go; for one that is no more nobody waits."""
    release = Release(
        prefixes=(ip_network("203.0.113.9"),),
        pod_name="gone",
        pod_uid="gone",
        node_name="node-a",
        node_uid=node_uid,
        how=How.NOW,
        epoch=3,
        since_at=START,
    )
    settled = rehearsal(route(), NEW, attachment(holder=NEW, epoch=3, releasing=(release,))).settle()
    said = spec_of(settled).report_of("node-a")
    assert spec_of(settled).spec.releasing == ()
    assert (said and said.released) == (3 if node_uid == "uid-node-a" else None)


def test_attachment_of_a_deleted_route_is_drained_and_gone() -> None:
    """What no route claims any more is released and deleted."""
    settled = rehearsal(OLD, attachment(holder=OLD)).settle()
    assert not any(isinstance(each, AddressAttachment) for each in settled.objects.values())


def test_route_made_again_gets_an_attachment_made_again() -> None:
    """The attachment of a route's former self goes, and the new one has another UID, also where both are stand-ins."""
    former = attachment(route(uid="former"), holder=OLD, uid=stand_in_uid(attachment().key))
    settled = rehearsal(route(), OLD, former).settle()
    assert spec_of(settled).spec.route.uid == route().meta.uid
    assert spec_of(settled).meta.uid not in ("", former.meta.uid)


def test_attachment_without_finalizer_goes_at_once() -> None:
    """An attachment that somebody robbed of its finalizer is deleted like any object."""
    bare = attachment(route("other"))
    bare = attrs.evolve(bare, meta=attrs.evolve(bare.meta, finalizers=()))
    assert bare.key not in rehearsal(bare).settle().objects


def test_failure_of_this_very_epoch_is_believed() -> None:
    """A node that says it failed is not overruled; with the next epoch it gets another chance."""
    failed = NodeReport(node_name="node-a", epoch=1, state=NodeStateName.FAILED, reason=Reason.POD_LINK_NOT_FOUND)
    stuck = attrs.evolve(attachment(holder=OLD, epoch=1), nodes=(failed,))
    settled = rehearsal(route(), OLD, stuck).settle()
    assert condition(settled, ConditionType.DPV2_READY) == ("False", Reason.POD_LINK_NOT_FOUND)
    moved = rehearsal(route(), OLD, attrs.evolve(NEW, node_name="node-a"), stuck).settle()
    assert condition(moved, ConditionType.DPV2_READY) == ("True", Reason.PROGRAMMED)


def test_without_nodes_acting_nothing_is_confirmed() -> None:
    """Where no node says anything, the route waits for its holder's node."""
    settled = rehearsal(route(), OLD, with_nodes=False).settle()
    assert condition(settled, ConditionType.READY) == ("False", Reason.PROGRAMMING)


@pytest.mark.parametrize(
    ("lost", "left_alone"),
    [
        (gateway().key, {KEY}),
        (gateway_class().key, {KEY, gateway().key}),
        (config_map().key, {KEY, gateway().key, gateway_class().key}),
    ],
)
def test_unreadable_foundation_leaves_all_that_rests_on_it_alone(lost: ObjectKey, left_alone: set[ObjectKey]) -> None:
    """What exists and cannot be read counts neither as present nor as gone: nothing is said of what rests on it."""
    given = {each.key: each for each in (*BASE, gateway(), route(), OLD) if each.key != lost}
    settled = Rehearsal(given.values(), now=START, unreadable={lost: "is no YAML"}).settle()
    assert settled.unreadable.keys() == left_alone
    assert all("is no YAML" in why for why in settled.unreadable.values())
    for key in left_alone:
        found = settled.objects[key]
        assert not (found.conditions if isinstance(found, GatewayClass) else found.status.conditions)  # type: ignore[union-attr]


def test_mode_of_ones_own_is_asked() -> None:
    """A plugged-in reaction mode decides which Pods may hold."""

    class Never:
        annotations = ()

        def refusal(self, pod: Pod) -> str | None:
            return "is not to my taste"

    picky = route(annotations={"persistip.dev/reaction-mode": "Never"})
    settled = rehearsal(picky, OLD, modes={"Never": Never()}).settle()
    assert condition(settled, ConditionType.READY) == ("False", Reason.NO_ELIGIBLE_POD)


def test_plans_that_never_rest_are_a_bug_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that undo their own writes for ever do not hang the rehearsal, and the route is named."""
    asked = itertools.count()

    def undecided(view: Planned) -> RoutePlan:
        if view.key != KEY:
            return RoutePlan()
        status = RouteStatus(pods=(f"pod-{next(asked)}",))
        return RoutePlan(actions=(ReportRoute(key=KEY, uid="", resource_version="", status=status),))

    monkeypatch.setattr("persistip.runtime.rehearsal.decide", undecided)
    with pytest.raises(BugError, match="never come to rest: GKEIPRoute tenant/nat-0"):
        rehearsal(route(), OLD).settle()


# ---------------------------------------------------------------- what files leave out
def plain(found: ClusterObject) -> ClusterObject:
    """Return the object as a person writes it."""
    meta = attrs.evolve(found.meta, uid="", created_at=0.0, generation=0, resource_version="")
    return attrs.evolve(found, meta=meta)


def test_plain_objects_get_uid_time_and_generation() -> None:
    """A manifest becomes what an API server would have stored now; what it says itself stays."""
    done = complete([plain(route()), OLD], now=START + 0.5).objects
    meta = done[KEY].meta
    assert (meta.uid, meta.created_at, meta.generation) == ("file:GKEIPRoute/tenant/nat-0", START, 1)
    assert done[OLD.key].meta == OLD.meta


def test_plain_objects_are_those_that_attachments_speak_of() -> None:
    """Where an attachment names an object without UID, it is that object, by the attachment of the latest epoch."""
    live = attachment(holder=OLD, epoch=7)
    older = attachment(route("other"), holder=attrs.evolve(OLD, meta=attrs.evolve(OLD.meta, uid="former")), epoch=6)
    done = complete([live, older, *(plain(each) for each in (route(), gateway(), OLD, node()))], now=START).objects
    uids = {str(key.kind): each.meta.uid for key, each in done.items() if key.kind is not Kind.ATTACHMENT}
    expected = {"GKEIPRoute": "uid-nat-0", "Gateway": "uid-pool", "Pod": "uid-old", "Node": "uid-node-a"}
    assert expected.items() <= uids.items()


def test_nodes_are_assumed_where_none_is_given() -> None:
    """Without any Node, those that Pods and attachments name exist, and one sentence says so."""
    release = Release(
        prefixes=(), pod_name="p", pod_uid="p", node_name="node-c", node_uid="c", how=How.NOW, epoch=1, since_at=START
    )
    done = complete([OLD, NEW, attachment(releasing=(release,))], now=START)
    assert [key.name for key in done.objects if key.kind is Kind.NODE] == ["node-a", "node-b", "node-c"]
    assert done.objects[ObjectKey(Kind.NODE, "", "node-c")].meta.uid == "c"
    assert [each for each in done.assumptions if "no Node is given: node-a, node-b, node-c" in each]


@pytest.mark.parametrize("lost", [(), (node("node-b").key,)])
def test_nodes_are_not_assumed_where_some_are_given(lost: tuple[ObjectKey, ...]) -> None:
    """One Node, readable or not, means that the files hold the nodes: others do not exist."""
    given = [OLD, NEW] if lost else [OLD, NEW, node("node-a")]
    done = complete(given, now=START, lost=lost)
    assert [key.name for key in done.objects if key.kind is Kind.NODE] == ([] if lost else ["node-a"])
    assert done.assumptions == ()


def test_namespaces_carry_the_label_of_their_name() -> None:
    """Every Namespace has the label that the API server gives it, also one that is not given at all."""
    bare = Namespace(attrs.evolve(namespace().meta, labels={"a": "b"}))
    labels = complete([bare], now=START).objects[bare.key].meta.labels
    assert labels == {NAME_LABEL: "tenant", "a": "b"}
    done = complete([route(), gateway()], now=START)
    assert done.objects[bare.key].meta.labels == {NAME_LABEL: "tenant"}
    assert done.assumptions == ()


def test_namespace_that_a_listener_asks_for_is_not_assumed_silently() -> None:
    """Where a listener admits by labels, a Namespace that is not given is said to have none."""
    picky = gateway(listeners=[Listener(name="some", namespaces_from=From.SELECTOR)])
    assert "Namespace tenant" in " ".join(complete([route(), picky], now=START).assumptions)
    lost = complete([route(), picky], now=START, lost=[namespace().key])
    assert namespace().key not in lost.objects
    assert lost.assumptions == ()


def test_long_list_of_assumed_names_is_cut() -> None:
    """However many nodes are assumed, the line stays short."""
    pods = [pod(f"p{number}", node=f"node-{number}") for number in range(9)]
    (said,) = complete(pods, now=START).assumptions
    assert "node-4 and 4 more" in said
