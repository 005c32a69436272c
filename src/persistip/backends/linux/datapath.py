"""
How does a node's kernel carry its addresses?

In: the plan's actions.  Out: outcomes, and looks at what the kernel holds.
``LinuxDatapath`` is the strategy ``Datapath`` for the network namespace in which it is made. All it knows that the
kernel does not is the pin file; everything else is found again by a process without memory.

    observe  snapshot.py ── description.py, resolution.py ──> NodeState
    apply    actions ── program.py, execution.py ──> settings, nftables, rtnetlink ──> outcomes
    changes  watch.py ──> wake
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from persistip.backends.linux import neighbours, nft, routes
from persistip.backends.linux.description import describe
from persistip.backends.linux.execution import Execution, outcome_of
from persistip.backends.linux.pins import PinStore
from persistip.backends.linux.resolution import Resolver
from persistip.backends.linux.ruleset import TABLE_NAME
from persistip.backends.linux.snapshot import PROTOCOL, Reader, Snapshot
from persistip.backends.linux.sockets import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from persistip.backends.linux.sysctls import ROOT, Changed, Setting, ensure_settings
from persistip.backends.linux.watch import KernelMonitor
from persistip.errors import BackendError
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
from persistip.model.address import IPAddress, Prefix
from persistip.model.entry import LinkRef, NodeScope, NodeState, PodLink

_RESYNC_SECONDS = 30.0
"""Routes that vanish with their link and lost proxy entries make no notification of their own."""

_SETTLE_SECONDS = 0.002
"""A change seldom comes alone; waiting this long makes one look of many."""

_ANSWER_PAUSES_SECONDS = (0.0, 0.001, 0.002, 0.004)
"""A Pod that is there answers at once, or with the kernel's next tick; of a later one the kernel's events tell."""

_ACTIONS_PER_PORTION = 200
"""So that one nftables transaction fits the send buffer that a process without privileges gets."""


class LinuxDatapath:
    """
    Delivery by the kernel's own routes, neighbour entries and nftables.

    *state_directory* holds the pin file. *uplinks* are names or patterns of the links towards the network outside;
    by default those of the default routes. *on_setting_changed* is told of every kernel setting that had to be
    raised, which is written below *sysctl_directory*. Use as a context manager, in the node's network namespace.
    """

    def __init__(
        self,
        state_directory: Path,
        *,
        uplinks: Sequence[str] = (),
        resync_seconds: float = _RESYNC_SECONDS,
        on_setting_changed: Callable[[Changed], None] | None = None,
        sysctl_directory: Path = ROOT,
    ) -> None:
        self._pins = PinStore(state_directory)
        self._resync_seconds = resync_seconds
        self._on_setting_changed = on_setting_changed
        self._sysctl_directory = sysctl_directory
        self._route = NetlinkSocket(NETLINK_ROUTE)
        self._netfilter = NetlinkSocket(NETLINK_NETFILTER)
        self._monitor = KernelMonitor(self._is_relevant, (self._route.port, self._netfilter.port))
        self._reader = Reader(self._route, self._netfilter, uplinks)
        self._resolver = Resolver(self._route)
        self._snapshot: Snapshot | None = None
        self._watched: frozenset[IPAddress] = frozenset()
        # Prefixes seen or found to be obstructed; of one that was never put nothing else would remind the next look.
        self._obstructed: frozenset[Prefix] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the sockets back; everything programmed stays and goes on working."""
        self._monitor.close()
        self._route.close()
        self._netfilter.close()

    # ------------------------------------------------------------------------------------------------------ observe

    async def observe(self, scope: NodeScope) -> NodeState:
        """Everything ours, whole or not, what is in our way, and the links of the Pod IPs in *scope*."""
        self._watched = scope.pod_ips
        snapshot = self._snapshot = self._reader.read()
        pod_links = await self._resolve(sorted(scope.pod_ips, key=str), snapshot)
        entries, stale, obstacles = describe(snapshot, self._obstructed)
        self._obstructed = frozenset(obstacle.prefix for obstacle in obstacles)
        return NodeState(
            entries=entries,
            stale=stale,
            uplinks=snapshot.uplinks,
            pod_links=pod_links,
            pins=self._pins.pins,
            obstacles=obstacles,
            own_ips=snapshot.own_ips,
            gateways=snapshot.gateways,
        )

    async def _resolve(self, pod_ips: Sequence[IPAddress], snapshot: Snapshot) -> Mapping[IPAddress, PodLink]:
        """The Pods' links; those asked for the first time get a moment to answer, since traffic may wait for it."""
        links = self._resolver.resolve(pod_ips, snapshot, self._pins.pins)
        for pause in _ANSWER_PAUSES_SECONDS:
            if not self._resolver.awaited:
                break
            await asyncio.sleep(pause)
            self._reader.read_neighbours(snapshot)
            links = self._resolver.resolve(pod_ips, snapshot, self._pins.pins, is_asking=False)
        return links

    # ------------------------------------------------------------------------------------------------------ changes

    async def changes(self) -> AsyncIterator[None]:
        """Wakes when something that ``observe`` reports may have changed, and now and then besides."""
        self._monitor.start()
        while True:
            if await self._monitor.wait(self._resync_seconds):
                await asyncio.sleep(_SETTLE_SECONDS)
                self._monitor.forget()
            yield

    def _is_relevant(self, family: int, number: int, body: bytes) -> bool:
        if family == NETLINK_NETFILTER:
            return nft.is_about(body, (TABLE_NAME,))
        if number in (routes.NEW_ROUTE, routes.DELETE_ROUTE):
            route = routes.parse_route(body)
            return route is not None and (
                route.protocol == PROTOCOL or route.table in (routes.TABLE_LOCAL, routes.TABLE_MAIN)
            )
        if number in (neighbours.NEW_NEIGHBOUR, neighbours.DELETE_NEIGHBOUR):
            neighbour = neighbours.parse_neighbour(body)
            return neighbour is not None and self._concerns_us(neighbour, number)
        return True

    def _concerns_us(self, neighbour: neighbours.Neighbour, number: int) -> bool:
        """Entries change their state all the time: only ours, and news about a Pod's hardware address, count."""
        if neighbour.protocol == PROTOCOL and number == neighbours.DELETE_NEIGHBOUR and self._snapshot is not None:
            # The kernel tells the end of an entry that we have deleted as if it had come of itself.
            held = self._snapshot.proxies if neighbour.is_proxy else self._snapshot.neighbours
            return (neighbour.link, neighbour.address) in held
        if neighbour.protocol == PROTOCOL or neighbour.is_proxy:
            return True
        if neighbour.address not in self._watched:
            return False
        known = self._resolver.knows(neighbour.link, neighbour.address)
        if number == neighbours.DELETE_NEIGHBOUR or not neighbour.hardware_address:
            return False
        if known is None:
            return bool(neighbour.state & neighbours.HAS_ADDRESS)
        return neighbour.hardware_address != known

    # -------------------------------------------------------------------------------------------------------- apply

    async def apply(self, actions: Sequence[DatapathAction]) -> Sequence[Outcome]:
        """
        Carry out *actions* in order, one outcome each; a failed one does not stop the next.

        With one exception: a Pod whose pin could not be recorded is not programmed.
        """
        outcomes: list[Outcome] = []
        unpinned: set[tuple[LinkRef, str]] = set()
        for kind, group in groupby(actions, _kind_of):
            members = list(group)
            if kind is _Kind.PIN:
                done = self._keep_pins(members)
                unpinned |= {
                    (action.pin.link, action.pin.hardware_address)
                    for action, outcome in zip(members, done, strict=True)
                    if isinstance(action, RecordPin) and not outcome.is_done
                }
                outcomes += done
            elif kind is _Kind.ENTRY:
                outcomes += self._program(members, unpinned)
            else:
                outcomes += [
                    Outcome(state=OutcomeState.UNSUPPORTED, message=f"{type(action).__name__} is not known here")
                    for action in members
                ]
        return outcomes

    def _keep_pins(self, actions: Iterable[DatapathAction]) -> list[Outcome]:
        members = list(actions)
        try:
            self._pins.update(
                recorded=[action.pin for action in members if isinstance(action, RecordPin)],
                forgotten=[action.pin for action in members if isinstance(action, ForgetPin)],
            )
        except BackendError as error:
            return [outcome_of(error)] * len(members)
        return [DONE] * len(members)

    def _program(self, actions: Iterable[DatapathAction], unpinned: set[tuple[LinkRef, str]]) -> list[Outcome]:
        """
        All at once; what was refused once more, one by one, on a fresh look.

        The first attempt rests on the last look, which may be old by now.
        """
        members = [action for action in actions if isinstance(action, PutEntry | RemoveEntry)]
        outcomes: list[Outcome] = []
        for start in range(0, len(members), _ACTIONS_PER_PORTION):
            portion = members[start : start + _ACTIONS_PER_PORTION]
            done = self._attempt(portion, unpinned)
            for index, outcome in enumerate(done):
                if outcome.state is OutcomeState.BLOCKED:
                    self._obstructed |= {portion[index].entry.prefix}
                if outcome.state is OutcomeState.FAILED:
                    self._snapshot = None
                    done[index] = self._attempt(portion[index : index + 1], unpinned)[0]
            if any(outcome.state is OutcomeState.FAILED for outcome in done):
                self._snapshot = None
            outcomes += done
        return outcomes

    def _attempt(self, actions: Sequence[PutEntry | RemoveEntry], unpinned: set[tuple[LinkRef, str]]) -> list[Outcome]:
        try:
            if self._snapshot is None:
                self._snapshot = self._reader.read()
            execution = Execution(self._route, self._netfilter, self._snapshot, self._raise_settings)
            return execution.run(actions, unpinned)
        except BackendError as error:
            return [outcome_of(error)] * len(actions)

    def _raise_settings(self, settings: Iterable[Setting]) -> None:
        for changed in ensure_settings(settings, self._sysctl_directory):
            if self._on_setting_changed is not None:
                self._on_setting_changed(changed)


class _Kind(Enum):
    PIN = auto()
    ENTRY = auto()
    OTHER = auto()


def _kind_of(action: object) -> _Kind:
    if isinstance(action, RecordPin | ForgetPin):
        return _Kind.PIN
    return _Kind.ENTRY if isinstance(action, PutEntry | RemoveEntry) else _Kind.OTHER
