"""What controllers and agents tell of themselves, read as Prometheus would, after real runs in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from scraped import Scraped

from persistip.agent import Agent
from persistip.backends.memory import MemoryAnnouncer, MemoryCluster, MemoryDatapath, MemoryFabric, MemoryStore
from persistip.backends.prometheus import PrometheusTelemetry
from persistip.backends.static import StaticAllocator
from persistip.controller import Controller
from persistip.errors import UnavailableError
from persistip.model.actions import ClusterAction, Outcome, OutcomeState
from persistip.runtime.election import Election
from persistip.runtime.metrics import METRICS, Process
from persistip.strategies import Batch
from persistip.testing import builders, seed
from persistip.testing.virtualtime import LoopClock
from persistip.wire.encode import from_model
from persistip.wire.times import format_time

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

CLOCK = LoopClock(builders.START)
NODES = ("node-a", "node-b")
ADDRESS = ip_network(f"{builders.ADDRESS}/32")
FAILED = Outcome(state=OutcomeState.FAILED, message="not now")


class Path:
    """A cluster whose connection can be cut, and whose writes can hang."""

    def __init__(self, store: MemoryStore, node_name: str | None = None) -> None:
        self.inner = MemoryCluster(store, node_name=node_name)
        self.is_cut = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def changes(self) -> AsyncIterator[Batch]:
        """Yield what happens until the connection is cut."""
        cut = asyncio.create_task(self.is_cut.wait())
        source = self.inner.changes()
        step: asyncio.Task[Batch] | None = None
        try:
            while not self.is_cut.is_set():
                step = asyncio.ensure_future(anext(source))
                await asyncio.wait({step, cut}, return_when=asyncio.FIRST_COMPLETED)
                if step.done():
                    yield step.result()
            raise UnavailableError("cut")
        finally:
            cut.cancel()
            if step is not None:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            await source.aclose()  # type: ignore[attr-defined]

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """Write, unless the connection is cut."""
        await self.answers.wait()
        if self.is_cut.is_set():
            raise UnavailableError("cut")
        return await self.inner.apply(actions)


class World:
    """Two nodes of a fabric with an agent each, and one route; each process has a registry of its own."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.store = MemoryStore(CLOCK)
        self.fabric = MemoryFabric()
        self.told: dict[str, PrometheusTelemetry] = {}
        self.paths: dict[str, Path] = {}
        self.agents: dict[str, Agent] = {}
        for number, name in enumerate(NODES, start=1):
            self.fabric.add_node(name, ip_address(f"192.0.2.{number}"))
            self.paths[name] = Path(self.store, name)
            self.agents[name] = Agent(
                name,
                self.paths[name],
                MemoryDatapath(self.fabric, name),
                MemoryAnnouncer(self.fabric, name),
                clock=CLOCK,
                telemetry=self.new_telemetry(name, "agent"),
            )
        self.controller = self.new_controller("controller")

    def new_telemetry(self, name: str, process: str) -> PrometheusTelemetry:
        self.told[name] = PrometheusTelemetry(CollectorRegistry(), process)
        return self.told[name]

    def new_controller(self, name: str, election: Election | None = None) -> Controller:
        self.paths[name] = Path(self.store)
        telemetry = self.new_telemetry(name, "controller")
        return Controller(self.paths[name], StaticAllocator(), clock=CLOCK, election=election, telemetry=telemetry)

    async def start(self) -> None:
        await seed(
            self.store,
            *(builders.node(name, ips=[f"192.0.2.{number}"]) for number, name in enumerate(NODES, start=1)),
            builders.namespace(),
            builders.namespace("infra"),
            builders.config_map(),
            builders.gateway_class(),
            builders.gateway(),
            builders.route(),
        )
        await self.add_pod("nat-0", "node-a", "10.0.0.2")
        for worker in (self.controller, *self.agents.values()):
            await self.stack.enter_async_context(worker)
        await settle()

    async def add_pod(self, name: str, node: str, ip: str, *, ready: bool = True) -> None:
        self.fabric.add_pod(node, name, [ip_address(ip)])
        await seed(self.store, builders.pod(name, node=node, ips=[ip], ready=ready, ready_at=CLOCK.now()))

    async def set_ready(self, name: str, *, ready: bool, since: float | None = None) -> None:
        pod = await self.store.get("Pod", "tenant", name)
        at = format_time(CLOCK.now() if since is None else since)
        pod["status"]["conditions"] = [{"type": "Ready", "status": str(ready), "lastTransitionTime": at}]
        await self.store.update(pod, subresource="status", manager="kubelet")

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """End the object, a Pod as its kubelet does."""
        await self.store.delete(kind, namespace, name, grace_seconds=0)

    def scrape(self, name: str = "controller") -> Scraped:
        return Scraped(self.told[name].text())

    def moves(self, name: str = "controller") -> tuple[Any, Any]:
        """Return how many moves there were by cause, and their seconds of outage by cause."""
        found = self.scrape(name)
        counts = found.by("persistip_move_seconds_count", "cause")
        assert counts == found.by("persistip_move_outage_seconds_count", "cause")
        return counts, found.by("persistip_move_outage_seconds_sum", "cause")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Return a world that has not started."""
    async with AsyncExitStack() as stack:
        yield World(stack)


async def settle(seconds: float = 3.0) -> None:
    await asyncio.sleep(seconds)


# ---------------------------------------------------------------- moves


async def test_first_grant_is_no_move(world: World) -> None:
    """An address that nobody had before moves from nobody, and no outage is counted."""
    await world.start()
    assert world.moves() == ({}, {})
    assert world.scrape().value("persistip_moves_under_way") == 0


async def test_unready_holder_is_an_outage_until_the_next_one_is_programmed(world: World) -> None:
    """The outage lasts from the holder's loss until the new node's confirmation, however long that takes."""
    await world.start()
    await world.add_pod("nat-1", "node-b", "10.0.1.2", ready=False)
    await settle(20)
    world.fabric.fail("node-b", lambda _: FAILED)
    await world.set_ready("nat-1", ready=True)
    await world.set_ready("nat-0", ready=False)
    await settle(5)
    assert world.scrape().value("persistip_moves_under_way") == 1
    assert CLOCK.now() - 6 < world.scrape().value("persistip_oldest_outage_timestamp_seconds") < CLOCK.now()
    assert world.scrape("node-b").value("persistip_agent_unfinished_actions") > 0
    world.fabric.fail("node-b", lambda _: None)
    await settle(10)
    counts, outage = world.moves()
    assert counts == {"NotReady": 1}
    assert 5 <= outage["NotReady"] < 10
    assert world.scrape().value("persistip_moves_under_way") == 0
    assert world.scrape().value("persistip_oldest_outage_timestamp_seconds") == 0


async def test_planned_move_is_no_outage(world: World) -> None:
    """While the former holder goes on until the newer Pod has the address, a move takes time and costs none."""
    await world.start()
    await settle(20)
    world.fabric.fail("node-b", lambda _: FAILED)
    await world.add_pod("nat-1", "node-b", "10.0.1.2")
    await settle(5)
    assert world.scrape().value("persistip_moves_under_way") == 1
    assert world.scrape().value("persistip_oldest_outage_timestamp_seconds") == 0
    world.fabric.fail("node-b", lambda _: None)
    await settle(10)
    assert world.moves() == ({"Preferred": 1}, {})
    assert 5 <= world.scrape().value("persistip_move_seconds_sum", cause="Preferred") < 10


async def test_former_holder_that_fails_during_a_planned_move_begins_an_outage(world: World) -> None:
    """From when the former holder can no longer use the address, what is left of a planned move is an outage."""
    await world.start()
    await settle(20)
    world.fabric.fail("node-b", lambda _: FAILED)
    await world.add_pod("nat-1", "node-b", "10.0.1.2")
    await settle(60)
    await world.set_ready("nat-0", ready=False)
    await settle(5)
    world.fabric.fail("node-b", lambda _: None)
    await settle(60)
    counts, outage = world.moves()
    assert counts == {"Preferred": 1}
    assert 5 <= outage["Preferred"] < 45
    assert world.scrape().value("persistip_move_seconds_sum", cause="Preferred") >= outage["Preferred"] + 60


async def test_address_without_a_pod_is_out_until_there_is_one(world: World) -> None:
    """A deleted holder with nobody to follow is one outage, which ends with the Pod that comes."""
    await world.start()
    await world.delete("Pod", "tenant", "nat-0")
    await settle(40)
    assert world.moves() == ({}, {})
    assert world.scrape().value("persistip_moves_under_way") == 1
    await world.add_pod("nat-1", "node-b", "10.0.1.2")
    await settle()
    counts, outage = world.moves()
    assert counts == {"Deleted": 1}
    assert 40 <= outage["Deleted"] < 42


async def test_outage_begins_before_anybody_saw_it(world: World) -> None:
    """What happened while no controller ran counts from the API's own record of when the Pod ceased to be Ready."""
    await world.start()
    await world.add_pod("nat-1", "node-b", "10.0.1.2", ready=False)
    await settle(20)
    await world.controller.stop()
    await world.set_ready("nat-1", ready=True)
    await world.set_ready("nat-0", ready=False)
    await settle(30)
    await world.stack.enter_async_context(world.new_controller("second"))
    await settle()
    counts, outage = world.moves("second")
    assert counts == {"NotReady": 1}
    assert 30 <= outage["NotReady"] < 32
    assert world.moves() == ({}, {})


