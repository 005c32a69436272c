"""The command line in this process: what it printed, on which stream, and how it ended."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout

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
