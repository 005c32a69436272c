"""What is said of a holder whose node's agent is a Pod that is not Ready?"""

import attrs
from world import World, holder, pod, route

from persistip.decide.agents import LABELS
from persistip.model.attachment import NodeStateName
from persistip.model.keys import ObjectKey
from persistip.model.pod import Pod
from persistip.strategies import Batch

ROUTE = route().key


def agent(name: str, node: str, *, ready: bool = True, namespace: str = "persistip-system") -> Pod:
    """An agent's Pod."""
    found = pod(name, node, ready=ready, host_network=True, ips=())
    return attrs.evolve(found, meta=attrs.evolve(found.meta, namespace=namespace, labels=dict(LABELS)))


def touched(world: World, found: Pod) -> frozenset[ObjectKey]:
    """The keys that a change of a Pod touches."""
    world.revision += 1
    later = attrs.evolve(found, meta=attrs.evolve(found.meta, resource_version=str(world.revision)))
    return world.catalog.update(Batch(objects={later.key: later}))


def test_agent_that_is_not_ready_leaves_holder_and_attachment_as_they_are() -> None:
    """Its word is old: the condition is Unknown, nothing moves, and when it is back all is as before."""
    world = World()
    world.put(pod("x", "a"), agent("agent-a", "a"), route())
    world.settle()
    before = world.attachment()
    assert touched(world, agent("agent-a", "a", ready=False)) == {ROUTE}
    world.settle()
    assert world.condition("DPV2Ready") == ("Unknown", "AgentNotReady")
    assert world.condition("Ready") == ("False", "AgentNotReady")
    assert (holder(world), world.route().status.pods, world.attachment()) == ("x", ("x",), before)
    assert touched(world, agent("agent-a", "a")) == {ROUTE}
    world.settle()
    assert world.condition("Ready") == ("True", "Ready")
    assert [event.reason for event in world.events if event.reason == "Moved"] == ["Moved"]


def test_agent_that_is_replaced_is_judged_by_the_one_that_is_ready() -> None:
    """While one Pod goes and the next is Ready the node can be asked; the last one gone, nothing is known of any."""
    world = World()
    world.put(pod("x", "a"), agent("old", "a", ready=False), agent("new", "a"), route())
    world.settle()
    assert world.condition("DPV2Ready") == ("True", "Programmed")
    world.drop(agent("new", "a"))
    world.settle()
    assert world.condition("DPV2Ready") == ("Unknown", "AgentNotReady")
    world.drop(agent("old", "a"))
    world.settle()
    assert world.condition("DPV2Ready") == ("True", "Programmed")


def test_agent_that_came_before_it_had_a_node_is_found_on_it() -> None:
    """Each Pod is made without a node and bound to one later; the agent's is looked for where it is now."""
    world = World()
    world.put(pod("x", "a"), attrs.evolve(agent("agent-a", "a"), node_name=""), route())
    world.settle()
    assert touched(world, agent("agent-a", "a", ready=False)) == {ROUTE}
    world.settle()
    assert world.condition("DPV2Ready") == ("Unknown", "AgentNotReady")


def test_pod_of_the_system_that_is_no_agent_says_nothing_of_its_node() -> None:
    """The controller's own Pod may be unready there, and come and go."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    controller = agent("controller", "a", ready=False)
    controller = attrs.evolve(controller, meta=attrs.evolve(controller.meta, labels={}))
    assert touched(world, controller) == frozenset()
    assert world.catalog.update(Batch(resynced=frozenset({"Pod"}))) == {ROUTE}
    assert controller.key not in world.catalog.objects


def test_agent_of_another_node_or_namespace_says_nothing() -> None:
    """Neither another node's agent nor a tenant's Pod with its labels takes anything from the holder's."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    assert touched(world, agent("agent-b", "b", ready=False)) == frozenset()
    assert touched(world, agent("agent-a", "a", ready=False, namespace="tenant")) == frozenset()
    world.settle()
    assert world.condition("DPV2Ready") == ("True", "Programmed")


def test_failure_that_the_agent_reported_outlives_it() -> None:
    """What it said of this very epoch before it became unready is more than nothing."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle()
    reports = tuple(attrs.evolve(each, state=NodeStateName.FAILED, reason="") for each in world.attachment().nodes)
    world.put(attrs.evolve(world.attachment(), nodes=reports), agent("agent-a", "a", ready=False))
    world.settle(agents=False)
    assert world.condition("DPV2Ready") == ("False", "ProgrammingFailed")
