"""
How can a measurement stand before the other work of a machine?

In: nothing.  Out: this process and its descendants in autogroups of the highest precedence, which only root may give.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """Keep this process and all that descend from it before the other sessions of the machine."""
    over = threading.Event()
    raised: set[int] = set()

    def run() -> None:
        while not over.wait(0.2):
            for pid in _descendants(os.getpid()) - raised:
                with contextlib.suppress(OSError):
                    Path(f"/proc/{pid}/autogroup").write_text("-20")
                    raised.add(pid)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if not raised:
            print("--ahead had no effect: autogroups are switched off, or need root", file=sys.stderr)


def _descendants(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(each.name)] = int((each / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
