"""
What must be said of a Gateway and of a GatewayClass?

In: a GatewayView or ClassView.  Out: a plan with the status to apply, where it differs from the one that stands, and
with an Event for what it newly refuses.
Conditions and reasons are Gateway API's; ``attachedRoutes`` counts the accepted routes that a listener admits, where
Gateway API counts also those that it admits and that are not accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs

from persistip.decide.admission import selecting_listeners
from persistip.decide.installed import judge_installed
from persistip.decide.listeners import MAX_LISTENERS, supported_kinds, unsupported_kinds
from persistip.decide.parameters import class_rules, is_ours, why_unserved
from persistip.decide.pool import Pool, resolve_pool
from persistip.decide.refused import class_events, gateway_events
from persistip.model.actions import ClusterAction, ReportClass, ReportGateway, SetFinalizers
from persistip.model.address import CIDR_TYPES, AddressSpec, show
from persistip.model.conditions import Condition, ConditionType, Reason, Status, merge_conditions
from persistip.model.gateway import (
    CLASSES,
    IN_USE_FINALIZER,
    Gateway,
    GatewayClass,
    GatewayStatus,
    Listener,
    ListenerStatus,
)
from persistip.model.keys import ObjectMeta
from persistip.model.views import AttachedRoutes, ClassView, GatewayView


@attrs.frozen(kw_only=True)
class GatewayPlan:
    """What to write; empty when nothing changes."""

    pool: Pool = Pool()
    actions: tuple[ClusterAction, ...] = ()
    recheck_at: float | None = None


@attrs.frozen(kw_only=True)
class ClassPlan:
    """What to write; empty when nothing changes."""

    actions: tuple[ClusterAction, ...] = ()
    recheck_at: float | None = None


def plan_gateway(view: GatewayView) -> GatewayPlan:
    """Judge one Gateway; one that is not of our class, or rests on what cannot be read, is left alone."""
    if view.unreadable is not None or view.facts is None or not is_ours(view.facts, view.policy):
        return GatewayPlan()
    gateway = view.facts.gateway
    pool = resolve_pool(view.facts, view.ranges, view.policy)
    attached = _attached_routes(gateway, view.routes)
    status = GatewayStatus(
        addresses=_usable_now(pool),
        conditions=merge_conditions(gateway.status.conditions, _gateway_conditions(gateway, pool), view.now),
        listeners=tuple(
            _listener_status(listener, gateway, pool, attached[listener], view.now)
            for listener in _shown(gateway.listeners)
        ),
    )
    if status == gateway.status:
        return GatewayPlan(pool=pool)
    meta = gateway.meta
    write = ReportGateway(key=view.key, uid=meta.uid, resource_version=meta.resource_version, status=status)
    return GatewayPlan(pool=pool, actions=(write, *gateway_events(gateway, status, pool.listener_faults)))


def _usable_now(pool: Pool) -> tuple[AddressSpec, ...]:
    """``status.addresses``: what routes may claim now, which is nothing while the Gateway is not accepted."""
    usable = pool.usable if pool.refusal is None else ()
    return tuple(
        AddressSpec(entry.spec.type, str(entry.prefix) if entry.spec.type in CIDR_TYPES else show(entry.prefix))
        for entry in usable
    )


def _shown(listeners: tuple[Listener, ...]) -> tuple[Listener, ...]:
    """``status.listeners`` is a map by name of at most 64: the first of each name, and no more than fit."""
    by_name = {listener.name: listener for listener in reversed(listeners)}
    names = dict.fromkeys(listener.name for listener in listeners)
    return tuple(by_name[name] for name in names)[:MAX_LISTENERS]


def _gateway_conditions(gateway: Gateway, pool: Pool) -> Iterable[Condition]:
    def condition(type_: ConditionType, status: Status, reason: str, message: str) -> Condition:
        generation = gateway.meta.generation
        return Condition(type=type_, status=status, reason=reason, message=message, observed_generation=generation)

    bad = "; ".join((*pool.unusable, *(fault.message for fault in pool.listener_faults.values())))
    if pool.refusal is not None:
        reason, message = pool.refusal
        yield condition(ConditionType.ACCEPTED, Status.FALSE, _gateway_reason(reason), message)
        unusable = reason is Reason.ADDRESS_NOT_USABLE
        yield condition(ConditionType.PROGRAMMED, Status.FALSE, reason if unusable else Reason.INVALID, message)
        return
    accepted = Reason.LISTENERS_NOT_VALID if pool.listener_faults else Reason.ACCEPTED
    yield condition(ConditionType.ACCEPTED, Status.TRUE, accepted, bad or "routes may attach")
    if pool.unusable:
        yield condition(ConditionType.PROGRAMMED, Status.FALSE, Reason.ADDRESS_NOT_USABLE, "; ".join(pool.unusable))
    elif pool.unserved:
        yield condition(ConditionType.PROGRAMMED, Status.FALSE, Reason.UNSUPPORTED, pool.unserved)
    else:
        yield condition(ConditionType.PROGRAMMED, Status.TRUE, Reason.PROGRAMMED, "every address is usable")


def _gateway_reason(reason: Reason) -> str:
    """Gateway API has UnsupportedAddress for Accepted where Programmed has AddressNotUsable."""
    return Reason.UNSUPPORTED_ADDRESS if reason is Reason.ADDRESS_NOT_USABLE else reason


def _listener_status(listener: Listener, gateway: Gateway, pool: Pool, attached: int, now: float) -> ListenerStatus:
    old = next((status for status in gateway.status.listeners if status.name == listener.name), None)
    conditions = merge_conditions(old.conditions if old else (), _listener_conditions(listener, gateway, pool), now)
    return ListenerStatus(
        name=listener.name,
        supported_kinds=supported_kinds(listener),
        attached_routes=attached,
        conditions=conditions,
    )


def _listener_conditions(listener: Listener, gateway: Gateway, pool: Pool) -> Iterable[Condition]:
    def condition(type_: ConditionType, status: Status, reason: str, message: str = "") -> Condition:
        generation = gateway.meta.generation
        return Condition(type=type_, status=status, reason=reason, message=message, observed_generation=generation)

    fault = pool.listener_faults.get(listener.name)
    if fault is None or fault.reason is Reason.INVALID_ROUTE_KINDS:
        yield condition(ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED)
    else:
        is_protocol = fault.reason is Reason.UNSUPPORTED_PROTOCOL
        reason = fault.reason if is_protocol else Reason.UNSUPPORTED_VALUE
        yield condition(ConditionType.ACCEPTED, Status.FALSE, reason, fault.message)
    if why := unsupported_kinds(listener):
        yield condition(ConditionType.RESOLVED_REFS, Status.FALSE, Reason.INVALID_ROUTE_KINDS, why)
    else:
        yield condition(ConditionType.RESOLVED_REFS, Status.TRUE, Reason.RESOLVED_REFS)
    if fault is None and pool.refusal is None and pool.unserved:
        yield condition(ConditionType.PROGRAMMED, Status.FALSE, Reason.UNSUPPORTED, pool.unserved)
    elif fault is None and pool.refusal is None:
        yield condition(ConditionType.PROGRAMMED, Status.TRUE, Reason.PROGRAMMED)
    else:
        said = fault.message if fault is not None else "the Gateway is not accepted"
        yield condition(ConditionType.PROGRAMMED, Status.FALSE, Reason.INVALID, said)
    if fault is not None and fault.reason is Reason.NAME_CONFLICT:
        yield condition(ConditionType.CONFLICTED, Status.TRUE, Reason.NAME_CONFLICT, fault.message)
    else:
        yield condition(ConditionType.CONFLICTED, Status.FALSE, Reason.NO_CONFLICTS)


def _attached_routes(gateway: Gateway, routes: Iterable[AttachedRoutes]) -> Counter[Listener]:
    """Accepted, and selected by the listener and its own parentRef; the listener's state is no matter."""
    counts: Counter[Listener] = Counter()
    for alike in routes:
        selecting = {
            listener
            for ref in alike.refs
            for listener in selecting_listeners(gateway, ref, alike.namespace_name, alike.namespace)
        }
        counts.update(dict.fromkeys(selecting, alike.count))
    return counts


