"""
What can be done, as values, and how did it go?

Actions are decided by pure code and carried out by backends. A backend that does not know a kind of action answers
``unsupported``; new kinds may appear.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from persistip.model.attachment import AddressAttachment, NodeReport
from persistip.model.conditions import Condition
from persistip.model.entry import Entry, Pin
from persistip.model.gateway import GatewayStatus
from persistip.model.keys import ObjectKey
from persistip.model.route import RouteStatus


@attrs.frozen
class CreateAttachment:
    """Create the object; its name must be free."""

    attachment: AddressAttachment


@attrs.frozen
class ReplaceAttachment:
    """
    PUT spec, labels and finalizers, with UID and resourceVersion of ``attachment.meta`` as precondition.

    ``forgotten``: nodes whose entries of ``status.nodes``, whoever wrote them, are then taken away: a second write, to
    the status subresource, on what the first one left. It waits for nobody: when another write comes between, the
    entries stay, and go with a later replacement. The rest of the status is not touched.
    """

    attachment: AddressAttachment
    forgotten: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class DeleteAttachment:
    """DELETE with UID and resourceVersion as precondition."""

    name: str
    uid: str
    resource_version: str


@attrs.frozen(kw_only=True)
class ReportRoute:
    """Server-side apply of a GKEIPRoute's status, for the object it was decided on."""

    key: ObjectKey
    uid: str
    resource_version: str
    status: RouteStatus


@attrs.frozen(kw_only=True)
class ReportGateway:
    """Server-side apply of a Gateway's status, for the object it was decided on."""

    key: ObjectKey
    uid: str
    resource_version: str
    status: GatewayStatus


@attrs.frozen(kw_only=True)
class ReportClass:
    """Server-side apply of a GatewayClass's status, for the object it was decided on."""

    key: ObjectKey
    uid: str
    resource_version: str
    conditions: tuple[Condition, ...]


@attrs.frozen(kw_only=True)
class SetFinalizers:
    """
    Make these the finalizers of an object of the user's, all of them, and change nothing else.

    UID and resourceVersion are preconditions: another's finalizer that came since is not taken away. On an object that
    is being deleted the API lets finalizers go and takes no new one.
    """

    key: ObjectKey
    uid: str
    resource_version: str
    finalizers: tuple[str, ...]


@attrs.frozen(kw_only=True)
class RecordEvent:
    """A Kubernetes Event about an object; ``warning`` tells its type, ``action`` is one word for what was done."""

    regarding: ObjectKey
    uid: str
    reason: str
    action: str
    message: str
    warning: bool = False


@attrs.frozen(kw_only=True)
class ReportNode:
    """An agent applies its own entry of ``status.nodes``; ``uid`` of the attachment is the precondition."""

    name: str
    uid: str
    report: NodeReport


@attrs.frozen(kw_only=True)
class ConfirmNodeGone:
    """
    A live read, never answered from a cache: is the Node gone?

    Done: there is no Node *name* with that *uid*, or it carries the administrator's word that the machine is off.
    Stale: it is there. The answer counts for *attachment* as it stood at *resource_version*, which had been seen.
    """

    name: str
    uid: str
    attachment: ObjectKey
    resource_version: str


ClusterAction = (
    CreateAttachment
    | ReplaceAttachment
    | DeleteAttachment
    | ReportRoute
    | ReportGateway
    | ReportClass
    | SetFinalizers
    | RecordEvent
    | ReportNode
    | ConfirmNodeGone
)


@attrs.frozen
class RecordPin:
    """Write the pin where it outlives the process; replaces the pin of the same attachment and Pod."""

    pin: Pin


@attrs.frozen
class ForgetPin:
    """Remove the pin."""

    pin: Pin


@attrs.frozen
class PutEntry:
    """Make the entry stand in the kernel, whole; a RouteEntry replaces ours for the same prefix without a gap."""

    entry: Entry


@attrs.frozen
class RemoveEntry:
    """
    Take the entry out of the kernel; absent is success.

    ``is_due``: at once, also when what is to stand in its place cannot be put.
    """

    entry: Entry
    is_due: bool = False


DatapathAction = RecordPin | ForgetPin | PutEntry | RemoveEntry


class OutcomeState(StrEnum):
    """How an action went."""

    DONE = "done"
    STARTED = "started"
    FAILED = "failed"
    BLOCKED = "blocked"
    UNSUPPORTED = "unsupported"


@attrs.frozen(kw_only=True)
class Outcome:
    """
    What became of one action.

    ``stale`` says that the world had changed: look again at once. ``retry_after_seconds`` is the system's own wish.
    ``written`` is the object as it stands after a write, where the system returns it.
    """

    state: OutcomeState
    reason: str = ""
    message: str = ""
    stale: bool = False
    retry_after_seconds: float | None = None
    written: object | None = None

    @property
    def is_done(self) -> bool:
        """It was carried out."""
        return self.state is OutcomeState.DONE


DONE = Outcome(state=OutcomeState.DONE)
