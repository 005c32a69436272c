"""Do cluster and lease of the API server keep the promises of Cluster and Lease, on a real API server?"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from apiserver_world import empty_world
from controlplane import ControlPlane

from persistip.strategies import Lease
from persistip.testing import ClusterContract, ClusterWorld, LeaseContract

pytestmark = pytest.mark.requires("apiserver")


class TestApiServerCluster(ClusterContract):
    """Through a connection that can be cut."""

    @pytest.fixture(autouse=True)
    def _on(self, emptied_plane: ControlPlane) -> None:
        self.plane = emptied_plane

    def make(self) -> AbstractAsyncContextManager[ClusterWorld]:
        """Give the world."""
        return empty_world(self.plane)


@asynccontextmanager
async def pair(plane: ControlPlane) -> AsyncIterator[tuple[Lease, Lease]]:
    """Give the same lease twice, each through a client of its own."""
    async with empty_world(plane) as world:
        clusters = [await world.cluster().entered() for _ in range(2)]
        await world.must("DELETE", "/apis/coordination.k8s.io/v1/namespaces/default/leases")
        first, second = (cluster.lease("default", "persistip-controller") for cluster in clusters)
        yield first, second


class TestApiServerLease(LeaseContract):
    """In the namespace that every cluster has."""

    @pytest.fixture(autouse=True)
    def _on(self, emptied_plane: ControlPlane) -> None:
        self.plane = emptied_plane

    def make(self) -> AbstractAsyncContextManager[tuple[Lease, Lease]]:
        """Give the pair."""
        return pair(self.plane)
