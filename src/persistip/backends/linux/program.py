"""
Which messages make an entry stand in the kernel, or take it out?

In: one action and the working copy of the last look.  Out: Steps, or an Outcome where the kernel need not be asked.
The working copy is brought to what the kernel will hold after the steps, so that a batch of actions is worked out
before the first message is sent.

A route moves within the node without a gap:

    IPv4   neighbour for the new hop -> prepend the new route -> delete the old route -> drop the old neighbour
    IPv6   neighbour for the new hop -> replace the route                            -> drop the old neighbour

Nothing foreign is ever replaced or deleted: where it stands in the way the outcome is ``blocked``.
"""

from __future__ import annotations

import errno

import attrs

from persistip.backends.linux import nft, sysctls
from persistip.backends.linux.neighbours import PERMANENT, Neighbour, delete_neighbour, put_neighbour
from persistip.backends.linux.routes import (
    TABLE_LOCAL,
    Route,
    add_route,
    delete_route,
    prepend_route,
    replace_route,
)
from persistip.backends.linux.ruleset import (
    EXEMPT,
    GUARDED,
    OWNERS,
    PLAIN_OWNERS,
    PODS,
    TABLE,
    UPLINKS,
    owner_element,
    prefix_elements,
    set_of,
    uplink_element,
)
from persistip.backends.linux.snapshot import PROTOCOL, Owner, Rules, Snapshot, pinned_hop, pinned_hop_ipv4
from persistip.backends.linux.sockets import Message
from persistip.backends.linux.sysctls import Setting
from persistip.model.actions import Outcome, OutcomeState, PutEntry, RemoveEntry
from persistip.model.address import IPAddress, Prefix, is_single, show
from persistip.model.conditions import Reason
from persistip.model.entry import ExemptEntry, GuardEntry, ProxyEntry, RouteEntry

METRIC_IPV6 = 1
"""Lower than any that routes get by default, so that ours wins; above 0, which only the node's own addresses have."""

_HOP_ATTEMPTS = 64
_ABSENT = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL})
_PRESENT = frozenset({errno.EEXIST})
_NONE: frozenset[int] = frozenset()


@attrs.frozen
class Step:
    """One rtnetlink message, and the refusals that mean it was not needed."""

    message: Message
    tolerated: frozenset[int] = _NONE


@attrs.define
class Steps:
    """
    What one action asks of the kernel, in this order: settings, nftables messages, rtnetlink steps.

    ``is_record`` says that the nftables messages only write something down, so that their place among rtnetlink
    steps of other actions does not matter.
    """

    settings: list[Setting] = attrs.field(factory=list)
    rules: list[Message] = attrs.field(factory=list)
    routes: list[Step] = attrs.field(factory=list)
    is_record: bool = False


def blocked(message: str) -> Outcome:
    """Something foreign stands there."""
    return Outcome(state=OutcomeState.BLOCKED, reason=Reason.PROGRAMMING_FAILED, message=message)


def failed(message: str, *, reason: Reason = Reason.PROGRAMMING_FAILED, stale: bool = False) -> Outcome:
    """It cannot be done as things stand."""
    return Outcome(state=OutcomeState.FAILED, reason=reason, message=message, stale=stale)


def plan_action(action: PutEntry | RemoveEntry, snapshot: Snapshot) -> Steps | Outcome:
    """The steps for one action; *snapshot* is brought along."""
    entry, is_put = action.entry, isinstance(action, PutEntry)
    match entry:
        case RouteEntry():
            return _put_route(entry, snapshot) if is_put else _remove_route(entry, snapshot)
        case GuardEntry():
            return _put_guard(entry, snapshot) if is_put else _remove_guard(entry, snapshot)
        case ExemptEntry():
            return _put_exempt(entry, snapshot) if is_put else _remove_exempt(entry, snapshot)
        case ProxyEntry():
            return _put_proxy(entry, snapshot) if is_put else _remove_proxy(entry, snapshot)


