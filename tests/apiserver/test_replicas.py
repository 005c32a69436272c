"""
Does one of two replicas lead, whatever happens to them and to their connections?

Two whole controllers, each a process with the shipped rights, on a real API server: one that is stopped hands over, one
that is cut off is followed, and what it had under way comes too late.
"""

import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest
from audit import AuditLog, permission
from cables import Cable, cable
from history import history, version_of
from programs import Program, until
from whole_system import (
    ATTACHMENTS,
    LEASE,
    NODES,
    WRITES_OF_A_MOVE,
    System,
    Tenancy,
    address,
    by_us,
    turn_over,
)

pytestmark = pytest.mark.requires("apiserver")

LEASES, _, LEASE_NAME = LEASE.rpartition("/")
HAND_OVER = timedelta(seconds=1)
"""What docs/how-to/install-on-a-cluster.md promises; a replica that waited for its next try would take a minute."""


@pytest.fixture
def alone(system: System) -> Iterator[System]:
    """Return the system without its controllers, which come back afterwards."""
    ordinary, election = list(system.controllers), system.election
    for controller in ordinary:
        controller.end(signal.SIGTERM)
    system.controllers.clear()
    try:
        yield system
    finally:
        for controller in system.controllers:
            controller.end(signal.SIGTERM)
        system.plane.request("DELETE", LEASE)  # a test that failed may have left it taken
        system.controllers[:], system.election = ordinary, election
        system.revive()
        system.wait_led()


# ---------------------------------------------------------------- a stop
def test_stopped_replica_hands_over_by_giving_its_lease_back(alone: System) -> None:
    """At SIGTERM the lease, which would have lasted for an hour, is given back, and taken within a second."""
    alone.election = ("--election.lease-seconds=3600", "--election.renew-seconds=1800", "--election.retry-seconds=60")
    for name in ("first", "second"):
        alone.add_controller(name)
    before = alone.wait_led()
    leading = until(alone.leading, "the one that leads")
    until(lambda: all("observed everything" in each.log.read_text() for each in alone.controllers), "both to be ready")
    since = version_of(alone.plane, LEASES)
    leading.end(signal.SIGTERM)
    alone.settle(lambda: alone.leader() not in ("", before), "the other to lead")
    chosen = {"fieldSelector": f"metadata.name%3D{LEASE_NAME}"}
    leases = [each["spec"] for each in history(alone.plane, LEASES, since, **chosen)]
    released, taken = [each for each in leases if each.get("holderIdentity") != before][:2]
    assert "holderIdentity" not in released, "given back before anybody took it"
    assert taken["holderIdentity"] == alone.leader()
    assert taken["leaseTransitions"] == released["leaseTransitions"] + 1
    # As the two wrote it down, on one clock.
    given_at, taken_at = (datetime.fromisoformat(each) for each in (released["renewTime"], taken["acquireTime"]))
    assert taken["acquireTime"] == taken["renewTime"]
    assert timedelta() <= taken_at - given_at < HAND_OVER


# ---------------------------------------------------------------- cuts
def test_replicas_under_a_flapping_api_never_grant_twice_and_late_writes_are_refused(alone: System) -> None:
    """Each epoch has one holder, whom no other node confirms, a deposed leader's writes meet 409, and all settles."""
    chance = random.Random(11)
    with ExitStack() as stack:
        servers = zip(NODES, alone.plane.servers, strict=False)
        cables = {node: stack.enter_context(cable(server.port)) for node, server in servers}
        replicas = {
            alone.add_controller(f"at-{node}", node=node, url=each.url).name: node for node, each in cables.items()
        }
        alone.wait_led()
        tenancy = Tenancy(alone)
        routes = tenancy.pairs(3)
        since = version_of(alone.plane, ATTACHMENTS)
        # A write whose answer is lost, or that comes too late, is made once more.
        with alone.writing_at_most(6 * len(routes) * 2 * WRITES_OF_A_MOVE):
            for turn in range(6):
                if turn % 2:
                    flap(tenancy, routes, turn, list(cables.values()), chance)
                else:
                    depose(tenancy, routes, turn, cables, replicas)
                for number, name in enumerate(routes):
                    pod = f"{name}-{(turn + 1) % 2}"
                    alone.settle(lambda r=name, p=pod, n=number: tenancy.is_held(r, p, address(n)), f"{name} at {pod}")
        assert_one_holder_each(history(alone.plane, ATTACHMENTS, since))
        tenancy.close()
        for controller in alone.controllers:
            controller.end(signal.SIGTERM)


def flap(tenancy: Tenancy, routes: list[str], turn: int, cables: list[Cable], chance: random.Random) -> None:
    """Move every route while the connections of both replicas break again and again."""
    for name in chance.sample(routes, len(routes)):
        turn_over(tenancy, name, turn)
        for each in chance.sample(cables, len(cables)):
            each.cut()
            time.sleep(chance.uniform(0, 0.3))


def depose(
    tenancy: Tenancy, routes: list[str], turn: int, cables: Mapping[str, Cable], replicas: Mapping[str, str]
) -> None:
    """
    Hold what the leader asks, among it the moves that it decides now, until the other leads and has made them.

    Then what was held arrives, and has to be refused.
    """
    system = tenancy.system
    leading: Program = until(system.leading, "a leader that runs")
    before, node = system.leader(), replicas[leading.name]
    held = cables[node]
    held.hold_requests()
    with system.plane.audited() as log, ExitStack() as stack:
        stack.callback(held.let_requests_pass)
        for name in routes:
            turn_over(tenancy, name, turn)
        system.settle(lambda: system.leader() not in ("", before), "the other to lead")
        for name in routes:
            system.settle(
                lambda r=name: system.attachment(tenancy.name, r)["spec"]["pod"]["name"] == f"{r}-{(turn + 1) % 2}",
                f"the other to move {name}",
            )
        assert late_writes(log, node) == []
        stack.close()
        system.settle(lambda: late_writes(log, node), "what was held to be refused")


def late_writes(log: AuditLog, node: str) -> list[str]:
    """Return the attachments that the replica on *node* would have replaced: another version stood there by then."""
    return [
        event["objectRef"]["name"]
        for event in by_us(log)
        if permission(event) == ("update", "persistip.dev", "addressattachments")
        and event["responseStatus"]["code"] == 409
        and event["user"]["extra"].get("authentication.kubernetes.io/node-name") == [node]
    ]


def assert_one_holder_each(versions: list[Mapping[str, Any]]) -> None:
    """Every epoch of an attachment has one holder and no node but its own confirms it, and no epoch ever falls."""
    holders: dict[tuple[str, int], set[str]] = {}
    epochs: dict[str, list[int]] = {}
    for each in versions:
        uid, spec = each["metadata"]["uid"], each["spec"]
        holders.setdefault((uid, spec["epoch"]), set()).add(spec.get("pod", {}).get("uid", ""))
        epochs.setdefault(uid, []).append(spec["epoch"])
        confirmed = {
            entry["nodeName"] for entry in each.get("status", {}).get("nodes", ())
            if (entry["epoch"], entry["state"]) == (spec["epoch"], "Programmed")
        }  # fmt: skip
        assert confirmed <= {spec.get("nodeName")}, each
    assert {key: found for key, found in holders.items() if len(found) > 1} == {}
    assert [found for found in epochs.values() if found != sorted(found)] == []
    assert len(holders) > len(epochs), "nothing has moved"
