"""
What does persistip live through on a real API server?

Whole controllers and agents, each a process with the shipped rights. After every test the state is the one that the
rules give, nothing is left over in cluster or kernels, and nobody writes any more.
"""

import random
import signal
import threading
import time

import pytest
from programs import until
from whole_system import System, Tenancy, address, turn_over, writes

pytestmark = pytest.mark.requires("apiserver")


WRITES_OF_A_KILL = 20
"""Of ten routes that move at once, each written twice more; mostly far fewer."""


# ---------------------------------------------------------------- our own ends
def test_killed_at_random_moments_of_moves_loses_nothing(
    system: System, tenancy: Tenancy, request: pytest.FixtureRequest
) -> None:
    """Whoever is killed in the middle of moves and started again goes on; every move ends as the rules say."""
    chance = random.Random(request.config.getoption("--seed-of-kills"))
    routes = tenancy.pairs(10)
    rounds = request.config.getoption("--moves") // len(routes)
    with system.plane.audited() as log:
        live_through_kills(tenancy, routes, rounds, chance)
    # Eight a move, and what a kill leaves half done is begun again.
    assert len(writes(log)) <= 8 * rounds * len(routes) + WRITES_OF_A_KILL * rounds


def live_through_kills(tenancy: Tenancy, routes: list[str], rounds: int, chance: random.Random) -> None:
    """Kill somebody in each round of moves, and see every move come to its end."""
    system, epochs = tenancy.system, dict.fromkeys(routes, 0)
    for turn in range(rounds):
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
    moved, dropped, quiet = tenancy.pairs(3)
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
    (name,) = tenancy.pairs(1)
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
