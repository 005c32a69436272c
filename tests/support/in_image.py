"""
What does a program do that sees nothing but the image?

In: an image's root, a program of it, a user, capabilities.  Out: as JSON, what /healthz and /metrics answered, how long
that took from the start, its log, and its exit status after SIGTERM.

Run it in namespaces of its own (`unshare --mount --net --pid --fork`): what it mounts goes with them, and the root's
owner can then delete it. The root is read-only, as in the shipped manifests; beside it there are /proc, three devices,
and the files of a ServiceAccount whose API server does not answer.
"""

import argparse
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from certificates import Authority

MS_BIND, MS_REMOUNT, MS_RDONLY, MS_REC, MS_PRIVATE = 0x1000, 0x20, 0x1, 0x4000, 0x40000
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
LAST_CAPABILITY = 40
CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13}
WAIT_SECONDS = 60.0
WRITABLE = ("var/lib/persistip", "run")

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, kind: str, flags: int) -> None:
    if _libc.mount(source.encode(), str(target).encode(), kind.encode(), flags, None):
        raise OSError(ctypes.get_errno(), f"mount {source} at {target}")


def prepare(root: Path) -> None:
    """Make of *root* what a container runtime makes of it."""
    account = root / "var/run/secrets/kubernetes.io/serviceaccount"
    for folder in ("proc", "dev", "node/sys/net", *WRITABLE):
        (root / folder).mkdir(parents=True, exist_ok=True)
    account.mkdir(parents=True, exist_ok=True)
    (account / "token").write_text("of-nobody")
    (account / "ca.crt").write_bytes(Authority().pem)
    _mount("none", Path("/"), "", MS_REC | MS_PRIVATE)
    _mount(str(root), root, "", MS_BIND)
    _mount("proc", root / "proc", "proc", 0)
    for device in ("null", "urandom", "random"):
        (root / "dev" / device).touch()
        _mount(f"/dev/{device}", root / "dev" / device, "", MS_BIND)
    for folder in WRITABLE:
        _mount("tmpfs", root / folder, "tmpfs", 0)
    _mount("/proc/sys/net", root / "node/sys/net", "", MS_BIND)
    _mount(str(root), root, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def command_in(root: Path, user: int, capabilities: Sequence[str], command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start *command* as *user*, with these capabilities at most, and no file but those of *root*."""

    def enter() -> None:
        os.chroot(root)
        os.chdir("/")
        for number in set(range(LAST_CAPABILITY + 1)) - {CAPABILITIES[name] for name in capabilities}:
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    environment = {"PATH": "/usr/local/bin", "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=enter,  # noqa: PLW1509 - one thread
    )


def _asked(path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:8080{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def main() -> None:
    """Start, ask, stop, tell."""
    parser = argparse.ArgumentParser(description="What does a program do that sees nothing but the image?")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--user", type=int, default=0)
    parser.add_argument("--capability", action="append", default=[], choices=CAPABILITIES)
    parser.add_argument(
        "--serves", action="store_true", help="a program that listens and goes on until it is told to stop"
    )
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    prepare(chosen.root)
    json.dump(observe(chosen), sys.stdout)


def observe(chosen: argparse.Namespace) -> dict[str, object]:
    """Run the program and say what it did."""
    started = time.monotonic()
    with command_in(chosen.root, chosen.user, chosen.capability, chosen.command) as process:
        told: dict[str, object] = {}
        if chosen.serves:
            while (health := _asked("/healthz"))[0] == 0 and process.poll() is None:
                if time.monotonic() > started + WAIT_SECONDS:
                    break
                time.sleep(0.005)
            told = {"health": health, "seconds": time.monotonic() - started, "metrics": _asked("/metrics")}
            # Long enough for it to have tried the API server.
            time.sleep(1)
            with contextlib.suppress(FileNotFoundError):
                told["status"] = Path(f"/proc/{process.pid}/status").read_text()
            process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=WAIT_SECONDS)
        return told | {"log": said.decode(), "exit": process.returncode, "ran_seconds": time.monotonic() - started}


if __name__ == "__main__":
    main()
