"""What the conditions of a route say, word for word where the words are the user's way out."""

from ipaddress import ip_address, ip_network

import attrs
import pytest
from world import World, node, pod, route

from persistip.decide.plan_route import plan_route
from persistip.model.attachment import (
    POD_LINK_CHANGED,
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Holder,
    How,
    NodeReport,
    NodeStateName,
    Reference,
    Release,
)
from persistip.model.conditions import find_condition
from persistip.model.keys import ObjectMeta
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.service import Service
from persistip.model.views import RouteView

OFF = "; of a machine that is off for good, delete the Node or give it the taint node.kubernetes.io/out-of-service"
POOL = Reference(namespace="infra", name="pool", uid="gw-pool")


class Cold:
    """A reaction mode that admits nobody."""

    annotations = ()

    def refusal(self, pod: Pod) -> str | None:
        """Say why in words that no rule of ours uses."""
        return "lacks warmth"


def datapath(view: RouteView) -> tuple[str, str, str]:
    """Status, reason and message that DPV2Ready would get, without where a move came from."""
    status = next(each.status for each in plan_route(view).actions if hasattr(each, "status"))
    found = find_condition(status.conditions, "DPV2Ready")
    assert found is not None
    return found.status, found.reason, found.message.partition("; before: ")[0]


def release(node_name: str, *prefixes: str, how: How = How.NOW) -> Release:
    """An entry of ``releasing``."""
    return Release(
        prefixes=tuple(ip_network(prefix) for prefix in prefixes or ("203.0.113.9/32",)),
        pod_name="old",
        pod_uid="pod-old",
        node_name=node_name,
        node_uid=f"node-{node_name}",
        how=how,
        epoch=1,
        since_at=0.0,
    )


def other(name: str, prefix: str, *releases: Release, holder: Holder | None = None) -> AddressAttachment:
    """The attachment of another route."""
    spec = AttachmentSpec(
        route=Reference(namespace="tenant", name=name, uid=f"route-{name}"),
        epoch=1,
        addresses=(AttachedAddress(prefix=ip_network(prefix), gateway=POOL, pending=True),),
        holder=holder,
        releasing=releases,
    )
    return AddressAttachment(meta=ObjectMeta(name=f"r-{name}", uid=f"att-{name}"), spec=spec)


def held() -> World:
    """A world in which Pod x of node a holds the address."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    return world


def with_report(world: World, **fields: object) -> World:
    """The same after the holder's node has said something else of this epoch."""
    present = world.attachment()
    report = NodeReport(node_name="a", epoch=present.spec.epoch, at=world.now, **fields)  # type: ignore[arg-type]
    world.put(attrs.evolve(present, nodes=(report,)))
    return world


def test_claim_that_is_written_and_not_granted_is_told() -> None:
    """Between the two writes of a first grant nobody is said to hold."""
    world = World()
    world.put(pod("x", "a"), route())
    world.step()
    assert world.condition("DPV2Ready") == ("False", "Programming")
    assert world.message("DPV2Ready").startswith("the addresses are being claimed; before: nobody")


def test_route_in_conflict_that_holds_nothing_says_so() -> None:
    """What is not accepted and not attached is not on its way either."""
    world = held()
    world.put(route("older", "203.0.113.8", age=200))
    world.settle_all()
    world.put(route("web", "203.0.113.8"))
    world.settle_all()
    assert world.condition("Accepted") == ("False", "AddressConflict")
    assert world.condition("DPV2Ready") == ("False", "NotAccepted")
    assert world.message("DPV2Ready") == "nothing is attached while the route is not accepted"


@pytest.mark.parametrize(("kinds", "more"), [(8, ""), (9, ", 1 kinds more")])
def test_only_the_first_eight_kinds_of_refusal_are_told(kinds: int, more: str) -> None:
    """A namespace of many broken Pods gets a message that can be read."""
    world = World()
    world.put(route(), *(pod(f"p{number}", "z", node_name=f"gone-{number}") for number in range(kinds)))
    world.settle()
    told = ", ".join(f"1 is on Node gone-{number}, which does not exist" for number in range(8))
    assert world.message("DPV2Ready") == (
        f"{kinds} Pods match spec.podSelector, none may hold the addresses: {told}{more}"
    )


