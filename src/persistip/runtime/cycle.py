"""
What is one pass?

    observe ──> decide ──> act ──> report
    a view      a plan     one     what stands now
    is cut      is pure    write

In: a key of the cluster, or a node.  Out: how it went, and when to look again though nothing changes.
Everything the system does, it does in one of the two passes below. They hold no rule of the domain, only the order of
things: the next view contains what was just written; nobody announces what he may not; nothing is reported that was not
read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs

from persistip.decide.catalog import Catalog
from persistip.decide.cloud import is_left
from persistip.decide.plan_gateway import plan_class, plan_gateway
from persistip.decide.plan_node import NodePlan, node_scope, plan_node
from persistip.decide.plan_route import RoutePlan, plan_route
from persistip.decide.versions import Written
from persistip.errors import BackendError
from persistip.model.actions import (
    ClusterAction,
    ConfirmNodeGone,
    DatapathAction,
    ForgetPin,
    Outcome,
    OutcomeState,
    PutEntry,
    RecordEvent,
    RemoveEntry,
    ReportNode,
)
from persistip.model.attachment import AddressAttachment
from persistip.model.entry import Announcement, Entry, NodeState
from persistip.model.keys import ObjectKey
from persistip.model.views import ClassView, GatewayView, NodeView, RouteView
from persistip.runtime.allowance import Allowance
from persistip.runtime.execute import Result, execute_cluster, execute_node
from persistip.runtime.metrics import (
    AGENT_ACTIONS,
    AGENT_ANNOUNCEMENT_FAILURES,
    AGENT_ANNOUNCEMENTS,
    AGENT_ANNOUNCING,
    AGENT_ENTRIES,
    AGENT_LOOK_SECONDS,
    AGENT_OBSTACLES,
    AGENT_UNFINISHED,
    API_ACTIONS,
    Silence,
    Telemetry,
    outcome_label,
)
from persistip.runtime.moves import Moves
from persistip.runtime.outcomes import Outcomes
from persistip.runtime.provisioning import Provisioner
from persistip.runtime.retry import outcome_of
from persistip.runtime.telemetry import log_outcome
from persistip.strategies import Announcer, Clock, Cluster, Datapath

EVENT_BURST = 25
EVENTS_PER_SECOND = 1 / 300
"""About one object: some at once, then one in five minutes, as client-go has it."""


class Plan(Protocol):
    """What the plans for objects of the cluster have in common."""

    @property
    def actions(self) -> tuple[ClusterAction, ...]:
        """What to do, in order."""
        ...

    @property
    def recheck_at(self) -> float | None:
        """When to plan again though nothing changes."""
        ...


@attrs.frozen(kw_only=True)
class Pass:
    """
    How one pass went.

    ``outcomes`` are those of what was done and of what remains to be done; a pass without any found nothing to do.
    """

    outcomes: tuple[Outcome, ...] = ()
    recheck_at: float | None = None

    @property
    def is_quiet(self) -> bool:
        """Everything was as it should be."""
        return not self.outcomes

    @property
    def is_failed(self) -> bool:
        """Something was not done."""
        return any(not outcome.is_done for outcome in self.outcomes)


@attrs.frozen(kw_only=True)
class ObjectCycle:
    """
    The controller's pass, for one GatewayClass, Gateway or route.

        catalog ──view──> plan ──actions──> Cluster.apply ──┐       what the cloud is to hold ──> Provisioner,
           ▲                                                │       which tells the next view what it holds
           └──── the object as written: keys touched ◄──────┘
    """

    catalog: Catalog
    cluster: Cluster
    clock: Clock
    outcomes: Outcomes[ObjectKey, str]
    touch: Callable[[Iterable[ObjectKey]], None]
    events: Allowance[ObjectKey] = attrs.field(factory=lambda: Allowance(EVENT_BURST, EVENTS_PER_SECOND))
    """How many Events each object may have, whoever's plan they are of."""
    telemetry: Telemetry = Silence()
    moves: Moves = attrs.field(factory=lambda: Moves(Silence()))
    provisioner: Provisioner | None = None
    """Who keeps the cloud as plans want it; None: there is no cloud."""

    def view(self, key: ObjectKey) -> RouteView | GatewayView | ClassView:
        """All that a decision about *key* may look at now."""
        view = self.catalog.view(key, self.clock.now(), self.outcomes.of(key))
        if self.provisioner is None or not isinstance(view, RouteView):
            return view
        return attrs.evolve(view, cloud=self.provisioner.state(key))

    async def run(self, key: ObjectKey, waited_seconds: float = 0.0) -> Pass:
        """Look, decide, act, in this order and once; what made it due happened *waited_seconds* ago."""
        view = self.view(key)
        now = view.now
        plan = decide(view)
        if isinstance(plan, RoutePlan) and self.provisioner is not None and view.unreadable is None:
            # What the cloud is to do rests on what is written, so it need not wait for what this plan writes.
            self.provisioner.want(key, plan.cloud)
            if isinstance(view, RouteView) and view.facts is None and view.attachment is None and is_left(view):
                self.provisioner.forget(key)
        if isinstance(view, RouteView):
            self.moves.look(view, plan.actions, now - waited_seconds)
        outcomes: list[Outcome] = []

        def note(result: Result[ClusterAction]) -> None:
            outcomes.append(result.outcome)
            self.outcomes.record(key, type(result.action).__name__, result.outcome)
            log_outcome(result.action, result.outcome, object=str(key))
            label = outcome_label(result.outcome.state, is_stale=result.outcome.stale)
            self.telemetry.count(API_ACTIONS, type(result.action).__name__, label)
            # What we wrote is part of the very next view, whichever key that is of; the watch will say it again.
            if isinstance(result.outcome.written, Written):
                self.touch(self.catalog.absorb(result.outcome.written))
            if isinstance(result.action, ConfirmNodeGone) and result.outcome.is_done:
                self.touch(self.catalog.confirm(result.action))

        await execute_cluster(self.cluster, self._within_allowance(plan.actions), note)
        if not plan.actions:
            self.outcomes.forget(key)
        return Pass(outcomes=tuple(outcomes), recheck_at=plan.recheck_at)

    def _within_allowance(self, actions: Iterable[ClusterAction]) -> tuple[ClusterAction, ...]:
        """Without the Events that would be too many about one object; the conditions still say how it stands."""
        now = asyncio.get_running_loop().time()
        return tuple(
            action
            for action in actions
            if not isinstance(action, RecordEvent) or self.events.may(action.regarding, now)
        )


