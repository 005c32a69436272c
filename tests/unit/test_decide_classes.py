"""The six classes: what goldens cannot say of counts, caps, and a route that changes its class."""

import attrs
import pytest
from world import CLASS, World, furniture, gateway, node, pod, route

from persistip.decide.plan_route import plan_route
from persistip.model.conditions import find_condition
from persistip.model.definition import BUNDLE_VERSION, CustomResourceDefinition
from persistip.model.gateway import IN_USE_FINALIZER, GatewayClass, ParametersRef
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.route import GKEIPRoute, LoadBalancing, ParentRef
from persistip.model.selector import LabelSelector
from persistip.model.views import Policy
from persistip.strategies import Batch, ClusterObject

FAST = "gke-persistent-fast-regional-external-managed"
SELECTED = LabelSelector((("pool", "failover"),))


def faults(world: World, name: str = "web") -> list[tuple[str, str]]:
    """Reason and path of each fault of a route, in order."""
    return [(fault.reason, fault.path) for fault in plan_route(world.view(name)).verdict.faults]


def internal_class() -> GatewayClass:
    """The class of internal addresses, with the parameters of the other."""
    ref = ParametersRef("", "ConfigMap", "allowed", "persistip-system")
    meta = ObjectMeta(name="gke-persistent-regional-internal-managed", uid="internal")
    return GatewayClass(meta=meta, controller_name="persistip.dev/controller", parameters_ref=ref)


def fast_class() -> GatewayClass:
    """The fast class, with the parameters of the standard one."""
    return attrs.evolve(internal_class(), meta=ObjectMeta(name=FAST, uid="fast"))


def fast_route(**changes: object) -> GKEIPRoute:
    """A route that is fine on the fast class."""
    return route(**({"node_selector": SELECTED} | changes))


def fast_world(**settings: int) -> World:
    """A Gateway of the fast class, and node a among those selected."""
    world = World(policy=Policy(**settings))  # type: ignore[arg-type]
    selected = attrs.evolve(node("a"), meta=attrs.evolve(node("a").meta, labels={"pool": "failover"}))
    world.put(fast_class(), gateway(class_name=FAST), selected, pod("x", "a"))
    return world


def test_nodes_are_counted_as_they_are_now() -> None:
    """A node that comes or takes the label is one too many, and the route is free again when one loses it."""
    world = fast_world(node_cap=1)
    world.put(fast_route())
    assert faults(world) == []
    other = node("b")
    labelled = attrs.evolve(other, meta=attrs.evolve(other.meta, labels={"pool": "failover"}))
    world.put(labelled)
    assert faults(world) == [("TooManyNodes", "spec.nodeSelector")]
    assert not plan_route(world.view()).verdict.is_refused, "others can change it"
    assert "selects 2 nodes, at most 1" in plan_route(world.view()).verdict.message
    world.put(other)
    assert faults(world) == []
    world.put(labelled)
    world.drop(labelled)
    assert faults(world) == []
    world.put(fast_route(node_selector=LabelSelector((("pool", "none"),))))
    world.put(labelled)
    assert faults(world) == []


def test_cap_of_the_cloud_never_raises_the_limit() -> None:
    """Sixty-four nodes are the most, whatever a cloud could prepare."""
    world = fast_world(node_cap=1000)
    world.put(fast_route())
    for number in range(64):
        found = node("c", uid=f"n{number}")
        world.put(
            attrs.evolve(found, meta=ObjectMeta(name=f"n{number}", uid=f"n{number}", labels={"pool": "failover"}))
        )
    assert faults(world) == [("TooManyNodes", "spec.nodeSelector")]


def test_route_with_a_live_fault_stands_in_nobodys_way() -> None:
    """It claims nothing new, so a younger route without a fault gets the address."""
    world = fast_world(node_cap=0)
    world.put(fast_route(), fast_route(name="younger", age=1.0, node_selector=LabelSelector((("pool", "none"),))))
    assert faults(world, "younger") == []
    assert faults(world) == [("TooManyNodes", "spec.nodeSelector")]


@pytest.mark.parametrize("parents", [("pool",), ("pool", "inner")])
def test_class_is_known_from_parents_that_fail(parents: tuple[str, ...]) -> None:
    """All faults are listed at once, so a Gateway that admits nobody still says what its class asks for."""
    world = fast_world()
    world.put(internal_class(), gateway(class_name=FAST, listeners=()))
    world.put(gateway("inner", class_name="gke-persistent-regional-internal-managed", listeners=()))
    world.put(route(parent_refs=tuple(ParentRef(name=name, namespace="infra") for name in parents)))
    found = [path for _, path in faults(world)]
    assert ("spec.nodeSelector" in found) is (len(parents) == 1), "two classes ask for different things"


