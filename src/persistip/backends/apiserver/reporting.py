"""
How does a node's report reach the very attachment that it is about?

In: a ReportNode with the attachment's UID.  Out: server-side apply of that node's entry, or StaleError.
An API server does not compare ``metadata.uid`` when the status of a custom resource is applied (tried on 1.36: the
metadata of the request is replaced by the object's before anything looks at it); ``resourceVersion`` it does compare.
So the report carries the version under which the UID was last seen; when another write came between, the object is read
and, if it still is the same, the report sent again. A report about an attachment that was made again meanwhile would
otherwise confirm a release that never happened.

Of a move two nodes have to report, the new holder's and the one that lets go, and they would do so at the same moment:
one of them would be refused, read, and ask again. The holder's word comes first, since traffic may wait for it; the
other's waits for it, though not for long.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import attrs

from persistip.backends.apiserver.client import Client
from persistip.backends.apiserver.errors import SYSTEM, ConflictError
from persistip.backends.apiserver.served import Served
from persistip.errors import UnavailableError
from persistip.model.attachment import AddressAttachment
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import Batch
from persistip.wire.decode import Unreadable, decode_object


@attrs.frozen
class _Sighting:
    """What was seen; ``awaited`` is the node of a holder that has yet to report, empty where there is none."""

    uid: str
    version: str
    awaited: str


class Sightings:
    """Under which version each attachment was last seen."""

    def __init__(self) -> None:
        self._seen: dict[str, _Sighting] = {}
        self._news = asyncio.Event()

    def learn(self, batch: Batch) -> None:
        """What the watch says."""
        if Kind.ATTACHMENT in batch.resynced:
            self._seen.clear()
        for key, found in batch.objects.items():
            if isinstance(found, AddressAttachment):
                self.note(found)
            elif key.kind is Kind.ATTACHMENT:
                self._seen.pop(key.name, None)
        self._tell()

    def note(self, found: AddressAttachment) -> None:
        """What a read or a write of ours returned."""
        holder = found.spec.holder
        awaited = holder.node_name if holder is not None and not found.is_confirmed else ""
        self._seen[found.meta.name] = _Sighting(found.meta.uid, found.meta.resource_version, awaited)
        self._tell()

    def version(self, name: str, uid: str) -> str | None:
        """The version under which the attachment with that UID was last seen."""
        seen = self._seen.get(name)
        return seen.version if seen is not None and seen.uid == uid else None

    async def behind_holder(self, name: str, node_name: str, *, seconds: float) -> None:
        """Until no other node than *node_name* is to report as the holder's, *seconds* at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (seen := self._seen.get(name)) is not None and seen.awaited not in ("", node_name):
                    await self._news.wait()

    def _tell(self) -> None:
        """Wake who waits for news; who comes later waits for the next."""
        self._news.set()
        self._news = asyncio.Event()


async def read_version(client: Client, served: Served, sightings: Sightings, name: str, uid: str) -> str:
    """The present version of the attachment with that UID; StaleError where it is gone or another."""
    path = served.object(ObjectKey(Kind.ATTACHMENT, "", name))
    found = decode_object(Kind.ATTACHMENT, await client.request("GET", path))
    if isinstance(found, Unreadable) or not isinstance(found, AddressAttachment):
        raise UnavailableError(f"cannot be read: {found}", system=SYSTEM, operation="GET", target=path)
    if found.meta.uid != uid:
        raise ConflictError(f"has UID {found.meta.uid}, not {uid}", system=SYSTEM, operation="GET", target=path)
    sightings.note(found)
    return found.meta.resource_version
