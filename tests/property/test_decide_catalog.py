"""The catalog: order-free, restart-free, and its touched keys suffice."""

import random
from collections.abc import Iterable

import attrs
from cluster_strategies import clusters, objects
from hypothesis import given
from hypothesis import strategies as st
from world import T0

from persistip.decide.catalog import Catalog
from persistip.decide.modes import BUILT_IN
from persistip.decide.multimap import Multimap
from persistip.decide.plan_gateway import plan_class, plan_gateway
from persistip.decide.plan_route import plan_route
from persistip.decide.prefixes import PrefixIndex
from persistip.model.attachment import AddressAttachment
from persistip.model.keys import ObjectKey
from persistip.model.views import ClassView, GatewayView, Policy, RouteView
from persistip.strategies import Batch, ClusterObject

POLICY = Policy(node_cap=1)  # so that two selected nodes are too many
Cluster = dict[ObjectKey, ClusterObject]


def versioned(found: ClusterObject, version: int) -> ClusterObject:
    """The object as the API server's version *version* of it."""
    return attrs.evolve(found, meta=attrs.evolve(found.meta, resource_version=str(version)))


def fed(found: Iterable[ClusterObject]) -> Catalog:
    """A catalog that was given the objects one by one."""
    catalog = Catalog(POLICY, BUILT_IN)
    for each in found:
        catalog.update(Batch(objects={each.key: each}))
    return catalog


def knowing_as_much(one: Catalog, other: Catalog) -> Catalog:
    """The *other*, with the Nodes that *one* saw leave: it would ask for each, and a live read would say so."""
    other._departed = one._departed
    return other


def plans(catalog: Catalog, now: float = T0) -> dict[ObjectKey, object]:
    """The plan of every key; a key that has none left plans nothing."""
    made: dict[ObjectKey, object] = {}
    for key in sorted(catalog.keys()):
        match catalog.view(key, now):
            case RouteView() as view:
                made[key] = plan_route(view)
            case GatewayView() as view:
                made[key] = plan_gateway(view)
            case ClassView() as view:
                made[key] = plan_class(view)
    return made


@given(clusters(), st.lists(objects(), max_size=6), st.randoms(use_true_random=False))
def test_any_order_of_events_gives_the_same_plans(
    cluster: Cluster, superseded: list[ClusterObject], shuffle: random.Random
) -> None:
    """Objects in random order, old versions before the last ones, duplicates: every plan is that of one feeding."""
    final = [versioned(each, 1000 + number) for number, each in enumerate(cluster.values())]
    former = [versioned(each, 1 + number) for number, each in enumerate(superseded)]
    passing = [each for each in former if each.key not in cluster]
    events = [*final, *final]
    shuffle.shuffle(former)
    shuffle.shuffle(events)
    catalog = fed([*former, *events])
    for each in passing:
        catalog.update(Batch(objects={each.key: None}))
    assert plans(catalog) == plans(knowing_as_much(catalog, fed(final)))


@given(clusters())
def test_restarted_controller_decides_the_same(cluster: Cluster) -> None:
    """A catalog filled by complete lists says what one said that has seen everything happen."""
    final = [versioned(each, 1 + number) for number, each in enumerate(cluster.values())]
    old, new = fed(final), Catalog(POLICY, BUILT_IN)
    for kind in {each.key.kind for each in final}:
        listed = {each.key: each for each in final if each.key.kind == kind}
        new.update(Batch(objects=listed, resynced=frozenset({str(kind)})))
    assert plans(old) == plans(new)


@given(clusters(), st.lists(st.tuples(st.booleans(), objects()), min_size=1, max_size=6))
def test_touched_keys_are_all_whose_plans_differ(cluster: Cluster, changes: list[tuple[bool, ClusterObject]]) -> None:
    """Whatever changes: each plan is that of a new catalog, and one that is another than before has its key named."""
    catalog = fed(versioned(each, 1 + number) for number, each in enumerate(cluster.values()))
    before = plans(catalog)
    for number, (is_present, each) in enumerate(changes):
        if is_present and catalog.objects.get(each.key) == each:
            continue  # a version that differs in nothing else; plans would differ in their precondition alone
        found = versioned(each, 1000 + number)
        touched = catalog.update(Batch(objects={each.key: found if is_present else None}))
        after = plans(catalog)
        differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert differing <= touched
        assert after == plans(knowing_as_much(catalog, fed(catalog.objects.values())))  # type: ignore[arg-type]
        before = after


@given(clusters(), st.lists(objects(), min_size=1, max_size=3))
def test_touched_keys_are_all_whose_plans_differ_when_sight_is_lost_and_regained(
    cluster: Cluster, broken: list[ClusterObject]
) -> None:
    """What can no longer be read, then can again, or goes, names every key whose plan that changes."""
    catalog = fed(versioned(each, 1 + number) for number, each in enumerate(cluster.values()))
    before = plans(catalog)
    for each in broken:
        touched = catalog.update(Batch(unreadable={each.key: "spec: broken"}))
        after = plans(catalog)
        assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= touched
        before = after
    for number, each in enumerate(broken):
        found = versioned(each, 1000 + number) if number % 2 else None
        touched = catalog.update(Batch(objects={each.key: found}))
        after = plans(catalog)
        assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= touched
        before = after


@given(clusters())
def test_emptied_catalog_keeps_nothing(cluster: Cluster) -> None:
    """When every object has gone no key is left, and no index remembers one."""
    catalog = fed(versioned(each, 1 + number) for number, each in enumerate(cluster.values()))
    for each in cluster:
        catalog.update(Batch(objects={each: None}))
    assert catalog.keys() == frozenset()
    assert not catalog.objects
    indexes = {**vars(catalog._reach), **vars(catalog._reach.pods), **vars(catalog._reach.accepted)}
    for name, index in {**indexes, **vars(catalog._facts)}.items():
        if isinstance(index, dict | Multimap | PrefixIndex):
            assert not index, name


@given(clusters(), st.lists(st.sampled_from(["write", "watch", "late", "gone"]), max_size=12))
def test_view_never_turns_back(cluster: Cluster, events: list[str]) -> None:
    """Own writes and the watch, in any interleaving: the version in view never falls while the object is there."""
    catalog = fed(versioned(each, 1 + number) for number, each in enumerate(cluster.values()))
    found = next((each for each in cluster.values() if isinstance(each, AddressAttachment)), None)
    if found is None:
        return
    version = watched = 100
    catalog.update(Batch(objects={found.key: versioned(found, version)}))
    pending: list[int] = []
    for event in events:
        shown = catalog.objects.get(found.key)
        before = int(shown.meta.resource_version) if isinstance(shown, AddressAttachment) else None
        if event == "write":
            version += 1
            pending.append(version)
            catalog.absorb(versioned(found, version))  # type: ignore[arg-type]
        elif event == "watch" and watched < version:
            watched += 1
            catalog.update(Batch(objects={found.key: versioned(found, watched)}))
        elif event == "late" and pending:
            catalog.absorb(versioned(found, pending[0]))  # type: ignore[arg-type]
        elif event == "gone" and watched == version:
            catalog.update(Batch(objects={found.key: None}))
            assert catalog.absorb(versioned(found, version)) == frozenset()  # type: ignore[arg-type]
            assert found.key not in catalog.objects
            return
        after = catalog.objects[found.key]
        assert before is None or int(after.meta.resource_version) >= before  # type: ignore[attr-defined]
        assert int(after.meta.resource_version) == max(version, watched)  # type: ignore[attr-defined]
