"""Does the doctor tell the truth about a live cluster: nothing where all is well, and each fault with its fix?"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from commandline import call
from controlplane import ControlPlane
from living import CLASS, MERGE, Living, account

pytestmark = pytest.mark.requires("apiserver")

SYSTEM = "persistip-system"
PODS = f"/api/v1/namespaces/{SYSTEM}/pods"


def process(plane: ControlPlane, component: str, node: str, **context: Any) -> None:
    """Make a Pod of ours as a node's kubelet would report it: Ready."""
    name = f"persistip-{component}-{node}"
    labels = {"app.kubernetes.io/name": "persistip", "app.kubernetes.io/component": component}
    container = {"name": component, "image": "none.invalid/none", "securityContext": context}
    spec = {"nodeName": node, "serviceAccountName": f"persistip-{component}", "containers": [container]}
    plane.must("POST", PODS, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    ready(plane, name, "True")


def ready(plane: ControlPlane, name: str, status: str) -> None:
    """Report a Pod of ours Ready, or not."""
    conditions = [{"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    body = {"status": {"phase": "Running", "conditions": conditions}}
    plane.must("PATCH", f"{PODS}/{name}/status", body, content_type=MERGE)


@pytest.fixture(scope="module")
def living() -> Iterator[Living]:
    """Return a cluster at work, in which every process of ours is a Pod that is Ready."""
    with ControlPlane() as plane:
        plane.install_persistip()
        cluster = Living(plane)
        with cluster.running():
            cluster.pool("tenant", "203.0.113.0/28")
            cluster.pod("tenant", "nat-0", "node-a", app="nat")
            cluster.route("tenant", "nat", "203.0.113.5")
            cluster.wait_held("tenant", "nat", "nat-0")
            process(plane, "controller", "node-a")
            for node in cluster.nodes:
                process(plane, "agent", node, runAsUser=0, capabilities={"add": ["NET_ADMIN", "NET_RAW"]})
            yield cluster


def doctor(living: Living, kubeconfig: Any = None) -> tuple[int, list[tuple[str, str]]]:
    """Return the exit status of `persistip doctor --json`, and each finding's check and subject."""
    said = call("doctor", "--json", "--kubeconfig", str(kubeconfig or living.plane.kubeconfig))
    assert said.status in (0, 1), said.err
    return said.status, [(each["check"], each["subject"]) for each in json.loads(said.out)["findings"]]


def test_cluster_at_work_has_no_finding(living: Living) -> None:
    """Installed as documented and at work, nothing stands in the way, and the status says so."""
    assert doctor(living) == (0, [])
    assert call("doctor", "--kubeconfig", str(living.plane.kubeconfig)).out == "Nothing stands in the way.\n"


def test_faults_of_a_cluster_are_found_and_their_cure_too(living: Living) -> None:
    """An agent not Ready, a class without parameters, a right taken away: each is told, and no longer once cured."""
    plane = living.plane
    classes = f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{CLASS}"
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/persistip-agent"
    ref = plane.must("GET", classes)["spec"]["parametersRef"]
    rules = plane.must("GET", roles)["rules"]
    ready(plane, "persistip-agent-node-b", "False")
    plane.must("PATCH", classes, {"spec": {"parametersRef": None}}, content_type=MERGE)
    plane.must("PATCH", roles, {"rules": rules[:1]}, content_type=MERGE)
    try:
        status, found = doctor(living)
    finally:
        ready(plane, "persistip-agent-node-b", "True")
        plane.must("PATCH", classes, {"spec": {"parametersRef": ref}}, content_type=MERGE)
        plane.must("PATCH", roles, {"rules": rules}, content_type=MERGE)
    assert status == 1
    assert {
        ("agent", "Node node-b"),
        ("class-parameters", f"GatewayClass {CLASS}"),
        ("rights", f"ServiceAccount {SYSTEM}/persistip-agent"),
    } <= set(found)
    living.wait_held("tenant", "nat", "nat-0")
    assert doctor(living) == (0, [])


def test_image_without_net_admin_is_found(living: Living) -> None:
    """An agent whose container does not add NET_ADMIN is told, with the DaemonSet that has to be changed."""
    living.plane.must("DELETE", f"{PODS}/persistip-agent-node-b?gracePeriodSeconds=0")
    process(living.plane, "agent", "node-b", runAsUser=0, capabilities={"add": ["NET_RAW"]})
    try:
        assert doctor(living) == (1, [("agent-capabilities", f"DaemonSet {SYSTEM}/persistip-agent")])
    finally:
        living.plane.must("DELETE", f"{PODS}/persistip-agent-node-b?gracePeriodSeconds=0")
        process(living.plane, "agent", "node-b", runAsUser=0, capabilities={"add": ["NET_ADMIN", "NET_RAW"]})


def test_gateway_that_lists_a_nodes_own_ip_is_found(living: Living) -> None:
    """The Gateway is named, and the message says whose address that is."""
    spec = {
        "gatewayClassName": CLASS,
        "addresses": [{"type": "IPAddress", "value": "192.0.2.10"}],
        "listeners": [{"name": "any", "port": 1, "protocol": "none"}],
    }
    made = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": spec}
    living.apply(yaml.safe_dump(made | {"metadata": {"name": "greedy", "namespace": "tenant"}}))
    try:
        said = call("doctor", "--kubeconfig", str(living.plane.kubeconfig))
    finally:
        living.plane.must("DELETE", "/apis/gateway.networking.k8s.io/v1/namespaces/tenant/gateways/greedy")
    assert said.status == 1
    assert "Gateway tenant/greedy" in said.out
    assert "192.0.2.10" in said.out


def test_person_who_may_only_look_is_told_what_was_not_judged(living: Living) -> None:
    """With the role persistip-reader all but the rights of others is judged, and that is said."""
    reader = account(living, "doctors-eve", "persistip-reader")
    assert doctor(living, reader) == (0, [("unseen", f"rights of the ServiceAccounts in {SYSTEM}")])
