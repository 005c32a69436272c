"""
What does persistip make of objects, clocks and neighbours that it was not made for?

Whole controllers and agents on a real API server, as in test_reliability: after every test nothing is left over, and
nobody writes any more.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from programs import Program, until
from whole_system import (
    ATTACHMENTS,
    LEASE_SECONDS,
    MERGE,
    NODES,
    WRITES_OF_A_LIFE,
    WRITES_OF_A_MOVE,
    System,
    Tenancy,
    address,
    turn_over,
    writes,
)

from persistip.manifests import Parameters, render
from persistip.model.keys import attachment_name

pytestmark = pytest.mark.requires("apiserver")

DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/addressattachments.persistip.dev"
POLICIES = "/apis/admissionregistration.k8s.io/v1"
PATIENCE_SECONDS = 90
"""What is refused again and again is tried every thirty seconds."""
TRIES = 6
"""At once, and then after one second, two, four: what goes on for five seconds, and as long on a busy machine."""


# ---------------------------------------------------------------- clocks
def test_replicas_with_clocks_two_hours_apart_lead_in_turn(system: System, tenancy: Tenancy) -> None:
    """Neither takes a lease that is renewed, each moves what the other left, no epoch falls, nobody waits for hours."""
    tenancy.add_pod("nat-0", NODES[0], app="nat")
    tenancy.wait_next_second()
    tenancy.add_pod("nat-1", NODES[1], app="nat", ready=False)
    tenancy.add_route("nat", address(0))
    epochs: list[int] = []

    def settle(pod: str) -> None:
        system.settle(lambda: tenancy.is_held("nat", pod, address(0)), f"{pod} to hold")
        epochs.append(system.attachment(tenancy.name, "nat")["spec"]["epoch"])

    settle("nat-0")
    # Four moves; to lead costs nothing but the lease, and what each of two changes of leader cuts short is begun again.
    with system.writing_at_most((4 + 2) * WRITES_OF_A_MOVE):
        lead_in_turn(system, tenancy, settle)
    assert epochs == sorted(set(epochs))


def lead_in_turn(system: System, tenancy: Tenancy, settle: Callable[[str], None]) -> None:
    """Move to and fro while the one that is behind leads, then the one that is ahead, and the first again."""
    ordinary = list(system.controllers)
    for controller in ordinary:
        controller.end(signal.SIGTERM)
    damping = "--policy.damping-seconds=2"
    try:
        behind = system.add_controller("behind", damping, skew_seconds=-3600)
        system.settle(lambda: system.leading() is behind, "the one that is behind to lead")
        ahead = system.add_controller("ahead", damping, skew_seconds=3600)
        tenancy.set_ready("nat-1", ready=True)
        settle("nat-1")
        # By its own clock the lease has been out for two hours.
        time.sleep(2 * LEASE_SECONDS)
        assert system.leading() is behind
        behind.end(signal.SIGKILL)
        tenancy.set_ready("nat-1", ready=False)
        settle("nat-0")
        assert system.leading() is ahead
        behind.start()
        ahead.end(signal.SIGTERM)
        # The newer Pod was not Ready for a while; it takes the address back after two seconds, not after two hours.
        tenancy.set_ready("nat-1", ready=True)
        settle("nat-1")
        assert system.leading() is behind
    finally:
        for controller in system.controllers:
            controller.end(signal.SIGTERM)
        system.controllers[:] = ordinary
        system.revive()
    tenancy.set_ready("nat-1", ready=False)
    settle("nat-0")


# ---------------------------------------------------------------- edits and crowds
def test_route_edited_during_moves_has_what_it_asks_for_last(system: System, tenancy: Tenancy) -> None:
    """Whatever comes together, the last edit and the Pod that is Ready decide, and what was dropped is nowhere left."""
    chance = random.Random(7)
    (name,) = tenancy.pairs(1)
    # An edit costs what a move does, and the write that clears `pending`.
    with system.writing_at_most(10 * (WRITES_OF_A_MOVE + WRITES_OF_A_MOVE + 1)):
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
    began = time.monotonic()
    with system.plane.audited() as log:
        with ThreadPoolExecutor(8) as hands:
            made = [
                hands.submit(
                    tenancy.add_route, name, f"198.18.{number // 250}.{number % 250 + 1}", app=f"crowd{number % 3}"
                )
                for number, name in enumerate(names)
            ]
        for each in made:
            each.result()
        system.settle(lambda: ready_routes(tenancy) == count, f"{count} routes to be Ready", 30 + count / 4)
        system.settle(lambda: len(system.delivering()) == count, "kernels to deliver for all")
        # The server deletes one after the other, and gives up after a minute when there are many.
        until(lambda: system.plane.request("DELETE", tenancy.routes).is_success, "the routes to go", 30 + count / 4)
        system.settle(lambda: not standing(system), "all attachments to go", 30 + count / 4)
        seconds = time.monotonic() - began
    made_of = Counter(kind for _, kind, _ in writes(log))
    # Of the Gateway's status, which counts its routes, as many as one object may have: fifty, and then two a second.
    assert made_of.pop("gateways/status", 0) <= 52 + 2 * seconds
    assert made_of.total() / count <= WRITES_OF_A_LIFE, made_of
    tenancy.close()


def ready_routes(tenancy: Tenancy) -> int:
    """Return how many routes are Ready, and take a while: looking at a crowd is work for the server, too."""
    time.sleep(1)
    found = tenancy.system.ask("GET", tenancy.routes)["items"]
    return len([each for each in found if {"Ready"} <= reasons_of(each)])


def standing(system: System) -> dict[str, Any]:
    """Return the attachments, as slowly."""
    time.sleep(1)
    return system.attachments()


def reasons_of(route: dict) -> set[str]:
    """Return the reasons of a route's conditions."""
    return {each["reason"] for each in route.get("status", {}).get("conditions", ())}


