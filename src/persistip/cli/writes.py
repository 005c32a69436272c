"""
What would the controller write, beside what stands?

In: the objects of a cluster as they stand, and the same cluster at rest.  Out: a row for each thing that would be
another. Instants are left out: they alone are no reason to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from persistip.cli.changes import Change
from persistip.model.address import show
from persistip.model.attachment import AddressAttachment
from persistip.model.conditions import Condition
from persistip.model.gateway import Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.route import GKEIPRoute
from persistip.runtime.rehearsal import Settled
from persistip.strategies import ClusterObject

_WRITTEN = (Kind.GATEWAY_CLASS, Kind.GATEWAY, Kind.ROUTE, Kind.ATTACHMENT)
_NOTHING = ""

Facts = Mapping[str, str]


@attrs.frozen(kw_only=True)
class Write:
    """``what`` of one object is ``now`` and would be ``then``; empty: it is not there."""

    key: ObjectKey
    what: str
    now: str
    then: str

    def to_plain(self) -> dict[str, Any]:
        """The same for programs."""
        return {"object": str(self.key), "what": self.what, "now": self.now, "then": self.then}

    def row(self) -> tuple[str, str, str, str]:
        """The same for people."""
        return str(self.key), self.what, self.now, self.then


def find_writes(before: Mapping[ObjectKey, ClusterObject], settled: Settled) -> tuple[Write, ...]:
    """In the order of kinds, then of names."""
    keys = {key for key in (*before, *settled.objects) if key.kind in _WRITTEN}
    ordered = sorted(keys, key=lambda key: (_WRITTEN.index(key.kind), key))
    return tuple(each for key in ordered for each in _differences(key, before.get(key), settled.objects.get(key)))


def _differences(key: ObjectKey, old: ClusterObject | None, new: ClusterObject | None) -> Iterator[Write]:
    now, then = _facts(old), _facts(new)
    for what in dict.fromkeys((*now, *then)):
        before, after = now.get(what, _NOTHING), then.get(what, _NOTHING)
        if before != after:
            yield Write(key=key, what=what, now=before, then=after)


def _facts(found: ClusterObject | None) -> Facts:
    """What the controller writes of an object, in words."""
    match found:
        case AddressAttachment(spec=spec):
            return {
                "holder": Change.place(spec.holder),
                "addresses": ", ".join(
                    f"{show(each.prefix)}{' (pending)' if each.pending else ''}" for each in spec.addresses
                ),
                "releasing": ", ".join(f"{each.pod_name} on {each.node_name} ({each.how})" for each in spec.releasing),
            }
        case GKEIPRoute(status=status):
            return {"pods": ", ".join(status.pods), **_conditions(status.conditions)}
        case Gateway(status=status):
            listeners = {
                f"listener {each.name}, {what}": text
                for each in status.listeners
                for what, text in {"routes": str(each.attached_routes), **_conditions(each.conditions)}.items()
            }
            addresses = ", ".join(each.value for each in status.addresses)
            return {"addresses": addresses, **_conditions(status.conditions), **listeners}
        case GatewayClass(conditions=conditions):
            return {"finalizers": ", ".join(found.meta.finalizers), **_conditions(conditions)}
        case _:
            return {}


def _conditions(conditions: Iterable[Condition]) -> Facts:
    return {each.type: f"{each.status}, {each.reason}: {each.message}".removesuffix(": ") for each in conditions}