def decide(view: RouteView | GatewayView | ClassView) -> Plan:
    """The plan for a view, whatever it is of."""
    match view:
        case RouteView():
            return plan_route(view)
        case GatewayView():
            return plan_gateway(view)
        case ClassView():
            return plan_class(view)


@attrs.define(kw_only=True)
class NodeCycle:
    """
    The agent's pass, for its whole node.

        be silent ──> observe ──> decide ──> act ──┐            announce ──> report ──> log
        what is no       ▲                         │               ▲
        longer ours      └─── read back ◄──────────┘ ── all stands ┘

    One pass for all attachments of a node: what is owned and in none of them goes, which only the whole can tell.
    """

    node_name: str
    attachments: Callable[[], tuple[AddressAttachment, ...]]
    is_complete: Callable[[], bool]
    """Whether every attachment could be read: nothing is owned by none of them while one says nobody knows what."""
    datapath: Datapath
    announcer: Announcer
    clock: Clock
    report: Callable[[Sequence[ReportNode]], None]
    rounds: int
    telemetry: Telemetry = Silence()
    _state: NodeState = attrs.field(factory=NodeState, init=False)
    _announced: frozenset[Announcement] = attrs.field(factory=frozenset, init=False)
    _announcer_is_known: bool = attrs.field(default=True, init=False)
    _outcomes: Outcomes[str, Entry] = attrs.field(factory=Outcomes, init=False)
    _unlogged: list[Result[DatapathAction]] = attrs.field(factory=list, init=False)

    async def run(self) -> Pass:
        """One pass; raises BackendError when the kernel cannot be looked at."""
        try:
            return await self._pass()
        finally:
            # Last: traffic may be waiting for the announcement, and nobody waits for the log.
            results, self._unlogged = self._unlogged, []
            for result in results:
                log_outcome(result.action, result.outcome, node=self.node_name)

    async def _pass(self) -> Pass:
        # By what the kernel was last: who may no longer speak is silent also when it cannot be looked at now.
        outcomes = await self._silence(plan_node(self._view(self.attachments())))
        plan, remaining = await self._settle()
        outcomes += await self._announce(plan.announcements)
        self.report(plan.reports)
        return Pass(outcomes=(*outcomes, *remaining), recheck_at=plan.recheck_at)

    async def _settle(self) -> tuple[NodePlan, list[Outcome]]:
        """
        Look, decide, act and look again, until nothing is left that this pass has not tried.

        The plan returned was decided on a look after the last action; with it the outcomes of what remains undone.
        """
        tried: dict[DatapathAction, Outcome] = {}
        plan = await self._look()
        for _ in range(self.rounds):
            if all(action in tried for action in plan.actions):
                break
            for result in await execute_node(self.datapath, plan.actions, tried):
                tried[result.action] = result.outcome
                self._unlogged.append(result)
                label = outcome_label(result.outcome.state, is_stale=result.outcome.stale)
                self.telemetry.count(AGENT_ACTIONS, type(result.action).__name__, label)
                if isinstance(result.action, PutEntry):
                    self._outcomes.record(self.node_name, result.action.entry, result.outcome)
            plan = await self._look()
        self.telemetry.set(AGENT_UNFINISHED, len(plan.actions))
        self.telemetry.set(AGENT_ENTRIES, len(self._state.entries), "programmed")
        self.telemetry.set(AGENT_ENTRIES, len(self._state.stale), "stale")
        self.telemetry.set(AGENT_OBSTACLES, len(self._state.obstacles))
        return plan, [_left(tried.get(action)) for action in plan.actions]

    async def _look(self) -> NodePlan:
        """Observe and decide, both on the latest attachments: they may change while the kernel is looked at."""
        attachments = self.attachments()
        for _ in range(self.rounds):
            began_at = asyncio.get_running_loop().time()
            self._state = await self.datapath.observe(node_scope(attachments, self.node_name))
            self.telemetry.observe(AGENT_LOOK_SECONDS, asyncio.get_running_loop().time() - began_at)
            before, attachments = attachments, self.attachments()
            if before == attachments:
                break
        prefixes = {prefix for attachment in attachments for prefix in attachment.spec.claimed_prefixes}
        self._outcomes.keep(self.node_name, lambda entry: entry.prefix in prefixes)
        plan = plan_node(self._view(attachments))
        if not self.is_complete():
            plan = attrs.evolve(plan, actions=_without_orphans(plan.actions, attachments))
        await self._silence(plan)
        return plan

    def _view(self, attachments: tuple[AddressAttachment, ...]) -> NodeView:
        return NodeView(
            node_name=self.node_name,
            now=self.clock.now(),
            attachments=attachments,
            state=self._state,
            outcomes=self._outcomes.of(self.node_name),
        )

    async def _silence(self, plan: NodePlan) -> list[Outcome]:
        """Stop at once what *plan* does not want, start nothing."""
        return await self._announce(self._announced & plan.announcements)

    async def _announce(self, wanted: frozenset[Announcement]) -> list[Outcome]:
        if wanted == self._announced and self._announcer_is_known:
            return []
        new = len(wanted - self._announced)
        # A call that fails half-way has perhaps started what is new and perhaps not stopped what is old.
        self._announced, self._announcer_is_known = self._announced | wanted, False
        try:
            outcomes = list(await self.announcer.announce(wanted))
        except BackendError as error:
            outcomes = [outcome_of(error)]
        else:
            self._announced, self._announcer_is_known = wanted, True
        failed = [outcome for outcome in outcomes if not outcome.is_done]
        for outcome in failed:
            log_outcome(self.announcer, outcome, node=self.node_name)
        self.telemetry.count(AGENT_ANNOUNCEMENTS, by=max(new - len(failed), 0))
        self.telemetry.count(AGENT_ANNOUNCEMENT_FAILURES, by=len(failed))
        self.telemetry.set(AGENT_ANNOUNCING, len(self._announced))
        return outcomes


def _without_orphans(
    actions: Iterable[DatapathAction], attachments: Sequence[AddressAttachment]
) -> tuple[DatapathAction, ...]:
    """
    *actions* without removals of what no readable attachment speaks of.

    What is owned and in no attachment goes; but while one cannot be read, it may be that one's.
    """
    prefixes = {prefix for attachment in attachments for prefix in attachment.spec.claimed_prefixes}
    uids = {attachment.meta.uid for attachment in attachments}

    def is_known(action: DatapathAction) -> bool:
        match action:
            case RemoveEntry(entry=entry):
                return entry.prefix in prefixes
            case ForgetPin(pin=pin):
                return pin.attachment_uid in uids
            case _:
                return True

    return tuple(action for action in actions if is_known(action))


def _left(outcome: Outcome | None) -> Outcome:
    """What to say of an action that the plan still wants after its turn: "done" it is not."""
    if outcome is None:
        return Outcome(state=OutcomeState.FAILED, reason="NotYet", message="more to do than one pass may")
    if outcome.is_done:
        return Outcome(state=OutcomeState.FAILED, reason="NotStanding", message="done, but undone when read back")
    return outcome
