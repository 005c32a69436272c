"""
Who may send from an address, and is its traffic left untranslated?

In: a GuardEntry or ExemptEntry and the working copy of the last look.  Out: Steps, or an Outcome; and the messages that
make our tables whole before, and drop them when nothing is left in them.
A Pod on a port of a bridge is guarded twice: routed packets by bridge and hardware address, frames by the very port.
"""

from __future__ import annotations

from persistip.backends.linux import nft
from persistip.backends.linux.elements import owner_element, prefix_elements, uplink_element
from persistip.backends.linux.nft import Element
from persistip.backends.linux.ruleset import (
    EXEMPT,
    GUARDED,
    OWNERS,
    PLAIN_OWNERS,
    PODS,
    UPLINKS,
    WIDE_OWNERS,
    set_of,
)
from persistip.backends.linux.snapshot import Owner, Rules, Snapshot
from persistip.backends.linux.sockets import Message
from persistip.backends.linux.steps import Steps, link_gone
from persistip.model.actions import Outcome
from persistip.model.address import Prefix, is_single
from persistip.model.entry import ExemptEntry, GuardEntry


def ensure_rules(rules: Rules, uplinks: frozenset[int]) -> list[Message]:
    """
    The messages that make a table whole, with the elements known, and its uplinks those of the node.

    One transaction: a packet sees the old table or the new one, never none.
    """
    table = rules.table
    messages: list[Message] = []
    if not rules.is_whole:
        if rules.is_present:
            messages.append(nft.delete_table(table.name, table.family))
        messages += nft.create_table(table)
        messages += _fill(rules)
        rules.is_present = rules.is_whole = True
        rules.uplinks = frozenset()
    added, gone = uplinks - rules.uplinks, rules.uplinks - uplinks
    messages += nft.delete_elements(table, UPLINKS, [uplink_element(index) for index in sorted(gone)])
    messages += nft.add_elements(table, UPLINKS, [uplink_element(index) for index in sorted(added)])
    rules.uplinks = uplinks
    return messages


def _fill(rules: Rules) -> list[Message]:
    """All elements known, many to a message: a table made anew is one send, whatever it holds."""
    elements: dict[str, list[Element]] = {}
    for name, prefixes in ((EXEMPT, rules.exempt), (GUARDED, rules.guarded)):
        for prefix in prefixes:
            elements.setdefault(set_of(name, prefix.version), []).extend(prefix_elements(prefix))
    for prefix, record in rules.pods.items():
        elements.setdefault(set_of(PODS, prefix.version), []).extend(prefix_elements(prefix, record))
    for prefix, owners in rules.owners.items():
        for owner in owners:
            elements.setdefault(_owner_set(prefix, owner), []).append(owner_element(*owner, prefix))
    return [message for name, some in elements.items() for message in nft.add_elements(rules.table, name, some)]


def drop_rules(rules: Rules) -> list[Message]:
    """The message that deletes a table once no address is left in it."""
    if not (rules.is_present and rules.is_empty):
        return []
    rules.is_present = rules.is_whole = False
    rules.uplinks = frozenset()
    return [nft.delete_table(rules.table.name, rules.table.family)]


def _add(rules: Rules, name: str, prefix: Prefix, comment: str = "") -> list[Message]:
    return nft.add_elements(rules.table, set_of(name, prefix.version), prefix_elements(prefix, comment))


def _delete(rules: Rules, name: str, prefix: Prefix) -> list[Message]:
    return nft.delete_elements(rules.table, set_of(name, prefix.version), prefix_elements(prefix))


def _owner_set(prefix: Prefix, owner: Owner) -> str:
    if not owner[1]:
        return set_of(PLAIN_OWNERS, prefix.version)
    return set_of(OWNERS if is_single(prefix) else WIDE_OWNERS, prefix.version)


def _add_owner(rules: Rules, prefix: Prefix, owner: Owner) -> list[Message]:
    return nft.add_elements(rules.table, _owner_set(prefix, owner), [owner_element(*owner, prefix)])


