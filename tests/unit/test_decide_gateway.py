"""Gateways, listeners and classes: what goldens cannot say of limits, kinds and finalizers."""

import attrs
import pytest
from world import T0, World, gateway, pod, route

from persistip.decide.plan_gateway import plan_gateway
from persistip.model.address import AddressSpec
from persistip.model.conditions import Condition, find_condition
from persistip.model.gateway import From, Gateway, Listener, RouteKind
from persistip.model.route import ParentRef
from persistip.model.views import GatewayView

OURS = RouteKind("networking.gke.io", "GKEIPRoute")


def settled_gateway(world: World, name: str = "pool") -> Gateway:
    """The Gateway once all has settled."""
    world.settle_all()
    found = world.catalog.objects[gateway(name).key]
    assert isinstance(found, Gateway)
    return found


def condition(found: Gateway, type_: str, listener: str = "") -> Condition:
    """A condition of the Gateway, or of one of its listeners."""
    of = next((each for each in found.status.listeners if each.name == listener), None)
    shown = find_condition(of.conditions if of is not None else found.status.conditions, type_)
    assert shown is not None
    return shown


@pytest.mark.parametrize(("count", "is_fine"), [(16, True), (17, False)])
def test_gateway_uses_sixteen_addresses(count: int, is_fine: bool) -> None:
    """The first sixteen go on working; the status says that the others are not used, once."""
    world = World()
    world.put(gateway("pool", *(AddressSpec("IPAddress", f"203.0.113.{last}") for last in range(count))))
    found = settled_gateway(world)
    assert len(found.status.addresses) == 16
    assert (condition(found, "Programmed").reason == "Programmed") is is_fine
    assert condition(found, "Programmed").message.count("only the first 16 are used") == (not is_fine)


@pytest.mark.parametrize(("count", "is_fine"), [(64, True), (65, False)])
def test_gateway_uses_sixty_four_listeners(count: int, is_fine: bool) -> None:
    """The status of a Gateway has no room for more, so the rest is said of the Gateway itself."""
    world = World()
    listeners = tuple(Listener(name=f"l{number}", namespaces_from=From.ALL) for number in range(count))
    last = ParentRef(name="pool", namespace="infra", section_name=f"l{count - 1}")
    world.put(gateway(listeners=listeners), route(parent_refs=(last,)))
    found = settled_gateway(world)
    assert len(found.status.listeners) == 64
    assert world.condition("Accepted") == (("True", "Accepted") if is_fine else ("False", "NotAllowedByListeners"))
    assert ("only the first 64 listeners" in condition(found, "Accepted").message) is not is_fine


def test_listener_that_is_at_fault_counts_the_routes_that_it_selects() -> None:
    """Gateway API counts accepted routes whatever the state of the listener."""
    world = World()
    fine = Listener(name="fine", namespaces_from=From.ALL)
    broken = Listener(name="broken", protocol="SCTP", namespaces_from=From.ALL)
    foreign = Listener(name="foreign", namespaces_from=From.ALL, kinds=(RouteKind("", "Service"),))
    world.put(gateway(listeners=(fine, broken, foreign)), route())
    found = settled_gateway(world)
    assert {each.name: each.attached_routes for each in found.status.listeners} == {
        "fine": 1,
        "broken": 1,
        "foreign": 0,
    }
    assert "core/Service" in condition(found, "ResolvedRefs", "foreign").message


def test_listener_of_a_kind_beside_ours_works_and_says_so() -> None:
    """Gateway API: the valid kinds are served, and the condition names the others."""
    world = World()
    both = Listener(name="both", namespaces_from=From.ALL, kinds=(OURS, RouteKind("example.com", "Other")))
    world.put(gateway(listeners=(both,)), route())
    found = settled_gateway(world)
    assert condition(found, "ResolvedRefs", "both").reason == "InvalidRouteKinds"
    assert condition(found, "Programmed", "both").status == "True"
    assert found.status.listeners[0].supported_kinds == (OURS,)
    assert world.condition("Accepted") == ("True", "Accepted")


def shared(*names: str, world: World, **changes: object) -> None:
    """Gateways of the same address, each younger than the one before."""
    for number, name in enumerate(names):
        meta = attrs.evolve(gateway(name).meta, created_at=T0 - 50 + number)
        everyone = (Listener(name="l", namespaces_from=From.ALL),)
        fields: dict[str, object] = {"meta": meta, "listeners": everyone}
        world.put(gateway(name, AddressSpec("IPAddress", "203.0.113.9"), **fields | changes))


