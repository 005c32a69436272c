"""
How does a process answer those who watch it?

In: GET or HEAD for a path.  Out: what the page of that path says now.
By hand on the process's own loop, in a few lines, since that is the point: a loop that no longer turns does not answer,
and no library of servers has to be loaded by an agent. Whoever can reach the port can ask, so everything is bounded:
the size of a request, the time until it is there and its answer is gone, and how many are open; one more closes the
oldest, so that idle connections cannot keep a probe out.

    connection ──> request line and headers (8 KiB, 5 s) ──> page() ──> answer, closed
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import attrs

from persistip.errors import ConfigError

logger = logging.getLogger("persistip")

MAX_REQUEST = 8192
MAX_SECONDS = 5.0
MAX_CONNECTIONS = 64
TEXT = "text/plain; charset=utf-8"
_RENEW_SECONDS = 60.0


@attrs.frozen
class Answer:
    """What a page says."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


Page = Callable[[], Answer]


def verdict(why_not: str | None) -> Answer:
    """The answer to a probe: 200, or 503 with the reason."""
    return Answer("ok\n") if why_not is None else Answer(f"{why_not}\n", HTTPStatus.SERVICE_UNAVAILABLE)


def parse_address(text: str) -> tuple[str | None, int]:
    """``host:port``, ``[host]:port`` or ``:port`` for every link; raises ConfigError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_bracketed = bare != host
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535 or (":" in host) > is_bracketed:
        message = f"--listen {text!r} is not an address to listen at; write host:port, [host]:port or :port"
        raise ConfigError(message)
    return bare or None, int(port)


@attrs.frozen
class Certificate:
    """The files of a TLS certificate with its chain, and of its key."""

    chain: str
    key: str

    def context(self) -> ssl.SSLContext:
        """A server's context with them; raises ConfigError."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            self.load(context)
        except (OSError, ssl.SSLError) as error:
            message = f"cannot use the certificate {self.chain!r} with the key {self.key!r}: {error}"
            raise ConfigError(message) from error
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Let new connections have what the files hold now."""
        context.load_cert_chain(self.chain, self.key)

    def changed_at(self) -> tuple[int, int]:
        """When the two files were last written."""
        return (Path(self.chain).stat().st_mtime_ns, Path(self.key).stat().st_mtime_ns)


class Endpoint:
    """Answers at *address* by *pages*, one for each path; ``async with``."""

    def __init__(self, address: str, pages: Mapping[str, Page], *, certificate: Certificate | None = None) -> None:
        self._host, self._port = parse_address(address)
        self._address = address
        self._pages = pages
        self._certificate = certificate
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens, also where the system chose."""
        assert self._server is not None  # noqa: S101 - asked while it runs
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Endpoint:
        context = self._certificate.context() if self._certificate is not None else None
        handshake = MAX_SECONDS if context is not None else None
        try:
            self._server = await asyncio.start_server(
                self._connected, self._host, self._port, limit=MAX_REQUEST, ssl=context, ssl_handshake_timeout=handshake
            )
        except OSError as error:
            raise ConfigError(f"cannot listen at {self._address!r}: {error.strerror or error}") from error
        if self._certificate is not None and context is not None:
            self._renewing = asyncio.create_task(_renew(self._certificate, context), name="certificate")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None  # noqa: S101 - made on entering
        self._server.close()
        tasks = [*self._open, *([self._renewing] if self._renewing is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio calls this in a task
        if len(self._open) >= MAX_CONNECTIONS:
            next(iter(self._open)).cancel()
        self._open[task] = writer
        try:
            async with asyncio.timeout(MAX_SECONDS):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):
            # Too slow, gone, or in the way of another; nobody else is concerned.
            writer.transport.abort()
        finally:
            del self._open[task]

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        """The whole answer, for the first request of a connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _encode(Answer("too long\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        except asyncio.IncompleteReadError:
            return b""
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _encode(Answer("this is HTTP/1.1\n", HTTPStatus.BAD_REQUEST))
        method, target = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _encode(Answer("GET and HEAD only\n", HTTPStatus.METHOD_NOT_ALLOWED))
        page = self._pages.get(target)
        if page is None:
            return _encode(Answer(f"there is {', '.join(self._pages)}\n", HTTPStatus.NOT_FOUND), method)
        try:
            return _encode(page(), method)
        except Exception:
            # Whoever watches must learn that it failed, and what it watches must not end by it.
            logger.exception("a fault of ours in a page", extra={"path": target})
            return _encode(Answer("a fault of ours; see the log\n", HTTPStatus.INTERNAL_SERVER_ERROR), method)


def _encode(answer: Answer, method: str = "GET") -> bytes:
    body = answer.body.encode()
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if method == "HEAD" else body)


async def _renew(certificate: Certificate, context: ssl.SSLContext) -> None:
    """Certificates are renewed in their files, and processes outlive them."""
    known = certificate.changed_at()
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        try:
            if (found := certificate.changed_at()) != known:
                certificate.load(context)
                known = found
        except (OSError, ssl.SSLError) as error:
            logger.warning("cannot read the certificate anew", extra={"error": str(error)})
