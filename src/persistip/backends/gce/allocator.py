"""
The ``AddressAllocator`` of Compute Engine.

In: what a route is to have, again and again.  Out: it stands, or why it does not. One job for each route that is under
way; a job plans, makes the calls that wait for nothing, waits for their operations, looks at what they changed, and
plans again, until nothing is left. A newer wish takes over the job that runs: its next plan is made for that one.

    apply ──> job:  plan ──> begin ──> follow ──> look ──┐
                     ▲                                   │
                     └───────────────────────────────────┘     observe: by what is known, without a call
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs

from persistip.backends.gce.book import Book
from persistip.backends.gce.client import ComputeClient, failure_of
from persistip.backends.gce.errors import SYSTEM
from persistip.backends.gce.gate import Gate
from persistip.backends.gce.operations import Operations
from persistip.backends.gce.plan import Insert, Obstacle, Patch, Plan, Planner, Seen, Step, Target, singles, value_of
from persistip.backends.gce.resources import Owner, Service
from persistip.errors import (
    BackendError,
    RefusedError,
    RejectedError,
    StaleError,
    ThrottledError,
    UnavailableError,
)
from persistip.model.actions import DONE, Outcome, OutcomeState
from persistip.model.cloud import Attract, CloudAction, CloudScope, CloudState, Sweep, Withdraw
from persistip.model.gateway import Mode
from persistip.runtime.clock import SystemClock
from persistip.runtime.retry import FAILED, STALE
from persistip.settings import ControllerSettings, GceSettings
from persistip.strategies import AllocatorFeatures, Clock

_KNOWN: tuple[type, ...] = (Attract, Withdraw, Sweep)
ROUNDS = 100
"""Plans of one job, at the most; far more than any route needs."""
STALE_TRIES = 5
CALL_TRIES = 3
"""How often a call is made whose answer is lost; with the same request id, so that it is carried out once."""


@attrs.define
class _Job:
    """What is being done for one route; ``target`` None: everything goes."""

    target: Target | None
    task: asyncio.Task[None] | None = None
    failure: BackendError | None = None


class GceAllocator:
    """Addresses by forwarding rules, each route's in one backend service whose leader is the holder's node."""

    features = AllocatorFeatures(name="gce", needs_provisioning=True, knows_owners=True)

    def __init__(
        self,
        client: ComputeClient,
        *,
        cluster: str,
        settings: GceSettings,
        resync_seconds: float,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        owner = Owner(cluster)
        self._client = client
        self._planner = Planner(
            owner=owner, project=client.project, region=client.region, sources=settings.internal_sources
        )
        self._gate = Gate(sleep=sleep)
        self._book = Book(client, self._gate, owner, resync_seconds)
        self._operations = Operations(client, sleep=sleep)
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._jobs: dict[str, _Job] = {}
        self._targets: dict[str, Target] = {}
        self._orphans: dict[str, int] = {}
        """What stands for routes that nobody names, and at which complete look that was first seen."""

    async def __aenter__(self) -> GceAllocator:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End every job where it is; what stands in the project stays, and whoever follows takes it up."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._operations.close()
        self._gate.close()

    # ------------------------------------------------------------ AddressAllocator
    async def observe(self, scope: CloudScope) -> CloudState:
        """How things stand for a route; now and then this looks at the whole project."""
        await self._book.refresh()
        route = _route_of(scope.route, scope.prefixes)
        seen = self._book.seen
        owned = tuple(sorted(str(each) for each in self._planner.owned(seen, route)))
        served = self._planner.served(seen, route)
        leader = self._planner.leader(seen, route) if served else None
        wanted = {value_of(single) for single in singles(scope.prefixes)}
        target = self._targets.get(route)
        is_whole = target is None or not await self._steps(seen, target)
        ready = leader is not None and bool(wanted) and wanted <= served and is_whole
        return CloudState(ready=ready, leader=leader, owned=owned)

    async def apply(self, action: CloudAction) -> Outcome:
        """Begin what is needed; raises what the last try for the same has come to, once."""
        if type(action) not in _KNOWN:
            return Outcome(state=OutcomeState.UNSUPPORTED)
        if isinstance(action, Sweep):
            return await self._sweep(action.routes)
        route = _route_of(action.route, action.prefixes)
        target = _target_of(action) if isinstance(action, Attract) else None
        job = self._jobs.get(route)
        if job is not None and job.task is not None and not job.task.done():
            job.target = target
            return Outcome(state=OutcomeState.STARTED)
        if job is not None:
            del self._jobs[route]
            if job.task is not None and (fault := job.task.exception()) is not None:
                # Of ours: whoever drives us is to hear of it.
                raise fault
            if job.failure is not None and job.target == target:
                raise job.failure
        plan = await self._plan(route, target)
        if target is None:
            self._targets.pop(route, None)
        else:
            self._targets[route] = target
        if not plan.steps and not plan.housekeeping and not plan.obstacles:
            return DONE
        self._start(route, target)
        return Outcome(state=OutcomeState.STARTED)

    def _start(self, route: str, target: Target | None) -> None:
        job = self._jobs[route] = _Job(target)
        job.task = asyncio.create_task(self._run(route, job), name=f"gce {route}")

    async def _sweep(self, kept: frozenset[str]) -> Outcome:
        """
        Begin to take away what is of no route, where two complete looks have found it so.

        A list may lag behind what a predecessor has just made for a route that we have yet to hear of.
        """
        await self._book.refresh()
        look = self._book.complete_looks
        orphans = self._planner.routes(self._book.seen) - kept
        self._orphans = {route: self._orphans.get(route, look) for route in orphans}
        due = sorted(route for route, since in self._orphans.items() if since < look)
        for route in due:
            job = self._jobs.get(route)
            if job is None or job.task is None or job.task.done():
                self._targets.pop(route, None)
                self._start(route, None)
        return Outcome(state=OutcomeState.STARTED) if due else DONE

    # ------------------------------------------------------------ plans
    async def _plan(self, route: str, target: Target | None) -> Plan:
        await self._book.refresh()
        if target is None:
            return self._planner.withdraw(self._book.seen, route)
        await self._complete(target)
        return self._planner.attract(self._book.seen, target)

    async def _complete(self, target: Target) -> None:
        owned = self._planner.owned(self._book.seen, target.route)
        await self._book.complete(owned, target.attached, target.prefixes)

    async def _steps(self, seen: Seen, target: Target) -> tuple[Step, ...]:
        await self._complete(target)
        return self._planner.attract(seen, target).steps

    # ------------------------------------------------------------ jobs
    async def _run(self, route: str, job: _Job) -> None:
        try:
            await self._converge(route, job)
        except BackendError as error:
            job.failure = error

    async def _converge(self, route: str, job: _Job) -> None:
        stale = 0
        rejected: dict[Step, BackendError] = {}
        for _ in range(ROUNDS):
            target = job.target
            plan = await self._plan(route, target)
            if target is not None:
                self._targets[route] = target
            steps = plan.steps or plan.housekeeping
            if not steps and target == job.target:
                if plan.obstacles:
                    raise _error_of(plan.obstacles, route)
                return
            for step in steps:
                if step in rejected:
                    raise rejected[step]
            came = await asyncio.gather(*map(self._perform, steps))
            errors = [error for error in came if error is not None]
            if worst := _worst(errors):
                raise worst
            rejected |= {
                step: error for step, error in zip(steps, came, strict=True) if isinstance(error, RejectedError)
            }
            if errors:
                stale += 1
                if stale > STALE_TRIES:
                    raise errors[0]
                await self._sleep(STALE.delay(stale, route))
        raise UnavailableError("more to do than one job may", system=SYSTEM, operation="converge", target=route)

    async def _perform(self, step: Step) -> BackendError | None:
        """Carry out one step to its end, and look at what it changed; what went wrong is returned."""
        failure: BackendError | None = None
        try:
            operation = await self._operations.follow(await self._begin(step))
            failure = failure_of(operation, str(step.resource), self._clock.now())
        except BackendError as error:
            failure = error
        try:
            await self._book.look(step.resource)
            if failure is not None and step.resource.service is Service.RULES and isinstance(step, Insert):
                await self._book.look_at_address(str(step.body["IPAddress"]).partition("/")[0])
        except BackendError as error:
            failure = failure or error
        return failure

    async def _begin(self, step: Step) -> Any:
        request_id = str(uuid.uuid4())
        call = self._gate.call_pressing if isinstance(step, Patch) and step.is_move else self._gate.call
        for attempt in range(1, CALL_TRIES + 1):
            try:
                return await call(self._client.begin, step, request_id)
            except UnavailableError:
                if attempt == CALL_TRIES:
                    raise
                await self._sleep(FAILED.delay(attempt, request_id))
        raise AssertionError  # pragma: no cover - the loop above returns or raises


def _route_of(route: str, prefixes: Iterable[object]) -> str:
    """By what a route's resources are known; without a name, its prefixes are one."""
    return route or "+".join(sorted(map(str, prefixes)))


