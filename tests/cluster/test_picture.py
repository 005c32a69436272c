"""Does a check of a cluster tell a fault from a move that came in between?"""

from collections.abc import Sequence
from typing import TypeVar

import pytest

pytestmark = pytest.mark.requires("cluster")

_Seen = TypeVar("_Seen")


class Moving:
    """What passes while somebody looks: a picture for each look, and what is found then."""

    def __init__(self, pictures: Sequence[object | None], faults: Sequence[Sequence[str]]) -> None:
        self._pictures, self._faults = list(pictures), list(faults)
        self.now = 0.0

    def hold(self) -> None:
        """Hold it against each other for at most a second of its own."""
        from realcluster.picture import hold_in_one_picture  # noqa: PLC0415

        hold_in_one_picture(
            lambda: self._next(self._pictures),
            lambda: self._next(self._faults),
            seconds=1.0,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    @staticmethod
    def _next(what: list[_Seen]) -> _Seen:
        return what.pop(0) if len(what) > 1 else what[0]


def test_fault_while_nothing_moves_is_told_at_once() -> None:
    """What is wrong in a picture that stands still is a fault, even if it would be right a moment later."""
    moving = Moving(["one"], [["n1 has entries for nothing"], []])
    with pytest.raises(AssertionError, match="n1 has entries for nothing"):
        moving.hold()
    assert moving.now == 0.0


def test_fault_seen_during_a_move_is_looked_at_again() -> None:
    """Entries that were gone because the address moved meanwhile are no fault, if all is right after the move."""
    moving = Moving(["one", "two", None, "two"], [["n1 has entries for nothing"], []])
    moving.hold()
    assert moving.now > 0.0


def test_fault_that_outlasts_the_move_is_told() -> None:
    """A move in between excuses nothing that is wrong afterwards."""
    moving = Moving(["one", "two"], [["n1 has entries for nothing"]])
    with pytest.raises(AssertionError, match="n1 has entries for nothing"):
        moving.hold()


def test_address_that_never_rests_is_told() -> None:
    """What goes on moving is a fault itself."""
    from realcluster.picture import MovingError  # noqa: PLC0415

    moving = Moving([None], [[]])
    with pytest.raises(MovingError, match="did not hold still"):
        moving.hold()
