"""How many objects are there that cannot be read?"""

from persistip.model.keys import Kind, ObjectKey
from persistip.runtime.metrics import UNREAD, UNREADABLE, Counter, Gauge, Histogram
from persistip.runtime.unread import Unread
from persistip.strategies import Batch
from persistip.testing import pod

GATEWAYS = (ObjectKey(Kind.GATEWAY, "infra", "a"), ObjectKey(Kind.GATEWAY, "infra", "b"))
POD = pod("web", node="n")


class Board:
    """What stands, by metric and labels."""

    def __init__(self) -> None:
        self.shown: dict[tuple[str, ...], float] = {}

    def count(self, metric: Counter, *labels: str, by: int = 1) -> None:
        """As many more."""
        place = (metric.name, *labels)
        self.shown[place] = self.shown.get(place, 0) + by

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """This is how it stands."""
        self.shown[metric.name, *labels] = value

    def observe(self, metric: Histogram, value: float, *labels: str) -> None:
        """None of this."""
        raise AssertionError((metric, value, labels))


def test_object_is_unread_until_it_is_read_or_gone() -> None:
    """It counts once, however often it comes, and stops counting when it can be read or is there no more."""
    board = Board()
    unread = Unread(board)
    unread.take(Batch(unreadable=dict.fromkeys((*GATEWAYS, POD.key), "broken")))
    unread.take(Batch(unreadable={GATEWAYS[0]: "broken still"}))
    assert (board.shown[UNREAD.name, Kind.GATEWAY], board.shown[UNREAD.name, Kind.POD]) == (2, 1)
    assert board.shown[UNREADABLE.name, Kind.GATEWAY] == 3
    unread.take(Batch(objects={POD.key: POD, GATEWAYS[0]: None}))
    assert (board.shown[UNREAD.name, Kind.GATEWAY], board.shown[UNREAD.name, Kind.POD]) == (1, 0)


def test_complete_list_says_what_is_unread() -> None:
    """What a complete list of its kind does not have is gone; other kinds are as they were."""
    board = Board()
    unread = Unread(board)
    unread.take(Batch(unreadable=dict.fromkeys((*GATEWAYS, POD.key), "broken")))
    unread.take(Batch(unreadable={GATEWAYS[1]: "broken"}, resynced=frozenset({str(Kind.GATEWAY)})))
    assert (board.shown[UNREAD.name, Kind.GATEWAY], board.shown[UNREAD.name, Kind.POD]) == (1, 1)
