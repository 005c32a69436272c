"""
What does persistip live through on a real API server?

Whole controllers and agents, each a process with the shipped rights. After every test the state is the one that the
rules give, nothing is left over in cluster or kernels, and nobody writes any more.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from controlplane import ControlPlane
from whole_system import MERGE, NODES, System, Tenancy, refused, writes

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
    """Return it with everything running; afterwards nobody was forbidden anything, and all is quiet."""
    whole.revive()
    whole.wait_led()
    with whole.plane.audited() as log:
        yield whole
        whole.wait_quiet()
    assert refused(log) == []


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
    """Kernels deliver while it is away, and what changed meanwhile is done afterwards, also when history was compacted."""
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
    server.start()
    system.settle(lambda: tenancy.is_held(moved, f"{moved}-1", address(0)), "what came due")
    system.settle(lambda: tenancy.is_held("new", f"{dropped}-0", address(1)), "the new route")
    assert tenancy.is_held(quiet, f"{quiet}-0", address(2))
    assert system.attachment(tenancy.name, dropped) is None


# ---------------------------------------------------------------- others who write
def test_rival_who_undoes_our_status_again_and_again_makes_no_storm(system: System, tenancy: Tenancy) -> None:
    """Against another writer who answers each write of ours there is a limit, and its end is the end of it."""
    (name,) = pairs(tenancy, 1)
    path = f"{tenancy.routes}/{name}/status"
    began = time.monotonic()
    undone = 0
    with system.plane.audited() as log:
        # Fewer than a hundred in ten seconds: fifty at once, and then two a second.
        while undone < 60:
            found = system.find(f"{tenancy.routes}/{name}")
            for each in found["status"]["conditions"]:
                if each["type"] == "Ready" and each["reason"] != "Undone":
                    each |= {"status": "False", "reason": "Undone"}
                    undone += system.plane.request("PUT", path, found).is_success
        seconds = time.monotonic() - began
    told = [each for each in writes(log) if each[1] == "gkeiproutes/status" and each[2] == name]
    assert 50 < len(told) <= 52 + 2 * seconds
    system.settle(lambda: tenancy.is_held(name, f"{name}-0", address(0)), "the truth")


def test_route_edited_during_moves_has_what_it_asks_for_last(system: System, tenancy: Tenancy) -> None:
    """Whatever comes together, the last edit and the Pod that is Ready decide, and what was dropped is nowhere left."""
    chance = random.Random(7)
    (name,) = pairs(tenancy, 1)
    for turn in range(10):
        acts: list[Callable[[], None]] = [
            lambda: turn_over(tenancy, name, turn),  # noqa: B023 - called within the turn
            lambda: tenancy.edit_route(name, addresses=wanted(turn)),  # noqa: B023
        ]
        chance.shuffle(acts)
        for act in acts:
            act()
            time.sleep(chance.choice((0.0, 0.02, 0.1)))
    last = [each["value"] for each in wanted(9)]
    system.settle(lambda: tenancy.is_held(name, f"{name}-0", *last), "the last edit at the last Pod")
    system.settle(lambda: set(system.delivering()) == set(last), "what was dropped to be gone")


def wanted(turn: int) -> list[dict[str, str]]:
    """Return two addresses, of which each turn drops one and gains another."""
    return [{"type": "IPAddress", "value": address(turn % 4 + shift)} for shift in range(2)]


def test_many_routes_made_and_deleted_at_once_leave_nothing(system: System, request: pytest.FixtureRequest) -> None:
    """A crowd of routes is granted and taken back in one go, at a bounded number of writes for each."""
    count = request.config.getoption("--routes")
    tenancy = Tenancy(system)
    names = [f"many{number}" for number in range(count)]
    system.allow("203.0.113.0/24", "198.18.0.0/15")
    pool = {"spec": {"addresses": [{"type": "gke.networking.io/cidr", "value": "198.18.0.0/16"}]}}
    system.ask("PATCH", tenancy.gateway, pool, content_type=MERGE)
    for number in range(3):
        tenancy.add_pod(f"crowd-{number}", NODES[number], app=f"crowd{number}")
    with system.plane.audited() as log:
        with ThreadPoolExecutor(8) as hands:
            for number, name in enumerate(names):
                where = f"198.18.{number // 250}.{number % 250 + 1}"
                hands.submit(tenancy.add_route, name, where, app=f"crowd{number % 3}")
        system.settle(lambda: ready_routes(tenancy) == count, f"{count} routes to be Ready", 30 + count / 4)
        system.settle(lambda: len(system.delivering()) == count, "kernels to deliver for all")
        system.ask("DELETE", tenancy.routes)
        system.settle(lambda: not system.attachments(), "all attachments to go", 30 + count / 4)
    per_route = len([each for each in writes(log) if each[1] != "gateways/status"]) / count
    assert per_route <= WRITES_OF_A_LIFE
    tenancy.close()


# Created, its addresses cleared of `pending`, drained, finalizer off, deleted; three reports of the route; three or four
# of agents; two Events.
WRITES_OF_A_LIFE = 16


def ready_routes(tenancy: Tenancy) -> int:
    """Return how many routes are Ready."""
    found = tenancy.system.ask("GET", tenancy.routes)["items"]
    return len([each for each in found if {"Ready"} <= reasons_of(each)])


def reasons_of(route: dict) -> set[str]:
    """Return the reasons of a route's conditions."""
    return {each["reason"] for each in route.get("status", {}).get("conditions", ())}


def test_namespace_deleted_while_no_controller_runs_goes_and_its_addresses_after_it(system: System) -> None:
    """Nothing of ours holds a namespace back, and the controller that comes back takes the addresses away."""
    tenancy = Tenancy(system)
    (name,) = pairs(tenancy, 1)
    for controller in system.controllers:
        controller.end()
    path = f"/api/v1/namespaces/{tenancy.name}"
    system.ask("DELETE", path)
    for turn in range(2):  # no kubelet is here to end them
        tenancy.remove_pod(f"{name}-{turn}")
    system.settle(lambda: system.find(path) is None, "the namespace to be gone")
    assert set(system.delivering()) == {address(0)}
    system.revive()
    system.settle(lambda: not system.attachments() and not system.leftovers(), "its addresses to be taken away")
    system.ask("DELETE", tenancy.gateway)