async def test_move_begun_by_another_controller_counts_from_its_decision(world: World) -> None:
    """A controller that dies between decision and confirmation leaves a move whose end its follower counts."""
    await world.start()
    await world.add_pod("nat-1", "node-b", "10.0.1.2", ready=False)
    await settle(20)
    world.fabric.fail("node-b", lambda _: FAILED)
    await world.set_ready("nat-1", ready=True)
    await world.set_ready("nat-0", ready=False)
    await settle(1)
    await world.controller.stop()
    await settle(10)
    await world.stack.enter_async_context(world.new_controller("second"))
    await settle(1)
    world.fabric.fail("node-b", lambda _: None)
    await settle(20)
    counts, outage = world.moves("second")
    assert counts == {"TakenOver": 1}
    assert 12 <= outage["TakenOver"] < 32


async def test_restarted_controller_counts_no_move_that_has_ended(world: World) -> None:
    """A move that was over, and one node's later trouble, are no move to a controller that starts then."""
    await world.start()
    await world.add_pod("nat-1", "node-b", "10.0.1.2", ready=False)
    await settle(20)
    world.paths["node-a"].is_cut.set()
    await world.set_ready("nat-1", ready=True)
    await world.set_ready("nat-0", ready=False)
    await settle()
    await world.controller.stop()
    world.fabric.fail("node-b", lambda _: FAILED)
    world.fabric.lose("node-b", next(iter(world.fabric.node("node-b").entries)))
    await settle()
    await world.stack.enter_async_context(world.new_controller("second"))
    await settle()
    world.fabric.fail("node-b", lambda _: None)
    await settle(60)
    assert world.moves() == ({"NotReady": 1}, world.moves()[1])
    assert world.moves("second") == ({}, {})


