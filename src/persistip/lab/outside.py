"""
How does the lab ask the client outside?

In: the fabric and a machine in it.  Out: a probe process there, and its answers as they come (see `probe`).
Calls block until the answer is there, at most as long as they say; from asyncio they go through a thread.
"""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from persistip.lab import probe
from persistip.lab.fabric import CLIENT, Fabric
from persistip.lab.site import ProbeFailedError


class Outside:
    """The probe process at one machine of the fabric."""

    def __init__(self, fabric: Fabric, machine: str = CLIENT) -> None:
        # The package's folder on the path: the probe must find us where we are, also in a checkout.
        environment = {**os.environ, "PYTHONPATH": str(Path(probe.__file__).resolve().parents[2])}
        self._process = fabric.spawn(
            machine,
            [sys.executable, "-m", probe.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, address: str, port: int, *, interval_us: int = 1000, settle_seconds: float = 1.0) -> dict[str, Any]:
        """Probe *address* from now on; `ok` tells whether both directions flow after at most *settle_seconds*."""
        return self._ask(
            settle_seconds + 5,
            {
                "do": "start",
                "address": address,
                "port": port,
                "interval_us": interval_us,
                "settle_seconds": settle_seconds,
            },
        )

    def status(self) -> dict[str, Any]:
        """Who was heard last in each direction, and when."""
        return self._ask(5, {"do": "status"})

    def mark(self, name: str) -> int:
        """Set an instant to measure from; returns it (monotonic nanoseconds)."""
        return int(self._ask(5, {"do": "mark", "name": name})["at_ns"])

    def stop(self) -> dict[str, Any]:
        """End the probe and return `probe.Probe.result`."""
        return self._ask(10, {"do": "stop"})

    def drop(self) -> None:
        """End the probe, if one runs, without a result: from now on nothing is sent."""
        self._ask(5, {"do": "drop"})

    def reach(self, address: str, port: int, *, timeout_seconds: float = 1.0) -> dict[str, str | None]:
        """Who answers at *address* now, by UDP and by TCP; no measurement."""
        answer = self._ask(
            2 * timeout_seconds + 5,
            {"do": "reach", "address": address, "port": port, "timeout_seconds": timeout_seconds},
        )
        return {"udp": answer["udp"], "tcp": answer["tcp"]}

    def close(self) -> None:
        """End the process; a probe that runs is dropped."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, seconds: float, command: dict[str, Any]) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ProbeFailedError("the probe has no pipes")
        os.write(self._process.stdin.fileno(), json.dumps(command).encode() + b"\n")
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            ready = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]
            data = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                raise ProbeFailedError(f"no answer to {command['do']} within {seconds} s")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ProbeFailedError(f"{command['do']}: {answer['error']}")
        return answer
