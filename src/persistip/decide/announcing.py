"""
When is an announcement due, and when must the next sender wait?

In: a schedule and how far it is; an attachment.  Out: seconds and instants.
The cloud's fast IP move (``fastIPMove: GARP_RA``) asks for a frame every 10 s until 10 minutes after its leader was
updated, for silence at once from who no longer holds, and for 3 s between the frames of different senders: closer
together, it may send the packets to either in turn.
"""

from __future__ import annotations

from persistip.model.attachment import AddressAttachment, NodeStateName
from persistip.settings import AnnounceSettings

BETWEEN_SENDERS_SECONDS = 3.0
"""Between the frames of two different senders, as the cloud asks."""
REACTION_SECONDS = 0.5
"""How long after the write that takes the addresses away a former holder may have sent its last frame."""
FAST_IP_MOVE = AnnounceSettings(
    offsets_seconds=(0.0, 1.0, BETWEEN_SENDERS_SECONDS + 1.0),
    every_seconds=10.0,
    until_seconds=120.0 + 600.0,
)
"""
The cloud's schedule, which is no setting.

Two early repeats: one in case the first frame got lost, one that is certainly 3 s away from a former sender's last, and
so ends what two senders have begun. The end: ten minutes after the leader's update, for which two are allowed.
"""


def offset_of(step: int, schedule: AnnounceSettings) -> float | None:
    """How many seconds after the start step number *step* is due; None after the end."""
    offsets = schedule.offsets_seconds
    if step < len(offsets):
        offset = offsets[step]
    else:
        offset = (offsets[-1] if offsets else 0.0) + (step - len(offsets) + 1) * schedule.every_seconds
    return offset if offset <= schedule.until_seconds else None


def last_offset(elapsed_seconds: float, schedule: AnnounceSettings) -> float | None:
    """The offset of the last step that was due by then; None: none was."""
    last, step = None, 0
    while (offset := offset_of(step, schedule)) is not None and offset <= elapsed_seconds:
        last, step = offset, step + 1
    return last


def free_at(attachment: AddressAttachment, node_name: str) -> float:
    """
    From when on this node's frames do not meet those of a former holder; 0: from the beginning.

    A former holder began when it confirmed, and by its schedule it is known when it sent last before the write that
    took the addresses away. Mostly that is more than 3 s ago, and nothing is waited for; a node that confirmed its
    release has been silent for as long as that took.
    """
    free = 0.0
    for entry in attachment.spec.releasing:
        report = attachment.report_of(entry.node_name)
        if entry.node_name == node_name or report is None or report.state != NodeStateName.PROGRAMMED:
            continue
        last = last_offset(entry.epoch / 1000 + REACTION_SECONDS - report.at, FAST_IP_MOVE)
        if last is not None:
            free = max(free, report.at + last + BETWEEN_SENDERS_SECONDS)
    return free
