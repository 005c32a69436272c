"""
Who may send from an address, and is its traffic left untranslated?

In: a GuardEntry or ExemptEntry and the working copy of the last look.  Out: Steps, or an Outcome; and the messages that
make our tables whole before, and drop them when nothing is left in them.
A Pod on a port of a bridge is guarded twice: routed packets by bridge and hardware address, frames by the very port.
"""

from __future__ import annotations

from persistip.backends.linux import nft
from persistip.backends.linux.elements import owner_element, prefix_elements, uplink_element
from persistip.backends.linux.ruleset import EXEMPT, GUARDED, OWNERS, PLAIN_OWNERS, PODS, UPLINKS, set_of
from persistip.backends.linux.snapshot import Owner, Rules, Snapshot
from persistip.backends.linux.sockets import Message
from persistip.backends.linux.steps import Steps, link_gone
from persistip.model.actions import Outcome
from persistip.model.address import Prefix
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
    return [
        *(message for prefix in rules.exempt for message in _add(rules, EXEMPT, prefix)),
        *(message for prefix in rules.guarded for message in _add(rules, GUARDED, prefix)),
        *(message for prefix, record in rules.pods.items() for message in _add(rules, PODS, prefix, record)),
        *(message for owner in rules.owners for message in _add_owner(rules, owner)),
    ]


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


def _owner_set(owner: Owner) -> str:
    return set_of(OWNERS if owner[1] else PLAIN_OWNERS, owner[2].version)


def _add_owner(rules: Rules, owner: Owner) -> list[Message]:
    return nft.add_elements(rules.table, _owner_set(owner), [owner_element(*owner)])


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
        _own(snapshot.port_rules, (link.index, entry.hardware_address, entry.prefix), steps)
    _own(snapshot.rules, (carrier, entry.hardware_address, entry.prefix), steps)
    return steps


def remove_guard(entry: GuardEntry, snapshot: Snapshot) -> Steps:
    """Let it no longer; the guard itself goes with the last who may."""
    steps, address, prefix = Steps(), entry.hardware_address, entry.prefix
    _disown(snapshot.port_rules, (entry.link.index, address, prefix), steps)
    carrier = snapshot.carrier(entry.link.index)
    on_ports = {
        snapshot.carrier(port)
        for port, owner_address, owned in snapshot.port_rules.owners
        if (owner_address, owned) == (address, prefix)
    }
    if carrier not in on_ports:
        _disown(snapshot.rules, (carrier, address, prefix), steps)
    return steps


def _own(rules: Rules, owner: Owner, steps: Steps) -> None:
    if owner not in rules.owners:
        steps.rules += _add_owner(rules, owner)
        rules.owners.add(owner)
    if owner[2] not in rules.guarded:
        steps.rules += _add(rules, GUARDED, owner[2])
        rules.guarded.add(owner[2])


def _disown(rules: Rules, owner: Owner, steps: Steps) -> None:
    prefix = owner[2]
    if owner in rules.owners:
        steps.rules += nft.delete_elements(rules.table, _owner_set(owner), [owner_element(*owner)])
        rules.owners.remove(owner)
    if prefix in rules.guarded and not any(owned == prefix for _link, _address, owned in rules.owners):
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
