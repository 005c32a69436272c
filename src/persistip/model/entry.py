"""
What can stand in a node's kernel for an address, and what does a look at the kernel show?

Four kinds of entry carry one prefix to one Pod. They are values, so that what is desired and what is observed are
compared as sets; how a kernel realises them is the datapath's business.

    packet in  ── ProxyEntry (the node answers ARP/ND) ── RouteEntry ──> link, hardware address ──> Pod
    packet out <── ExemptEntry (no masquerade) <── GuardEntry (only this Pod may use the source) <── Pod
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import attrs

from persistip.model.address import IPAddress, Prefix


@attrs.frozen(order=True)
class LinkRef:
    """A link of the node; the index tells a link from its re-created namesake."""

    name: str
    index: int


@attrs.frozen(kw_only=True)
class RouteEntry:
    """Packets for ``prefix`` leave by ``link`` to ``hardware_address``, whoever answers for ``pod_ip`` by then."""

    prefix: Prefix
    link: LinkRef
    hardware_address: str
    pod_ip: IPAddress


@attrs.frozen(kw_only=True)
class GuardEntry:
    """Among the node's Pods only the one behind ``link`` and ``hardware_address`` may send from ``prefix``."""

    prefix: Prefix
    link: LinkRef
    hardware_address: str


@attrs.frozen
class ExemptEntry:
    """Traffic from and to ``prefix`` is never masqueraded by rules of others."""

    prefix: Prefix


@attrs.frozen(kw_only=True)
class ProxyEntry:
    """The kernel answers ARP and neighbour solicitations for the single address ``prefix`` on ``link``."""

    prefix: Prefix
    link: LinkRef


Entry = RouteEntry | GuardEntry | ExemptEntry | ProxyEntry


@attrs.frozen(kw_only=True)
class PodLink:
    """
    Where the node's kernel would send a packet for a Pod's IP.

    ``hardware_address`` None: nobody answered yet. Empty: the link has none (tun and the like); it alone tells the Pod.
    """

    ip: IPAddress
    link: LinkRef
    hardware_address: str | None


@attrs.frozen(kw_only=True)
class Pin:
    """
    The link and hardware address on which a Pod was found when an attachment's epoch was first programmed.

    Kept outside the process, so that a restarted agent cannot take the next owner of the Pod's IP for the Pod.
    """

    attachment_uid: str
    pod_uid: str
    epoch: int
    link: LinkRef
    hardware_address: str


@attrs.frozen(kw_only=True)
class Obstacle:
    """Something foreign that keeps ``prefix`` from being delivered; reported, never removed."""

    prefix: Prefix
    message: str


class Manner(StrEnum):
    """In which frames, and how often, an address is announced."""

    LAYER_2 = "layer2"
    """To neighbours, which learn that the node answers for it."""
    FAST_IP_MOVE = "fast-ip-move"
    """To a cloud, which from then on delivers it, and what belongs to it, to the node."""


@attrs.frozen(kw_only=True)
class Announcement:
    """Tell those on ``link`` that this node answers for ``prefix`` (single addresses only)."""

    prefix: Prefix
    link: LinkRef
    epoch: int
    manner: Manner = Manner.LAYER_2


@attrs.frozen(kw_only=True)
class NodeScope:
    """What a look at the kernel must find out beyond what is ours: on which links these Pod IPs live."""

    pod_ips: frozenset[IPAddress] = frozenset()


@attrs.frozen(kw_only=True)
class NodeState:
    """
    One complete look at a node's kernel.

    ``entries`` are ours and whole: an entry that is damaged, shadowed or half there is left out, so that the next
    plan puts it again. ``pod_links`` answers the scope; an IP that no route of the node leads to is absent.
    """

    entries: frozenset[Entry] = frozenset()
    stale: frozenset[Entry] = frozenset()
    """Ours but not whole (shadowed, half there): must be removed when not desired, put again when desired."""
    uplinks: tuple[LinkRef, ...] = ()
    pod_links: Mapping[IPAddress, PodLink] = attrs.field(factory=dict)
    pins: frozenset[Pin] = frozenset()
    obstacles: tuple[Obstacle, ...] = ()
    own_ips: frozenset[IPAddress] = frozenset()
    """The addresses of the node's own links: no attachment may take them away from the node."""
    gateways: frozenset[IPAddress] = frozenset()
    """The next hops of the node's default routes, without which it reaches nobody outside."""
