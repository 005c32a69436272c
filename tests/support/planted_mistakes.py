"""
Mistakes that the simulation must catch, each planted by replacing a function or two of the library.

Every one breaks a rule that a careful reader might think unnecessary. ``MISTAKES`` names the checks of which one
has to be among those that saw it: caught for another reason, a mistake proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from persistip.backends.memory import MemoryAnnouncer, MemoryDatapath, MemoryStore
from persistip.decide import claims, departed, entries, handover, plan_gateway, plan_node, plan_route, services
from persistip.decide.catalog import Catalog
from persistip.decide.sight import Sight
from persistip.decide.verdict import Fault
from persistip.model.actions import DatapathAction, RemoveEntry
from persistip.model.address import is_overlapping
from persistip.model.attachment import AddressAttachment, AttachmentSpec, How
from persistip.model.conditions import Reason
from persistip.model.entry import ExemptEntry, GuardEntry
from persistip.model.node import Node
from persistip.model.route import GKEIPRoute
from persistip.model.views import RouteFacts

Plant = Callable[[pytest.MonkeyPatch], None]


@attrs.frozen
class Mistake:
    """How it is made, and which checks may see it."""

    plant: Plant
    seen_by: frozenset[str]


MISTAKES: dict[str, Mistake] = {}


def mistake(*seen_by: str) -> Callable[[Plant], Plant]:
    """Register one."""

    def register(plant: Plant) -> Plant:
        MISTAKES[plant.__name__] = Mistake(plant, frozenset(seen_by))
        return plant

    return register


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The library with that mistake."""
    with pytest.MonkeyPatch.context() as patch:
        MISTAKES[name].plant(patch)
        yield


# ---------------------------------------------------------------- who wins
@mistake("held_address_stays")
def incumbent_rule_dropped(patch: pytest.MonkeyPatch) -> None:
    """The oldest route wins, whoever holds the address."""
    patch.setattr(claims, "held_prefixes", lambda facts: ())
    patch.setattr(plan_route, "held_prefixes", lambda facts: ())


@mistake("held_address_stays")
def live_fact_withdraws(patch: pytest.MonkeyPatch) -> None:
    """A conflict that others can change refuses the route as its own faults do."""
    patch.setattr(plan_route.Verdict, "is_refused", property(lambda self: not self.is_ours or bool(self.faults)))


@mistake("attachment_is_of_one_class")
def class_change_ignored(patch: pytest.MonkeyPatch) -> None:
    """A Gateway that goes over to another class takes its attachments with it."""

    def is_outdated(attachment: AddressAttachment, route: GKEIPRoute, class_name: str) -> bool:
        return attachment.spec.route.uid != route.meta.uid

    patch.setattr(plan_route, "is_outdated", is_outdated)
    patch.setattr("persistip.decide.report.is_outdated", is_outdated)


@mistake("contested_address_is_held")
def both_claimants_lose(patch: pytest.MonkeyPatch) -> None:
    """Of free addresses that two routes list neither gets any, for ever."""
    real = plan_route.resolve_claims

    def both_lose(own: RouteFacts, verdict: Any, rivals: Any) -> Any:
        found, held = real(own, verdict, rivals), claims.held_prefixes(own)
        if found.faults or verdict.is_refused:
            return found
        lost = [
            Fault(reason=Reason.ADDRESS_CONFLICT, path=claim.path, message="is wanted twice", is_live=True, winner=key)
            for key, (_, other) in rivals.items()
            for claim in verdict.claims
            if claim.prefix not in held and not other.is_refused
            if any(is_overlapping(claim.prefix, each.prefix) for each in other.claims)
        ]
        return found.with_faults(*lost)

    patch.setattr(plan_route, "resolve_claims", both_lose)


# ---------------------------------------------------------------- claims across routes
@mistake("grant_waits_for_release", "address_is_programmed_for_one_route")
def only_releasing_consulted(patch: pytest.MonkeyPatch) -> None:
    """Another attachment's ``addresses`` do not keep a claim away, only its ``releasing``."""
    patch.setattr(
        AttachmentSpec,
        "claimed_prefixes",
        property(lambda self: tuple(prefix for release in self.releasing for prefix in release.prefixes)),
    )


@mistake("grant_waits_for_release", "address_is_programmed_for_one_route")
def address_given_before_release(patch: pytest.MonkeyPatch) -> None:
    """What another attachment is still releasing counts as free."""
    patch.setattr(
        AttachmentSpec, "claimed_prefixes", property(lambda self: tuple(each.prefix for each in self.addresses))
    )


