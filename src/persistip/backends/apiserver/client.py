"""
How is one request made?

In: method, path, parameters, body.  Out: the body of the answer as bytes, or an error of ours.
On aiohttp alone: the official client decodes everything into models, which takes ten times the time and the memory
(``kubernetes-client`` in the reference). A watch is a request whose answer does not end: it comes as lines.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import attrs
import msgspec

from persistip.backends.apiserver.access import Access, Load
from persistip.backends.apiserver.errors import (
    SYSTEM,
    TRANSPORT,
    error_from_answer,
    error_from_transport,
)
from persistip.errors import ConfigError, UnavailableError

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply; JSON is YAML."""

_REQUESTS_AT_ONCE = 32
_CONNECT_SECONDS = 10.0
_NO_SUCCESS, _UNAUTHORIZED = 300, 401
_RELOAD_SECONDS = 10.0
_MAX_LINE_BYTES = 32 * 1024 * 1024
# Silence that long means that the other side is gone: a router forgot the connection, or a machine died.
_IDLE_SECONDS, _PROBE_SECONDS, _PROBES = 10, 5, 3


@attrs.frozen(kw_only=True)
class _Request:
    method: str
    path: str
    parameters: Mapping[str, str]
    data: bytes | None = None
    content_type: str = JSON
    accept: str = JSON
    limits: aiohttp.ClientTimeout

    async def whole(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body of the answer to this request."""
        try:
            return await response.read()
        except TRANSPORT as error:
            raise error_from_transport(error, self.method, self.path) from error


class Client:
    """Requests to one API server; entering it reads the access, leaving it closes every connection."""

    def __init__(self, load: Load, *, user_agent: str, timeout_seconds: float = 10.0) -> None:
        self._load = load
        self._user_agent = user_agent
        self._timeout_seconds = timeout_seconds
        self._access: Access | None = None
        self._session: aiohttp.ClientSession | None = None
        self._reloading = asyncio.Lock()
        self._reload_at = 0.0
        self._slots = asyncio.Semaphore(_REQUESTS_AT_ONCE)

    async def __aenter__(self) -> Self:
        self._access = await self._load()
        # Watches hold a connection each and must not use up what requests need; those are bounded by _slots.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0, socket_factory=_socket)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressing a list costs both sides more than a cluster's own network saves.
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
            # A transport that was given up is closed by the loop's next turn, which may be its last.
            await asyncio.sleep(0)

    async def request(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_seconds: float | None = None,
    ) -> bytes:
        """The answer's body; raises BackendError for everything that is no success, the transport's failures too."""
        request = _Request(
            method=method,
            path=path,
            parameters=parameters or {},
            data=None if body is None else msgspec.json.encode(body),
            content_type=content_type,
            accept=accept,
            limits=aiohttp.ClientTimeout(total=timeout_seconds or self._timeout_seconds),
        )
        async with self._slots, self._answered(request) as response:
            return await request.whole(response)

    async def lines(
        self, path: str, *, parameters: Mapping[str, str], silence_seconds: float, accept: str = JSON
    ) -> AsyncGenerator[list[bytes], None]:
        """
        The lines of an answer that does not end, as many at a time as have arrived; first none, once it has begun.

        Ends when the server ends it; raises UnavailableError when it breaks or nothing is heard for *silence_seconds*.
        """
        limits = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=silence_seconds)
        request = _Request(method="GET", path=path, parameters=parameters, accept=accept, limits=limits)
        async with self._answered(request) as response:
            rest = b""
            yield []
            try:
                async for chunk in response.content.iter_any():
                    head, newline, tail = chunk.rpartition(b"\n")
                    if newline:
                        yield (rest + head).split(b"\n")
                        rest = tail
                    else:
                        rest += tail
                    if len(rest) > _MAX_LINE_BYTES:
                        raise UnavailableError("a line without end", system=SYSTEM, operation="watch", target=path)
            except TRANSPORT as error:
                raise error_from_transport(error, "watch", path) from error

    @asynccontextmanager
    async def _answered(self, request: _Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to *request*, a success; after a 401 it is asked again with what the access says now."""
        access, response = await self._send(request)
        if response.status == _UNAUTHORIZED and await self._is_renewed(access):
            response.release()
            _, response = await self._send(request)
        try:
            if response.status >= _NO_SUCCESS:
                text = await request.whole(response)
                retry_after = response.headers.get("Retry-After")
                raise error_from_answer(response.status, text, retry_after, request.method, request.path)
            yield response
        finally:
            # Closed, not released: the rest of a watch's answer never comes. At once, without TLS's farewell: a process
            # that ends next would leave the connection half closed.
            if not response.content.at_eof():
                if (connection := response.connection) is not None and connection.transport is not None:
                    connection.transport.abort()
                response.close()
            response.release()

    async def _send(self, request: _Request) -> tuple[Access, aiohttp.ClientResponse]:
        if self._session is None or self._access is None:
            raise UnavailableError("the client is closed", system=SYSTEM, operation=request.method, target=request.path)
        access = self._access
        headers = [("Accept", request.accept), *access.impersonation]
        if request.data is not None:
            headers.append(("Content-Type", request.content_type))
        if authorization := access.authorization():
            headers.append(("Authorization", authorization))
        try:
            response = await self._session.request(
                request.method,
                access.server + request.path,
                params=request.parameters,
                data=request.data,
                headers=headers,
                timeout=request.limits,
                ssl=True if access.ssl is None else access.ssl,
                server_hostname=access.server_name,
                proxy=access.proxy,
                allow_redirects=False,
            )
        except TRANSPORT as error:
            raise error_from_transport(error, request.method, request.path) from error
        return access, response

    async def _is_renewed(self, used: Access) -> bool:
        """Read the access again after a 401, once for all who met it with the same one; False: it was just read."""
        async with self._reloading:
            if self._access is not used:
                return True
            now = asyncio.get_running_loop().time()
            if now < self._reload_at:
                return False
            # Reading it may run a program of the user's, and a user without rights is told so at every request.
            self._reload_at = now + _RELOAD_SECONDS
            try:
                self._access = await self._load()
            except ConfigError:
                return False
            return True


def _socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket that notices when the other side is gone: a watch says nothing, and would wait for ever."""
    family, kind, protocol, *_ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    limit = (_IDLE_SECONDS + _PROBE_SECONDS * _PROBES) * 1000
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
    return made