def plan_class(view: ClassView) -> ClassPlan:
    """Judge one GatewayClass of ours; its status first, then its finalizer: each write is decided on what stands."""
    found = view.gateway_class
    if view.unreadable is not None or found is None or found.controller_name != view.policy.controller_name:
        return ClassPlan()
    meta = found.meta
    conditions = merge_conditions(found.conditions, _class_conditions(found, view), view.now)
    if conditions != found.conditions:
        report = ReportClass(key=view.key, uid=meta.uid, resource_version=meta.resource_version, conditions=conditions)
        return ClassPlan(actions=(report, *class_events(found, conditions)))
    may_be_in_use = view.blind is not None and IN_USE_FINALIZER in meta.finalizers
    finalizers = _class_finalizers(meta, is_in_use=view.is_in_use or may_be_in_use)
    if finalizers != meta.finalizers:
        write = SetFinalizers(key=view.key, uid=meta.uid, resource_version=meta.resource_version, finalizers=finalizers)
        return ClassPlan(actions=(write,))
    return ClassPlan()


def _class_conditions(found: GatewayClass, view: ClassView) -> Iterable[Condition]:
    rules = class_rules(found, view.parameters)
    if rules is None:
        said = f"{found.meta.name!r} is none of the names that have a meaning here: {', '.join(CLASSES)}"
        status, reason = Status.FALSE, Reason.UNSUPPORTED
    elif rules.faults:
        said, status, reason = "; ".join(rules.faults), Status.FALSE, Reason.INVALID_PARAMETERS
    else:
        said = why_unserved(rules.behaviour) or "Gateways of this class are served"
        status, reason = Status.TRUE, Reason.ACCEPTED
    for type_, words in (
        (ConditionType.ACCEPTED, (status, reason, said)),
        (ConditionType.SUPPORTED_VERSION, judge_installed(view.definitions)),
    ):
        yield Condition(
            type=type_,
            status=words[0],
            reason=words[1],
            message=words[2],
            observed_generation=found.meta.generation,
        )


def _class_finalizers(meta: ObjectMeta, *, is_in_use: bool) -> tuple[str, ...]:
    """Gateway API's finalizer while any Gateway is of the class; a class that is going takes no new one."""
    if not is_in_use:
        return tuple(name for name in meta.finalizers if name != IN_USE_FINALIZER)
    if meta.is_terminating or IN_USE_FINALIZER in meta.finalizers:
        return meta.finalizers
    return (*meta.finalizers, IN_USE_FINALIZER)