@mistake("grant_waits_for_release", "address_is_programmed_for_one_route")
def pending_skipped(patch: pytest.MonkeyPatch) -> None:
    """An address is granted with the first write."""
    first, next_ = handover.first_spec, handover._next_addresses

    def first_granted(*args: Any) -> AttachmentSpec:
        spec = first(*args)
        return attrs.evolve(spec, addresses=tuple(attrs.evolve(each, pending=False) for each in spec.addresses))

    def next_granted(*args: Any) -> Any:
        addresses, dropped = next_(*args)
        return tuple(attrs.evolve(each, pending=False) for each in addresses), dropped

    patch.setattr(plan_route, "first_spec", first_granted)
    patch.setattr(handover, "_next_addresses", next_granted)


@mistake("grant_waits_for_release", "address_is_programmed_for_one_route")
def own_write_taken_for_seen(patch: pytest.MonkeyPatch) -> None:
    """A claim is granted on the word of its own write, before the watch has delivered what came before it."""
    view = Catalog._route_view

    def hasty(self: Catalog, *args: Any) -> Any:
        found = view(self, *args)
        return attrs.evolve(found, attachment_is_watched=found.attachment is not None)

    patch.setattr(Catalog, "_route_view", hasty)


# ---------------------------------------------------------------- preconditions
def _without_versions(patch: pytest.MonkeyPatch, method: str) -> None:
    real = getattr(MemoryStore, method)
    if method == "update":

        async def forced(self: MemoryStore, body: Any, **options: Any) -> Any:
            if body["kind"] == "AddressAttachment" and not options.get("subresource"):
                metadata = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
                body = {**body, "metadata": metadata}
            return await real(self, body, **options)
    else:

        async def forced(self: MemoryStore, *names: Any, **options: Any) -> Any:
            if names[0] == "AddressAttachment":
                options = {**options, "uid": "", "resource_version": ""}
            return await real(self, *names, **options)

    patch.setattr(MemoryStore, method, forced)


@mistake(
    "release_ends_by_confirmation",
    "grant_waits_for_release",
    "grant_is_permitted",
    "epoch_never_falls",
    "entry_leads_to_its_pod",
    "held_address_stays",
)
def put_without_precondition(patch: pytest.MonkeyPatch) -> None:
    """A replacement is written whatever stands there by then."""
    _without_versions(patch, "update")


@mistake("attachment_ends_empty", "entry_leads_to_its_pod")
def delete_without_precondition(patch: pytest.MonkeyPatch) -> None:
    """An attachment is deleted whatever it says by then."""
    _without_versions(patch, "delete")


# ---------------------------------------------------------------- releases
@mistake("release_ends_by_confirmation")
def after_ready_ends_unconfirmed(patch: pytest.MonkeyPatch) -> None:
    """When the new holder is ready, the old one's entry is simply dropped."""
    real = handover._advance_releases

    def advance(view: Any, attachment: AddressAttachment, held: Any, **options: Any) -> Any:
        found = real(view, attachment, held, **options)
        if options.get("is_confirmed"):
            found = tuple(each for each in found if each not in attachment.spec.releasing and each.how is How.NOW)
        return found

    patch.setattr(handover, "_advance_releases", advance)


@mistake("release_ends_by_confirmation", "entry_leads_to_its_pod")
def pods_compared_by_name(patch: pytest.MonkeyPatch) -> None:
    """A Pod made again under its name is taken for the same."""

    def is_same(one: Any, other: Any) -> bool:
        return one is other if one is None or other is None else one.pod_name == other.pod_name

    patch.setattr(handover, "_is_same_place", is_same)


@mistake("release_is_confirmed_truly", "entry_leads_to_its_pod")
def released_reported_while_standing(patch: pytest.MonkeyPatch) -> None:
    """A node confirms a release when it decides to take the entries out."""

    def released(duty: Any, desired: Any, view: Any) -> int:
        due = [release.epoch for release in duty.releases if release.how is How.NOW]
        return max(due, default=0) if len(due) == len(duty.releases) else 0

    patch.setattr(plan_node, "_released", released)


@mistake("release_ends_by_confirmation", "attachment_ends_empty", "address_is_programmed_for_one_route")
def node_out_of_sight_taken_for_gone(patch: pytest.MonkeyPatch) -> None:
    """A Node that a process does not see, or sees out of service, is gone."""
    real = departed.Departed.of

    def of(self: Any, attachment: AddressAttachment | None) -> frozenset[str]:
        nodes = {each.meta.uid for each in self.sight.values() if isinstance(each, Node) and not each.out_of_service}
        named = {uid for _, uid in departed._places(attachment)} if attachment is not None else set()
        return real(self, attachment) | (named - nodes)

    begin = Catalog.__init__

    def with_sight(self: Catalog, *args: Any) -> None:
        begin(self, *args)
        self._departed.sight = self.objects  # type: ignore[attr-defined]

    patch.setattr(Catalog, "__init__", with_sight)
    patch.setattr(departed.Departed, "of", of)