async def test_holder_that_recovers_before_anything_is_written_moved_nothing(world: World) -> None:
    """What was decided and could not be written, and is no longer wanted, is no move."""
    await world.start()
    await world.add_pod("nat-1", "node-b", "10.0.1.2", ready=False)
    await settle(20)
    path = world.paths["controller"]
    path.answers.clear()
    await world.set_ready("nat-0", ready=False)
    await settle(1)
    path.is_cut.set()
    path.answers.set()
    await world.set_ready("nat-0", ready=True)
    await settle(1)
    path.is_cut.clear()
    await settle(60)
    assert world.moves() == ({}, {})
    assert world.scrape().value("persistip_moves_under_way") == 0


# ---------------------------------------------------------------- the rest of the controller


async def test_quiet_cluster_writes_nothing_and_says_so(world: World) -> None:
    """Once all is settled no write is counted, and everything counted was done."""
    await world.start()
    before = world.scrape().by("persistip_api_actions_total", "action")
    assert before["CreateAttachment"] == 1
    await settle(600)
    assert world.scrape().by("persistip_api_actions_total", "action") == before
    assert set(world.scrape().by("persistip_api_actions_total", "outcome")) <= {"done", "stale"}
    assert world.scrape().value("persistip_queue_depth") == 0
    assert world.scrape().value("persistip_queue_wait_seconds_count") > 0


