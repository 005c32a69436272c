"""The Lease in an ObjectStore, with an API server's preconditions."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from persistip.backends.memory.errors import ConflictError, ExpiredError, NotFoundError
from persistip.backends.memory.store import ObjectStore
from persistip.strategies import LeaseRecord
from persistip.wire.leases import lease_from_record, lease_to_record

_KIND = "Lease"


class MemoryLease:
    """The Lease *name* in *namespace* of a store."""

    def __init__(self, store: ObjectStore, namespace: str, name: str) -> None:
        self._store, self._namespace, self._name = store, namespace, name

    async def read(self) -> LeaseRecord:
        """What stands now."""
        try:
            return lease_to_record(await self._store.get(_KIND, self._namespace, self._name))
        except NotFoundError:
            return LeaseRecord()

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Create the record, or replace the version that it names."""
        body = lease_from_record(record, self._namespace, self._name)
        if not record.version:
            return lease_to_record(await self._store.create(body))
        try:
            return lease_to_record(await self._store.update(body))
        except NotFoundError as error:
            raise ConflictError("the lease is gone", system="memory", operation="update", target=self._name) from error

    async def changed(self, version: str, seconds: float) -> None:
        """Return at the first change after *version*, or after *seconds*."""
        if not version:
            await asyncio.sleep(min(seconds, 1.0))
            return
        watch = self._store.watch(_KIND, resource_version=version, namespace=self._namespace)
        with suppress(TimeoutError, ExpiredError):
            async with asyncio.timeout(seconds):
                async for event in watch:
                    if event.object["metadata"]["name"] == self._name:
                        return
