"""Does the house keep its shape: who may import whom, and what does importing cost?"""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import persistip

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
HEAVY = (
    "aiohttp", "cyclopts", "google", "hypothesis", "kubernetes", "looptime", "msgspec", "prometheus_client", "pyroute2",
    "pytest", "rich", "structlog", "tenacity", "yaml",
)  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Return who imports whom inside the package."""
    return grimp.build_graph("persistip", cache_dir=None)


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after *statement*."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    return {name.partition(".")[0] for name in run(program).split()}


def run(program: str) -> str:
    """Return what *program* prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_contracts_are_kept() -> None:
    """Every import contract of pyproject.toml is kept."""
    # In a process of its own: the linter switches off every logger that is there when it starts.
    program = f"from importlinter.cli import lint_imports; print(lint_imports({str(PYPROJECT)!r}, no_cache=True))"
    assert run(program).splitlines()[-1] == "0", "run `lint-imports` to see the chains"


def test_testing_kit_is_for_lab_and_tests(graph: grimp.ImportGraph) -> None:
    """Nothing but the lab rests on the kit for people who extend the library."""
    users = {
        importer
        for module in graph.modules
        if module.startswith("persistip.testing")
        for importer in graph.find_modules_that_directly_import(module)
    }
    assert {user for user in users if not user.startswith(("persistip.testing", "persistip.lab"))} == set()


def test_package_itself_imports_from_the_homes(graph: grimp.ImportGraph) -> None:
    """No module takes a name from the public face, which would tie it to all layers at once."""
    assert graph.find_modules_that_directly_import("persistip") == set()


def test_import_is_light() -> None:
    """Importing the package loads no client library and nothing that only the command line needs."""
    assert loaded_by("import persistip") & set(HEAVY) == set()


@pytest.mark.parametrize("name", ["ObjectKey", "Outcome", "PersistIPError", "Cluster"])
def test_noun_is_light(name: str) -> None:
    """Using a noun, an error or an interface loads attrs at most."""
    assert loaded_by(f"from persistip import {name}") & set(HEAVY) == set()


@pytest.mark.parametrize("module", ["persistip.agent", "persistip.controller"])
def test_process_loads_no_client_by_itself(module: str) -> None:
    """A controller and an agent load the library of an outside system only with the backend that needs it."""
    assert loaded_by(f"import {module}") & {"aiohttp", "google", "kubernetes", "pyroute2"} == set()


@pytest.mark.parametrize("name", persistip.__all__)
def test_public_name_resolves(name: str) -> None:
    """Every name that the package offers is there."""
    assert getattr(persistip, name) is not None
    assert name in dir(persistip)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that the package does not offer is refused as by any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = persistip.no_such_name


def test_version_is_the_installed_one() -> None:
    """The version is that of the installed distribution."""
    assert persistip.__version__.count(".") == 2
