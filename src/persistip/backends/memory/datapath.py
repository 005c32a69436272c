"""
How does an agent work on a node of the memory fabric?

In: the fabric and the node's name.  Out: a Datapath and an Announcer with a kernel's semantics. They hold nothing
themselves: entries and pins are the node's, so an agent that starts anew finds what its predecessor left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from persistip.backends.memory.fabric import FabricNode, MemoryFabric
from persistip.model.actions import (
    DONE,
    DatapathAction,
    ForgetPin,
    Outcome,
    OutcomeState,
    PutEntry,
    RecordPin,
    RemoveEntry,
)
from persistip.model.address import is_overlapping, is_single
from persistip.model.conditions import Reason
from persistip.model.entry import Announcement, Entry, GuardEntry, NodeScope, NodeState, PodLink, ProxyEntry, RouteEntry

_NOW_AND_THEN_SECONDS = 30.0


class MemoryDatapath:
    """The Datapath of one node of *fabric*."""

    def __init__(self, fabric: MemoryFabric, node_name: str) -> None:
        self._fabric = fabric
        self._node: FabricNode = fabric.node(node_name)

    async def observe(self, scope: NodeScope) -> NodeState:
        """One look; what it returns never changes afterwards."""
        node = self._node
        pods = {ip: self._fabric.pod_at(node.name, ip) for ip in scope.pod_ips}
        return NodeState(
            entries=frozenset(node.entries),
            stale=frozenset(node.stale),
            uplinks=node.uplinks,
            pod_links={
                ip: PodLink(ip=ip, link=pod.link, hardware_address=None if pod.is_mute else pod.hardware_address)
                for ip, pod in pods.items()
                if pod is not None
            },
            pins=frozenset(node.pins),
            obstacles=tuple(node.obstacles.values()),
            own_ips=frozenset({node.ip}),
            gateways=node.gateways,
        )

    async def changes(self) -> AsyncIterator[None]:
        """Wakes at each change on the node and twice a minute."""
        changed = self._node.listen()
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _NOW_AND_THEN_SECONDS)
                changed.clear()
                yield
        finally:
            self._node.unlisten(changed)

    async def apply(self, actions: Sequence[DatapathAction]) -> Sequence[Outcome]:
        """Carry out *actions* in order."""
        node = self._node
        before = (set(node.entries), set(node.stale), set(node.pins))
        outcomes = [node.failure(action) or self._apply(action) for action in actions]
        # Only what took effect wakes: an action refused again and again must not call for itself.
        if before != (node.entries, node.stale, node.pins):
            node.wake()
        return outcomes

    def _apply(self, action: DatapathAction) -> Outcome:
        node = self._node
        match action:
            case RecordPin(pin=pin):
                same = (pin.attachment_uid, pin.pod_uid)
                node.pins = {old for old in node.pins if (old.attachment_uid, old.pod_uid) != same} | {pin}
                return DONE
            case ForgetPin(pin=pin):
                node.pins.discard(pin)
                return DONE
            case PutEntry(entry=entry):
                return self._put(entry)
            case RemoveEntry(entry=entry):
                node.entries.discard(entry)
                node.stale.discard(entry)
                return DONE
            case _:  # a newer kind of action than this backend knows
                message = f"{type(action).__name__} is unknown to this datapath"  # type: ignore[unreachable]
                return Outcome(state=OutcomeState.UNSUPPORTED, message=message)

    def _put(self, entry: Entry) -> Outcome:
        node = self._node
        why = self._refusal(entry)
        if why is not None:
            return why
        if isinstance(entry, RouteEntry):
            # One route a prefix: the new one takes the place of the old in one step.
            for entries in (node.entries, node.stale):
                entries -= {old for old in entries if isinstance(old, RouteEntry) and old.prefix == entry.prefix}
        node.stale.discard(entry)
        node.entries.add(entry)
        return DONE

    def _refusal(self, entry: Entry) -> Outcome | None:
        node = self._node
        if isinstance(entry, RouteEntry | GuardEntry) and not self._fabric.has_link(node.name, entry.link):
            message = f"link {entry.link.name} (index {entry.link.index}) does not exist"
            return Outcome(state=OutcomeState.FAILED, reason=Reason.POD_LINK_NOT_FOUND, message=message, stale=True)
        if isinstance(entry, ProxyEntry):
            if not is_single(entry.prefix):
                message = f"{entry.prefix} is more than one address, for which no kernel answers"
                return Outcome(state=OutcomeState.BLOCKED, reason="Rejected", message=message)
            if entry.link not in node.uplinks:
                message = f"link {entry.link.name} (index {entry.link.index}) does not exist"
                return Outcome(state=OutcomeState.FAILED, reason=Reason.PROGRAMMING_FAILED, message=message, stale=True)
        if isinstance(entry, RouteEntry):
            for obstacle in node.obstacles.values():
                if is_overlapping(obstacle.prefix, entry.prefix):
                    return Outcome(state=OutcomeState.BLOCKED, reason="NotOurs", message=obstacle.message)
        return None


class MemoryAnnouncer:
    """
    The Announcer of one node of *fabric*; the fabric repeats what is announced when a test lets time pass.

    Frames come from a process: a new announcer begins with none, whatever its predecessor announced.
    """

    def __init__(self, fabric: MemoryFabric, node_name: str) -> None:
        self._fabric = fabric
        self._node = fabric.node(node_name)
        self._node.announced = frozenset()

    async def announce(self, wanted: frozenset[Announcement]) -> Sequence[Outcome]:
        """Send a frame for each that is new; one outcome for each of *wanted*, in the order of their text."""
        outcomes = []
        sound = set()
        for announcement in sorted(wanted, key=repr):
            if not is_single(announcement.prefix) or announcement.link not in self._node.uplinks:
                message = f"{announcement.prefix} cannot be announced on {announcement.link.name}"
                outcomes.append(Outcome(state=OutcomeState.FAILED, reason=Reason.PROGRAMMING_FAILED, message=message))
                continue
            sound.add(announcement)
            if announcement not in self._node.announced:
                self._fabric.announce(self._node.name, announcement)
            outcomes.append(DONE)
        self._node.announced = frozenset(sound)
        return outcomes
