"""
How is the emulator reached? Over HTTP, on loopback.

In: an emulator.  Out: its endpoint, for as long as the context lasts. One thread a connection, as clients expect of a
service; the emulator itself answers one call at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from persistip.testing.compute_engine.engine import WAIT_SECONDS, ComputeEngine, Reply, Request

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.05
"""How often a ``wait`` looks whether its operation has ended, at the least."""


class ComputeServer:
    """
    An emulator's HTTP server.

    ``pause`` lets time pass in ``wait``: the machine's by default, or that of a clock of one's own.
    """

    def __init__(self, engine: ComputeEngine, *, port: int = 0, pause: Callable[[float], None] = time.sleep) -> None:
        self.engine = engine
        self._pause = pause
        self._server = ThreadingHTTPServer((LOOPBACK, port), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        """Where clients are pointed at: scheme, host and port."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: Request) -> Reply:
        """The reply to a request, after it has waited for an operation where it asks to."""
        reply = self.engine.answer(request)
        operation = reply.waits_for
        if operation is None:
            return reply
        clock = self.engine.clock
        until = clock.now() + WAIT_SECONDS
        while not operation.is_done and clock.now() < until:
            self._pause(min(max(operation.due_at - clock.now(), 0.0), LOOK_SECONDS))
            self.engine.settle()
        return self.engine.waited(operation)


def _handler_of(server: ComputeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each reply would wait 40 ms for the acknowledgement of its own head.
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            reply = server.answer(Request(http=self.command, target=self.path, body=body))
            if reply.lost:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: Any) -> None:
            """Say nothing on the terminal."""

    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        setattr(Handler, f"do_{verb}", Handler.handle_any)
    return Handler
