"""
Has the cloud followed, and what does GCPReady say?

In: what the cloud holds for a route, and the route's attachment.  Out: whether a former holder may be told to let go,
and a condition. Without a cloud (``view.cloud`` None) nothing is waited for.

    holder's node confirms ──> the cloud's leader follows ──> AfterReady turns to Now
                           └── or LATE_SECONDS have passed, which the condition says
"""

from __future__ import annotations

from persistip.decide.holder import Choice
from persistip.decide.verdict import Verdict
from persistip.model.attachment import AddressAttachment, How
from persistip.model.conditions import Reason, Status
from persistip.model.views import RouteView

LATE_SECONDS = 120.0
"""How long after the new holder's confirmation a former one goes on delivering while the cloud has not followed."""
FAULTS = frozenset({Reason.ADDRESS_NOT_USABLE, Reason.QUOTA_EXCEEDED, Reason.PERMISSION_DENIED, Reason.CLOUD_ERROR})
"""What keeps a cloud from providing addresses; whatever else an allocator calls it is a CloudError."""


def has_followed(view: RouteView, attachment: AddressAttachment) -> bool:
    """Whether the cloud sends the packets to the node that holds, or is so late that nobody waits for it."""
    return late_at(view, attachment) is None or _is_late(view, attachment)


def late_at(view: RouteView, attachment: AddressAttachment | None) -> float | None:
    """When the cloud is late behind a holder that has confirmed; None: it has followed, or nothing is waited for."""
    if attachment is None or view.cloud is None or not attachment.is_confirmed:
        return None
    assert attachment.spec.holder is not None  # noqa: S101 - who confirms holds,
    name = attachment.spec.holder.node_name
    report = attachment.report_of(name)
    assert report is not None  # noqa: S101 - and has reported
    return None if view.cloud.leader == name else report.at + LATE_SECONDS


def _is_late(view: RouteView, attachment: AddressAttachment) -> bool:
    """A confirmation from further ahead than it would be waited for is of a clock that goes wrong."""
    moment = late_at(view, attachment)
    return moment is not None and not view.now < moment <= view.now + 2 * LATE_SECONDS


def recheck_cloud_at(view: RouteView) -> float | None:
    """When time alone ends a former holder's delivery."""
    attachment = view.attachment
    is_awaited = attachment is not None and any(each.how is How.AFTER_READY for each in attachment.spec.releasing)
    return late_at(view, attachment) if is_awaited else None


def say_cloud(
    view: RouteView, verdict: Verdict, choice: Choice, attachment: AddressAttachment | None
) -> tuple[Status, str, str]:
    """Status, reason and message of GCPReady."""
    cloud = view.cloud
    if cloud is None or verdict.unserved:
        return Status.TRUE, Reason.NOT_REQUIRED, "no cloud to provision"
    if verdict.is_refused:
        return Status.FALSE, Reason.NOT_ACCEPTED, "the route is not accepted"
    if choice.pod is None:
        return Status.FALSE, Reason.NO_ELIGIBLE_POD, "no Pod may hold the addresses, so the cloud sends them nowhere"
    if cloud.reason:
        reason = cloud.reason if cloud.reason in FAULTS else Reason.CLOUD_ERROR
        return Status.FALSE, reason, cloud.message or cloud.reason
    holder = attachment.spec.holder if attachment is not None else None
    if cloud.ready and holder is not None and cloud.leader == holder.node_name:
        return Status.TRUE, Reason.PROVISIONED, f"the cloud sends the packets to Node {cloud.leader}"
    said = f"the cloud sends the packets to {f'Node {cloud.leader}' if cloud.leader else 'no node'}"
    if holder is not None and cloud.leader != holder.node_name:
        said += f", and is to send them to Node {holder.node_name}"
    if attachment is not None and _is_late(view, attachment):
        said += f"; it is later than {LATE_SECONDS:.0f} s, and former nodes have been told to let go"
    return Status.FALSE, Reason.PROVISIONING, said + (f" ({cloud.message})" if cloud.message else "")
