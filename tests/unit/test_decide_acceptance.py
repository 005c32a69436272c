"""Acceptance and claims: what goldens cannot say of parents, limits, permissions and who owns a prefix."""

from ipaddress import ip_address, ip_network

import attrs
import pytest
from world import CLASS, World, gateway, node, pod, route

from persistip.decide.plan_route import plan_route
from persistip.model.address import AddressSpec
from persistip.model.gateway import ConfigMap, From, GatewayClass, Listener, ParametersRef, RouteKind
from persistip.model.keys import ObjectMeta
from persistip.model.node import Namespace
from persistip.model.pod import Pod
from persistip.model.route import ParentRef
from persistip.model.selector import LabelSelector, Requirement
from persistip.model.views import GatewayView, Policy
from persistip.strategies import Batch, ClusterObject

INTERNAL = "gke-persistent-regional-internal-managed"
OURS = "persistip.dev/controller"
ELSEWHERE = AddressSpec("IPAddress", "203.0.113.99")


def faults(world: World, name: str = "web") -> list[tuple[str, str]]:
    """Reason and path of each fault of a route, in order."""
    return [(fault.reason, fault.path) for fault in plan_route(world.view(name)).verdict.faults]


def internal_class() -> GatewayClass:
    """The class of internal addresses, with the parameters of the other."""
    ref = ParametersRef("", "ConfigMap", "allowed", "persistip-system")
    return GatewayClass(meta=ObjectMeta(name=INTERNAL, uid="internal"), controller_name=OURS, parameters_ref=ref)


@pytest.mark.parametrize(("count", "is_fine"), [(16, True), (17, False)])
def test_sixteen_addresses_are_allowed(count: int, is_fine: bool) -> None:
    """The limit is a fault of the spec, and the last that fits is fine."""
    world = World()
    world.put(gateway("pool", AddressSpec("networking.gke.io/cidr", "203.0.113.0/27")))
    world.put(route("web", *(f"203.0.113.{last}" for last in range(count))))
    assert faults(world) == ([] if is_fine else [("UnsupportedValue", "spec.addresses")])


@pytest.mark.parametrize(("count", "is_fine"), [(32, True), (33, False)])
def test_thirty_two_parents_are_allowed(count: int, is_fine: bool) -> None:
    """The limit of parents counts all of them, whether or not they are there."""
    world = World()
    world.put(route(parent_refs=(ParentRef(name="pool", namespace="infra"),) * count))
    assert faults(world) == ([] if is_fine else [("UnsupportedValue", "spec.parentRefs")])


def test_route_without_addresses_is_refused() -> None:
    """A route that claims nothing says what to do."""
    world = World()
    world.put(route(addresses=()))
    assert faults(world) == [("UnsupportedValue", "spec.addresses")]


def test_parents_of_two_classes_are_refused() -> None:
    """The remaining parents must be of one class."""
    world = World()
    world.put(internal_class(), gateway("inner", ELSEWHERE, class_name=INTERNAL))
    both = tuple(ParentRef(name=name, namespace="infra") for name in ("pool", "inner"))
    world.put(route(parent_refs=both))
    assert faults(world) == [("UnsupportedValue", "spec.parentRefs")]
    world.put(
        gateway("inner", ELSEWHERE, class_name=INTERNAL, listeners=()),
        route(parent_refs=both, allow_global_access=False),
    )
    assert faults(world) == [], "a parent that fails does not count"


@pytest.mark.parametrize(("parent", "is_fine"), [("pool", False), ("inner", True)])
def test_global_access_is_for_internal_addresses(parent: str, is_fine: bool) -> None:
    """External addresses are global as they are."""
    world = World()
    world.put(internal_class(), gateway("inner", ELSEWHERE, class_name=INTERNAL))
    value = "203.0.113.9" if parent == "pool" else ELSEWHERE.value
    world.put(route("web", value, parent_refs=(ParentRef(name=parent, namespace="infra"),), allow_global_access=True))
    assert faults(world) == ([] if is_fine else [("UnsupportedValue", "spec.allowGlobalAccess")])