# ---------------------------------------------------------------------------------------------------------- routes


def _put_route(entry: RouteEntry, snapshot: Snapshot) -> Steps | Outcome:
    link = snapshot.links.get(entry.link.index)
    if link is None or link.name != entry.link.name:
        return failed(f"link {entry.link.name} is gone", reason=Reason.POD_LINK_NOT_FOUND, stale=True)
    obstacle = obstacle_for(entry.prefix, snapshot)
    if obstacle:
        return blocked(obstacle)
    if entry.prefix.version == 6 and not link.ipv6_enabled:
        return failed(f"IPv6 is disabled on link {link.name} (net.ipv6.conf.{link.name}.disable_ipv6)")
    hop = _select_hop(entry, snapshot)
    if isinstance(hop, Outcome):
        return hop
    steps = Steps(settings=_forwarding(entry, snapshot), is_record=True)
    if entry.hardware_address:
        _put_hop(hop, entry, snapshot, steps)
    route = _route(entry, hop)
    _place_route(route, snapshot, steps)
    _put_record(entry, snapshot, steps)
    return steps


def _route(entry: RouteEntry, hop: IPAddress) -> Route:
    return Route(
        prefix=entry.prefix,
        link=entry.link.index,
        gateway=hop,
        table=TABLE_LOCAL,
        protocol=PROTOCOL,
        metric=METRIC_IPV6 if entry.prefix.version == 6 else 0,
        onlink=True,
    )


def obstacle_for(prefix: Prefix, snapshot: Snapshot) -> str:
    """
    Why a route of ours for *prefix* could not win, or nothing.

    A route of equal or lower metric wins for IPv6. For IPv4 ours is put before all others; but a prefix that is an
    address of the node itself is no one's to deliver.
    """
    for route in snapshot.routes.get(prefix, ()):
        if route.protocol == PROTOCOL:
            continue
        if route.protocol == _PROTOCOL_KERNEL:
            return f"{show(prefix)} is an address of this node, on link {snapshot.link_ref(route.link).name}"
        if prefix.version == 6 and route.metric <= METRIC_IPV6:
            return (
                f"a foreign route for {show(prefix)} in table local (protocol {route.protocol}, metric {route.metric},"
                f" link {snapshot.link_ref(route.link).name}) comes before ours"
            )
    return ""


_PROTOCOL_KERNEL = 2


def _select_hop(entry: RouteEntry, snapshot: Snapshot) -> IPAddress | Outcome:
    """
    The next hop that pins the Pod.

    On a link without hardware addresses there is one machine at the other end, so the Pod's IP does.
    """
    link = snapshot.links[entry.link.index]
    if not entry.hardware_address:
        if entry.prefix.version == 6 and entry.pod_ip.version == 4:
            return failed(f"{show(entry.prefix)} needs an IPv6 address of the Pod on link {link.name}")
        return entry.pod_ip
    candidates: list[IPAddress] = (
        [pinned_hop(entry.hardware_address)]
        if link.ipv6_enabled
        else [pinned_hop_ipv4(entry.hardware_address, attempt) for attempt in range(_HOP_ATTEMPTS)]
    )
    for hop in candidates:
        present = snapshot.neighbours.get((link.index, hop))
        if present is None or not present.state & PERMANENT:
            # What the kernel has learned by itself is a cache, and nobody's.
            return hop
        if present.protocol == PROTOCOL and present.hardware_address == entry.hardware_address:
            return hop
    return blocked(f"a foreign neighbour entry for {candidates[0]} stands on link {link.name}")


def _put_hop(hop: IPAddress, entry: RouteEntry, snapshot: Snapshot, steps: Steps) -> None:
    wanted = Neighbour(
        address=hop,
        link=entry.link.index,
        hardware_address=entry.hardware_address,
        state=PERMANENT,
        protocol=PROTOCOL,
    )
    if snapshot.neighbours.get((wanted.link, hop)) != wanted:
        steps.routes.append(Step(put_neighbour(wanted)))
        snapshot.neighbours[wanted.link, hop] = wanted


