"""The catalog: order-free, restart-free, and its touched keys suffice."""

import random
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import get_args

import attrs
from cluster_strategies import FURNITURE, clusters, objects
from hypothesis import given
from hypothesis import strategies as st
from single_edits import single_edits
from world import T0, World, gateway, node, pod, route

from persistip.decide.catalog import Catalog
from persistip.decide.modes import BUILT_IN
from persistip.decide.multimap import Multimap
from persistip.decide.plan_gateway import plan_class, plan_gateway
from persistip.decide.plan_route import plan_route
from persistip.decide.podindex import _Column
from persistip.decide.prefixes import ContestIndex, PrefixIndex
from persistip.model.address import AddressSpec
from persistip.model.attachment import AddressAttachment
from persistip.model.definition import CustomResourceDefinition
from persistip.model.gateway import ConfigMap, GatewayClass, ParametersRef
from persistip.model.keys import ObjectKey, ObjectMeta
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import ParentRef
from persistip.model.selector import LabelSelector, Requirement
from persistip.model.service import Service, ServiceCIDR
from persistip.model.views import ClassView, GatewayView, Policy, RouteView
from persistip.strategies import Batch, ClusterObject

POLICY = Policy(node_cap=1)  # so that two selected nodes are too many
Cluster = dict[ObjectKey, ClusterObject]
Plans = dict[ObjectKey, object]


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


def plans(catalog: Catalog, now: float = T0) -> Plans:
    """The plan of every key; a key that has none left plans nothing."""
    made: Plans = {}
    for key in sorted(catalog.keys()):
        match catalog.view(key, now):
            case RouteView() as view:
                made[key] = plan_route(view)
            case GatewayView() as view:
                plan = plan_gateway(view)
                # Who contests its addresses is there with their status, of which no rule takes notice.
                made[key] = attrs.evolve(plan, pool=attrs.evolve(plan.pool, contest=None))
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
    """A catalog filled by complete lists says what one says that was told of each object by itself."""
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
        assert differences(before, after) <= touched
        assert after == plans(knowing_as_much(catalog, fed(catalog.objects.values())))  # type: ignore[arg-type]
        before = after


@given(clusters(), st.lists(objects(), max_size=8), st.data())
def test_touched_keys_are_all_whose_plans_differ_when_one_field_is_edited(
    cluster: Cluster, donors: list[ClusterObject], data: st.DataObject
) -> None:
    """The least that can change in an object: one field; what looks alike to an index may not look alike to a plan."""
    catalog = fed(versioned(each, 1 + number) for number, each in enumerate(cluster.values()))
    key = data.draw(st.sampled_from(sorted(cluster)), label="edited")
    edited = data.draw(st.sampled_from(single_edits(cluster[key], donors)), label="to")
    assert_alike_after(catalog, edited, plans(catalog))


def assert_alike_after(catalog: Catalog, edited: ClusterObject, before: Plans) -> frozenset[ObjectKey]:
    """After *edited* each plan is that of a new catalog, and the key of each is named that is not as *before*."""
    touched = catalog.update(Batch(objects={edited.key: versioned(edited, 1_000)}))
    after, new = plans(catalog), fed(catalog.objects.values())  # type: ignore[arg-type]
    differing = differences(before, after)
    assert differing <= touched
    assert indexed(catalog) == indexed(new)
    assert after == plans(knowing_as_much(catalog, new))
    return differing


