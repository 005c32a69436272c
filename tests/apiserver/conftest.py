"""Control planes that several tests share."""

from collections.abc import Iterator

import pytest
from controlplane import ControlPlane
from whole_system import System, Tenancy


@pytest.fixture(scope="session")
def working_plane() -> Iterator[ControlPlane]:
    """Return a control plane with controllers, a scheduler, persistip and two Nodes, one of them tainted."""
    with ControlPlane() as plane:
        plane.start_workloads()
        plane.add_node("node-a")
        plane.add_node("node-b")
        taint = {"spec": {"taints": [{"key": "dedicated", "value": "yes", "effect": "NoSchedule"}]}}
        plane.must("PATCH", "/api/v1/nodes/node-b", taint, content_type="application/merge-patch+json")
        plane.install_persistip(namespace="addresses", image="registry.example/persistip:1")
        yield plane


@pytest.fixture(scope="session")
def emptied_plane() -> Iterator[ControlPlane]:
    """Return a control plane for tests that begin by deleting everything: others would miss what is installed."""
    with ControlPlane() as plane:
        plane.install_persistip()
        yield plane


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the heavier counts."""
    group = parser.getgroup("persistip on an API server")
    group.addoption("--moves", type=int, default=100, help="moves during which processes are killed")
    group.addoption("--seed-of-kills", type=int, default=1, help="who is killed, and when")
    group.addoption("--outage", type=float, default=6.0, help="seconds for which an API server is gone")
    group.addoption("--routes", type=int, default=200, help="routes that are made and deleted in one go")


@pytest.fixture(scope="session")
def restless_plane() -> Iterator[ControlPlane]:
    """Return a control plane of two servers, which come and go, and with a controller that ends namespaces."""
    with ControlPlane(servers=2) as plane:
        plane.install_persistip()
        plane.start_controllers("namespace")
        yield plane


@pytest.fixture(scope="session")
def whole(restless_plane: ControlPlane) -> Iterator[System]:
    """Return all of persistip on it."""
    system = System(restless_plane)
    try:
        system.start()
        yield system
    finally:
        system.close()


@pytest.fixture
def system(whole: System) -> Iterator[System]:
    """Return it with everything running; afterwards all is quiet."""
    whole.revive()
    whole.wait_led()
    yield whole
    whole.wait_quiet()


@pytest.fixture
def tenancy(system: System) -> Iterator[Tenancy]:
    """Return a tenant's namespace, of which nothing is left afterwards."""
    made = Tenancy(system)
    yield made
    made.close()
