"""
Does what an embedding program writes keep its types?

Checked by `nox -s types`, never run.
"""

from typing import assert_type

from persistip import (
    Agent,
    AllocatorFeatures,
    Announcer,
    CloudAction,
    CloudScope,
    CloudState,
    Cluster,
    Controller,
    Datapath,
    NodeView,
    Outcome,
    OutcomeState,
    RoutePlan,
    RouteView,
    plan_node,
    plan_route,
    threaded,
)


class BlockingAcme:
    """A cloud's synchronous client."""

    @property
    def features(self) -> AllocatorFeatures:
        return AllocatorFeatures(name="acme", needs_provisioning=True, knows_owners=True)

    def observe(self, scope: CloudScope) -> CloudState:
        return CloudState(ready=False)

    def apply(self, action: CloudAction) -> Outcome:
        return Outcome(state=OutcomeState.UNSUPPORTED)


async def embed(cluster: Cluster, datapath: Datapath, announcer: Announcer) -> None:
    """A synchronous client is adapted, and both processes run inside another program."""
    controller = Controller(cluster, threaded(BlockingAcme()))
    agent = Agent("node-a", cluster, datapath, announcer)
    await controller.run()
    await agent.run()


def ask(route: RouteView, node: NodeView) -> None:
    """The rules are functions of values."""
    assert_type(plan_route(route), RoutePlan)
    plan_node(node)