async def test_failing_writes_are_told_by_kind_and_outcome(world: World) -> None:
    """A write that fails counts as failed, and its key as one that is tried again."""
    await world.start()
    world.paths["controller"].answers.clear()
    await world.delete("Pod", "tenant", "nat-0")
    await settle(1)
    world.paths["controller"].is_cut.set()
    world.paths["controller"].answers.set()
    await settle(1)
    found = world.scrape()
    assert found.value("persistip_api_actions_total", action="ReplaceAttachment", outcome="failed") >= 1
    assert found.value("persistip_queue_retries_total", kind="GKEIPRoute") >= 1
    assert found.by("persistip_passes_total", "result")["failed"] >= 1


async def test_break_of_the_watch_is_told(world: World) -> None:
    """A gap, its end and the lists that follow are counted, and readiness ends and returns with them."""
    await world.start()
    for name, worker in (("controller", world.controller), ("node-a", world.agents["node-a"])):
        assert worker.why_unready() is None
        before = world.scrape(name)
        assert before.value("persistip_cluster_synced") == 1
        world.paths[name].is_cut.set()
        await settle(1)
        assert world.scrape(name).value("persistip_cluster_synced") == 0
        assert world.scrape(name).value("persistip_source_gaps_total", source="cluster") >= 1
        if worker is world.controller:
            assert worker.why_unready() == "not everything in the cluster is observed"
        world.paths[name].is_cut.clear()
        await settle(60)
        assert worker.why_unready() is None
        assert world.scrape(name).value("persistip_cluster_synced") == 1
        relists = ("persistip_relists_total", {"kind": "AddressAttachment"})
        assert world.scrape(name).value(relists[0], **relists[1]) > before.value(relists[0], **relists[1])


async def test_standby_is_ready_and_says_that_it_does_not_lead(world: World) -> None:
    """Of two replicas one leads; both have observed everything; after a stop the other has gained the lead."""
    world.controller = world.new_controller(
        "controller", Election(MemoryCluster(world.store).lease("infra", "one"), "first", CLOCK)
    )
    standby = world.new_controller(
        "second", Election(MemoryCluster(world.store).lease("infra", "one"), "second", CLOCK)
    )
    await world.start()
    await world.stack.enter_async_context(standby)
    await settle()
    assert [world.scrape(name).value("persistip_leading") for name in ("controller", "second")] == [1, 0]
    assert (world.controller.why_unready(), standby.why_unready()) == (None, None)
    await settle(300)
    await world.controller.stop()
    await settle()
    assert world.scrape("second").value("persistip_leading") == 1
    assert world.scrape("second").value("persistip_leadership_changes_total", change="gained") == 1
    # What had waited while it stood by did not wait for its workers.
    waited = world.scrape("second").value("persistip_queue_wait_seconds_sum")
    assert waited < 5
    assert standby.why_unready() is None


async def test_object_that_cannot_be_read_is_counted(world: World) -> None:
    """A broken object is counted by its kind, and the others are served."""
    await world.start()
    broken = from_model(builders.route("broken"))
    broken["spec"]["addresses"] = "none"
    metadata = {key: value for key, value in broken["metadata"].items() if key != "resourceVersion"}
    await world.store.create({**broken, "metadata": metadata})
    await settle()
    assert world.scrape().value("persistip_unreadable_objects_total", kind="GKEIPRoute") >= 1


# ---------------------------------------------------------------- the agent


async def test_agent_tells_what_it_has_programmed_and_what_is_in_its_way(world: World) -> None:
    """Entries, looks, announcements, the time until programmed, and what is in its way, each with its number."""
    await world.start()
    found = world.scrape("node-a")
    assert found.value("persistip_agent_entries", state="programmed") == len(world.fabric.node("node-a").entries) > 0
    assert found.value("persistip_agent_attachments", role="held") == 1
    assert found.value("persistip_agent_announcements_total") == found.value("persistip_agent_announcing") == 1
    assert found.value("persistip_agent_look_seconds_count") >= found.value("persistip_agent_pass_seconds_count") > 0
    assert found.value("persistip_agent_program_seconds_count") == 1
    assert found.value("persistip_agent_actions_total", action="PutEntry", outcome="done") >= 1
    assert found.value("persistip_api_actions_total", action="ReportNode", outcome="done") == 1
    assert found.value("persistip_agent_foreign_obstacles") == 0
    world.fabric.obstruct("node-a", ADDRESS, "a foreign route")
    await settle(40)
    found = world.scrape("node-a")
    assert found.value("persistip_agent_foreign_obstacles") == 1


