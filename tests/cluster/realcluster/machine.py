"""
How does a set of namespaces behave as a machine?

In: a plan.  Out: a Machine that boots, runs programs, shuts down in order, or loses its power. Its first process
(tests/cluster/programs) reads orders line by line; its namespaces, links included, end with it.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from programs import tied

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANSWER_SECONDS = 20.0
RUN_SECONDS = 60.0
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class MachineError(Exception):
    """A machine did not do what it was told, with what it said."""


class Machine:
    """A network namespace with nothing but a first process; a Node is more."""

    kind = "network"

    def __init__(self, name: str, program: Path, folder: Path) -> None:
        self.name, self.program, self.folder = name, program, folder
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    # ------------------------------------------------------------ life
    @property
    def is_on(self) -> bool:
        """Whether its first process lives."""
        return self._process is not None and self._process.poll() is None

    def plan(self) -> dict[str, Any]:
        """Return what the first process is told."""
        return {"name": self.name, "kind": self.kind, "folder": str(self.folder)}

    def boot(self) -> None:
        """Start it; returns when its file system is ready."""
        if self.is_on:
            raise MachineError(f"{self.name} is on already")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._buffer = b""
        with (self.folder / "boot.log").open("ab") as log:
            self._process = subprocess.Popen(
                tied([str(self.program), "boot", json.dumps(self.plan())]),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        # Its number and that it is ready: of two processes, so that either may be said first.
        self.pid = {**self._hear(), **self._hear()}["pid"]

    def cut_power(self) -> None:
        """End everything in it at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process, self.pid = None, 0

    # ------------------------------------------------------------ programs
    def start(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        """Start a program that is known by *name* from now on; what it says is added to its log."""
        variables = {"PATH": PATH, "HOME": "/var/lib", **(env or {})}
        given = [f"{key}={value}" for key, value in variables.items()]
        self._order(do="start", name=name, argv=list(argv), env=given, log=str(self.log(name)))

    def signal(self, name: str, number: signal.Signals, *, seconds: float = 10.0) -> None:
        """Send a signal to a program and wait until it has ended; raise if it does not."""
        self._order(do="signal", name=name, signal=int(number))
        if self._order(do="wait", name=name, seconds=seconds)["running"]:
            raise MachineError(f"{name} on {self.name} did not end within {seconds:g} s\n{self.last_words(name)}")

    def is_running(self, name: str) -> bool:
        """Whether a program of this name runs."""
        return bool(self._order(do="wait", name=name, seconds=0)["running"])

    def log(self, name: str) -> Path:
        """Return where a program writes to."""
        return self.folder / f"{name}.log"

    def last_words(self, name: str, lines: int = 15) -> str:
        """Return the end of a program's log."""
        with contextlib.suppress(FileNotFoundError):
            text = self.log(name).read_text(errors="replace")
            return f"--- {name} on {self.name}:\n" + "\n".join(text.splitlines()[-lines:])
        return f"--- {name} on {self.name}: no log"

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs *argv* in the machine, for whoever starts processes."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *argv]

    def run(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a program in it to its end and return what it printed."""
        done = subprocess.run(
            self.command(*argv), input=stdin, capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
            env=os.environ | {"PATH": PATH},
        )  # fmt: skip
        if check and done.returncode:
            raise MachineError(f"{' '.join(argv)} on {self.name}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ip(self, *commands: str) -> None:
        """Run commands of `ip` in it, all in one process."""
        self.run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")

    def sysctl(self, **settings: int) -> None:
        """Set what is under /proc/sys/net, each name written with `__` for a slash."""
        with self.network():
            for name, value in settings.items():
                Path("/proc/sys/net", name.replace("__", "/")).write_text(str(value))

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Let this thread make sockets in the machine's network for the length of a block."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)
            os.close(there)

    # ------------------------------------------------------------ orders
    def _order(self, **order: Any) -> Mapping[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise MachineError(f"{self.name} is off")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        answer = self._hear(ANSWER_SECONDS + float(order.get("seconds", 0)))
        if "error" in answer:
            raise MachineError(f"{self.name}: {order['do']} {order.get('name', '')}: {answer['error']}")
        return answer

    def _hear(self, seconds: float = ANSWER_SECONDS) -> Mapping[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([self._process.stdout], [], [], left)[0]
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise MachineError(f"{self.name} does not answer\n{self.last_words('boot')}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: Mapping[str, Any] = json.loads(line)
        return answer


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
