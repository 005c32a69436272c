"""
How is a plan carried out?

In: a plan's actions in order, the backend that can do them.  Out: one Result for each, whatever happens.
The rule: one failure stops only what depends on it, and what was stopped says so.

    object    decision ──> status, which speaks of it ──> Events, which tell how the status changed
    node       pins ──> guards, exemptions ──> routes ──> answers ──> removals of what they replace, in turn
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Generic, TypeVar

import attrs

from persistip.errors import BackendError, BugError
from persistip.model.actions import (
    ClusterAction,
    DatapathAction,
    ForgetPin,
    Outcome,
    OutcomeState,
    PutEntry,
    RecordEvent,
    RecordPin,
    RemoveEntry,
)
from persistip.model.address import Prefix, is_overlapping
from persistip.model.entry import Entry, ExemptEntry, GuardEntry, LinkRef, RouteEntry
from persistip.runtime.retry import outcome_of
from persistip.strategies import Cluster, Datapath

A = TypeVar("A")


@attrs.frozen
class Result(Generic[A]):
    """An action and what became of it."""

    action: A
    outcome: Outcome


async def execute_cluster(
    cluster: Cluster, actions: Iterable[ClusterAction], note: Callable[[Result[ClusterAction]], None]
) -> None:
    """
    Carry out a plan for one object; *note* is called with each result as soon as it is known.

    A plan for one object is a chain: each write is a call of its own, since nothing that speaks of it may go out before
    it stands, and since what it returned must be known to the next view at once. Events end the chain, and go together.
    """
    failed: Outcome | None = None
    for are_events, group in groupby(actions, key=lambda action: isinstance(action, RecordEvent)):
        for stage in [list(group)] if are_events else [[action] for action in group]:
            if failed is not None:
                outcomes: Sequence[Outcome] = [_stopped_by(failed)] * len(stage)
            else:
                outcomes = await _apply(cluster, stage)
            for action, outcome in zip(stage, outcomes, strict=True):
                note(Result(action, outcome))
                if not are_events and not outcome.is_done:
                    failed = failed or outcome


async def execute_node(
    datapath: Datapath, actions: Iterable[DatapathAction], tried: Mapping[DatapathAction, Outcome]
) -> list[Result[DatapathAction]]:
    """
    Carry out a plan for a kernel, in batches of actions that do not depend on each other; the order given is kept.

    *tried* are actions of the same pass that have had their turn: they are not repeated, but what depends on one that
    failed stays stopped.
    """
    failed = [Result(action, outcome) for action, outcome in tried.items() if not outcome.is_done]
    results: list[Result[DatapathAction]] = []
    for _, group in groupby((action for action in actions if action not in tried), key=_stage):
        batch: list[DatapathAction] = []
        for action in group:
            if (cause := _cause(action, failed)) is None:
                batch.append(action)
            else:
                results.append(Result(action, _stopped_by(cause)))
                # With its cause: what depends on this in turn is told what really failed.
                failed.append(Result(action, cause))
        outcomes = await _apply(datapath, batch) if batch else ()
        done = [Result(action, outcome) for action, outcome in zip(batch, outcomes, strict=True)]
        results += done
        failed += [result for result in done if not result.outcome.is_done]
    return results


def _cause(action: DatapathAction, failed: Collection[Result[DatapathAction]]) -> Outcome | None:
    """Why *action* must not be done: the outcome of a failed one on which it depends."""
    if not failed:
        return None
    match action:
        case PutEntry(entry=RouteEntry() | GuardEntry() as entry):
            # Without its pin on record, a restarted agent could take the next owner of the link for this Pod; and where
            # a route stood alone, every Pod could send from the address, or no reply would carry it.
            link, alone = entry.link, entry.prefix if isinstance(entry, RouteEntry) else None
            return _first(failed, lambda other: _pins(other, link) or _lets_send(other, alone))
        case PutEntry(entry=entry):
            # An address answers, and is let through, only when its packets can get no further than to its Pod.
            return _first(failed, lambda other: _leads(other, entry.prefix))
        case RemoveEntry(entry=entry, is_due=is_due):
            # Make before break: what carries the traffic stays while its replacement, of the same kind, does not stand.
            # What lets a Pod send, and nobody else, outlives the route beside it.
            return _first(failed, lambda other: (not is_due and _replaces(other, entry)) or _still_leads(other, entry))
        case ForgetPin(pin=pin):
            # A pin outlives the entries that rest on it.
            return _first(failed, lambda other: _removes_from(other, pin.link.index))
        case _:
            return None


def _first(failed: Iterable[Result[DatapathAction]], is_cause: Callable[[DatapathAction], bool]) -> Outcome | None:
    return next((result.outcome for result in failed if is_cause(result.action)), None)


def _stage(action: DatapathAction) -> tuple[type, type | None]:
    """Actions of one stage may go in one call, since none waits for another; guards and exemptions are of one."""
    if not isinstance(action, PutEntry | RemoveEntry):
        return type(action), None
    kind = type(action.entry)
    return type(action), GuardEntry if kind is ExemptEntry else kind


def _pins(action: DatapathAction, link: LinkRef) -> bool:
    return isinstance(action, RecordPin) and action.pin.link == link


def _lets_send(action: DatapathAction, prefix: Prefix | None) -> bool:
    if not isinstance(action, PutEntry) or not isinstance(action.entry, GuardEntry | ExemptEntry):
        return False
    return action.entry.prefix == prefix


def _still_leads(action: DatapathAction, entry: Entry) -> bool:
    """Whether a route beside which *entry* stands was to be taken away, and was not."""
    if not isinstance(action, RemoveEntry) or not isinstance(action.entry, RouteEntry):
        return False
    if not isinstance(entry, GuardEntry | ExemptEntry) or action.entry.prefix != entry.prefix:
        return False
    return isinstance(entry, ExemptEntry) or action.entry.link == entry.link


def _leads(action: DatapathAction, prefix: Prefix) -> bool:
    if not isinstance(action, PutEntry) or not isinstance(action.entry, RouteEntry | GuardEntry):
        return False
    return action.entry.prefix == prefix


def _replaces(action: DatapathAction, entry: Entry) -> bool:
    if not isinstance(action, PutEntry) or type(action.entry) is not type(entry):
        return False
    return is_overlapping(action.entry.prefix, entry.prefix)


def _removes_from(action: DatapathAction, link_index: int) -> bool:
    if not isinstance(action, RemoveEntry) or not isinstance(action.entry, RouteEntry | GuardEntry):
        return False
    return action.entry.link.index == link_index


def _stopped_by(cause: Outcome) -> Outcome:
    """The outcome of what was not tried; it may be tried again when its cause may."""
    return Outcome(
        state=OutcomeState.BLOCKED,
        reason=cause.reason,
        message=f"not tried, since an action before it did not succeed: {cause.message or cause.reason or cause.state}",
        stale=cause.stale,
        retry_after_seconds=cause.retry_after_seconds,
    )


async def _apply(backend: Cluster | Datapath, actions: Sequence[A]) -> Sequence[Outcome]:
    """The outcomes of *actions*, also where the backend failed as a whole."""
    try:
        outcomes = await backend.apply(actions)  # type: ignore[arg-type]  # each caller pairs backend and actions
    except BackendError as error:
        return [outcome_of(error)] * len(actions)
    if len(outcomes) != len(actions):
        message = f"{type(backend).__name__}.apply answered {len(outcomes)} outcomes for {len(actions)} actions"
        raise BugError(message)
    return outcomes
