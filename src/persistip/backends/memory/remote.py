"""
How does a process use a store that lives in another? By the same methods, over a unix socket.

In: the path of a StoreServer's socket.  Out: an ObjectStore. The connection is made by the first call and made anew
after it broke; whatever was under way then fails with UnavailableError, its outcome unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self

from persistip.backends.memory.errors import ExpiredError
from persistip.backends.memory.frames import ANSWERS, Answer, Call, read_frame, to_error, write_frame
from persistip.backends.memory.store import JSON, Listing
from persistip.backends.memory.watching import WatchEvent
from persistip.errors import UnavailableError

# How many events a watch may lag behind what has arrived; the server keeps as many again.
_MAX_LAG = 10_000


class RemoteStore:
    """The ObjectStore behind the socket at *path*; leaving it closes the connection."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and everything under way on it; a later call connects again."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def create(self, body: Mapping[str, Any]) -> JSON:
        """POST: AlreadyExistsError when the name is taken."""
        return await self._object("create", body=body)

    async def get(self, kind: str, namespace: str, name: str) -> JSON:
        """GET one object: NotFoundError when there is none."""
        return await self._object("get", kind=kind, namespace=namespace, name=name)

    async def list(self, kind: str, *, namespace: str | None = None, labels: str = "") -> Listing:
        """GET a collection; ``labels`` is a label selector as text."""
        found = await self._object("list", kind=kind, namespace=namespace, labels=labels)
        return Listing(tuple(found["items"]), found["resource_version"])

    async def update(self, body: Mapping[str, Any], *, subresource: str = "", manager: str = "") -> JSON:
        """PUT: ``metadata.resourceVersion`` and ``metadata.uid`` are preconditions where given (ConflictError)."""
        return await self._object("update", body=body, subresource=subresource, manager=manager)

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
        return await self._object(
            "patch",
            kind=kind,
            namespace=namespace,
            name=name,
            patch=patch,
            subresource=subresource,
            manager=manager,
        )

    async def apply(self, body: Mapping[str, Any], *, manager: str, force: bool = False) -> JSON:
        """Server-side apply of ``status``."""
        return await self._object("apply", body=body, manager=manager, force=force)

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
        found: JSON | None = await self._call(
            "delete",
            kind=kind,
            namespace=namespace,
            name=name,
            uid=uid,
            resource_version=resource_version,
            grace_seconds=grace_seconds,
        )
        return found

    async def record_event(
        self, *, regarding: Mapping[str, Any], reason: str, action: str, note: str, warning: bool, manager: str
    ) -> JSON:
        """Create an Event, or count one more in its series when the same was recorded before."""
        return await self._object(
            "record_event",
            regarding=regarding,
            reason=reason,
            action=action,
            note=note,
            warning=warning,
            manager=manager,
        )

    async def watch(
        self, kind: str, *, resource_version: str, namespace: str | None = None, labels: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Changes after *resource_version*; UnavailableError when the connection breaks."""
        connection = await self._connected()
        arguments = {"kind": kind, "resource_version": resource_version, "namespace": namespace, "labels": labels}
        number, answers = connection.begin("watch", arguments)
        is_over = False
        try:
            while not is_over:
                answer = await answers.get()
                is_over = answer is None or answer.is_end
                if answer is None:
                    raise _lost("watch", self._path)
                if answer.failure is not None:
                    raise to_error(answer.failure)
                if not is_over:
                    yield WatchEvent(answer.event, answer.result)
                if answers.qsize() > _MAX_LAG:
                    raise ExpiredError("the watcher fell behind", system="memory", operation="watch")
        finally:
            connection.forget(number)
            if not is_over:
                connection.begin("unwatch", {"watch": number})

    async def _object(self, what: str, **arguments: Any) -> JSON:
        found: JSON = await self._call(what, **arguments)
        return found

    async def _call(self, what: str, **arguments: Any) -> Any:
        connection = await self._connected()
        number, answers = connection.begin(what, arguments)
        try:
            answer = await answers.get()
        finally:
            connection.forget(number)
        if answer is None:
            raise _lost(what, self._path)
        if answer.failure is not None:
            raise to_error(answer.failure)
        return answer.result

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None or not self._connection.is_open:
                try:
                    reader, writer = await asyncio.open_unix_connection(self._path)
                except OSError as error:
                    target = str(self._path)
                    raise UnavailableError(str(error), system="memory", operation="connect", target=target) from error
                self._connection = _Connection(reader, writer)
            return self._connection


def _lost(operation: str, path: Path) -> UnavailableError:
    return UnavailableError("the connection was lost", system="memory", operation=operation, target=str(path))


class _Connection:
    """One stream and the calls under way on it; None in a call's queue: the stream is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Queue[Answer | None]] = {}
        self.is_open = True
        self._reading = asyncio.create_task(self._read(reader))

    def begin(self, what: str, arguments: Mapping[str, Any]) -> tuple[int, asyncio.Queue[Answer | None]]:
        """Send a call; its answers come in the queue."""
        number = next(self._numbers)
        answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        if not self.is_open:
            answers.put_nowait(None)
            return number, answers
        if what != "unwatch":
            self._waiting[number] = answers
        write_frame(self._writer, Call(number, what, dict(arguments)))
        return number, answers

    def forget(self, number: int) -> None:
        """Answers to this call are no longer wanted."""
        self._waiting.pop(number, None)

    async def close(self) -> None:
        """Hang up."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (frame := await read_frame(reader)) is not None:
                answer = ANSWERS.decode(frame)
                if answer.id in self._waiting:
                    self._waiting[answer.id].put_nowait(answer)
        finally:
            self.is_open = False
            for answers in self._waiting.values():
                answers.put_nowait(None)
            self._writer.close()