def test_each_address_may_come_from_another_parent() -> None:
    """Every address must be in the pool of at least one of the parents, and the attachment says of which."""
    world = World()
    world.put(
        gateway("other", AddressSpec("IPAddress", "203.0.113.99")),
        pod("x", "a"),
        route(
            "web",
            "203.0.113.9",
            "203.0.113.99",
            parent_refs=tuple(ParentRef(name=name, namespace="infra") for name in ("pool", "other")),
        ),
    )
    world.settle()
    granted = {str(each.prefix): each.gateway.name for each in world.attachment().spec.addresses}
    assert granted == {"203.0.113.9/32": "pool", "203.0.113.99/32": "other"}


def test_gateway_of_another_group_is_no_parent() -> None:
    """A kind of the same name in another API group is another thing."""
    world = World()
    world.put(route(parent_refs=(ParentRef(name="pool", namespace="infra", group="example.com"),)))
    assert faults(world) == [("NoMatchingParent", "spec.parentRefs[0]")]


def test_gateway_without_listeners_is_not_accepted() -> None:
    """A route that narrows nothing misses no listener: the Gateway is at fault."""
    world = World()
    world.put(gateway(listeners=()), route())
    assert faults(world) == [("ParentNotAccepted", "spec.parentRefs[0]")]


def test_section_and_port_narrow_the_permission() -> None:
    """A listener admits only who names it, where the route names one."""
    world = World()
    world.put(
        gateway(
            listeners=(
                Listener(name="open", port=1, namespaces_from=From.ALL),
                Listener(name="closed", port=2, namespaces_from=From.SAME),
            )
        )
    )

    def verdict(**narrowed: object) -> list[tuple[str, str]]:
        world.put(route(parent_refs=(ParentRef(name="pool", namespace="infra", **narrowed),)))
        return faults(world)

    assert verdict() == verdict(section_name="open") == verdict(port=1) == verdict(section_name="open", port=1) == []
    assert verdict(section_name="closed") == verdict(port=2) == [("NotAllowedByListeners", "spec.parentRefs[0]")]
    assert verdict(section_name="open", port=2) == [("NoMatchingParent", "spec.parentRefs[0]")]


def test_same_admits_the_gateways_own_namespace() -> None:
    """The default of Gateway API, in both directions."""
    world = World()
    own = gateway(listeners=(Listener(name="own"),))
    world.drop(own)
    world.put(attrs.evolve(own, meta=attrs.evolve(own.meta, namespace="tenant")))
    world.put(route(parent_refs=(ParentRef(name="pool"),)))
    assert faults(world) == []


def test_namespace_that_is_unknown_is_not_admitted_by_labels() -> None:
    """Labels that nobody has seen admit nobody."""
    world = World()
    world.put(route())
    assert faults(world) == []
    world.drop(Namespace(ObjectMeta(name="tenant")))
    assert faults(world) == [("NotAllowedByListeners", "spec.parentRefs[0]")]


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (Listener(name="l", namespaces_from="Some"), "use Same, All or Selector"),
        (
            Listener(
                name="l",
                namespaces_from=From.SELECTOR,
                namespace_selector=LabelSelector((), (Requirement("a", "In"),)),
            ),
            "needs values",
        ),
        (Listener(name="l", protocol="tcp", namespaces_from=From.ALL), "protocol 'tcp' is unknown"),
        (Listener(name="l", kinds=(RouteKind("gateway.networking.k8s.io", "GKEIPRoute"),)), "supported is"),
    ],
)
def test_listener_that_is_not_valid_admits_nobody(listener: Listener, words: str) -> None:
    """A slip in a permission never widens it."""
    world = World()
    world.put(gateway(listeners=(listener,)), route())
    assert faults(world) == [("ParentNotAccepted", "spec.parentRefs[0]")]
    assert words in plan_route(world.view()).verdict.message