def test_commonest_refusal_comes_first_and_then_the_order_of_words() -> None:
    """What keeps most Pods from holding is what to look at."""
    world = World()
    world.put(
        route(),
        pod("a", "z"),
        pod("b", "a", phase="Failed"),
        pod("c", "a", ready=False),
        pod("d", "a", ready=False),
    )
    world.settle()
    assert world.message("DPV2Ready").endswith(": 2 are not Ready, 1 is Failed, 1 is on Node z, which does not exist")


def test_refusal_of_a_plugged_in_mode_is_told_in_its_own_words() -> None:
    """A verb that we do not know is not put into the plural."""
    world = World()
    world.put(pod("x", "a"), pod("yy", "b"), route())
    view = attrs.evolve(world.view(), modes={"ReadyCondition": Cold()})
    assert datapath(view)[2] == "2 Pods match spec.podSelector, none may hold the addresses: 2 lacks warmth"


def test_pod_without_any_ip_is_told_every_family_that_it_lacks() -> None:
    """Nothing is to be changed about it: its IPs come together, once its network is set up."""
    world = World()
    world.put(pod("x", "a", ips=()), route("web", "203.0.113.9", "2001:db8::9", reaction_mode="Exists"))
    said = "it has no IP at all: `kubectl describe pod x` says what it waits for"
    assert datapath(world.view())[1:] == (
        "AwaitingPodIP",
        f"Pod x on Node a has no IPv4 and IPv6 address yet; {said}",
    )


def held_route(*values: str) -> GKEIPRoute:
    """A route whose choice of Pod is frozen."""
    plain = route("web", *values)
    return attrs.evolve(plain, meta=attrs.evolve(plain.meta, annotations={"persistip.dev/hold": "true"}))


def of_one_family() -> World:
    """A world in which Pod x, with an IPv4 address only, is held and delivers."""
    world = World()
    world.put(pod("x", "a", ips=(ip_address("10.0.1.11"),)), held_route())
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    return world


def test_edit_under_hold_leaves_what_is_delivered_as_it_is() -> None:
    """An address of a family that the held Pod lacks is not claimed; the other is not even asked for anew."""
    world = of_one_family()
    before = world.attachment()
    world.put(held_route("203.0.113.9", "2001:db8::9"))
    world.settle()
    assert (world.attachment().spec, world.attachment().nodes) == (before.spec, before.nodes)
    assert world.condition("DPV2Ready") == ("False", "AwaitingPodIP")
    assert world.message("DPV2Ready").partition("; before: ")[0] == (
        "Pod x on Node a, kept by annotation persistip.dev/hold, has no IPv6 address for 2001:db8::9; give it an IPv6 "
        "address, or let the route list IPv4 addresses only; or take the annotation away, and another Pod may hold them"
    )
    world.put(pod("x", "a"))
    world.settle()
    assert [str(prefix) for prefix in world.attachment().spec.held_prefixes] == ["203.0.113.9/32", "2001:db8::9/128"]
    assert world.condition("Ready") == ("True", "Ready")


def test_edit_under_hold_to_another_family_keeps_the_pod_for_it() -> None:
    """What is dropped is released, and the choice stays frozen though its Pod can hold nothing yet."""
    world = of_one_family()
    world.put(held_route("2001:db8::9"), pod("yy", "b", age=1))
    world.settle()
    spec = world.attachment().spec
    assert (spec.addresses, spec.releasing, spec.holder and spec.holder.pod_name) == ((), (), "x")
    assert world.condition("DPV2Ready") == ("False", "AwaitingPodIP")


def test_family_that_is_refused_for_now_is_not_asked_of_a_held_pod() -> None:
    """Of a route with a live fault the Pod needs an IP for what is held, and that is Programmed."""
    world = of_one_family()
    world.put(
        Service(
            meta=ObjectMeta(name="s", namespace="tenant", uid="s", created_at=1.0), ips=(ip_address("2001:db8::9"),)
        )
    )
    world.put(held_route("203.0.113.9", "2001:db8::9"))
    world.settle()
    assert world.condition("Accepted") == ("False", "AddressConflict")
    assert world.condition("DPV2Ready") == ("True", "Programmed")


