"""
Is every mistake found that a client of Compute Engine is known to make?

A small client sets an address up, moves it, sweeps and takes it down again, with care. Each mistake is planted in it,
one by one, and has to show: as a refusal, as a misuse that the emulator remembers, or as packets that go astray.
"""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from compute_clients import Clients
from compute_steps import (
    FRESH,
    IN_REGION,
    NETWORK,
    PROJECT,
    URL,
    ZONE,
    Step,
    address,
    attach,
    delete,
    detach,
    group,
    leader,
    patch,
    rule,
    service,
)
from google.api_core.exceptions import GoogleAPICallError
from requests.exceptions import RequestException

from persistip.testing.compute_engine import ComputeEngine, DataPlane, Description, Instance, seed

pytestmark = pytest.mark.requires("gce")

MISTAKES = {
    "fingerprint dropped": r"Invalid fingerprint",
    "fingerprint kept over a write": r"Invalid fingerprint",
    "partial URL of a group": r"whole URL",
    "draining forgotten": r"must be 0 with haPolicy",
    "network on standard external": r"has one with fast IP move only",
    "service made before its endpoints": r"is not attached",
    "not waited for": r"is not ready",
    "insert without _unary": r"googleapis\.com",
    "error of the operation skipped": r"packets go to \['node-a'\]",
    "service deleted before its rule": r"already being used by",
    "partial list trusted": r"packets go to \[\]",
    "requestId used again": r"was used for another request",
    "lost reply tried again with another requestId": r"already exists",
    "attached without a look": r"attached already",
    "leader detached": r"is a leader",
    "address of another taken": r"in-use and would result in a conflict",
}


class ClientFailedError(Exception):
    """The client was refused, or what it left behind is wrong."""


@attrs.define
class SmallClient:
    """Sets an address up, moves it, sweeps and takes it down; *mistake* is the one thing that it does wrong."""

    clients: Clients
    mistake: str = ""
    key: str = attrs.field(factory=lambda: str(uuid.uuid4()))

    def does(self, mistake: str) -> bool:
        """Whether that is the mistake."""
        assert mistake in MISTAKES
        return self.mistake == mistake

    def call(self, step: Step) -> None:
        """Carry out a step to its end; one whose connection broke is asked for again, as the same request."""
        key = self.key if self.does("requestId used again") else str(uuid.uuid4())
        try:
            operation = self.clients.begin(step, request_id=key)
        except RequestException:
            again = str(uuid.uuid4()) if self.does("lost reply tried again with another requestId") else key
            operation = self.clients.begin(step, request_id=again)
        if self.does("not waited for"):
            return
        operation = self.clients.finish(operation)
        if operation.error.errors and not self.does("error of the operation skipped"):
            if operation.error.errors[0].code != "INTERNAL_ERROR":
                raise ClientFailedError(operation.error.errors[0].message)
            self.call(step)

    def set_up(self) -> None:
        """From the group to the rule, each with what it rests on there before."""
        fields: dict[str, Any] = {}
        if self.does("partial URL of a group"):
            fields["backends"] = [{"group": f"projects/{PROJECT}/zones/{ZONE}/networkEndpointGroups/nodes"}]
        if self.does("draining forgotten"):
            fields["connectionDraining"] = None
        if self.does("network on standard external"):
            fields["network"] = NETWORK
        steps = [group(), attach("node-a"), service(**fields), rule(name="mine")]
        if self.does("service made before its endpoints"):
            steps = [steps[0], steps[2], steps[1], steps[3]]
        if self.does("address of another taken"):
            steps[3] = rule(name="mine", IPAddress="theirs")
        for step in steps[:-1]:
            self.call(step)
        if self.does("insert without _unary"):
            insert = self.clients.of("forwardingRules").insert
            insert(self.clients.request_of(steps[-1]), retry=None).result(timeout=5, retry=None)
            return
        self.call(steps[-1])

    def move(self) -> None:
        """Attach the new node where it is missing, then let it lead."""
        there = self.attached()
        for node in ("node-a", "second"):
            if node not in there or self.does("attached without a look"):
                self.call(attach(node))
        if self.does("leader detached"):
            self.call(detach("node-a"))
        lock = FRESH
        if self.does("fingerprint kept over a write"):
            lock = self.clients.get("regionBackendServices", "service").fingerprint
            self.call(patch("regionBackendServices", "service", description="moves"))
        fields: dict[str, Any] = {"haPolicy": {"leader": leader("second")}, "fingerprint": lock}
        step = patch("regionBackendServices", "service", **fields)
        if self.does("fingerprint dropped"):
            step = Step(method=step.method, name=step.name, body={"haPolicy": fields["haPolicy"]})
        self.call(step)

    def let_go(self) -> None:
        """Detach the node that does not lead any more."""
        self.call(detach("node-a"))

    def attached(self) -> set[str]:
        """Return the nodes in the group."""
        step = Step(method="networkEndpointGroups.listNetworkEndpoints", name="nodes", body={})
        listed = self.clients.of(step.service).list_network_endpoints(self.clients.request_of(step), retry=None)
        return {each.network_endpoint.instance.rpartition("/")[2] for each in listed}

    def sweep(self) -> None:
        """Delete the rule if its group is gone; decide nothing when a scope was not reached."""
        pager = self.clients.of("networkEndpointGroups").aggregated_list({"project": PROJECT}, retry=None)
        names, missed = set(), False
        for page in pager.pages:
            missed = missed or bool(page.unreachables)
            names |= {each.name for scoped in page.items.values() for each in scoped.network_endpoint_groups}
        if "nodes" not in names and (not missed or self.does("partial list trusted")):
            self.call(delete("forwardingRules", "mine"))

    def take_down(self) -> None:
        """In the reverse order, each when nothing rests on it any more."""
        kinds = {"forwardingRules": "mine", "regionBackendServices": "service", "networkEndpointGroups": "nodes"}
        order = list(kinds)
        if self.does("service deleted before its rule"):
            order = [order[1], order[0], order[2]]
        for kind in order:
            self.call(delete(kind, kinds[kind]))


