"""
Did the system keep its promises, all the time?

In: a running lab.  Out: for each promise how often it was looked at and what was seen that broke it.

    watch   every version of attachments, routes and Pods that the store's watch delivers; looks into the nodes'
            kernels, one after the other; more of them around the death of an agent
    look    at rest: objects decided anew, kernels, who answers, writes that nobody should make

The judging is in ``invariants``; here is only when to look, and at what. Nothing is written anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import attrs

from persistip.backends.memory import ExpiredError, MemoryStore
from persistip.lab.invariants import (
    Findings,
    Kept,
    Named,
    World,
    check_at_rest,
    check_epoch,
    check_foreign,
    check_grants,
    check_kept,
    check_kernel,
    check_leaks,
    check_named_pods,
    check_others,
    check_permissions,
    check_pod_namespace,
    check_quiet,
    check_ready,
    check_same_decision,
)
from persistip.lab.observer import RunningLab
from persistip.lab.results import PromiseResult
from persistip.model.address import IPAddress, Prefix
from persistip.model.attachment import AddressAttachment
from persistip.model.entry import NodeState
from persistip.model.keys import Kind, ObjectKey
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.strategies import ClusterObject
from persistip.wire.decode import Unreadable, key_of, to_model
from persistip.wire.kinds import RESOURCES

NAMES = ("P1", "P2", "P3", "P4", "P5", "P6", "P7")

_WATCHED = (Kind.ATTACHMENT, Kind.ROUTE, Kind.POD)
_TICK_SECONDS = 0.1
_KERNEL_TICKS = 5
"""One node's kernel is looked at every so many ticks: often enough to see much, seldom enough not to be measured."""
_NEW_AGENT_SECONDS = 2.0
_QUIET_SECONDS = 0.3
_QUIET_TRIES = 10
_WRITTEN = frozenset({"AddressAttachment", "GKEIPRoute", "Gateway", "GatewayClass", "Event"})
"""Kinds that our controller and agents write."""
_MOST_SENTENCES = 10
"""The same fault seen a thousand times is one fault."""


def make_promises() -> Watch:
    """Checks for one run, nothing seen yet."""
    return Watch()


class Timeline:
    """
    The watched objects, version by version, and what the API named each node for, and until when.

    Changes of different kinds are put in the store's own order before they are taken in.
    """

    def __init__(self) -> None:
        self.attachments: dict[ObjectKey, AddressAttachment] = {}
        self.pods: dict[str, Pod] = {}
        self.pod_names: dict[str, tuple[str, str]] = {}
        """Namespace and name of every Pod ever heard of, by UID."""
        self._pod_ips: dict[str, frozenset[IPAddress]] = {}
        self._past: list[tuple[float, Mapping[str, Named]]] = []

    def take(self, found: ClusterObject, *, is_gone: bool, now: float) -> Mapping[str, Findings]:
        """One version of one object; what it breaks."""
        match found:
            case Pod():
                self._take_pod(found, is_gone=is_gone)
                return {}
            case AddressAttachment():
                return self._take_attachment(found, is_gone=is_gone, now=now)
            case GKEIPRoute() if not is_gone:
                return {"P1": check_named_pods(found)}
            case _:
                return {}

    def _take_pod(self, pod: Pod, *, is_gone: bool) -> None:
        if is_gone:
            self.pods.pop(pod.meta.uid, None)
        else:
            self.pods[pod.meta.uid] = pod

    def _take_attachment(self, found: AddressAttachment, *, is_gone: bool, now: float) -> Mapping[str, Findings]:
        before = self.attachments.get(found.key)
        self._past = [(at, named) for at, named in self._past if at > now - 60] + [(now, self.named())]
        if is_gone:
            self.attachments.pop(found.key, None)
            return {}
        self.attachments[found.key] = found
        one_holder = check_grants(self.attachments.values())
        if before is not None:
            one_holder += check_epoch(before, found)
        return {"P1": one_holder, "P2": check_pod_namespace(found, self.pod_names)}

    def named(
        self, attachments: Iterable[AddressAttachment] | None = None
    ) -> dict[str, dict[Prefix, frozenset[IPAddress]]]:
        """What *attachments*, by default the present ones, name each node for."""
        named: dict[str, dict[Prefix, frozenset[IPAddress]]] = {}

        def add(node: str, prefixes: Iterable[Prefix], pod_uid: str) -> None:
            for prefix in prefixes:
                mine = named.setdefault(node, {})
                mine[prefix] = mine.get(prefix, frozenset()) | self._pod_ips.get(pod_uid, frozenset())

        for each in self.attachments.values() if attachments is None else attachments:
            holder = each.spec.holder
            if holder is not None:
                self._pod_ips[holder.pod_uid] = frozenset(holder.pod_ips)
                add(holder.node_name, each.spec.held_prefixes, holder.pod_uid)
            for release in each.spec.releasing:
                add(release.node_name, release.prefixes, release.pod_uid)
        return named

    def named_since(self, since: float, now: Iterable[AddressAttachment]) -> Mapping[str, Named]:
        """All that was named at any time since then, *now* included."""
        merged = self.named(now)
        for named in (self.named(), *(named for at, named in self._past if at >= since)):
            for node, prefixes in named.items():
                mine = merged.setdefault(node, {})
                for prefix, ips in prefixes.items():
                    mine[prefix] = mine.get(prefix, frozenset()) | ips
        return merged

    def decisions(self, node: str) -> frozenset[tuple[str, int]] | None:
        """What *node* has to do, once all of it is done and nothing about to change; else None."""
        decisions = set()
        for each in self.attachments.values():
            holder = each.spec.holder
            if any(release.node_name == node for release in each.spec.releasing):
                return None
            if holder is None or holder.node_name != node:
                continue
            pod = self.pods.get(holder.pod_uid)
            if pod is None or pod.meta.is_terminating or not each.is_confirmed:
                return None
            decisions.add((each.meta.uid, each.spec.epoch))
        return frozenset(decisions)


