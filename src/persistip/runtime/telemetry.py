"""
What did we do, and how do we say it?

In: actions with their outcomes, errors of loops.  Out: records of the standard library's logging below the logger
"persistip", each a constant sentence with its facts in ``extra``, so that a formatter can print them as text or JSON
and a program can filter by them. The library configures no handler: that is the business of whoever runs it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from persistip.model.actions import (
    ConfirmNodeGone,
    CreateAttachment,
    DeleteAttachment,
    ForgetPin,
    Outcome,
    OutcomeState,
    PutEntry,
    RecordEvent,
    RecordPin,
    RemoveEntry,
    ReplaceAttachment,
    ReportClass,
    ReportGateway,
    ReportNode,
    ReportRoute,
    SetFinalizers,
)
from persistip.model.address import show
from persistip.model.attachment import AddressAttachment

logger = logging.getLogger("persistip")

_LEVELS: Mapping[OutcomeState, int] = {
    OutcomeState.DONE: logging.INFO,
    OutcomeState.STARTED: logging.INFO,
    OutcomeState.FAILED: logging.WARNING,
    OutcomeState.BLOCKED: logging.WARNING,
    OutcomeState.UNSUPPORTED: logging.WARNING,
}


@singledispatch
def facts_of(action: object) -> dict[str, Any]:
    """What a reader of the log must know of *action*; kinds of action unknown here give their name alone."""
    return {"action": type(action).__name__}


def _decision(action: str, attachment: AddressAttachment) -> dict[str, Any]:
    holder = attachment.spec.holder
    return {
        "action": action,
        "attachment": attachment.meta.name,
        "route": attachment.route_key.path,
        "epoch": attachment.spec.epoch,
        "addresses": [show(address.prefix) for address in attachment.spec.addresses],
        "pod": holder.pod_name if holder else None,
        "node": holder.node_name if holder else None,
        "releasing": [f"{release.node_name}:{release.how}" for release in attachment.spec.releasing],
    }


@facts_of.register
def _(action: CreateAttachment) -> dict[str, Any]:
    return _decision("CreateAttachment", action.attachment)


@facts_of.register
def _(action: ReplaceAttachment) -> dict[str, Any]:
    return _decision("ReplaceAttachment", action.attachment)


@facts_of.register
def _(action: DeleteAttachment) -> dict[str, Any]:
    return {"action": "DeleteAttachment", "attachment": action.name}


@facts_of.register(ReportRoute)
@facts_of.register(ReportGateway)
@facts_of.register(ReportClass)
def _(action: ReportRoute | ReportGateway | ReportClass) -> dict[str, Any]:
    conditions = action.conditions if isinstance(action, ReportClass) else action.status.conditions
    return {
        "action": type(action).__name__,
        "conditions": {condition.type: f"{condition.status}/{condition.reason}" for condition in conditions},
    }


@facts_of.register
def _(action: SetFinalizers) -> dict[str, Any]:
    return {"action": "SetFinalizers", "finalizers": list(action.finalizers)}


@facts_of.register
def _(action: RecordEvent) -> dict[str, Any]:
    return {"action": "RecordEvent", "event": action.reason, "text": action.message}


@facts_of.register
def _(action: ConfirmNodeGone) -> dict[str, Any]:
    return {"action": "ConfirmNodeGone", "node": action.name, "uid": action.uid, "attachment": action.attachment.name}


@facts_of.register
def _(action: ReportNode) -> dict[str, Any]:
    report = action.report
    facts = {"action": "ReportNode", "attachment": action.name, "epoch": report.epoch, "state": str(report.state)}
    if report.released:
        facts["released"] = report.released
    return facts | ({"why": report.reason, "text": report.message} if report.reason else {})


@facts_of.register(PutEntry)
@facts_of.register(RemoveEntry)
def _(action: PutEntry | RemoveEntry) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "action": type(action).__name__,
        "entry": type(action.entry).__name__,
        "prefix": show(action.entry.prefix),
    }
    link = getattr(action.entry, "link", None)
    return facts | ({"link": link.name} if link is not None else {})


@facts_of.register(RecordPin)
@facts_of.register(ForgetPin)
def _(action: RecordPin | ForgetPin) -> dict[str, Any]:
    pin = action.pin
    return {
        "action": type(action).__name__,
        "pod_uid": pin.pod_uid,
        "link": pin.link.name,
        "hardware_address": pin.hardware_address,
        "epoch": pin.epoch,
    }


def log_outcome(action: object, outcome: Outcome, **fields: object) -> None:
    """One record for one action; *fields* say on whose behalf."""
    # Losing a race against the watch is the normal course of optimistic writes.
    level = logging.INFO if outcome.stale else _LEVELS[outcome.state]
    if not logger.isEnabledFor(level):
        return
    extra: dict[str, Any] = {**fields, **facts_of(action), "outcome": str(outcome.state)}
    if outcome.reason:
        extra["reason"] = outcome.reason
    if outcome.message:
        extra["error"] = outcome.message
    logger.log(level, "acted", extra=extra)
