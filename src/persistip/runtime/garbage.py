"""
When does a process look for garbage in cycles?

In: what tells that everything has been observed.  Out: a collector that rests until then and passes over all that is
there by then. Python looks through every object now and then; those of a large cluster take it a third of a second, in
which nothing else is done, and they are values without cycles, which end with the last reference to them.
For the process to do that is its own; a controller inside another program leaves the collector alone.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def collecting_after(observed: asyncio.Event) -> AsyncIterator[None]:
    """No collection before *observed*, and from then on none of what was there; as it was before, at the end."""

    async def spare() -> None:
        await observed.wait()
        gc.freeze()
        gc.enable()

    gc.disable()
    sparing = asyncio.create_task(spare())
    try:
        yield
    finally:
        sparing.cancel()
        gc.enable()
        gc.unfreeze()
