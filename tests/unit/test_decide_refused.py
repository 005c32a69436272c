"""Which Events go with a Gateway, a listener and a GatewayClass that are refused; and what is told once only."""

import attrs
import pytest
from world import World, gateway

from persistip.model.address import AddressSpec
from persistip.model.gateway import Gateway, GatewayClass, Listener
from persistip.model.keys import Kind, ObjectKey
from persistip.testing.builders import config_map, gateway_class


def warned(world: World, kind: Kind, since: int = 0) -> list[tuple[str, str]]:
    """Reasons and messages of the Events about objects of that kind; all of them are warnings of a refusal."""
    events = [each for each in world.events[since:] if each.regarding.kind is kind]
    assert all(each.warning and each.action == "Refuse" and each.uid for each in events)
    return [(each.reason, each.message) for each in events]


def with_addresses(*values: str) -> Gateway:
    """A Gateway that lists these."""
    return gateway("pool", *(AddressSpec("IPAddress", value) for value in values))


def edited(world: World, **fields: object) -> None:
    """The user's edit of the Gateway, on what stands; and the controller acts on it."""
    found = world.catalog.objects[gateway("pool").key]
    assert isinstance(found, Gateway)
    meta = attrs.evolve(found.meta, generation=found.meta.generation + 1)
    world.put(attrs.evolve(found, meta=meta, **fields))
    world.settle_all()


def test_gateway_that_is_refused_is_told_once_with_field_and_fix() -> None:
    """Its two conditions and its listener say the same, and one Event does; a pass that changes nothing has none."""
    world = World()
    world.put(with_addresses("127.0.0.1"))
    world.settle_all()
    said = "spec.addresses[0]: 127.0.0.1 is loopback; write a unicast address that is routed in your network"
    assert warned(world, Kind.GATEWAY) == [("UnsupportedAddress", said)]
    edited(world)
    assert len(warned(world, Kind.GATEWAY)) == 1


def test_gateway_refused_for_another_fault_is_told_again() -> None:
    """The same reason with another message is news; so is the same message after it was mended."""
    world = World()
    world.put(with_addresses("127.0.0.1"))
    world.settle_all()
    for value, told in (("224.0.0.1", 2), ("203.0.113.9", 2), ("224.0.0.1", 3)):
        edited(world, addresses=(AddressSpec("IPAddress", value),))
        assert len(warned(world, Kind.GATEWAY)) == told


def test_address_that_cannot_be_used_is_told_though_the_gateway_is_accepted() -> None:
    """Accepted stays True, and Programmed says what is left out."""
    world = World()
    world.put(with_addresses("203.0.113.9", "127.0.0.1"))
    world.settle_all()
    ((reason, message),) = warned(world, Kind.GATEWAY)
    assert reason == "AddressNotUsable"
    assert message.startswith("spec.addresses[1]: ")


def test_listener_at_fault_is_told_beside_one_that_is_fine() -> None:
    """The Gateway is accepted through the other one; of the listener, protocol and kinds are told alike."""
    world = World()
    odd = Listener(name="odd", protocol="no such word")
    world.put(gateway("pool", listeners=(Listener(name="fine"), odd)))
    world.settle_all()
    ((reason, message),) = warned(world, Kind.GATEWAY)
    assert reason == "UnsupportedProtocol"
    assert "no such word" in message
    edited(world)
    assert len(warned(world, Kind.GATEWAY)) == 1


def test_listeners_of_a_gateway_without_a_valid_one_are_told_with_it() -> None:
    """The Gateway's message holds every listener's, so they have no Event of their own."""
    world = World()
    world.put(gateway("pool", listeners=(Listener(name="odd", protocol="no such word"),)))
    world.settle_all()
    ((reason, message),) = warned(world, Kind.GATEWAY)
    assert reason == "ListenersNotValid"
    assert "no such word" in message


@pytest.mark.parametrize("fault", ["surplus", "another: 1"])
def test_class_with_bad_parameters_is_told_and_again_when_they_change(fault: str) -> None:
    """A class has no namespace and no listener; its Event is about itself."""
    world = World()
    bad = attrs.evolve(config_map(), data=(("allowedAddresses", fault),))
    world.put(bad)
    world.settle_all()
    ((reason, message),) = warned(world, Kind.GATEWAY_CLASS)
    assert reason == "InvalidParameters"
    assert "allowedAddresses" in message
    world.put(attrs.evolve(bad, data=(("allowedAddresses", "10.0.0.0/8 yet another"),)))
    world.settle_all()
    assert len(warned(world, Kind.GATEWAY_CLASS)) == 2


def test_class_and_gateway_that_are_accepted_have_no_event() -> None:
    """A change of what is well is in the conditions alone."""
    world = World()
    world.settle_all()
    found = world.catalog.objects[ObjectKey(Kind.GATEWAY_CLASS, "", gateway_class().meta.name)]
    assert isinstance(found, GatewayClass)
    assert found.conditions
    assert warned(world, Kind.GATEWAY_CLASS) == warned(world, Kind.GATEWAY) == []
