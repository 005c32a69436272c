"""
How do a controller and an agent use the memory store? Exactly as they use an API server.

In: an ObjectStore, in this process or behind a socket.  Out: batches of model objects; outcomes of actions.

    list each kind ──> one Batch a kind, the last is ``synced`` ──> one watch a kind ──> whatever arrived meanwhile is
          ^                                                              │                one Batch
          └── watch closed or expired: this kind again, ``resynced`` <───┘
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import attrs

from persistip.backends.memory.errors import ExpiredError, NotFoundError
from persistip.backends.memory.lease import MemoryLease
from persistip.backends.memory.store import STATUS, ObjectStore
from persistip.errors import BackendError, RejectedError, StaleError
from persistip.model.actions import (
    ClusterAction,
    ConfirmNodeGone,
    CreateAttachment,
    DeleteAttachment,
    Outcome,
    OutcomeState,
    RecordEvent,
    ReplaceAttachment,
    ReportClass,
    ReportGateway,
    ReportNode,
    ReportRoute,
    SetFinalizers,
)
from persistip.model.keys import Kind, ObjectKey, node_label, short_hash
from persistip.model.node import Node
from persistip.runtime.retry import outcome_of
from persistip.strategies import Batch, ClusterObject
from persistip.wire.decode import Unreadable, key_of, to_model
from persistip.wire.encode import from_model, status_from_model
from persistip.wire.kinds import RESOURCES

CONTROLLER = "persistip-controller"


@attrs.frozen(kw_only=True)
class _News:
    """What one list or one event says; ``resynced``: it is the complete list of its kind."""

    kind: Kind
    objects: Mapping[ObjectKey, ClusterObject | None]
    unreadable: Mapping[ObjectKey, str]
    resynced: bool


class MemoryCluster:
    """
    The Cluster on an ObjectStore.

    With *node_name* it is an agent's: it watches the attachments that carry the node's label and nothing else.
    *manager* is the field manager of its status writes; each agent needs its own, which is the default.
    """

    def __init__(self, store: ObjectStore, *, manager: str = "", node_name: str | None = None) -> None:
        self._store = store
        self._manager = manager or (CONTROLLER if node_name is None else f"persistip-agent-{short_hash(node_name)}")
        self._kinds = tuple(Kind) if node_name is None else (Kind.ATTACHMENT,)
        self._labels = "" if node_name is None else node_label(node_name)

    def lease(self, namespace: str, name: str) -> MemoryLease:
        """The record by which replicas agree on one of them."""
        return MemoryLease(self._store, namespace, name)

    # ------------------------------------------------------------ observe
    async def changes(self) -> AsyncIterator[Batch]:
        """Batches of latest objects; raises UnavailableError when the store cannot be reached."""
        starts: dict[Kind, str] = {}
        for kind in self._kinds:
            news, starts[kind] = await self._list(kind)
            yield _batch([news], synced=len(starts) == len(self._kinds))
        arrivals: asyncio.Queue[_News | Exception] = asyncio.Queue()
        followers = [asyncio.create_task(self._follow(kind, starts[kind], arrivals)) for kind in self._kinds]
        try:
            while True:
                arrived = [await arrivals.get()]
                while not arrivals.empty():
                    arrived.append(arrivals.get_nowait())
                for each in arrived:
                    if isinstance(each, Exception):
                        raise each
                yield _batch([each for each in arrived if isinstance(each, _News)], synced=True)
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def _list(self, kind: Kind) -> tuple[_News, str]:
        listing = await self._store.list(kind, labels=self._labels)
        objects: dict[ObjectKey, ClusterObject | None] = {}
        unreadable: dict[ObjectKey, str] = {}
        for item in listing.items:
            _read(kind, item, objects, unreadable)
        return _News(kind=kind, objects=objects, unreadable=unreadable, resynced=True), listing.resource_version

    async def _follow(self, kind: Kind, start: str, arrivals: asyncio.Queue[_News | Exception]) -> None:
        """Watch from *start* on; list again, complete, whenever the watch has a gap."""
        try:
            while True:
                try:
                    async for event in self._store.watch(kind, resource_version=start, labels=self._labels):
                        arrivals.put_nowait(_news(kind, event.type, event.object))
                except ExpiredError:
                    pass
                news, start = await self._list(kind)
                arrivals.put_nowait(news)
        except Exception as error:  # noqa: BLE001 - raised by whoever reads the changes, or he would go on half blind
            arrivals.put_nowait(error)

    # ------------------------------------------------------------ act
    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """Carry out *actions* in order; what fails is an Outcome."""
        outcomes = []
        for action in actions:
            try:
                outcomes.append(await self._apply(action))
            except BackendError as error:
                outcomes.append(outcome_of(error))
        return outcomes

    async def _apply(self, action: ClusterAction) -> Outcome:
        match action:
            case CreateAttachment(attachment=attachment):
                return _done(await self._store.create(_request(attachment, is_new=True)))
            case ReplaceAttachment(attachment=attachment, forgotten=forgotten):
                _demand_precondition("a replacement", attachment.meta.uid, attachment.meta.resource_version)
                return _done(
                    await self._forget(await self._store.update(_request(attachment, is_new=False)), forgotten)
                )
            case DeleteAttachment(name=name, uid=uid, resource_version=version):
                _demand_precondition("a deletion", uid, version)
                kind = Kind.ATTACHMENT
                return _done(await self._store.delete(kind, "", name, uid=uid, resource_version=version))
            case ReportRoute(key=key, status=status) | ReportGateway(key=key, status=status):
                return await self._report(key, action.uid, action.resource_version, status_from_model(status))
            case ReportClass(key=key, conditions=conditions):
                return await self._report(key, action.uid, action.resource_version, status_from_model(conditions))
            case SetFinalizers():
                return await self._set_finalizers(action)
            case ReportNode(name=name, uid=uid, report=report):
                return await self._report(ObjectKey(Kind.ATTACHMENT, "", name), uid, "", status_from_model(report))
            case RecordEvent():
                return await self._record(action)
            case ConfirmNodeGone(name=name, uid=uid):
                return await self._confirm_gone(name, uid)
            case _:  # a newer kind of action than this backend knows
                message = f"{type(action).__name__} is unknown to this cluster"  # type: ignore[unreachable]
                return Outcome(state=OutcomeState.UNSUPPORTED, message=message)

    async def _set_finalizers(self, action: SetFinalizers) -> Outcome:
        key, uid, version = action.key, action.uid, action.resource_version
        _demand_precondition("a change of finalizers", uid, version)
        metadata = {"uid": uid, "resourceVersion": version, "finalizers": list(action.finalizers) or None}
        return _done(await self._store.patch(key.kind, key.namespace, key.name, {"metadata": metadata}))

    async def _forget(self, written: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """Take entries out of ``status.nodes`` of what was just written; the object as it stands then."""
        status = written.get(STATUS) or {}
        left = [entry for entry in status.get("nodes") or () if entry["nodeName"] not in names]
        if len(left) == len(status.get("nodes") or ()):
            return written
        try:
            # By update, not by apply: apply takes away its own manager's fields, and these are the agents'.
            changed = {**written, STATUS: {**status, "nodes": left}}
            return await self._store.update(changed, subresource=STATUS, manager=self._manager)
        except BackendError:
            return written  # an agent came between: with a later replacement, then

    async def _report(self, key: ObjectKey, uid: str, resource_version: str, status: dict[str, Any]) -> Outcome:
        metadata = {"name": key.name, "namespace": key.namespace, "uid": uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": RESOURCES[key.kind].api_version,
            "kind": str(key.kind),
            "metadata": {field: value for field, value in metadata.items() if value},
            STATUS: status,
        }
        # Forced as every controller's status is: the conditions of others have other types, so none is taken.
        return _done(await self._store.apply(body, manager=self._manager, force=True))

    async def _confirm_gone(self, name: str, uid: str) -> Outcome:
        try:
            found = await self._store.get(Kind.NODE, "", name)
        except NotFoundError:
            return Outcome(state=OutcomeState.DONE)
        node = to_model(found)
        is_off = isinstance(node, Node) and node.out_of_service
        if found["metadata"]["uid"] != uid or is_off:
            return Outcome(state=OutcomeState.DONE)
        raise StaleError(f"Node {name} ({uid}) is there", system="memory", operation="get", target=name)

    async def _record(self, action: RecordEvent) -> Outcome:
        key = action.regarding
        names = {"namespace": key.namespace, "name": key.name, "uid": action.uid}
        await self._store.record_event(
            regarding={
                "apiVersion": RESOURCES[key.kind].api_version,
                "kind": str(key.kind),
                **{field: value for field, value in names.items() if value},
            },
            reason=action.reason,
            action=action.action,
            note=action.message,
            warning=action.warning,
            manager=self._manager,
        )
        return Outcome(state=OutcomeState.DONE)


def _demand_precondition(what: str, uid: str, resource_version: str) -> None:
    if not uid or not resource_version:
        raise RejectedError(f"{what} needs UID and resourceVersion of its object")


def _request(attachment: ClusterObject, *, is_new: bool) -> dict[str, Any]:
    body = from_model(attachment)
    body.pop(STATUS, None)
    if is_new:
        # They are the server's to give, whatever object the new one was made from.
        for field in ("uid", "resourceVersion"):
            body["metadata"].pop(field, None)
    return body


def _done(obj: dict[str, Any] | None) -> Outcome:
    written = None if obj is None else to_model(obj)
    return Outcome(state=OutcomeState.DONE, written=None if isinstance(written, Unreadable) else written)


def _read(
    kind: Kind,
    item: Mapping[str, Any],
    objects: dict[ObjectKey, ClusterObject | None],
    unreadable: dict[ObjectKey, str],
) -> None:
    value = to_model(item)
    if not isinstance(value, Unreadable):
        objects[value.key] = value
    elif (key := key_of(kind, item)) is not None:
        unreadable[key] = str(value)


def _news(kind: Kind, event_type: str, item: Mapping[str, Any]) -> _News:
    objects: dict[ObjectKey, ClusterObject | None] = {}
    unreadable: dict[ObjectKey, str] = {}
    if event_type == "DELETED":
        key = key_of(kind, item)
        if key is not None:
            objects[key] = None
    else:
        _read(kind, item, objects, unreadable)
    return _News(kind=kind, objects=objects, unreadable=unreadable, resynced=False)


def _batch(arrived: Sequence[_News], *, synced: bool) -> Batch:
    """The latest state that *arrived*, in order, adds up to."""
    objects: dict[ObjectKey, ClusterObject | None] = {}
    unreadable: dict[ObjectKey, str] = {}
    for news in arrived:
        if news.resynced:
            objects = {key: obj for key, obj in objects.items() if key.kind != news.kind}
            unreadable = {key: why for key, why in unreadable.items() if key.kind != news.kind}
        for key in news.objects:
            unreadable.pop(key, None)
        for key in news.unreadable:
            objects.pop(key, None)
        objects.update(news.objects)
        unreadable.update(news.unreadable)
    resynced = frozenset(str(news.kind) for news in arrived if news.resynced)
    return Batch(objects=objects, unreadable=unreadable, resynced=resynced, synced=synced)