@pytest.mark.parametrize("kinds", [(), (RouteKind("networking.gke.io", "GKEIPRoute"), RouteKind("x", "y"))])
@pytest.mark.parametrize("protocol", ["none", "TCP", "UDP", "example.com/any"])
def test_listener_of_any_known_protocol_and_kind_admits(kinds: tuple[RouteKind, ...], protocol: str) -> None:
    """Port and protocol mean nothing to traffic, and a list of kinds that names ours admits ours."""
    world = World()
    world.put(gateway(listeners=(Listener(name="l", protocol=protocol, namespaces_from=From.ALL, kinds=kinds),)))
    world.put(route())
    assert faults(world) == []


def test_listener_names_used_twice_are_all_invalid() -> None:
    """Nobody can tell two listeners of one name apart; where no other is left the Gateway is not accepted."""
    world = World()
    twice = (Listener(name="l", namespaces_from=From.ALL),) * 2
    world.put(gateway(listeners=twice), route())
    assert faults(world) == [("ParentNotAccepted", "spec.parentRefs[0]")]
    world.put(gateway(listeners=(*twice, Listener(name="m", namespaces_from=From.ALL))))
    assert faults(world) == []
    view = world.catalog.view(gateway().key, world.now)
    assert isinstance(view, GatewayView)


def test_foreign_parent_makes_a_route_not_ours() -> None:
    """A route is touched only if every parent that exists is of our class, or while it has our attachment."""
    world = World()
    world.put(
        GatewayClass(meta=ObjectMeta(name="else", uid="else"), controller_name="example.com/other"),
        gateway("theirs", class_name="else"),
        pod("x", "a"),
        route(),
    )
    world.settle()
    both = tuple(ParentRef(name=name, namespace="infra") for name in ("pool", "theirs"))
    world.put(route(parent_refs=both))
    assert plan_route(world.view()).verdict.is_ours, "our attachment stands"
    world.put(route(parent_refs=(ParentRef(name="theirs", namespace="infra"),)))
    world.settle()
    assert world.view().attachment is None
    assert not plan_route(world.view()).verdict.is_ours


@pytest.mark.parametrize("sole", [True, False])
def test_missing_parent_is_reported_by_a_sole_controller_only(sole: bool) -> None:
    """Beside another controller, nobody knows whose the missing Gateway is."""
    world = World(policy=Policy(sole_controller=sole))
    world.put(route(parent_refs=(ParentRef(name="nowhere"),)))
    assert bool(world.plan(route().key)) is sole


def test_class_parameters_of_another_kind_are_refused() -> None:
    """Only ConfigMaps of the core group are understood, and a missing one allows nothing."""
    world = World()
    world.put(route())
    ours = {"meta": ObjectMeta(name=CLASS, uid="class"), "controller_name": OURS}
    for ref, words in [
        (ParametersRef("example.com", "ConfigMap", "allowed", "persistip-system"), "name a ConfigMap"),
        (ParametersRef("", "Secret", "allowed", "persistip-system"), "name a ConfigMap"),
        (ParametersRef("", "ConfigMap", "missing", "persistip-system"), "does not exist"),
    ]:
        world.put(GatewayClass(**ours, parameters_ref=ref))
        assert words in plan_route(world.view()).verdict.message
    world.put(GatewayClass(**ours, parameters_ref=ParametersRef("core", "ConfigMap", "allowed", "persistip-system")))
    assert faults(world) == []


def test_cloud_that_knows_owners_needs_no_list() -> None:
    """Where somebody says who owns what, class parameters need not."""
    world = World(policy=Policy(knows_owners=True))
    world.put(GatewayClass(meta=ObjectMeta(name=CLASS, uid="class"), controller_name=OURS), route())
    assert faults(world) == []


