"""
Where is the image of these sources, and what do its programs do?

In: image/, the sources, the pins.  Out: an archive, built once for each state of those and kept in the cache.

As a program: prints the path of the archive.
"""

import fcntl
import functools
import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kubernetes_binaries import cache

from persistip import manifests

ROOT = Path(__file__).parents[2]
MADE_FROM = ("image", "src", "requirements/image.txt", "requirements/build.txt", "pyproject.toml")
TAG = "localhost/persistip:tests"
KEPT = 4
BUILD_SECONDS, RUN_SECONDS = 300, 150

FOLDER = ROOT / "image"
CONTENTS: dict[str, Any] = tomllib.loads((FOLDER / "contents.toml").read_text())
CONTAINERFILE = (FOLDER / "Containerfile").read_text()
USER = 65532
# Clients that a Pod has no use for, and the kit for tests.
ABSENT = {"google", "requests", "kubernetes", "pyroute2", "pytest", "hypothesis", "looptime"}

# Whatever is started in there ends with it, and what is mounted is seen by nobody else.
ALONE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


@functools.cache
def builder() -> ModuleType:
    """Return image/build.py as a module."""
    spec = importlib.util.spec_from_file_location("image_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def containers() -> dict[str, dict[str, Any]]:
    """Return the container of each shipped workload, with the Pod's security context under its own."""
    found = {}
    for each in manifests.build(manifests.Parameters()):
        if each["kind"] in {"Deployment", "DaemonSet"}:
            pod = each["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            container["securityContext"] = {**pod["securityContext"], **container["securityContext"]}
            found[container["name"]] = container
    return found


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for each in sorted(path.rglob("*")):
        if each.is_file() and "__pycache__" not in each.parts:
            yield each


def digest() -> str:
    """Return what tells one image from another before it is built."""
    made = hashlib.sha256(sys.version.encode())
    for name in MADE_FROM:
        for file in _files(ROOT / name):
            made.update(f"{file.relative_to(ROOT)}\0".encode())
            made.update(file.read_bytes())
    return made.hexdigest()[:20]


def archive() -> Path:
    """Return the image as `ctr images import` takes it, named TAG; built where the cache has none of these sources."""
    cache().mkdir(parents=True, exist_ok=True)
    path = cache() / f"image-{digest()}.tar"
    with (cache() / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = path.with_suffix(".part")
            build("--output", str(part), "--tag", TAG)
            part.rename(path)
        os.utime(path)
        for old in sorted(cache().glob("image-*.tar"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            old.unlink()
    return path


def build(*arguments: str) -> None:
    """Run image/build.py."""
    command = [sys.executable, str(ROOT / "image" / "build.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"image/build.py ended with {done.returncode}: {done.stdout}{done.stderr}")


def unpack(root: Path) -> None:
    """Lay out the image's layers in the folder *root*, as any user may read them."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    with tarfile.open(archive()) as outer:
        (image,) = json.loads(_read(outer, "manifest.json"))
        for name in image["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(_read(outer, name))) as layer:
                layer.extractall(root, filter="tar")


def mapped(user: int) -> int:
    """Return *user*, or 0 in a user namespace that knows root alone: there nobody can become another."""
    ranges = (tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return user if any(first <= user < first + count for first, _, count in ranges) else 0


def _read(archived: tarfile.TarFile, name: str) -> bytes:
    file = archived.extractfile(name)
    assert file is not None
    return file.read()


def run_in(root: Path, *command: str, user: int = 0, capabilities: Sequence[str] = (), serves: bool = False) -> Any:
    """Run a program that sees nothing but *root*, as tests/support/in_image.py says; return what that tells."""
    script = Path(__file__).with_name("in_image.py")
    options = [f"--root={root}", f"--user={user}", *(f"--capability={name}" for name in capabilities)]
    options += ["--serves"] if serves else []
    done = subprocess.run(
        [*ALONE, sys.executable, str(script), *options, "--", *command],
        capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{script.name} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(archive())
