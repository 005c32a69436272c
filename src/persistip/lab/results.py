"""
What does one run of the lab find out?

Values that the story fills and the report prints; ``to_json`` gives the form that other tools read, whose names are
fixed. Blackouts are what the outside client saw, in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

JSON_VERSION = 1

STOPPED_MS = 100.0
"""So long nothing must have come before the end of a look to say that nothing comes any more: no machine stalls so."""

Conditions = Mapping[str, tuple[str, str]]
"""Condition type to (status, reason)."""


@attrs.frozen(kw_only=True)
class Flow:
    """
    One direction as the client saw it.

    ``blackout_ms``: the longest silence, less one probe interval. ``quiet_ms``: the silence that was still going on
    when the look ended.
    """

    sent: int
    lost: int
    blackout_ms: float
    quiet_ms: float = 0.0

    @property
    def has_stopped(self) -> bool:
        """Nothing comes any more: the silence reaches the end of the look."""
        return self.quiet_ms >= STOPPED_MS


@attrs.frozen(kw_only=True)
class Sight:
    """A look at one address; ``who`` answered, ``name@uid`` in the order of their first answers."""

    who: tuple[str, ...]
    ingress: Flow
    egress: Flow


@attrs.frozen
class Place:
    """A Pod and its node."""

    pod: str
    node: str


@attrs.frozen(kw_only=True)
class RouteResult:
    """How one route stands at the end; ``addresses``: single ones bare, networks as CIDR."""

    route: str
    addresses: tuple[str, ...]
    place: Place | None
    conditions: Conditions


@attrs.frozen(kw_only=True)
class EventResult:
    """
    One event on one address.

    ``planned``: a living old Pod hands over to a new one. ``standby``: a Pod could take over at once; otherwise the
    silence is mostly the making of one, or the time until Kubernetes calls a node lost. ``reaction_ms``: from the
    change of the Pod in the cluster to the first payload through the new holder; None where nobody took over. ``tcp``:
    what became of a connection that was open before: kept, reset, or none (it got neither answer nor end).
    """

    name: str
    route: str
    address: str
    family: int
    planned: bool
    source: Place | None
    target: Place | None
    ingress: Flow
    egress: Flow
    reaction_ms: float | None
    tcp: str
    conditions_before: Conditions
    conditions_after: Conditions
    standby: bool = True


@attrs.frozen(kw_only=True)
class PromiseResult:
    """One promise of the system: whether it was seen to hold, how often it was looked at, and what was seen if not."""

    held: bool
    checks: int
    seen: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class LabResult:
    """
    A whole run.

    ``failures``: sentences, empty when everything went as it should. ``remarks``: what took longer than aimed for; on a
    busy machine it may, and no promise speaks of milliseconds.
    """

    seed: int
    datapath: str
    rootless: bool
    routes: tuple[RouteResult, ...] = ()
    events: tuple[EventResult, ...] = ()
    promises: Mapping[str, PromiseResult] = attrs.field(factory=dict)
    failures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Every promise held and nothing else failed."""
        return not self.failures and all(promise.held for promise in self.promises.values())


def to_json(result: LabResult) -> dict[str, Any]:
    """The document of ``persistip lab --json``."""
    return {
        "version": JSON_VERSION,
        "seed": result.seed,
        "datapath": result.datapath,
        "rootless": result.rootless,
        "routes": [
            {
                "route": route.route,
                "addresses": list(route.addresses),
                "pod": route.place.pod if route.place else None,
                "node": route.place.node if route.place else None,
                "conditions": _conditions(route.conditions),
            }
            for route in result.routes
        ],
        "events": [_event(event) for event in result.events],
        "promises": {
            name: {"held": promise.held, "checks": promise.checks, "seen": list(promise.seen)}
            for name, promise in result.promises.items()
        },
        "summary": {
            "planned": summarise(event for event in result.events if event.planned),
            "unplanned": summarise(event for event in result.events if not event.planned),
        },
        "failures": list(result.failures),
        "remarks": list(result.remarks),
        "ok": result.is_ok,
    }


def _event(event: EventResult) -> dict[str, Any]:
    return {
        "name": event.name,
        "route": event.route,
        "address": event.address,
        "family": event.family,
        "planned": event.planned,
        "standby": event.standby,
        "from": attrs.asdict(event.source) if event.source else None,
        "to": attrs.asdict(event.target) if event.target else None,
        "probes": {"ingress": attrs.asdict(event.ingress), "egress": attrs.asdict(event.egress)},
        "reaction_ms": event.reaction_ms,
        "tcp": event.tcp,
        "conditions": {
            "before": _conditions(event.conditions_before),
            "after": _conditions(event.conditions_after),
        },
    }


def _conditions(conditions: Conditions) -> dict[str, dict[str, str]]:
    return {type_: {"status": status, "reason": reason} for type_, (status, reason) in conditions.items()}


def flow_of(seen: Mapping[str, Any]) -> Flow:
    """One direction of a probe's result."""
    return Flow(
        sent=seen["sent"],
        lost=seen["lost"],
        blackout_ms=round(seen["blackout_ms"], 3),
        quiet_ms=round(seen["quiet_ms"], 3),
    )


def bare_address(address: str) -> str:
    """An address as people write it, without the length of a single one."""
    host, _, length = address.partition("/")
    return host if length in ("", "32", "128") else address


def is_move(event: EventResult) -> bool:
    """Whether the address went from one Pod to another."""
    return event.source is not None and event.target is not None and event.source != event.target


def summarise(events: Iterable[EventResult]) -> dict[str, Any]:
    """
    Moves that could be made at once, and the blackouts of the worse direction of each; None where there was none.

    Where none could, the silence holds the making of a Pod or the wait for Kubernetes: it is said of the event alone.
    """
    worst = sorted(
        max(event.ingress.blackout_ms, event.egress.blackout_ms) for event in events if is_move(event) and event.standby
    )
    return {
        "moves": len(worst),
        "blackout_ms": {
            "p50": _percentile(worst, 50),
            "p99": _percentile(worst, 99),
            "max": worst[-1] if worst else None,
        },
    }


def _percentile(ordered: list[float], percent: int) -> float | None:
    """The nearest-rank percentile."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
