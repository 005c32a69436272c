"""
Which addresses change hands between two states of a cluster at rest?

In: the cluster before and after.  Out: one Change for each route whose addresses another Pod holds, or nobody.
"""

from __future__ import annotations

from typing import Any

import attrs

from persistip.decide.events import without_origin
from persistip.model.address import Prefix, show, sort_key
from persistip.model.attachment import Holder
from persistip.model.conditions import ConditionType, find_condition
from persistip.model.keys import ObjectKey
from persistip.model.route import GKEIPRoute
from persistip.runtime.rehearsal import Settled


@attrs.frozen(kw_only=True)
class Change:
    """The addresses of one route go from ``former`` to ``next``; None: nobody."""

    route: ObjectKey
    prefixes: tuple[Prefix, ...]
    former: Holder | None
    next: Holder | None
    why: str

    def to_plain(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "route": {"namespace": self.route.namespace, "name": self.route.name},
            "addresses": [show(prefix) for prefix in self.prefixes],
            "from": _to_plain(self.former),
            "to": _to_plain(self.next),
            "reason": self.why,
        }

    @staticmethod
    def place(holder: Holder | None) -> str:
        """Pod and Node, for people."""
        return "nobody" if holder is None else f"{holder.pod_name} on {holder.node_name}"


def _to_plain(holder: Holder | None) -> dict[str, str] | None:
    return None if holder is None else {"pod": holder.pod_name, "nodeName": holder.node_name}


def find_changes(before: Settled, after: Settled) -> tuple[Change, ...]:
    """In the order of the routes' names."""
    changes = []
    for key in sorted({*before.plans, *after.plans}):
        (former, had), (next_, has) = _held(before, key), _held(after, key)
        if _place(former) != _place(next_):
            prefixes = tuple(sorted(had | has, key=sort_key))
            why = _why(after, key, is_held=next_ is not None)
            changes.append(Change(route=key, prefixes=prefixes, former=former, next=next_, why=why))
    return tuple(changes)


def _held(settled: Settled, route: ObjectKey) -> tuple[Holder | None, frozenset[Prefix]]:
    attachment = settled.attachment_of(route)
    if attachment is None or not attachment.spec.held_prefixes or attachment.spec.holder is None:
        return None, frozenset()
    return attachment.spec.holder, frozenset(attachment.spec.held_prefixes)


def _place(holder: Holder | None) -> tuple[str, str] | None:
    return None if holder is None else (holder.pod_uid, holder.node_uid)


def _why(settled: Settled, key: ObjectKey, *, is_held: bool) -> str:
    """The rule that chose the next Pod, or what the route's status says of there being none."""
    if is_held and key in settled.plans:
        return settled.plans[key].choice.rule
    route = settled.objects.get(key)
    ready = find_condition(route.status.conditions, ConditionType.READY) if isinstance(route, GKEIPRoute) else None
    return without_origin(ready.message) if ready is not None else ""
