"""What a controller and an agent live through with a real API server: cuts, compaction, restarts, rivals."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import programs as waiting
import pytest
from apiserver_world import ApiServerWorld, Lazy, Relay, empty_world
from audit import AuditLog, permission
from controlplane import ControlPlane
from programs import LOOPBACK

from persistip.backends.apiserver import follower
from persistip.backends.static import StaticAllocator
from persistip.controller import Controller
from persistip.model.actions import ReplaceAttachment
from persistip.model.attachment import AddressAttachment
from persistip.model.conditions import Condition, Status
from persistip.model.keys import ObjectKey, attachment_key, attachment_name
from persistip.model.route import RouteStatus
from persistip.runtime.clock import SystemClock
from persistip.runtime.election import Election
from persistip.settings import ElectionSettings
from persistip.strategies import ClusterObject
from persistip.testing import builders
from persistip.wire.encode import from_model, status_from_model

pytestmark = [pytest.mark.requires("apiserver"), pytest.mark.asyncio]

CLOCK = SystemClock()
ROUTE = builders.route()
ATTACHMENT = attachment_name(ROUTE.meta.namespace, ROUTE.meta.name)
QUICK = ElectionSettings(lease_seconds=4.0, renew_seconds=3.0, retry_seconds=0.5)
HOUR = ElectionSettings(lease_seconds=3600.0, renew_seconds=1800.0, retry_seconds=60.0)
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
WRITES = {"create", "update", "patch", "delete"}


@pytest.fixture
async def world(emptied_plane: ControlPlane) -> AsyncIterator[ApiServerWorld]:
    """Give an empty cluster."""
    async with empty_world(emptied_plane) as found:
        yield found


@pytest.fixture
def second_plane() -> Iterator[ControlPlane]:
    """Give a control plane of the test's own, with nothing installed."""
    with ControlPlane() as plane:
        yield plane


class Sight:
    """What somebody who follows a cluster knows, kept up to date beside the test."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, ClusterObject] = {}
        self.lists: list[frozenset[str]] = []
        self.is_synced = False

    async def follow(self, cluster: Lazy) -> None:
        """Take in batches, until cancelled."""
        async for batch in cluster.changes():
            self.lists += [batch.resynced] if batch.resynced else []
            self.objects = {key: each for key, each in self.objects.items() if key.kind not in batch.resynced}
            for key, each in batch.objects.items():
                if each is None:
                    self.objects.pop(key, None)
                else:
                    self.objects[key] = each
            self.is_synced = batch.synced


@asynccontextmanager
async def sight_of(cluster: Lazy) -> AsyncIterator[Sight]:
    """Give what *cluster* shows, once everything was shown."""
    sight = Sight()
    following = asyncio.create_task(sight.follow(cluster))
    try:
        await until(lambda: sight.is_synced, following)
        yield sight
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def until(holds: Callable[[], Any], *running: asyncio.Task[None]) -> None:
    """Wait until *holds*; a task that ends meanwhile says why."""
    async with asyncio.timeout(60):
        while not holds():
            for task in running:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)


async def until_api(holds: Callable[[Mapping[str, Any]], Any], world: ApiServerWorld, kind: str, *name: str) -> None:
    """Wait until the object exists and *holds* of it."""
    path = ("", *name)[-2:]
    async with asyncio.timeout(60):
        while True:
            answer = await world.look(kind, *path)
            if answer.is_success and holds(answer.body):
                return
            await asyncio.sleep(0.05)


async def put_newer_pod(world: ApiServerWorld) -> None:
    """Add a Pod that takes over; ages are whole seconds, and of Pods that are equally old the holder stays."""
    await asyncio.sleep(1)
    await world.put(from_model(builders.pod("nat-1", ips=("10.0.0.3",))))


async def furnish(world: ApiServerWorld) -> None:
    """Put all that a route needs into the cluster, and the route; the allowed addresses' namespace too."""
    for each in (
        builders.config_map(),
        builders.gateway_class(),
        builders.node(),
        builders.gateway(),
        builders.route(),
        builders.pod(),
    ):
        await world.put(from_model(each))


