"""Controller and agents on one store and one simulated kernel each, in virtual time: what the wiring promises."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from persistip.agent import Agent
from persistip.backends.memory import MemoryCluster, MemoryStore
from persistip.backends.static import StaticAllocator
from persistip.controller import Controller
from persistip.errors import UnavailableError
from persistip.model.actions import (
    DONE,
    ClusterAction,
    DatapathAction,
    ForgetPin,
    Outcome,
    OutcomeState,
    PutEntry,
    RecordPin,
    RemoveEntry,
    ReportNode,
)
from persistip.model.attachment import AddressAttachment
from persistip.model.entry import Announcement, Entry, LinkRef, NodeScope, NodeState, Pin, PodLink, RouteEntry
from persistip.model.keys import Kind, ObjectKey, attachment_name
from persistip.model.views import RouteView
from persistip.runtime.cycle import NodeCycle
from persistip.runtime.retry import LATE_SECONDS
from persistip.settings import ControllerSettings
from persistip.strategies import AllocatorFeatures, Batch
from persistip.wire.decode import to_model

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

CLASS = "gke-persistent-regional-external-managed"
ADDRESS = ip_network("203.0.113.5/32")
ROUTE = ObjectKey(Kind.ROUTE, "shop", "web")
UPLINK = LinkRef("eth0", 2)
EPOCH = 1_800_000_000.0


class LoopClock:
    """Wall time that runs with the loop's."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()


