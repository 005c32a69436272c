"""Does the CRD of the AddressAttachment keep one epoch honest, whoever writes?"""

from typing import Any

import attrs
import pytest
from controlplane import ControlPlane
from written import ATTACHMENTS, GATEWAY, manifest, release

from persistip.model.address import parse_ip
from persistip.model.attachment import AddressAttachment, Damped, How, NodeReport, Prepared, Release
from persistip.testing import attachment, pod
from persistip.wire import from_model
from persistip.wire.decode import to_model

pytestmark = pytest.mark.requires("apiserver")

HELD_BY_NOBODY = {"pod": None, "nodeName": None, "nodeUID": None}

# A change under the same epoch: the sentence that refuses it.
NEED_A_NEW_EPOCH: dict[str, tuple[str, dict[str, Any]]] = {
    "mode": ("epoch must rise when mode", {"mode": "fast"}),
    "network": ("epoch must rise when mode, network", {"network": "blue"}),
    "network-gone": ("epoch must rise when mode, network", {"network": None}),
    "address-pending": (
        "epoch must rise when mode, network, addresses",
        {"addresses": [{"prefix": "203.0.113.20/32", "gatewayRef": GATEWAY, "pending": True}]},
    ),
    "addresses-gone": ("epoch must rise when mode, network, addresses", {"addresses": None}),
    "pod-address": ("epoch must rise when mode", {"podAddress": "nat"}),
    "flows": ("epoch must rise when mode", {"flows": "reset"}),
    "pod": ("epoch must rise when pod", {"pod": {"name": "nat-x", "uid": "uid-nat-x"}}),
    "pod-ip": ("epoch must rise when pod", {"pod": {"name": "nat-new", "uid": "uid-nat-new", "ips": ["10.0.0.3"]}}),
    "node": ("epoch must rise when pod, nodeName", {"nodeName": "node-c"}),
    "node-made-again": ("epoch must rise when pod, nodeName or nodeUID", {"nodeUID": "uid-other"}),
    "nobody": ("epoch must rise when pod", HELD_BY_NOBODY),
    "release-added": ("epoch must rise when releasing changes", {"releasing": [release(), release(nodeUID="uid-c")]}),
    "release-of-more": (
        "epoch must rise when releasing changes",
        {"releasing": [release(prefixes=["203.0.113.20/32", "203.0.113.21/32"])]},
    ),
}

ALWAYS_REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "epoch-falls": ("epoch may not fall", {"epoch": 4, "releasing": [release(epoch=4)]}),
    "other-route": (
        "routeRef is fixed",
        {"routeRef": {"namespace": "tenant", "name": "nat-1", "uid": "uid-nat-0"}, "epoch": 6},
    ),
    "route-made-again": (
        "routeRef is fixed",
        {"routeRef": {"namespace": "tenant", "name": "nat-0", "uid": "uid-again"}, "epoch": 6},
    ),
    "strategy-later": ("strategy is fixed", {"strategy": "forwarding-rule", "epoch": 6}),
    "release-of-tomorrow": ("cannot be newer than the epoch", {"epoch": 6, "releasing": [release(epoch=7)]}),
    "pod-without-node": ("must be set together", {"nodeName": None, "epoch": 6}),
    "node-without-pod": ("must be set together", {"pod": None, "epoch": 6}),
    "host-bits": (
        "203.0.113.20/24 is not an IPv4 or IPv6 network without host bits",
        {"addresses": [{"prefix": "203.0.113.20/24", "gatewayRef": GATEWAY}], "epoch": 6},
    ),
    "ip": ("10.0.0 is not an IPv4", {"pod": {"name": "nat-new", "uid": "uid-nat-new", "ips": ["10.0.0"]}, "epoch": 6}),
    "address-twice": (
        "Duplicate value",
        {"addresses": [{"prefix": "203.0.113.20/32", "gatewayRef": GATEWAY}] * 2, "epoch": 6},
    ),
    "how-unknown": ('supported values: "AfterReady", "Now"', {"releasing": [release(how="Later")], "epoch": 6}),
}

# What asks nothing new of an agent.
NEED_NONE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "release-ended": {"releasing": None},
    "release-list-empty": {"releasing": []},
    "release-now": {"releasing": [release(how="Now")]},
    "prepared": {"prepared": [{"nodeName": "node-a", "ip": "192.0.2.11"}]},
    "damped": {"damped": {"podUID": "uid-nat-old", "until": "2026-01-05T10:00:10Z"}},
}


@pytest.fixture
def made(control_plane: ControlPlane) -> Any:
    """Return an attachment that is in the cluster for one test."""
    made = control_plane.must("POST", ATTACHMENTS, manifest())
    yield made
    control_plane.must("DELETE", f"{ATTACHMENTS}/r-rules")


def put(plane: ControlPlane, made: dict[str, Any], **changes: Any) -> Any:
    """Write the attachment anew with some fields of its spec changed; return the answer of a dry run."""
    body = manifest(**changes)
    body["metadata"] |= {name: made["metadata"][name] for name in ("resourceVersion", "uid")}
    return plane.request("PUT", f"{ATTACHMENTS}/r-rules?dryRun=All", body)