async def test_agent_is_ready_once_it_has_looked(world: World) -> None:
    """Before its first list, and while its kernel cannot be looked at, an agent says what it lacks."""
    agent = world.agents["node-a"]
    assert agent.why_unready() == "not every attachment has been observed yet"
    await world.start()
    assert agent.why_unready() is None

    async def blind(_: object) -> None:
        raise UnavailableError("blind")

    agent._datapath.observe = blind  # type: ignore[assignment,method-assign]
    await settle(60)
    assert "cannot be looked at: blind" in (agent.why_unready() or "")
    assert world.scrape("node-a").value("persistip_agent_passes_total", result="failed") >= 1
    assert agent.why_unhealthy() is None


# ---------------------------------------------------------------- the watchdog


async def test_idle_processes_are_healthy_for_hours(world: World) -> None:
    """Nothing to do is no dead loop."""
    await world.start()
    await settle(7200)
    assert world.controller.why_unhealthy() is None
    assert world.agents["node-a"].why_unhealthy() is None


async def test_api_that_cannot_be_reached_is_no_dead_loop(world: World) -> None:
    """What a restart cannot mend asks for none."""
    await world.start()
    for path in world.paths.values():
        path.is_cut.set()
    await settle(900)
    assert world.controller.why_unhealthy() is None
    assert world.agents["node-a"].why_unhealthy() is None


async def test_step_that_never_ends_is_told(world: World) -> None:
    """A worker or a pass that hangs is late after five minutes, and by name."""
    await world.start()
    world.paths["controller"].answers.clear()
    never = asyncio.Event()

    async def hang(_: object) -> None:
        await never.wait()

    world.agents["node-a"]._datapath.observe = hang  # type: ignore[assignment,method-assign]
    await world.delete("Pod", "tenant", "nat-0")
    await settle(200)
    assert world.controller.why_unhealthy() is None
    assert world.agents["node-a"].why_unhealthy() is None
    await settle(200)
    assert (world.controller.why_unhealthy() or "").startswith("worker-")
    assert (world.agents["node-a"].why_unhealthy() or "").startswith("passes is ")


@pytest.mark.parametrize("loop", ["worker-3", "changes"])
async def test_loop_that_ended_is_told(world: World, loop: str) -> None:
    """A loop that is gone, though nobody asked for a stop, is told by name."""
    await world.start()
    (task,) = (each for each in asyncio.all_tasks() if each.get_name() == loop)
    task.cancel()
    await settle()
    assert world.controller.why_unhealthy() == f"{loop} has ended"


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(("name", "process"), [("controller", Process.CONTROLLER), ("node-a", Process.AGENT)])
async def test_scrape_holds_the_metrics_of_the_code_and_bounded_labels(
    world: World, name: str, process: Process
) -> None:
    """After a busy run each metric is there with its type and text, and no label says whose objects these are."""
    await world.start()
    await world.add_pod("nat-1", "node-b", "10.0.1.2")
    await settle(30)
    await world.delete("Pod", "tenant", "nat-1")
    await world.delete("GKEIPRoute", "tenant", "nat-0")
    await settle(60)
    mine = {each.name: each for each in METRICS if each.process in (process, Process.BOTH)}
    # With an instant of its own for each, unless whoever runs the process switches that off.
    families = {key: each for key, each in world.scrape(name).families.items() if not key.endswith("_created")}
    assert {each.removesuffix("_total") for each in mine} | {"persistip_build_info"} == set(families)
    for metric in mine.values():
        family = families[metric.name.removesuffix("_total")]
        assert family.documentation == metric.means
        assert family.type == type(metric).__name__.lower()
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "le"}
            assert set(labels) == {label.name for label in metric.labels} or not metric.labels
            for label in metric.labels:
                assert labels[label.name] in label.values
    text = world.told[name].text()
    for named in ("nat-0", "nat-1", "tenant", "node-a", "203.0.113"):
        assert named not in text
