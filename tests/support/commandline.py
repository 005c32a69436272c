"""The command line, in this process or as one of its own: what it printed, on which stream, and how it ended."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import attrs
import pytest

from persistip.cli import make_app


@attrs.frozen
class Said:
    """What a command printed, and its exit status."""

    out: str
    err: str
    status: int


def call(*arguments: str, documents: Iterable[str] = ()) -> Said:
    """Run `persistip` with *arguments*, and *documents* as its standard input."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO("---\n".join(documents))
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            make_app()(arguments)
    finally:
        sys.stdin = before
    assert isinstance(ended.value.code, int)
    return Said(out.getvalue(), err.getvalue(), ended.value.code)


SCRIPT = Path(sys.executable).parent / "persistip"
"""The console script, as pip installs it."""


def run_script(*arguments: str, inside: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> Said:
    """Run the console script as a process of its own; *inside* is a command that runs what follows it."""
    done = subprocess.run(
        [*inside, str(SCRIPT), *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | (environment or {}),
    )  # fmt: skip
    return Said(done.stdout, done.stderr, done.returncode)
