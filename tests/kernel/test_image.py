"""Is the image what its list says, and do its programs work with nothing else, as the manifests start them?"""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
import yaml
from built_image import (
    ABSENT,
    CONTAINERFILE,
    CONTENTS,
    ROOT,
    TAG,
    USER,
    archive,
    builder,
    containers,
    mapped,
    run_in,
    unpack,
)  # fmt: skip

from persistip.manifests import Parameters, build

pytestmark = [pytest.mark.slow, pytest.mark.requires("kernel")]

PYTHON = "usr/local/bin/python3.*"

EVERY_MODULE = """
import importlib, pkgutil, persistip
for found in pkgutil.walk_packages(persistip.__path__, "persistip."):
    if found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        print(error.name)
"""


@pytest.fixture(scope="module")
def archived() -> dict[str, bytes]:
    """Return the parts of the archive."""
    with tarfile.open(archive()) as outer:
        return {name: file.read() for name in outer.getnames() if (file := outer.extractfile(name))}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the image, laid out."""
    folder = tmp_path_factory.mktemp("image") / "root"
    # Another user than ours is to read it.
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)
    unpack(folder)
    return folder


def test_archive_names_its_layer_by_what_is_in_it(archived: dict[str, bytes]) -> None:
    """The archive is one tagged image of one layer, whose configuration holds the layer's own digest."""
    (image,) = json.loads(archived["manifest.json"])
    config = json.loads(archived[image["Config"]])
    (layer,) = image["Layers"]
    assert image["RepoTags"] == [TAG]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(archived[layer]).hexdigest()}"]
    assert config["config"] == builder().last_stage(CONTAINERFILE)


def test_layer_belongs_to_root_and_gives_nobody_rights(archived: dict[str, bytes]) -> None:
    """Every file belongs to root, others cannot write it, and none changes who runs it."""
    (image,) = json.loads(archived["manifest.json"])
    with tarfile.open(fileobj=io.BytesIO(archived[image["Layers"][0]])) as layer:
        entries = layer.getmembers()
    assert len(entries) > 1000
    assert {(each.uid, each.gid, each.mtime) for each in entries} == {(0, 0, 0)}
    assert not [each.name for each in entries if each.mode & 0o7022]


def test_image_is_no_more_than_its_list(root: Path) -> None:
    """There is no shell, nothing that is to be left out, and no program but those listed and the interpreter."""
    programs = {path.name for path in (root / "usr/local/bin").iterdir()}
    (python,) = root.glob(PYTHON)
    assert programs == {*CONTENTS["programs"]["names"], python.name}
    files = [path for path in root.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name in {"sh", "bash", "dash", "busybox", "env"}]
    assert not [path for path in files if path.parent.name in {"idlelib", "ensurepip", "kubernetes"}]
    for listed in CONTENTS["files"]:
        assert (root / listed["path"]).read_text() == listed["text"]


def test_image_holds_our_package_whole(root: Path) -> None:
    """Every file of the source tree is in the image, the manifests with it."""
    source = ROOT / "src" / "persistip"
    (installed,) = root.glob("usr/local/lib/python3.*/site-packages/persistip")
    files = {file.relative_to(source) for file in source.rglob("*") if file.is_file()}
    wanted = {file for file in files if "__pycache__" not in file.parts}
    found = {file.relative_to(installed) for file in installed.rglob("*") if file.is_file()}
    assert {file for file in found if "__pycache__" not in file.parts} == wanted


def test_every_module_of_ours_can_be_imported_in_the_image(root: Path) -> None:
    """What is left out is missed by no module of ours, but for clients that a Pod does not use."""
    (python,) = root.glob(PYTHON)
    told = run_in(root, f"/{python.relative_to(root)}", "-I", "-c", EVERY_MODULE, user=mapped(USER))
    assert told["exit"] == 0, told["log"]
    assert set(told["log"].split()) <= ABSENT


@pytest.mark.parametrize(
    ("name", "user", "own"),
    [
        ("controller", USER, ()),
        ("agent", 0, ("--node-name=node-a", "--sysctl-directory=/node/sys")),
    ],
)
def test_program_serves_with_no_more_than_the_manifests_give_it(
    root: Path, name: str, user: int, own: tuple[str, ...]
) -> None:
    """
    On a read-only root, without a shell, as its user and with its capabilities alone, it answers probes, counts, and
    goes when it is told to; of the API server it says that nobody answers there.
    """
    container = containers()[name]
    capabilities = container["securityContext"]["capabilities"].get("add", [])
    (program,) = container["command"]
    command = (f"/usr/local/bin/{program}", "--listen=:8080", "--log-format=json", *own)
    told = run_in(root, *command, user=mapped(user), capabilities=capabilities, serves=True)
    assert told["health"] == [200, "ok\n"], told["log"]
    assert told["metrics"][0] == 200
    assert "persistip_build_info" in told["metrics"][1]
    assert told["exit"] == 0, told["log"]
    status = dict(re.findall(r"(?m)^(\w+):\s*(.*)$", told["status"]))
    assert status["Uid"].split() == [str(mapped(user))] * 4
    assert int(status["CapEff"], 16) == (0x3000 if name == "agent" else 0)
    said = [json.loads(line) for line in told["log"].splitlines()]
    assert [line for line in said if "no connection to " in line.get("error", "")]
    assert "Read-only file system" not in told["log"]


def test_manifests_come_out_of_the_image(root: Path) -> None:
    """`persistip manifests` of the image prints those of this tree."""
    told = run_in(root, "/usr/local/bin/persistip", "manifests", user=mapped(USER))
    assert list(yaml.safe_load_all(told["log"])) == build(Parameters())