def _target_of(action: Attract) -> Target:
    return Target(
        route=_route_of(action.route, action.prefixes),
        leader=action.node_name,
        prefixes=action.prefixes,
        nodes=action.nodes,
        external=action.external,
        fast=action.mode is Mode.FAST,
        global_access=action.global_access,
    )


def _error_of(obstacles: tuple[Obstacle, ...], route: str) -> BackendError:
    said = "; ".join(each.message for each in obstacles)
    reason = next((each.reason for each in obstacles if each.reason), "")
    if not reason:
        return StaleError(said, system=SYSTEM, operation="attract", target=route)
    return RefusedError(said, reason=reason, system=SYSTEM, operation="attract", target=route)


def _worst(errors: list[BackendError]) -> BackendError | None:
    """The error that ends a job: of those that another look does not mend."""
    for kind in (ThrottledError, RefusedError, UnavailableError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return None


@asynccontextmanager
async def open_allocator(settings: ControllerSettings) -> AsyncIterator[GceAllocator]:
    """An allocator for the project that settings or the metadata server name; raises ConfigError."""
    from persistip.backends.gce.location import find_credentials, find_location  # noqa: PLC0415 - asks the network

    found = await asyncio.to_thread(find_location, settings.gce)
    credentials = await asyncio.to_thread(find_credentials, settings.gce)
    clock = SystemClock()
    client = ComputeClient(
        project=found.project,
        region=found.region,
        clock=clock,
        credentials=credentials,
        endpoint=settings.gce.endpoint,
    )
    try:
        async with GceAllocator(
            client,
            cluster=found.cluster,
            settings=settings.gce,
            resync_seconds=settings.cloud_resync_seconds,
            clock=clock,
        ) as allocator:
            yield allocator
    finally:
        client.close()