def held_by(name: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an attachment names that Pod as its holder, its addresses no longer pending."""

    def holds(attachment: Mapping[str, Any]) -> bool:
        spec = attachment["spec"]
        return spec.get("pod", {}).get("name") == name and not any(each.get("pending") for each in spec["addresses"])

    return holds


@asynccontextmanager
async def controller(
    world: ApiServerWorld, name: str = "only", cluster: Lazy | None = None, times: ElectionSettings = QUICK
) -> AsyncIterator[Controller]:
    """Run a controller that takes part in an election, with short times unless others are given."""
    found = cluster or world.cluster(instance=name)
    lease = (await found.entered()).lease("default", "persistip-controller")
    election = Election(lease, name, CLOCK, settings=times)
    async with Controller(found, StaticAllocator(), clock=CLOCK, election=election) as running:
        yield running


async def test_cut_watch_is_resumed_and_nothing_is_listed_again(world: ApiServerWorld) -> None:
    """After a break every watch goes on where it was: what happened meanwhile is known, and no list was asked for."""
    await world.put(from_model(builders.namespace("old")))
    async with sight_of(world.cluster()) as sight:
        lists = len(sight.lists)
        world.relay.cut()
        await world.remove("Namespace", "", "old")
        await world.put(from_model(builders.namespace("new")))
        await until(lambda: builders.namespace("new").key in sight.objects)
        await until(lambda: builders.namespace("old").key not in sight.objects)
        assert len(sight.lists) == lists


async def test_history_that_is_gone_costs_one_list_of_that_kind(
    second_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that no longer knows the version (410) is asked for the kind anew, and what went meanwhile is gone."""
    monkeypatch.setattr(follower, "LOOK_AGAIN_SECONDS", 3600.0)  # what is not installed counts as listed, too
    second_plane.install_upstream()
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(second_plane.servers[0].port))
        world = ApiServerWorld(second_plane, relay, stack)
        await world.put(from_model(builders.node("old")))
        async with sight_of(world.cluster()) as sight:
            assert builders.node("old").key in sight.objects
            relay.is_frozen.clear()
            await world.remove("Node", "", "old")
            await world.put(from_model(builders.node("new")))
            second_plane.compact()
            fresh = await asyncio.to_thread(second_plane.add_server)
            lists = len(sight.lists)
            relay.redirect(fresh.port)
            await until(lambda: builders.node("new").key in sight.objects and sight.is_synced)
            assert builders.node("old").key not in sight.objects
            listed = Counter(kind for kinds in sight.lists[lists:] for kind in kinds)
            assert listed["Node"] == 1
            assert set(listed.values()) == {1}, "others whose history is gone, too"


async def test_watch_that_is_told_to_wait_costs_one_list_once_it_is_let_in(second_plane: ControlPlane) -> None:
    """A server with too much to do (429) is asked for no list; what is known is said to be old, and then mended."""
    second_plane.install_upstream()
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    second_plane.must("POST", accounts, {"metadata": {"name": "eve"}})
    second_plane.kubectl(
        "create", "clusterrolebinding", "eve", "--clusterrole=cluster-admin", "--serviceaccount=default:eve"
    )
    token = second_plane.token("default", "eve")
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(second_plane.servers[0].port))
        world = ApiServerWorld(second_plane, relay, stack)
        await world.put(from_model(builders.node("old")))
        await until_api(lambda _: True, world, "Node", "", "old")
        async with sight_of(world.cluster(token=token)) as sight:
            lists = len(sight.lists)
            in_the_way = stack.enter_context(await asyncio.to_thread(turn_away, second_plane, token))
            relay.cut()
            await world.remove("Node", "", "old")
            await until(lambda: not sight.is_synced)
            await asyncio.sleep(3)
            assert not sight.is_synced
            assert len(sight.lists) == lists
            in_the_way.close()
            second_plane.must("DELETE", f"{FLOW}/flowschemas/none")
            await until(lambda: sight.is_synced)
            assert builders.node("old").key not in sight.objects
            assert sight.lists[lists:] == [frozenset({"Node"})]


