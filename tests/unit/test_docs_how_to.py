"""Do the commands of the how-to pages that need nothing but files print what the pages show?"""

import configparser
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
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


def lay_out(files: Iterable[tuple[str, str]], folder: Path) -> None:
    """Write the files of a page; a project among them counts as installed, as far as its entry points go."""
    for name, body in files:
        (folder / name).write_text(body)
        if name == "pyproject.toml":
            project = tomllib.loads(body)["project"]
            info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1\n")
            points = configparser.ConfigParser()
            points.optionxform = str  # type: ignore[method-assign,assignment]
            points.read_dict(project["entry-points"])
            with (info / "entry_points.txt").open("w") as file:
                points.write(file)


def pages_with_tests() -> list[Path]:
    """Return the pages that show a test module."""
    return [
        page for page in sorted(HOW_TO.glob("*.md")) if re.search(r"^```python test_", page.read_text(), re.MULTILINE)
    ]


def test_pages_have_commands() -> None:
    """The page about planning shows five commands with what they print."""
    assert len([each for each in examples() if each.page == "plan-before-you-apply.md"]) == 5


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: f"{example.page}-{example.command[:60]}")
def test_command_prints_what_the_page_shows(example: Example, tmp_path: Path) -> None:
    """Typed in a shell beside the files of the page, the command prints what stands below it, to the letter."""
    lay_out(example.files, tmp_path)
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


@pytest.mark.parametrize("page", pages_with_tests(), ids=lambda page: page.name)
def test_tests_of_a_page_pass(page: Path, tmp_path: Path) -> None:
    """A test module that a page shows passes beside the code that the page shows."""
    files = [(name, body) for _, name, body in BLOCK.findall(page.read_text(encoding="utf-8")) if name]
    lay_out(files, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
