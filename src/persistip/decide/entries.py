"""
What must stand in a node's kernel for one attachment?

In: an attachment, the node's name, what was observed.  Out: a Duty: entries desired and kept, the pin, or why not.
The Pod's link is pinned for an epoch: when another link answers for the Pod's IP, the entries are withdrawn and not
adopted anew until the epoch rises, so nothing meant for one Pod reaches the next owner of its IP.
"""

from __future__ import annotations

import attrs

from persistip.model.address import Prefix, is_single, never_usable, show
from persistip.model.attachment import POD_LINK_CHANGED, AddressAttachment, Holder, How, Release, Strategy
from persistip.model.conditions import Reason
from persistip.model.entry import (
    Entry,
    ExemptEntry,
    GuardEntry,
    LinkRef,
    NodeState,
    Pin,
    PodLink,
    ProxyEntry,
    RouteEntry,
)


@attrs.frozen(kw_only=True)
class Trouble:
    """
    Why a holder's entries cannot stand.

    ``is_brief``: the kernel usually resolves it by itself at once. ``spared``: of these prefixes, what stands on the
    Pod's own link stays.
    """

    reason: str
    message: str
    is_brief: bool = False
    spared: tuple[Prefix, ...] = ()


@attrs.frozen(kw_only=True)
class Duty:
    """
    One attachment's demand on this node.

    ``desired`` must stand, and ``pin`` be recorded before it is put. ``kept`` may stay as it is and is never added.
    """

    attachment: AddressAttachment
    is_holder: bool = False
    releases: tuple[Release, ...] = ()
    desired: frozenset[Entry] = frozenset()
    kept: frozenset[Entry] = frozenset()
    pin: Pin | None = None
    trouble: Trouble | None = None


def find_duty(attachment: AddressAttachment, node_name: str, state: NodeState) -> Duty:
    """The holder's entries, and what an ``AfterReady`` release lets stay."""
    spec = attachment.spec
    releases = tuple(release for release in spec.releasing if release.node_name == node_name)
    base = Duty(attachment=attachment, releases=releases, kept=_still_delivering(attachment, releases, state))
    holder, prefixes = spec.holder, spec.held_prefixes
    if holder is None or holder.node_name != node_name or not prefixes:
        return base
    base = attrs.evolve(base, is_holder=True)
    if why := next((why for prefix in prefixes if (why := never_usable(prefix) or _is_nodes_own(prefix, state))), None):
        return attrs.evolve(base, trouble=Trouble(reason=Reason.UNSUPPORTED_ADDRESS, message=why))
    former = _pin_of(attachment, holder.pod_uid, state)
    pin = _find_pin(attachment, holder, former, state)
    if isinstance(pin, Trouble):
        return attrs.evolve(base, kept=base.kept | _standing_on(former, pin.spared, state), trouble=pin)
    # A cloud delivers to the machine by itself: nobody asks for the address, and nobody is to be answered.
    uplinks = state.uplinks if spec.strategy == Strategy.NEIGHBOURS else ()
    entries = frozenset(entry for prefix in prefixes for entry in _entries(prefix, holder, pin, uplinks))
    return attrs.evolve(base, desired=entries, pin=pin)


def _is_nodes_own(prefix: Prefix, state: NodeState) -> str | None:
    """Why the node would cut itself off by delivering *prefix* to a Pod, or None."""
    for ips, what in ((state.own_ips, "an address of this node's own"), (state.gateways, "a gateway of this node")):
        found = next((ip for ip in sorted(ips, key=str) if ip.version == prefix.version and ip in prefix), None)
        if found is not None:
            return f"{show(prefix)} is {what}" if is_single(prefix) else f"{show(prefix)} contains {found}, {what}"
    return None


def _entries(prefix: Prefix, holder: Holder, pin: Pin, uplinks: tuple[LinkRef, ...]) -> tuple[Entry, ...]:
    link, hardware_address = pin.link, pin.hardware_address
    pod_ip = next(ip for ip in holder.pod_ips if ip.version == prefix.version)
    proxies = (ProxyEntry(prefix=prefix, link=uplink) for uplink in uplinks) if is_single(prefix) else ()
    return (
        RouteEntry(prefix=prefix, link=link, hardware_address=hardware_address, pod_ip=pod_ip),
        GuardEntry(prefix=prefix, link=link, hardware_address=hardware_address),
        ExemptEntry(prefix),
        *proxies,
    )


