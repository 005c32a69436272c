"""
When may something that we look at have changed?

In: the kernel's notifications.  Out: a wake, many notifications to one.
The rule is the kernel's: a receiver that is too slow loses notifications and is told so (ENOBUFS); then all must be
looked at anew. Notifications of our own requests carry our sockets' ports and wake nobody.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from persistip.backends.linux.errors import error_from_os
from persistip.backends.linux.sockets import NETLINK_NETFILTER, NETLINK_ROUTE, set_buffers, unpack

ROUTE_GROUPS = (1, 3, 7, 11, 24, 25)
"""Links; neighbours; IPv4 routes; IPv6 routes; IPv4 and IPv6 per-link settings."""
NETFILTER_GROUPS = (7,)
"""nftables."""

_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_BUFFER_BYTES = 64 << 20
_READ_BYTES = 1 << 17
_READS_PER_TURN = 64

Relevant = Callable[[int, int, bytes], bool]
"""(netlink family, message number, body) -> does this concern us?"""


class KernelMonitor:
    """
    Wakes its owner when a relevant notification arrives.

    Lives in the event loop that calls ``start``; ``overruns`` counts how often notifications were lost.
    """

    def __init__(self, is_relevant: Relevant, own_ports: Iterable[int] = ()) -> None:
        self._is_relevant = is_relevant
        self._own_ports = frozenset(own_ports)
        self._sockets: list[tuple[int, socket.socket]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self.overruns = 0
        try:
            for family, groups in ((NETLINK_ROUTE, ROUTE_GROUPS), (NETLINK_NETFILTER, NETFILTER_GROUPS)):
                self._sockets.append((family, _open(family, groups)))
        except OSError as error:
            self.close()
            raise error_from_os(error, "watch", "netlink") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Listen in the running event loop; what happened since the monitor was made counts too."""
        self._loop = asyncio.get_running_loop()
        for family, sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._read, family, sock)

    def close(self) -> None:
        """Stop listening and give the sockets back."""
        for _family, sock in self._sockets:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    async def wait(self, timeout_seconds: float) -> bool:
        """Whether a relevant notification has come, or comes within the time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    def forget(self) -> None:
        """Forget what came so far: the owner looks at everything now."""
        self._woken.clear()

    def _read(self, family: int, sock: socket.socket) -> None:
        """
        Look at what has arrived, within a bound: a flood must not keep the loop from its other work.

        Once woken there is nothing more to learn, but the queue still has to be emptied.
        """
        for _ in range(_READS_PER_TURN):
            try:
                data = sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # ENOBUFS: some were lost. Whatever else it is, looking again is the answer.
                self.overruns += 1
                self._woken.set()
                return
            if not self._woken.is_set() and self._concerns_us(family, data):
                self._woken.set()

    def _concerns_us(self, family: int, data: bytes) -> bool:
        return any(
            port not in self._own_ports and self._is_relevant(family, number, body)
            for number, _flags, _sequence, port, body in unpack(data)
        )


def _open(family: int, groups: Iterable[int]) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, family)
    try:
        set_buffers(sock, _BUFFER_BYTES)
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, struct.pack("=i", group))
    except OSError:
        sock.close()
        raise
    return sock
