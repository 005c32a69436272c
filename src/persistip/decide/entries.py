"""
What must stand in a node's kernel for one attachment?

In: an attachment, the node's name, what was observed.  Out: a Duty: entries desired and kept, the pin, or why not.
The Pod's link is pinned for an epoch: when another link answers for the Pod's IP, the entries are withdrawn and not
adopted anew until the epoch rises, so nothing meant for one Pod reaches the next owner of its IP.
"""

from __future__ import annotations

import attrs

from persistip.model.address import IPAddress, Prefix, is_single, never_usable
from persistip.model.attachment import AddressAttachment, Holder, How, Release
from persistip.model.conditions import Reason
from persistip.model.entry import Entry, ExemptEntry, GuardEntry, NodeState, Pin, PodLink, ProxyEntry, RouteEntry


@attrs.frozen(kw_only=True)
class Trouble:
    """Why a holder's entries cannot stand; ``is_brief``: the kernel usually resolves it by itself at once."""

    reason: Reason
    message: str
    is_brief: bool = False


@attrs.frozen(kw_only=True)
class Duty:
    """
    One attachment's demand on this node.

    ``desired`` must stand. ``kept`` may stay as it is and is never added. ``pin`` must be recorded before ``desired``
    is put; ``former_pins`` go when nothing needs them.
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
    kept = _kept(attachment, releases, state)
    holder = spec.holder
    if holder is None or holder.node_name != node_name or not spec.held_prefixes:
        return Duty(attachment=attachment, releases=releases, kept=kept)
    base = Duty(attachment=attachment, is_holder=True, releases=releases, kept=kept)
    pin = _present_pin(attachment, holder, state)
    found = _find_link(holder, spec.held_prefixes, state, pin if pin is not None and pin.epoch == spec.epoch else None)
    if isinstance(found, Trouble):
        if found.is_brief:
            # Nobody else answers: what stands still leads to the Pod's own link, or nowhere.
            standing = frozenset(entry for entry in state.entries | state.stale if entry.prefix in spec.held_prefixes)
            base = attrs.evolve(base, kept=kept | standing)
        return attrs.evolve(base, trouble=found)
    if pin is not None and pin.epoch == spec.epoch and not _is_at(pin, found):
        said = (
            f"{found.link.name} ({found.hardware_address}) answers for the IP of Pod {holder.pod_name}, "
            f"which was found on {pin.link.name} ({pin.hardware_address})"
        )
        return attrs.evolve(base, trouble=Trouble(reason=Reason.POD_LINK_NOT_FOUND, message=said))
    hardware_address = found.hardware_address or ""
    wanted_pin = Pin(
        attachment_uid=attachment.meta.uid,
        pod_uid=holder.pod_uid,
        epoch=spec.epoch,
        link=found.link,
        hardware_address=hardware_address,
    )
    entries: set[Entry] = set()
    for prefix in spec.held_prefixes:
        if why := never_usable(prefix):
            return attrs.evolve(base, trouble=Trouble(reason=Reason.UNSUPPORTED_ADDRESS, message=why))
        entries |= _entries(prefix, found, _ip_for(holder, prefix), state)
    return attrs.evolve(base, desired=frozenset(entries), pin=wanted_pin)


def _entries(prefix: Prefix, found: PodLink, pod_ip: IPAddress, state: NodeState) -> set[Entry]:
    hardware_address = found.hardware_address or ""
    entries: set[Entry] = {
        RouteEntry(prefix=prefix, link=found.link, hardware_address=hardware_address, pod_ip=pod_ip),
        GuardEntry(prefix=prefix, link=found.link, hardware_address=hardware_address),
        ExemptEntry(prefix),
    }
    if is_single(prefix):
        entries |= {ProxyEntry(prefix=prefix, link=uplink) for uplink in state.uplinks}
    return entries


def _ip_for(holder: Holder, prefix: Prefix) -> IPAddress:
    return next(ip for ip in holder.pod_ips if ip.version == prefix.version)


def _find_link(holder: Holder, prefixes: tuple[Prefix, ...], state: NodeState, pin: Pin | None) -> PodLink | Trouble:
    """
    The one link behind which the kernel sees the Pod's IPs.

    A Pod that is silent for a moment is still where it was pinned for this epoch, if its link is.
    """
    families = {prefix.version for prefix in prefixes}
    ips = [ip for ip in holder.pod_ips if ip.version in families]
    if len(ips) < len(families):
        said = f"Pod {holder.pod_name} has no IP of every family of its addresses"
        return Trouble(reason=Reason.AWAITING_POD_IP, message=said)
    found = [state.pod_links.get(ip) for ip in ips]
    for ip, link in zip(ips, found, strict=True):
        if link is None:
            said = f"no route of the node leads to a Pod's link for {ip} of Pod {holder.pod_name}"
            return Trouble(reason=Reason.POD_LINK_NOT_FOUND, message=said, is_brief=True)
        if link.hardware_address is None and (pin is None or pin.link != link.link):
            said = f"Pod {holder.pod_name} does not answer for {ip} on {link.link.name}"
            return Trouble(reason=Reason.POD_LINK_NOT_FOUND, message=said, is_brief=True)
    answers = [link for link in found if link is not None]
    if pin is not None:
        answers = [_or_pinned(link, pin) for link in answers]
    if len({(link.link, link.hardware_address) for link in answers}) > 1:
        said = f"the IPs of Pod {holder.pod_name} are on different links"
        return Trouble(reason=Reason.POD_LINK_NOT_FOUND, message=said)
    return answers[0]


def _or_pinned(link: PodLink, pin: Pin) -> PodLink:
    return link if link.hardware_address is not None else attrs.evolve(link, hardware_address=pin.hardware_address)


def _present_pin(attachment: AddressAttachment, holder: Holder, state: NodeState) -> Pin | None:
    return next(
        (pin for pin in state.pins if pin.attachment_uid == attachment.meta.uid and pin.pod_uid == holder.pod_uid),
        None,
    )


def _is_at(pin: Pin, found: PodLink) -> bool:
    return pin.link == found.link and pin.hardware_address == found.hardware_address


def _kept(attachment: AddressAttachment, releases: tuple[Release, ...], state: NodeState) -> frozenset[Entry]:
    """``AfterReady`` keeps what is there; answering ends once the holder's node has confirmed."""
    prefixes = {prefix for release in releases if release.how is How.AFTER_READY for prefix in release.prefixes}
    return frozenset(
        entry
        for entry in state.entries | state.stale
        if entry.prefix in prefixes and not (isinstance(entry, ProxyEntry) and attachment.is_confirmed)
    )
