"""
What did the client see of one event?

In: a route under test, the probes, the journal of Pods' changes.  Out: one EventResult for each family.
Blackouts and losses are the probe's words alone; the journal only tells from when a reaction is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs

from persistip.lab.cluster import Lab, Standing, host_of_prefix
from persistip.lab.kubelet import Journal
from persistip.lab.results import EventResult, flow_of
from persistip.lab.site import AddressProbe
from persistip.model.route import ReactionModeName

_MARK = "event"
_BEFORE_SECONDS = 0.1
_AFTER_SECONDS = 0.2


class UnreachableError(Exception):
    """The address does not answer in both directions, so nothing can be measured on it."""


@attrs.frozen(kw_only=True)
class Event:
    """
    What is about to happen; ``planned`` and ``standby`` as in EventResult.

    ``is_delayed``: the rules let the move wait, so that nothing can be said of how fast the reaction was.
    """

    name: str
    sentence: str
    planned: bool = False
    standby: bool = True
    is_delayed: bool = False


class Measurement:
    """The probes on one route's first address of each family, from just before an event until the cluster rests."""

    def __init__(self, lab: Lab, before: Standing, port: int) -> None:
        self._lab, self._before, self._port = lab, before, port
        self._addresses: dict[int, str] = {}
        for prefix in before.prefixes:
            self._addresses.setdefault(prefix.version, host_of_prefix(prefix))
        self._begin_ns = 0

    async def begin(self) -> None:
        """Start the probes and mark the event's beginning; raises UnreachableError when a held address is silent."""
        is_held = self._before.place is not None
        settle_seconds = 1.0 if is_held else 0.02
        started = await asyncio.gather(
            *(
                self._probe(family).start(address, self._port, settle_seconds=settle_seconds)
                for family, address in self._addresses.items()
            )
        )
        for address, answer in zip(self._addresses.values(), started, strict=True):
            if is_held and not answer["ok"]:
                silent = [name for name in ("ingress", "egress") if answer[name]["who"] is None]
                raise UnreachableError(f"{address} of {self._before.path} does not answer ({' and '.join(silent)})")
        await asyncio.sleep(_BEFORE_SECONDS)
        marked = await asyncio.gather(*(self._probe(family).mark(_MARK) for family in self._addresses))
        self._begin_ns = min(marked)

    async def end(self, event: Event, after: Standing | None) -> tuple[EventResult, ...]:
        """Stop the probes and say what they saw."""
        await asyncio.sleep(_AFTER_SECONDS)
        seen = await asyncio.gather(*(self._probe(family).stop() for family in self._addresses))
        return tuple(
            self._result(event, after, family, result) for family, result in zip(self._addresses, seen, strict=True)
        )

    def _probe(self, family: int) -> AddressProbe:
        return self._lab.site.probes()[family]

    def _result(self, event: Event, after: Standing | None, family: int, seen: Mapping[str, Any]) -> EventResult:
        flows = seen["marks"][_MARK]
        target = after.place if after else None
        is_moved = after is not None and target is not None and after.holder_uid != self._before.holder_uid
        return EventResult(
            name=event.name,
            route=self._before.path,
            address=self._addresses[family],
            family=family,
            planned=event.planned,
            standby=event.standby,
            source=self._before.place,
            target=target,
            ingress=flow_of(flows["ingress"]),
            egress=flow_of(flows["egress"]),
            reaction_ms=self._reaction_ms(flows) if is_moved and not event.is_delayed else None,
            tcp=seen["tcp"],
            conditions_before=self._before.conditions,
            conditions_after=after.conditions if after else {},
        )

    def _reaction_ms(self, flows: Mapping[str, Any]) -> float | None:
        """
        From the change of a Pod that made the move due to the first payload of whoever took over first.

        The change is the new holder's becoming eligible, if that happened in this event, else the old one's end.
        """
        first: dict[str, int] = {}
        for direction in ("ingress", "egress"):
            for who, at_ns in flows[direction]["first_ns"].items():
                uid = who.partition("@")[2]
                if uid and uid != self._before.holder_uid:
                    first[uid] = min(at_ns, first.get(uid, at_ns))
        if not first:
            return None
        uid, at_ns = min(first.items(), key=lambda pair: pair[1])
        waits_for_ready = self._before.route.reaction_mode == ReactionModeName.READY_CONDITION
        due_ns = change_that_moved(
            self._lab.journal, self._begin_ns, self._before.holder_uid, uid, waits_for_ready=waits_for_ready
        )
        return None if due_ns is None else round((at_ns - due_ns) / 1e6, 3)


def change_that_moved(
    journal: Journal, begin_ns: int, old_uid: str, new_uid: str, *, waits_for_ready: bool = True
) -> int | None:
    """
    When the move from one Pod to another became due, at the earliest at *begin_ns*; None: no Pod changed.

    A reaction mode that does not wait for readiness takes a Pod as soon as it has its IPs.
    """
    new, old = journal.of(new_uid), journal.of(old_uid)
    eligible_ns = new.ready_ns if waits_for_ready else new.running_ns
    if eligible_ns >= begin_ns:
        return eligible_ns
    return min((at for at in (old.unready_ns, old.terminating_ns) if at >= begin_ns), default=None)
