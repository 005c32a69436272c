"""What the catalog makes of versions, gaps and objects that cannot be read."""

import attrs
import pytest
from world import World, gateway, holder, node, pod, route

from persistip.decide.catalog import Catalog
from persistip.decide.plan_gateway import plan_class, plan_gateway
from persistip.decide.plan_route import plan_route
from persistip.decide.versions import Versions
from persistip.model.actions import CreateAttachment, ReplaceAttachment
from persistip.model.address import AddressSpec
from persistip.model.attachment import AddressAttachment, Reference
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Namespace
from persistip.model.pod import Pod
from persistip.model.selector import LabelSelector
from persistip.model.views import ClassView, GatewayView
from persistip.strategies import Batch, ClusterObject


def ready() -> World:
    """A world whose route is served by Pod x on node a."""
    world = World()
    world.put(pod("x", "a"), route())
    world.settle_all()
    return world


def at(found: AddressAttachment, version: int, **meta: object) -> AddressAttachment:
    """The attachment at another version."""
    return attrs.evolve(found, meta=attrs.evolve(found.meta, resource_version=str(version), **meta))


# ---------------------------------------------------------------- versions
def test_late_answer_never_turns_back_what_the_watch_told_since() -> None:
    """The watch has delivered our write and an agent's report after it, and the answer to our write changes nothing."""
    world = ready()
    found = world.attachment()
    confirmed = world.revision + 2
    world.catalog.update(Batch(objects={found.key: at(found, confirmed)}))
    without = attrs.evolve(at(found, confirmed - 1), nodes=())
    world.catalog.absorb(without)
    assert world.attachment().nodes == found.nodes


def test_write_that_was_undone_before_its_answer_came_is_decided_again() -> None:
    """The watch tells of our write and of its undoing as one, which looks like no change: the route must look again."""
    world = ready()
    found, version = world.attachment(), world.revision
    assert world.catalog.update(Batch(objects={found.key: at(found, version + 2)})) == frozenset()
    assert world.catalog.absorb(at(found, version + 1)) == {route().key}
    before = world.view().facts.route
    undone = attrs.evolve(before, meta=attrs.evolve(before.meta, resource_version=str(version + 4)))
    assert world.catalog.update(Batch(objects={before.key: undone})) == frozenset()
    written = attrs.evolve(before, meta=attrs.evolve(before.meta, resource_version=str(version + 3)))
    assert world.catalog.absorb(written) == {route().key}


def test_write_that_the_watch_told_of_before_its_answer_came_is_no_news() -> None:
    """What stands is what we wrote: nobody has to decide again."""
    world = ready()
    found = at(world.attachment(), world.revision + 1)
    world.catalog.update(Batch(objects={found.key: found}))
    assert world.catalog.absorb(found) == frozenset()


def test_own_write_is_in_view_before_the_watch_has_it_and_older_versions_are_passed_over() -> None:
    """A view never predates our own writes, and an address is not granted before the watch has shown the claim."""
    world = ready()
    found, version = world.attachment(), world.revision
    written = attrs.evolve(at(found, version + 5), spec=attrs.evolve(found.spec, epoch=found.spec.epoch + 1))
    assert world.catalog.absorb(written) == {route().key}
    assert not world.view().attachment_is_watched
    assert world.catalog.update(Batch(objects={found.key: at(found, version + 4)})) == {route().key}
    assert world.attachment().spec.epoch == written.spec.epoch
    world.catalog.update(Batch(objects={found.key: written}))
    assert world.view().attachment_is_watched


def test_claim_delivered_by_the_watch_is_planned_again() -> None:
    """The object is the same as our write returned; that the watch has it is what the grant waits for."""
    world = World()
    world.put(pod("x", "a"), route())
    [create] = [each for each in plan_route(world.view()).actions if isinstance(each, CreateAttachment)]
    written = at(create.attachment, 1000, uid="att")
    world.catalog.absorb(written)
    assert not isinstance(plan_route(world.view()).actions[0], ReplaceAttachment), "not yet"
    assert world.catalog.update(Batch(objects={written.key: written})) == {route().key}
    assert isinstance(plan_route(world.view()).actions[0], ReplaceAttachment)


def test_answer_after_the_end_does_not_raise_the_dead() -> None:
    """A write whose object the watch has seen go is history."""
    world = ready()
    found = world.attachment()
    world.drop(found)
    assert world.catalog.absorb(at(found, world.revision + 9)) == frozenset()
    assert world.view().attachment is None


