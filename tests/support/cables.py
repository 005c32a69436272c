"""
How does a test cut, hold and mend the connections of a process to an API server?

In: the server's port.  Out: another port, behind which a thread passes everything on, until the test says otherwise.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from apiserver_world import Relay
from programs import LOOPBACK


class Cable:
    """The connections of one process, in the hands of a test that runs no loop."""

    def __init__(self, relay: Relay, loop: asyncio.AbstractEventLoop) -> None:
        self._relay, self._loop = relay, loop
        self.url = f"https://{LOOPBACK}:{relay.port}"

    def cut(self) -> None:
        """Break every connection there is."""
        self._loop.call_soon_threadsafe(self._relay.cut)

    def hold(self) -> None:
        """Keep what either side says from now on, until `redirect`; nobody is told, and no connection ends."""
        self._loop.call_soon_threadsafe(self._relay.is_frozen.clear)

    def redirect(self, port: int) -> None:
        """Break every connection, and lead the next ones to another server."""
        self._loop.call_soon_threadsafe(self._relay.redirect, port)

    def hold_requests(self) -> None:
        """Keep what is asked from now on; what the server tells goes on arriving."""
        self._loop.call_soon_threadsafe(self._relay.requests_pass.clear)

    def let_requests_pass(self) -> None:
        """Pass on what was kept, late."""
        self._loop.call_soon_threadsafe(self._relay.requests_pass.set)


@contextmanager
def cable(port: int) -> Iterator[Cable]:
    """Give a cable to the server at *port*."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    relay = Relay(port)
    asyncio.run_coroutine_threadsafe(relay.__aenter__(), loop).result(10)
    try:
        yield Cable(relay, loop)
    finally:
        asyncio.run_coroutine_threadsafe(relay.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
