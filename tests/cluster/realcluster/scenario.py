"""What is a scenario?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realcluster.stage import Stage

Play = Callable[["Stage"], None]


@dataclass(frozen=True)
class Scenario:
    """Something that happens."""

    name: str
    route: str
    play: Play
    prepare: Play
    """What is seen to before the client watches."""
    clean: Play
    """What is taken back when all is judged, or has failed."""
    is_lossless: bool
    """Whether the promise is that no payload is lost."""
    is_ours: bool
    """Whether it is nothing that a Service would notice."""
    is_long: bool
    """Whether the tests leave it to --long; the table has it always."""


SCENARIOS: list[Scenario] = []


def _nothing(stage: "Stage") -> None:
    pass


def scenario(
    name: str,
    route: str,
    *,
    lossless: bool = False,
    ours: bool = False,
    long: bool = False,
    prepare: Play = _nothing,
    clean: Play = _nothing,
) -> Callable[[Play], Play]:
    """Add a function to the list."""

    def add(play: Play) -> Play:
        SCENARIOS.append(Scenario(name, route, play, prepare, clean, lossless, ours, long))
        return play

    return add