def parent(name: str) -> tuple[ParentRef, ...]:
    """The one parent of that name."""
    return (ParentRef(name=name, namespace="infra"),)


def bare_world() -> World:
    """A world without the Gateway that every other has."""
    world = World()
    world.drop(gateway())
    return world


def test_address_stays_with_the_gateway_through_which_it_is_attached() -> None:
    """An older Gateway that lists it too takes nothing, until the attachment goes."""
    world = bare_world()
    shared("two", world=world)
    world.put(pod("x", "a"), route(parent_refs=parent("two")))
    world.settle_all()
    shared("one", world=world)
    assert condition(settled_gateway(world, "one"), "Programmed").reason == "AddressNotUsable"
    assert "is attached through Gateway infra/two" in condition(settled_gateway(world, "one"), "Accepted").message
    assert condition(settled_gateway(world, "two"), "Programmed").reason == "Programmed"
    assert world.condition("Ready") == ("True", "Ready")
    world.drop(route())
    world.settle_all()
    assert condition(settled_gateway(world, "one"), "Programmed").reason == "Programmed"
    assert "belongs to Gateway infra/one" in condition(settled_gateway(world, "two"), "Programmed").message


def test_equal_ages_of_gateways_go_by_name() -> None:
    """Every replica gives the address to the same one."""
    world = bare_world()
    shared("b", world=world)
    shared("a", world=world)
    assert condition(settled_gateway(world, "a"), "Programmed").reason == "Programmed"
    assert condition(settled_gateway(world, "b"), "Accepted").reason == "UnsupportedAddress"


def test_gateway_that_may_not_use_an_address_takes_it_from_nobody() -> None:
    """One that is not accepted, or whose class does not allow the address, is no rival."""
    world = bare_world()
    shared("old", world=world, listeners=())
    shared("new", world=world)
    world.put(route(parent_refs=parent("new")))
    assert condition(settled_gateway(world, "new"), "Programmed").reason == "Programmed"
    assert world.condition("Accepted") == ("True", "Accepted")


def test_older_gateway_of_a_whole_range_leaves_what_is_attached_through_the_younger() -> None:
    """Attached parts stay with their Gateway, on both sides; the rest is the older one's."""
    world = bare_world()
    wide = (AddressSpec("gke.networking.io/cidr", "203.0.113.8/29"),)
    shared("new", world=world, addresses=wide)
    world.put(pod("x", "a"), route("web", "203.0.113.9", parent_refs=parent("new")))
    world.settle_all()
    shared("old", world=world, addresses=wide, meta=attrs.evolve(gateway("old").meta, created_at=T0 - 500))
    found = settled_gateway(world, "new")
    assert [each.value for each in found.status.addresses] == ["203.0.113.8/29"], "something is left of it"
    assert condition(found, "Programmed").message == "203.0.113.8/29 belongs to Gateway infra/old, which lists it too"
    assert "203.0.113.9 is attached through" in condition(settled_gateway(world, "old"), "Programmed").message
    world.put(route("more", "203.0.113.10", parent_refs=parent("new")))
    world.settle_all()
    assert world.condition("Accepted") == ("True", "Accepted")
    assert world.condition("Accepted", "more") == ("False", "AddressNotInPool")
    assert "claim it through that one" in world.message("Accepted", "more")
    world.drop(route(), route("more"))
    assert settled_gateway(world, "new").status.addresses == ()


def test_many_losses_are_counted_and_not_all_shown() -> None:
    """A message stays readable when a younger Gateway has attached much of a wide range."""
    world = bare_world()
    wide = (AddressSpec("gke.networking.io/cidr", "203.0.113.0/28"),)
    shared("new", world=world, addresses=wide)
    claimed = tuple(f"203.0.113.{last}" for last in range(1, 8))
    world.put(pod("x", "a"), route("web", *claimed, parent_refs=parent("new")))
    world.settle_all()
    shared("old", world=world, addresses=wide, meta=attrs.evolve(gateway("old").meta, created_at=T0 - 500))
    assert " and 2 more is attached through" in condition(settled_gateway(world, "old"), "Programmed").message


def test_refused_gateway_lists_no_address() -> None:
    """What no route may claim is not usable now."""
    world = World()
    world.put(gateway(listeners=()))
    assert settled_gateway(world).status.addresses == ()
    view = world.catalog.view(gateway().key, world.now)
    assert isinstance(view, GatewayView)
    assert plan_gateway(view).pool.usable, "though its entries as such are fine"
