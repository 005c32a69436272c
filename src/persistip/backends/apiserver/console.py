"""
How does a person's command use the API server?

In: the person's own Access.  Out: everything at one look, some objects followed, single objects changed and deleted.
Nothing is retried: whoever sits there reads the error and decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any, Self

import msgspec

from persistip.backends.apiserver.access import Load
from persistip.backends.apiserver.client import APPLY_PATCH, MERGE_PATCH, Client
from persistip.backends.apiserver.errors import NotFoundError
from persistip.backends.apiserver.follower import Follower
from persistip.backends.apiserver.mailbox import Mailbox
from persistip.backends.apiserver.served import Served, object_path
from persistip.backends.apiserver.snapshot import Snapshot, read_snapshot
from persistip.model.keys import ObjectKey
from persistip.model.views import Policy
from persistip.strategies import Batch
from persistip.wire.kinds import RESOURCES

_AGENT = "persistip"


class Console:
    """One person's connection; enter it before use."""

    def __init__(self, load: Load) -> None:
        self.client = Client(load, user_agent=_AGENT)
        self._served = Served()

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.client.__aexit__(*details)

    async def snapshot(self, policy: Policy) -> Snapshot:
        """Everything that decisions under *policy* rest on; raises BackendError."""
        return await read_snapshot(self.client, self._served, policy)

    async def annotate(self, key: ObjectKey, uid: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of the object with that UID, or take away those that are None; StaleError for another."""
        body = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
        await self.client.request("PATCH", self._served.object(key), body=body, content_type=MERGE_PATCH)

    async def follow(self, keys: Iterable[ObjectKey]) -> AsyncIterator[Batch]:
        """The objects of *keys*, at most one of a kind, as they stand and again whenever one changes."""
        wanted = tuple(keys)
        mailbox = Mailbox(key.kind for key in wanted)
        followers = [
            Follower(self.client, self._served, key.kind, mailbox, fields=_fields(key), seed=_AGENT) for key in wanted
        ]
        tasks = [asyncio.create_task(follower.run()) for follower in followers]
        try:
            while True:
                yield await mailbox.take()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ objects as they are written
    async def find(self, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        """The object that *manifest* names, as it stands; None: there is none, or no such kind."""
        with suppress(NotFoundError):
            found: dict[str, Any] = msgspec.json.decode(await self.client.request("GET", path_of(manifest)))
            return found
        return None

    async def all_of(self, api_version: str, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """Every object of a kind as it stands, none where the kind is not installed."""
        with suppress(NotFoundError):
            body = await self.client.request("GET", object_path(api_version, plural_of(kind), namespace))
            found = msgspec.json.decode(body).get("items") or []
            # In a list they do not say what they are.
            return [{"apiVersion": api_version, "kind": kind, **each} for each in found]
        return []

    async def delete(self, found: Mapping[str, Any]) -> None:
        """Delete this very object, and what it owns after it; it may be gone already."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": found["metadata"]["uid"]},
            "propagationPolicy": "Background",
        }
        with suppress(NotFoundError):
            await self.client.request("DELETE", path_of(found), body=body)

    async def release(self, found: Mapping[str, Any], finalizer: str) -> None:
        """Take one finalizer off this very object; others' stay."""
        with suppress(NotFoundError):
            now = msgspec.json.decode(await self.client.request("GET", path_of(found)))
            meta = now["metadata"]
            left = [name for name in meta.get("finalizers") or () if name != finalizer]
            precondition = {"uid": found["metadata"]["uid"], "resourceVersion": meta["resourceVersion"]}
            body = {"metadata": {**precondition, "finalizers": left or None}}
            await self.client.request("PATCH", path_of(found), body=body, content_type=MERGE_PATCH)

    async def drop_status(self, found: Mapping[str, Any], manager: str) -> None:
        """Take away what *manager* has applied of an object's status; what others wrote stays."""
        body = {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"],
            "metadata": {name: value for name, value in found["metadata"].items() if name in {"name", "namespace"}},
        }
        with suppress(NotFoundError):
            await self.client.request(
                "PATCH",
                f"{path_of(found)}/status",
                parameters={"fieldManager": manager, "force": "true"},
                body=body,
                content_type=APPLY_PATCH,
            )


def path_of(manifest: Mapping[str, Any]) -> str:
    """Where the object that *manifest* names is."""
    meta = manifest["metadata"]
    return object_path(manifest["apiVersion"], plural_of(manifest["kind"]), meta.get("namespace", ""), meta["name"])


def plural_of(kind: str) -> str:
    """The plural of a kind in a path: a rule of English for those that are not in our own table."""
    if (known := RESOURCES.get(kind)) is not None:
        return known.plural
    name = kind.lower()
    if name.endswith("s"):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _fields(key: ObjectKey) -> str:
    named = f"metadata.name={key.name}"
    return f"{named},metadata.namespace={key.namespace}" if key.namespace else named
