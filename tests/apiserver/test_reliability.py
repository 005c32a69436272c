"""
What does persistip live through on a real API server?

Whole controllers and agents, each a process with the shipped rights. After every test the state is the one that the
rules give, nothing is left over in cluster or kernels, and nobody writes any more.
"""

import random
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from audit import AuditLog, permission
from cables import cable
from history import version_of
from programs import until
from whole_system import (
    AGENT,
    ATTACHMENTS,
    NODES,
    USERS,
    WRITES,
    WRITES_OF_A_LIFE,
    WRITES_OF_A_MOVE,
    System,
    Tenancy,
    address,
    by_us,
    turn_over,
    writes,
)

from persistip.settings import AgentSettings

pytestmark = pytest.mark.requires("apiserver")


WRITES_OF_A_KILL = 20
"""Of ten routes that move at once, each written twice more; mostly far fewer."""


# ---------------------------------------------------------------- our own ends
def test_killed_at_random_moments_of_moves_loses_nothing(
    system: System, tenancy: Tenancy, request: pytest.FixtureRequest
) -> None:
    """Whoever is killed in the middle of moves, the leader too, goes on when started again; moves end by the rules."""
    chance = random.Random(request.config.getoption("--seed-of-kills"))
    routes = tenancy.pairs(10)
    rounds = request.config.getoption("--moves") // len(routes)
    with system.plane.audited() as log:
        live_through_kills(tenancy, routes, rounds, chance)
    # Eight a move, and what a kill leaves half done is begun again.
    assert len(writes(log)) <= WRITES_OF_A_MOVE * rounds * len(routes) + WRITES_OF_A_KILL * rounds


def live_through_kills(tenancy: Tenancy, routes: list[str], rounds: int, chance: random.Random) -> None:
    """Kill somebody in each round of moves, the leader in each third, and see every move come to its end."""
    system, epochs = tenancy.system, dict.fromkeys(routes, 0)
    cut_short: list[str] = []
    for turn in range(rounds):
        is_leaders_turn, begun = turn % 3 == 0, []
        victim = until(system.leading, "a leader that runs") if is_leaders_turn else chance.choice(system.programs)
        killing = threading.Timer(chance.uniform(0, 0.3), victim.end, (signal.SIGKILL,))
        for name in chance.sample(routes, len(routes)):
            turn_over(tenancy, name, turn)
            begun += [name] if victim.is_running else []
            if not killing.ident:
                killing.start()
        killing.join()
        if is_leaders_turn:
            # Its Pods had turned when the leader was killed, and until the other leads nobody ends it.
            cut_short += [name for name in begun if not is_at(tenancy, routes, name, turn)]
        system.revive()
        for name in routes:
            system.settle(lambda r=name, t=turn: is_at(tenancy, routes, r, t), f"the end of {name}'s move")
            epoch = system.attachment(tenancy.name, name)["spec"]["epoch"]
            assert epoch > epochs[name]
            epochs[name] = epoch
    assert cut_short, "no leader was killed between the beginning and the end of a move"


def is_at(tenancy: Tenancy, routes: list[str], name: str, turn: int) -> bool:
    """Whether the move of that turn has come to its end."""
    return tenancy.is_held(name, f"{name}-{(turn + 1) % 2}", address(routes.index(name)))


# ---------------------------------------------------------------- nothing happens
def test_quiet_cluster_writes_its_lease_alone(system: System, tenancy: Tenancy) -> None:
    """With routes held and nothing to do, through a look of every agent at its kernel, the lease alone is written."""
    tenancy.pairs(3)
    system.wait_quiet()
    with system.plane.audited() as log:
        time.sleep(AgentSettings().resync_seconds + 10)
    assert all(each.is_running for each in system.programs)
    made = {(event["verb"], event["objectRef"]["resource"]) for event in by_us(log) if event["verb"] in WRITES}
    assert made == {("update", "leases")}


