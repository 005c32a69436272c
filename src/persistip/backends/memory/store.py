"""
What would an API server answer, without one?

In: requests on plain JSON objects.  Out: what Kubernetes answers, errors as our error tree. One revision counts all
writes, as etcd's does. Everything handed out is a copy. Not here: namespaces need not exist, owner references collect
no garbage, and only AddressAttachment has rules of validation.

    create ── get ── update (PUT) ── patch (merge) ── apply (server-side, status) ── delete
                        │ status ignored on the object, everything else ignored on /status
                        └ resourceVersion and uid are preconditions where given
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import attrs

from persistip.backends.memory.errors import AlreadyExistsError, ConflictError, NotFoundError
from persistip.backends.memory.fields import Owners, apply_fields, update_fields
from persistip.backends.memory.labels import parse_selector
from persistip.backends.memory.rules import refusal
from persistip.backends.memory.watching import Change, History, Interest, WatchEvent, copy_json
from persistip.errors import RejectedError
from persistip.model.keys import short_hash
from persistip.strategies import Clock
from persistip.wire.kinds import RESOURCES, Resource
from persistip.wire.times import format_micro_time, format_time

JSON = dict[str, Any]
STATUS = "status"

_SERVERS_OWN = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
)
_FINISHED = frozenset({"Succeeded", "Failed"})
_DEFAULT_GRACE_SECONDS = 30


@attrs.frozen
class Listing:
    """A consistent list and the version from which to watch on."""

    items: tuple[JSON, ...]
    resource_version: str


class ObjectStore(Protocol):
    """What the memory cluster asks of a store, in this process or behind a socket."""

    async def create(self, body: Mapping[str, Any]) -> JSON:
        """POST: AlreadyExistsError when the name is taken."""
        ...

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        """GET one object: NotFoundError when there is none."""
        ...

    async def list(self, kind: str, *, namespace: str | None = None, labels: str = "") -> Listing:
        """GET a collection; ``labels`` is a label selector as text."""
        ...

    async def update(self, body: Mapping[str, Any], *, subresource: str = "", manager: str = "") -> JSON:
        """PUT: ``metadata.resourceVersion`` and ``metadata.uid`` are preconditions where given (ConflictError)."""
        ...

    async def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
        manager: str = "",
    ) -> JSON:
        """PATCH as JSON merge patch: None removes a key, lists are replaced."""
        ...

    async def apply(self, body: Mapping[str, Any], *, manager: str, force: bool = False) -> JSON:
        """Server-side apply of ``status``; ``metadata.uid`` and ``resourceVersion`` are preconditions where given."""
        ...

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
    ) -> JSON | None:
        """DELETE: the object as it waits for its finalizers or its grace period, None when it is gone."""
        ...

    async def record_event(
        self, *, regarding: Mapping[str, Any], reason: str, action: str, note: str, warning: bool, manager: str
    ) -> JSON:
        """Create an Event, or count one more in its series when the same was recorded before."""
        ...

    def watch(
        self, kind: str, *, resource_version: str, namespace: str | None = None, labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Changes after *resource_version*; ends when the server closes it, ExpiredError (410) when it must list."""
        ...


@attrs.define
class _Record:
    obj: JSON
    owners: Owners = attrs.field(factory=dict)


