"""
Which cgroups do a node's processes live in, and how are they made and taken away?

In: the hierarchies that this process is in (version 1 or 2).  Out: one directory in each, for the node alone.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "cpuacct", "cpuset", "memory", "devices", "pids", "freezer")
EMPTY_SECONDS = 5.0
NODE_SHARES = 8 * 1024


class GroupsError(Exception):
    """Why no cgroups can be made here."""


def hierarchies() -> Mapping[str, Path]:
    """Return where a group can be made, by the mount options of each hierarchy; version 2 has one, without options."""
    if (ROOT / "cgroup.controllers").exists():
        # Below the root only: any other group with a process in it, as ours, may not hand controllers on.
        return {"": ROOT}
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, options, own = line.split(":", 2)
        # One without controllers is named; runc makes groups in it, too.
        mounted = ROOT / options.removeprefix("name=")
        if options and mounted.is_dir():
            directory = mounted / own.lstrip("/")
            found[options] = directory if directory.is_dir() else mounted
    return found


def why_missing() -> str | None:
    """Return why groups for nodes cannot be made here; None: they can."""
    found = hierarchies()
    controllers = {name for options in found for name in options.split(",")}
    if "" in found:
        controllers = set((ROOT / "cgroup.controllers").read_text().split()) | {"cpuacct", "devices", "freezer"}
    if absent := [name for name in NEEDED if name not in controllers]:
        return f"no cgroup controller {', '.join(absent)}"
    try:
        made = [directory / f"persistip-probe-{os.getpid()}" for directory in found.values()]
        for each in made:
            each.mkdir()
            each.rmdir()
    except OSError as error:
        return f"no right to make cgroups ({error})"
    return None


def make(name: str) -> tuple[Path, ...]:
    """Make the group *name* (a path of two parts) in every hierarchy and return the directories."""
    made = []
    for options, directory in hierarchies().items():
        own = directory / name
        own.mkdir(parents=True, exist_ok=True)
        if options == "cpuset":
            # Without any a group can hold no process; a new one starts with none.
            for each in (own.parent, own):
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (each / file).write_text((each.parent / file).read_text())
                (each / "cgroup.clone_children").write_text("1")
        if "cpu" in options.split(","):
            # A node is many processes; as one among all of the machine's it would starve.
            for each in (own.parent, own):
                (each / "cpu.shares").write_text(str(NODE_SHARES))
        if not options:
            for each in (directory, own.parent):
                for controller in ("cpu", "cpuset", "io", "memory", "pids"):
                    with contextlib.suppress(OSError):
                        (each / "cgroup.subtree_control").write_text(f"+{controller}")
            for each in (own.parent, own):
                (each / "cpu.weight").write_text(str(NODE_SHARES * 100 // 1024))
        made.append(own)
    return tuple(made)


def remove(name: str) -> None:
    """Take the group *name* away with all below it, once the last process has left; raise if one does not."""
    for directory in hierarchies().values():
        deadline = time.monotonic() + EMPTY_SECONDS
        while (directory / name).exists():
            for below, _, _ in os.walk(directory / name, topdown=False):
                with contextlib.suppress(OSError):
                    Path(below).rmdir()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{directory / name} still holds processes: {_processes(directory / name)}")
            time.sleep(0.005)


def _processes(directory: Path) -> list[str]:
    return [number for file in directory.rglob("cgroup.procs") for number in file.read_text().split()]
