"""Are the README's two commands what a newcomer types and what CI runs?"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh[^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shell_blocks() -> dict[str, list[str]]:
    """Return the lines of each fenced shell block of the README, by its mark."""
    return {mark: body.splitlines() for mark, body in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))}


def test_two_commands_of_one_line_each() -> None:
    """The README has two shell blocks, the lab's and the tests', each one line."""
    assert {mark: len(lines) for mark, lines in shell_blocks().items()} == {"sh lab": 1, "sh tests": 1}


@pytest.mark.parametrize("name", ["lab", "tests"])
def test_ci_runs_command_verbatim(name: str) -> None:
    """What .ci/run takes out of the README is the block, word for word."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = re.search(r"^command_of\(\) \{\n.*?^\}\n", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    program = f"set -eu\n{function[0]}command_of {name}"
    taken = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert taken.splitlines() == shell_blocks()[f"sh {name}"]


def test_ci_demands_kernel_and_api_server() -> None:
    """CI cannot pass by skipping the suites on a real kernel and a real API server."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    demanded = re.search(r"^export PERSISTIP_REQUIRE=([\w,]+)", script, re.MULTILINE)
    assert demanded is not None
    assert {"apiserver", "kernel"} <= set(demanded[1].split(","))
