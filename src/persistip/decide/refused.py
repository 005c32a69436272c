"""
Which Events go with a refusal of a Gateway, a listener or a GatewayClass?

In: the status that stands and the one that is about to.  Out: a Warning for each refusal that is new or says another
thing. Nothing is remembered: an Event is due when a condition is about to change. What is said of the whole Gateway
is said once, and not by each of its listeners again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from persistip.model.actions import RecordEvent
from persistip.model.conditions import Condition, ConditionType, Status, find_condition
from persistip.model.gateway import Gateway, GatewayClass, GatewayStatus
from persistip.model.keys import ObjectKey, ObjectMeta


def gateway_events(gateway: Gateway, status: GatewayStatus, faulty: Iterable[str]) -> tuple[RecordEvent, ...]:
    """The Gateway's own refusal, then those of its listeners; *faulty* are the names of those at fault themselves."""
    said = _refusal(status.conditions)
    events = []
    if said is not None and _is_new(said, gateway.status.conditions):
        events.append(_refused(gateway.key, gateway.meta, said))
    before: Mapping[str, tuple[Condition, ...]] = {each.name: each.conditions for each in gateway.status.listeners}
    names = set(faulty)
    for listener in status.listeners:
        found = _refusal(listener.conditions)
        if found is None or listener.name not in names or (said is not None and found.message in said.message):
            continue
        if _is_new(found, before.get(listener.name, ())):
            events.append(_refused(gateway.key, gateway.meta, found))
    return tuple(events)


def class_events(found: GatewayClass, conditions: Iterable[Condition]) -> tuple[RecordEvent, ...]:
    """A class that is not accepted."""
    said = _refusal(conditions)
    if said is None or not _is_new(said, found.conditions):
        return ()
    return (_refused(found.key, found.meta, said),)


def _refusal(conditions: Iterable[Condition]) -> Condition | None:
    """What says that it is refused, the wider first."""
    known = tuple(conditions)
    for type_ in (ConditionType.ACCEPTED, ConditionType.PROGRAMMED):
        condition = find_condition(known, type_)
        if condition is not None and condition.status == Status.FALSE:
            return condition
    return None


def _is_new(condition: Condition, before: Iterable[Condition]) -> bool:
    old = find_condition(before, condition.type)
    return old is None or (old.status, old.message) != (condition.status, condition.message)


def _refused(key: ObjectKey, meta: ObjectMeta, condition: Condition) -> RecordEvent:
    return RecordEvent(
        regarding=key,
        uid=meta.uid,
        reason=condition.reason,
        action="Refuse",
        message=condition.message,
        warning=True,
    )