def test_own_write_that_ends_the_object_ends_it_in_view() -> None:
    """What is terminating and has lost its last finalizer is gone, whoever says so first."""
    world = ready()
    found = world.attachment()
    world.catalog.absorb(at(found, world.revision + 9, deleted_at=1.0, finalizers=()))
    assert world.view().attachment is None


def test_end_of_the_former_object_is_not_that_of_the_new_one() -> None:
    """The watch says late that an object went which we have made again."""
    world = ready()
    found = world.attachment()
    again = at(found, world.revision + 9, uid="again")
    world.catalog.absorb(again)
    assert world.catalog.update(Batch(objects={found.key: None})) == frozenset()
    assert world.attachment().meta.uid == "again"
    world.catalog.update(Batch(objects={found.key: again}))
    world.catalog.update(Batch(objects={found.key: None}))
    assert world.view().attachment is None


def test_memory_of_what_went_is_bounded() -> None:
    """However many objects go, a fixed number of ends is remembered, the last ones."""
    versions, found = Versions(), ready().attachment()
    for number in range(2000):
        each = attrs.evolve(found, meta=attrs.evolve(found.meta, name=f"r-{number}", uid=str(number)))
        versions.deliver(each)
        assert versions.depart(each.key)
        assert not versions.write(each)
    assert len(versions._gone) == 1024
    assert versions.depart(ObjectKey(Kind.ATTACHMENT, "", "r-unknown"))


def test_complete_list_takes_away_what_it_does_not_hold() -> None:
    """After a gap in the watch the list is what there is, also of what could not be read."""
    world = ready()
    broken = ObjectKey(Kind.POD, "tenant", "broken")
    world.catalog.update(Batch(unreadable={broken: "x", route("other").key: "y"}))
    touched = world.catalog.update(Batch(objects={}, resynced=frozenset({"Pod", "GKEIPRoute"})))
    assert {route().key, route("other").key} <= touched
    assert not any(world.catalog._sight.lost(kind) for kind in Kind)
    assert world.view().facts is None
    world.catalog.update(Batch(unreadable={gateway().key: "z"}, resynced=frozenset({"Gateway"})))
    assert gateway().key in world.catalog.objects, "listed, though unreadable"


# ---------------------------------------------------------------- what cannot be read
FOUNDATIONS = [
    route().key,
    gateway().key,
    node("a").key,
    pod("x", "a").key,
    ObjectKey(Kind.NAMESPACE, "", "tenant"),
    ObjectKey(Kind.CONFIG_MAP, "persistip-system", "allowed"),
    ObjectKey(Kind.GATEWAY_CLASS, "", "gke-persistent-regional-external-managed"),
]


@pytest.mark.parametrize("key", [*FOUNDATIONS, None], ids=lambda key: str(key.kind) if key else "attachment")
@pytest.mark.parametrize("is_restarted", [True, False])
def test_nothing_is_withdrawn_for_what_cannot_be_read(key: ObjectKey | None, is_restarted: bool) -> None:
    """Neither present nor gone: whether or not it was known before, the route stays as it is until it can be read."""
    world = ready()
    key = key or world.attachment().key
    before = world.catalog.objects[key]
    if is_restarted:
        fresh = World(*(each for found, each in sorted(world.catalog.objects.items()) if found != key))  # type: ignore[arg-type]
        fresh.catalog.update(Batch(unreadable={key: "spec: broken"}))
        world = fresh
    else:
        world.catalog.update(Batch(unreadable={key: "spec: broken"}))
    assert plan_route(world.view()).actions == ()
    assert f"{key}: spec: broken" in str(world.view().unreadable)
    assert route().key in world.catalog.update(Batch(objects={key: None})), "it is gone: now it counts"
    if key.kind not in (Kind.ROUTE, Kind.ATTACHMENT):
        assert plan_route(world.view()).actions != ()
    world.catalog.update(Batch(objects={key: before}))  # type: ignore[dict-item]


@pytest.mark.parametrize("key", [pod("yy", "b").key, node("b").key, route("other").key, gateway("spare").key])
def test_broken_object_stops_nobody_else(key: ObjectKey) -> None:
    """Only what rests on it waits."""
    world = ready()
    world.catalog.update(Batch(unreadable={key: "spec: broken"}))
    assert world.view().unreadable is None
    world.put(pod("x", "a", ready=False))
    world.settle()
    assert holder(world) is None


