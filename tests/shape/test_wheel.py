"""Does the wheel hold everything, and does it work as a user installs it: without extras, in a fresh environment?"""

import json
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "persistip"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the build backend of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("persistip-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a fresh environment; dependencies in the versions that the tests run with."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=True)
    constraints = folder / "constraints.txt"
    versions = {found.name: found.version for found in distributions() if found.name.lower() != "persistip"}
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))
    pip(folder / "env" / "bin" / "python", "install", "--constraint", str(constraints), str(wheel))
    return folder / "env" / "bin"


def pip(python: str | Path, verb: str, *arguments: str) -> None:
    """Run pip for *python*, quiet about anything but failure."""
    command = [str(python), "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def run(program: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run an installed program, away from the checkout."""
    return subprocess.run(
        [str(program), *arguments],
        cwd=program.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Every file of the source tree is in the wheel, the marker for type checkers and all data files with it."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("persistip/")}
    files = {file for file in SOURCE.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert packed == {f"persistip/{file.relative_to(SOURCE)}" for file in files}
    assert "persistip/py.typed" in packed


def test_wheel_carries_the_licence(wheel: Path) -> None:
    """The wheel names its licence and holds the text."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_wheel_without_extras_brings_no_client(installed: Path) -> None:
    """Without extras no library of an outside system is installed."""
    found = run(installed / "python", "-c", "import importlib.util as u; print(u.find_spec('pyroute2'))")
    assert found.stdout.strip() == "None"


def test_wheel_without_extras_runs_the_lab_in_memory(installed: Path) -> None:
    """A wheel installed without extras runs the whole lab on the memory datapath."""
    lab = run(installed / "persistip", "lab", "--datapath", "memory", "--json")
    assert lab.returncode == 0, lab.stderr
    result = json.loads(lab.stdout)
    assert (result["ok"], result["datapath"]) == (True, "memory")


@pytest.mark.parametrize("program", ["persistip", "persistip-controller", "persistip-agent"])
def test_console_script_explains_itself(installed: Path, program: str) -> None:
    """Every console script answers --help."""
    answer = run(installed / program, "--help")
    assert answer.returncode == 0, answer.stderr
    assert "Usage" in answer.stdout