def needs_port_rules(entry: object, snapshot: Snapshot) -> bool:
    """Whether the entry guards a Pod on a port of a bridge."""
    return isinstance(entry, GuardEntry) and snapshot.carrier(entry.link.index) != entry.link.index


def put_guard(entry: GuardEntry, snapshot: Snapshot) -> Steps | Outcome:
    """Let the Pod, and of the node's Pods only those put, send from the prefix."""
    link = snapshot.links.get(entry.link.index)
    if link is None or link.name != entry.link.name:
        return link_gone(entry.link.name)
    steps, carrier = Steps(), snapshot.carrier(link.index)
    if carrier != link.index:
        _own(snapshot.port_rules, entry.prefix, (link.index, entry.hardware_address), steps)
    _own(snapshot.rules, entry.prefix, (carrier, entry.hardware_address), steps)
    return steps


def remove_guard(entry: GuardEntry, snapshot: Snapshot) -> Steps:
    """Let it no longer; the guard itself goes with the last who may."""
    steps, address, prefix = Steps(), entry.hardware_address, entry.prefix
    _disown(snapshot.port_rules, prefix, (entry.link.index, address), steps)
    carrier = snapshot.carrier(entry.link.index)
    left = snapshot.port_rules.owners.get(prefix, ())
    if not any(snapshot.carrier(port) == carrier and other == address for port, other in left):
        _disown(snapshot.rules, prefix, (carrier, address), steps)
    return steps


def _own(rules: Rules, prefix: Prefix, owner: Owner, steps: Steps) -> None:
    owners = rules.owners.setdefault(prefix, set())
    if owner not in owners:
        steps.rules += _add_owner(rules, prefix, owner)
        owners.add(owner)
    if prefix not in rules.guarded:
        steps.rules += _add(rules, GUARDED, prefix)
        rules.guarded.add(prefix)


def _disown(rules: Rules, prefix: Prefix, owner: Owner, steps: Steps) -> None:
    owners = rules.owners.get(prefix, set())
    if owner in owners:
        steps.rules += nft.delete_elements(rules.table, _owner_set(prefix, owner), [owner_element(*owner, prefix)])
        owners.remove(owner)
    if not owners:
        rules.owners.pop(prefix, None)
        if prefix in rules.guarded:
            steps.rules += _delete(rules, GUARDED, prefix)
            rules.guarded.remove(prefix)


def put_exempt(entry: ExemptEntry, snapshot: Snapshot) -> Steps:
    """Keep rules of others from translating the prefix's traffic."""
    steps, rules = Steps(), snapshot.rules
    if entry.prefix not in rules.exempt:
        steps.rules += _add(rules, EXEMPT, entry.prefix)
        rules.exempt.add(entry.prefix)
    return steps


def remove_exempt(entry: ExemptEntry, snapshot: Snapshot) -> Steps:
    """Leave it to them again."""
    steps, rules = Steps(), snapshot.rules
    if entry.prefix in rules.exempt:
        steps.rules += _delete(rules, EXEMPT, entry.prefix)
        rules.exempt.remove(entry.prefix)
    return steps


def put_record(prefix: Prefix, record: str, snapshot: Snapshot, steps: Steps) -> None:
    """Write down for which Pod IP a route was made; an element keeps its comment, so another one replaces it."""
    rules = snapshot.rules
    if rules.pods.get(prefix) != record:
        remove_record(prefix, snapshot, steps)
        steps.rules += _add(rules, PODS, prefix, record)
        rules.pods[prefix] = record


def remove_record(prefix: Prefix, snapshot: Snapshot, steps: Steps) -> None:
    """Forget it."""
    if prefix in snapshot.rules.pods:
        steps.rules += _delete(snapshot.rules, PODS, prefix)
        del snapshot.rules.pods[prefix]


def forget_lost(snapshot: Snapshot) -> list[Message]:
    """The messages that forget records of routes that are no more: with its link the kernel takes a route alone."""
    steps = Steps()
    for prefix in [each for each in snapshot.rules.pods if not snapshot.own_routes(each)]:
        remove_record(prefix, snapshot, steps)
    return steps.rules