def differences(one: Plans, other: Plans) -> frozenset[ObjectKey]:
    """The keys whose plans are not the same."""
    return frozenset(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def indexed(catalog: Catalog) -> object:
    """What stands in the indexes, in no order; which of its labels a route stands under may differ."""
    reach = catalog._reach
    every = (
        vars(reach)
        | vars(reach.selections)
        | vars(reach.accepted)
        | {"_node_selectors": reach.selections._selectors}
        | vars(reach.pods)
    )
    apart = {"objects", "pods", "selections", "accepted", "_places"}
    return {name: plain(index) for name, index in every.items() if name not in apart}


def plain(index: object) -> object:
    """The index in builtin types; an empty part is none."""
    match index:
        case Multimap():
            return {key: set(index.get(key)) for key in index.keys()}  # noqa: SIM118 - an index is no mapping
        case ContestIndex():
            return plain(index._by_length), index._starts, index._overlaps
        case PrefixIndex():
            return plain(index._by_length), index._starts
        case dict():
            return {
                key: found for key, value in index.items() if (found := plain(value)) or not isinstance(value, dict)
            }
        case _Column():
            return plain(index.pods), index.users
        case _:
            return index


BLUE = {"networking.gke.io/networks": '[{"name": "blue", "cidrs": ["10.9.0.0/24"]}]'}
IN_BLUE = {"networking.gke.io/pod-ips": '[{"networkName": "blue", "ip": "10.9.0.7"}]'}
FAILOVER = LabelSelector((("pool", "failover"),))


def every_kind_in_use() -> Cluster:
    """A cluster at rest in which something hangs on nearly every field: each rule that reads others has its example."""
    fast = "gke-persistent-fast-regional-external-managed"
    pool, spare, quick = (
        gateway("pool"),
        gateway("spare", AddressSpec("gke.networking.io/cidr", "203.0.113.8/31")),
        fast,
    )
    parameters = ParametersRef("networking.gke.io", "GKENetworkParamSet", "params")

    def labelled(found: Node | Pod, *, annotations: dict[str, str] | None = None, **labels: str) -> Node | Pod:
        return attrs.evolve(found, meta=attrs.evolve(found.meta, labels=labels, annotations=annotations or {}))

    made = World(
        *FURNITURE,
        GatewayClass(
            meta=ObjectMeta(name=fast, uid="fast"),
            controller_name="persistip.dev/controller",
            parameters_ref=ParametersRef("", "ConfigMap", "allowed", "persistip-system"),
        ),
        ConfigMap(
            ObjectMeta(name="persistip-suspects", namespace="persistip-system", uid="suspects"),
            (("b", "another since noon"),),
        ),
        Namespace(ObjectMeta(name="apart", uid="ns-apart")),
        pool,
        spare,
        gateway("quick", AddressSpec("gke.networking.io/cidr", "203.0.113.32/30"), class_name=quick),
        labelled(node("a"), annotations=BLUE, pool="failover"),
        node("b"),
        node("c"),
        labelled(pod("p1", "a", age=9), annotations=IN_BLUE, app="web"),
        labelled(pod("p22", "b", age=5), app="web"),
        pod("p333", "c", age=7, ips=(ip_address("10.0.3.99"),), phase="Succeeded"),
        labelled(pod("p4444", "b", ips=(ip_address("10.0.3.99"),), ready=False), app="web", tier="front"),
        route("r1", "203.0.113.9"),
        route("r2", "203.0.113.9", "203.0.113.10", age=50),
        route("r3", "203.0.113.33", parent_refs=(ParentRef(name="quick", namespace="infra"),), node_selector=FAILOVER),
        route("r4", "203.0.113.11", network="blue"),
        route("r5", "203.0.113.12", pod_selector=LabelSelector((), (Requirement("tier", "Exists"),))),
        Network(meta=ObjectMeta(name="blue", uid="blue"), ready=True, parameters_ref=parameters),
        GKENetworkParamSet(meta=ObjectMeta(name="params", uid="params"), ready=True),
        Service(meta=ObjectMeta(name="s", namespace="other", uid="svc", created_at=T0 - 9), ips=()),
        ServiceCIDR(meta=ObjectMeta(name="kubernetes", uid="cidr"), cidrs=()),
        CustomResourceDefinition(meta=ObjectMeta(name="gateways.gateway.networking.k8s.io", uid="crd")),
        policy=POLICY,
    )
    made.settle_all()
    return dict(made.catalog.objects)  # type: ignore[arg-type]


OTHERS: tuple[ClusterObject, ...] = (
    Service(
        meta=ObjectMeta(name="s", namespace="other", created_at=T0 - 999),
        ips=(ip_address("203.0.113.9"), ip_address("203.0.113.10")),
    ),
    ServiceCIDR(meta=ObjectMeta(name="kubernetes"), cidrs=(ip_network("203.0.113.8/31"),)),
    attrs.evolve(node("a"), ips=(ip_address("203.0.113.9"),), pod_cidrs=(ip_network("203.0.113.8/29"),)),
    pod("p1", "b", ips=(ip_address("10.0.3.99"),), phase="Failed", host_network=True),
    ConfigMap(ObjectMeta(name="persistip-suspects"), (("a", "node-a since noon"), ("b", "node-b since noon"))),
    route("r1", "203.0.113.11", parent_refs=(ParentRef(name="spare", namespace="infra"),), node_selector=FAILOVER),
)
"""What no object of that cluster says in a field, and another might."""


def test_edit_of_any_one_field_names_every_key_whose_plan_differs() -> None:
    """Each field of each object of a cluster in which all kinds are in use is set to what it may well become."""
    cluster = every_kind_in_use()
    assert {type(each) for each in cluster.values()} == set(get_args(ClusterObject))
    donors = (*cluster.values(), *OTHERS)
    catalog = fed(versioned(each, 1) for each in cluster.values())
    before = plans(catalog)
    for found in cluster.values():
        for edited in single_edits(found, donors, most=4):
            differing = assert_alike_after(catalog, edited, before)
            assert differing <= catalog.update(Batch(objects={found.key: versioned(found, 2_000)}))
        assert plans(catalog) == before
        assert indexed(catalog) == indexed(fed(cluster.values()))


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
        assert differences(before, after) <= touched
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
    assert not catalog._reach.claims.contested


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
