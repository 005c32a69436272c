"""
Which steps make an entry stand in the kernel, or take it out?

In: one action and the working copy of the last look.  Out: Steps, or an Outcome where the kernel need not be asked.
The working copy is brought to what the kernel will hold after the steps, so that a batch of actions is worked out
before the first message is sent. Nothing foreign is ever replaced or deleted: where it stands in the way the outcome
is ``blocked``.
"""

from __future__ import annotations

from persistip.backends.linux import answering, delivery, filtering
from persistip.backends.linux.snapshot import Snapshot
from persistip.backends.linux.steps import Steps
from persistip.model.actions import Outcome, PutEntry, RemoveEntry
from persistip.model.entry import ExemptEntry, GuardEntry, ProxyEntry, RouteEntry


def plan_action(action: PutEntry | RemoveEntry, snapshot: Snapshot) -> Steps | Outcome:
    """The steps for one action; *snapshot* is brought along."""
    entry, is_put = action.entry, isinstance(action, PutEntry)
    match entry:
        case RouteEntry():
            return delivery.put_route(entry, snapshot) if is_put else delivery.remove_route(entry, snapshot)
        case GuardEntry():
            return filtering.put_guard(entry, snapshot) if is_put else filtering.remove_guard(entry, snapshot)
        case ExemptEntry():
            return filtering.put_exempt(entry, snapshot) if is_put else filtering.remove_exempt(entry, snapshot)
        case ProxyEntry():
            return answering.put_proxy(entry, snapshot) if is_put else answering.remove_proxy(entry, snapshot)