def test_allowed_namespaces_admit_gateways_of_those() -> None:
    """A Gateway outside them is not accepted; one inside is."""
    world = World()
    refused = ["ParentNotAccepted"]
    for namespaces, expected in [("elsewhere", refused), ("elsewhere, infra", []), ("", refused)]:
        data = (("allowedAddresses", "203.0.113.0/24\n2001:db8::/64"), ("allowedNamespaces", namespaces))
        world.put(ConfigMap(ObjectMeta(name="allowed", namespace="persistip-system", uid="cm"), data), route())
        assert [reason for reason, _ in faults(world)] == expected


def test_node_that_takes_an_address_of_the_pool_takes_it_from_its_routes() -> None:
    """A pool entry that holds a node's own IP is unusable, for each route in it, at once."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    newcomer = attrs.evolve(node("d"), ips=(ip_address("203.0.113.4"),))
    assert route().key in world.catalog.update(Batch(objects={newcomer.key: newcomer}))
    assert faults(world) != []


# ---------------------------------------------------------------- who owns a prefix
def settle(world: World, *objects: ClusterObject) -> dict[str, str]:
    """Reason of each route's Accepted condition once all has settled."""
    world.put(*objects)
    world.settle_all()
    return {
        each.meta.name: world.condition("Accepted", each.meta.name)[1] for each in objects if not isinstance(each, Pod)
    }


def test_equal_ages_go_to_the_smaller_name() -> None:
    """Every replica gives an idle address to the same route."""
    world = World()
    assert settle(world, route("b", age=5), route("a", age=5)) == {"a": "Accepted", "b": "AddressConflict"}
    assert "comes first by name" in world.message("Accepted", "b")


def test_winner_is_said_to_be_older() -> None:
    """The message gives the rule that decided."""
    world = World()
    settle(world, route("a", age=5), route("b", age=9))
    assert "tenant/b, which is older" in world.message("Accepted", "a")


@pytest.mark.parametrize("wide", ["older", "newer"])
def test_nested_prefixes_conflict_as_equal_ones_do(wide: str) -> None:
    """A part of a claim is the claim's."""
    values = {name: "203.0.113.8/30" if name == wide else "203.0.113.9" for name in ("older", "newer")}
    world = World()
    found = settle(world, route("older", values["older"], age=9), route("newer", values["newer"], age=5))
    assert found == {"older": "Accepted", "newer": "AddressConflict"}


def test_loser_of_one_claim_takes_nothing_from_a_third() -> None:
    """A route that lost is not taken, so its other claims stand in nobody's way."""
    world = World()
    found = settle(
        world,
        route("first", "203.0.113.8", age=9),
        route("loser", "203.0.113.8", "203.0.113.9", age=7),
        route("third", "203.0.113.9", age=5),
    )
    assert found == {"first": "Accepted", "loser": "AddressConflict", "third": "Accepted"}


def test_refused_rival_wins_nothing() -> None:
    """Only routes with no other fault contend."""
    world = World()
    found = settle(world, route("older", age=9, pod_selector=LabelSelector()), route("newer", age=5))
    assert found == {"older": "InvalidSelector", "newer": "Accepted"}


def test_incumbent_of_a_contested_address_goes_first_and_keeps_only_that() -> None:
    """Holding one address lends no rank for another that someone else holds."""
    world = World()
    settle(world, pod("x", "a"), route("one", "203.0.113.8", age=9), route("two", "203.0.113.9", age=5))
    found = settle(world, route("one", "203.0.113.8", "203.0.113.9", age=9))
    assert found == {"one": "AddressConflict"}
    assert world.condition("Accepted", "two") == ("True", "Accepted")
    assert world.attachment("one").spec.held_prefixes == (ip_network("203.0.113.8/32"),)
    assert world.condition("DPV2Ready", "one") == ("True", "Programmed"), "what is attached stays"
    assert world.route("one").status.pods == ("x",)


