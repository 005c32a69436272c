"""Are the shipped rights what the parts need: enough for all they do, and nothing they never use?"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
from audit import AuditLog
from controlplane import ControlPlane
from rights import Right, asked, granted
from whole_system import (
    AGENT,
    ATTACHMENTS,
    CONTROLLER,
    GATEWAY_API,
    MERGE,
    SYSTEM,
    USERS,
    System,
    Tenancy,
    by_us,
    refused,
)

from persistip.manifests import Parameters, build
from persistip.model.keys import attachment_name

pytestmark = pytest.mark.requires("apiserver")

NAT, LATE = "203.0.113.9", "203.0.113.10"
GET_ATTACHMENT = ("get", "persistip.dev", "addressattachments")
FORGET = ("update", "persistip.dev", "addressattachments/status")


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """Return a control plane of the test's own: all that was ever asked of it is in its audit log."""
    with ControlPlane() as running:
        running.install_persistip()
        yield running


def used(log: AuditLog, account: str) -> set[Right]:
    """Return what a ServiceAccount has asked for so far."""
    return {asked(event) for event in by_us(log) if event["user"]["username"] == USERS[account]}


def kinds_used(log: AuditLog, account: str) -> set[tuple[str, str, str]]:
    """Return the same without where, and under which names."""
    return {each[:3] for each in used(log, account)}


def unused(rights: set[Right], requests: set[Right]) -> list[Right]:
    """Return the rights that no request needed."""
    return sorted(right for right in rights if not any(right.allows(each) for each in requests))


def unfounded(rights: set[Right], requests: set[Right]) -> list[Right]:
    """Return the requests that no right allows."""
    return sorted(each for each in requests if not any(right.allows(each) for right in rights))


def live(system: System, log: AuditLog) -> None:
    """Let a cluster live through everything that needs a right."""
    tenancy = Tenancy(system)
    for name, node in (("nat-0", "node-a"), ("nat-1", "node-b"), ("nat-2", "node-c")):
        tenancy.add_pod(name, node, app="nat", ready=name == "nat-0")
    tenancy.add_route("nat", NAT)
    system.settle(lambda: tenancy.is_held("nat", "nat-0", NAT), "the first grant")
    move_among_writers(system, tenancy, log)
    tenancy.add_pod("late-0", "node-b", app="late")
    tenancy.add_route("late", NAT)
    system.settle(lambda: tenancy.reasons("late").get("Ready") == "AddressConflict", "a conflict")
    refuse_twice(system, tenancy)
    tenancy.remove_route("nat")
    system.settle(lambda: system.attachment(tenancy.name, "nat") is None, "the first route's end")
    lead_over(system)
    # A holder's node goes without a word, and no controller saw it go.
    for controller in system.controllers:
        controller.end()
    system.lose_node("node-b")
    system.revive()
    tenancy.add_pod("late-1", "node-c", app="late")
    system.settle(lambda: tenancy.is_held("late", "late-1", LATE), "the node's loss to be known")
    tenancy.close()
    system.settle(lambda: not class_finalizers(system), "the class to be free")


@contextmanager
def marked_by_others(system: System, path: str) -> Iterator[None]:
    """Let somebody else write an object again and again: each mark is another version."""
    done = threading.Event()

    def mark() -> None:
        while not done.is_set():
            annotations = {"example.com/mark": f"{time.monotonic_ns()}"}
            system.ask("PATCH", path, {"metadata": {"annotations": annotations}}, content_type=MERGE)

    marking = threading.Thread(target=mark)
    marking.start()
    try:
        yield
    finally:
        done.set()
        marking.join()


def move_among_writers(system: System, tenancy: Tenancy, log: AuditLog) -> None:
    """Move to and fro until a report came too late for once, and an entry of a former holder was cleared."""
    path = f"{ATTACHMENTS}/{attachment_name(tenancy.name, 'nat')}"
    missing = {GET_ATTACHMENT, FORGET}
    for turn in range(40):
        old, new = f"nat-{turn % 3}", f"nat-{(turn + 1) % 3}"
        # Among writers the controller clears nothing, since something always comes between.
        with marked_by_others(system, path) if turn % 2 else nullcontext():
            tenancy.set_ready(new, ready=True)
            tenancy.set_ready(old, ready=False)
            system.settle(lambda new=new: tenancy.is_held("nat", new, NAT), f"move {turn}")
        missing -= kinds_used(log, AGENT) | kinds_used(log, CONTROLLER)
        if not missing:
            return
    raise AssertionError(f"in forty moves nobody had to {missing}")