def _place_route(route: Route, snapshot: Snapshot, steps: Steps) -> None:
    present = snapshot.routes.setdefault(route.prefix, [])
    own = [each for each in present if each.protocol == PROTOCOL]
    others = [each for each in own if each != route]
    if route.prefix.version == 6:
        rivals = [each for each in others if each.metric == route.metric]
        if rivals:
            steps.routes.append(Step(replace_route(route)))
        elif route not in own:
            steps.routes.append(Step(add_route(route)))
        others = [each for each in others if each.metric != route.metric]
    elif present[:1] != [route]:
        if route in own:
            # Ours stands behind another's, where it serves nobody; it cannot be prepended while it is there.
            steps.routes.append(Step(delete_route(route), _ABSENT))
        steps.routes.append(Step(prepend_route(route), _PRESENT))
    steps.routes += [Step(delete_route(each), _ABSENT) for each in others]
    snapshot.routes[route.prefix] = [route, *(each for each in present if each.protocol != PROTOCOL)]
    snapshot.count_hop(route, +1)
    for each in own:
        snapshot.count_hop(each, -1)
        _drop_unused_hop(each, snapshot, steps)


def _drop_unused_hop(route: Route, snapshot: Snapshot, steps: Steps) -> None:
    """A pinned neighbour goes with the last route of ours through it."""
    if route.gateway is None:
        return
    neighbour = snapshot.neighbours.get((route.link, route.gateway))
    if neighbour is None or neighbour.protocol != PROTOCOL:
        return
    if snapshot.hop_uses[route.link, route.gateway] > 0:
        return
    steps.routes.append(Step(delete_neighbour(neighbour), _ABSENT))
    del snapshot.neighbours[route.link, route.gateway]


def _put_record(entry: RouteEntry, snapshot: Snapshot, steps: Steps) -> None:
    """Write down which Pod IP the route was made for; an element keeps its comment, so another one replaces it."""
    pods, wanted = snapshot.rules.pods, str(entry.pod_ip)
    if pods.get(entry.prefix) == wanted:
        return
    if entry.prefix in pods:
        _remove_record(entry.prefix, snapshot, steps)
    name = set_of(PODS, entry.prefix.version)
    steps.rules += nft.add_elements(TABLE, name, prefix_elements(entry.prefix, wanted))
    pods[entry.prefix] = wanted


def _remove_record(prefix: Prefix, snapshot: Snapshot, steps: Steps) -> None:
    if prefix in snapshot.rules.pods:
        steps.rules += nft.delete_elements(TABLE, set_of(PODS, prefix.version), prefix_elements(prefix))
        del snapshot.rules.pods[prefix]


def _remove_route(entry: RouteEntry, snapshot: Snapshot) -> Steps | Outcome:
    steps = Steps(is_record=True)
    record = snapshot.rules.pods.get(entry.prefix)
    if record is not None and not entry.pod_ip.is_unspecified and record != str(entry.pod_ip):
        return steps
    own = snapshot.own_routes(entry.prefix)
    gone = [route for route in own if route.link == entry.link.index and _is_towards(route, entry, snapshot)]
    if not gone:
        return steps
    steps.routes += [Step(delete_route(route), _ABSENT) for route in gone]
    left = [route for route in snapshot.routes[entry.prefix] if route not in gone]
    if left:
        snapshot.routes[entry.prefix] = left
    else:
        del snapshot.routes[entry.prefix]
    for route in gone:
        snapshot.count_hop(route, -1)
        _drop_unused_hop(route, snapshot, steps)
    if len(gone) == len(own):
        _remove_record(entry.prefix, snapshot, steps)
    return steps


def _is_towards(route: Route, entry: RouteEntry, snapshot: Snapshot) -> bool:
    return hardware_address_of(route, snapshot) == entry.hardware_address


