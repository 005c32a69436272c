"""One cluster of real nodes for all tests of this folder that leave it as they found it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from realcluster.cluster import Cluster
    from realcluster.stage import Stage


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that scenarios which last do so for as long as it takes."""
    parser.getgroup("cluster").addoption("--long", action="store_true", help="scenarios on real nodes last longer")


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    """Return the session's cluster; what uses it is marked requires("cluster")."""
    from realcluster.cluster import Cluster  # noqa: PLC0415

    with Cluster() as made:
        yield made


@pytest.fixture(scope="session")
def stage(cluster: "Cluster", request: pytest.FixtureRequest) -> "Iterator[Stage]":
    """Return the session's cluster with persistip installed and the examples at work."""
    from realcluster.stage import Stage  # noqa: PLC0415

    with Stage(cluster, is_long=request.config.getoption("--long")) as made:
        yield made