def test_live_conflict_claims_nothing_new_also_of_free_addresses() -> None:
    """A route with any conflict keeps what it holds and takes nothing, until the conflict is over."""
    world = World()
    settle(world, pod("x", "a"), route("one", "203.0.113.8", age=9))
    found = settle(world, route("two", "203.0.113.8", "203.0.113.9", age=5))
    assert found == {"two": "AddressConflict"}
    assert world.view("two").attachment is None
    world.drop(route("one"))
    world.settle_all()
    assert len(world.attachment("two").spec.held_prefixes) == 2


def test_chain_of_rivals_is_judged_as_a_whole() -> None:
    """Who loses to the first leaves room for the third, and when the first goes that is taken back."""
    world = World()
    settle(
        world,
        route("a", "203.0.113.8", age=9),
        route("b", "203.0.113.8/30", age=7),
        route("c", "203.0.113.10", age=5),
    )
    assert world.condition("Accepted", "c") == ("True", "Accepted")
    world.drop(route("a"))
    world.settle_all()
    assert world.condition("Accepted", "b") == ("True", "Accepted")
    assert world.condition("Accepted", "c") == ("False", "AddressConflict")


def test_attachment_that_holds_nothing_of_a_route_in_conflict_goes() -> None:
    """A route that may claim nothing and holds nothing needs no record."""
    world = World()
    settle(world, pod("x", "a"), route("one", "203.0.113.8", age=9), route("two", "203.0.113.9", age=5))
    settle(world, route("two", "203.0.113.8", age=5))
    assert world.view("two").attachment is None


def test_attachment_that_is_being_deleted_makes_no_incumbent() -> None:
    """What drains is no claim to stay: the older route is accepted, and waits for the release."""
    world = World()
    settle(world, pod("x", "a"), route("two", "203.0.113.9", age=5))
    attachment = world.attachment("two")
    world.put(attrs.evolve(attachment, meta=attrs.evolve(attachment.meta, deleted_at=world.now)))
    world.put(route("one", "203.0.113.9", age=9))
    assert plan_route(world.view("one")).verdict.is_accepted
    assert plan_route(world.view("two")).verdict.reason == "AddressConflict"


def test_two_that_claim_what_both_have_written_are_not_both_refused() -> None:
    """Two leaders may have written one address pending for two routes: the older keeps its claim, the other not."""
    world = World()
    settle(world, pod("x", "a"), route("one", "203.0.113.8", age=9), route("two", "203.0.113.9", age=5))
    attachment = world.attachment("two")
    claimed = attrs.evolve(attachment.spec.addresses[0], prefix=ip_network("203.0.113.8/32"), pending=True)
    spec = attrs.evolve(attachment.spec, addresses=(*attachment.spec.addresses, claimed))
    world.put(attrs.evolve(attachment, spec=spec), route("two", "203.0.113.8", "203.0.113.9", age=5))
    assert plan_route(world.view("one")).verdict.is_accepted
    assert plan_route(world.view("two")).verdict.reason == "AddressConflict"


def test_message_that_the_api_would_refuse_is_cut_and_written_once() -> None:
    """32 parents with 64 listeners each, every one with its reason, are more than a condition holds."""
    world = World()
    listeners = tuple(Listener(name=f"listener-of-a-long-name-{number:02}") for number in range(64))
    world.put(*(gateway(f"g{number}", listeners=listeners) for number in range(32)))
    world.put(route(parent_refs=tuple(ParentRef(name=f"g{number}", namespace="infra") for number in range(32))))
    world.settle()
    message = world.message("Accepted")
    assert (len(message), message[-1]) == (32_768, "…")
    assert world.message("Ready") == message


def message(world: World, name: str = "web") -> str:
    """The words of the Accepted condition that would be written."""
    return plan_route(world.view(name)).verdict.message