# ---------------------------------------------------------------- Gateways and classes
def gateway_plan(world: World) -> object:
    """The plan of the Gateway."""
    view = world.catalog.view(gateway().key, world.now)
    assert isinstance(view, GatewayView)
    return plan_gateway(view)


def test_attached_routes_follow_acceptance() -> None:
    """The count is of accepted routes that the listener admits, and a change of either touches the Gateway."""
    world = ready()
    found = world.catalog.objects[gateway().key]
    assert [each.attached_routes for each in found.status.listeners] == [1]  # type: ignore[attr-defined]
    world.put(Namespace(attrs.evolve(world.view().facts.namespace.meta, labels={})))  # type: ignore[union-attr]
    world.settle_all()
    found = world.catalog.objects[gateway().key]
    assert [each.attached_routes for each in found.status.listeners] == [0]  # type: ignore[attr-defined]


def test_gateway_shows_addresses_as_their_type_wants_them() -> None:
    """A range is no IPAddress, and an address no range."""
    world = ready()
    found = world.catalog.objects[gateway().key]
    shown = [(each.type, each.value) for each in found.status.addresses]  # type: ignore[attr-defined]
    assert shown == [("gke.networking.io/cidr", "203.0.113.0/28"), ("IPAddress", "2001:db8::9")]


def test_gateway_and_class_that_are_gone_plan_nothing() -> None:
    """A key outlives its object in the queue."""
    world = World()
    world.drop(gateway())
    assert gateway_plan(world).actions == ()  # type: ignore[attr-defined]
    view = world.catalog.view(ObjectKey(Kind.GATEWAY_CLASS, "", "nobody"), world.now)
    assert isinstance(view, ClassView)
    assert plan_class(view).actions == ()


def test_status_of_a_gateway_touches_no_route() -> None:
    """Our own report is no reason to plan all its routes again."""
    world = ready()
    found = world.catalog.objects[gateway().key]
    changed = attrs.evolve(found, status=attrs.evolve(found.status, addresses=()))  # type: ignore[attr-defined, misc]
    assert world.catalog.update(Batch(objects={found.key: changed})) == {gateway().key}  # type: ignore[attr-defined]
    class_key = FOUNDATIONS[-1]
    found = world.catalog.objects[class_key]
    changed = attrs.evolve(found, conditions=())  # type: ignore[misc]
    assert world.catalog.update(Batch(objects={class_key: changed})) == {class_key}


def test_status_of_a_route_touches_the_gateway_only_when_acceptance_changes() -> None:
    """A move that is reported is the route's own business."""
    world = ready()
    found = world.route()
    quiet = attrs.evolve(found, status=attrs.evolve(found.status, pods=()))
    assert world.catalog.update(Batch(objects={found.key: quiet})) == {found.key}
    loud = attrs.evolve(found, status=attrs.evolve(found.status, conditions=()))
    assert gateway().key in world.catalog.update(Batch(objects={found.key: loud}))


def test_object_that_is_not_looked_at_is_kept_and_touches_nothing() -> None:
    """A namespace without routes, a class without parameters, a Pod that no selector means."""
    world = ready()
    idle: list[ClusterObject] = [
        Namespace(attrs.evolve(node("a").meta, name="idle")),
        attrs.evolve(pod("idle", "b"), meta=attrs.evolve(pod("idle", "b").meta, labels={"app": "none"})),
    ]
    for each in idle:
        assert world.catalog.update(Batch(objects={each.key: each})) == frozenset()


def test_node_touches_the_routes_of_its_pods_that_are_left() -> None:
    """A Pod that went, and one that never had a node, leave the others of the node where they are."""
    world = World()
    found = [pod("x", "a"), pod("yy", "a"), pod("zzz", "a", node_name="")]
    world.put(*found, route())
    world.drop(found[0], found[2])
    off = attrs.evolve(node("a"), out_of_service=True)
    assert world.catalog.update(Batch(objects={off.key: off})) == {route().key}
    world.drop(found[1])
    assert world.catalog.update(Batch(objects={off.key: node("a")})) == frozenset()