def turn_away(plane: ControlPlane, token: str) -> ssl.SSLSocket:
    """
    Have the server answer 429 to watches of Nodes, and return once it does.

    No more than one of them is served at a time, and the connection returned is in the way: it is still to say which
    Node it wants to make.
    """
    limits = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    none = {"metadata": {"name": "none"}, "spec": {"type": "Limited", "limited": limits}}
    plane.must("POST", f"{FLOW}/prioritylevelconfigurations", none)
    rules = {"verbs": ["watch", "create"], "apiGroups": [""], "resources": ["nodes"], "clusterScope": True}
    eve = {"kind": "ServiceAccount", "serviceAccount": {"namespace": "default", "name": "eve"}}
    spec = {
        "priorityLevelConfiguration": {"name": "none"},
        "matchingPrecedence": 2,
        "rules": [{"subjects": [eve], "resourceRules": [rules]}],
    }
    schema = plane.must("POST", f"{FLOW}/flowschemas", {"metadata": {"name": "none"}, "spec": spec})["metadata"]["uid"]

    def matched() -> bool:
        answer = plane.request("GET", "/api/v1/nodes?watch=true&timeoutSeconds=1", token=token)
        return answer.headers.get("X-Kubernetes-Pf-Flowschema-Uid") == schema

    waiting.until(matched, "the limit to be in force")
    trust = ssl.create_default_context(cadata=plane.authority.pem.decode())
    port = plane.servers[0].port
    connection = trust.wrap_socket(socket.create_connection((LOOPBACK, port)), server_hostname=LOOPBACK)
    head = ("POST /api/v1/nodes HTTP/1.1", "Host: tests", f"Authorization: Bearer {token}", "Content-Length: 99")
    connection.sendall("\r\n".join((*head, "Content-Type: application/json", "", "{")).encode())
    look = "/api/v1/nodes?watch=true&timeoutSeconds=1"
    waiting.until(lambda: plane.request("GET", look, token=token).status == 429, "watches to be turned away", 20)
    return connection


async def test_kind_installed_later_is_found(second_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that is not there counts as one without objects, and is followed from when it is installed."""
    monkeypatch.setattr(follower, "LOOK_AGAIN_SECONDS", 0.5)
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(second_plane.servers[0].port))
        world = ApiServerWorld(second_plane, relay, stack)
        async with sight_of(world.cluster()) as sight:
            await asyncio.to_thread(second_plane.install_upstream)
            await world.put(from_model(builders.gateway_class()))
            await until(lambda: builders.gateway_class().key in sight.objects and sight.is_synced)


async def test_controller_outlives_the_api_server(world: ApiServerWorld) -> None:
    """An API server that is killed and comes back finds a controller that does what has come due meanwhile."""
    await furnish(world)
    server = world.plane.servers[0]
    async with controller(world):
        await until_api(held_by("nat-0"), world, "AddressAttachment", ATTACHMENT)
        server.kill()
        await asyncio.sleep(5)
        server.start(wait=False)  # here, since it ends with the thread that starts it
        await asyncio.to_thread(server.wait_ready)
        await put_newer_pod(world)
        await until_api(held_by("nat-1"), world, "AddressAttachment", ATTACHMENT)


async def test_two_writers_of_one_status_leave_each_other_alone(world: ApiServerWorld) -> None:
    """Another controller's condition stays, ours are there, and once both are written nobody writes any more."""
    await furnish(world)
    theirs = Condition(type="example.com/Theirs", status=Status.TRUE, reason="Said", last_transition_at=builders.START)
    async with controller(world):
        await until_api(conditions_of("Accepted", "Ready"), world, "GKEIPRoute", *ROUTE.key.path.split("/"))
        await world.apply_status(ROUTE, status_from_model(RouteStatus(conditions=(theirs,))), manager="theirs")
        await asyncio.sleep(2)
        with world.plane.audited() as log:
            await asyncio.sleep(2)
        found = await world.get("GKEIPRoute", *ROUTE.key.path.split("/"))
    assert conditions_of("Accepted", "GCPReady", "DPV2Ready", "Ready", "example.com/Theirs")(found)
    assert writes(log, but="leases") == []


async def test_status_that_another_overwrites_is_set_right(world: ApiServerWorld) -> None:
    """Whoever changes our condition sees it as we have it, soon after, and no storm of writes."""
    await furnish(world)
    lie = Condition(type="Ready", status=Status.TRUE, reason="Lie", last_transition_at=builders.START)
    async with controller(world):
        await until_api(conditions_of("Accepted", "Ready"), world, "GKEIPRoute", *ROUTE.key.path.split("/"))
        with world.plane.audited() as log:
            for _ in range(5):
                await world.apply_status(ROUTE, status_from_model(RouteStatus(conditions=(lie,))), manager="theirs")
                await asyncio.sleep(0.2)
            await until_api(
                lambda found: reasons(found).get("Ready") == "Programming",
                world, "GKEIPRoute", *ROUTE.key.path.split("/"),
            )  # fmt: skip
    assert len([each for each in writes(log, but="leases") if each == ("patch", "gkeiproutes")]) <= 10


async def test_late_write_of_a_deposed_leader_fails(world: ApiServerWorld, emptied_plane: ControlPlane) -> None:
    """A move that was under way when its leader was deposed meets what the new leader decided, and is refused."""
    await furnish(world)
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(emptied_plane.servers[0].port))
        apart = ApiServerWorld(emptied_plane, relay, stack).cluster(instance="first")
        async with controller(world, "first", apart), controller(world, "second"):
            await until_api(held_by("nat-0"), world, "AddressAttachment", ATTACHMENT)
            stands = await seen(world)
            relay.is_frozen.clear()
            late = attrs.evolve(stands, spec=attrs.evolve(stands.spec, epoch=stands.spec.epoch + 1, holder=None))
            # As long as it takes: what is to be shown is what the server answers, not that nobody waited for it.
            (await apart.entered()).client._timeout_seconds = 600.0
            writing = asyncio.create_task(apart.apply([ReplaceAttachment(late)]))
            await put_newer_pod(world)
            await until_api(held_by("nat-1"), world, "AddressAttachment", ATTACHMENT)
            with world.plane.audited() as log:
                relay.is_frozen.set()
                (outcome,) = await writing
            assert (outcome.stale, outcome.is_done) == (True, False)
            assert conflicts(log) == [ATTACHMENT]
            await asyncio.sleep(1)
            assert held_by("nat-1")(await world.get("AddressAttachment", "", ATTACHMENT))


