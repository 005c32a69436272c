"""
What can a person ask for? `persistip VERB`, one file a verb.

A verb's file is imported only when the verb is used: `persistip run agent` must start fast and load neither a terminal
library nor a client it does not use.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

from persistip.errors import ConfigError

if TYPE_CHECKING:
    from cyclopts import App

EXIT_SETTINGS = 2
EXIT_PIPE, EXIT_INTERRUPTED = 141, 130
"""As a shell shows a process that SIGPIPE, or SIGINT, has ended."""
INSIDE = "PERSISTIP_LAB_SANDBOX"
"""What the environment of a lab's own process has: the process around it speaks for both."""

VERBS = {
    "run": "persistip.cli.run:app",
    "lab": "persistip.cli.lab:app",
    "plan": "persistip.cli.plan:app",
    "explain": "persistip.cli.explain:app",
    "doctor": "persistip.cli.doctor:app",
    "move": "persistip.cli.move:app",
    "manifests": "persistip.cli.manifests:app",
    "uninstall": "persistip.cli.uninstall:app",
}


def make_app() -> App:
    """The command line, its verbs not yet loaded."""
    from cyclopts import App  # noqa: PLC0415 - takes so long that Ctrl-C may come meanwhile

    app = App(name="persistip", help="Persistent IP addresses for Kubernetes Pods.", suppress_keyboard_interrupt=False)
    for name, target in VERBS.items():
        app.command(target, name=name)
    return app


def main() -> None:
    """The command line of this process; `persistip.__main__` is what starts it."""
    try:
        if INSIDE in os.environ:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        app = make_app()
        if len(sys.argv) > 1 and (target := VERBS.get(sys.argv[1])):
            import_module(target.partition(":")[0])
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            # Until here the process may have left at once (`persistip.__main__`); from now on something may be undone.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app(sys.argv[1:])
    except ConfigError as error:  # of a setting, which is checked before any verb has begun
        print(f"persistip: {error}", file=sys.stderr)
        sys.exit(EXIT_SETTINGS)
    except BrokenPipeError:
        # Whoever read our output has read enough (`persistip plan … | head`); the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # What was about to begin never will, and Python would warn of each such coroutine on the way out.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        if INSIDE not in os.environ:
            lab = sys.argv[1:2] == ["lab"]
            print(
                "persistip lab: interrupted; everything it made is gone" if lab else "persistip: interrupted",
                file=sys.stderr,
            )
        sys.exit(EXIT_INTERRUPTED)
