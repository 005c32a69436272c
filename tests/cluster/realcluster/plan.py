"""
Who has which address in the test cluster?

    client -------- router ---+--- one layer-2 segment ---+----------+----------+
    198.51.100.2              |                           |          |          |
                             .1                        .2 control   .11 n1     .12 n2 ...

The persistent addresses are on the segment, as far as the router knows: who answers for one there gets its packets.
"""

from dataclasses import dataclass

ROUTER, CONTROL, CLIENT = 1, 2, 2
SEGMENT4, SEGMENT6 = "10.250.0.{}", "fd00:250::{:x}"
OUTSIDE4, OUTSIDE6 = "198.51.100.{}", "2001:db8:2::{:x}"
PERSISTENT4, PERSISTENT6 = "192.0.2.0/24", "2001:db8:1::/64"
PODS4, PODS6 = "10.244.0.0/16", "fd00:244::/48"
SERVICES4, SERVICES6 = "10.96.0.0/16", "fd00:96::/112"
SERVICE_OF_API = "10.96.0.1"


@dataclass(frozen=True)
class Place:
    """A machine's place on the segment."""

    number: int

    @property
    def ip4(self) -> str:
        """Return its IPv4 address there."""
        return SEGMENT4.format(self.number)

    @property
    def ip6(self) -> str:
        """Return its IPv6 address there."""
        return SEGMENT6.format(self.number)

    @property
    def hardware(self) -> str:
        """Return the address of its card, which outlives a power cut."""
        return f"02:00:0a:fa:00:{self.number:02x}"

    @property
    def pods(self) -> tuple[str, str]:
        """Return the ranges of its Pods, if it is a node."""
        return f"10.244.{self.number}.0/24", f"fd00:244:0:{self.number:x}::/64"


def place_of_node(index: int) -> Place:
    """Return the place of the node with this index, counted from 1."""
    return Place(10 + index)
