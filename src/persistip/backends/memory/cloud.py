"""
A cloud without I/O, for docs, tests and simulation.

It takes its time, in that of the event loop: what was asked for stands that much later, whatever has become of who
asked, and a newer wish for a route overtakes an older one that is still under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs

from persistip.model.actions import DONE, Outcome, OutcomeState
from persistip.model.address import Prefix, is_within
from persistip.model.cloud import Attract, CloudAction, CloudScope, CloudState, RouteAction, Sweep, Withdraw
from persistip.strategies import AllocatorFeatures

_KNOWN: tuple[type, ...] = (Attract, Withdraw, Sweep)


@attrs.define
class _Part:
    """What stands for one route of one owner, and what is under way."""

    stands: Attract | None = None
    wanted: RouteAction | None = None
    under_way: asyncio.TimerHandle | None = None


class MemoryCloud:
    """A cloud; *seconds* says how long each change takes. It outlives the allocators that work on it."""

    def __init__(self, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self._seconds = seconds
        self._parts: dict[tuple[str, str], _Part] = {}

    def allocator(self, owner: str = "") -> MemoryAllocator:
        """An allocator that acts for *owner*, without memory of its own."""
        return MemoryAllocator(self, owner)

    def leader(self, prefix: Prefix) -> str | None:
        """The node to which packets for *prefix* go."""
        for part in self._parts.values():
            if part.stands is not None and any(is_within(prefix, each) for each in part.stands.prefixes):
                return part.stands.node_name
        return None

    @property
    def routes(self) -> frozenset[str]:
        """The routes for which anything stands."""
        return frozenset(route for (_, route), part in self._parts.items() if part.stands is not None)

    def observe(self, owner: str, scope: CloudScope) -> CloudState:
        """What stands for a route of *owner*."""
        route = _name(scope.route, scope.prefixes)
        part = self._parts.get((owner, route))
        if part is None or (part.stands is None and part.under_way is None):
            return CloudState(ready=False)
        if part.stands is None:
            # What is under way will stand, whoever asks.
            return CloudState(ready=False, owned=(route,))
        ready = bool(scope.prefixes) and set(scope.prefixes) <= set(part.stands.prefixes)
        return CloudState(ready=ready, leader=part.stands.node_name, owned=(route,))

    def sweep(self, owner: str, routes: frozenset[str]) -> Outcome:
        """Begin to take away what *owner* has for other routes than these."""
        others = [route for of, route in self._parts if of == owner and route not in routes]
        outcomes = [self.begin(owner, Withdraw(prefixes=(), route=route)) for route in others]
        return next((outcome for outcome in outcomes if not outcome.is_done), DONE)

    def begin(self, owner: str, action: RouteAction) -> Outcome:
        """Have an action carried out after a while; done at once where it is so already."""
        part = self._parts.setdefault((owner, _name(action.route, action.prefixes)), _Part())
        wanted = action if isinstance(action, Attract) else None
        if part.under_way is not None and part.wanted == action:
            return Outcome(state=OutcomeState.STARTED)
        if part.under_way is not None:
            part.under_way.cancel()
            part.under_way = None
        if part.stands == wanted:
            return DONE
        part.wanted = action
        part.under_way = asyncio.get_running_loop().call_later(self._seconds(), self._finish, part, wanted)
        return Outcome(state=OutcomeState.STARTED)

    def _finish(self, part: _Part, wanted: Attract | None) -> None:
        part.stands, part.under_way = wanted, None


class MemoryAllocator:
    """The ``AddressAllocator`` of a ``MemoryCloud``."""

    features = AllocatorFeatures(name="memory", needs_provisioning=True, knows_owners=True)

    def __init__(self, cloud: MemoryCloud, owner: str = "") -> None:
        self._cloud = cloud
        self._owner = owner

    async def observe(self, scope: CloudScope) -> CloudState:
        """What stands now."""
        return self._cloud.observe(self._owner, scope)

    async def apply(self, action: CloudAction) -> Outcome:
        """Begin it."""
        if type(action) not in _KNOWN:
            return Outcome(state=OutcomeState.UNSUPPORTED)
        if isinstance(action, Sweep):
            return self._cloud.sweep(self._owner, action.routes)
        return self._cloud.begin(self._owner, action)


def _name(route: str, prefixes: tuple[Prefix, ...]) -> str:
    return route or "+".join(sorted(map(str, prefixes)))
