"""Do the commands of the how-to pages that need nothing but files print what the pages show?"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)

OFFLINE = ("persistip plan ", "persistip explain ")


@attrs.frozen
class Example:
    """One command of a page, with the files that stand above it and what the page shows."""

    page: str
    files: tuple[tuple[str, str], ...]
    command: str
    shown: str


def examples() -> Iterator[Example]:
    """Yield every such command of every page: ``console`` blocks, after the named blocks that are files."""
    for page in sorted(HOW_TO.glob("*.md")):
        files: dict[str, str] = {}
        for language, name, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            if name:
                files[name] = body
            elif language == "console":
                _, *parts = COMMAND.split(body)
                for command, shown in zip(parts[::2], parts[1::2], strict=True):
                    if command.startswith(OFFLINE):
                        yield Example(page.name, tuple(files.items()), command, shown)


def test_pages_have_commands() -> None:
    """The page about planning shows five commands with what they print."""
    assert len([each for each in examples() if each.page == "plan-before-you-apply.md"]) == 5


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: f"{example.page}-{example.command[:60]}")
def test_command_prints_what_the_page_shows(example: Example, tmp_path: Path) -> None:
    """Typed in a shell beside the files of the page, the command prints what stands below it, to the letter."""
    for name, body in example.files:
        (tmp_path / name).write_text(body)
    # As on any machine where the package is installed: the command is on the path.
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "persistip"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m persistip.cli "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", example.command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (example.shown, "", 0)