def test_class_that_nothing_acts_on_drains_what_was_attached() -> None:
    """A Gateway that becomes fast withdraws its standard routes, and their status says why nothing follows."""
    world = World()
    world.put(pod("x", "a"), route(), fast_class())
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    world.put(gateway(class_name=FAST), fast_route())
    plan = world.step()
    assert plan.holder is None
    assert world.condition("DPV2Ready") == ("False", "AwaitingRelease")
    world.settle()
    assert world.view().attachment is None
    assert world.condition("Accepted") == ("True", "Accepted")
    assert world.condition("Ready") == ("False", "Unsupported")
    assert "fast failover" in world.message("Ready")
    assert world.route().status.pods == ()


def test_pod_on_another_node_is_no_candidate() -> None:
    """Only nodes that are prepared can take the addresses over without the cloud."""
    world = fast_world()
    world.put(pod("newer", "b", age=-5.0), fast_route())
    choice = plan_route(world.view()).choice
    assert choice.pod is not None
    assert choice.pod.meta.name == "x"
    assert choice.refused == (("is on Node b, which spec.nodeSelector does not select", 1),)


def test_load_balancing_is_refused_on_fast_classes() -> None:
    """Each field is for its own class."""
    world = fast_world()
    world.put(fast_route(load_balancing=LoadBalancing(health_check_name="probe")))
    assert faults(world) == [("UnsupportedValue", "spec.loadBalancing")]


def standard_class() -> ClusterObject:
    """The class that every other test has."""
    return furniture()[0]


def touched_by(world: World, *found: ClusterObject) -> frozenset[ObjectKey]:
    """The keys to plan again once these are as they are here."""
    return world.catalog.update(Batch(objects={each.key: each for each in found}))


def in_use(world: World) -> dict[str, tuple[str, ...]]:
    """The finalizers of every class that has some."""
    found = (each for each in world.catalog.objects.values() if isinstance(each, GatewayClass))
    return {each.meta.name: each.meta.finalizers for each in found if each.meta.finalizers}


def test_gateway_that_comes_changes_its_class_or_goes_moves_the_finalizer() -> None:
    """Gateway API's finalizer stands on exactly those classes of ours that a Gateway is of."""
    world = World(standard_class(), fast_class())
    world.settle_all()
    assert in_use(world) == {}
    for class_name in (CLASS, FAST):
        touched = touched_by(world, gateway(class_name=class_name))
        assert ObjectKey(Kind.GATEWAY_CLASS, "", class_name) in touched
        world.settle_all()
        assert in_use(world) == {class_name: (IN_USE_FINALIZER,)}
    touched = world.catalog.update(Batch(objects={gateway().key: None}))
    assert ObjectKey(Kind.GATEWAY_CLASS, "", FAST) in touched
    world.settle_all()
    assert in_use(world) == {}


def test_class_of_another_controller_gets_no_finalizer() -> None:
    """What is not ours is not touched, whatever Gateways are of it."""
    world = World(attrs.evolve(fast_class(), controller_name="example.com/other"), gateway(class_name=FAST))
    world.settle_all()
    assert in_use(world) == {}


def test_class_being_deleted_takes_no_new_finalizer() -> None:
    """The API takes none on an object that is going: a Gateway that comes too late does not hold it back."""
    going = attrs.evolve(fast_class().meta, deleted_at=1.0, finalizers=("example.com/theirs",))
    world = World(attrs.evolve(fast_class(), meta=going), gateway(class_name=FAST))
    world.settle_all()
    assert in_use(world) == {FAST: ("example.com/theirs",)}


def test_definition_of_gateway_api_that_changes_touches_the_classes() -> None:
    """An upgrade of Gateway API's definitions is said by every class; those of others say nothing."""
    world = World(standard_class(), fast_class())
    other = CustomResourceDefinition(ObjectMeta(name="widgets.example.com"))
    assert touched_by(world, other) == frozenset()
    meta = ObjectMeta(name="gateways.gateway.networking.k8s.io", annotations={BUNDLE_VERSION: "v1.4.0-rc.1"})
    touched = touched_by(world, CustomResourceDefinition(meta))
    assert touched == {standard_class().key, fast_class().key}
    world.settle_all()
    found = world.catalog.objects[fast_class().key]
    assert isinstance(found, GatewayClass)
    said = find_condition(found.conditions, "SupportedVersion")
    assert said is not None
    assert (said.status, said.reason) == ("True", "SupportedVersion")
