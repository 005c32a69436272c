"""
What does a simulated client outside see of one address?

In: functions that say what would become of a packet now.  Out: the same answers as those of a real `probe`, by its own
rules: a request each millisecond, and the stream of every Pod that was asked not long ago.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import attrs

from persistip.lab import echo
from persistip.lab.probe import Probe
from persistip.lab.site import ProbeFailedError
from persistip.lab.track import Track

_CLIENTS = {4: "198.51.100.2", 6: "2001:db8:51::2"}
_INTERVAL_NS = 1_000_000


@attrs.define
class _Connection:
    """A TCP connection lives as long as its first peer answers, and is reset by any other."""

    peer: object = None
    is_reset: bool = False
    is_alive: bool = False

    def hear(self, who: object) -> None:
        self.peer = self.peer or who
        self.is_reset = self.is_reset or (who is not None and who != self.peer)
        self.is_alive = who is not None and who == self.peer

    def state(self) -> str:
        if self.is_reset:
            return "reset"
        return "kept" if self.is_alive else "none"


class _Observation(Probe):
    """The book-keeping of a Probe without its sockets."""

    def __init__(self, address: str, now_ns: int) -> None:  # the sockets are what is left out
        self.address = address
        self.interval_ns = _INTERVAL_NS
        self.ingress, self.egress = Track(), Track()
        self.sent: dict[int, int] = {}
        self.refused = 0
        self.unsent: set[int] = set()
        self.stalls: list[tuple[int, int]] = []
        self.marks: dict[str, int] = {}
        self.number = 0
        self.started_ns = now_ns
        self.connection = _Connection()
        self.flowing = asyncio.Event()
        self.asked_ns: dict[str, int] = {}
        """When each Pod was asked last for its stream."""

    def tcp_state(self, until_ns: int | None = None) -> str:  # noqa: ARG002
        """What became of the connection that was opened at the start."""
        return self.connection.state()


class VirtualProbe:
    """
    An AddressProbe on simulated packets.

    *ask* tells which Pod would answer a request for an address, *speak* whether what a Pod sends from it arrives,
    *name* what the Pod calls itself, and *process* which process it is.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        ask: Callable[[str, str], str | None],
        speak: Callable[[str, str], bool],
        name: Callable[[str], str],
        process: Callable[[str], object],
    ) -> None:
        self._now_ns, self._ask, self._speak, self._name, self._process = now_ns, ask, speak, name, process
        self._seen: _Observation | None = None
        self.task: asyncio.Task[None] | None = None

    # A simulated Pod answers on every port.
    async def start(self, address: str, port: int, *, settle_seconds: float = 1.0) -> dict[str, Any]:  # noqa: ARG002
        """Probe from now on; ``ok`` tells whether both directions flow after at most *settle_seconds*."""
        self._end()
        seen = self._seen = _Observation(address, self._now_ns())
        self.task = asyncio.create_task(self._run(seen))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settle_seconds):
                await seen.flowing.wait()
        seen.started_ns = self._now_ns()
        return {
            "ok": seen.flows(),
            **{
                direction: {"who": track.heard[-1][1] if track.heard else None}
                for direction, track in (("ingress", seen.ingress), ("egress", seen.egress))
            },
        }

    async def mark(self, name: str) -> int:
        """Set an instant to measure from."""
        at_ns = self._observation().marks[name] = self._now_ns()
        return at_ns

    async def stop(self) -> dict[str, Any]:
        """End the probe and return its result."""
        seen = self._observation()
        self._end()
        fresh = self._ask(seen.address, _client(seen.address))
        return seen.result(self._now_ns(), self._name(fresh) if fresh else None)

    async def drop(self) -> None:
        """End the probe, if one runs, without a result."""
        self._end()

    async def reach(self, address: str, port: int) -> dict[str, str | None]:  # noqa: ARG002
        """Who answers at *address* now, by UDP and by TCP."""
        pod = self._ask(address, _client(address))
        who = self._name(pod) if pod else None
        return {"udp": who, "tcp": who}

    def _observation(self) -> _Observation:
        if self._seen is None:
            raise ProbeFailedError("no probe runs")
        return self._seen

    def _end(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self.task = self._seen = None

    async def _run(self, seen: _Observation) -> None:
        """One look a tick; a tick that the loop came too late for was never sent."""
        before = self._now_ns() // _INTERVAL_NS - 1
        while True:
            now_ns = self._now_ns()
            tick = now_ns // _INTERVAL_NS
            # A timer may be a hair early.
            if tick > before:
                seen.unsent.update(range(before + 1, tick))
                before = tick
                self._look(seen, now_ns, tick)
            await asyncio.sleep(((tick + 1) * _INTERVAL_NS - self._now_ns()) / 1e9)

    def _look(self, seen: _Observation, now_ns: int, tick: int) -> None:
        seen.number += 1
        seen.sent[seen.number] = now_ns
        pod = self._ask(seen.address, _client(seen.address))
        if pod is not None:
            seen.ingress.hear(now_ns, seen.number, self._name(pod))
            seen.asked_ns[pod] = now_ns
        seen.connection.hear(self._process(pod) if pod is not None else None)
        for each, asked_ns in seen.asked_ns.items():
            if now_ns - asked_ns < echo.STREAM_LEASE_NS and self._speak(each, seen.address):
                seen.egress.hear(now_ns, tick, self._name(each))
        if seen.flows():
            seen.flowing.set()


def _client(address: str) -> str:
    return _CLIENTS[6 if ":" in address else 4]
