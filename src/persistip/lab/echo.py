"""
What does a Pod of the lab do?

In: environment variables, as in a container's manifest.  Out: answers on the wire; `ready` or `unready`, a line on
standard output, whenever that changes (it stands for the readiness probe).

    POD_NAME               said in every answer, so that the client knows who answered
    PERSISTENT_ADDRESSES   put on the Pod's own lo at start: "the application holds the address itself"
    PORT                   TCP and UDP, IPv4 and IPv6 (default 7; so is what is no port, but another program's word)
    READY_AFTER_SECONDS    a slow start (default 0)
    SHUTDOWN_SECONDS       how long it goes on serving after SIGTERM, as a well-behaved server does (default 1)

SIGUSR1 makes it unready and SIGUSR2 ready again; it answers all the same, as a Pod with a sick backend would.

UDP: the answer is the request and the Pod's name, sent from the address that the request came to. A request that names
a stream port also asks for a stream: one datagram a tick, from that address, to that port of the asker, for
STREAM_LEASE_NS after the latest request. Ticks are numbered by the machine's monotonic clock, so all Pods and the
client agree on them without a word, and each datagram says which tick its sender served before: what was never sent is
not taken for lost. TCP: each line comes back with the name.

Standard library only, and no more of it than needed: a Pod is up in tens of milliseconds (`python -S -I echo.py`).
"""

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import time

REQUEST = struct.Struct("!4sQQIH")
"""Magic, sequence number, sender's monotonic ns; interval of the stream in ns and its port (0: none)."""
REQUEST_MAGIC = b"pip?"
STREAM = struct.Struct("!4sQQ")
"""Magic, tick, the tick served before (the same tick: this is the first)."""
STREAM_MAGIC = b"pip>"
STREAM_LEASE_NS = 2_000_000_000

_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
DEFAULT_PORT = 7
_MAX_CONNECTIONS = 64
_MAX_LINE = 4096

Address = tuple[str, int] | tuple[str, int, int, int]


class _Stream:
    """One asker's stream; *source* is ancillary data that sets the source address."""

    def __init__(self, sock: socket.socket, target: Address) -> None:
        self.sock = sock
        self.target = target
        self.source: list[tuple[int, int, bytes]] = []
        self.interval_ns = 1_000_000
        self.until_ns = 0
        self.tick = 0

    def serve(self, now_ns: int, name: bytes) -> int:
        """Send this tick's datagram if it was not sent yet; return when the next one is due."""
        tick = now_ns // self.interval_ns
        if tick != self.tick:
            before = self.tick or tick
            self.tick = tick
            # No route or a full queue: the client sees what is missing, and that is its job.
            with contextlib.suppress(OSError):
                self.sock.sendmsg([STREAM.pack(STREAM_MAGIC, tick, before) + name], self.source, 0, self.target)
        return (tick + 1) * self.interval_ns