def _pin_of(attachment: AddressAttachment, pod_uid: str, state: NodeState) -> Pin | None:
    """What was recorded of a Pod when the attachment was last programmed for it."""
    mine = (attachment.meta.uid, pod_uid)
    return next((pin for pin in state.pins if (pin.attachment_uid, pin.pod_uid) == mine), None)


def _find_pin(attachment: AddressAttachment, holder: Holder, former: Pin | None, state: NodeState) -> Pin | Trouble:
    """
    The one link and hardware address behind which the Pod is.

    Within an epoch that is where it was pinned: while it is silent it is still there, if the link is; and where
    another answers for its IP, it is nowhere. A new epoch takes the link that answers.
    """
    epoch = attachment.spec.epoch
    pinned = former if former is not None and former.epoch >= epoch else None
    families = {prefix.version for prefix in attachment.spec.held_prefixes}
    ips = [ip for ip in holder.pod_ips if ip.version in families]
    answers = [
        link for ip in ips if (link := state.pod_links.get(ip)) is not None and link.hardware_address is not None
    ]
    if pinned is not None and (other := next((link for link in answers if not _is_at(pinned, link)), None)):
        said = (
            f"{other.link.name} ({other.hardware_address}) answers for the IP of Pod {holder.pod_name}, "
            f"which was found on {pinned.link.name} ({pinned.hardware_address})"
        )
        return Trouble(reason=POD_LINK_CHANGED, message=said)
    # Where nobody else answers, what stands on the Pod's own link still leads to it, or nowhere.
    is_elsewhere = former is not None and any(not _is_at(former, link) for link in answers)
    spared = () if is_elsewhere else attachment.spec.held_prefixes
    if len(ips) < len(families):
        present = {ip.version for ip in ips}
        lacking = " and ".join(f"IPv{family}" for family in sorted(families - present))
        said = (
            f"the attachment names no {lacking} address of Pod {holder.pod_name}, to which the {lacking} addresses "
            f"could go; give the Pod one, or leave those addresses out of the route"
        )
        spared = tuple(prefix for prefix in spared if prefix.version in present)
        return Trouble(reason=Reason.AWAITING_POD_IP, message=said, spared=spared)
    if len({(link.link, link.hardware_address) for link in answers}) > 1:
        said = f"the IPs of Pod {holder.pod_name} are on different links"
        return Trouble(reason=Reason.POD_LINK_NOT_FOUND, message=said)
    for ip in ips:
        link = state.pod_links.get(ip)
        if link is None:
            said = f"no route of the node leads to a Pod's link for {ip} of Pod {holder.pod_name}"
            return Trouble(reason=Reason.POD_LINK_NOT_FOUND, message=said, is_brief=True, spared=spared)
        if link.hardware_address is None and (pinned is None or pinned.link != link.link):
            said = f"Pod {holder.pod_name} does not answer for {ip} on {link.link.name}"
            return Trouble(reason=Reason.POD_LINK_NOT_FOUND, message=said, is_brief=True, spared=spared)
    return pinned or Pin(
        attachment_uid=attachment.meta.uid,
        pod_uid=holder.pod_uid,
        epoch=epoch,
        link=answers[0].link,
        hardware_address=answers[0].hardware_address or "",
    )


def _is_at(pin: Pin, found: PodLink) -> bool:
    return pin.link == found.link and pin.hardware_address == found.hardware_address


def _still_delivering(
    attachment: AddressAttachment, releases: tuple[Release, ...], state: NodeState
) -> frozenset[Entry]:
    """``AfterReady`` keeps what is there for its Pod; answering ends once the holder's node has confirmed."""
    return frozenset(
        entry
        for release in releases
        if release.how is How.AFTER_READY
        for entry in _standing_on(_pin_of(attachment, release.pod_uid, state), release.prefixes, state)
        if not (isinstance(entry, ProxyEntry) and attachment.is_confirmed)
    )


def _standing_on(pin: Pin | None, prefixes: tuple[Prefix, ...], state: NodeState) -> frozenset[Entry]:
    """The entries of *prefixes* that lead to the pinned Pod or go with those that do; none of another Pod's."""
    if pin is None:
        return frozenset()
    return frozenset(
        entry
        for entry in state.entries | state.stale
        if entry.prefix in prefixes
        and (
            not isinstance(entry, RouteEntry | GuardEntry)
            or (entry.link, entry.hardware_address) == (pin.link, pin.hardware_address)
        )
    )
