"""
How does a process on this machine see what it would see in a Pod?

In: a folder with a service account's files, and a command.  Out: the command, in a mount namespace of its own in which
that folder lies where the kubelet would put it. Needs root, or to be root in a user namespace, as `nox` sees to.
"""

import ctypes
import os
import sys
from pathlib import Path

NEW_MOUNTS, BIND, RECURSIVE, PRIVATE = 0x00020000, 4096, 0x4000, 1 << 18
PLACE = Path("/run/secrets/kubernetes.io/serviceaccount")

libc = ctypes.CDLL(None, use_errno=True)


def must(result: int, what: str) -> None:
    """Raise what the kernel refused."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)} (root is needed; try `nox -s bench`)")


def main() -> None:
    """Become the command."""
    account, *command = sys.argv[1:]
    found = {each.name: each.read_bytes() for each in Path(account).iterdir()}
    must(libc.unshare(NEW_MOUNTS), "a mount namespace")
    must(libc.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None), "private mounts")
    must(libc.mount(b"none", b"/run", b"tmpfs", 0, b"mode=0755,size=16m"), "a private /run")
    PLACE.mkdir(parents=True)
    for name, content in found.items():
        (PLACE / name).write_bytes(content)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
