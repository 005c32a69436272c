"""
How is one kind of object followed?

    list, in pages ──> watch from there ──> ended by the server, or broken: watch from the last version seen
         ^                   │
         └── 410: the history is gone; this kind again, and no other

In: a kind, perhaps a label.  Out: a Mailbox that holds the latest of it. By hand, since the official client's decodes
every object into models and loses the error of a 410.

A kind that is not installed counts as one of which there is nothing, and is looked for again now and then. A watch that
breaks is resumed where it was, so nothing is missed; one that cannot be resumed for PATIENCE_SECONDS ends the whole
iteration with UnavailableError, since a view that old must not be acted upon: the next one begins with complete lists.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from contextlib import aclosing

import msgspec

from persistip.backends.apiserver.client import JSON, Client
from persistip.backends.apiserver.errors import SYSTEM, ExpiredError, NotFoundError, error_from_event
from persistip.backends.apiserver.mailbox import Mailbox
from persistip.backends.apiserver.served import Served
from persistip.errors import ThrottledError, UnavailableError
from persistip.model.keys import Kind, ObjectKey
from persistip.runtime.retry import Backoff
from persistip.strategies import ClusterObject
from persistip.wire.decode import Unreadable, decode_event, decode_list

logger = logging.getLogger("persistip")

PATIENCE_SECONDS = 2.0
PAGE = 500
LOOK_AGAIN_SECONDS = 20.0
"""How often a kind that is not installed is looked for."""

_METADATA_ONLY = frozenset({Kind.NAMESPACE, Kind.DEFINITION})
"""Kinds of which nothing else is read; all definitions of a cluster together are megabytes."""
_AS_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"

_LIST_TIMEOUT_SECONDS = 60.0
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
        self, client: Client, served: Served, kind: Kind, mailbox: Mailbox, *, labels: str = "", seed: str = ""
    ) -> None:
        self._client, self._served, self._kind, self._mailbox = client, served, kind, mailbox
        self._selection = {"labelSelector": labels} if labels else {}
        self._seed = f"{seed}/{kind}"
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
        found: dict[ObjectKey, ClusterObject | Unreadable] = {}
        # No resourceVersion: the answer is not older than the question, on whichever server it lands.
        parameters = dict(self._selection)
        if self._in_pages:
            parameters["limit"] = str(PAGE)
        while True:
            path = self._served.collection(self._kind)
            body = await self._client.request(
                "GET",
                path,
                parameters=parameters,
                accept=self._accept("List"),
                timeout_seconds=_LIST_TIMEOUT_SECONDS,
            )
            try:
                page = decode_list(self._kind, body)
            except msgspec.DecodeError as error:
                raise _not_understood("list", path) from error
            found.update((key, each) for key, each in page.items if key is not None)
            if not page.continue_token:
                return found, page.resource_version
            parameters["continue"] = page.continue_token

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
            except (UnavailableError, ThrottledError) as error:
                self._broken_at = self._broken_at or loop.time()
                if loop.time() - self._broken_at > PATIENCE_SECONDS:
                    raise
                await self._pause(error.retry_after_seconds if isinstance(error, ThrottledError) else 0.0)
                continue
            if loop.time() - began_at > _STEADY_SECONDS:
                self._attempt = 0
            else:
                await self._pause()

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
            path, parameters=parameters, silence_seconds=_SILENCE_SECONDS, accept=self._accept("")
        )
        async with aclosing(batches):
            async for lines in batches:
                self._broken_at = None
                for line in lines:
                    self._hear(line, path)

    def _hear(self, line: bytes, path: str) -> None:
        try:
            event = decode_event(self._kind, line)
            if event.type == "ERROR":
                raise error_from_event(event.raw, "watch", path)
            version = _VERSIONED.decode(event.raw).metadata.resource_version
        except msgspec.DecodeError as error:
            raise _not_understood("watch", path) from error
        if event.type != "BOOKMARK" and event.key is not None:
            self._mailbox.put(event.key, None if event.type == "DELETED" else event.value)
        # What the watch goes on from is at least as new as what the reader was handed.
        self._version = version or self._version

    def _accept(self, suffix: str) -> str:
        return _AS_METADATA.format(suffix) if self._kind in _METADATA_ONLY else JSON

    async def _pause(self, least_seconds: float = 0.0) -> None:
        self._attempt += 1
        await asyncio.sleep(max(_BACKOFF.delay(self._attempt, self._seed), least_seconds))


def _not_understood(operation: str, path: str) -> UnavailableError:
    """Something between us and the server answers in its place, or the line was cut."""
    return UnavailableError(
        "the answer is not what an API server says", system=SYSTEM, operation=operation, target=path
    )
