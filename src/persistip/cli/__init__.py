"""
What can a person ask for? `persistip VERB`, one file a verb.

A verb's file is imported only when the verb is used: `persistip run agent` must start fast and load neither a terminal
library nor a client it does not use.
"""

from __future__ import annotations

import os
import sys

from cyclopts import App

EXIT_PIPE = 141
"""As a shell shows a process that SIGPIPE has ended."""

VERBS = {
    "run": "persistip.cli.run:app",
    "lab": "persistip.cli.lab:app",
    "plan": "persistip.cli.plan:app",
    "explain": "persistip.cli.explain:app",
}


def make_app() -> App:
    """The command line, its verbs not yet loaded."""
    app = App(name="persistip", help="Persistent IP addresses for Kubernetes Pods.")
    for name, target in VERBS.items():
        app.command(target, name=name)
    return app


def main() -> None:
    """Console script `persistip`."""
    try:
        make_app()()
    except BrokenPipeError:
        # Whoever read our output has read enough (`persistip plan … | head`); the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)
