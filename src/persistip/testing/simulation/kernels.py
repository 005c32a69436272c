"""
Do the kernels keep the promises, at every moment?

In: the machines that are on, with what stands in their kernels and what is announced, and the API as it stands.
Out: accusations. Since a release ends by confirmation only, an entry in a kernel is at every moment the business of an
attachment in the API, whatever the processes know.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from persistip.backends.memory import Delivered
from persistip.model.address import IPAddress, Prefix, is_overlapping, is_within, show
from persistip.model.attachment import AddressAttachment
from persistip.model.entry import GuardEntry, LinkRef, RouteEntry
from persistip.model.keys import Kind
from persistip.testing.simulation.network import Ledger, Written
from persistip.testing.simulation.processes import Knowledge
from persistip.testing.simulation.promises import name_of
from persistip.testing.simulation.site import CLIENT, SINGLES, Machine, Site
from persistip.testing.simulation.trace import Trace, now

DEAF_SECONDS = 1.0
"""How long an agent may take from hearing that it no longer holds to silence: the actions of the pass in work."""


class KernelJudge:
    """Judges all kernels together."""

    def __init__(self, ledger: Ledger, site: Site, trace: Trace) -> None:
        self._ledger = ledger
        self._site = site
        self._trace = trace
        self.knowledge: dict[str, Knowledge] = {}
        """What each living agent has been told."""
        self._pinned: set[tuple[str, str, int]] = set()
        self._first_found: dict[tuple[str, str], set[LinkRef]] = {}
        """Where a Pod (UID) was found for an attachment (UID), the first time in any of its epochs."""
        self._led: set[tuple[Prefix, str]] = set()
        """Which Pods (UIDs) are rightly led which prefix."""

    def judge_write(self, written: Written) -> None:
        """A write stands: to whom the API gives what, attachments alone say."""
        if written.key.kind is Kind.ATTACHMENT:
            self.judge()
            self.replies_get_out()

    def judge(self) -> None:
        """Everything, now."""
        attachments = [each for each in self._ledger.objects.values() if isinstance(each, AddressAttachment)]
        self._note_pins()
        self._led.clear()
        owned = [(machine, entry, self._owners(machine, entry, attachments)) for machine, entry in self._routes()]
        for machine, entry, owners in owned:
            self.entry_leads_to_its_pod(machine, entry, owners)
        self.address_is_programmed_for_one_route(owned)
        for name in self.knowledge:
            self.former_holder_is_silent(name)

    def _routes(self) -> Iterator[tuple[Machine, RouteEntry]]:
        for machine in self._site.machines.values():
            kernel = self._site.fabric.node(machine.name)
            is_judged = machine.is_on and now() > machine.mistaken_until
            for entry in kernel.entries | kernel.stale if is_judged else ():
                if isinstance(entry, RouteEntry):
                    yield machine, entry

    def _owners(
        self, machine: Machine, entry: RouteEntry, attachments: list[AddressAttachment]
    ) -> dict[str, AddressAttachment]:
        """The attachments, by name of the route, for which the entry may stand: its Pod holds or releases there."""
        pod = self._site.link_owners.get((machine.name, entry.link.index), "")
        found = {
            name_of(each): each
            for each in attachments
            if pod in _pods_of(each, machine.name, entry.prefix) or self._is_mistaken(machine, entry, each)
        }
        if found:
            self._led.add((entry.prefix, pod))
        return found

    def _is_mistaken(self, machine: Machine, entry: RouteEntry, attachment: AddressAttachment) -> bool:
        """
        Whether a node could not know better.

        Its kernel finds a Pod by IP alone. Where the API still gives a Pod the IP that another has by now, and the
        node has to find the Pod for the first time in an epoch, it finds the other. Once found, it must not change.
        """
        for uid in _pods_of(attachment, machine.name, entry.prefix):
            found = self._first_found.get((attachment.meta.uid, uid), set())
            if entry.link in found and entry.pod_ip in self._site.told_ips.get(uid, ()):
                return True
        return False

    def _note_pins(self) -> None:
        for machine in self._site.machines.values():
            for pin in self._site.fabric.node(machine.name).pins:
                place = (pin.attachment_uid, pin.pod_uid)
                if (*place, pin.epoch) not in self._pinned:
                    self._pinned.add((*place, pin.epoch))
                    self._first_found.setdefault(place, set()).add(pin.link)

    # ------------------------------------------------------------ P2
    def entry_leads_to_its_pod(self, machine: Machine, entry: RouteEntry, owners: dict[str, AddressAttachment]) -> None:
        """A programmed address leads to a Pod that the API names as its holder there, or as releasing it."""
        if owners:
            return
        pod = self._site.link_owners.get((machine.name, entry.link.index), "nobody")
        said = f"{machine.name} leads {show(entry.prefix)} to {pod}, to whom no attachment gives it there"
        self._trace.accuse("P2", self.entry_leads_to_its_pod, said)

    def packet_reaches_a_holder(self) -> None:
        """A packet from outside arrives at no Pod but one that holds or releases the address."""
        self.judge()
        standing = {entry.prefix for _, entry in self._routes()}
        for ip in SINGLES:
            if not any(ip.version == prefix.version and ip in prefix for prefix in standing):
                continue
            arrived = self._site.fabric.send(ip, source=CLIENT[ip.version])
            if not isinstance(arrived, Delivered) or now() <= self._site.machines[arrived.node].mistaken_until:
                continue
            if not self._may_use(arrived.pod, ip):
                said = f"a packet for {ip} arrived at {arrived.pod} on {arrived.node}"
                self._trace.accuse("P2", self.packet_reaches_a_holder, said)

    def _may_use(self, pod: str, ip: IPAddress) -> bool:
        return any(pod == led and ip.version == prefix.version and ip in prefix for prefix, led in self._led)

    def _may_send(self, machine: str, pod: str, ip: IPAddress) -> bool:
        """Whether a Pod holds or releases an IP there, or its node took it for one that does, not knowing better."""
        for each in self._ledger.objects.values():
            if not isinstance(each, AddressAttachment):
                continue
            for prefix in filter(lambda prefix: is_within(ip_network(ip), prefix), each.spec.claimed_prefixes):
                uids = _pods_of(each, machine, prefix)
                links = (link for uid in uids for link in self._first_found.get((each.meta.uid, uid), ()))
                if pod in uids or any(self._site.link_owners.get((machine, link.index)) == pod for link in links):
                    return True
        return False

    def nobody_else_sends_from_it(self) -> None:
        """Where an address is delivered, no Pod but one that holds or releases it there sends from it."""
        guarded = {
            (machine.name, entry.prefix) for machine in self._site.machines.values() for entry in self._guards(machine)
        }
        routed = {(machine.name, entry.prefix) for machine, entry in self._routes()}
        for sandbox in self._site.sandboxes.values():
            for ip in SINGLES if sandbox.is_up and now() > self._site.machines[sandbox.machine].mistaken_until else ():
                here = {
                    prefix for name, prefix in routed if name == sandbox.machine and is_within(ip_network(ip), prefix)
                }
                if (
                    not here
                    or self._may_send(sandbox.machine, sandbox.uid, ip)
                    or (here & self._unguarded(sandbox.machine, guarded))
                ):
                    continue
                left = self._site.fabric.send_from(sandbox.uid, ip)
                if isinstance(left, Delivered) and left.source == ip:
                    said = f"{sandbox.uid} on {sandbox.machine} sends from {ip}, which is not its own"
                    self._trace.accuse("P2", self.nobody_else_sends_from_it, said)

    def replies_get_out(self) -> None:
        """Where an address is delivered to a Pod, during a move too, the Pod's own packets leave with it as source."""
        for machine, entry in self._routes():
            kernel = self._site.fabric.node(machine.name)
            pod = self._site.link_owners.get((machine.name, entry.link.index), "")
            sandbox = self._site.sandboxes.get(pod)
            is_behind = sandbox is not None and sandbox.is_up and self._site.fabric.has_link(machine.name, entry.link)
            if entry not in kernel.entries or not is_behind:
                continue
            lost = {each.prefix for name, each in self._site.drifted if name == machine.name}
            for ip in SINGLES:
                if not is_within(ip_network(ip), entry.prefix) or any(is_within(ip_network(ip), each) for each in lost):
                    continue
                left = self._site.fabric.send_from(pod, ip)
                if not isinstance(left, Delivered) or left.source != ip:
                    said = f"{pod} on {machine.name} gets what is sent to {ip}, and its reply ends as {left}"
                    self._trace.accuse("P5", self.replies_get_out, said)

    def _guards(self, machine: Machine) -> list[GuardEntry]:
        kernel = self._site.fabric.node(machine.name)
        found = [entry for entry in kernel.entries if isinstance(entry, GuardEntry)]
        self._site.drifted -= {(machine.name, entry) for entry in kernel.entries}
        return found

    def _unguarded(self, machine: str, guarded: set[tuple[str, Prefix]]) -> set[Prefix]:
        """What lost its guard by no fault of ours, and has not got it back yet."""
        lost = {entry.prefix for name, entry in self._site.drifted if name == machine}
        return {prefix for prefix in lost if (machine, prefix) not in guarded}

    # ------------------------------------------------------------ P1
    def address_is_programmed_for_one_route(
        self, owned: list[tuple[Machine, RouteEntry, dict[str, AddressAttachment]]]
    ) -> None:
        """Entries that overlap, on any machines, stand for one route."""
        for index, (machine, entry, owners) in enumerate(owned):
            for other_machine, other, others in owned[index + 1 :]:
                if is_overlapping(entry.prefix, other.prefix) and owners and others and not owners.keys() & others:
                    said = (
                        f"{show(entry.prefix)} leads to {'/'.join(owners)} on {machine.name} and "
                        f"{show(other.prefix)} to {'/'.join(others)} on {other_machine.name}"
                    )
                    self._trace.accuse("P1", self.address_is_programmed_for_one_route, said)

    def former_holder_is_silent(self, name: str) -> None:
        """An agent that knows a newer epoch announces nothing."""
        knowledge = self.knowledge[name]
        if now() - knowledge.since <= DEAF_SECONDS:
            return
        known = {
            (prefix, each.spec.epoch)
            for each in knowledge.attachments.values()
            if each.spec.holder is not None and each.spec.holder.node_name == name
            for prefix in each.spec.held_prefixes
        }
        for announcement in self._site.fabric.node(name).announced:
            if (announcement.prefix, announcement.epoch) not in known:
                said = f"{name} announces {show(announcement.prefix)} and knows that it is no longer its holder"
                self._trace.accuse("P1", self.former_holder_is_silent, said)


def _pods_of(attachment: AddressAttachment, node: str, prefix: Prefix) -> set[str]:
    """The Pods (UIDs) that hold or release a prefix on a node."""
    spec = attachment.spec
    found = {release.pod_uid for release in spec.releasing if release.node_name == node and prefix in release.prefixes}
    if spec.holder is not None and spec.holder.node_name == node and prefix in spec.held_prefixes:
        found.add(spec.holder.pod_uid)
    return found
