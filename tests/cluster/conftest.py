"""One cluster of real nodes for all tests of this folder that leave it as they found it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from realcluster.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    """Return the session's cluster; what uses it is marked requires("cluster")."""
    from realcluster.cluster import Cluster  # noqa: PLC0415

    with Cluster() as made:
        yield made