class Cluster:
    """A MemoryCluster whose connection can be cut, and which counts its writes."""

    def __init__(self, store: MemoryStore, node_name: str | None = None) -> None:
        self.inner = MemoryCluster(store, node_name=node_name)
        self.is_cut = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.written: list[ClusterAction] = []
        self._cut = asyncio.Event()

    def cut(self) -> None:
        self.is_cut = True
        self._cut.set()

    def mend(self) -> None:
        self.is_cut = False
        self._cut = asyncio.Event()

    async def changes(self) -> AsyncIterator[Batch]:
        if self.is_cut:
            raise UnavailableError("cut")
        source = self.inner.changes()
        cut = asyncio.create_task(self._cut.wait())
        step: asyncio.Task[Batch] | None = None
        try:
            while True:
                step = asyncio.ensure_future(anext(source))
                await asyncio.wait({step, cut}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    raise UnavailableError("cut")
                yield step.result()
        finally:
            cut.cancel()
            if step is not None:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            await source.aclose()  # type: ignore[attr-defined]

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        if self.is_cut:
            raise UnavailableError("cut")
        await self.answers.wait()
        self.written += actions
        return await self.inner.apply(actions)


class Kernel:
    """A datapath that is a set of entries; each call leaves a line in ``diary``, which it shares with the announcer."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary
        self.entries: set[Entry] = set()
        self.pins: set[Pin] = set()
        self.links: dict[Any, PodLink] = {}
        self.refuses: Callable[[DatapathAction], bool] = lambda _: False
        self.is_blind = False
        self._wake = asyncio.Event()

    async def observe(self, scope: NodeScope) -> NodeState:
        if self.is_blind:
            raise UnavailableError("blind")
        self.diary.append("observe")
        return NodeState(
            entries=frozenset(self.entries),
            uplinks=(UPLINK,),
            pod_links={ip: self.links[ip] for ip in scope.pod_ips if ip in self.links},
            pins=frozenset(self.pins),
        )

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self._wake.wait()
            self._wake.clear()
            yield

    async def apply(self, actions: Sequence[DatapathAction]) -> Sequence[Outcome]:
        outcomes = []
        for action in actions:
            self.diary.append(type(action).__name__)
            if self.refuses(action):
                outcomes.append(Outcome(state=OutcomeState.FAILED, message="refused by the test"))
                continue
            match action:
                case PutEntry(entry):
                    self.entries.add(entry)
                case RemoveEntry(entry):
                    self.entries.discard(entry)
                case RecordPin(pin):
                    self.pins = {each for each in self.pins if each.pod_uid != pin.pod_uid} | {pin}
                case ForgetPin(pin):
                    self.pins.discard(pin)
            outcomes.append(DONE)
        return outcomes

    def disturb(self) -> None:
        self._wake.set()

    @property
    def routes(self) -> set[Entry]:
        return {entry for entry in self.entries if isinstance(entry, RouteEntry)}


class Voice:
    """An announcer that notes the set it was handed."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary
        self.wanted: frozenset[Announcement] = frozenset()

    async def announce(self, wanted: frozenset[Announcement]) -> Sequence[Outcome]:
        self.diary.append("announce" if wanted else "silence")
        self.wanted = wanted
        return [DONE] * len(wanted)


class World:
    """A store with one claim, a controller, and an agent on each of two nodes."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.clock = LoopClock()
        self.store = MemoryStore(self.clock)
        self.cluster = Cluster(self.store)
        self.controller = Controller(self.cluster, StaticAllocator(), clock=self.clock)
        self.kernels: dict[str, Kernel] = {}
        self.voices: dict[str, Voice] = {}
        self.agents: dict[str, Agent] = {}
        self.agent_clusters: dict[str, Cluster] = {}
        for number, name in enumerate(("a", "b")):
            diary: list[str] = []
            self.kernels[name] = Kernel(diary)
            self.voices[name] = Voice(diary)
            ip = pod_ip(name)
            self.kernels[name].links[ip] = PodLink(
                ip=ip, link=LinkRef("veth0", 10 + number), hardware_address=f"02:00:00:00:00:0{number}"
            )
            self.new_agent(name)

    def new_agent(self, name: str) -> Agent:
        cluster = self.agent_clusters[name] = Cluster(self.store, node_name=name)
        self.agents[name] = Agent(name, cluster, self.kernels[name], self.voices[name], clock=self.clock)
        return self.agents[name]

    async def start(self) -> None:
        for body in claim():
            await self.put(body)
        for worker in (self.controller, *self.agents.values()):
            await self.stack.enter_async_context(worker)

    async def put(self, body: dict[str, Any]) -> None:
        status = body.get("status")
        made = await self.store.create(body)
        if status:
            await self.store.update({**made, "status": status}, subresource="status", manager="test")

    async def set_ready(self, name: str, *, ready: bool) -> None:
        pod = await self.store.get("Pod", "shop", f"pod-{name}")
        since = "2027-01-15T08:00:00Z"
        pod["status"]["conditions"] = [
            {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
        ]
        await self.store.update(pod, subresource="status", manager="test")

    async def attachment(self) -> dict[str, Any]:
        return await self.store.get("AddressAttachment", "", attachment_name("shop", "web"))

    async def ready(self) -> str:
        route = await self.store.get("GKEIPRoute", "shop", "web")
        found = [each for each in route.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
        return found[0]["status"] + "/" + found[0]["reason"] if found else ""


def pod_ip(node: str) -> Any:
    return ip_address(f"10.0.{ord(node) - ord('a')}.9")


def meta(name: str, namespace: str = "", **labels: str) -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {}), **({"labels": labels} if labels else {})}


def pod(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(f"pod-{node}", "shop", app="web"),
        "spec": {"nodeName": node, "containers": [{"name": "echo", "image": "echo"}]},
        "status": {
            "phase": "Running",
            "podIP": str(pod_ip(node)),
            "podIPs": [{"ip": str(pod_ip(node))}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}],
        },
    }


def claim() -> Iterable[dict[str, Any]]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": meta("shop")}
    for node in ("a", "b"):
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": meta(node),
            "spec": {},
            "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{ord(node)}"}]},
        }
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta("allowed", "system"),
        "data": {"allowedAddresses": "203.0.113.0/24"},
    }
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": meta(CLASS),
        "spec": {
            "controllerName": "persistip.dev/controller",
            "parametersRef": {"group": "", "kind": "ConfigMap", "name": "allowed", "namespace": "system"},
        },
    }
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": meta("pool", "shop"),
        "spec": {
            "gatewayClassName": CLASS,
            "addresses": [{"type": "IPAddress", "value": str(ADDRESS.network_address)}],
            "listeners": [{"name": "all", "port": 1, "protocol": "none"}],
        },
    }
    yield {
        "apiVersion": "networking.gke.io/v1",
        "kind": "GKEIPRoute",
        "metadata": meta("web", "shop"),
        "spec": {
            "parentRefs": [{"name": "pool"}],
            "addresses": [{"type": "IPAddress", "value": str(ADDRESS.network_address)}],
            "podSelector": {"matchLabels": {"app": "web"}},
        },
    }
    yield pod("a")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Return a world that has not started."""
    async with AsyncExitStack() as stack:
        yield World(stack)


async def settle(seconds: float = 3.0) -> None:
    await asyncio.sleep(seconds)


async def test_claim_ends_in_kernel_neighbours_and_status(world: World) -> None:
    """From the objects alone the address is programmed, announced and reported ready, and then nothing is written."""
    await world.start()
    await settle()
    assert {entry.prefix for entry in world.kernels["a"].routes} == {ADDRESS}
    assert {each.prefix for each in world.voices["a"].wanted} == {ADDRESS}
    assert await world.ready() == "True/Ready"
    revision = world.store.revision
    await settle(120)
    assert world.store.revision == revision


async def test_move_takes_one_write_before_traffic_and_no_waiting(world: World) -> None:
    """A holder that turns unready is replaced by one write, with no time passing on the loop's clock."""
    await world.start()
    await world.put(pod("b"))
    await settle(20)
    holder = (await world.attachment())["spec"]["nodeName"]
    other = "b" if holder == "a" else "a"
    world.cluster.written.clear()
    before = asyncio.get_running_loop().time()
    await world.set_ready(holder, ready=False)
    while not world.kernels[other].routes:  # noqa: ASYNC110 - turns of the loop, in which no time passes
        await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() - before < 0.01
    assert [type(action).__name__ for action in world.cluster.written[:1]] == ["ReplaceAttachment"]
    await settle()
    assert not world.kernels[holder].entries
    assert not world.voices[holder].wanted
    assert await world.ready() == "True/Ready"
    writes = len(world.cluster.written) + sum(len(each.written) for each in world.agent_clusters.values())
    assert writes <= 8 + 4


async def test_holder_programs_reads_back_announces_then_confirms(world: World) -> None:
    """The order on the node is pin, entries, a look at what stands, announcement."""
    await world.start()
    await settle()
    diary = world.kernels["a"].diary
    last_put = max(index for index, line in enumerate(diary) if line == "PutEntry")
    assert diary.index("RecordPin") < diary.index("PutEntry")
    assert diary[last_put + 1 : last_put + 3] == ["observe", "announce"]


async def test_former_holder_falls_silent_before_it_removes(world: World) -> None:
    """A node that is told to let go stops announcing before it looks at or changes its kernel."""
    await world.start()
    await settle()
    diary = world.kernels["a"].diary
    diary.clear()
    await world.set_ready("a", ready=False)
    await settle()
    assert diary.index("silence") < diary.index("observe") < diary.index("RemoveEntry")


async def test_kernel_that_cannot_be_seen_does_not_keep_a_former_holder_talking(world: World) -> None:
    """The announcement stops also while every look at the kernel fails."""
    await world.start()
    await settle()
    world.kernels["a"].is_blind = True
    await world.set_ready("a", ready=False)
    await settle()
    assert not world.voices["a"].wanted
    assert world.kernels["a"].routes
    world.kernels["a"].is_blind = False
    await settle(60)
    assert not world.kernels["a"].routes


async def test_cut_from_the_api_an_agent_keeps_and_repairs(world: World) -> None:
    """Without the API what is programmed stays, and what someone deletes is put back from the last known objects."""
    await world.start()
    await settle()
    world.agent_clusters["a"].cut()
    await settle(300)
    assert world.kernels["a"].routes
    world.kernels["a"].entries.clear()
    world.kernels["a"].disturb()
    await settle(0.5)
    assert world.kernels["a"].routes
    world.agent_clusters["a"].mend()
    await settle(60)
    assert await world.ready() == "True/Ready"


async def test_api_that_hangs_on_a_report_does_not_stop_repairs(world: World) -> None:
    """A status write that never returns holds up neither repair nor withdrawal."""
    world.agent_clusters["a"].answers.clear()
    await world.start()
    await settle()
    world.kernels["a"].entries.clear()
    world.kernels["a"].disturb()
    await settle(0.5)
    assert world.kernels["a"].routes
    await world.set_ready("a", ready=False)
    await settle(0.5)
    assert not world.kernels["a"].routes
    world.agent_clusters["a"].answers.set()


async def test_report_that_was_under_way_when_it_ceased_to_be_true_is_corrected_at_once(world: World) -> None:
    """A failure that is over before a slow API has written it does not stand there until the next look by time."""
    await world.start()
    await settle()
    cluster, kernel = world.agent_clusters["a"], world.kernels["a"]
    cluster.answers.clear()
    kernel.refuses = lambda action: isinstance(action, PutEntry)
    kernel.entries -= kernel.routes
    kernel.disturb()
    await settle(0.1)
    kernel.refuses = lambda _: False
    await settle()
    assert kernel.routes
    cluster.answers.set()
    await settle(1)
    written = [action for action in cluster.written if isinstance(action, ReportNode)]
    assert "Failed" in {str(action.report.state) for action in written}
    (said,) = (await world.attachment())["status"]["nodes"]
    assert said["state"] == "Programmed"
    assert await world.ready() == "True/Ready"


async def test_agent_started_without_the_api_removes_nothing(world: World) -> None:
    """Before the first complete list a fresh agent leaves alone what it finds, its own entries included."""
    await world.start()
    await settle()
    await world.agents["a"].stop()
    fresh = world.new_agent("a")
    world.agent_clusters["a"].cut()
    world.kernels["a"].diary.clear()
    await world.stack.enter_async_context(fresh)
    await settle(60)
    assert world.kernels["a"].routes
    assert not world.kernels["a"].diary


async def test_attachment_that_cannot_be_read_keeps_its_entries_across_a_restart(world: World) -> None:
    """A fresh agent removes nothing that may belong to an object it cannot decode, and cleans up once it can."""
    await world.start()
    await settle()
    await world.agents["a"].stop()
    fresh = world.new_agent("a")
    inner = world.agent_clusters["a"].inner
    may_read = asyncio.Event()

    async def changes() -> AsyncIterator[Batch]:
        key = ObjectKey(Kind.ATTACHMENT, "", attachment_name("shop", "web"))
        yield Batch(unreadable={key: "spec.mode: not a string"}, resynced=frozenset({Kind.ATTACHMENT}))
        await may_read.wait()
        yield Batch(objects={key: None})
        await asyncio.Event().wait()

    inner.changes = changes  # type: ignore[method-assign]
    await world.stack.enter_async_context(fresh)
    await settle(60)
    assert world.kernels["a"].routes
    assert world.kernels["a"].pins
    may_read.set()
    await settle()
    assert not world.kernels["a"].entries
    assert not world.kernels["a"].pins


async def test_pin_of_an_attachment_that_cannot_be_read_outlives_a_reboot(world: World) -> None:
    """A node that comes up with an empty kernel does not forget whose link an object names that it cannot decode."""
    await world.start()
    await settle()
    await world.agents["a"].stop()
    pins = set(world.kernels["a"].pins)
    world.kernels["a"].entries.clear()

    async def changes() -> AsyncIterator[Batch]:
        key = ObjectKey(Kind.ATTACHMENT, "", attachment_name("shop", "web"))
        yield Batch(unreadable={key: "spec.mode: not a string"}, resynced=frozenset({Kind.ATTACHMENT}), synced=True)
        await asyncio.Event().wait()

    fresh = world.new_agent("a")
    world.agent_clusters["a"].inner.changes = changes  # type: ignore[method-assign]
    await world.stack.enter_async_context(fresh)
    await settle(60)
    assert world.kernels["a"].diary[-1] == "observe"
    assert world.kernels["a"].pins == pins
    assert pins


async def test_attachment_that_can_no_longer_be_read_keeps_what_was_known_of_it(world: World) -> None:
    """An object that was decoded once goes on holding when a newer version of it cannot be."""
    await world.start()
    await settle()
    await world.agents["a"].stop()
    found = to_model(await world.attachment())
    assert isinstance(found, AddressAttachment)
    may_break = asyncio.Event()

    async def changes() -> AsyncIterator[Batch]:
        yield Batch(objects={found.key: found}, resynced=frozenset({Kind.ATTACHMENT}), synced=True)
        await may_break.wait()
        yield Batch(unreadable={found.key: "no object"}, resynced=frozenset({Kind.ATTACHMENT}), synced=True)
        await asyncio.Event().wait()

    fresh = world.new_agent("a")
    world.agent_clusters["a"].inner.changes = changes  # type: ignore[method-assign]
    await world.stack.enter_async_context(fresh)
    await settle()
    may_break.set()
    await settle()
    world.kernels["a"].entries.clear()
    world.kernels["a"].disturb()
    await settle()
    assert world.kernels["a"].routes
    assert world.voices["a"].wanted


class Turn(Kernel):
    """A kernel during whose first look the world goes on."""

    meanwhile: Callable[[], None] | None = None

    async def observe(self, scope: NodeScope) -> NodeState:
        state = await super().observe(scope)
        if self.meanwhile is not None:
            self.meanwhile()
            self.meanwhile = None
        return state


class Stutter(Voice):
    """An announcer that begins with what it is told, and then says that it could not, as often as *failures*."""

    failures = 0

    def __init__(self, diary: list[str]) -> None:
        super().__init__(diary)
        self.told: list[frozenset[Announcement]] = []

    async def announce(self, wanted: frozenset[Announcement]) -> Sequence[Outcome]:
        self.told.append(wanted)
        outcomes = await super().announce(wanted)
        if self.failures:
            self.failures -= 1
            raise UnavailableError("half-way")
        return outcomes


async def held_by_a(world: World) -> AddressAttachment:
    """An attachment of which node "a" is the holder."""
    await world.start()
    await settle()
    for agent in world.agents.values():
        await agent.stop()
    found = to_model(await world.attachment())
    assert isinstance(found, AddressAttachment)
    return found


def node_cycle(kernel: Kernel, voice: Voice, known: list[AddressAttachment]) -> NodeCycle:
    return NodeCycle(
        node_name="a",
        attachments=lambda: tuple(known),
        is_complete=lambda: True,
        datapath=kernel,
        announcer=voice,
        clock=LoopClock(),
        report=lambda _: None,
        rounds=5,
    )


async def test_holder_deposed_while_the_kernel_is_looked_at_is_silent_before_it_removes(world: World) -> None:
    """News that come during a look count in that very pass, and nothing is removed under an announcement."""
    known = [await held_by_a(world)]
    kernel = Turn([])
    kernel.links = world.kernels["a"].links
    voice = Voice(kernel.diary)
    cycle = node_cycle(kernel, voice, known)
    await cycle.run()
    assert voice.wanted
    kernel.diary.clear()
    kernel.meanwhile = known.clear
    await cycle.run()
    assert not kernel.entries
    assert kernel.diary.index("silence") < kernel.diary.index("RemoveEntry")


async def test_holder_named_while_the_kernel_is_looked_at_is_programmed_in_the_same_pass(world: World) -> None:
    """A Pod that was not yet asked for when the look began is looked for again at once."""
    attachment, known = await held_by_a(world), []
    kernel = Turn([])
    kernel.links = world.kernels["a"].links
    kernel.meanwhile = lambda: known.append(attachment)
    await node_cycle(kernel, Voice(kernel.diary), known).run()
    assert kernel.routes


async def test_announcement_that_failed_half_way_is_told_again_and_never_broken_off(world: World) -> None:
    """What may have begun and is wanted still is told anew with the next pass, without a pause in between."""
    known = [await held_by_a(world)]
    voice = Stutter(world.kernels["a"].diary)
    voice.failures = 1
    cycle = node_cycle(world.kernels["a"], voice, known)
    await cycle.run()
    (announced,) = voice.told
    assert announced
    await cycle.run()
    assert set(voice.told[1:]) == {announced}
    told = len(voice.told)
    await cycle.run()
    assert len(voice.told) == told


async def test_stopped_agent_leaves_kernel_and_falls_silent(world: World) -> None:
    """After a graceful stop the entries stand and nothing is announced."""
    await world.start()
    await settle()
    standing = set(world.kernels["a"].entries)
    await world.agents["a"].stop()
    assert world.kernels["a"].entries == standing
    assert not world.voices["a"].wanted


async def test_stopped_agent_does_not_wait_for_its_grace(world: World) -> None:
    """An agent with nothing in work stops at once."""
    await world.start()
    await settle()
    begin = asyncio.get_running_loop().time()
    await world.agents["a"].stop()
    assert asyncio.get_running_loop().time() - begin < 0.1


async def test_fault_of_ours_in_a_pass_does_not_end_the_care_for_the_node(world: World) -> None:
    """After an error that nobody foresaw the agent looks again, and programs."""
    kernel = world.kernels["a"]
    links, kernel.links = kernel.links, None  # type: ignore[assignment]
    await world.start()
    await settle()
    assert not kernel.routes
    kernel.links = links
    await settle(40)
    assert kernel.routes
    assert await world.ready() == "True/Ready"


async def test_pod_whose_link_stays_unknown_is_told_though_nothing_changes(world: World) -> None:
    """What may pass in a moment is looked at again by time, and then it is a condition for the user."""
    world.kernels["a"].links.clear()
    await world.start()
    await settle(5)
    assert await world.ready() == "False/PodLinkNotFound"


async def test_report_that_waits_is_sent_as_soon_as_the_api_is_heard(world: World) -> None:
    """However long the API refused writes, the first batch from it ends the wait."""
    cluster = world.agent_clusters["a"]
    applied, is_away = cluster.inner.apply, True

    async def apply(actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        if is_away:
            raise UnavailableError("away")
        return await applied(actions)

    cluster.inner.apply = apply  # type: ignore[method-assign]
    await world.start()
    await settle(65)
    tries = len(cluster.written)
    await settle(1)
    assert len(cluster.written) == tries, "it waits"
    is_away = False
    name = attachment_name("shop", "web")
    await world.store.patch("AddressAttachment", "", name, {"metadata": {"annotations": {"seen": "yes"}}})
    await settle(0.5)
    (said,) = (await world.attachment())["status"]["nodes"]
    assert said["state"] == "Programmed"


async def test_decision_rests_on_what_was_just_written_however_late_the_watch(world: World) -> None:
    """What a pass has written is part of the very next view, before any news of it."""
    inner = world.cluster.inner
    prompt = inner.changes

    async def late() -> AsyncIterator[Batch]:
        is_synced = False
        async for batch in prompt():
            await asyncio.sleep(600 if is_synced else 0)
            is_synced = batch.synced
            yield batch

    inner.changes = late  # type: ignore[method-assign]
    await world.start()
    await settle(5)
    view = world.controller.view(ROUTE)
    assert isinstance(view, RouteView)
    assert view.attachment is not None
    assert view.attachment.meta.resource_version == (await world.attachment())["metadata"]["resourceVersion"]


async def test_restarted_agent_changes_nothing_and_writes_nothing(world: World) -> None:
    """An agent without memory adopts what its predecessor left: no action, no report, announcements again."""
    await world.start()
    await settle()
    await world.agents["a"].stop()
    world.kernels["a"].diary.clear()
    revision = world.store.revision
    await world.stack.enter_async_context(world.new_agent("a"))
    await settle(60)
    assert not {"PutEntry", "RemoveEntry", "RecordPin", "ForgetPin"} & set(world.kernels["a"].diary)
    assert world.store.revision == revision
    assert world.voices["a"].wanted


async def test_entry_the_kernel_refuses_is_reported_and_tried_until_it_stands(world: World) -> None:
    """A refused entry is a condition for the user, retried with growing delays and gone once the kernel takes it."""
    world.kernels["a"].refuses = lambda action: isinstance(action, PutEntry) and isinstance(action.entry, RouteEntry)
    await world.start()
    await settle(60)
    assert await world.ready() == "False/ProgrammingFailed"
    assert not world.voices["a"].wanted
    tries = world.kernels["a"].diary.count("PutEntry")
    assert tries < 60
    world.kernels["a"].refuses = lambda _: False
    await settle(60)
    assert await world.ready() == "True/Ready"


async def test_controller_does_not_act_before_everything_is_observed(world: World) -> None:
    """While its first lists are incomplete the controller writes nothing at all."""

    async def changes() -> AsyncIterator[Batch]:
        is_first = True
        async for batch in world.cluster.inner.changes():
            if batch.synced and is_first:
                is_first = False
                await asyncio.sleep(60)
            yield batch

    world.cluster.changes = changes  # type: ignore[method-assign]
    await world.start()
    await settle(59)
    assert not world.cluster.written
    assert not world.controller.synced.is_set()
    await settle(10)
    assert world.controller.synced.is_set()
    assert world.cluster.written


async def test_controller_cut_from_the_api_catches_up(world: World) -> None:
    """What happened while the watch was broken is acted on after it is back."""
    await world.start()
    await settle()
    world.cluster.cut()
    await settle(30)
    await world.put(pod("b"))
    await world.set_ready("a", ready=False)
    world.cluster.mend()
    await settle(60)
    assert (await world.attachment())["spec"]["nodeName"] == "b"
    assert await world.ready() == "True/Ready"


async def test_controller_does_not_act_on_what_it_saw_before_a_break(world: World) -> None:
    """What is due while the watch is broken waits for the lists that follow, though it could be written."""
    inner, is_refused = world.cluster.inner, False

    async def apply(actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        if is_refused:
            raise UnavailableError("refused")
        world.cluster.written += actions
        return await inner.apply(actions)

    world.cluster.apply = apply  # type: ignore[method-assign]
    await world.start()
    await world.put(pod("b"))
    await settle(20)
    holder = (await world.attachment())["spec"]["nodeName"]
    is_refused = True
    await world.set_ready(holder, ready=False)
    await settle(0.2)
    world.cluster.cut()
    await settle(0.001)
    is_refused = False
    world.cluster.written.clear()
    await settle(30)
    assert not world.cluster.written
    world.cluster.mend()
    await settle(60)
    assert (await world.attachment())["spec"]["nodeName"] != holder
    assert await world.ready() == "True/Ready"


async def test_one_key_that_breaks_our_rules_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the decision about the Gateway is loud, and the route is served all the same."""

    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("persistip.runtime.cycle.plan_gateway", broken)
    await world.start()
    await settle()
    assert await world.ready() == "True/Ready"
    assert "a fault of ours stopped one key" in caplog.text
    monkeypatch.undo()
    await settle(LATE_SECONDS)
    pool = await world.store.get("Gateway", "shop", "pool")
    assert pool["status"]["conditions"], "it comes again by itself, late"


async def test_object_that_never_settles_is_slowed_down(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A plan that always has a write left is held back instead of writing as fast as it can."""
    settings = ControllerSettings(write_burst=5, writes_per_second=0.5)
    controller = Controller(world.cluster, StaticAllocator(), settings=settings, clock=world.clock)
    for body in claim():
        await world.put(body)
    stop = asyncio.Event()

    async def disagree() -> None:
        """Another writer that undoes every status at once."""
        while not stop.is_set():
            found = await world.store.get("GKEIPRoute", "shop", "web")
            if found.get("status", {}).get("pods") != ["someone-else"]:
                found["status"] = {"pods": ["someone-else"]}
                await world.store.update(found, subresource="status", manager="other")
            await asyncio.sleep(0.05)

    async with controller:
        other = asyncio.create_task(disagree())
        await settle(60)
        stop.set()
        await other
    assert "an object does not settle" in caplog.text
    reports = [action for action in world.cluster.written if type(action).__name__ == "ReportRoute"]
    assert 5 <= len(reports) <= 5 + 60 * 0.5 + 2


async def test_view_shows_what_the_next_decision_sees(world: World) -> None:
    """An embedding program can ask what would happen if a node died."""
    await world.start()
    await settle()
    view = world.controller.view(ROUTE)
    assert isinstance(view, RouteView)
    assert [each.meta.name for each in view.pods] == ["pod-a"]
    assert not view.without_node("a").pods


async def test_stopped_controller_ends_run(world: World) -> None:
    """``run`` returns after ``stop``, and a second stop does no harm."""
    running = asyncio.create_task(world.controller.run())
    await world.controller.synced.wait()
    await world.controller.stop()
    await running
    await world.controller.stop()
    assert not running.cancelled()


class Owners(StaticAllocator):
    """A cloud that provisions nothing and knows who owns what."""

    features = AllocatorFeatures(name="owners", needs_provisioning=False, knows_owners=True)


async def test_allocator_that_knows_owners_spares_the_class_its_list() -> None:
    """Whether a class must list what its Gateways may use follows from the allocator, whatever the settings say."""
    for allocator, knows in ((StaticAllocator(), False), (Owners(), True)):
        controller = Controller(MemoryCluster(MemoryStore(LoopClock())), allocator)
        view = controller.view(ROUTE)
        assert isinstance(view, RouteView)
        assert view.policy.knows_owners is knows
