"""
What is known of the project, and how fresh is that?

In: lists of everything under names of ours, single looks after our own changes.  Out: ``Seen``, for the rules. A whole
look costs a few lists, whatever the number of routes; between two of them a route costs calls only when it is changed.
What a list says of a resource that was looked at by itself since the list began is older, and not taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from persistip.backends.gce.client import ComputeClient
from persistip.backends.gce.gate import Gate
from persistip.backends.gce.plan import Seen, singles, value_of
from persistip.backends.gce.resources import Body, Instance, Owner, Resource, Service
from persistip.errors import StaleError
from persistip.model.address import Prefix

LISTED = (Service.RULES, Service.SERVICES, Service.GROUPS, Service.FIREWALLS, Service.ADDRESSES)


class Book:
    """What one cluster has in a project."""

    def __init__(self, client: ComputeClient, gate: Gate, owner: Owner, resync_seconds: float) -> None:
        self._client = client
        self._gate = gate
        self._filter = f"name eq '{owner.prefix}.*'"
        self._resync_seconds = resync_seconds
        self._resources: dict[Resource, Body] = {}
        self._endpoints: dict[Resource, frozenset[str]] = {}
        self._instances: dict[str, Instance | None] = {}
        self._addresses: dict[str, Body | None] = {}
        self._due: set[Resource | str] = set()
        """What is known and old: looked at again before anything rests on it; groups stand for their endpoints."""
        self._looked_at: dict[Resource, int] = {}
        self._looks = 0
        self._fresh_until: float | None = None
        self._lock = asyncio.Lock()
        self.complete_looks = 0
        """How often everything has been listed, and no scope was missed."""

    @property
    def seen(self) -> Seen:
        """All that is known now."""
        return Seen(
            resources=self._resources,
            endpoints=self._endpoints,
            instances=self._instances,
            addresses=self._addresses,
        )

    async def refresh(self) -> None:
        """Look at everything, unless that was done lately; raises BackendError, and then knows what it knew."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            if self._fresh_until is not None and loop.time() < self._fresh_until:
                return
            began = self._looks
            lists = await asyncio.gather(
                *(self._gate.call(self._client.list, service, self._filter) for service in LISTED)
            )
            found = {resource: body for each in lists for resource, body in each}
            newer = {resource for resource, look in self._looked_at.items() if look > began}
            kept = {resource: body for resource, body in self._resources.items() if resource in newer}
            self._resources = {**{each: body for each, body in found.items() if each not in newer}, **kept}
            self._endpoints = {group: names for group, names in self._endpoints.items() if group in self._resources}
            # Kept until they have been looked at again: a plan may be under way that rests on them.
            self._due = {*(self._endpoints.keys() - newer), *self._instances, *self._addresses}
            self._looked_at = {each: look for each, look in self._looked_at.items() if each in newer}
            self._fresh_until = loop.time() + self._resync_seconds
            self.complete_looks += 1

    async def look(self, resource: Resource) -> None:
        """Look at one resource, and at its endpoints if it is a group."""
        body = await self._gate.call(self._client.get, resource)
        self._looks += 1
        self._looked_at[resource] = self._looks
        if body is None:
            self._resources.pop(resource, None)
            self._endpoints.pop(resource, None)
        else:
            self._resources[resource] = body
        if body is not None and resource.service is Service.GROUPS:
            await self._look_at_endpoints(resource)

    async def look_at_address(self, value: str) -> None:
        """Look at the reserved address with that value."""
        found = await self._gate.call(self._client.addresses, value)
        self._due.discard(value)
        self._addresses[value] = found

    async def complete(self, owned: Iterable[Resource], nodes: Iterable[str], prefixes: Iterable[Prefix]) -> None:
        """Look at what a plan needs and lists do not tell: endpoints, machines, the user's own addresses."""
        groups = [each for each in owned if each.service is Service.GROUPS and self._is_due(each, self._endpoints)]
        values = {value_of(single) for single in singles(prefixes)}
        await asyncio.gather(
            *(self._look_at_endpoints(group) for group in groups),
            *(self._look_at_instance(name) for name in nodes if self._is_due(name, self._instances)),
            *(self.look_at_address(value) for value in values if self._is_due(value, self._addresses)),
        )

    def _is_due(self, key: Resource | str, known: Mapping[Any, object]) -> bool:
        return key in self._due or known.get(key) is None

    async def _look_at_endpoints(self, group: Resource) -> None:
        try:
            found = await self._gate.call(self._client.endpoints, group)
        except StaleError:
            # Gone since it was listed.
            self._resources.pop(group, None)
            self._endpoints.pop(group, None)
            return
        self._due.discard(group)
        self._endpoints[group] = found

    async def _look_at_instance(self, name: str) -> None:
        found = await self._gate.call(self._client.instance, name)
        self._due.discard(name)
        self._instances[name] = found
