"""
How does another process, in another network namespace, use the memory store? Through a unix socket.

In: an ObjectStore and a path.  Out: every call answered, every watch fed as soon as something changes. A client that
does not read stops nobody: its own events wait in the store's bounded queue until its watch is told that they expired.
Who may open the socket may do everything: there are no identities.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

import msgspec

from persistip.backends.memory.frames import CALLS, Answer, Call, read_frame, to_failure, write_frame
from persistip.backends.memory.store import Listing, ObjectStore
from persistip.errors import BackendError, RejectedError

_METHODS = frozenset({"create", "get", "list", "update", "patch", "apply", "delete", "record_event"})


class StoreServer:
    """Serves *store* at *path* while it is entered; only this user may connect."""

    def __init__(self, store: ObjectStore, path: Path | str) -> None:
        self._store = store
        self._path = Path(path)
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # A socket left by a process that was killed would refuse the address for ever.
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        self._path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(_Session(self._store, reader, writer).run())
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)


class _Session:
    """One client."""

    def __init__(self, store: ObjectStore, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._store, self._reader, self._writer = store, reader, writer
        self._watches: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Answer calls one after the other until the client goes; watches run beside them."""
        try:
            while (frame := await read_frame(self._reader)) is not None:
                await self._answer(CALLS.decode(frame))
        except (msgspec.DecodeError, OSError):
            # No client of ours, or one that died while we wrote: its connection ends, nothing else does.
            pass
        finally:
            watches = tuple(self._watches.values())
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            self._writer.close()

    async def _answer(self, call: Call) -> None:
        if call.what == "watch":
            self._watches[call.id] = asyncio.create_task(self._watch(call))
        elif call.what == "unwatch":
            watch = self._watches.pop(int(call.arguments["watch"]), None)
            if watch is not None:
                watch.cancel()
        else:
            await self._send(await self._result_of(call))

    async def _result_of(self, call: Call) -> Answer:
        try:
            if call.what not in _METHODS:
                raise RejectedError(f"there is no call {call.what!r}", system="memory", operation=call.what)
            result = await getattr(self._store, call.what)(**call.arguments)
        except BackendError as error:
            return Answer(call.id, failure=to_failure(error))
        return Answer(call.id, _plain(result))

    async def _watch(self, call: Call) -> None:
        end = Answer(call.id, is_end=True)
        try:
            async for event in self._store.watch(**call.arguments):
                await self._send(Answer(call.id, event.object, event=event.type))
        except BackendError as error:
            end.failure = to_failure(error)
        except OSError:
            return
        finally:
            self._watches.pop(call.id, None)
        await self._send(end)

    async def _send(self, answer: Answer) -> None:
        write_frame(self._writer, answer)
        await self._writer.drain()


def _plain(result: Any) -> Any:
    if isinstance(result, Listing):
        return {"items": result.items, "resource_version": result.resource_version}
    return result
