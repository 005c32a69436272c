"""
What happens if everything goes wrong at once, and is every promise kept?

In: a seed, or a scenario and a seed.  Out: a Report with the violations and the trace.

    draw a scenario ──> play step by step, judged at every write and every kernel change ──> faults stop
                                                                    wait ──> judge the rest ──> wait: no more writes

Whole controllers and agents run in one thread and in virtual time; the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from random import Random

import attrs

from persistip.agent import Agent
from persistip.backends.memory import (
    MemoryAnnouncer,
    MemoryCloud,
    MemoryCluster,
    MemoryDatapath,
    MemoryFabric,
    MemoryStore,
)
from persistip.backends.static import StaticAllocator
from persistip.controller import Controller
from persistip.model.attachment import AddressAttachment, NodeReport
from persistip.model.conditions import find_condition
from persistip.model.route import GKEIPRoute
from persistip.settings import AgentSettings, ControllerSettings
from persistip.strategies import AddressAllocator, Announcer, Datapath, ReactionMode
from persistip.testing.builders import START
from persistip.testing.simulation import others, steps, troubles
from persistip.testing.simulation.facts import Facts
from persistip.testing.simulation.kernels import KernelJudge
from persistip.testing.simulation.network import Door, Ledger, Network, Weather, Written
from persistip.testing.simulation.processes import (
    HeardCluster,
    JudgedAnnouncer,
    Knowledge,
    Process,
    SlowDatapath,
    own_tasks,
)
from persistip.testing.simulation.promises import WriteJudge, brief, name_of
from persistip.testing.simulation.rest import RestJudge
from persistip.testing.simulation.site import EXCUSED_SECONDS, MACHINES, USER, Machine, Site
from persistip.testing.simulation.steps import Step, draw, play
from persistip.testing.simulation.trace import Trace, Violation
from persistip.testing.virtualtime import LoopClock, VirtualTimeLoop

STEPS = 40
KINDS_OF_STEP = (steps, troubles, others)
"""The modules in which kinds of step are registered, by being imported."""
WRITE_BURST = 10
"""How often a controller may write one object at once: two leaders that disagree say all they have to say in fewer."""
SETTLE_SECONDS = 180.0 + EXCUSED_SECONDS
QUIET_SECONDS = 120.0
_TICK_SECONDS = 0.5
_SHOWN_LINES = 80


@attrs.frozen(kw_only=True)
class Options:
    """
    What of yours is put in the place of ours.

    *modes* make plugged-in reaction modes, which half of the routes then ask for; like *allocator* they are made anew
    for each life of a controller. *cloud_seconds*: instead of an allocator, a cloud in which every change takes a time
    between these two; what is asked of it goes on when the controller dies. *datapath* and *announcer* are made anew
    for each life of an agent, on a node of the memory fabric; what must outlive the agent belongs outside of them.
    """

    modes: Mapping[str, Callable[[], ReactionMode]] = attrs.field(factory=dict)
    allocator: Callable[[], AddressAllocator] = StaticAllocator
    cloud_seconds: tuple[float, float] | None = None
    datapath: Callable[[MemoryFabric, str], Datapath] = MemoryDatapath
    announcer: Callable[[MemoryFabric, str], Announcer] = MemoryAnnouncer
    steps: int = STEPS


@attrs.frozen(kw_only=True)
class Report:
    """How a run went."""

    seed: int
    scenario: tuple[Step, ...]
    violations: tuple[Violation, ...]
    trace: tuple[str, ...]
    writes: int

    @property
    def is_good(self) -> bool:
        """Every promise was kept."""
        return not self.violations

    def __str__(self) -> str:
        if self.is_good:
            return f"seed {self.seed}: {self.writes} writes, every promise kept"
        shown = [line for line in self.trace if "status of Gateway" not in line]
        left_out = [f"... {len(shown) - _SHOWN_LINES} lines before"] if len(shown) > _SHOWN_LINES else []
        return "\n".join([f"seed {self.seed}:", *map(str, self.violations), *left_out, *shown[-_SHOWN_LINES:]])


class Simulation:
    """One run: the world, the processes, the judges."""

    def __init__(self, seed: int, options: Options) -> None:
        self.random = Random(f"weather of {seed}")
        self._order = Random(f"order of {seed}")
        self._ordered_at = 0
        self.options = options
        self.modes = options.modes
        self.trace = Trace()
        self.clock = LoopClock(START)
        uids = iter(range(1, 1 << 30))
        self.ledger = Ledger(MemoryStore(self.clock, new_uid=lambda: f"uid-{next(uids)}"), self.trace)
        self.weather = Weather.draw(self.random)
        self.network = Network(self.ledger, self.weather, self.random, self.trace)
        self.site = Site(self.ledger, self.random, self.trace, self.clock.now)
        self.facts = Facts(self.network)
        self._writes = WriteJudge(self.ledger, self.site, self.facts, self.trace)
        self._kernels = KernelJudge(self.ledger, self.site, self.trace)
        self.ledger.listeners += [self._describe, self.facts.take, self._writes.judge, self._kernels.judge_write]
        self._controllers: list[Process] = []
        self._agents: dict[str, Process] = {}
        self._lives = 0
        self.cloud: MemoryCloud | None = None
        if (seconds := options.cloud_seconds) is not None:
            # Of its own, so that a run without a cloud meets the weather that it always met.
            pace = Random(f"cloud of {seed}")
            self.cloud = cloud = MemoryCloud(lambda: pace.uniform(*seconds))
            self.site.fabric.leads = lambda ip: cloud.leader(ip_network(ip))
        self.is_at_rest = False

    # ------------------------------------------------------------ processes
    def processes(self) -> list[Process]:
        """All that live."""
        return [each for each in (*self._controllers, *self._agents.values()) if each.is_alive]

    def fresh_modes(self) -> dict[str, ReactionMode]:
        """The plugged-in modes, as a new process has them."""
        return {name: make() for name, make in self.options.modes.items()}

    def lead(self) -> Process:
        """A new controller process leads."""
        self._lives += 1

        async def main() -> None:
            cluster = MemoryCluster(Door(self.network, process.name, process.link))
            settings = ControllerSettings(grace_seconds=0.0, write_burst=WRITE_BURST)
            allocator = self.options.allocator() if self.cloud is None else self.cloud.allocator()
            worker = Controller(cluster, allocator, self.fresh_modes(), settings=settings, clock=self.clock)
            await worker.run()

        process = Process(f"controller-{self._lives}", main, self.trace)
        self.trace.note(process.name, "leads")
        self._controllers.append(process)
        process.start()
        return process

    async def lead_if_nobody_does(self) -> None:
        """Somebody leads."""
        if not any(each.is_alive for each in self._controllers):
            self.lead()

    async def crash_leader(self) -> None:
        """Whoever leads dies."""
        for each in self._controllers:
            if each.is_alive:
                self.trace.note(each.name, "dies")
                await each.kill()
        self._controllers = []

    async def depose(self, *, after: float) -> None:
        """The leader's writes of the next *after* seconds are late; then it dies, and at once another leads."""
        deposed = [each for each in self._controllers if each.is_alive]
        for each in deposed:
            each.link.is_slow = True
        await asyncio.sleep(after)
        for each in deposed:
            self.trace.note(each.name, "is deposed")
            await each.kill()
        if deposed:
            self._controllers = [each for each in self._controllers if each.is_alive]
            self.lead()

    def hand_over(self, *, overlap: float) -> None:
        """Another leads; the old leader dies only *overlap* seconds later."""
        deposed = [each for each in self._controllers if each.is_alive]
        self.lead()

        async def end(process: Process) -> None:
            if process.is_alive:
                self.trace.note(process.name, "is deposed")
                await process.kill()

        for each in deposed:
            self.site.later(overlap, end, each)

    def start_agent(self, node: str) -> None:
        """A new agent process on a node."""
        self._lives += 1
        knowledge = Knowledge()

        async def main() -> None:
            door = Door(self.network, process.name, process.link)
            worker = Agent(
                node,
                HeardCluster(MemoryCluster(door, node_name=node), knowledge),
                SlowDatapath(self.options.datapath(self.site.fabric, node), self.network, self._kernels.judge),
                JudgedAnnouncer(self.options.announcer(self.site.fabric, node), self._kernels.judge),
                settings=AgentSettings(grace_seconds=0.0),
                clock=self.clock,
            )
            await worker.run()

        process = Process(f"agent-{node}", main, self.trace)
        self._agents[node] = process
        self._kernels.knowledge[node] = knowledge
        process.start()

    async def crash_agent(self, node: str, *, back_after: float | None) -> None:
        """An agent dies, and with it its announcements; *back_after* seconds later there is a new one."""
        process = self._agents.get(node)
        if process is not None and process.is_alive:
            self.trace.note(process.name, "dies")
            await process.kill()
            self._kernels.knowledge.pop(node, None)
            self.site.fabric.node(node).announced = frozenset()
        if back_after is not None:
            self.site.later(back_after, self._revive, node)

    async def _revive(self, node: str) -> None:
        process = self._agents.get(node)
        if self.site.machines[node].is_on and (process is None or not process.is_alive):
            self.trace.note(f"agent-{node}", "starts")
            self.start_agent(node)

    async def power_off(self, machine: Machine) -> None:
        """A machine stops, with all that runs there."""
        await self.crash_agent(machine.name, back_after=None)
        self.site.power_off(machine)

    async def power_on(self, machine: Machine) -> None:
        """A machine boots."""
        await self.site.power_on(machine)
        await self._revive(machine.name)

    # ------------------------------------------------------------ the run
    async def run(self, scenario: Sequence[Step]) -> None:
        """Play, calm down, judge."""
        await self.site.furnish()
        self.lead()
        for node in MACHINES:
            self.start_agent(node)
        ticking = asyncio.create_task(self._tick())
        try:
            for each in scenario:
                await play(self, each)
                await asyncio.sleep(each.wait)
                self._look_at_packets()
                self._judge_order()
                if self.trace.violations:
                    return
            await self._come_to_rest()
        finally:
            ticking.cancel()
            for process in self.processes():
                await process.kill()

    async def _come_to_rest(self) -> None:
        self.trace.note("weather", "faults stop")
        self.weather.calm()
        await self.site.settle()
        self.is_at_rest = True
        for process in self.processes():
            process.link.is_cut = False
            process.link.behind_until.clear()
        await self.lead_if_nobody_does()
        for node in MACHINES:
            await self._revive(node)
        await asyncio.sleep(SETTLE_SECONDS)
        if self.trace.violations:
            return
        self._judge_rest()
        revision = self.ledger.store.revision
        before = len(self.trace.lines)
        await asyncio.sleep(QUIET_SECONDS)
        if self.ledger.store.revision != revision:
            said = f"{self.ledger.store.revision - revision} writes at rest: {self.trace.lines[before:][:3]}"
            self.trace.accuse("P3", self.is_quiet_at_rest, said)
        self._judge_rest()

    def is_quiet_at_rest(self) -> None:
        """Names the check; the run itself does it."""

    def _judge_rest(self) -> None:
        judge = RestJudge(
            self.ledger,
            self.site,
            self.trace,
            modes=self.fresh_modes,
            random=self.random,
            now=self.clock.now(),
            cloud=self.cloud,
        )
        judge.judge()

    def _judge_order(self) -> None:
        """What the objects of this moment come to does not depend on the order in which a process hears of them."""
        if self.ledger.store.revision != self._ordered_at:
            self._ordered_at = self.ledger.store.revision
            judge = RestJudge(
                self.ledger, self.site, self.trace, modes=self.fresh_modes, random=self._order, now=self.clock.now()
            )
            judge.order_of_events_is_without_effect()

    async def _tick(self) -> None:
        """What time does: announcements are repeated, caches run out, and everything is looked at."""
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_SECONDS * (20 if self.is_at_rest else 1))
            ticks += 1
            self.site.fabric.repeat_announcements()
            if ticks % 20 == 0:
                self.site.fabric.forget_neighbours()
            self._look_at_packets()

    def _look_at_packets(self) -> None:
        self._kernels.packet_reaches_a_holder()
        self._kernels.nobody_else_sends_from_it()
        self._kernels.replies_get_out()

    # ------------------------------------------------------------ the trace
    def _describe(self, written: Written) -> None:
        if written.actor == USER:
            return
        new, old = written.new, written.old
        match new or old:
            case AddressAttachment() as found:
                self.trace.note(written.actor, f"{name_of(found)}: {_what_changed(old, new)}")
            case GKEIPRoute() as found:
                ready = find_condition(found.status.conditions, "Ready")
                said = f"Ready {ready.status}, {ready.reason}" if ready is not None else "no condition"
                self.trace.note(written.actor, f"status of {found.key.path}: {said}")
            case _:
                self.trace.note(written.actor, f"status of {written.key}")


