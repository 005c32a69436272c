"""
The image, without an engine: which files, and in which archive?

In: contents.toml, the Python that runs this, and an index of packages.  Out: a folder that is the image's root
(`--root`), or that root packed as `docker load`, `podman load` and `ctr images import` take it (`--output`).

    contents.toml ─> root ─┬─ Containerfile: COPY --from=build
                           └─ one layer, with the settings of the Containerfile's last stage ─> archive

The standard library is enough to run it, with pip at hand and what requirements/build.txt pins.
"""

from __future__ import annotations

import argparse
import configparser
import fnmatch
import hashlib
import io
import json
import os
import platform
import py_compile
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
CONTENTS = HERE / "contents.toml"
CONTAINERFILE = HERE / "Containerfile"

PREFIX = Path("usr/local")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARIES = PREFIX / "lib" / PYTHON
PACKAGES = LIBRARIES / "site-packages"
# Where a loader looks without being told.
OWN_SHARED = Path("usr/lib")

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
ELF = b"\x7fELF"


# ---------------------------------------------------------------- the root
def collect(root: Path) -> None:
    """Fill the empty folder *root* with what contents.toml lists."""
    contents = tomllib.loads(CONTENTS.read_text(encoding="utf-8"))
    _copy_tree(Path(sysconfig.get_path("stdlib")), root / LIBRARIES, contents["python"]["leave_out"])
    _copy(Path(sys.base_prefix) / "bin" / PYTHON, root / PREFIX / "bin" / PYTHON)
    _install(root / PACKAGES, contents["packages"])
    _write_programs(root, contents["programs"])
    for file in contents["files"]:
        path = root / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["text"], encoding="utf-8")
        path.chmod(0o644)
    _copy_shared(root, contents["python"]["libraries"])
    _compile(root, contents["packages"]["with_source"])


def _copy_tree(source: Path, target: Path, leave_out: Sequence[str]) -> None:
    for path in sorted(_below(source, source, leave_out)):
        _copy(path, target / path.relative_to(source))


def _below(folder: Path, top: Path, leave_out: Sequence[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        if _is_left_out(path.relative_to(top), leave_out):
            continue
        if path.is_dir():
            yield from _below(path, top, leave_out)
        else:
            yield path


def _is_left_out(path: Path, leave_out: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path.as_posix(), pattern) for pattern in leave_out)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, without what only a debugger reads where the machine has the means to take it out."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    is_program = bool(source.stat().st_mode & stat.S_IXUSR)
    with target.open("rb") as file:
        is_elf = file.read(4) == ELF
    target.chmod(0o755 if is_program or is_elf else 0o644)
    if is_elf and (strip := shutil.which("strip")):
        subprocess.run([strip, "--strip-unneeded", str(target)], check=True)


def _install(target: Path, packages: dict[str, Any]) -> None:
    """Put the pinned packages and this project into *target*; a package whose hash is another is refused."""
    pinned = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(PROJECT / packages["requirements"]))
    project = ("--no-build-isolation", str(PROJECT))
    for what in (pinned, project):
        with tempfile.TemporaryDirectory() as made:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            quiet = ("--no-compile", "--root-user-action", "ignore", "--target", made)
            subprocess.run([*command, *quiet, *what], check=True)
            _copy_tree(Path(made), target, packages["leave_out"])


