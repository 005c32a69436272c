"""
Since when is it so?

In: every write that a decision may rest on.  Out: for each fact whether it is true or was a short while ago. A
controller may act on what was true a little earlier, and may mix old and new; what was never true, or long ago, is no
excuse.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from ipaddress import ip_network

from persistip.model.address import Prefix
from persistip.model.attachment import AddressAttachment, Reference
from persistip.model.gateway import Gateway
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.strategies import ClusterObject
from persistip.testing.simulation.network import MAX_LATE_SECONDS, Network, Written
from persistip.testing.simulation.rules import is_accepted, is_frozen, is_labelled, is_open, lists, prefixes_of
from persistip.testing.simulation.site import ADDRESSES, POOLS
from persistip.testing.simulation.trace import now

PROMPT_SECONDS = 1.0
LATE_SECONDS = 3 * MAX_LATE_SECONDS
"""How old what a decision rests on may be when its write is asked for: usually, and with a watch behind."""

_PREFIXES = frozenset(ip_network(each) for each in ADDRESSES)


class Facts:
    """What is true, since when, and until when it was."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._objects = network.ledger.objects
        self._true: dict[Hashable, float] = {}
        self._ended_at: dict[Hashable, float] = {}
        self._gateways: Hashable = None
        self._gateways_at = 0.0
        self._age = 0.0

    def take(self, written: Written) -> None:
        """A write stands; what is asked of these facts next is asked about it."""
        self._age = written.age
        if _what_matters(written.old) == _what_matters(written.new):
            return
        true = dict.fromkeys(self._facts(), now())
        for ended in self._true.keys() - true.keys():
            self._ended_at[ended] = now()
        self._true = {fact: self._true.get(fact, since) for fact, since in true.items()}
        gateways = frozenset(
            (each.meta.uid, each.class_name, each.addresses, each.listeners)
            if isinstance(each, Gateway)
            else (each.meta.uid, tuple(sorted(each.meta.labels.items())))
            for each in self._objects.values()
            if isinstance(each, Gateway | Namespace)
        )
        if gateways != self._gateways:
            self._gateways, self._gateways_at = gateways, now()

    def _facts(self) -> Iterator[Hashable]:
        for found in self._objects.values():
            match found:
                case Node(out_of_service=True):
                    yield ("tainted", found.meta.uid)
                case Namespace() if is_labelled(self._objects, found.meta.name):
                    yield ("labelled", found.meta.name)
                case Gateway():
                    if is_open(found):
                        yield ("open", found.meta.name)
                    yield from (("lists", found.meta.name, prefix) for prefix in _PREFIXES if lists(found, prefix))
                case GKEIPRoute():
                    uid = found.meta.uid
                    if is_accepted(self._objects, found):
                        yield ("accepted", uid)
                    if is_frozen(found):
                        yield ("frozen", uid)
                    yield from (("names", uid, ref.name) for ref in found.parent_refs)
                    yield from (("claims", uid, prefix) for prefix in prefixes_of(found.addresses))
                case Pod(is_finished=False):
                    yield ("there", found.meta.uid)
                case _:
                    pass

    def _horizon(self) -> float:
        """How old may be what the decision was made on whose write stands now."""
        was_late = self._network.was_late(now() - self._age)
        return self._age + (LATE_SECONDS if was_late else PROMPT_SECONDS)

    def was_lately(self, name: str, *what: Hashable) -> bool:
        """Whether a fact is true, or was a short while ago."""
        key = (name, *what)
        return key in self._true or now() - self._ended_at.get(key, -1e9) <= self._horizon()

    def must_be_known(self, since: float) -> bool:
        """Whether whoever asked for this write knew what has been so since that moment."""
        return now() - since > self._horizon()

    def was_since(self, moment: float, name: str, *what: Hashable) -> bool:
        """Whether a fact is true, or was at some time since *moment*."""
        key = (name, *what)
        return key in self._true or self._ended_at.get(key, -1e9) >= moment

    def has_been(self, name: str, *what: Hashable) -> bool:
        """Whether a fact has been true for longer than anything is late, and what permissions rest on is unchanged."""
        since = max(self._true.get((name, *what), 1e9), self._gateways_at)
        return now() - since > self._horizon()

    def was_permitted(self, route: Reference, prefix: Prefix) -> bool:
        """Whether a route could lately be thought to have a prefix, by any mixture of old and new."""
        if not self.was_lately("claims", route.uid, prefix):
            return False
        return any(
            self.was_lately("names", route.uid, name)
            and self.was_lately("lists", name, prefix)
            and (self.was_lately("open", name) or self.was_lately("labelled", route.namespace))
            for name in POOLS
        )


def _what_matters(found: ClusterObject | None) -> Hashable:
    """All of an object that a fact is made of; most writes change none of it."""
    match found:
        case Node():
            return found.meta.uid, found.out_of_service
        case Namespace():
            return found.meta.uid, tuple(sorted(found.meta.labels.items()))
        case Gateway():
            return found.meta.uid, found.class_name, found.addresses, found.listeners
        case GKEIPRoute():
            return found.meta.uid, found.parent_refs, found.addresses, is_frozen(found)
        case Pod():
            return found.meta.uid, found.is_finished
        case AddressAttachment():
            # Through which Gateway an address is attached says whose it is, where two list it.
            return found.meta.uid, frozenset((each.prefix, each.gateway.uid) for each in found.spec.addresses)
        case _:
            return None
