"""Does the memory cluster keep the promises of Cluster, in one process and through a socket?"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from persistip.backends.memory import (
    AlreadyExistsError,
    MemoryCluster,
    MemoryStore,
    ObjectStore,
    RemoteStore,
    StoreServer,
)
from persistip.testing import ClusterContract, ClusterWorld, ManualClock, seed


class MemoryWorld:
    """A store as users and the cluster see it; *seen* is what the cluster under test works on."""

    def __init__(self, store: MemoryStore, seen: ObjectStore) -> None:
        self.store, self.seen = store, seen

    def cluster(self, *, node_name: str | None = None) -> MemoryCluster:
        """Return a controller's or an agent's cluster."""
        return MemoryCluster(self.seen, node_name=node_name)

    async def put(self, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create, or change spec and status."""
        try:
            return (await seed(self.store, obj))[0]
        except AlreadyExistsError:
            bare = {key: value for key, value in obj["metadata"].items() if key not in ("uid", "resourceVersion")}
            await self.store.update({**obj, "metadata": bare})
            return await self.store.update({**obj, "metadata": bare}, subresource="status")

    async def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete."""
        await self.store.delete(kind, namespace, name)

    async def interrupt(self) -> None:
        """Close every watch and forget the history, the worst that a server does."""
        self.store.compact()
        self.store.break_watches()


@asynccontextmanager
async def in_process() -> AsyncIterator[ClusterWorld]:
    """Give a world around a store in this process."""
    store = MemoryStore(ManualClock())
    yield MemoryWorld(store, store)


@asynccontextmanager
async def through_a_socket() -> AsyncIterator[ClusterWorld]:
    """Give a world whose cluster reaches the store through a socket."""
    store = MemoryStore(ManualClock())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.sock"
        async with StoreServer(store, path), RemoteStore(path) as remote:
            yield MemoryWorld(store, remote)


class TestMemoryCluster(ClusterContract):
    """On a store in the same process."""

    def make(self) -> AbstractAsyncContextManager[ClusterWorld]:
        """Give the world."""
        return in_process()


class TestMemoryClusterThroughASocket(ClusterContract):
    """On a store in another process, as a lab's agents have it."""

    def make(self) -> AbstractAsyncContextManager[ClusterWorld]:
        """Give the world."""
        return through_a_socket()