def _what_changed(old: object, new: object) -> str:
    if not isinstance(new, AddressAttachment):
        return "is gone"
    if not isinstance(old, AddressAttachment):
        return f"created: {brief(new.spec)}"
    if old.spec != new.spec:
        return brief(new.spec)
    changed = [each for each in new.nodes if each not in old.nodes]
    if changed:
        return ", ".join(_report(each) for each in changed)
    return "is being deleted" if new.meta.is_terminating else "metadata or status entries changed"


def _report(report: NodeReport) -> str:
    return (
        f"{report.node_name} is {report.state} at epoch {report.epoch % 10_000_000}, "
        f"released {report.released % 10_000_000} {report.reason}"
    ).rstrip()


class _Faults(logging.Handler):
    """Whatever our code logs as an error is a fault of ours."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.ERROR)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        """Accuse."""
        error = record.exc_info[1] if record.exc_info else None
        self._trace.accuse("P7", self.emit, f"{record.getMessage()}: {type(error).__name__}: {error}")


@contextmanager
def _listening(trace: Trace) -> Iterator[None]:
    logger = logging.getLogger("persistip")
    level, propagate, handler = logger.level, logger.propagate, _Faults(trace)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def shorten(report: Report, options: Options | None = None, *, attempts: int = 60) -> Report:
    """The shortest scenario, found by leaving steps out, that breaks the same promise for the same check."""
    wanted = {each.check for each in report.violations}
    best, size = report, max(len(report.scenario) // 2, 1)
    while attempts > 0 and not report.is_good:
        start = 0
        while start < len(best.scenario) and attempts > 0:
            attempts -= 1
            tried = simulate(report.seed, options, (*best.scenario[:start], *best.scenario[start + size :]))
            if wanted & {each.check for each in tried.violations}:
                best = tried
            else:
                start += size
        if size == 1:
            break
        size = max(size // 2, 1)
    return best


def simulate(seed: int, options: Options | None = None, scenario: Sequence[Step] | None = None) -> Report:
    """Run one seed; with *scenario*, that in the place of the seed's own."""
    chosen = options or Options()
    played = draw(Random(f"scenario of {seed}"), chosen.steps) if scenario is None else tuple(scenario)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.get_loop().set_task_factory(own_tasks)
        simulation = Simulation(seed, chosen)
        with _listening(simulation.trace):
            runner.run(simulation.run(played))
    return Report(
        seed=seed,
        scenario=played,
        violations=tuple(simulation.trace.violations),
        trace=tuple(simulation.trace.lines),
        writes=simulation.ledger.store.revision,
    )