# ---------------------------------------------------------------- the API's ends
def test_api_server_gone_and_back_finds_all_as_it_has_become(
    system: System, tenancy: Tenancy, request: pytest.FixtureRequest
) -> None:
    """Kernels deliver while it is away; what changed meanwhile is done afterwards."""
    routes = tenancy.pairs(3)
    before = system.delivering()
    server, _ = system.plane.servers
    with system.writing_at_most(WRITES_OF_WHAT_CHANGED):
        server.kill()
        change(tenancy, *routes)
        gone_until = time.monotonic() + request.config.getoption("--outage")
        while time.monotonic() < gone_until:
            assert system.delivering() == before
            time.sleep(0.2)
        server.start(wait=False)
        until(lambda: answers(system), "the server to be back", 150)
        # For a moment it lets nobody in: it has not read yet who may do what.
        settle_changed(tenancy, *routes)


TRIES = 6
"""At once, and then after one second, two, four and so on: as long as the server lets nobody in, or is not there."""
WRITES_OF_WHAT_CHANGED = WRITES_OF_A_MOVE + WRITES_OF_A_LIFE + 2 + 3 * TRIES
"""
A move, the end of one route's life and the beginning of another's, and the Gateway's status, which counts them; of each
of the three routes one write that is refused for a while.
"""


def change(tenancy: Tenancy, moved: str, dropped: str, _: str) -> None:
    """Have one route move, and another take the place of one that goes."""
    turn_over(tenancy, moved, 0)
    tenancy.remove_route(dropped)
    tenancy.add_route("new", address(1), app=dropped)


def settle_changed(tenancy: Tenancy, moved: str, dropped: str, quiet: str) -> None:
    """See that all of it is done, and the third route as it was."""
    system = tenancy.system
    system.settle(lambda: tenancy.is_held(moved, f"{moved}-1", address(0)), "what came due")
    system.settle(lambda: tenancy.is_held("new", f"{dropped}-0", address(1)), "the new route")
    assert tenancy.is_held(quiet, f"{quiet}-0", address(2))
    assert system.attachment(tenancy.name, dropped) is None


def test_history_compacted_behind_held_connections_is_made_up_by_lists(system: System, tenancy: Tenancy) -> None:
    """Controllers and agents that resume from a version that is gone are told so (410), list, and do what came due."""
    routes = tenancy.pairs(3)
    before = system.delivering()
    first, fresh = system.plane.servers
    with cable(first.port) as held, system.reached_at(held.url):
        system.wait_led()
        held_routes = [(r, f"{r}-0", address(n)) for n, r in enumerate(routes)]
        system.settle(lambda: all(tenancy.is_held(*each) for each in held_routes), "all to be as before")
        held.hold()
        change(tenancy, *routes)
        forgotten = int(version_of(system.plane, ATTACHMENTS))
        system.plane.compact()
        # What it remembers of history begins now.
        fresh.kill()
        fresh.start()
        until(lambda: system.plane.request("GET", ATTACHMENTS, server=fresh).is_success, "attachments to be served")
        assert system.delivering() == before
        with system.writing_at_most(WRITES_OF_WHAT_CHANGED), system.plane.audited() as log:
            held.redirect(fresh.port)
            settle_changed(tenancy, *routes)
        resumed = [each for each in watches(log) if version_asked(each) < forgotten]
        assert {node_of(each) for each in resumed if each["user"]["username"] == USERS[AGENT]} == set(NODES)
        assert {each["user"]["username"] for each in resumed} == set(USERS.values())
        # The log does not tell what was said within a watch: so who else resumes from there is told.
        for version in {version_asked(each) for each in resumed}:
            path = f"{ATTACHMENTS}?watch=true&resourceVersion={version}&timeoutSeconds=1"
            told = system.plane.request("GET", path, server=fresh).body
            assert (told["type"], told["object"]["code"]) == ("ERROR", 410)


def watches(log: AuditLog) -> list[Mapping[str, Any]]:
    """Return the watches of attachments that ours have begun."""
    return [
        event
        for event in by_us(log)
        if permission(event) == ("watch", "persistip.dev", "addressattachments") and event["stage"] == "ResponseStarted"
    ]


def version_asked(event: Mapping[str, Any]) -> int:
    """Return the version from which a watch was to begin."""
    return int(parse_qs(urlsplit(event["requestURI"]).query)["resourceVersion"][0])


def node_of(event: Mapping[str, Any]) -> str:
    """Return the node of the Pod that asked."""
    (node,) = event["user"]["extra"]["authentication.kubernetes.io/node-name"]
    return str(node)


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
