"""Why does a Pod lose the addresses? One case for each answer."""

from collections.abc import Callable

import attrs
import pytest
from world import T0, World, furniture, node, pod, route

from persistip.decide.cause import MEANINGS, Cause, Departure, find_departure
from persistip.model.attachment import Holder
from persistip.model.views import RouteView

OLD = pod("old", "a")


def view_with(*changed: object, gone: tuple[object, ...] = ()) -> RouteView:
    """Return the view of a route held by the Pod "old" on Node a, after *changed* and *gone*."""
    world = World(*furniture(), route(), OLD)
    world.settle()
    world.put(*changed)  # type: ignore[arg-type]
    world.drop(*gone)  # type: ignore[arg-type]
    return world.view()


def meta(**changes: object) -> object:
    """Return the Pod with other metadata."""
    return attrs.evolve(OLD, meta=attrs.evolve(OLD.meta, **changes))


HOLDER = Holder(pod_name="old", pod_uid="pod-old", pod_ips=OLD.ips, node_name="a", node_uid="node-a")
CASES: dict[str, tuple[Callable[[], RouteView], Departure]] = {
    "not ready": (
        lambda: view_with(attrs.evolve(OLD, ready=False, ready_at=T0 - 7)),
        Departure(Cause.NOT_READY, T0 - 7),
    ),
    "gone": (lambda: view_with(gone=(OLD,)), Departure(Cause.DELETED)),
    "terminating": (lambda: view_with(meta(deleted_at=T0)), Departure(Cause.DELETED)),
    "finished": (lambda: view_with(attrs.evolve(OLD, phase="Failed")), Departure(Cause.FINISHED)),
    "other label": (lambda: view_with(meta(labels={"app": "other"})), Departure(Cause.DESELECTED)),
    "route gone": (lambda: attrs.evolve(view_with(), facts=None), Departure(Cause.DESELECTED)),
    "node gone": (lambda: view_with(gone=(node("a"),)), Departure(Cause.NODE_LOST)),
    "node made again": (lambda: view_with(node("a", uid="another")), Departure(Cause.NODE_LOST)),
    "node off": (lambda: view_with(attrs.evolve(node("a"), out_of_service=True)), Departure(Cause.NODE_LOST)),
    "suspect": (lambda: attrs.evolve(view_with(), suspects=frozenset({"a"})), Departure(Cause.NODE_LOST)),
    "no IP": (lambda: view_with(attrs.evolve(OLD, ips=())), Departure(Cause.REFUSED)),
    "as able as before": (view_with, Departure(Cause.PREFERRED)),
}


@pytest.mark.parametrize("case", CASES)
def test_departure_has_its_cause(case: str) -> None:
    """What happened to the holder is told by one word, with the API's own instant where it keeps one."""
    make, expected = CASES[case]
    assert find_departure(make(), HOLDER) == expected


def test_every_cause_has_a_meaning() -> None:
    """Whoever reads a cause finds what it means."""
    assert MEANINGS.keys() == set(Cause)