def refuse_twice(system: System, tenancy: Tenancy) -> None:
    """Let the same be said twice of a route, which makes a series of an Event; the other route has its turn."""
    for turn in range(2):
        tenancy.edit_route("nat", addresses=[{"type": "IPAddress", "value": "198.51.100.1"}])
        system.settle(lambda: tenancy.reasons("nat").get("Ready") == "AddressNotInPool", "a refusal")
        if not turn:
            system.settle(lambda: tenancy.is_held("late", "late-0", NAT), "the other's turn")
            tenancy.edit_route("late", addresses=[{"type": "IPAddress", "value": LATE}])
        tenancy.edit_route("nat", addresses=[{"type": "IPAddress", "value": NAT}])
        system.settle(lambda: tenancy.reasons("nat").get("Ready") == "Ready", "its way back")


def class_finalizers(system: System) -> list[str]:
    """Return what keeps the class, our finalizer, while there are Gateways of it."""
    (found,) = [
        each for each in system.ask("GET", f"/apis/{GATEWAY_API}/gatewayclasses")["items"]
        if each["spec"].get("parametersRef")
    ]  # fmt: skip
    return found["metadata"].get("finalizers", [])


def lead_over(system: System) -> None:
    """Let the other replica lead."""
    before = system.wait_led()
    leading = system.leading()
    assert leading is not None
    leading.end(signal.SIGTERM)
    system.settle(lambda: system.leader() not in ("", before), "the other to lead")
    leading.start()


def test_parts_use_every_right_they_have_and_need_no_other(plane: ControlPlane) -> None:
    """Through a whole life nothing is forbidden to controllers and agents, and no right of theirs stays unused."""
    system = System(plane)
    try:
        with plane.audited() as log:
            system.start()
            live(system, log)
    finally:
        system.close()
    assert refused(log) == []
    for account in (CONTROLLER, AGENT):
        rights, requests = granted(build(Parameters()), SYSTEM, account), used(log, account)
        assert unused(rights, requests) == [], f"never used by {account}"
        # What everybody may ask for is no part of our manifests, and nothing that we ask for.
        assert unfounded(rights, requests) == [], f"not in the manifests of {account}"


READ_SECRETS = {
    "kind": "ClusterRole",
    "metadata": {"name": "secrets"},
    "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
}


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "ServiceAccount", "namespace": SYSTEM, "name": CONTROLLER},
        {"kind": "User", "name": USERS[CONTROLLER]},
        {"kind": "Group", "name": f"system:serviceaccounts:{SYSTEM}"},
        {"kind": "Group", "name": "system:authenticated"},
    ],
)
def test_right_given_by_any_subject_of_a_binding_would_be_noticed(subject: dict[str, str]) -> None:
    """Whoever is named beside it, and however it is named itself, a part has what is bound to it."""
    other = {"kind": "ServiceAccount", "namespace": "kube-system", "name": CONTROLLER}
    binding = {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "secrets"},
        "roleRef": {"kind": "ClusterRole", "name": "secrets"},
        "subjects": [other, subject],
    }
    shipped = build(Parameters())
    needed = granted(shipped, SYSTEM, CONTROLLER)
    assert unused(granted([*shipped, READ_SECRETS, binding], SYSTEM, CONTROLLER), needed) == [
        Right("get", "", "secrets")
    ]
    assert granted([*shipped, READ_SECRETS, binding | {"subjects": [other]}], SYSTEM, CONTROLLER) == needed


def test_right_under_one_name_in_one_namespace_allows_no_other() -> None:
    """The shipped right to one Lease is none to another one, nor to one of that name elsewhere."""
    rights = granted(build(Parameters()), SYSTEM, CONTROLLER)
    own = Right("update", "coordination.k8s.io", "leases", SYSTEM, CONTROLLER)
    others = {own._replace(name="another"), own._replace(namespace="kube-system")}
    assert unfounded(rights, {own, *others}) == sorted(others)
    assert own in unused(rights, others)
