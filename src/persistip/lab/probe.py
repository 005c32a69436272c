"""
What does a client outside see of one address?

In: commands, one JSON object a line on standard input.  Out: one JSON object a line on standard output for each.
A process of its own, so that neither the lab's work nor its terminal delays a probe:

    start  address, port, interval_us, settle_seconds   answers when both directions flow, or after settle_seconds
    status                                              who was heard last in each direction, and when
    mark   name                                         an instant to measure from
    stop                                                the result, see `Probe.result`
    drop                                                end it without a result; nothing is sent any more
    reach  address, port, timeout_seconds               who answers, by UDP and by TCP; no measurement
    quit

Ingress is a request sent each interval and its payload coming back; egress is the stream that the Pod sends with the
address as its source. Only payload counts, only from the address under test (anything else is counted as
`wrong_source`), and its instant is the kernel's (SO_TIMESTAMPNS, put on the monotonic clock that all share),
so that a late reader is not taken for a late packet, and one look a millisecond is enough.
A loop that sleeps too long sends nothing meanwhile; such a stall of our own is measured and what silence it covers is
reported apart: a busy machine is not an outage. Instants are CLOCK_MONOTONIC nanoseconds.
"""

import contextlib
import errno
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import attrs

from persistip.lab import echo
from persistip.lab.track import STRETCH_NS, Track

STALL_NS = 2_000_000
DRAIN_NS = 100_000_000
"""How long after the last request its answer is waited for."""
_TCP_INTERVAL_NS = 10_000_000
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")


