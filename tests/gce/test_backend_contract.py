"""Does the allocator gce keep the promises of AddressAllocator, on the emulator and under the judge?"""

from collections.abc import Iterator

import pytest
from compute_backend import EXTERNAL, OTHER, Project, project

from persistip.strategies import AddressAllocator
from persistip.testing.allocator_contract import AllocatorContract

pytestmark = pytest.mark.requires("gce")


class TestGceAllocator(AllocatorContract):
    """A cluster's allocator is known by the cluster."""

    prefixes = EXTERNAL
    others = OTHER

    @pytest.fixture(autouse=True)
    def cloud(self) -> Iterator[None]:
        """Start each test on a project in which nothing of ours is."""
        with project() as made:
            self.project: Project = made
            yield

    def make(self, owner: str) -> AddressAllocator:
        """Make one of a cluster's."""
        return self.project.allocator(owner)
