"""A status that we wrote is part of the next view, before the watch has delivered it."""

import attrs
from world import World, pod, route

from persistip.decide.plan_route import plan_route
from persistip.model.actions import ReportRoute
from persistip.strategies import Batch


def test_own_status_is_not_written_twice_before_the_watch_delivers_it() -> None:
    """The object that a status write returned replaces the older one, and a late delivery does not turn it back."""
    world = World()
    world.put(pod("x", "a", ready=False), route())
    view = world.view()
    plan = plan_route(view)
    report = next(action for action in plan.actions if isinstance(action, ReportRoute))
    assert view.facts is not None
    older = view.facts.route
    newer = attrs.evolve(
        older, status=report.status, meta=attrs.evolve(older.meta, resource_version=str(world.revision + 1))
    )
    world.catalog.absorb(newer)
    assert plan_route(world.view()).actions == ()
    world.catalog.update(Batch(objects={older.key: older}))
    assert plan_route(world.view()).actions == ()
