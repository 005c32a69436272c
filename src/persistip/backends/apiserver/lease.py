"""The Lease of coordination.k8s.io, with its version as the precondition of every write."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing, suppress

import msgspec

from persistip.backends.apiserver.client import Client
from persistip.backends.apiserver.errors import ConflictError, ExpiredError, NotFoundError
from persistip.backends.apiserver.served import object_path
from persistip.strategies import LeaseRecord
from persistip.wire.kinds import RESOURCES
from persistip.wire.leases import lease_from_record, lease_to_record

_ANSWER_SECONDS = 5.0


class ApiServerLease:
    """The Lease *name* in *namespace*, reached by an entered *client*."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        resource = RESOURCES["Lease"]
        self._client, self._namespace, self._name = client, namespace, name
        self._collection = object_path(resource.api_version, resource.plural, namespace)
        self._path = f"{self._collection}/{name}"

    async def read(self) -> LeaseRecord:
        """What stands now."""
        try:
            found = await self._client.request("GET", self._path, timeout_seconds=_ANSWER_SECONDS)
        except NotFoundError:
            return LeaseRecord()
        return lease_to_record(msgspec.json.decode(found))

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Create the record, or replace the version that it names."""
        method, path = ("PUT", self._path) if record.version else ("POST", self._collection)
        body = lease_from_record(record, self._namespace, self._name)
        try:
            written = await self._client.request(method, path, body=body, timeout_seconds=_ANSWER_SECONDS)
        except NotFoundError as error:
            # Gone, or the namespace is: in both cases not what was looked at.
            raise ConflictError(str(error), system=error.system, operation=method, target=path) from error
        return lease_to_record(msgspec.json.decode(written))

    async def changed(self, version: str, seconds: float) -> None:
        """Return at the first change after *version*, or after *seconds*."""
        if not version:
            await asyncio.sleep(min(seconds, 1.0))
            return
        parameters = {
            "watch": "true",
            "fieldSelector": f"metadata.name={self._name}",
            "resourceVersion": version,
            "timeoutSeconds": str(max(math.ceil(seconds), 1)),
        }
        with suppress(TimeoutError, ExpiredError):
            async with (
                asyncio.timeout(seconds),
                aclosing(self._client.lines(self._collection, parameters=parameters, silence_seconds=60.0)) as batches,
            ):
                async for lines in batches:
                    if lines:
                        return