class Echo:
    """The server: one thread, one select loop; `run` returns when its time is over."""

    def __init__(
        self, name: str, port: int, *, ready_after_seconds: float = 0.0, shutdown_seconds: float = 1.0
    ) -> None:
        self._name = name.encode()
        self._shutdown_ns = int(shutdown_seconds * 1e9)
        self._ready = False
        self._ready_at_ns: int | None = time.monotonic_ns() + int(ready_after_seconds * 1e9)
        self._end_ns: int | None = None
        self._udp = [_udp(socket.AF_INET, port), _udp(socket.AF_INET6, port)]
        self._listeners = [_tcp(socket.AF_INET, port), _tcp(socket.AF_INET6, port)]
        self._connections: dict[socket.socket, bytes] = {}
        self._streams: dict[Address, _Stream] = {}
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        while True:
            now = time.monotonic_ns()
            if self._end_ns is not None and now >= self._end_ns:
                return
            if self._ready_at_ns is not None and now >= self._ready_at_ns:
                self._ready_at_ns = None
                self._set_ready(True)
            due = [each for each in (self._end_ns, self._ready_at_ns) if each is not None]
            due += self._serve_streams(now)
            timeout = max(0.0, (min(due) - time.monotonic_ns()) / 1e9) if due else None
            waiting = [self._woken, *self._udp, *self._listeners, *self._connections]
            for each in select.select(waiting, [], [], timeout)[0]:
                if each is self._woken:
                    self._signals()
                elif each in self._udp:
                    self._answer(each)
                elif each in self._listeners:
                    self._accept(each)
                else:
                    self._lines(each)

    def _signals(self) -> None:
        for number in self._woken.recv(64):
            if number == signal.SIGTERM:
                self._end_ns = self._end_ns or time.monotonic_ns() + self._shutdown_ns
            else:
                self._ready_at_ns = None
                self._set_ready(number == signal.SIGUSR2)

    def _set_ready(self, ready: bool) -> None:
        if ready != self._ready:
            self._ready = ready
            os.write(1, b"ready\n" if ready else b"unready\n")

    def _serve_streams(self, now: int) -> list[int]:
        for target in [target for target, stream in self._streams.items() if now >= stream.until_ns]:
            del self._streams[target]
        return [stream.serve(now, self._name) for stream in self._streams.values()]

    def _answer(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                data, ancillary, _, peer = sock.recvmsg(2048, 128)
            except OSError:
                return
            source = [_from_destination(level, kind, value) for level, kind, value in ancillary]
            with contextlib.suppress(OSError):
                sock.sendmsg([data, self._name], source, 0, peer)
            if len(data) >= REQUEST.size and data.startswith(REQUEST_MAGIC):
                _, _, _, interval_ns, port = REQUEST.unpack_from(data)
                if port:
                    self._subscribe(sock, (peer[0], port, *peer[2:]), source, max(interval_ns, 100_000))

    def _subscribe(
        self, sock: socket.socket, target: Address, source: list[tuple[int, int, bytes]], interval_ns: int
    ) -> None:
        stream = self._streams.get(target)
        if stream is None or stream.source != source:
            stream = self._streams[target] = _Stream(sock, target)
        stream.source = source
        stream.interval_ns = interval_ns
        stream.until_ns = time.monotonic_ns() + STREAM_LEASE_NS

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if len(self._connections) >= _MAX_CONNECTIONS:
            oldest = next(iter(self._connections))
            self._connections.pop(oldest)
            oldest.close()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection] = b""

    def _lines(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_MAX_LINE)
            *lines, rest = (self._connections[connection] + data).split(b"\n")
            if not data or len(rest) > _MAX_LINE:
                raise ConnectionError
            if lines:
                connection.sendall(b"".join(b"%s %s\n" % (line, self._name) for line in lines))
            self._connections[connection] = rest
        except BlockingIOError:
            return
        except OSError:
            self._connections.pop(connection)
            connection.close()


def _udp(family: int, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    sock.setblocking(False)
    sock.bind(("", port))
    return sock


def _tcp(family: int, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setblocking(False)
    sock.bind(("", port))
    sock.listen(16)
    return sock


def _from_destination(level: int, kind: int, value: bytes) -> tuple[int, int, bytes]:
    """Turn what the kernel says of a packet's destination into what sets an answer's source."""
    if level == socket.IPPROTO_IPV6:
        return level, _IPV6_PKTINFO, value[:16] + bytes(4)
    return level, kind, bytes(4) + value[8:12] + bytes(4)


def hold(addresses: list[str]) -> None:
    """
    Put *addresses* on lo, as an application with NET_ADMIN in its own namespace does; bring lo up first.

    Plain rtnetlink: a Pod must not need a library for two messages. Raises OSError with the kernel's errno.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        lo = socket.if_nametoindex("lo")
        _netlink(netlink, 16, 0x5, struct.pack("=BBHiII", 0, 0, 0, lo, 1, 1))  # RTM_NEWLINK: flags IFF_UP
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            packed = socket.inet_pton(family, address)
            attribute = struct.pack("=HH", 4 + len(packed), 2) + packed  # IFA_LOCAL
            # RTM_NEWADDR, created or replaced: a restarted process finds its own address there.
            head = struct.pack("=BBBBI", family, 8 * len(packed), 0x02, 0, lo)
            _netlink(netlink, 20, 0x505, head + attribute)


def _netlink(netlink: socket.socket, kind: int, flags: int, body: bytes) -> None:
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if error:
        raise OSError(-error, os.strerror(-error))


def port_of(text: str | None) -> int:
    """The port that the variable PORT names; DEFAULT_PORT where it names none."""
    return int(text) if text and text.isdecimal() and 0 < int(text) < 65_536 else DEFAULT_PORT


def main() -> None:
    environment = os.environ
    hold(environment.get("PERSISTENT_ADDRESSES", "").replace(",", " ").split())
    Echo(
        environment.get("POD_NAME", "echo"),
        port_of(environment.get("PORT")),
        ready_after_seconds=float(environment.get("READY_AFTER_SECONDS", "0")),
        shutdown_seconds=float(environment.get("SHUTDOWN_SECONDS", "1")),
    ).run()


if __name__ == "__main__":
    main()
    sys.exit(0)