def test_own_former_attachment_is_waited_for_by_the_names_of_its_nodes() -> None:
    """A route made again waits for the nodes of its predecessor, and then for the object."""
    world = held()
    leaving = attrs.evolve(
        world.attachment(),
        meta=attrs.evolve(world.attachment().meta, deleted_at=world.now),
        spec=attrs.evolve(world.attachment().spec, addresses=(), holder=None, releasing=(release("b"), release("a"))),
        nodes=(),
    )
    assert datapath(attrs.evolve(world.view(), attachment=leaving)) == (
        "False",
        "AwaitingRelease",
        f"waiting for Node a, b to release the addresses{OFF}",
    )
    done = attrs.evolve(leaving, spec=attrs.evolve(leaving.spec, releasing=()))
    assert datapath(attrs.evolve(world.view(), attachment=done))[2] == (
        "waiting for the former attachment to release the addresses"
    )


def test_other_routes_are_waited_for_by_the_names_of_their_nodes() -> None:
    """Each node that still has the address is named; a claim that no node has yet names none."""
    world = World()
    world.put(pod("x", "a"), route())
    holder = Holder(pod_name="z", pod_uid="pod-z", pod_ips=(), node_name="c", node_uid="node-c")
    two = other("two", "203.0.113.9/32", release("b"), holder=holder)
    assert datapath(attrs.evolve(world.view(), overlapping=(two,)))[2] == (
        f"waiting for GKEIPRoute tenant/two to release 203.0.113.9 on Node b, c{OFF}"
    )
    assert datapath(attrs.evolve(world.view(), overlapping=(other("two", "203.0.113.9/32"),)))[2] == (
        "waiting for GKEIPRoute tenant/two to release 203.0.113.9"
    )


def test_other_route_with_what_is_held_already_is_not_waited_for() -> None:
    """The one that has what is lacking is found behind one that has only what this route holds."""
    world = held()
    world.put(route("web", "203.0.113.9", "203.0.113.10"))
    others = (other("one", "203.0.113.9/32"), other("two", "203.0.113.10/32"))
    assert datapath(attrs.evolve(world.view(), overlapping=others))[2] == (
        "waiting for GKEIPRoute tenant/two to release 203.0.113.10"
    )


def test_pod_that_is_kept_by_annotation_on_a_node_that_is_gone_is_told() -> None:
    """The choice is frozen no longer than the machine is there."""
    world = held()
    kept = attrs.evolve(world.route().meta, annotations={"persistip.dev/hold": "true"})
    world.put(attrs.evolve(world.route(), meta=kept))
    world.drop(node("a"))
    said = "Pod x was kept by annotation persistip.dev/hold, and its Node a is gone: the addresses are withdrawn"
    assert datapath(world.view()) == ("False", "Programming", said)


def test_failure_of_a_node_whose_agent_is_not_ready_is_believed() -> None:
    """What it has said of this epoch is no guess."""
    world = with_report(held(), state=NodeStateName.FAILED, message="a foreign route is in the way")
    silent = attrs.evolve(world.view(), silent_agents=frozenset({"a"}))
    assert datapath(silent) == ("False", "ProgrammingFailed", "Pod x on Node a: a foreign route is in the way")


def test_link_that_changed_is_told_as_a_link_not_found() -> None:
    """How an agent calls it is its own; the route has the reason that is documented."""
    world = with_report(held(), state=NodeStateName.FAILED, reason=POD_LINK_CHANGED, message="veth-z answers")
    assert datapath(world.view()) == ("False", "PodLinkNotFound", "Pod x on Node a: veth-z answers")


@pytest.mark.parametrize(("message", "told"), [("", "Pod x on Node a"), ("asks", "Pod x on Node a: asks")])
def test_node_that_is_at_work_is_told_with_what_it_says(message: str, told: str) -> None:
    """Programming with or without a word on it."""
    world = with_report(held(), state=NodeStateName.PROGRAMMING, message=message)
    assert datapath(world.view()) == ("False", "Programming", told)
