"""
Where does a harness keep its files, and what became of those of an owner that was killed?

In: the first part of a name.  Out: a temporary folder that is taken away with its owner, or, when that was killed, by
the next one who asks for a folder of that name. The sign of life is a lock, which the kernel drops with the process.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_SIGN = ".owner"


class OwnedFolder:
    """
    A temporary folder with a living owner.

    *forget* is called with the name of each folder whose owner was killed, before it is taken away: for what else
    bears that name.
    """

    def __init__(self, prefix: str, *, forget: Callable[[str], None] | None = None, root: Path | None = None) -> None:
        above = root or Path(tempfile.gettempdir())
        for left in above.glob(f"{prefix}*/{_SIGN}"):
            _take_away(left, forget)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=above))
        # Under its name only when it is locked: nobody is to find it without an owner.
        unborn = self.path / f"{_SIGN}.new"
        self._sign = os.open(unborn, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._sign, fcntl.LOCK_EX)
        unborn.rename(self.path / _SIGN)

    def remove(self) -> None:
        """Take it away with all in it, once."""
        if self._sign >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._sign)
            self._sign = -1


def _take_away(sign: Path, forget: Callable[[str], None] | None) -> None:
    with contextlib.ExitStack() as stack:
        try:
            opened = os.open(sign, os.O_RDWR)
            stack.callback(os.close, opened)
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Alive, of another user, or just taken away by somebody else.
            return
        if forget:
            forget(sign.parent.name)
        shutil.rmtree(sign.parent, ignore_errors=True)