def test_route_of_another_controller_is_plainly_not_ours() -> None:
    """A program that uses the library may compare with False."""
    world = World()
    foreign = gateway("theirs", class_name="someone-elses")
    world.put(foreign, route(parent_refs=(ParentRef(name="theirs", namespace="infra"),)))
    assert plan_route(world.view()).verdict.is_ours is False


def test_route_whose_class_nobody_knows_is_not_said_to_be_unserved() -> None:
    """Why nothing acts on it is that it has no parent."""
    world = World()
    world.put(route(parent_refs=(ParentRef(name="missing", namespace="infra"),)))
    assert plan_route(world.view()).verdict.unserved == ""


def test_fields_are_judged_by_the_class_of_the_parent_that_remains() -> None:
    """A parent of another class that fails has no say in what the route must have."""
    world = World()
    fast = attrs.evolve(
        internal_class(), meta=ObjectMeta(name="gke-persistent-fast-regional-internal-managed", uid="fast")
    )
    elsewhere = (Listener(name="elsewhere", namespaces_from=From.SAME),)
    world.put(
        fast,
        gateway("fast", AddressSpec("IPAddress", "203.0.113.200"), class_name=fast.meta.name),
        gateway("closed", AddressSpec("IPAddress", "203.0.113.201"), listeners=elsewhere),
        route(parent_refs=tuple(ParentRef(name=name, namespace="infra") for name in ("closed", "fast"))),
    )
    assert ("spec.nodeSelector", "UnsupportedValue") in [
        (fault.path, str(fault.reason)) for fault in plan_route(world.view()).verdict.faults
    ]


def test_listeners_that_are_there_are_named_to_who_asked_for_another() -> None:
    """A typing error in a section or port is seen at once; a Gateway without listeners has none."""
    world = World()
    every = tuple(Listener(name=name, namespaces_from=From.ALL) for name in ("one", "two"))
    world.put(gateway("many", listeners=every), gateway("bare", listeners=()))
    for name, names in (("many", "'one', 'two'"), ("bare", "none")):
        world.put(route(parent_refs=(ParentRef(name=name, namespace="infra", section_name="three", port=3),)))
        said = f"Gateway infra/{name} has no listener with section 'three' and port 3; it has {names}"
        assert message(world) == f"spec.parentRefs[0]: {said}"


def test_every_listener_that_does_not_admit_is_told_with_its_reason() -> None:
    """One that admits the namespace and is of no use is not said to refuse it."""
    world = World()
    listeners = (
        Listener(name="same", namespaces_from=From.SAME),
        Listener(
            name="labelled",
            namespaces_from=From.SELECTOR,
            namespace_selector=LabelSelector((("persistent-ip", "yes"),)),
            protocol="HTTP",
        ),
        Listener(name="good", namespaces_from=From.SAME),
    )
    world.put(gateway("picky", listeners=listeners))
    world.put(route(parent_refs=(ParentRef(name="picky", namespace="infra"),)))
    assert message(world) == (
        "spec.parentRefs[0]: Gateway infra/picky does not admit the route: "
        "listener 'same' admits namespace 'infra' only (from: Same); listener 'labelled' is not valid; "
        "listener 'good' admits namespace 'infra' only (from: Same)"
    )


def test_pools_of_every_parent_are_named_once() -> None:
    """An address in none of them is told where it could have been."""
    world = World()
    world.put(gateway("more", AddressSpec("IPAddress", "203.0.113.200")))
    refs = tuple(ParentRef(name=name, namespace="infra") for name in ("pool", "more", "pool"))
    world.put(route("web", "203.0.113.100", parent_refs=refs))
    assert message(world) == (
        "spec.addresses[0].value: 203.0.113.100 is not in the pool of Gateway infra/pool, infra/more "
        "(usable: 203.0.113.0/28, 2001:db8::9, 203.0.113.200)"
    )