@mistake("attachment_ends_empty", "entry_leads_to_its_pod", "release_ends_by_confirmation")
def releases_end_by_time(patch: pytest.MonkeyPatch) -> None:
    """A node that has not confirmed after two seconds is not waited for."""
    real = handover._advance_releases

    def advance(view: Any, attachment: AddressAttachment, held: Any, **options: Any) -> Any:
        return tuple(each for each in real(view, attachment, held, **options) if view.now - each.since_at < 2.0)

    patch.setattr(handover, "_advance_releases", advance)


# ---------------------------------------------------------------- nodes
@mistake("entry_leads_to_its_pod")
def new_link_adopted_after_restart(patch: pytest.MonkeyPatch) -> None:
    """Pins are kept in the process and lost with it."""
    real = MemoryDatapath.__init__

    def begin(self: MemoryDatapath, fabric: Any, node_name: str) -> None:
        real(self, fabric, node_name)
        fabric.node(node_name).pins.clear()

    patch.setattr(MemoryDatapath, "__init__", begin)


@mistake("entry_leads_to_its_pod")
def new_link_adopted_at_once(patch: pytest.MonkeyPatch) -> None:
    """Whoever answers for the Pod's IP is the Pod."""
    patch.setattr(entries, "_pin_of", lambda attachment, pod_uid, state: None)


@mistake("kernels_hold_nothing_else", "entry_leads_to_its_pod")
def kernel_cleaned_by_attachment(patch: pytest.MonkeyPatch) -> None:
    """Only entries of prefixes that an attachment speaks of are looked at."""
    real = plan_node.plan_node

    def plan(view: Any) -> Any:
        found = real(view)
        known = {prefix for each in view.attachments for prefix in each.spec.claimed_prefixes}

        def is_known(action: DatapathAction) -> bool:
            return not isinstance(action, RemoveEntry) or action.entry.prefix in known

        return attrs.evolve(found, actions=tuple(filter(is_known, found.actions)))

    patch.setattr("persistip.runtime.cycle.plan_node", plan)


@mistake("kernels_hold_nothing_else")
def pins_never_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A pin stays when nothing rests on it any more."""
    patch.setattr(plan_node, "_forget_pins", lambda *_, **__: ())


@mistake("held_address_is_delivered")
def new_link_never_adopted(patch: pytest.MonkeyPatch) -> None:
    """A Pod that keeps UID, IP and readiness behind a new link is waited for until somebody moves the address."""
    patch.setattr(handover, "is_found_anew", lambda _: False)


@mistake("former_holder_is_silent", "announced_by_holders")
def announced_after_losing(patch: pytest.MonkeyPatch) -> None:
    """An announcer never stops what it has begun."""
    real = MemoryAnnouncer.announce

    async def announce(self: MemoryAnnouncer, wanted: Any) -> Any:
        outcomes = await real(self, wanted | self._node.announced)
        return [outcomes[0] for _ in wanted]

    patch.setattr(MemoryAnnouncer, "announce", announce)


# ---------------------------------------------------------------- the rest
@mistake("is_quiet_at_rest", "fresh_process_finds_nothing_to_do")
def status_written_each_time(patch: pytest.MonkeyPatch) -> None:
    """A status carries the time of the pass that wrote it."""
    real = plan_route.route_status

    def status(view: Any, *args: Any, **options: Any) -> Any:
        found = real(view, *args, **options)
        stamped = tuple(attrs.evolve(each, last_transition_at=float(int(view.now))) for each in found.conditions)
        return attrs.evolve(found, conditions=stamped)

    patch.setattr(plan_route, "route_status", status)


@mistake("unopposed_route_holds", "fresh_process_finds_nothing_to_do")
def change_of_pod_missed(patch: pytest.MonkeyPatch) -> None:
    """A Pod's change touches no route but those that it holds for."""
    patch.setattr("persistip.decide.podindex.PodIndex.routes_of", lambda self, pod: set())


@mistake("unopposed_route_holds")
def oldest_pod_chosen(patch: pytest.MonkeyPatch) -> None:
    """The oldest candidate wins."""
    patch.setattr(
        "persistip.decide.holder._newest",
        lambda pods, present: min(pods, key=lambda pod: (pod.meta.created_at, pod.meta.name)),
    )