def _write_programs(root: Path, programs: dict[str, Any]) -> None:
    """Console scripts, started by the kernel with the image's Python: there is no shell to do so."""
    (entries,) = (root / PACKAGES).glob("persistip-*.dist-info/entry_points.txt")
    declared = configparser.ConfigParser(delimiters=("=",))
    declared.optionxform = str  # type: ignore[assignment, method-assign]
    declared.read(entries, encoding="utf-8")
    for name in programs["names"]:
        module, _, function = declared["console_scripts"][name].partition(":")
        path = root / programs["folder"] / name
        # Isolated: no variable of the environment and no folder of a user's changes what is imported.
        lines = (f"#!/{PREFIX / 'bin' / PYTHON} -I", f"from {module} import {function}", "", f"{function}()", "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines), encoding="utf-8")
        path.chmod(0o755)


def _copy_shared(root: Path, by_name: Iterable[str]) -> None:
    """
    Everything that the programs and extensions in *root* are linked with.

    A library of the Python's own prefix goes where a loader looks anyway, every other to the path that it has here.
    """
    own = Path(sys.base_prefix).resolve()
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & stat.S_IXUSR:
            found |= _linked_with(path)
    folders = {path.parent for path in found.values()}
    for name in by_name:
        found[name] = next(folder / name for folder in sorted(folders) if (folder / name).exists())
    for name, path in sorted(found.items()):
        if path.resolve().is_relative_to(root.resolve()):
            continue
        target = OWN_SHARED / name if path.resolve().is_relative_to(own) else path.relative_to("/")
        _copy(path, root / target)


def _linked_with(path: Path) -> dict[str, Path]:
    with path.open("rb") as file:
        if file.read(4) != ELF:
            return {}
    environment = {**os.environ, "LD_LIBRARY_PATH": str(Path(sys.base_prefix) / "lib")}
    done = subprocess.run(["ldd", str(path)], env=environment, capture_output=True, text=True, check=False)  # noqa: S607
    if "not found" in done.stdout:
        raise SystemExit(f"{path} is linked with what is not on this machine:\n{done.stdout}")
    lines = (re.search(r"(/\S+) \(0x", line) for line in done.stdout.splitlines())
    return {Path(line[1]).name: Path(line[1]) for line in lines if line}


def _compile(root: Path, with_source: Sequence[str]) -> None:
    """
    Compile once, for good: a container's root is read-only, and every start would compile again.

    Unchecked: nothing in the image changes, so nobody need look whether it did, and an archive's times do not matter.
    The source goes, but for *with_source*: what is read from there is shown to people.
    """
    kept = [root / PACKAGES / folder for folder in with_source]
    for path in sorted((root / LIBRARIES).rglob("*.py")):
        keeps = any(path.is_relative_to(folder) for folder in kept)
        py_compile.compile(
            str(path),
            cfile=None if keeps else str(path.with_suffix(".pyc")),
            dfile=f"/{path.relative_to(root)}",
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        if not keeps:
            path.unlink()


# ---------------------------------------------------------------- the archive
def pack(root: Path, output: Path, tag: str) -> None:
    """
    Write *root* as an archive with one layer, named *tag*.

    Everything belongs to root, and has the time of SOURCE_DATE_EPOCH (default: the beginning of time), so that the
    same files give the same image.
    """
    created = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            entry = archive.gettarinfo(path, arcname=str(path.relative_to(root)))
            if entry.isdir():
                entry.mode = 0o755
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = created
            with path.open("rb") if entry.isreg() else io.BytesIO() as file:
                archive.addfile(entry, file)
    digest = hashlib.sha256(layer.getbuffer()).hexdigest()
    about = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": _instant(created),
        "config": last_stage(CONTAINERFILE.read_text(encoding="utf-8")),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": _instant(created), "created_by": "image/build.py"}],
    }
    config = json.dumps(about, sort_keys=True).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": [f"{digest}/layer.tar"]}]
    parts = {f"{digest}/layer.tar": layer.getvalue(), name: config, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for part, data in parts.items():
            entry = tarfile.TarInfo(part)
            entry.size, entry.mtime = len(data), created
            archive.addfile(entry, io.BytesIO(data))


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def last_stage(containerfile: str) -> dict[str, Any]:
    """What the last stage of a Containerfile says of a container's process, as an image's configuration has it."""
    config: dict[str, Any] = {"Env": []}
    for line in re.split(r"(?m)^FROM .*$", containerfile)[-1].splitlines():
        word, _, rest = line.strip().partition(" ")
        match word:
            case "" | "#" | "COPY":
                pass
            case "ENV":
                config["Env"].append(rest)
            case "USER":
                config["User"] = rest
            case "CMD":
                config["Cmd"] = json.loads(rest)
            case _:
                raise SystemExit(
                    f"{CONTAINERFILE.name}: no {word} in the last stage, {Path(__file__).name} cannot follow"
                )
    return config


def default_tag() -> str:
    """The name that `persistip manifests` of the same version has for it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"persistip:{project['version']}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect into a folder, or build an archive."""
    parser = argparse.ArgumentParser(description="Build the image of persistip without an engine.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path, help="an empty folder, or one to be made: the image's root goes there")
    where.add_argument("--output", type=Path, help="the archive to write")
    parser.add_argument("--tag", default=default_tag(), help="the image's name in the archive")
    chosen = parser.parse_args(arguments)
    if chosen.root:
        if chosen.root.exists() and any(chosen.root.iterdir()):
            parser.error(f"{chosen.root} is not empty")
        collect(chosen.root)
        return
    with tempfile.TemporaryDirectory() as made:
        collect(Path(made))
        pack(Path(made), chosen.output, chosen.tag)
    print(f"{chosen.output}: {chosen.tag}, {chosen.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
