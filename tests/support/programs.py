"""
How does a test run a long-lived program that must not outlive it?

In: a command and a folder.  Out: a Program that can be ended and started again, and whose log can be read.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
READY_SECONDS = 60.0

# The kernel ends a child with the thread that made it; without this, a killed pytest would leave a cluster behind.
_TIED = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def until(holds: Callable[[], Any], what: str | Callable[[], str], seconds: float = READY_SECONDS) -> Any:
    """Wait until *holds* returns something true, and return that; fail naming *what* else."""
    deadline = time.monotonic() + seconds
    while True:
        if found := holds():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what() if callable(what) else what}")
        time.sleep(0.02)


def tied(command: Sequence[str]) -> list[str]:
    """Return a command line whose process ends with the thread that starts it."""
    return [sys.executable, "-I", "-S", "-c", _TIED, *command]


@dataclass
class Program:
    """
    One program of the cluster, which can be stopped, killed and started again.

    It ends with the thread that started it: start it in one that lasts as long as it shall.
    """

    name: str
    command: Sequence[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Return where it writes to."""
        return self.folder / f"{self.name}.log"

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it; what it says is added to its log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tied(self.command),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, SIGKILL by default, and wait until it has ended."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout=READY_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self, lines: int = 12) -> str:
        """Return the end of its log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"