@mistake("unopposed_route_holds")
def suspects_ignored(patch: pytest.MonkeyPatch) -> None:
    """A node that is recorded as dead has candidates."""
    patch.setattr("persistip.decide.catalog.select_suspects", lambda *_: frozenset())


@mistake("unopposed_route_holds")
def preference_ignored(patch: pytest.MonkeyPatch) -> None:
    """The newest Pod holds, whomever the annotation prefers."""
    patch.setattr("persistip.decide.holder.PREFER", "nobody reads this")


@mistake("frozen_choice_stays")
def hold_ignored(patch: pytest.MonkeyPatch) -> None:
    """The newest Pod holds, though the annotation freezes the choice."""
    patch.setattr("persistip.decide.holder.HOLD", "nobody reads this")


@mistake("held_address_stays")
def later_service_withdraws(patch: pytest.MonkeyPatch) -> None:
    """A Service that takes an address refuses the route that holds it, as the route's own faults do."""
    real = services.service_faults

    def faults(facts: Any, claimed: Any, held: Any) -> Any:
        found, remarks = real(facts, claimed, held)
        return [attrs.evolve(each, is_live=False) for each in (*found, *remarks)], []

    patch.setattr("persistip.decide.acceptance.service_faults", faults)


@mistake("nobody_else_sends_from_it")
def guard_left_out(patch: pytest.MonkeyPatch) -> None:
    """A node delivers an address and lets every Pod send from it."""
    real = entries._entries

    def unguarded(*args: Any) -> Any:
        return tuple(each for each in real(*args) if not isinstance(each, GuardEntry))

    patch.setattr(entries, "_entries", unguarded)


@mistake("replies_get_out")
def exemption_left_out(patch: pytest.MonkeyPatch) -> None:
    """A node delivers an address, and masquerades what its Pod sends from it."""
    real = entries._entries

    def masqueraded(*args: Any) -> Any:
        return tuple(each for each in real(*args) if not isinstance(each, ExemptEntry))

    patch.setattr(entries, "_entries", masqueraded)


@mistake("replies_get_out")
def lingering_pod_is_mute(patch: pytest.MonkeyPatch) -> None:
    """During a move the old node still delivers to its Pod, and no longer lets it send."""
    real = entries._still_delivering

    def mute(*args: Any) -> Any:
        return frozenset(each for each in real(*args) if not isinstance(each, GuardEntry | ExemptEntry))

    patch.setattr(entries, "_still_delivering", mute)


@mistake("nobody_else_sends_from_it")
def route_put_without_its_guard(patch: pytest.MonkeyPatch) -> None:
    """A guard that the kernel refuses keeps no route away."""
    patch.setattr("persistip.runtime.execute._lets_send", lambda *_: False)


@mistake("release_comes_to_its_end", "kernels_hold_nothing_else")
def release_waits_for_its_successor(patch: pytest.MonkeyPatch) -> None:
    """What a Pod is to release at once stays until the next Pod's entries stand."""
    patch.setattr(plan_node, "_due", lambda *_: frozenset())


@mistake("grant_is_permitted")
def namespace_labels_ignored(patch: pytest.MonkeyPatch) -> None:
    """A listener admits every namespace."""
    patch.setattr("persistip.decide.admission.listener_refusal", lambda *_: None)


@mistake("unopposed_route_holds", "emit", "fresh_process_finds_nothing_to_do")
def broken_object_stops_all(patch: pytest.MonkeyPatch) -> None:
    """An object that cannot be read makes every view unreadable."""
    patch.setattr(Sight, "why", lambda self, _: next(iter(self._unreadable.values()), None))


@mistake("class_that_may_be_in_use_is_kept")
def unreadable_gateway_is_of_no_class(patch: pytest.MonkeyPatch) -> None:
    """A Gateway that nobody can read is overlooked when a class is asked whether it is in use."""
    real = plan_gateway.plan_class
    patch.setattr("persistip.runtime.cycle.plan_class", lambda view: real(attrs.evolve(view, blind=None)))


@mistake("order_of_events_is_without_effect", "fresh_process_finds_nothing_to_do")
def pods_in_order_of_arrival(patch: pytest.MonkeyPatch) -> None:
    """A view lists Pods as they came."""
    real = Catalog._pods_for

    def pods(self: Catalog, *args: Any) -> Any:
        order = {key: index for index, key in enumerate(self.objects)}
        return tuple(sorted(real(self, *args), key=lambda pod: order[pod.key]))

    patch.setattr(Catalog, "_pods_for", pods)
