"""
How do many actions become few calls to the kernel?

In: actions and the working copy of the last look.  Out: one outcome each.
nftables messages and rtnetlink messages are queued apart and sent together, as far as the order of the actions
allows: nftables goes first in each flush, so a rule asked for after a route makes the queue be sent in between.
Kernel settings go before all: they only open what the rest relies on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from persistip.backends.linux import filtering, nft, program
from persistip.backends.linux.errors import error_from_code
from persistip.backends.linux.flows import forget_flows
from persistip.backends.linux.snapshot import Snapshot
from persistip.backends.linux.sockets import Message, NetlinkSocket, Refusal
from persistip.backends.linux.steps import Step, Steps, blocked
from persistip.backends.linux.sysctls import Setting
from persistip.errors import BackendError, StaleError
from persistip.model.actions import DONE, Outcome, OutcomeState, PutEntry, RemoveEntry
from persistip.model.conditions import Reason
from persistip.model.entry import ExemptEntry, LinkRef, RouteEntry


def outcome_of(error: BackendError) -> Outcome:
    """A failure as an outcome; ``stale`` where looking again may mend it."""
    return Outcome(
        state=OutcomeState.FAILED,
        reason=Reason.PROGRAMMING_FAILED,
        message=str(error),
        stale=isinstance(error, StaleError),
    )


@attrs.define
class _Queued:
    """Messages that wait for the next flush, each with the place of its action."""

    rules: list[tuple[int, Message]] = attrs.field(factory=list)
    routes: list[tuple[int, Step]] = attrs.field(factory=list)


class Execution:
    """One run over some actions; *snapshot* is brought along with what is sent."""

    def __init__(
        self,
        route: NetlinkSocket,
        netfilter: NetlinkSocket,
        snapshot: Snapshot,
        raise_settings: Callable[[Iterable[Setting]], None],
    ) -> None:
        self._route = route
        self._netfilter = netfilter
        self._snapshot = snapshot
        self._raise_settings = raise_settings
        self._queued = _Queued()
        self._preparation: list[Message] = []
        self._outcomes: list[Outcome] = []

    def run(self, actions: Sequence[PutEntry | RemoveEntry], unpinned: set[tuple[LinkRef, str]]) -> list[Outcome]:
        """
        Carry out *actions* in order.

        Raises BackendError where answers were lost; what became of the actions is then unknown.
        """
        self._outcomes = [DONE] * len(actions)
        self._preparation = self._ensure_rules(actions)
        for place, action in enumerate(actions):
            entry = action.entry
            if (
                isinstance(action, PutEntry)
                and isinstance(entry, RouteEntry)
                and (entry.link, entry.hardware_address) in unpinned
            ):
                self._outcomes[place] = blocked("its pin could not be recorded")
                continue
            steps = program.plan_action(action, self._snapshot)
            if isinstance(steps, Outcome):
                self._outcomes[place] = steps
            else:
                self._enqueue(place, steps)
        self._flush()
        self._preparation = filtering.forget_lost(self._snapshot)
        for rules in (self._snapshot.port_rules, self._snapshot.rules):
            self._preparation += filtering.drop_rules(rules)
        self._flush()
        self._forget_flows(actions)
        return self._outcomes

    def _forget_flows(self, actions: Sequence[PutEntry | RemoveEntry]) -> None:
        """
        Last of all: what an exemption has done to open flows goes with it, and no rule is left to do it again.

        As goes what was done without one when it comes: a former holder here that still sends, masqueraded by others,
        keeps an entry alive that the next holder's own flow would fall into. The guard, put before, lets none of its
        packets make another.
        """
        exempt = self._snapshot.rules.exempt
        for place, action in enumerate(actions):
            entry = action.entry
            if isinstance(entry, ExemptEntry) and (entry.prefix in exempt) == isinstance(action, PutEntry):
                try:
                    forget_flows(self._netfilter, (entry.prefix,))
                except BackendError as error:
                    self._outcomes[place] = outcome_of(error)

    def _ensure_rules(self, actions: Sequence[PutEntry | RemoveEntry]) -> list[Message]:
        """Each of our tables is made whole if it is there, or if one of *actions* needs it."""
        snapshot = self._snapshot
        entries = [action.entry for action in actions if isinstance(action, PutEntry)]
        messages: list[Message] = []
        if snapshot.rules.is_present or entries:
            messages += filtering.ensure_rules(snapshot.rules, snapshot.uplink_indexes)
        if snapshot.port_rules.is_present or any(filtering.needs_port_rules(entry, snapshot) for entry in entries):
            messages += filtering.ensure_rules(snapshot.port_rules, snapshot.uplink_ports)
        return messages

    def _enqueue(self, place: int, steps: Steps) -> None:
        self._outcomes[place] = steps.outcome
        if steps.settings:
            try:
                self._raise_settings(steps.settings)
            except BackendError as error:
                self._outcomes[place] = outcome_of(error)
        if steps.rules and self._queued.routes and not steps.is_record:
            self._flush()
        self._queued.rules += [(place, message) for message in steps.rules]
        self._queued.routes += [(place, step) for step in steps.routes]

    def _flush(self) -> None:
        queued, self._queued = self._queued, _Queued()
        preparation, self._preparation = self._preparation, []
        if preparation or queued.rules:
            messages = [*preparation, *(message for _place, message in queued.rules)]
            refusal = nft.commit(self._netfilter, messages)
            if refusal is not None:
                # One transaction: nothing of it was done. Which action is at fault shows when each is tried alone.
                for place in {place for place, _message in queued.rules} or range(len(self._outcomes)):
                    self._refuse(place, refusal, "nftables")
        answers = self._route.request([step.message for _place, step in queued.routes])
        for (place, step), answer in zip(queued.routes, answers, strict=True):
            if answer is not None and answer.code not in step.tolerated:
                self._refuse(place, answer, "rtnetlink")

    def _refuse(self, place: int, refusal: Refusal, target: str) -> None:
        if self._outcomes[place].state is not OutcomeState.FAILED:
            self._outcomes[place] = outcome_of(error_from_code(refusal.code, refusal.text, "program", target))