def test_namespace_deleted_while_no_controller_runs_goes_and_its_addresses_after_it(system: System) -> None:
    """Nothing of ours holds a namespace back, and the controller that comes back takes the addresses away."""
    tenancy = Tenancy(system)
    (name,) = tenancy.pairs(1)
    for controller in system.controllers:
        controller.end()
    path = f"/api/v1/namespaces/{tenancy.name}"
    # What a route's life costs, of which this is the end, and the Gateway's status, which counts it.
    with system.writing_at_most(WRITES_OF_A_LIFE + 1):
        system.ask("DELETE", path)
        for turn in range(2):  # no kubelet is here to end them
            tenancy.remove_pod(f"{name}-{turn}")
        system.settle(lambda: system.find(path) is None, "the namespace to be gone")
        assert set(system.delivering()) == {address(0)}
        system.revive()
        system.settle(lambda: not system.attachments() and not system.leftovers(), "its addresses to be taken away")
    system.ask("DELETE", tenancy.gateway)


# ---------------------------------------------------------------- who refuses our writes
@contextmanager
def refusing(system: System, name: str) -> Iterator[None]:
    """Have an administrator's own policy refuse every change of one attachment."""
    rule = {
        "apiGroups": ["persistip.dev"],
        "apiVersions": ["*"],
        "resources": ["addressattachments"],
        "operations": ["UPDATE"],
    }
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": f"object.metadata.name != '{name}'", "message": "not on a Friday"}],
    }
    bound = {"policyName": "fridays", "validationActions": ["Deny"]}
    system.ask("POST", f"{POLICIES}/validatingadmissionpolicies", {"metadata": {"name": "fridays"}, "spec": spec})
    system.ask(
        "POST", f"{POLICIES}/validatingadmissionpolicybindings", {"metadata": {"name": "fridays"}, "spec": bound}
    )

    def answer() -> int:
        mark = {"metadata": {"annotations": {"example.com/mark": "x"}}}
        path = f"{ATTACHMENTS}/{name}?dryRun=All"
        return system.plane.request("PATCH", path, mark, content_type=MERGE).status

    try:
        until(lambda: answer() == 422, "the policy to be in force")
        yield
    finally:
        for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            system.ask("DELETE", f"{POLICIES}/{kind}/fridays")
        until(lambda: answer() == 200, "the policy to be lifted")


def test_write_that_is_refused_holds_up_its_own_route_alone(system: System, tenancy: Tenancy) -> None:
    """Others move as ever, the refused move is tried a few times and not in a storm, and it is made once it may be."""
    stuck, free = tenancy.pairs(2)
    name = attachment_name(tenancy.name, stuck)
    with refusing(system, name):
        with system.plane.audited() as log:
            for route in (stuck, free):
                turn_over(tenancy, route, 0)
            system.settle(lambda: tenancy.is_held(free, f"{free}-1", address(1)), "the other's move")
            time.sleep(5)
        assert system.attachment(tenancy.name, stuck)["spec"]["pod"]["name"] == f"{stuck}-0"
        assert 1 <= len([each for each in writes(log) if each[1:] == ("addressattachments", name)]) <= TRIES
    system.settle(lambda: tenancy.is_held(stuck, f"{stuck}-1", address(0)), "the refused move", PATIENCE_SECONDS)


