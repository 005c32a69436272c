"""
How is each action carried out?

In: an action.  Out: one request, what stands afterwards, or an error of ours.

    attachments       POST, PUT, DELETE; UID and resourceVersion are preconditions, nothing is ever forced
    their reports     server-side apply by each node's own field manager, for one UID (see ``reporting.py``)
    finalizers        merge patch, on the version they were decided on
    other status      server-side apply, on the version it was decided on; others' conditions have other types and stay
    Events            see ``recording.py``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from persistip.backends.apiserver.client import APPLY_PATCH, MERGE_PATCH, Client
from persistip.backends.apiserver.errors import SYSTEM, ConflictError, NotFoundError
from persistip.backends.apiserver.recording import Recorder
from persistip.backends.apiserver.reporting import Sightings, read_version
from persistip.backends.apiserver.served import Served
from persistip.errors import BackendError, RejectedError, StaleError, UnavailableError
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
from persistip.model.attachment import AddressAttachment
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node
from persistip.wire.decode import Unreadable, decode_object
from persistip.wire.encode import from_model, status_from_model

STATUS = "status"
_TRIES = 4
_BEHIND_SECONDS = 0.1
"""How long a node that lets go gives the holder's: longer than programming takes, short for whoever waits for it."""


class Writer:
    """Carries out actions as *manager*."""

    def __init__(
        self, client: Client, served: Served, recorder: Recorder, sightings: Sightings, *, manager: str
    ) -> None:
        self._client, self._served, self._recorder, self._manager = client, served, recorder, manager
        self._sightings = sightings

    async def write(self, action: ClusterAction) -> Outcome:
        """Carry out one; raises BackendError."""
        match action:
            case CreateAttachment(attachment=attachment):
                return await self._create(attachment)
            case ReplaceAttachment(attachment=attachment, forgotten=forgotten):
                return await self._replace(attachment, forgotten)
            case DeleteAttachment(name=name, uid=uid, resource_version=version):
                return await self._delete(name, uid, version)
            case ReportRoute(key=key, status=status) | ReportGateway(key=key, status=status):
                return await self._report(key, action.uid, action.resource_version, status_from_model(status))
            case ReportClass(key=key, conditions=conditions):
                return await self._report(key, action.uid, action.resource_version, status_from_model(conditions))
            case SetFinalizers():
                return await self._set_finalizers(action)
            case ReportNode(name=name, uid=uid, report=report):
                await self._sightings.behind_holder(name, report.node_name, seconds=_BEHIND_SECONDS)
                return await self._report_node(name, uid, status_from_model(report))
            case RecordEvent():
                await self._recorder.record(action)
                return Outcome(state=OutcomeState.DONE)
            case ConfirmNodeGone(name=name, uid=uid):
                return await self._confirm_gone(name, uid)
            case _:  # a newer kind of action than this backend knows
                message = f"{type(action).__name__} is unknown to this cluster"  # type: ignore[unreachable]
                return Outcome(state=OutcomeState.UNSUPPORTED, message=message)

    @property
    def _by(self) -> dict[str, str]:
        return {"fieldManager": self._manager}

    async def _create(self, attachment: AddressAttachment) -> Outcome:
        body = _request(attachment)
        # They are the server's to give, whatever object the new one was made from.
        for field in ("uid", "resourceVersion"):
            body["metadata"].pop(field, None)
        path = self._served.collection(Kind.ATTACHMENT)
        return _done(Kind.ATTACHMENT, await self._client.request("POST", path, parameters=self._by, body=body))

    async def _replace(self, attachment: AddressAttachment, forgotten: Sequence[str]) -> Outcome:
        if not attachment.meta.uid or not attachment.meta.resource_version:
            raise _unconditional("a replacement", attachment.meta.name)
        path = self._served.object(attachment.key)
        written = await self._client.request("PUT", path, parameters=self._by, body=_request(attachment))
        return _done(Kind.ATTACHMENT, await self._forget(attachment.key, written, forgotten) if forgotten else written)

    async def _forget(self, key: ObjectKey, written: bytes, names: Sequence[str]) -> bytes:
        """Take entries out of ``status.nodes`` of what was just written; the object as it stands then."""
        found: dict[str, Any] = msgspec.json.decode(written)
        status = found.get(STATUS) or {}
        nodes = status.get("nodes") or ()
        left = [entry for entry in nodes if entry.get("nodeName") not in names]
        if len(left) == len(nodes):
            return written
        try:
            # By update, not by apply: apply takes away its own manager's fields, and these are the agents'.
            return await self._client.request(
                "PUT",
                self._served.object(key, STATUS),
                parameters=self._by,
                body={**found, STATUS: {**status, "nodes": left}},
            )
        except BackendError:
            return written  # an agent came between: with a later replacement, then

    async def _delete(self, name: str, uid: str, version: str) -> Outcome:
        if not uid or not version:
            raise _unconditional("a deletion", name)
        preconditions = {"uid": uid, "resourceVersion": version}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        path = self._served.object(ObjectKey(Kind.ATTACHMENT, "", name))
        # What waits for its finalizers is answered as it stands; what is gone at once, by a Status, which is no object.
        return _done(Kind.ATTACHMENT, await self._client.request("DELETE", path, body=body))

    async def _set_finalizers(self, action: SetFinalizers) -> Outcome:
        key, uid, version = action.key, action.uid, action.resource_version
        if not uid or not version:
            raise _unconditional("a change of finalizers", key.name)
        metadata = {"uid": uid, "resourceVersion": version, "finalizers": list(action.finalizers) or None}
        path = self._served.object(key)
        written = await self._client.request(
            "PATCH", path, parameters=self._by, body={"metadata": metadata}, content_type=MERGE_PATCH
        )
        return _done(key.kind, written)

    async def _report_node(self, name: str, uid: str, status: dict[str, Any]) -> Outcome:
        key = ObjectKey(Kind.ATTACHMENT, "", name)
        version = self._sightings.version(name, uid)
        for _ in range(_TRIES):
            if version is None:
                version = await read_version(self._client, self._served, self._sightings, name, uid)
            try:
                outcome = await self._report(key, uid, version, status)
            except ConflictError:
                # The watch may have told of the other write meanwhile, which saves asking.
                tried, version = version, self._sightings.version(name, uid)
                version = None if version == tried else version
                continue
            if isinstance(outcome.written, AddressAttachment):
                self._sightings.note(outcome.written)
            return outcome
        raise ConflictError("written by others again and again", system=SYSTEM, operation="PATCH", target=str(key))

    async def _report(self, key: ObjectKey, uid: str, resource_version: str, status: dict[str, Any]) -> Outcome:
        metadata = {"name": key.name, "namespace": key.namespace, "uid": uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": self._served.version(key.kind),
            "kind": str(key.kind),
            "metadata": {field: value for field, value in metadata.items() if value},
            STATUS: status,
        }
        # Forced as every controller's status is: the conditions of others have other types, so none is taken.
        written = await self._client.request(
            "PATCH",
            self._served.object(key, STATUS),
            parameters={**self._by, "force": "true"},
            body=body,
            content_type=APPLY_PATCH,
        )
        return _done(key.kind, written)

    async def _confirm_gone(self, name: str, uid: str) -> Outcome:
        key = ObjectKey(Kind.NODE, "", name)
        try:
            # Without a resourceVersion, so that the answer is etcd's and no cache's.
            found = decode_object(Kind.NODE, await self._client.request("GET", self._served.object(key)))
        except NotFoundError:
            return Outcome(state=OutcomeState.DONE)
        if not isinstance(found, Node):
            raise UnavailableError(f"cannot be read: {found}", system=SYSTEM, operation="GET", target=str(key))
        if found.meta.uid != uid or found.out_of_service:
            return Outcome(state=OutcomeState.DONE)
        raise StaleError(f"UID {uid} is there", system=SYSTEM, operation="GET", target=str(key))


def _request(attachment: AddressAttachment) -> dict[str, Any]:
    body = from_model(attachment)
    body.pop(STATUS, None)
    return body


def _done(kind: Kind, body: bytes) -> Outcome:
    found = decode_object(kind, body)
    return Outcome(state=OutcomeState.DONE, written=None if isinstance(found, Unreadable) else found)


def _unconditional(what: str, name: str) -> RejectedError:
    message = f"{what} needs UID and resourceVersion of what it is about"
    return RejectedError(message, system=SYSTEM, operation="write", target=name)