class MemoryStore:
    """An API server's semantics in this process; an ObjectStore."""

    def __init__(
        self,
        clock: Clock,
        *,
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
        resources: Mapping[str, Resource] = RESOURCES,
        history_limit: int = 10_000,
    ) -> None:
        self._clock = clock
        self._new_uid = new_uid
        self._resources = resources
        self._records: dict[str, dict[tuple[str, str], _Record]] = {kind: {} for kind in resources}
        self._revision = 1
        self._history = History(history_limit)

    @property
    def revision(self) -> int:
        """How many writes there were, as etcd counts them."""
        return self._revision

    # ------------------------------------------------------------ reading
    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        """GET one object: NotFoundError when there is none."""
        return copy_json(self._find(kind, namespace, name).obj)

    async def list(self, kind: str, *, namespace: str | None = None, labels: str = "") -> Listing:
        """GET a collection, in the order of namespace and name."""
        interest = self._interest(kind, namespace, labels)
        items = (
            copy_json(record.obj)
            for (where, _), record in sorted(self._records[kind].items(), key=lambda pair: pair[0])
            if namespace in (None, where) and interest.covers(record.obj)
        )
        return Listing(tuple(items), str(self._revision))

    def watch(
        self, kind: str, *, resource_version: str, namespace: str | None = None, labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Changes after *resource_version*, which is a list's or an object's."""
        interest = self._interest(kind, namespace, labels)
        return self._history.watch(interest, _revision_of(resource_version), latest=self._revision)

    def break_watches(self) -> None:
        """End every watch, as a restarting API server does."""
        self._history.end_watches()

    def compact(self) -> None:
        """Forget all history: a watch from an older version gets 410."""
        self._history.forget()

    # ------------------------------------------------------------ writing
    async def create(self, body: Mapping[str, Any]) -> JSON:
        """POST. ``status`` is dropped where it is a subresource."""
        new = self._admitted(body)
        metadata, resource = new["metadata"], self._resources[new["kind"]]
        if metadata.get("resourceVersion"):
            raise self._rejected("create", new, "metadata.resourceVersion: must not be set on objects to be created")
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                raise self._rejected("create", new, "metadata.name: is required")
            metadata["name"] = f"{metadata['generateName']}{short_hash(str(self._revision))[:5]}"
        key = (metadata.get("namespace", ""), metadata["name"])
        if key in self._records[new["kind"]]:
            raise AlreadyExistsError("already exists", system="memory", operation="create", target=_target(new))
        for field in ("generation", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"):
            metadata.pop(field, None)
        metadata["uid"] = self._new_uid()
        metadata["creationTimestamp"] = format_time(self._clock.now())
        if resource.has_status:
            metadata["generation"] = 1
            new.pop(STATUS, None)
        return self._write(None, _Record(new))

    async def update(self, body: Mapping[str, Any], *, subresource: str = "", manager: str = "") -> JSON:
        """PUT on the object, or on its status with ``subresource="status"``."""
        new = self._admitted(body)
        metadata = new["metadata"]
        record = self._find(new["kind"], metadata.get("namespace", ""), metadata.get("name", ""))
        self._check_preconditions("update", record.obj, metadata)
        if subresource == STATUS:
            return self._put_status(record, new.get(STATUS) or {}, manager)
        return self._put(record, new)

    async def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
        manager: str = "",
    ) -> JSON:
        """PATCH (RFC 7386)."""
        record = self._find(kind, namespace, name)
        self._check_preconditions("patch", record.obj, patch.get("metadata") or {})
        new = self._admitted(_merged(copy_json(record.obj), patch))
        if subresource == STATUS:
            return self._put_status(record, new.get(STATUS) or {}, manager)
        return self._put(record, new)

    async def apply(self, body: Mapping[str, Any], *, manager: str, force: bool = False) -> JSON:
        """Server-side apply of ``status``; the object must exist."""
        applied = self._admitted(body)
        metadata = applied["metadata"]
        record = self._find(applied["kind"], metadata.get("namespace", ""), metadata.get("name", ""))
        self._check_preconditions("apply", record.obj, metadata)
        merged = apply_fields(
            record.obj.get(STATUS) or {}, applied.get(STATUS) or {}, record.owners, manager, force=force
        )
        return self._write(record, _Record(_with_status(record.obj, merged.value), merged.owners))

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
    ) -> JSON | None:
        """
        DELETE. An object with finalizers waits for them, a Pod bound to a node for its kubelet.

        The kubelet ends a Pod by deleting it with ``grace_seconds=0``.
        """
        record = self._find(kind, namespace, name)
        self._check_preconditions("delete", record.obj, {"uid": uid, "resourceVersion": resource_version})
        grace = _grace_seconds(record.obj, grace_seconds)
        metadata = record.obj["metadata"]
        if grace == 0 and not metadata.get("finalizers"):
            self._remove(record)
            return None
        if metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
            return await self.get(kind, namespace, name)
        marked = copy_json(record.obj)
        marked["metadata"]["deletionTimestamp"] = format_time(self._clock.now() + grace)
        marked["metadata"]["deletionGracePeriodSeconds"] = grace
        if not metadata.get("deletionTimestamp") and "generation" in metadata:
            marked["metadata"]["generation"] += 1
        return self._write(record, _Record(marked, record.owners))

    async def record_event(
        self, *, regarding: Mapping[str, Any], reason: str, action: str, note: str, warning: bool, manager: str
    ) -> JSON:
        """Create an events.k8s.io/v1 Event, or raise the count of its series."""
        namespace = regarding.get("namespace") or "default"
        what = short_hash("\0".join((regarding.get("uid", ""), reason, action, note, manager, str(warning))))
        name = f"{regarding['name']}.{what}"
        now = format_micro_time(self._clock.now())
        known = self._records["Event"].get((namespace, name))
        if known is not None:
            count = (known.obj.get("series") or {"count": 1})["count"] + 1
            series = {"count": count, "lastObservedTime": now}
            return self._write(known, _Record({**known.obj, "series": series}))
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": name},
            "eventTime": now,
            "reportingController": manager,
            "reportingInstance": manager,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": action,
            "note": note,
            "regarding": dict(regarding),
        }
        return await self.create(body)

    # ------------------------------------------------------------ how
    def _find(self, kind: str, namespace: str, name: str) -> _Record:
        self._resource(kind)
        record = self._records[kind].get((namespace, name))
        if record is None:
            target = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            raise NotFoundError("not found", system="memory", operation="find", target=target)
        return record

    def _resource(self, kind: str) -> Resource:
        resource = self._resources.get(kind)
        if resource is None:
            raise RejectedError(f"no kind {kind!r} is registered", system="memory", operation="find", target=kind)
        return resource

    def _interest(self, kind: str, namespace: str | None, labels: str) -> Interest:
        self._resource(kind)
        return Interest(kind=kind, namespace=namespace, selector=parse_selector(labels))

    def _admitted(self, body: Mapping[str, Any]) -> JSON:
        """A copy of *body* that has metadata, a known kind, our API version and a namespace where one belongs."""
        new = copy_json(dict(body))
        metadata = new.get("metadata")
        if not isinstance(metadata, dict):
            raise RejectedError("metadata: is required", system="memory", operation="decode")
        resource = self._resource(str(new.get("kind")))
        if new.get("apiVersion") not in resource.api_versions:
            versions = " or ".join(resource.api_versions)
            raise self._rejected("decode", new, f"apiVersion: {resource.kind} is served as {versions}")
        new["apiVersion"] = resource.api_version
        if resource.namespaced:
            metadata["namespace"] = metadata.get("namespace") or "default"
        elif metadata.pop("namespace", ""):
            raise self._rejected("decode", new, f"metadata.namespace: {resource.kind} has none")
        return new

    def _check_preconditions(self, operation: str, obj: JSON, wanted: Mapping[str, Any]) -> None:
        for field in ("uid", "resourceVersion"):
            if wanted.get(field) and wanted[field] != obj["metadata"][field]:
                message = f"{field} is {obj['metadata'][field]}, not {wanted[field]}"
                raise ConflictError(message, system="memory", operation=operation, target=_target(obj))

    def _put(self, record: _Record, new: JSON) -> JSON:
        old = record.obj
        for field in _SERVERS_OWN:
            new["metadata"].pop(field, None)
            if field in old["metadata"]:
                new["metadata"][field] = old["metadata"][field]
        new["metadata"].pop("managedFields", None)
        if self._resources[old["kind"]].has_status:
            new = _with_status(new, old.get(STATUS) or {})
            if _content(new) != _content(old):
                new["metadata"]["generation"] += 1
        if old["metadata"].get("deletionTimestamp"):
            added = set(new["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
            if added:
                message = f"metadata.finalizers: none can be added to an object being deleted ({', '.join(added)})"
                raise self._rejected("update", new, message)
        why = refusal(old["kind"], old, new)
        if why is not None:
            raise self._rejected("update", new, why)
        return self._write(record, _Record(new, record.owners))

    def _put_status(self, record: _Record, status: JSON, manager: str) -> JSON:
        if not self._resources[record.obj["kind"]].has_status:
            raise NotFoundError("has no status", system="memory", operation="update", target=_target(record.obj))
        merged = update_fields(record.obj.get(STATUS) or {}, status, record.owners, manager)
        return self._write(record, _Record(_with_status(record.obj, merged.value), merged.owners))

    def _write(self, old: _Record | None, new: _Record) -> JSON:
        """Store *new* under the next revision, unless nothing differs; removes what was only waiting to go."""
        if old is not None and old.obj == new.obj:
            old.owners = new.owners
            return copy_json(old.obj)
        metadata = new.obj["metadata"]
        waits = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
        if old is not None and metadata.get("deletionTimestamp") and not waits:
            return self._remove(old)
        self._revision += 1
        new.obj = {**new.obj, "metadata": {**metadata, "resourceVersion": str(self._revision)}}
        key = (metadata.get("namespace", ""), metadata["name"])
        self._records[new.obj["kind"]][key] = new
        self._tell(old.obj if old else None, new.obj)
        return copy_json(new.obj)

    def _remove(self, record: _Record) -> JSON:
        metadata = record.obj["metadata"]
        del self._records[record.obj["kind"]][metadata.get("namespace", ""), metadata["name"]]
        self._revision += 1
        self._tell(record.obj, None)
        return copy_json(record.obj)

    def _tell(self, old: JSON | None, new: JSON | None) -> None:
        some = new or old or {}
        namespace = some["metadata"].get("namespace", "")
        change = Change(revision=self._revision, kind=some["kind"], namespace=namespace, old=old, new=new)
        self._history.add(change)

    def _rejected(self, operation: str, obj: JSON, message: str) -> RejectedError:
        return RejectedError(message, system="memory", operation=operation, target=_target(obj))


def _target(obj: Mapping[str, Any]) -> str:
    metadata = obj["metadata"]
    path = "/".join(part for part in (metadata.get("namespace"), metadata.get("name")) if part)
    return f"{obj['kind']} {path}"


def _revision_of(resource_version: str) -> int:
    try:
        return int(resource_version)
    except ValueError as error:
        message = f"invalid resource version {resource_version!r}"
        raise RejectedError(message, system="memory", operation="watch") from error


def _content(obj: JSON) -> JSON:
    """What ``generation`` counts the changes of."""
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", STATUS)}


def _with_status(obj: JSON, status: JSON) -> JSON:
    bare = {key: value for key, value in obj.items() if key != STATUS}
    return {**bare, STATUS: status} if status else bare


def _grace_seconds(obj: JSON, asked: int | None) -> int:
    """How long the object may take to go: only a Pod that runs on a node takes any time."""
    spec = obj.get("spec") or {}
    runs = obj["kind"] == "Pod" and spec.get("nodeName") and (obj.get(STATUS) or {}).get("phase") not in _FINISHED
    if not runs:
        return 0
    return int(spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)) if asked is None else asked


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return copy_json(patch)
    result: JSON = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
