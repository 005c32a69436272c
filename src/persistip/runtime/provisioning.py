"""
Who keeps the cloud as the plans want it?

In: for each route all that the cloud is to hold, as its plan says.  Out: what the cloud holds, for the route's next
view. Beside the workers of the cluster, so that no write waits for a cloud; one route never waits for another's.

    plan ──action──> wanted ──key──> observe ──> act, where it is not so ──> observe, until it is so
                                        └── what has changed: the route is planned again

Level-triggered: an action says the whole of what is to stand, the latest one counts, and after a restart it is asked
for once more. What stands is looked at again from time to time, since others can change it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

import attrs

from persistip.errors import BackendError
from persistip.model.actions import Outcome, OutcomeState
from persistip.model.cloud import UNKNOWN, Attract, CloudScope, CloudState, RouteAction, Sweep
from persistip.model.keys import ObjectKey
from persistip.runtime.retry import Backoff, delay_after, outcome_of
from persistip.runtime.telemetry import log_outcome
from persistip.runtime.workqueue import QueueClosed, WorkQueue
from persistip.strategies import AddressAllocator

logger = logging.getLogger("persistip")

POLL = Backoff(first_seconds=0.1, last_seconds=1.0, factor=1.3)
"""Between two looks at work that has been started."""
NOT_NOW_SECONDS = 0.05


@attrs.define(kw_only=True)
class _Part:
    """
    What is known of one route's part of the cloud.

    ``done``: the action that was carried out last. ``trouble``: what came of the last try, where it was not done.
    """

    observed: CloudState = UNKNOWN
    trouble: Outcome | None = None
    wanted: RouteAction | None = None
    done: RouteAction | None = None
    looks: int = 0

    @property
    def state(self) -> CloudState:
        """What decisions are told: what was observed, and why it is not what they want."""
        if self.trouble is None or self.observed.reason:
            return self.observed
        blocked = self.trouble.state is OutcomeState.BLOCKED
        message = self.trouble.message or self.observed.message
        return attrs.evolve(self.observed, reason=self.trouble.reason if blocked else "", message=message)


class Provisioner:
    """
    Carries out what plans want of a cloud; *touch* is called with each route whose part of it has changed.

    *may_act* is asked before each call that changes something: who does not lead only looks.
    """

    def __init__(
        self,
        allocator: AddressAllocator,
        *,
        touch: Callable[[Iterable[ObjectKey]], None],
        may_act: Callable[[], bool],
        resync_seconds: float,
    ) -> None:
        self._allocator = allocator
        self._touch = touch
        self._may_act = may_act
        self._resync_seconds = resync_seconds
        self._parts: dict[ObjectKey, _Part] = {}
        self._queue: WorkQueue[ObjectKey] = WorkQueue()
        self._closed = asyncio.Event()

    def state(self, key: ObjectKey) -> CloudState | None:
        """What the cloud holds for a route, as far as anybody has looked; None: there is nothing to provision."""
        if not self._allocator.features.needs_provisioning:
            return None
        part = self._parts.get(key)
        return part.state if part is not None else UNKNOWN

    def want(self, key: ObjectKey, action: RouteAction | None) -> None:
        """Have this stand for a route from now on; None: whatever stands."""
        if not self._allocator.features.needs_provisioning:
            return
        part = self._parts.get(key)
        if part is not None and part.wanted == action:
            return
        if part is None:
            # Also where nothing is wanted: what stands decides what will be.
            part = self._parts[key] = _Part()
        part.wanted, part.trouble, part.looks = action, None, 0
        self._queue.forget_failures(key)
        self._queue.add(key, pressing=isinstance(action, Attract))

    def forget(self, key: ObjectKey) -> None:
        """The route is gone, and nothing of it is left in the cloud."""
        self._parts.pop(key, None)

    def close(self) -> None:
        """Take up nothing more; what has been started goes on."""
        self._queue.close()
        self._closed.set()

    async def sweep(self, owners: Callable[[], frozenset[str] | None]) -> None:
        """Now and then have all taken away that is of no owner, until ``close``; None: nobody knows who they are."""
        while not self._closed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._resync_seconds):
                    await self._closed.wait()
            routes = owners() if self._may_act() else None
            if routes is None or self._closed.is_set():
                continue
            action = Sweep(routes)
            try:
                outcome = await self._allocator.apply(action)
            except BackendError as error:
                outcome = outcome_of(error)
            if not outcome.is_done:
                log_outcome(action, outcome, routes=len(routes))

    async def work(self) -> None:
        """Take one route after another, until ``close``."""
        while True:
            try:
                key = await self._queue.get()
            except QueueClosed:
                return
            try:
                await self._pass(key)
            except Exception:
                logger.exception("a fault of ours stopped one key", extra={"object": str(key)})
                self._queue.add_after(key, self._resync_seconds)
            finally:
                self._queue.done(key)
            await asyncio.sleep(0)

    async def _pass(self, key: ObjectKey) -> None:
        part = self._parts.get(key)
        if part is None:
            return
        action = part.wanted
        if not self._may_act():
            self._queue.add_after(key, NOT_NOW_SECONDS)
            return
        before = part.state
        outcome: Outcome | None = None
        try:
            part.observed = await self._observe(key, action)
            if action is not None and not (part.done == action and _stands(part.observed, action)):
                outcome = await self._allocator.apply(action)
                if outcome.is_done:
                    part.done, part.observed = action, await self._observe(key, action)
        except BackendError as error:
            outcome = outcome_of(error)
        if part.wanted == action:
            part.trouble = part.trouble if _is_under_way(outcome) else None if _went_well(outcome) else outcome
        if outcome is not None and not _went_well(outcome) and not _is_under_way(outcome):
            log_outcome(action, outcome, object=str(key))
        if part.state != before:
            part.looks = 0
            self._touch((key,))
        self._schedule(key, part, outcome)

    async def _observe(self, key: ObjectKey, action: RouteAction | None) -> CloudState:
        return await self._allocator.observe(
            CloudScope(prefixes=action.prefixes if action is not None else (), route=key.path)
        )

    def _schedule(self, key: ObjectKey, part: _Part, outcome: Outcome | None) -> None:
        """Decide when the cloud is looked at again for this route."""
        if outcome is None or outcome.is_done:
            self._queue.forget_failures(key)
            self._queue.add_after(key, self._resync_seconds)
        elif outcome.state is OutcomeState.STARTED:
            part.looks += 1
            self._queue.add_after(key, POLL.delay(part.looks, key))
        else:
            delay = delay_after(outcome, self._queue.count_failure(key), key)
            self._queue.add_after(key, delay if delay is not None else self._resync_seconds)


def _went_well(outcome: Outcome | None) -> bool:
    return outcome is None or outcome.is_done


def _is_under_way(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.state is OutcomeState.STARTED


def _stands(state: CloudState, action: RouteAction) -> bool:
    """Whether the cloud holds what an action wants, as far as the state tells."""
    if isinstance(action, Attract):
        return state.ready and state.leader == action.node_name and not state.reason
    return not state.owned and state.leader is None
