"""
Who answers ARP and neighbour solicitations for an address?

In: a ProxyEntry and the working copy of the last look.  Out: Steps, or an Outcome.
The kernel does, by a proxy entry on the uplink, so that an agent's absence does not matter. The rule is SPEC's: single
addresses only, and a proxy entry of others is left alone.
"""

from __future__ import annotations

from persistip.backends.linux import sysctls
from persistip.backends.linux.neighbours import Neighbour, delete_neighbour, put_neighbour
from persistip.backends.linux.snapshot import PROTOCOL, Snapshot
from persistip.backends.linux.steps import ABSENT, Step, Steps, blocked, failed, link_gone
from persistip.model.actions import Outcome, OutcomeState
from persistip.model.address import is_single
from persistip.model.entry import ProxyEntry


def put_proxy(entry: ProxyEntry, snapshot: Snapshot) -> Steps | Outcome:
    """Make the kernel answer on the uplink, at once."""
    link = snapshot.links.get(entry.link.index)
    if link is None or link.name != entry.link.name:
        return link_gone(entry.link.name)
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


def remove_proxy(entry: ProxyEntry, snapshot: Snapshot) -> Steps:
    """Make it stop."""
    wanted, steps = _proxy(entry), Steps()
    present = snapshot.proxies.get((wanted.link, wanted.address))
    if present is not None and present.protocol == PROTOCOL:
        steps.routes.append(Step(delete_neighbour(wanted), ABSENT))
        del snapshot.proxies[wanted.link, wanted.address]
    return steps


def _proxy(entry: ProxyEntry) -> Neighbour:
    return Neighbour(address=entry.prefix.network_address, link=entry.link.index, protocol=PROTOCOL, is_proxy=True)