def hardware_address_of(route: Route, snapshot: Snapshot) -> str:
    """
    Which hardware address a route of ours is pinned to, by its next hop; empty on links without.

    The next hop itself tells it, so that a route whose neighbour entry was lost is still known; only the short form
    of links without IPv6 has to be looked up.
    """
    if route.gateway is None:
        return ""
    packed = route.gateway.packed
    if packed[:10] == _HOP_START:
        return packed[10:].hex(":")
    neighbour = snapshot.neighbours.get((route.link, route.gateway))
    return neighbour.hardware_address if neighbour is not None and neighbour.protocol == PROTOCOL else ""


_HOP_START = pinned_hop("00:00:00:00:00:00").packed[:10]


def _forwarding(entry: RouteEntry, snapshot: Snapshot) -> list[Setting]:
    """Forwarding for the family, on the links that the packets come by."""
    names = [uplink.name for uplink in snapshot.uplinks]
    if entry.prefix.version == 6:
        return [] if snapshot.is_forwarding[6] else sysctls.forwarding_ipv6(names)
    names.append(entry.link.name)
    return [] if is_forwarding_ipv4(entry.link.index, snapshot) else sysctls.forwarding_ipv4(names)


def is_forwarding_ipv4(link: int, snapshot: Snapshot) -> bool:
    """Whether IPv4 is forwarded from every uplink and from *link*."""
    links = (*(uplink.index for uplink in snapshot.uplinks), link)
    return snapshot.is_forwarding[4] and all(
        snapshot.links[index].ipv4_forwarding for index in links if index in snapshot.links
    )


# ----------------------------------------------------------------------------------------------------- nftables sets


def ensure_rules(snapshot: Snapshot) -> list[Message]:
    """
    The messages that make our table whole, with the elements known, and its uplinks those of the node.

    One transaction: a packet sees the old table or the new one, never none.
    """
    rules, uplinks = snapshot.rules, frozenset(uplink.index for uplink in snapshot.uplinks)
    messages: list[Message] = []
    if not rules.is_whole:
        if rules.is_present:
            messages.append(nft.delete_table(TABLE.name, TABLE.family))
        messages += nft.create_table(TABLE)
        messages += _fill(rules)
        rules.is_present = rules.is_whole = True
        rules.uplinks = frozenset()
    added, gone = uplinks - rules.uplinks, rules.uplinks - uplinks
    messages += nft.delete_elements(TABLE, UPLINKS, [uplink_element(index) for index in sorted(gone)])
    messages += nft.add_elements(TABLE, UPLINKS, [uplink_element(index) for index in sorted(added)])
    rules.uplinks = uplinks
    return messages


def _fill(rules: Rules) -> list[Message]:
    messages: list[Message] = []
    for name, prefixes in ((EXEMPT, rules.exempt), (GUARDED, rules.guarded), (PODS, rules.pods)):
        for prefix in prefixes:
            elements = prefix_elements(prefix, rules.pods.get(prefix, "") if name == PODS else "")
            messages += nft.add_elements(TABLE, set_of(name, prefix.version), elements)
    for owner in rules.owners:
        messages += _add_owner(owner)
    return messages


def drop_rules(snapshot: Snapshot) -> list[Message]:
    """The message that deletes our table once no address is left in it."""
    rules = snapshot.rules
    if not (rules.is_present and rules.is_empty):
        return []
    snapshot.rules = Rules()
    return [nft.delete_table(TABLE.name, TABLE.family)]


def _owner_set(owner: Owner) -> str:
    return set_of(OWNERS if owner[1] else PLAIN_OWNERS, owner[2].version)


def _add_owner(owner: Owner) -> list[Message]:
    return nft.add_elements(TABLE, _owner_set(owner), [owner_element(*owner)])