class Probe:
    """One address under test, from `start` to `stop`."""

    def __init__(self, address: str, port: int, interval_ns: int) -> None:
        self.address = address
        self.port = port
        self.interval_ns = interval_ns
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.requests = _datagram(self.family)
        self.stream = _datagram(self.family)
        self.stream_port = self.stream.getsockname()[1]
        self.ingress, self.egress = Track(), Track()
        self.sent: dict[int, int] = {}
        self.refused = 0
        self.unsent: set[int] = set()
        self.ticks: dict[str, int] = {}
        """The latest tick that arrived of each Pod's stream."""
        self.stalls: list[tuple[int, int]] = []
        self.marks: dict[str, int] = {}
        self.number = 0
        self.started_ns = self.next_ns = time.monotonic_ns()
        self.tcp = _Connection(self.family, address, port)

    def close(self) -> None:
        self.requests.close()
        self.stream.close()
        self.tcp.close()

    def send(self) -> None:
        """Send what is due; what a stall made late is not sent in a burst, which would only measure ourselves."""
        now = time.monotonic_ns()
        if now < self.next_ns:
            return
        if now - self.next_ns > STALL_NS:
            self.stalls.append((self.next_ns, now))
        self.number += 1
        request = echo.REQUEST.pack(echo.REQUEST_MAGIC, self.number, now, self.interval_ns, self.stream_port)
        try:
            self.requests.sendto(request, (self.address, self.port))
        except OSError:
            # No route, or ICMP told of one that is gone: sent as far as the user is concerned.
            self.refused += 1
        self.sent[self.number] = now
        self.next_ns += ((now - self.next_ns) // self.interval_ns + 1) * self.interval_ns
        self.tcp.send(now)

    def receive(self) -> None:
        """Take in all that has arrived."""
        for data, at_ns, source in _datagrams(self.requests):
            if source != (self.address, self.port):
                self.ingress.wrong_source += 1
            elif len(data) > echo.REQUEST.size and data.startswith(echo.REQUEST_MAGIC):
                number = echo.REQUEST.unpack_from(data)[1]
                self.ingress.hear(at_ns, number, data[echo.REQUEST.size :].decode(errors="replace"))
        for data, at_ns, source in _datagrams(self.stream):
            if source[0] != self.address:
                self.egress.wrong_source += 1
            elif len(data) > echo.STREAM.size and data.startswith(echo.STREAM_MAGIC):
                _, tick, before = echo.STREAM.unpack_from(data)
                who = data[echo.STREAM.size :].decode(errors="replace")
                # A Pod's word counts only from one of its datagrams that arrived to the next.
                if self.ticks.get(who) == before:
                    self.unsent.update(range(before + 1, tick))
                self.ticks[who] = tick
                self.egress.hear(at_ns, tick, who)
        self.tcp.receive()

    def tcp_state(self, until_ns: int | None = None) -> str:
        """
        What became of the connection that was opened at the start, as it stood at *until_ns*.

        Where requests are no longer answered either, there is nothing to wait for: it is not kept.
        """
        latest_ns = max((at_ns for at_ns, _ in self.ingress.heard), default=0)
        end_ns = time.monotonic_ns() if until_ns is None else until_ns
        is_silent = end_ns - max(latest_ns, self.tcp.heard_ns) >= STRETCH_NS
        state = self.tcp.state()
        return "none" if state == "kept" and is_silent else state

    def flows(self) -> bool:
        return bool(self.ingress.heard and self.egress.heard)

    def last(self) -> dict[str, Any]:
        found: dict[str, Any] = {"now_ns": time.monotonic_ns(), "tcp": self.tcp_state()}
        for name, track in (("ingress", self.ingress), ("egress", self.egress)):
            at_ns, who = max(track.heard, default=(None, None))
            found[name] = {"who": who, "at_ns": at_ns}
        return found

    def result(self, until_ns: int, fresh: str | None) -> dict[str, Any]:
        """
        All that was seen since `start` had settled: counts, the longest silence, who was heard when, the TCP state.

        The same again since each mark, under `marks`. A lost request is one that no Pod answered; a lost tick of the
        stream is one that no Pod was heard with; one that the Pod says it slept through is `unsent` instead.
        """
        stalls = [end - begin for begin, end in self.stalls if end > self.started_ns]
        result: dict[str, Any] = {
            "address": self.address,
            "started_ns": self.started_ns,
            "ended_ns": until_ns,
            "interval_ms": self.interval_ns / 1e6,
            "tcp": self.tcp_state(until_ns),
            "tcp_fresh": fresh,
            "stalls": {
                "count": len(stalls),
                "total_ms": sum(stalls) / 1e6,
                "longest_ms": max(stalls, default=0) / 1e6,
            },
            "refused": self.refused,
            **self._since(self.started_ns, until_ns),
        }
        result["marks"] = {name: {"at_ns": at, **self._since(at, until_ns)} for name, at in self.marks.items()}
        return result

    def _since(self, since_ns: int, until_ns: int) -> dict[str, Any]:
        sent = [number for number, at_ns in self.sent.items() if since_ns <= at_ns <= until_ns]
        ticks = range(since_ns // self.interval_ns + 1, until_ns // self.interval_ns)
        expected = [tick for tick in ticks if tick in self.egress.numbers or tick not in self.unsent]
        # The newest ticks may be on their way still.
        late = max(self.egress.numbers, default=0)
        if late >= ticks.stop - 1 - 5:
            expected = [tick for tick in expected if tick <= late]
        ingress = {"sent": len(sent), "lost": sum(1 for number in sent if number not in self.ingress.numbers)}
        egress = {"sent": len(expected), "lost": sum(1 for tick in expected if tick not in self.egress.numbers)}
        egress["unsent"] = sum(1 for tick in ticks if tick in self.unsent and tick not in self.egress.numbers)
        found: dict[str, Any] = {}
        for name, track, counts in (("ingress", self.ingress, ingress), ("egress", self.egress, egress)):
            first: dict[str, int] = {}
            for at_ns, who in sorted(track.heard):
                if at_ns >= since_ns:
                    first.setdefault(who, at_ns)
            found[name] = {
                **counts,
                **track.silence(since_ns, until_ns, self.interval_ns, self.stalls),
                "first_ns": first,
                "stretches": [attrs.astuple(run) for run in track.stretches() if run.last_ns >= since_ns],
                "wrong_source": track.wrong_source,
                "duplicates": track.duplicates,
                "overlaps": track.overlaps,
            }
        return found


class _Connection:
    """
    One TCP connection, opened at the start and used every few milliseconds until the end.

    `kept`: it still carries payload; `reset`: it was ended by the other side; `none`: it never opened, or nothing
    comes back any more.
    """

    def __init__(self, family: int, address: str, port: int) -> None:
        self._reset = False
        self.heard_ns = 0
        self._next_ns = 0
        self._socket: socket.socket | None = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._socket.connect_ex((address, port)) not in (0, errno.EINPROGRESS):
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def state(self) -> str:
        if self._reset:
            return "reset"
        # A second without an answer: well above the retransmissions that a short blackout costs.
        return "kept" if self.heard_ns and time.monotonic_ns() - self.heard_ns < 1_000_000_000 else "none"

    def send(self, now: int) -> None:
        if self._socket is None or now < self._next_ns:
            return
        self._next_ns = now + _TCP_INTERVAL_NS
        try:
            self._socket.send(b"%d\n" % now)
        except BlockingIOError:
            # Still connecting, or nothing is acknowledged any more.
            return
        except OSError:
            self._broken()

    def receive(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._broken()
            return
        if data:
            self.heard_ns = time.monotonic_ns()
        else:
            self._broken()

    def _broken(self) -> None:
        """An error before anything was heard means that it never opened."""
        self._reset = self.heard_ns > 0
        self.close()


def reach(address: str, port: int, timeout_seconds: float) -> dict[str, str | None]:
    """Ask once by UDP (again each 50 ms) and once by TCP: the name of the Pod that answered, or None."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {
        "udp": _reach_udp(family, address, port, timeout_seconds),
        "tcp": _reach_tcp(family, address, port, timeout_seconds),
    }


def _reach_udp(family: int, address: str, port: int, timeout_seconds: float) -> str | None:
    end = time.monotonic() + timeout_seconds
    with _datagram(family) as sock:
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(OSError):
                sock.sendto(echo.REQUEST.pack(echo.REQUEST_MAGIC, 0, 0, 0, 0), (address, port))
            if select.select([sock], [], [], min(left, 0.05))[0]:
                for data, _, source in _datagrams(sock):
                    if source == (address, port):
                        return data[echo.REQUEST.size :].decode(errors="replace")
    return None


def _reach_tcp(family: int, address: str, port: int, timeout_seconds: float) -> str | None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_seconds)
        try:
            sock.connect((address, port))
            sock.sendall(b"hello\n")
            answer = sock.recv(4096)
        except OSError:
            return None
    return answer.decode(errors="replace").partition(" ")[2].strip() or None


def _datagram(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("", 0))
    return sock


def _datagrams(sock: socket.socket) -> Iterator[tuple[bytes, int, tuple[str, int]]]:
    """All that waits: payload, instant on the monotonic clock, source."""
    # The kernel stamps with the wall clock; both are read at once, so a clock that is being set does no harm.
    offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.monotonic_ns()
    while True:
        try:
            data, ancillary, _, source = sock.recvmsg(2048, 64)
        except OSError:
            return
        at_ns = time.monotonic_ns()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                at_ns = min(at_ns, seconds * 1_000_000_000 + nanoseconds - offset)
        yield data, at_ns, source[:2]


class Server:
    """The control protocol, and the one loop that everything runs in."""

    def __init__(self, commands: int, replies: int) -> None:
        self._commands = commands
        self._replies = replies
        self._buffer = b""
        self._probe: Probe | None = None
        self._settle_until_ns: int | None = None
        self._stopped_ns: int | None = None

    def run(self) -> None:
        """Serve until `quit` or the end of the commands."""
        while True:
            timeout = None if self._probe is None else self._step(self._probe)
            if select.select([self._commands], [], [], timeout)[0] and not self._read():
                return

    def _step(self, probe: Probe) -> float:
        """Do what is due; return for how many seconds nothing is."""
        if self._stopped_ns is None:
            probe.send()
            due = probe.next_ns
        else:
            due = self._stopped_ns + DRAIN_NS
        probe.receive()
        now = time.monotonic_ns()
        if self._settle_until_ns is not None and (probe.flows() or now >= self._settle_until_ns):
            self._settle_until_ns = None
            self._reply({"ok": probe.flows(), **probe.last()})
            probe.started_ns = time.monotonic_ns()
        if self._stopped_ns is not None and now >= due:
            fresh = _reach_tcp(probe.family, probe.address, probe.port, 0.5)
            self._reply({"ok": True, **probe.result(self._stopped_ns, fresh)})
            probe.close()
            self._probe = self._stopped_ns = None
            return 0.0
        return max(0, due - time.monotonic_ns()) / 1e9

    def _read(self) -> bool:
        data = os.read(self._commands, 65536)
        if not data:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            try:
                command = json.loads(line)
                if command["do"] == "quit":
                    return False
                self._do(command)
            except (ValueError, KeyError, TypeError, OSError) as error:
                self._reply({"ok": False, "error": f"{type(error).__name__}: {error}"})
        return True

    def _do(self, command: dict[str, Any]) -> None:
        match command["do"]:
            case "start":
                self._drop()
                interval_ns = int(command.get("interval_us", 1000)) * 1000
                self._probe = Probe(command["address"], command["port"], interval_ns)
                self._settle_until_ns = time.monotonic_ns() + int(command.get("settle_seconds", 1.0) * 1e9)
            case "drop":
                self._drop()
                self._reply({"ok": True})
            case "reach":
                found = reach(command["address"], command["port"], command.get("timeout_seconds", 1.0))
                self._reply({"ok": True, **found})
            case "status" | "mark" | "stop" as verb:
                probe = self._probe
                if probe is None or self._settle_until_ns is not None:
                    raise ValueError("no probe runs")
                if verb == "status":
                    self._reply({"ok": True, **probe.last()})
                elif verb == "mark":
                    probe.marks[command["name"]] = time.monotonic_ns()
                    self._reply({"ok": True, "at_ns": probe.marks[command["name"]]})
                else:
                    self._stopped_ns = time.monotonic_ns()
            case other:
                raise ValueError(f"no such command: {other}")

    def _drop(self) -> None:
        if self._probe is not None:
            self._probe.close()
        self._probe = self._stopped_ns = self._settle_until_ns = None

    def _reply(self, answer: dict[str, Any]) -> None:
        os.write(self._replies, json.dumps(answer).encode() + b"\n")


def main() -> None:
    # Ahead of others where allowed: at 1 ms spacing the scheduler's usual slice would show.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    Server(sys.stdin.fileno(), sys.stdout.fileno()).run()


if __name__ == "__main__":
    main()
