"""
`persistip`, or `python -m persistip`: the command line, which answers Ctrl-C from its first moment.

Nothing is made before the command begins, so an interrupt until then needs no more than a sentence and the status that
a shell expects. Loading what the command needs takes so long that a person may well have thought better of it.
"""

import _signal  # type: ignore[import-not-found]  # the `signal` of the standard library itself takes milliseconds to load
import os
import sys

_EXIT_INTERRUPTED = 130


def _leave(*_: object) -> None:
    lab = sys.argv[1:2] == ["lab"]
    os.write(2, b"persistip lab: interrupted; everything it made is gone\n" if lab else b"persistip: interrupted\n")
    os._exit(_EXIT_INTERRUPTED)


def main() -> None:
    """Console script `persistip`."""
    from persistip.cli import main as begin  # noqa: PLC0415 - not before Ctrl-C is answered

    begin()


# Whoever started us may have us ignore it (`nohup`, a shell's `&`).
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _leave)

if __name__ == "__main__":
    main()
