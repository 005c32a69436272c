"""Does the emulator come to what a small model comes to, whatever is called in whatever order?"""

import json
from typing import Any

import compute_needed  # noqa: F401 - every answer is judged
import pytest
from compute_judge import Judge
from compute_model import ACTIVE_SECONDS, Model
from compute_steps import (
    FRESH,
    NETWORK,
    NOUNS,
    Step,
    address,
    attach,
    delete,
    detach,
    fast,
    group,
    group_url,
    leader,
    patch,
    rule,
    service,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from hypothesis.stateful import rule as step

from persistip.testing import ManualClock
from persistip.testing.compute_engine import ComputeEngine, DataPlane, Description, Instance, Request, seed

ZONES = ("europe-west4-a", "europe-west4-b")
NODES = {"node-a": ZONES[0], "node-b": ZONES[0], "node-c": ZONES[1]}
NAMES, WHICH, NODE, ZONE = (st.sampled_from(each) for each in (("one", "two"), ("one", "two"), sorted(NODES), ZONES))
LEADERS = st.sampled_from([(zone, node) for node, zone in NODES.items()]) | st.tuples(ZONE, NODE)


class Calls(RuleBasedStateMachine):
    """Random calls come to the same in the emulator and in the model, and packets go where the model says."""

    @initialize(chosen=st.integers(0, 2**16), is_built=st.booleans())
    def begin(self, chosen: int, is_built: bool) -> None:
        """Start with three nodes in two zones, and with nothing else or with an address that leads to one of them."""
        self.clock = ManualClock()
        self.engine = ComputeEngine(clock=self.clock, latency="assumed", zones=ZONES, seed=chosen)
        seed(self.engine, Description(instances=tuple(Instance(name=name, zone=zone) for name, zone in NODES.items())))
        self.plane = DataPlane(self.engine.state, self.clock)
        self.model = Model(zones=dict(NODES))
        self.judge = Judge()
        if is_built:
            self.insert_address("one")
            for node, zone in NODES.items():
                self.insert_group(zone)
                self.attach(zone, node)
            self.insert_service("one", True, list(ZONES), (ZONES[0], "node-a"))
            self.insert_rule("one", "one", "one")

    # ------------------------------------------------------------ how a step is carried out
    def send(self, http: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one request past the judge."""
        data = b"" if body is None else json.dumps(body).encode()
        target = f"/compute/v1/{path}"
        method = self.judge.request(http, target, data)
        reply = self.engine.answer(Request(http=http, target=target, body=data))
        assert method is not None
        self.judge.answer(method, reply.status, reply.content_type, reply.body)
        answered: dict[str, Any] = reply.json()
        return answered

    def do(self, asked: Step) -> str:
        """Carry out a step, let its operation end, and return what it came to."""
        scope = f"zones/{asked.zone}" if "zone" in asked.where else f"regions/{asked.where['region']}"
        collection = asked.service.removeprefix("region").replace("BackendServices", "backendServices")
        path = f"projects/{asked.where['project']}/{scope}/{collection}"
        body = dict(asked.body or {})
        if body.get("fingerprint") == FRESH:
            body["fingerprint"] = self.send("GET", f"{path}/{asked.name}").get("fingerprint", "bm9uZQ==")
        verbs = {
            "insert": ("POST", path),
            "delete": ("DELETE", f"{path}/{asked.name}"),
            "patch": ("PATCH", f"{path}/{asked.name}"),
        }
        http, where = verbs.get(asked.verb, ("POST", f"{path}/{asked.name}/{asked.verb}"))
        answered = self.send(http, where, body if asked.verb != "delete" else None)
        if "error" in answered:
            return str(answered["error"]["errors"][0]["reason"])
        self.clock.advance(30)
        self.engine.settle()
        operation = f"projects/{asked.where['project']}/{scope}/operations/{answered['name']}"
        self.send("GET", operation)
        ended = self.send("GET", operation)
        return str(ended["error"]["errors"][0]["code"]) if "error" in ended else str(ended["status"])

    def ip(self, name: str) -> str:
        """Return an address's value; one of nobody's where it is not reserved."""
        found = (body["address"] for link, body in self.engine.state.all_of("addresses") if link.name == name)
        return next(found, "192.0.2.255")

    # ------------------------------------------------------------ calls
    @step(name=NAMES)
    def insert_address(self, name: str) -> None:
        """Reserve an address."""
        assert self.do(address(name=name)) == self.model.insert_address(name)

    @step(name=NAMES)
    def delete_address(self, name: str) -> None:
        """Give an address back."""
        assert self.do(delete("addresses", name)) == self.model.delete_address(name)

    @step(zone=ZONE)
    def insert_group(self, zone: str) -> None:
        """Make a group."""
        assert self.do(group(zone=zone)) == self.model.insert_group(zone)

    @step(zone=ZONE)
    def delete_group(self, zone: str) -> None:
        """Delete a group."""
        step = Step(method="networkEndpointGroups.delete", name="nodes", zone=zone)
        assert self.do(step) == self.model.delete_group(zone)

    @step(zone=ZONE, node=NODE)
    def attach(self, zone: str, node: str) -> None:
        """Attach a node, of this zone or another."""
        assert self.do(attach(node, zone=zone)) == self.model.attach(zone, node)

    @step(zone=ZONE, node=NODE)
    def detach(self, zone: str, node: str) -> None:
        """Detach a node."""
        assert self.do(detach(node, zone=zone)) == self.model.detach(zone, node)

    @step(name=NAMES, is_fast=st.booleans(), zones=st.lists(ZONE, unique=True, max_size=2), leads=st.none() | LEADERS)
    def insert_service(self, name: str, is_fast: bool, zones: list[str], leads: tuple[str, str] | None) -> None:
        """Make a service."""
        policy = {"fastIPMove": "GARP_RA" if is_fast else "DISABLED", **self.leading(leads)}
        backends = [{"group": group_url(zone=zone)} for zone in zones]
        made = fast if is_fast else service
        came = self.do(made(name=name, haPolicy=policy, backends=backends, network=NETWORK if is_fast else None))
        assert came == self.model.insert_service(name, fast=is_fast, groups=zones, leader=leads)

    @step(name=NAMES, leads=LEADERS)
    def move(self, name: str, leads: tuple[str, str]) -> None:
        """Let another lead."""
        came = self.do(patch("regionBackendServices", name, haPolicy=self.leading(leads)))
        assert came == self.model.move(name, leads)

    @step(name=NAMES)
    def delete_service(self, name: str) -> None:
        """Delete a service."""
        assert self.do(delete("regionBackendServices", name)) == self.model.delete_service(name)

    @step(name=NAMES, of=WHICH, to=WHICH)
    def insert_rule(self, name: str, of: str, to: str) -> None:
        """Make a rule."""
        came = self.do(rule(name=name, IPAddress=of, backendService=to))
        assert came == self.model.insert_rule(name, of, to)

    @step(name=NAMES)
    def delete_rule(self, name: str) -> None:
        """Delete a rule."""
        assert self.do(delete("forwardingRules", name)) == self.model.delete_rule(name)

    @step(node=NODE, name=NAMES)
    def send_frame(self, node: str, name: str) -> None:
        """Let a node say that it has an address."""
        assert self.plane.garp(node, self.ip(name)) == self.model.frame(node, name, self.clock.now())

    @step(seconds=st.sampled_from([0.5, 2.0, 3.0, 60.0, ACTIVE_SECONDS]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @staticmethod
    def leading(leads: tuple[str, str] | None) -> dict[str, Any]:
        """Return the part of a policy that names the leader."""
        return {} if leads is None else {"leader": leader(leads[1], zone=leads[0])}

    # ------------------------------------------------------------ what always holds
    @invariant()
    def packets_go_where_the_model_says(self) -> None:
        """Every address leads to the same nodes in both."""
        if hasattr(self, "model"):
            for name in ("one", "two"):
                now = self.clock.now()
                expected = self.model.holder(name, now) if name in self.model.addresses else set()
                assert self.plane.holder(self.ip(name)) == expected

    @invariant()
    def nothing_is_left_under_way(self) -> None:
        """Every operation has ended, and what is there is what the model has; the judge has no complaint."""
        if hasattr(self, "model"):
            assert self.engine.operations.running == []
            assert self.judge.faults == []
            names = {
                service: {link.name for link, _ in self.engine.state.all_of(of)} for service, of in COLLECTIONS.items()
            }
            assert names["addresses"] == self.model.addresses
            assert names["regionBackendServices"] == self.model.services.keys()
            assert names["forwardingRules"] == self.model.rules.keys()


COLLECTIONS = {
    each: each.replace("regionB", "b")
    for each in NOUNS
    if each in ("addresses", "regionBackendServices", "forwardingRules")
}


class TestCalls(Calls.TestCase):  # type: ignore[misc,valid-type]
    """Random calls come to the same in the emulator and in the model, and packets go where the model says."""

    settings = settings(stateful_step_count=40, max_examples=settings.default.max_examples // 2)


pytestmark = pytest.mark.requires("gce")