@pytest.fixture
def engine(engine: ComputeEngine) -> ComputeEngine:
    """Return the emulator with another node, an address of ours and one that somebody else uses."""
    seed(engine, Description(subnetworks=(), instances=(Instance(name="second", zone=ZONE),)))
    return engine


@pytest.fixture
def foreign(clients: Clients) -> Iterator[None]:
    """Set up what another user has, and see that it is left alone."""
    backends = [{"group": f"{URL}/zones/{ZONE}/networkEndpointGroups/theirs"}]
    clients.do_all(
        address(),
        address(name="theirs"),
        group(name="theirs"),
        attach("node-a", name="theirs"),
        service(name="theirs", backends=backends, haPolicy={"leader": leader(name="theirs")}),
        rule(name="theirs", IPAddress="theirs", backendService=f"{IN_REGION}/backendServices/theirs"),
    )
    yield
    assert clients.get("addresses", "theirs").users == [f"{IN_REGION}/forwardingRules/theirs"]


def life(client: SmallClient, engine: ComputeEngine, plane: DataPlane) -> None:
    """Lead a client through its life, with a lost reply, a failed operation and an unreachable zone on the way."""
    ip = client.clients.get("addresses", "address").address
    engine.faults.add("lost-reply", "networkEndpointGroups.insert")
    client.set_up()
    expect(plane, ip, "node-a")
    engine.faults.add("done-with-error", "regionBackendServices.patch")
    client.move()
    expect(plane, ip, "second")
    client.let_go()
    engine.faults.add("unreachable", "networkEndpointGroups.aggregatedList", scope=f"zones/{ZONE}")
    client.sweep()
    expect(plane, ip, "second")
    client.take_down()
    expect(plane, ip)


def expect(plane: DataPlane, ip: str, *nodes: str) -> None:
    """Raise ClientFailedError where packets go elsewhere."""
    if (found := sorted(plane.holder(ip))) != sorted(nodes):
        raise ClientFailedError(f"packets go to {found}")


@pytest.mark.usefixtures("foreign")
def test_client_without_mistake_does_its_work(clients: Clients, engine: ComputeEngine, plane: DataPlane) -> None:
    """The careful client gets through everything and leaves nothing behind."""
    life(SmallClient(clients), engine, plane)
    for kind in ("forwardingRules", "backendServices", "networkEndpointGroups"):
        assert [link.name for link, _ in engine.state.all_of(kind)] == ["theirs"]


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_mistake_of_a_client_shows(
    mistake: str, clients: Clients, engine: ComputeEngine, plane: DataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same client with one mistake does not get through, and what stops it says why."""
    # Whoever asks another host than the emulator is turned away on this machine.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises((ClientFailedError, GoogleAPICallError, RequestException)) as failed:
        life(SmallClient(clients, mistake), engine, plane)
    assert re.search(MISTAKES[mistake], str(failed.value)), str(failed.value)
    assert bool(engine.misuses) == (mistake == "requestId used again")
    engine.misuses.clear()
