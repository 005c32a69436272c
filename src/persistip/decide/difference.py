"""
What must be changed in the kernel, and in which order?

In: what is desired and kept by all attachments together, what was observed.  Out: actions.
Nothing is removed that something still leads to: a prefix that is being moved within the node keeps its old entries
until the new ones have been read back. An entry that no attachment wants goes, whoever it was for. What is due goes
behind the puts, and whatever becomes of them: nobody may have it any more, and somebody waits for the word that it is
gone.

    put   guard, exempt, route, proxy      (an address answers only when all behind it stands)
    take  proxy, route, exempt, guard      (and the other way round)
"""

from __future__ import annotations

from persistip.model.actions import DatapathAction, PutEntry, RemoveEntry
from persistip.model.address import sort_key
from persistip.model.entry import Entry, ExemptEntry, GuardEntry, NodeState, ProxyEntry, RouteEntry

_PUT_ORDER: tuple[type, ...] = (GuardEntry, ExemptEntry, RouteEntry, ProxyEntry)


def diff_entries(
    desired: frozenset[Entry], kept: frozenset[Entry], state: NodeState, due: frozenset[Entry] = frozenset()
) -> tuple[DatapathAction, ...]:
    """Puts first, then removals; *due* is neither desired nor kept, and has no more time."""
    missing = desired - state.entries
    in_motion = {entry.prefix for entry in missing}
    stale = {
        entry
        for entry in (state.entries | state.stale) - desired - kept
        if entry.prefix not in in_motion or isinstance(entry, ProxyEntry)
    } | due
    puts = tuple(PutEntry(entry) for entry in sorted(missing, key=_rank))
    takes = tuple(RemoveEntry(entry, is_due=entry in due) for entry in sorted(stale, key=_rank, reverse=True))
    return puts + takes


def _rank(entry: Entry) -> tuple[int, tuple[int, int, int], str, str]:
    link = "" if isinstance(entry, ExemptEntry) else f"{entry.link.name}/{entry.link.index}"
    hardware_address = entry.hardware_address if isinstance(entry, RouteEntry | GuardEntry) else ""
    return _PUT_ORDER.index(type(entry)), sort_key(entry.prefix), link, hardware_address