def _put_guard(entry: GuardEntry, snapshot: Snapshot) -> Steps | Outcome:
    link = snapshot.links.get(entry.link.index)
    if link is None or link.name != entry.link.name:
        return failed(f"link {entry.link.name} is gone", reason=Reason.POD_LINK_NOT_FOUND, stale=True)
    steps, rules, owner = Steps(), snapshot.rules, (entry.link.index, entry.hardware_address, entry.prefix)
    if owner not in rules.owners:
        steps.rules += _add_owner(owner)
        rules.owners.add(owner)
    if entry.prefix not in rules.guarded:
        name = set_of(GUARDED, entry.prefix.version)
        steps.rules += nft.add_elements(TABLE, name, prefix_elements(entry.prefix))
        rules.guarded.add(entry.prefix)
    return steps


def _remove_guard(entry: GuardEntry, snapshot: Snapshot) -> Steps:
    steps, rules, owner = Steps(), snapshot.rules, (entry.link.index, entry.hardware_address, entry.prefix)
    if owner in rules.owners:
        steps.rules += nft.delete_elements(TABLE, _owner_set(owner), [owner_element(*owner)])
        rules.owners.remove(owner)
    if entry.prefix in rules.guarded and not any(prefix == entry.prefix for _link, _address, prefix in rules.owners):
        name = set_of(GUARDED, entry.prefix.version)
        steps.rules += nft.delete_elements(TABLE, name, prefix_elements(entry.prefix))
        rules.guarded.remove(entry.prefix)
    return steps


def _put_exempt(entry: ExemptEntry, snapshot: Snapshot) -> Steps:
    steps, exempt = Steps(), snapshot.rules.exempt
    if entry.prefix not in exempt:
        name = set_of(EXEMPT, entry.prefix.version)
        steps.rules += nft.add_elements(TABLE, name, prefix_elements(entry.prefix))
        exempt.add(entry.prefix)
    return steps


def _remove_exempt(entry: ExemptEntry, snapshot: Snapshot) -> Steps:
    steps, exempt = Steps(), snapshot.rules.exempt
    if entry.prefix in exempt:
        name = set_of(EXEMPT, entry.prefix.version)
        steps.rules += nft.delete_elements(TABLE, name, prefix_elements(entry.prefix))
        exempt.remove(entry.prefix)
    return steps


# ---------------------------------------------------------------------------------------------------- proxy entries


def _put_proxy(entry: ProxyEntry, snapshot: Snapshot) -> Steps | Outcome:
    link = snapshot.links.get(entry.link.index)
    if link is None or link.name != entry.link.name:
        return failed(f"link {entry.link.name} is gone", stale=True)
    if not is_single(entry.prefix):
        message = f"the kernel answers for single addresses, not for {entry.prefix}"
        return Outcome(state=OutcomeState.UNSUPPORTED, message=message)
    version = entry.prefix.version
    if version == 6 and not link.ipv6_enabled:
        return failed(f"IPv6 is disabled on link {link.name} (net.ipv6.conf.{link.name}.disable_ipv6)")
    wanted = _proxy(entry)
    present = snapshot.proxies.get((wanted.link, wanted.address))
    if present is not None and present.protocol != PROTOCOL:
        return blocked(f"a foreign proxy entry for {wanted.address} stands on link {entry.link.name}")
    steps = Steps()
    if not snapshot.is_answering.get((link.index, version), False):
        steps.settings += sysctls.answering(link.name, version)
    if present is None:
        steps.routes.append(Step(put_neighbour(wanted)))
        snapshot.proxies[wanted.link, wanted.address] = wanted
    return steps


def _remove_proxy(entry: ProxyEntry, snapshot: Snapshot) -> Steps:
    wanted, steps = _proxy(entry), Steps()
    present = snapshot.proxies.get((wanted.link, wanted.address))
    if present is not None and present.protocol == PROTOCOL:
        steps.routes.append(Step(delete_neighbour(wanted), _ABSENT))
        del snapshot.proxies[wanted.link, wanted.address]
    return steps


def _proxy(entry: ProxyEntry) -> Neighbour:
    return Neighbour(address=entry.prefix.network_address, link=entry.link.index, protocol=PROTOCOL, is_proxy=True)