@pytest.mark.parametrize("case", NEED_A_NEW_EPOCH)
def test_what_agents_must_do_changes_with_epoch(control_plane: ControlPlane, made: Any, case: str) -> None:
    """What agents must do cannot change under an old epoch, and can under a new one."""
    sentence, changes = NEED_A_NEW_EPOCH[case]
    refused = put(control_plane, made, **changes)
    assert (refused.status, sentence in refused.message) == (422, True), refused.message
    assert put(control_plane, made, **changes, epoch=6).status == 200


@pytest.mark.parametrize("case", ALWAYS_REFUSED)
def test_what_can_never_be_is_refused(control_plane: ControlPlane, made: Any, case: str) -> None:
    """What no epoch makes right is refused in a sentence."""
    sentence, changes = ALWAYS_REFUSED[case]
    answer = put(control_plane, made, **changes)
    assert (answer.status, sentence in answer.message) == (422, True), answer.message


@pytest.mark.parametrize("case", NEED_NONE)
def test_what_asks_nothing_new_needs_no_epoch(control_plane: ControlPlane, made: Any, case: str) -> None:
    """Ended releases, AfterReady turned to Now, prepared nodes and damping may change under the same epoch."""
    assert put(control_plane, made, **NEED_NONE[case]).status == 200


def test_after_ready_never_comes_back(control_plane: ControlPlane, made: Any) -> None:
    """An entry that is Now cannot become AfterReady under its epoch."""
    body = manifest(releasing=[release(how="Now")])
    body["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    now = control_plane.must("PUT", f"{ATTACHMENTS}/r-rules", body)
    assert "epoch must rise when releasing changes" in put(control_plane, now, releasing=[release()]).message


def test_mode_of_tomorrow_is_stored(control_plane: ControlPlane) -> None:
    """A mode that this version does not know passes, so that a newer controller can tell older agents."""
    assert control_plane.request("POST", f"{ATTACHMENTS}?dryRun=All", manifest(mode="anycast")).status == 201


def test_everything_the_controller_can_write_is_stored_unchanged(control_plane: ControlPlane) -> None:
    """An attachment with every field comes back from the API server as it was written."""
    held = attachment(holder=pod("nat-a", node="node-a", ips=["10.0.0.2", "fd00::2"]), addresses=["203.0.113.20/32"])
    old = attachment(holder=pod("nat-b", node="node-b", ips=["10.0.1.2"])).spec.holder
    assert held.spec.holder is not None
    assert old is not None
    body = from_model(full := _full(held, old))
    del body["metadata"]["resourceVersion"]
    created = control_plane.must("POST", ATTACHMENTS, body)
    try:
        created["status"] = body["status"]
        stored = control_plane.must("PUT", f"{ATTACHMENTS}/{full.meta.name}/status", created)
        read = to_model(stored)
        assert isinstance(read, AddressAttachment)
        assert (read.spec, read.nodes, read.meta.labels) == (full.spec, full.nodes, full.meta.labels)
    finally:
        control_plane.must(
            "PATCH",
            f"{ATTACHMENTS}/{full.meta.name}",
            {"metadata": {"finalizers": None}},
            content_type="application/merge-patch+json",
        )
        control_plane.must("DELETE", f"{ATTACHMENTS}/{full.meta.name}")


def _full(held: AddressAttachment, old: Any) -> AddressAttachment:
    ip = parse_ip("192.0.2.11")
    assert ip is not None
    leaving = Release(
        prefixes=held.spec.held_prefixes,
        pod_name=old.pod_name,
        pod_uid=old.pod_uid,
        node_name=old.node_name,
        node_uid=old.node_uid,
        how=How.NOW,
        epoch=1,
        since_at=1_800_000_000.25,
    )
    spec = attrs.evolve(
        held.spec,
        strategy="forwarding-rule",
        releasing=(leaving,),
        prepared=(Prepared(node_name="node-a", ip=ip),),
        damped=Damped(pod_uid=old.pod_uid, until_at=1_800_000_010.5),
    )
    report = NodeReport(
        node_name="node-a",
        epoch=1,
        state="Failed",
        released=1,
        reason="PodLinkNotFound",
        message="no link",
        at=1_800_000_001.0,
    )
    return attrs.evolve(held, spec=spec, nodes=(report,))


def test_kubectl_get_tells_the_decision(control_plane: ControlPlane, made: Any) -> None:
    """`kubectl get` shows route, addresses, Pod, node, the holder's state, epoch and age; the category lists it."""
    made["status"] = {"nodes": [
        {"nodeName": "node-b", "epoch": 5, "state": "Idle", "released": 0},
        {"nodeName": "node-a", "epoch": 5, "state": "Programmed", "released": 0},
    ]}  # fmt: skip
    control_plane.must("PUT", f"{ATTACHMENTS}/r-rules/status", made)
    head, row = control_plane.kubectl("get", "addressattachments", "r-rules").splitlines()
    assert head.split() == ["NAME", "ROUTE", "ADDRESSES", "POD", "NODE", "STATE", "EPOCH", "AGE"]
    assert row.split()[:-1] == ["r-rules", "nat-0", "203.0.113.20/32", "nat-new", "node-a", "Programmed", "5"]
    assert "addressattachment.persistip.dev/r-rules" in control_plane.kubectl("get", "persistip", "-o", "name")
