"""
Layer 2: neighbours are told by gratuitous ARP and unsolicited neighbour advertisements where an address lives.

By hand, since no small library builds these frames and the kernel announces only addresses that a link carries. Needs
CAP_NET_RAW.
"""

from persistip.backends.announce.announcer import PacketAnnouncer
from persistip.backends.announce.silent import SilentAnnouncer

__all__ = ["PacketAnnouncer", "SilentAnnouncer"]
