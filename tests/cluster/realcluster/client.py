"""
What does the client outside see?

In: the client's machine.  Out: the probe of `persistip lab` there, with a request each millisecond and a stream back.
"""

import subprocess
from collections.abc import Sequence
from typing import Any

from persistip.lab.outside import Outside
from realcluster.machine import Machine

PORT = 5060


class _Spawner:
    """Starts a program on a machine, as the lab's fabric does."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def spawn(self, _: str, command: Sequence[str], **how: Any) -> "subprocess.Popen[bytes]":
        """Start *command* there."""
        return subprocess.Popen(self._machine.command(*command), **how)


def probe_at(machine: Machine) -> Outside:
    """Start a probe process on the client's machine."""
    return Outside(_Spawner(machine), machine.name)


def name_of(pod: dict[str, Any]) -> str:
    """Return how a Pod of the examples names itself in its answers."""
    return f"{pod['name']}@{pod['uid']}"
