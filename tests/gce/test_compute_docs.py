"""Do the commands and programs of the how-to page about the emulator do what it shows?"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import compute_needed  # noqa: F401 - the page's program is written with Google's packages
import pytest

from persistip.testing.compute_engine import ComputeEngine, read_description, seed

pytestmark = pytest.mark.requires("gce")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-against-an-emulated-compute-engine.md"
BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = "8787"


def blocks(language: str, name: str = "") -> list[str]:
    """Return the page's blocks of a language; those of the doctests are run elsewhere."""
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return [body for kind, of, body in found if (kind, of) == (language, name) and ">>>" not in body]


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Return the endpoint of the page's own command, on a port that is free."""
    start, *_ = blocks("sh")
    command = shlex.split(start.replace(PORT, "0"))
    assert command.pop(0) == "persistip"
    program = [sys.executable, "-m", "persistip", *command, "--json"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["endpoint"])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130


def test_program_of_the_page_reserves_an_address(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The program that the page shows runs as it stands, on the endpoint that the page's command starts."""
    (program,) = blocks("python")
    exec(compile(program.replace(f"http://127.0.0.1:{PORT}", endpoint), str(PAGE), "exec"), {})
    assert capsys.readouterr().out == "RESERVED\n"


@pytest.mark.requires("gcloud")
def test_commands_of_the_page_work(endpoint: str, tmp_path: Path) -> None:
    """gcloud finds the emulator by the page's variables, and its commands print what the page shows."""
    _, exports, *_ = blocks("sh")
    settings = dict(word.split("=", 1) for word in shlex.split(exports) if "=" in word)
    assert settings["CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"] == f"http://127.0.0.1:{PORT}/compute/v1/"
    settings["CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"] = f"{endpoint}/compute/v1/"
    quiet = {"CLOUDSDK_CORE_DISABLE_PROMPTS": "true", "CLOUDSDK_CONFIG": str(tmp_path)}
    (console,) = blocks("console")
    for part in console.split("$ ")[1:]:
        command, _, shown = part.partition("\n")
        environment = {**os.environ, **settings, **quiet}
        words = shlex.split(command)
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, (command, ran.stderr)
        if shown:
            assert ran.stdout == shown


def test_description_of_the_page_is_understood(tmp_path: Path) -> None:
    """The project that the page describes can be made, with all that is in it."""
    (text,) = blocks("yaml", "project.yaml")
    file = tmp_path / "project.yaml"
    file.write_text(text)
    found = read_description(file)
    engine = ComputeEngine(project=found.project, region=found.region, zones=found.zones)
    seed(engine, found)
    assert sorted(link.name for link, _ in engine.state.all_of("instances")) == ["node-1", "node-2"]
    assert {body["address"] for _, body in engine.state.all_of("addresses")} == {"192.0.2.10", "10.20.8.1"}


def test_description_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A field that is unknown in a description is named, with status 2."""
    file = tmp_path / "project.yaml"
    file.write_text("zoness: [a]\n")
    program = [sys.executable, "-m", "persistip", "lab", "compute", "-f", str(file)]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, "zoness" in ran.stderr) == (2, True)
