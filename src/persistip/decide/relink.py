"""
May a Pod be looked for anew, behind another link than the one it was pinned to?

A node pins its holder's link for an epoch, and delivers to nobody when another link answers for the Pod's IP: it cannot
know whose IP that is by now. The API can: when the Pod has kept UID, IP and readiness for longer than Kubernetes takes
to notice that a kubelet is silent, and no other Pod has the IP, it is the same Pod behind a new link, and a new epoch
lets the node find it. Nothing else would: a Pod that stays Ready causes no move.

In: a route's view.  Out: the moment from which the epoch may rise for it.
"""

from __future__ import annotations

from persistip.model.attachment import POD_LINK_CHANGED
from persistip.model.views import RouteView

RELINK_SECONDS = 60.0
"""After 40 to 50 seconds of a kubelet's silence, by the defaults, its Pods are no longer Ready."""


def found_anew_at(view: RouteView) -> float | None:
    """When the holder may be looked for behind another link; None: it may not, or there is no need."""
    attachment = view.attachment
    holder = attachment.spec.holder if attachment is not None else None
    if attachment is None or holder is None:
        return None
    report = attachment.report_of(holder.node_name)
    if report is None or (report.epoch, report.reason) != (attachment.spec.epoch, POD_LINK_CHANGED):
        return None
    pod = next((pod for pod in view.pods if pod.meta.uid == holder.pod_uid), None)
    if pod is None or not pod.ready or pod.meta.is_terminating or not set(holder.pod_ips) <= set(pod.ips):
        return None
    if any(ip in view.doubled_ips for ip in holder.pod_ips):
        return None
    return report.at + RELINK_SECONDS


def is_found_anew(view: RouteView) -> bool:
    """Whether that moment has come."""
    moment = found_anew_at(view)
    return moment is not None and moment <= view.now
