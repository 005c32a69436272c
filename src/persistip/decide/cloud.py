"""
What is the cloud to hold, has it followed, and what does GCPReady say?

In: what the cloud holds for a route, and the route's attachment.  Out: an action for the cloud, whether a former holder
may be told to let go, and a condition. Without a cloud (``view.cloud`` None) nothing is asked, and nothing waited for.

    who delivers the packets until the holder's node confirms?
        nobody  ──> the cloud's leader is the holder's node at once
        another ──> it stays there; holder's node confirms ──> the leader follows ──> AfterReady turns to Now
                                                           └── or LATE_SECONDS have passed, which the condition says
    drained, every release ended ──> everything of ours in the cloud goes ──> the attachment is deleted
"""

from __future__ import annotations

from operator import attrgetter

from persistip.decide.holder import Choice
from persistip.decide.verdict import Verdict
from persistip.model.attachment import AddressAttachment, Holder, How
from persistip.model.cloud import Attract, RouteAction, Withdraw
from persistip.model.conditions import ConditionType, Reason, Status, find_condition
from persistip.model.gateway import CLASSES, ClassBehaviour, Mode
from persistip.model.keys import CLASS_LABEL
from persistip.model.views import RouteView

LATE_SECONDS = 120.0
"""How long after the new holder's confirmation a former one goes on delivering while the cloud has not followed."""
FAULTS = frozenset({Reason.ADDRESS_NOT_USABLE, Reason.QUOTA_EXCEEDED, Reason.PERMISSION_DENIED, Reason.CLOUD_ERROR})
"""What keeps a cloud from providing addresses; whatever else an allocator calls it is a CloudError."""


def plan_cloud(view: RouteView) -> RouteAction | None:
    """
    All that the cloud is to hold for the route now; None: whatever it holds stays as it is.

    Decided by the attachment as it is written, never by what is about to be: a write that fails must have moved
    nothing. While nobody may hold, the cloud keeps its leader, since its node drops the packets, and the next holder
    is often there again; an address that is no longer the route's goes all the same. Without an attachment nothing of
    the route's is left in the cloud.
    """
    attachment, cloud = view.attachment, view.cloud
    if cloud is None:
        return None
    nothing = Withdraw(prefixes=(), route=view.key.path)
    if attachment is None or not _is_in_use(attachment):
        return nothing
    prefixes, holder = attachment.spec.held_prefixes, attachment.spec.holder
    behaviour = CLASSES.get(attachment.meta.labels.get(CLASS_LABEL, ""))
    if behaviour is None:
        return None
    node_name = _leader(view, attachment, holder, behaviour) if holder is not None and prefixes else cloud.leader
    if node_name is None:
        return nothing if cloud.is_known else None
    hosts = {pod.node_name for pod in view.pods if pod.node_name in view.nodes}
    return Attract(
        prefixes=prefixes,
        node_name=node_name,
        route=view.key.path,
        nodes=tuple(sorted(hosts | ({holder.node_name} if holder is not None else set()))),
        mode=behaviour.mode,
        external=behaviour.external,
        global_access=bool(view.facts is not None and view.facts.route.allow_global_access),
    )


def _is_in_use(attachment: AddressAttachment) -> bool:
    """Whether anything is claimed, held, or still in the kernel of a node."""
    spec = attachment.spec
    return bool(spec.addresses or spec.holder or spec.releasing)


def _leader(view: RouteView, attachment: AddressAttachment, holder: Holder, behaviour: ClassBehaviour) -> str:
    """The node to which the cloud is to send the packets now."""
    if attachment.is_confirmed:
        return holder.node_name
    delivering = [entry for entry in attachment.spec.releasing if entry.how is How.AFTER_READY]
    leader = view.cloud.leader if view.cloud is not None else None
    if leader is not None and (behaviour.mode is Mode.FAST or leader in {entry.node_name for entry in delivering}):
        return leader
    if delivering:
        return max(delivering, key=attrgetter("epoch")).node_name
    return holder.node_name


def is_left(view: RouteView) -> bool:
    """Whether nothing of ours is left in the cloud, as far as there is one."""
    return view.cloud is None or (view.cloud.is_known and not view.cloud.owned)


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
    if cloud is None:
        return Status.TRUE, Reason.NOT_REQUIRED, "no cloud to provision"
    if verdict.is_refused:
        return Status.FALSE, Reason.NOT_ACCEPTED, "the route is not accepted"
    if verdict.unserved:
        return Status.FALSE, Reason.UNSUPPORTED, verdict.unserved
    if choice.pod is None:
        return Status.FALSE, Reason.NO_ELIGIBLE_POD, "no Pod may hold the addresses, so the cloud sends them nowhere"
    if cloud.reason:
        reason = cloud.reason if cloud.reason in FAULTS else Reason.CLOUD_ERROR
        return Status.FALSE, reason, cloud.message or cloud.reason
    former = find_condition(view.facts.route.status.conditions, ConditionType.GCP_READY) if view.facts else None
    if not cloud.is_known and former is not None and former.reason != Reason.NOT_REQUIRED:
        # Who has just started and has not looked yet knows no better than whoever wrote this.
        return Status(former.status), former.reason, former.message
    holder = attachment.spec.holder if attachment is not None else None
    if cloud.ready and holder is not None and cloud.leader == holder.node_name:
        return Status.TRUE, Reason.PROVISIONED, f"the cloud sends the packets to Node {cloud.leader}"
    said = f"the cloud sends the packets to {f'Node {cloud.leader}' if cloud.leader else 'no node'}"
    if holder is not None and cloud.leader != holder.node_name:
        said += f", and is to send them to Node {holder.node_name}"
    if attachment is not None and _is_late(view, attachment):
        said += f"; it is later than {LATE_SECONDS:.0f} s, and former nodes have been told to let go"
    return Status.FALSE, Reason.PROVISIONING, said + (f" ({cloud.message})" if cloud.message else "")
