"""
What does persistip live through on a real API server?

Whole controllers and agents, each a process with the shipped rights. After every test the state is the one that the
rules give, nothing is left over in cluster or kernels, and nobody writes any more.
"""

import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from controlplane import ControlPlane
from programs import until
from whole_system import NODES, System, Tenancy, writes

pytestmark = pytest.mark.requires("apiserver")


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Return a control plane of this module's own, whose servers come and go."""
    with ControlPlane(servers=2) as running:
        running.install_persistip()
        running.start_controllers("namespace")
        yield running


@pytest.fixture(scope="module")
def whole(plane: ControlPlane) -> Iterator[System]:
    """Return all of persistip on it."""
    system = System(plane)
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


def pairs(tenancy: Tenancy, count: int) -> list[str]:
    """Make routes with two Pods each on different nodes, of which the first is Ready; wait until all are held."""
    names = [f"nat{number}" for number in range(count)]
    for number, name in enumerate(names):
        for turn in range(2):
            tenancy.add_pod(f"{name}-{turn}", NODES[(number + turn) % len(NODES)], app=name, ready=turn == 0)
        tenancy.add_route(name, address(number))
    for number, name in enumerate(names):
        tenancy.system.settle(lambda n=number, r=name: tenancy.is_held(r, f"{r}-0", address(n)), f"{name} to be held")
    return names


def address(number: int) -> str:
    """Return the address of a route by its number."""
    return f"203.0.113.{number + 1}"


def turn_over(tenancy: Tenancy, name: str, turn: int) -> None:
    """Let the Pod that holds become unready, and the other Ready."""
    tenancy.set_ready(f"{name}-{(turn + 1) % 2}", ready=True)
    tenancy.set_ready(f"{name}-{turn % 2}", ready=False)


# ---------------------------------------------------------------- our own ends
def test_killed_at_random_moments_of_moves_loses_nothing(
    system: System, tenancy: Tenancy, request: pytest.FixtureRequest
) -> None:
    """Whoever is killed in the middle of moves and started again goes on; every move ends as the rules say."""
    chance = random.Random(request.config.getoption("--seed-of-kills"))
    routes = pairs(tenancy, 10)
    epochs = dict.fromkeys(routes, 0)
    for turn in range(request.config.getoption("--moves") // len(routes)):
        killing = threading.Timer(chance.uniform(0, 0.3), chance.choice(system.programs).end, (signal.SIGKILL,))
        killing.start()
        for name in chance.sample(routes, len(routes)):
            turn_over(tenancy, name, turn)
        killing.join()
        system.revive()
        for number, name in enumerate(routes):
            new = f"{name}-{(turn + 1) % 2}"
            system.settle(lambda r=name, p=new, n=number: tenancy.is_held(r, p, address(n)), f"{name} at {new}")
            epoch = system.attachment(tenancy.name, name)["spec"]["epoch"]
            assert epoch > epochs[name]
            epochs[name] = epoch


# ---------------------------------------------------------------- the API's ends
@pytest.mark.parametrize("forgets", [False, True], ids=["resumed", "expired"])
def test_api_server_gone_and_back_finds_all_as_it_has_become(
    system: System, tenancy: Tenancy, request: pytest.FixtureRequest, *, forgets: bool
) -> None:
    """Kernels deliver while it is away; what changed meanwhile is done afterwards, also when history was compacted."""
    moved, dropped, quiet = pairs(tenancy, 3)
    before = system.delivering()
    server, _ = system.plane.servers
    server.kill()
    turn_over(tenancy, moved, 0)
    tenancy.remove_route(dropped)
    tenancy.add_route("new", address(1), app=dropped)
    if forgets:
        system.plane.compact()
    gone_until = time.monotonic() + request.config.getoption("--outage")
    while time.monotonic() < gone_until:
        assert system.delivering() == before
        time.sleep(0.2)
    server.start(wait=False)
    until(lambda: answers(system), "the server to be back", 150)
    # For a moment it lets nobody in: it has not read yet who may do what.
    system.settle(lambda: tenancy.is_held(moved, f"{moved}-1", address(0)), "what came due")
    system.settle(lambda: tenancy.is_held("new", f"{dropped}-0", address(1)), "the new route")
    assert tenancy.is_held(quiet, f"{quiet}-0", address(2))
    assert system.attachment(tenancy.name, dropped) is None


def answers(system: System) -> bool:
    """Whether the first server serves again."""
    try:
        return system.plane.request("GET", "/readyz", server=system.plane.servers[0]).is_success
    except OSError:
        return False


# ---------------------------------------------------------------- others who write
def test_rival_who_undoes_our_status_again_and_again_makes_no_storm(system: System, tenancy: Tenancy) -> None:
    """Against another writer who answers each write of ours there is a limit, and its end is the end of it."""
    (name,) = pairs(tenancy, 1)
    path = f"{tenancy.routes}/{name}/status"
    undone = 0

    def is_undone_often() -> bool:
        nonlocal undone
        found = system.find(f"{tenancy.routes}/{name}")
        for each in found["status"]["conditions"]:
            if each["type"] == "Ready" and each["reason"] != "Undone":
                each |= {"status": "False", "reason": "Undone"}
                undone += system.plane.request("PUT", path, found).is_success
        # Fifty at once, and then two a second.
        return undone >= 56

    began = time.monotonic()
    with system.plane.audited() as log:
        system.settle(is_undone_often, "the rival to have enough", 40)
        seconds = time.monotonic() - began
    told = [each for each in writes(log) if each[1] == "gkeiproutes/status" and each[2] == name]
    assert 50 < len(told) <= 52 + 2 * seconds
    system.settle(lambda: tenancy.is_held(name, f"{name}-0", address(0)), "the truth")
