"""Gateways, listeners and classes: what goldens cannot say of limits, kinds and finalizers."""

import pytest
from world import World, gateway, route

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


def test_refused_gateway_lists_no_address() -> None:
    """What no route may claim is not usable now."""
    world = World()
    world.put(gateway(listeners=()))
    assert settled_gateway(world).status.addresses == ()
    view = world.catalog.view(gateway().key, world.now)
    assert isinstance(view, GatewayView)
    assert plan_gateway(view).pool.usable, "though its entries as such are fine"