class Warm:
    """A mode that reads an annotation of its own domain."""

    annotations = frozenset({"example.com/warm"})

    def refusal(self, pod: Pod) -> str | None:
        """Refuse a Pod that is not marked warm."""
        return None if pod.meta.annotations.get("example.com/warm") == "yes" else "is cold"


def test_annotations_that_no_rule_reads_are_not_kept() -> None:
    """Of a Pod and a Node stay those of the domains that rules read and those that a mode names; the rest is let go."""
    read = {"networking.gke.io/networks": "[]", "persistip.dev/x": "1", "example.com/warm": "yes"}
    catalog = Catalog(modes={"Warm": Warm()})
    for found in (pod("x", "a"), node("a")):
        meta = attrs.evolve(found.meta, annotations={**read, "kubernetes.io/config.seen": "long ago"})
        given = attrs.evolve(found, meta=meta)
        catalog.update(Batch(objects={found.key: given}))
        kept = catalog.objects[found.key]
        assert kept == attrs.evolve(found, meta=attrs.evolve(found.meta, annotations=read))
        catalog.update(Batch(objects={found.key: kept}))  # type: ignore[dict-item]
        assert catalog.objects[found.key] is kept


def test_annotations_of_what_a_user_asks_for_are_all_kept() -> None:
    """A route's annotation that no rule knows is a fault to be named, whatever its domain may be tomorrow."""
    claim = route(meta=attrs.evolve(route().meta, annotations={"example.com/note": "ours"}))
    catalog = Catalog()
    catalog.update(Batch(objects={claim.key: claim}))
    assert catalog.objects[claim.key] is claim


def test_change_of_a_node_beside_its_labels_touches_the_routes_of_its_pods() -> None:
    """Out of service, made again, or with other ranges of a network: each is asked about each Pod on the Node."""
    world = ready()
    found = node("a")
    for edited in (
        attrs.evolve(found, out_of_service=True),
        attrs.evolve(found, meta=attrs.evolve(found.meta, uid="made-again")),
        attrs.evolve(found, meta=attrs.evolve(found.meta, annotations={"networking.gke.io/networks": "[]"})),
    ):
        assert route().key in world.catalog.update(Batch(objects={found.key: edited}))
        world.catalog.update(Batch(objects={found.key: found}))


def test_label_of_a_node_touches_the_routes_that_select_or_selected_it() -> None:
    """How many nodes a route selects changes with a label, and nothing else of a Node's Pods does."""
    world = ready()
    claim = route("fast", node_selector=LabelSelector((("pool", "failover"),)))
    world.put(claim)
    found = node("b")
    labelled = attrs.evolve(found, meta=attrs.evolve(found.meta, labels={"pool": "failover"}))
    for each in (labelled, found):
        touched = world.catalog.update(Batch(objects={found.key: each}))
        assert claim.key in touched
        assert world.view("fast").facts.selected_nodes == (each is labelled)  # type: ignore[union-attr]


def test_ip_that_another_pod_takes_is_seen_by_both() -> None:
    """Two Pods that claim one IP are doubled in the view of either, from the moment the second one has it."""
    world = ready()
    other = pod("other", "b", meta=attrs.evolve(pod("other", "b").meta, labels={}))
    world.put(other)
    assert not world.view().doubled_ips
    taken = pod("x", "a").ips[0]
    touched = world.catalog.update(Batch(objects={other.key: attrs.evolve(other, ips=(taken,))}))
    assert route().key in touched
    assert set(world.view().doubled_ips) == {taken}


def test_attachment_through_another_gateway_moves_a_contested_address() -> None:
    """Of two Gateways that list an address, the one through which it is attached has it, as soon as it is."""
    world = ready()
    spare = gateway("spare", AddressSpec("gke.networking.io/cidr", "203.0.113.8/31"))
    world.put(spare)
    present = world.attachment()
    view = world.catalog.view(spare.key, world.now)
    assert isinstance(view, GatewayView)
    lost = plan_gateway(view).pool.unusable
    through = Reference(namespace="infra", name="spare", uid=spare.meta.uid)
    addresses = tuple(attrs.evolve(each, gateway=through) for each in present.spec.addresses)
    world.put(attrs.evolve(present, spec=attrs.evolve(present.spec, addresses=addresses)))
    view = world.catalog.view(spare.key, world.now)
    assert isinstance(view, GatewayView)
    assert plan_gateway(view).pool.unusable != lost