# ---------------------------------------------------------------- objects of other versions
@contextmanager
def any_spec(system: System) -> Iterator[None]:
    """Let the definition of AddressAttachments allow any spec, as those of other versions would what is theirs."""
    ours = yaml.safe_load_all(render(Parameters(), ("crd-addressattachments.yaml",)))
    (proper,) = (each["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for each in ours)
    spec = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    loose = {field: value for field, value in proper.items() if field != "x-kubernetes-validations"}
    loose["properties"] = proper["properties"] | {"spec": spec}
    try:
        redefine(system, loose, is_loose=True)
        yield
    finally:
        redefine(system, proper, is_loose=False)


def redefine(system: System, schema: dict[str, Any], *, is_loose: bool) -> None:
    """Put another schema in place, and wait until the server keeps to it."""
    patch = [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]
    system.ask("PATCH", DEFINITION, patch, content_type="application/json-patch+json")
    body = {"apiVersion": "persistip.dev/v1alpha1", "kind": "AddressAttachment", "metadata": {"name": "x"}, "spec": {}}
    probe = f"{ATTACHMENTS}?dryRun=All"
    until(lambda: system.plane.request("POST", probe, body).is_success == is_loose, "the schema to be in force")


def rewrite(system: System, tenancy: Tenancy, route: str, **spec: Any) -> Any:
    """Write an attachment as another version would, under the next epoch; None takes a field away."""

    def written() -> Any:
        found = system.attachment(tenancy.name, route)
        wanted = found["spec"] | {"epoch": found["spec"]["epoch"] + 1} | spec
        found["spec"] = {field: value for field, value in wanted.items() if value is not None}
        answer = system.plane.request("PUT", f"{ATTACHMENTS}/{found['metadata']['name']}", found)
        # An agent may have reported in between.
        assert answer.is_success or answer.status == 409, answer.message
        return answer.body if answer.is_success else None

    return until(written, f"the attachment of {route} to be written")


def report(system: System, tenancy: Tenancy, route: str, **fields: Any) -> None:
    """Say of an attachment in the name of the holder's node what its agent would not."""
    found = system.attachment(tenancy.name, route)
    for entry in found["status"]["nodes"]:
        if entry["nodeName"] == found["spec"]["nodeName"]:
            entry.update(fields)
    system.ask("PUT", f"{ATTACHMENTS}/{found['metadata']['name']}/status", found)


def test_objects_of_other_versions_change_nothing_that_is_not_understood(system: System, tenancy: Tenancy) -> None:
    """Unknown modes are reported, unknown fields passed over, and what cannot be read leaves the kernel as it is."""
    routes = tenancy.pairs(4)
    # What stands instead is answered as a move would be, and so is its end.
    with system.writing_at_most(len(routes) * 2 * WRITES_OF_A_MOVE):
        meet_other_versions(tenancy, *routes)


def meet_other_versions(tenancy: Tenancy, future: str, past: str, broken: str, other: str) -> None:
    """Have attachments of other versions stand for a while, and look what becomes of them."""
    system = tenancy.system
    before = system.delivering()
    for controller in system.controllers:
        controller.end()
    with any_spec(system):
        asked = rewrite(system, tenancy, future, mode="teleport", gravity={"g": 9.81})
        old = rewrite(system, tenancy, past, network=None, podAddress=None, flows=None, releasing=None, surplus=[1])
        whole = rewrite(system, tenancy, broken)
        rewrite(system, tenancy, broken, pod="a string", nodeName=7)
        system.settle(lambda: reported(system, tenancy, future) == ("Unsupported", asked["spec"]["epoch"]), "its word")
        system.settle(lambda: reported(system, tenancy, past) == ("Programmed", old["spec"]["epoch"]), "defaults")
        assert system.delivering() == before
        name = attachment_name(tenancy.name, broken)
        holding = system.agents[whole["spec"]["nodeName"]]
        system.settle(lambda: unreadable(holding, name), "the agent to tell of what it cannot read")
        # The same to those who have never seen them otherwise; and to a controller, agents that are newer.
        for agent in system.agents.values():
            agent.end()
        report(system, tenancy, other, state="Hovering", mood="fine")
        for controller in system.controllers:
            controller.start()
        system.settle(lambda: tenancy.reasons(other)["DPV2Ready"] == "Programming", "an unknown state to be no success")
        system.settle(
            lambda: all(unreadable(each, name) for each in system.controllers), "controllers to tell the same"
        )
        system.revive()
        turn_over(tenancy, other, 0)
        system.settle(lambda: tenancy.is_held(other, f"{other}-1", address(3)), "a move beside them")
        system.settle(lambda: tenancy.is_held(future, f"{future}-0", address(0)), "what we understand again")
        system.settle(lambda: tenancy.is_held(past, f"{past}-0", address(1)), "the old one")
        assert system.delivering()[address(2)] == before[address(2)]
        rewrite(system, tenancy, broken, **whole["spec"])
        system.settle(lambda: tenancy.is_held(broken, f"{broken}-0", address(2)), "the broken one mended")


def unreadable(program: Program, name: str) -> bool:
    """Whether a process says of an attachment that it cannot read it, and which field is why."""
    return any(
        all(word in line for word in ("cannot read an object", f"AddressAttachment {name}", "spec.nodeName: "))
        for line in program.log.read_text().splitlines()
    )


def reported(system: System, tenancy: Tenancy, route: str) -> tuple[str, int]:
    """Return state and epoch as the holder's node says."""
    found = system.attachment(tenancy.name, route)
    (entry,) = [each for each in found["status"]["nodes"] if each["nodeName"] == found["spec"]["nodeName"]]
    return entry["state"], entry["epoch"]