def conflicts(log: AuditLog) -> list[str]:
    """Return the attachments whose replacement the server refused, since another version stands."""
    return [
        event["objectRef"]["name"]
        for event in log.events()
        if permission(event) == ("update", "persistip.dev", "addressattachments")
        and event["responseStatus"]["code"] == 409
    ]


async def test_quiet_cluster_costs_lease_renewals_only(world: ApiServerWorld) -> None:
    """When everything is decided, nothing is written but the lease of the one that leads."""
    await furnish(world)
    async with controller(world, "first"), controller(world, "second"):
        await until_api(conditions_of("Accepted", "Ready"), world, "GKEIPRoute", *ROUTE.key.path.split("/"))
        await asyncio.sleep(2)
        with world.plane.audited() as log:
            await asyncio.sleep(4)
    assert set(writes(log)) == {("update", "leases")}


async def test_replica_that_stops_hands_over(world: ApiServerWorld) -> None:
    """The other one leads as soon as the first has stopped, though the lease would have lasted for an hour."""
    await furnish(world)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(controller(world, "first", times=HOUR))
        await until_api(held_by("nat-0"), world, "AddressAttachment", ATTACHMENT)
        async with controller(world, "second", times=HOUR) as second:
            await until(second.synced.is_set)
            await first.stop()
            await until_api(holder("second"), world, "Lease", "default", "persistip-controller")
            await put_newer_pod(world)
            await until_api(held_by("nat-1"), world, "AddressAttachment", ATTACHMENT)


async def seen(world: ApiServerWorld) -> AddressAttachment:
    """Return the attachment as a reader sees it now."""
    async with sight_of(world.cluster()) as sight:
        found = sight.objects[attachment_key(ROUTE.key)]
        assert isinstance(found, AddressAttachment)
        return found


def holder(name: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a Lease names that replica."""
    return lambda lease: lease["spec"].get("holderIdentity") == name


def reasons(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the reason of each condition."""
    return {each["type"]: each["reason"] for each in found.get("status", {}).get("conditions", ())}


def conditions_of(*types: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an object has conditions of these types."""
    return lambda found: set(types) <= reasons(found).keys()


def writes(log: Any, but: str = "") -> list[tuple[str, str]]:
    """Return the writes of ours: what was done, and to what."""
    return [
        (event["verb"], event["objectRef"]["resource"])
        for event in log.events()
        if event["verb"] in WRITES
        and event.get("userAgent", "").startswith("persistip")
        and event["objectRef"]["resource"] != but
    ]
