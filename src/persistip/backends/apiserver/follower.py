"""
How is one kind of object followed?

    list, in pages ──> watch from there ──> ended by the server, or broken: watch from the last version seen
         ^                   │
         └── 410: the history is gone; this kind again, and no other

In: a kind, perhaps a label or a name.  Out: a Mailbox that holds the latest of it. By hand, since the official client's
decodes every object into models and loses the error of a 410.

A kind that is not installed counts as one of which there is nothing, and is looked for again now and then. A watch that
breaks is resumed where it was, so nothing is missed; one that cannot be resumed for PATIENCE_SECONDS ends the whole
iteration with UnavailableError, since a view that old must not be acted upon: the next one begins with complete lists.
A server that says "later" for that long is there and has too much to do: it is asked as seldom as it wants, and nothing
but this kind is listed anew, once it lets the watch in.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from contextlib import aclosing

import msgspec

from persistip.backends.apiserver.client import Client
from persistip.backends.apiserver.errors import SYSTEM, ExpiredError, NotFoundError, error_from_event
from persistip.backends.apiserver.listing import accepted, list_kind, not_understood
from persistip.backends.apiserver.mailbox import Mailbox
from persistip.backends.apiserver.served import Served
from persistip.errors import ThrottledError, UnavailableError
from persistip.model.keys import Kind, ObjectKey
from persistip.runtime.retry import Backoff
from persistip.strategies import ClusterObject
from persistip.wire.decode import IsRead, Unreadable, decode_event

logger = logging.getLogger("persistip")

PATIENCE_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 20.0
"""How often a kind that is not installed is looked for."""

_LEAST_WATCH_SECONDS = 300
# The server sends a bookmark a minute on a quiet watch; silence beyond this is a connection that leads nowhere.
_SILENCE_SECONDS = 150.0
_STEADY_SECONDS = 5.0
_BACKOFF = Backoff(first_seconds=0.02, last_seconds=1.0)


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


_VERSIONED = msgspec.json.Decoder(_Versioned)


class Follower:
    """Keeps *mailbox* at the latest of *kind*; *seed* tells processes apart, so that they do not all come at once."""

    def __init__(
        self,
        client: Client,
        served: Served,
        kind: Kind,
        mailbox: Mailbox,
        *,
        labels: str = "",
        fields: str = "",
        seed: str = "",
        is_read: IsRead | None = None,
    ) -> None:
        self._client, self._served, self._kind, self._mailbox = client, served, kind, mailbox
        chosen = {"labelSelector": labels, "fieldSelector": fields}
        self._selection = {name: value for name, value in chosen.items() if value}
        self._seed = f"{seed}/{kind}"
        self._is_read = is_read
        self._version = ""
        self._broken_at: float | None = None
        self._attempt = 0
        self._in_pages = True
        self._is_missed = False

    async def run(self) -> None:
        """Until cancelled; what ends it is told to the mailbox."""
        try:
            while True:
                version = await self._list()
                if version is None:
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
                else:
                    await self._watch_from(version)
        except Exception as error:
            self._mailbox.fail(error)
            raise

    # ------------------------------------------------------------ list
    async def _list(self) -> str | None:
        """List all, consistently; the version from which to watch on, or None where the kind is not installed."""
        while True:
            try:
                found, version = await self._listed()
            except NotFoundError:
                if self._served.has_another(self._kind):
                    continue
                if not self._is_missed:
                    logger.info("a kind is not installed", extra={"kind": str(self._kind)})
                self._is_missed = True
                self._mailbox.replace(self._kind, {})
                return None
            except ThrottledError as error:
                logger.warning("told to wait with a list", extra={"kind": str(self._kind), "error": str(error)})
                await self._pause(error.retry_after_seconds)
                continue
            except ExpiredError:
                # The pages took longer than the server remembers; it is asked for all at once.
                self._in_pages = False
                await self._pause()
                continue
            if self._is_missed:
                logger.info("a kind is installed now", extra={"kind": str(self._kind)})
            self._is_missed = False
            self._in_pages = True
            self._mailbox.replace(self._kind, found)
            return version

    async def _listed(self) -> tuple[dict[ObjectKey, ClusterObject | Unreadable], str]:
        return await list_kind(
            self._client, self._served, self._kind, self._selection, in_pages=self._in_pages, is_read=self._is_read
        )

    # ------------------------------------------------------------ watch
    async def _watch_from(self, version: str) -> None:
        """Watch from *version* on, again and again; returns when this kind has to be listed anew."""
        loop = asyncio.get_running_loop()
        self._version, self._broken_at = version, None
        while True:
            began_at = loop.time()
            try:
                await self._watch()
            except (ExpiredError, NotFoundError):
                self._mailbox.lose(self._kind)
                await self._pause()
                return
            except ThrottledError as error:
                logger.warning("told to wait with a watch", extra={"kind": str(self._kind), "error": str(error)})
                self._broken_at = self._broken_at or loop.time()
                if self._is_old():
                    self._mailbox.lose(self._kind)
                await self._pause(error.retry_after_seconds)
                continue
            except UnavailableError:
                self._broken_at = self._broken_at or loop.time()
                if self._is_old():
                    raise
                await self._pause()
                continue
            if loop.time() - began_at > _STEADY_SECONDS:
                self._attempt = 0
            else:
                await self._pause()

    def _is_old(self) -> bool:
        """Whether nothing has been heard of this kind for so long that nobody may act upon it."""
        return self._broken_at is not None and asyncio.get_running_loop().time() - self._broken_at > PATIENCE_SECONDS

    async def _watch(self) -> None:
        """One watch, until the server ends it."""
        # Spread, so that what began together does not end together.
        seconds = _LEAST_WATCH_SECONDS + zlib.crc32(self._seed.encode()) % _LEAST_WATCH_SECONDS
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
            **self._selection,
        }
        path = self._served.collection(self._kind)
        batches = self._client.lines(
            path, parameters=parameters, silence_seconds=_SILENCE_SECONDS, accept=accepted(self._kind)
        )
        async with aclosing(batches):
            async for lines in batches:
                if self._is_old():
                    raise ExpiredError("what is known is too old", system=SYSTEM, operation="watch", target=path)
                self._broken_at = None
                for line in lines:
                    self._hear(line, path)

    def _hear(self, line: bytes, path: str) -> None:
        try:
            event = decode_event(self._kind, line, self._is_read)
            if event.type == "ERROR":
                raise error_from_event(event.raw, "watch", path)
            version = _VERSIONED.decode(event.raw).metadata.resource_version
        except msgspec.DecodeError as error:
            raise not_understood("watch", path) from error
        if event.type != "BOOKMARK" and event.key is not None:
            self._mailbox.put(event.key, None if event.type == "DELETED" else event.value)
        # What the watch goes on from is at least as new as what the reader was handed.
        self._version = version or self._version

    async def _pause(self, least_seconds: float = 0.0) -> None:
        self._attempt += 1
        await asyncio.sleep(max(_BACKOFF.delay(self._attempt, self._seed), least_seconds))
