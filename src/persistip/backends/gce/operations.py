"""
How do we hear that the service has finished?

In: an operation that runs.  Out: the same when it has ended. A few are waited for one by one, which tells at once; when
there are more, all of a scope are told by one list a second, so that a hundred moves do not wait for each other's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from persistip.backends.gce.client import ComputeClient, Operation
from persistip.backends.gce.errors import unavailable
from persistip.backends.gce.gate import Gate
from persistip.errors import BackendError

WAITS = 4
"""Operations that are waited for one by one."""
TRIES = 5
"""How often a wait that ends without the operation's end is begun again: ten minutes."""
LISTS = 600
LIST_SECONDS = 1.0


class Operations:
    """Follows the operations of one client."""

    def __init__(self, client: ComputeClient, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._client = client
        self._gate = Gate(at_a_time=WAITS, sleep=sleep)
        self._waits = 0
        self._sleep = sleep
        self._listed: dict[str, dict[str, asyncio.Future[Operation]]] = {}
        self._listers: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Follow nothing any more."""
        for lister in self._listers.values():
            lister.cancel()
        await asyncio.gather(*self._listers.values(), return_exceptions=True)
        self._gate.close()

    async def follow(self, operation: Operation) -> Operation:
        """The operation when it has ended; raises BackendError when that is not to be learned."""
        if operation.is_done:
            return operation
        if self._waits < WAITS:
            self._waits += 1
            try:
                for _ in range(TRIES):
                    operation = await self._gate.call(self._client.wait, operation)
                    if operation.is_done:
                        return operation
            finally:
                self._waits -= 1
            raise unavailable("it runs and runs", operation="wait", target=operation.name)
        future: asyncio.Future[Operation] = asyncio.get_running_loop().create_future()
        self._listed.setdefault(operation.scope, {})[operation.name] = future
        lister = self._listers.get(operation.scope)
        if lister is None or lister.done():
            self._listers[operation.scope] = asyncio.create_task(self._list(operation.scope))
        return await future

    async def _list(self, scope: str) -> None:
        """List the operations of a scope until none is waited for; whatever goes wrong is told to all who wait."""
        waiting = self._listed[scope]
        counts: dict[str, int] = {}
        while waiting:
            try:
                found = await self._gate.call(self._client.operations, scope)
            except BackendError as error:
                for future in waiting.values():
                    if not future.done():
                        future.set_exception(error)
                waiting.clear()
                return
            for name, future in list(waiting.items()):
                counts[name] = counts.get(name, 0) + 1
                if future.done():
                    del waiting[name]
                elif name in found and found[name].is_done:
                    future.set_result(found[name])
                    del waiting[name]
                elif counts[name] > LISTS:
                    future.set_exception(unavailable("it runs and runs", operation="list", target=name))
                    del waiting[name]
            if waiting:
                await self._sleep(LIST_SECONDS)
