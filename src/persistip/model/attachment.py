"""
What does an AddressAttachment record?

The decision: which Pod on which node holds a route's addresses now. The controller writes ``spec``, each agent its
own entry of ``status.nodes``. ``epoch`` is the version of what agents must do.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import attrs

from persistip.model.address import IPAddress, Prefix
from persistip.model.gateway import Mode
from persistip.model.keys import DOMAIN, Kind, ObjectKey, ObjectMeta, node_label
from persistip.model.route import DEFAULT_NETWORK

RELEASE_FINALIZER = f"{DOMAIN}/release"
"""Finalizer of every AddressAttachment, until each node concerned has let go. None ever stands on a user's route."""


class Strategy(StrEnum):
    """How the network is told which node has the addresses; pinned when an attachment is made."""

    NEIGHBOURS = ""
    """The node says so itself, on layer 2: there is no cloud."""
    LEADER = "haPolicy"
    """The cloud is told by its API, and delivers to the node's machine: the node says nothing."""
    FAST_IP_MOVE = "haPolicy-GARP_RA"
    """The node says so itself, in the frames of the cloud's fast IP move; the cloud is told by its API afterwards."""


class How(StrEnum):
    """When a former holder's node takes the addresses out of its kernel."""

    AFTER_READY = "AfterReady"
    NOW = "Now"


class NodeStateName(StrEnum):
    """``status.nodes[].state``."""

    PROGRAMMING = "Programming"
    PROGRAMMED = "Programmed"
    FAILED = "Failed"
    IDLE = "Idle"
    UNSUPPORTED = "Unsupported"


@attrs.frozen(kw_only=True)
class Reference:
    """An object by name and UID."""

    namespace: str
    name: str
    uid: str


@attrs.frozen(kw_only=True)
class AttachedAddress:
    """A prefix held through a Gateway; while ``pending`` no agent acts on it."""

    prefix: Prefix
    gateway: Reference
    pending: bool = False


@attrs.frozen(kw_only=True)
class Holder:
    """The Pod that holds the addresses, and its node. ``pod_ips``: the first of each family of the route."""

    pod_name: str
    pod_uid: str
    pod_ips: tuple[IPAddress, ...]
    node_name: str
    node_uid: str


@attrs.frozen(kw_only=True)
class Release:
    """What a former holder's node still has to let go; only its confirmation, or its Node gone, ends the entry."""

    prefixes: tuple[Prefix, ...]
    pod_name: str
    pod_uid: str
    node_name: str
    node_uid: str
    how: How
    epoch: int
    since_at: float


@attrs.frozen(kw_only=True)
class Prepared:
    """A node made ready in advance in the cloud (fast classes), with the IP by which the others reach it."""

    node_name: str
    ip: IPAddress


@attrs.frozen(kw_only=True)
class Damped:
    """The Pod that lost the addresses last for want of readiness, and until when at least it may not take them back."""

    pod_uid: str
    until_at: float


@attrs.frozen(kw_only=True)
class AttachmentSpec:
    """
    The decision. ``holder`` None: held by nobody.

    ``strategy`` is pinned when the attachment is made; it is a ``Strategy``, or a word that only a newer version knows.
    ``unknown``: fields that only a newer version knows, each with its JSON; they survive what this one writes.
    """

    route: Reference
    mode: Mode | str = Mode.STANDARD
    strategy: str = Strategy.NEIGHBOURS
    network: str = DEFAULT_NETWORK
    addresses: tuple[AttachedAddress, ...] = ()
    holder: Holder | None = None
    pod_address: str = "app"
    flows: str = "keep"
    releasing: tuple[Release, ...] = ()
    prepared: tuple[Prepared, ...] = ()
    damped: Damped | None = None
    epoch: int = 0
    unknown: tuple[tuple[str, str], ...] = ()

    @property
    def held_prefixes(self) -> tuple[Prefix, ...]:
        """The prefixes on which agents act."""
        return tuple([address.prefix for address in self.addresses if not address.pending])

    @property
    def claimed_prefixes(self) -> tuple[Prefix, ...]:
        """Every prefix that another attachment must keep away from: held, pending and being released."""
        return tuple(address.prefix for address in self.addresses) + tuple(
            prefix for release in self.releasing for prefix in release.prefixes
        )

    def node_labels(self) -> Mapping[str, str]:
        """One label for each node concerned; an agent watches for its own."""
        names = {release.node_name for release in self.releasing} | {each.node_name for each in self.prepared}
        if self.holder is not None:
            names.add(self.holder.node_name)
        return {node_label(name): "" for name in sorted(names)}


POD_LINK_CHANGED = "PodLinkChanged"
"""A node's reason when another link answers for the holder Pod's IP than the one it was pinned to."""


@attrs.frozen(kw_only=True)
class NodeReport:
    """
    One agent's entry of ``status.nodes``.

    ``released``: up to which entry epoch everything to be withdrawn ``Now`` on this node is out of its kernel.
    """

    node_name: str
    epoch: int = 0
    state: str = NodeStateName.IDLE
    released: int = 0
    reason: str = ""
    message: str = ""
    at: float = 0.0


@attrs.frozen(kw_only=True)
class AddressAttachment:
    """The object: decision and reports."""

    meta: ObjectMeta
    spec: AttachmentSpec
    nodes: tuple[NodeReport, ...] = ()

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.ATTACHMENT, "", self.meta.name)

    @property
    def route_key(self) -> ObjectKey:
        """The route it decides for."""
        return ObjectKey(Kind.ROUTE, self.spec.route.namespace, self.spec.route.name)

    def report_of(self, node_name: str) -> NodeReport | None:
        """What that node's agent said last."""
        for report in self.nodes:
            if report.node_name == node_name:
                return report
        return None

    @property
    def is_confirmed(self) -> bool:
        """The holder's node has programmed and read back this very epoch."""
        if self.spec.holder is None:
            return False
        report = self.report_of(self.spec.holder.node_name)
        return report is not None and report.epoch == self.spec.epoch and report.state == NodeStateName.PROGRAMMED
