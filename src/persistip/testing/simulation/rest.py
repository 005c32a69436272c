"""
Is everything as it should be, once faults have stopped and all is quiet?

In: API, kernels and a packet's way, after a while without faults.  Out: accusations. Twice: against a fresh Catalog and
plan, which must find nothing to do, and against the rules as ``rules.py`` says them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random

import attrs

from persistip.backends.memory import Delivered, MemoryCloud
from persistip.decide.catalog import Catalog
from persistip.decide.modes import BUILT_IN
from persistip.model.address import Prefix, is_overlapping, is_single, overlap, show
from persistip.model.attachment import AddressAttachment, How, Release
from persistip.model.cloud import CloudScope
from persistip.model.conditions import Status, find_condition
from persistip.model.keys import CLASS_LABEL, attachment_key
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.views import Policy, RouteView
from persistip.runtime.cycle import decide
from persistip.strategies import Batch, ReactionMode
from persistip.testing.simulation.network import Ledger
from persistip.testing.simulation.promises import brief, name_of
from persistip.testing.simulation.rules import (
    candidates,
    class_of,
    is_accepted,
    is_frozen,
    is_gone,
    is_service_first,
    parents_of,
    prefixes_of,
    winners,
)
from persistip.testing.simulation.site import CLIENT, Site
from persistip.testing.simulation.trace import Trace


class RestJudge:
    """Judges a cluster at rest."""

    def __init__(
        self,
        ledger: Ledger,
        site: Site,
        trace: Trace,
        *,
        modes: Callable[[], Mapping[str, ReactionMode]],
        random: Random,
        now: float,
        cloud: MemoryCloud | None = None,
    ) -> None:
        self._cloud = cloud
        self._objects = dict(ledger.objects)
        self._unreadable = dict(ledger.unreadable)
        self._site = site
        self._modes = modes
        self._random = random
        self._trace = trace
        self._now = now
        found = [each for each in self._objects.values() if isinstance(each, GKEIPRoute)]
        self._routes = [each for each in found if parents_of(self._objects, each)]
        self._attachments = [each for each in self._objects.values() if isinstance(each, AddressAttachment)]

    def judge(self) -> None:
        """All of it."""
        self.fresh_process_finds_nothing_to_do()
        self.order_of_events_is_without_effect()
        for attachment in self._attachments:
            self.attachment_has_its_route(attachment)
            self.release_comes_to_its_end(attachment)
        won = winners(self._objects)
        for route in self._routes:
            self.unopposed_route_holds(route)
            if route.key in won:
                self.contested_address_is_held(route)
            self.ready_means_delivered(route)
        self.kernels_hold_nothing_else()
        self.announced_by_holders()
        if self._cloud is not None:
            self.cloud_leads_to_holders()

    def _attachment_of(self, route: GKEIPRoute) -> AddressAttachment | None:
        found = self._objects.get(attachment_key(route.key))
        return found if isinstance(found, AddressAttachment) else None

    def _fresh(self) -> Catalog:
        """A process that has just read everything, one object at a time in some order."""
        catalog = Catalog(Policy(), {**BUILT_IN, **self._modes()})
        keys = sorted(self._objects)
        self._random.shuffle(keys)
        for key in keys:
            catalog.update(Batch(objects={key: self._objects[key]}))
        # What cannot be read is a fact too: a Gateway that may be of a class keeps that class's finalizer.
        catalog.update(Batch(unreadable=self._unreadable))
        return catalog

    # ------------------------------------------------------------ P3, P6
    def fresh_process_finds_nothing_to_do(self) -> None:
        """What a new process would decide is what stands."""
        catalog = self._fresh()
        for key in sorted(catalog.keys()):
            view = catalog.view(key, self._now)
            if self._cloud is not None and isinstance(view, RouteView):
                view = attrs.evolve(view, cloud=self._cloud.observe("", self._scope(view)))
            plan = decide(view)
            if plan.actions:
                kinds = ", ".join(type(action).__name__ for action in plan.actions)
                self._trace.accuse("P3", self.fresh_process_finds_nothing_to_do, f"{key}: still due: {kinds}")

    def _scope(self, view: RouteView) -> CloudScope:
        prefixes = view.attachment.spec.held_prefixes if view.attachment is not None else ()
        return CloudScope(prefixes=prefixes, route=view.key.path)

    def cloud_leads_to_holders(self) -> None:
        """
        The cloud sends the packets for what is held to its holder's node, and holds nothing for anybody else.

        While the holder's node cannot program, it may send them to one that goes on delivering.
        """
        assert self._cloud is not None
        # One that is drained keeps its part of the cloud until every node has let go.
        held = {each.route_key.path: each for each in self._attachments}
        if left := self._cloud.routes - held.keys():
            self._trace.accuse("P4", self.cloud_leads_to_holders, f"the cloud is left with {sorted(left)}")
        for attachment in held.values():
            holder, spec = attachment.spec.holder, attachment.spec
            if holder is None:
                continue
            right = {holder.node_name}
            if not attachment.is_confirmed:
                right |= {each.node_name for each in spec.releasing if each.how is How.AFTER_READY}
            for prefix in spec.held_prefixes:
                if (leader := self._cloud.leader(prefix)) not in right:
                    said = f"the cloud sends {show(prefix)} to {leader}, and {holder.node_name} holds it"
                    self._trace.accuse("P3", self.cloud_leads_to_holders, said)

    def order_of_events_is_without_effect(self) -> None:
        """Two processes that saw the same objects in different orders name the same holder."""
        one, other = self._fresh(), self._fresh()
        for key in sorted(one.keys()):
            views = [catalog.view(key, self._now) for catalog in (one, other)]
            # Each process has its own modes; what they say shows in the plans.
            bare = [attrs.evolve(view, modes={}) for view in views if isinstance(view, RouteView)]
            if bare and bare[0] != bare[1]:
                said = f"{key}: two processes see it otherwise"
                self._trace.accuse("P6", self.order_of_events_is_without_effect, said)

    # ------------------------------------------------------------ P3, P7: what must be there
    def unopposed_route_holds(self, route: GKEIPRoute) -> None:
        """An accepted route whose addresses nobody else lists is held by the newest Pod that may hold it."""
        if not self._is_contested(route) and is_accepted(self._objects, route):
            self._must_hold(route, self.unopposed_route_holds)

    def contested_address_is_held(self, route: GKEIPRoute) -> None:
        """Where several list what is free, the one that wins has it: a conflict leaves no address to nobody."""
        if self._is_contested(route):
            self._must_hold(route, self.contested_address_is_held)

    def _is_contested(self, route: GKEIPRoute) -> bool:
        others = [prefix for each in self._routes if each.key != route.key for prefix in prefixes_of(each.addresses)]
        return overlap(prefixes_of(route.addresses), others) is not None

    def _must_hold(self, route: GKEIPRoute, check: Callable[[GKEIPRoute], None]) -> None:
        claims = prefixes_of(route.addresses)
        if any(is_overlapping(one, two) for one in claims for two in claims if one != two):
            return
        if self._is_waiting(route) or is_service_first(self._objects, route):
            return
        attachment = self._attachment_of(route)
        found = candidates(self._objects, route, self._modes())
        held = attachment.spec.holder if attachment is not None else None
        if not found:
            pod = None if held is None else self._pod(held.pod_uid)
            if pod is not None and not pod.meta.is_terminating and not self._is_held_fast(route, pod):
                said = f"{route.key.path} is held by {pod.meta.name}, which may not"
                self._trace.accuse("P3", check, said)
            return
        newest = max(pod.meta.created_at for pod in found)
        stays = route.meta.annotations.get("persistip.dev/failback") == "never"
        wanted = {pod.meta.uid for pod in found if pod.meta.created_at == newest or stays}
        preferred = route.meta.annotations.get("persistip.dev/prefer")
        wanted = {pod.meta.uid for pod in found if pod.meta.name == preferred} or wanted
        frozen = None if held is None else self._pod(held.pod_uid)
        if frozen is not None and self._is_held_fast(route, frozen):
            wanted = {frozen.meta.uid}
        if attachment is None or held is None or held.pod_uid not in wanted:
            who = "nobody" if held is None else held.pod_name
            said = f"{route.key.path} is held by {who} and not by the newest of {[pod.meta.name for pod in found]}"
            self._trace.accuse("P3", check, said)
        elif attachment.meta.labels.get(CLASS_LABEL) != class_of(self._objects, route):
            said = f"{route.key.path} is attached by the rules of another class: {dict(attachment.meta.labels)}"
            self._trace.accuse("P3", check, said)
        elif set(attachment.spec.held_prefixes) != claims:
            self._trace.accuse("P3", check, f"{route.key.path}: {brief(attachment.spec)}")
        else:
            self.held_address_is_delivered(attachment)

    def held_address_is_delivered(self, attachment: AddressAttachment) -> None:
        """A node that runs delivers to a Pod that runs, whatever became of its link, unless something is in the way."""
        holder = attachment.spec.holder
        pod = self._pod(holder.pod_uid) if holder is not None else None
        if holder is None or pod is None or attachment.is_confirmed or not pod.ready:
            return
        sandbox = self._site.sandboxes.get(holder.pod_uid)
        obstacles = self._site.fabric.node(holder.node_name).obstacles
        is_up = self._site.machines[holder.node_name].is_on and sandbox is not None and sandbox.is_up
        if is_up and overlap(attachment.spec.held_prefixes, obstacles) is None:
            said = f"{name_of(attachment)}: {brief(attachment.spec)}, and {attachment.report_of(holder.node_name)}"
            self._trace.accuse("P3", self.held_address_is_delivered, said)

    @staticmethod
    def _is_held_fast(route: GKEIPRoute, pod: Pod) -> bool:
        return is_frozen(route) and not pod.is_finished

    def _pod(self, uid: str) -> Pod | None:
        return next((each for each in self._objects.values() if isinstance(each, Pod) and each.meta.uid == uid), None)

    def _is_waiting(self, route: GKEIPRoute) -> bool:
        """For a machine that is off and of which nobody says that it is gone, or for another route that waits so."""
        claims = prefixes_of(route.addresses)
        for each in self._attachments:
            if each.route_key != route.key and overlap(each.spec.claimed_prefixes, claims) is None:
                continue
            for release in each.spec.releasing:
                machine = self._site.machines.get(release.node_name)
                is_off = machine is not None and not machine.is_on
                if is_off and not is_gone(self._objects, release.node_name, release.node_uid):
                    return True
        return False

    def ready_means_delivered(self, route: GKEIPRoute) -> None:
        """Ready is True exactly when packets reach the Pod that the status names, and its replies get out."""
        ready = find_condition(route.status.conditions, "Ready")
        attachment = self._attachment_of(route)
        if ready is None or ready.observed_generation != route.meta.generation:
            self._trace.accuse("P3", self.ready_means_delivered, f"{route.key.path}: Ready is {ready}")
            return
        if ready.status != Status.TRUE:
            if attachment is not None and attachment.is_confirmed and is_accepted(self._objects, route):
                claims = prefixes_of(route.addresses)
                if set(attachment.spec.held_prefixes) == claims:
                    said = f"{route.key.path} is delivered and not Ready: {ready.reason}: {ready.message}"
                    self._trace.accuse("P3", self.ready_means_delivered, said)
            return
        holder = attachment.spec.holder if attachment is not None else None
        if holder is None or route.status.pods != (holder.pod_name,):
            said = f"{route.key.path} is Ready with Pods {route.status.pods} and holder {holder}"
            self._trace.accuse("P3", self.ready_means_delivered, said)
            return
        if not self._site.machines[holder.node_name].is_on:
            return
        sandbox = self._site.sandboxes.get(holder.pod_uid)
        if sandbox is None or not sandbox.is_up:
            self._trace.accuse("P3", self.ready_means_delivered, f"{route.key.path} is Ready and its Pod is gone")
            return
        for prefix in prefixes_of(route.addresses):
            if not is_single(prefix):
                continue
            ip = prefix.network_address
            arrived = self._site.fabric.send(ip, source=CLIENT[ip.version])
            left = self._site.fabric.send_from(holder.pod_uid, ip)
            is_in = isinstance(arrived, Delivered) and arrived.pod == holder.pod_uid
            is_out = isinstance(left, Delivered) and left.source == ip
            if not is_in or not is_out:
                said = f"{route.key.path} is Ready; in: {arrived}; out: {left}; holder {holder.pod_uid}"
                self._trace.accuse("P3", self.ready_means_delivered, said)

    # ------------------------------------------------------------ P4: what must not be there
    def attachment_has_its_route(self, attachment: AddressAttachment) -> None:
        """No attachment without its route, unless a dead machine keeps it."""
        route = self._objects.get(attachment.route_key)
        if route is not None and route.meta.uid == attachment.spec.route.uid:
            return
        if not attachment.spec.releasing:
            said = f"{name_of(attachment)} has no route: {brief(attachment.spec)}"
            self._trace.accuse("P4", self.attachment_has_its_route, said)

    def release_comes_to_its_end(self, attachment: AddressAttachment) -> None:
        """What is to be released at once is released, by a node that runs and may say so."""
        for release in attachment.spec.releasing:
            may_say_so = not _is_mute(attachment, release)
            if release.how is How.NOW and may_say_so and self._site.machines[release.node_name].is_on:
                said = f"{name_of(attachment)}: {brief(attachment.spec)}"
                self._trace.accuse("P3", self.release_comes_to_its_end, said)

    def kernels_hold_nothing_else(self) -> None:
        """Every entry and pin is for what the API says of that node."""
        for machine in self._site.machines.values():
            if not machine.is_on:
                continue
            kernel = self._site.fabric.node(machine.name)
            here = [(each.meta.uid, *place) for each in self._attachments for place in self._places(each, machine.name)]
            wanted = {prefix for _, _, prefixes in here for prefix in prefixes}
            left = [entry for entry in kernel.entries | kernel.stale if entry.prefix not in wanted]
            if left:
                said = f"{machine.name} is left with {', '.join(sorted(map(repr, left)))}"
                self._trace.accuse("P4", self.kernels_hold_nothing_else, said)
            needed = {(attachment, pod) for attachment, pod, _ in here}
            needed |= {
                (each.meta.uid, release.pod_uid)
                for each in self._attachments
                for release in each.spec.releasing
                if release.node_name == machine.name and _is_mute(each, release)
            }
            pins = [pin for pin in kernel.pins if (pin.attachment_uid, pin.pod_uid) not in needed]
            if pins:
                self._trace.accuse("P4", self.kernels_hold_nothing_else, f"{machine.name} is left with {pins}")

    def _places(self, attachment: AddressAttachment, node: str) -> Iterator[tuple[str, tuple[Prefix, ...]]]:
        """For which Pods (UIDs) a node holds which prefixes, or still delivers them."""
        holder = attachment.spec.holder
        if holder is not None and holder.node_name == node:
            yield holder.pod_uid, attachment.spec.held_prefixes
        for release in attachment.spec.releasing:
            if release.node_name == node and release.how is How.AFTER_READY:
                yield release.pod_uid, release.prefixes

    def announced_by_holders(self) -> None:
        """Nothing is announced but by its holder's node, at its epoch."""
        wanted = {
            (each.spec.holder.node_name, prefix, each.spec.epoch)
            for each in self._attachments
            if each.spec.holder is not None
            for prefix in each.spec.held_prefixes
        }
        for machine in self._site.machines.values():
            for each in self._site.fabric.node(machine.name).announced:
                if (machine.name, each.prefix, each.epoch) not in wanted:
                    said = f"{machine.name} announces {show(each.prefix)} at epoch {each.epoch}"
                    self._trace.accuse("P1", self.announced_by_holders, said)


def _is_mute(attachment: AddressAttachment, release: Release) -> bool:
    """Whether its node confirms no release: it still delivers for another Pod, whose successor cannot be programmed."""
    return any(
        each.how is How.AFTER_READY and each.node_name == release.node_name for each in attachment.spec.releasing
    )