class Watch:
    """The Promises of ``observer``."""

    def __init__(self) -> None:
        self._found = dict.fromkeys(NAMES, Findings())
        self._timeline = Timeline()
        self._arrived: asyncio.Queue[tuple[int, ClusterObject, bool]] = asyncio.Queue()
        self._kept: dict[str, Kept] = {}
        self._foreign: dict[str, frozenset[str]] = {}
        self._failure = ""

    def note(self, promise: str, findings: Findings) -> None:
        """Count what was looked at, and keep what is new of what was seen."""
        old = self._found[promise]
        seen = tuple(dict.fromkeys(old.seen + findings.seen))[:_MOST_SENTENCES]
        self._found[promise] = Findings(old.checks + findings.checks, seen)

    def results(self) -> Mapping[str, PromiseResult]:
        """What was seen so far; a watch that ended by itself proves nothing, and says so."""
        broken = (self._failure,) if self._failure else ()
        return {
            name: PromiseResult(held=not (found.seen or broken), checks=found.checks, seen=found.seen + broken)
            for name, found in self._found.items()
        }

    # ------------------------------------------------------------ all the time

    async def watch(self, lab: RunningLab) -> None:
        """What must hold at every instant; runs until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for kind in _WATCHED:
                    tasks.create_task(self._follow(lab.store, kind))
                tasks.create_task(self._take())
                tasks.create_task(self._look_into_kernels(lab))
        except* Exception as errors:
            self._failure = f"the watch over this promise ended by itself: {errors.exceptions[0]!r}"
            raise

    async def _follow(self, store: MemoryStore, kind: Kind) -> NoReturn:
        while True:
            listing = await store.list(kind)
            for item in listing.items:
                self._arrive(item, is_gone=False)
            try:
                async for event in store.watch(kind, resource_version=listing.resource_version):
                    self._arrive(event.object, is_gone=event.type == "DELETED")
            except ExpiredError:
                continue

    def _arrive(self, item: Mapping[str, Any], *, is_gone: bool) -> None:
        found = to_model(item)
        if isinstance(found, Pod):
            # At once: a list gives a Pod by its latest version, which may be younger than what was decided about it.
            self._timeline.pod_names[found.meta.uid] = (found.meta.namespace, found.meta.name)
        if not isinstance(found, Unreadable):
            self._arrived.put_nowait((int(found.meta.resource_version), found, is_gone))

    async def _take(self) -> NoReturn:
        while True:
            arrived = [await self._arrived.get()]
            # What the followers of other kinds have at hand belongs to the same moment.
            for _ in _WATCHED:
                await asyncio.sleep(0)
            while not self._arrived.empty():
                arrived.append(self._arrived.get_nowait())
            for _, found, is_gone in sorted(arrived, key=lambda each: each[0]):
                for promise, findings in self._timeline.take(found, is_gone=is_gone, now=_now()).items():
                    self.note(promise, findings)

    async def _look_into_kernels(self, lab: RunningLab) -> NoReturn:
        """One node now and then; one whose agent died, or has just begun, at every tick."""
        ran: dict[str, bool] = {}
        watched_until: dict[str, float] = {}
        tick = 0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            tick += 1
            for node, runs in lab.agents().items():
                if ran.get(node) and not runs:
                    watched_until[node] = float("inf")
                elif runs and watched_until.get(node) == float("inf"):
                    watched_until[node] = _now() + _NEW_AGENT_SECONDS
                ran[node] = runs
            chosen = {node for node, until in watched_until.items() if until > _now()}
            if tick % _KERNEL_TICKS == 0 and lab.nodes:
                chosen.add(lab.nodes[tick // _KERNEL_TICKS % len(lab.nodes)])
            for node in sorted(chosen):
                await self._look_into_kernel(lab, node, is_agent_new=watched_until.get(node, 0.0) > _now())

    async def _look_into_kernel(self, lab: RunningLab, node: str, *, is_agent_new: bool) -> None:
        since, before = _now(), self._timeline.decisions(node)
        first = await _attachments(lab.store)
        state = await lab.kernel(node)
        now = await _attachments(lab.store)
        named = self._timeline.named_since(since, (*first, *now))
        one_holder, permitted = check_kernel(node, state, named)
        self.note("P1", one_holder)
        self.note("P2", permitted)
        if before is None or before != self._timeline.decisions(node):
            return
        kept = Kept(decisions=before, state=state)
        if is_agent_new and node in self._kept:
            self.note("P4", check_kept(node, self._kept[node], kept))
        elif not is_agent_new:
            self._kept[node] = kept

    # ------------------------------------------------------------ at rest

    async def look(self, lab: RunningLab) -> None:
        """What must hold when the lab has come to rest."""
        await self._look_for_writes(lab.store)
        world = attrs.evolve(await read_world(lab.store), leaders=lab.leaders())
        for promise, check in (
            ("P2", check_permissions),
            ("P3", check_at_rest),
            ("P6", check_same_decision),
            ("P7", check_others),
        ):
            self.note(promise, check(world))
        # A node that is cut off has not heard yet of what it should let go.
        kernels: dict[str, NodeState] = {node: await lab.kernel(node) for node in lab.nodes if node not in lab.cut_off}
        self.note("P4", check_leaks(world, kernels))
        for node in lab.nodes:
            found = await lab.foreign(node)
            self.note("P4", check_foreign(node, self._foreign.setdefault(node, found), found))
        addresses = [
            str(prefix.network_address)
            for attachment in world.attachments
            if attachment.is_confirmed
            for prefix in attachment.spec.held_prefixes
        ]
        answers = {address: await lab.reach(address) for address in addresses}
        self.note("P5", check_ready(world, kernels, answers))

    async def _look_for_writes(self, store: MemoryStore) -> None:
        """A Pod may still become ready by itself; while others write nothing, we must not either."""
        for _ in range(_QUIET_TRIES):
            ours, others = await _versions(store, _WRITTEN), await _versions(store, RESOURCES.keys() - _WRITTEN)
            await asyncio.sleep(_QUIET_SECONDS)
            if others == await _versions(store, RESOURCES.keys() - _WRITTEN):
                self.note("P3", check_quiet(ours, await _versions(store, _WRITTEN)))
                return


def _now() -> float:
    """The loop's own time, which in a simulation is the simulated one."""
    return asyncio.get_running_loop().time()


async def _attachments(store: MemoryStore) -> tuple[AddressAttachment, ...]:
    found = (to_model(item) for item in (await store.list(Kind.ATTACHMENT)).items)
    return tuple(each for each in found if isinstance(each, AddressAttachment))


async def _versions(store: MemoryStore, kinds: Iterable[str]) -> Mapping[str, str]:
    """The version of every object of *kinds*."""
    return {
        f"{kind} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}": item["metadata"][
            "resourceVersion"
        ]
        for kind in kinds
        for item in (await store.list(kind)).items
    }


async def read_world(store: MemoryStore) -> World:
    """All objects of one instant: the store's lists do not let anything else run in between."""
    objects: dict[ObjectKey, ClusterObject] = {}
    unreadable: dict[ObjectKey, str] = {}
    for kind in Kind:
        for item in (await store.list(kind)).items:
            found, key = to_model(item), key_of(kind, item)
            if key is None:
                continue
            if isinstance(found, Unreadable):
                unreadable[key] = found.message
            else:
                objects[key] = found
    return World(objects=objects, unreadable=unreadable)
