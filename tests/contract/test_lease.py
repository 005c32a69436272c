"""Does the memory store's lease keep the promises of Lease?"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from persistip.backends.memory import MemoryLease, MemoryStore
from persistip.strategies import Lease
from persistip.testing import LeaseContract, ManualClock


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Lease, Lease]]:
    """Give the same lease twice."""
    store = MemoryStore(ManualClock())
    yield MemoryLease(store, "persistip-system", "controller"), MemoryLease(store, "persistip-system", "controller")


class TestMemoryLease(LeaseContract):
    """In a store of this process."""

    def make(self) -> AbstractAsyncContextManager[tuple[Lease, Lease]]:
        """Give the pair."""
        return pair()
