"""
Why does a Pod lose the addresses, and since when, by the API's own record?

In: the view of a route, and who held until now.  Out: a Departure. For telemetry alone; nothing is decided by it.
Only the Ready condition keeps an instant of its own: a Pod's ``deletionTimestamp`` is when its grace ends, not when it
was deleted, and a Node that is gone says nothing.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from persistip.decide.candidates import is_delivering
from persistip.model.attachment import Holder
from persistip.model.views import RouteView


class Cause(StrEnum):
    """Why addresses move."""

    NOT_READY = "NotReady"
    DELETED = "Deleted"
    FINISHED = "Finished"
    DESELECTED = "Deselected"
    NODE_LOST = "NodeLost"
    REFUSED = "Refused"
    PREFERRED = "Preferred"
    TAKEN_OVER = "TakenOver"


MEANINGS = {
    Cause.NOT_READY: "the holder was not Ready",
    Cause.DELETED: "the holder was deleted, or is being deleted",
    Cause.FINISHED: "the holder had ended",
    Cause.DESELECTED: "the route no longer selected the holder",
    Cause.NODE_LOST: "the holder's Node was gone, out of service or suspected dead",
    Cause.REFUSED: "something else spoke against the holder: the reaction mode, the network, an IP",
    Cause.PREFERRED: "the holder could have gone on, and another Pod came before it",
    Cause.TAKEN_OVER: "begun by another controller, of which nobody remembers why",
}


@attrs.frozen
class Departure:
    """Why a Pod loses the addresses; ``recorded_at``: since when, in whole seconds, where the API has kept it."""

    cause: Cause
    recorded_at: float | None = None


def find_departure(view: RouteView, holder: Holder) -> Departure:
    """The first of the causes that applies to *holder*, which is about to lose the addresses."""
    pod = next((pod for pod in view.pods if pod.meta.uid == holder.pod_uid), None)
    node = view.nodes.get(holder.node_name)
    if node is None or node.meta.uid != holder.node_uid or node.out_of_service or holder.node_name in view.suspects:
        return Departure(Cause.NODE_LOST)
    if pod is None or pod.meta.is_terminating:
        return Departure(Cause.DELETED)
    if pod.is_finished:
        return Departure(Cause.FINISHED)
    if view.facts is None or not view.facts.route.pod_selector.matches(pod.meta.labels):
        return Departure(Cause.DESELECTED)
    if is_delivering(view, holder.pod_uid, frozenset(ip.version for ip in holder.pod_ips)):
        return Departure(Cause.PREFERRED)
    return Departure(Cause.REFUSED) if pod.ready else Departure(Cause.NOT_READY, pod.ready_at)
