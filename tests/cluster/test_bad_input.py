"""Is somebody told what is wrong, and what to do, where addresses cannot work on a real node?"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from realcluster.stage import Stage

pytestmark = pytest.mark.requires("cluster")

INTERNAL = "gke-persistent-regional-internal-managed"
GATEWAY = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: internal-addresses, namespace: network}}
data: {{allowedAddresses: 10.250.0.0/24}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: internal, namespace: network}}
spec:
  gatewayClassName: {INTERNAL}
  addresses: [{{type: IPAddress, value: 10.250.0.200}}, {{type: IPAddress, value: 10.250.0.11}}]
  listeners: [{{name: all, port: 1, protocol: none}}]
"""
ON_HOST = """
apiVersion: v1
kind: Pod
metadata: {name: on-host, namespace: telephony, labels: {app: on-host}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: pause, image: "localhost/pause:1"}]
---
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {name: on-host, namespace: telephony}
spec:
  parentRefs: [{name: public, namespace: network}]
  addresses: [{type: IPAddress, value: 192.0.2.158}]
  podSelector: {matchLabels: {app: on-host}}
"""
DOCTOR = """
apiVersion: v1
kind: Pod
metadata: {name: doctor, namespace: telephony}
spec:
  hostNetwork: true
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: doctor
    image: registry.example/persistip:1
    command: [persistip, doctor, --node, --json]
    securityContext: {capabilities: {drop: [ALL]}}
"""
# What a firewall does that knows the Pods' own ranges alone.
SOURCE_CHECK = """
table inet plugin {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ip saddr 10.0.0.0/8 accept
        ip6 saddr fd00::/8 accept
        iifname "eth0" accept
    }
}
"""


def _as_findings(text: str) -> dict[str, dict[str, Any]]:
    return {f"{each['check']} {each['subject']}": each for each in json.loads(text)["findings"]}


def ask_doctor(stage: "Stage") -> dict[str, dict[str, Any]]:
    """Return what the doctor finds in the cluster, by check and subject."""
    return _as_findings(stage.api.shell("persistip doctor --json || [ $? = 1 ]"))


def ask_doctor_on(stage: "Stage", node: str) -> dict[str, dict[str, Any]]:
    """Return what the doctor finds on a node, in the agent's Pod as the page says."""
    (agent,) = stage.parts("agent", node)
    command = f"kubectl -n persistip-system exec {agent['metadata']['name']} -- persistip doctor --node --json"
    return _as_findings(stage.api.shell(f"{command} || [ $? = 1 ]"))


@pytest.fixture
def applied(stage: "Stage", request: pytest.FixtureRequest) -> "Iterator[Stage]":
    """Return the stage with manifests applied, which go again."""
    stage.api.kubectl("apply", "--filename=-", stdin=request.param)
    yield stage
    stage.api.kubectl("delete", "--wait=true", "--filename=-", stdin=request.param)
    stage.settle()
    stage.check()


def message(stage: "Stage", path: str, kind: str, reason: str) -> str:
    """Return the message of an object's condition, once it has this reason."""

    def told() -> str:
        conditions = stage.api.must("GET", path).get("status", {}).get("conditions", ())
        found = (each for each in conditions if (each["type"], each["reason"]) == (kind, reason))
        return next((str(each["message"]) for each in found), "")

    said: str = stage.cluster.until(told, f"{path} to be {kind} {reason}", 15.0)
    return said


@pytest.mark.parametrize("applied", [GATEWAY], indirect=True)
def test_class_without_parameters_and_a_node_ip_are_named(applied: "Stage") -> None:
    """A Gateway of a class without parameters is refused; with them, a node's own IP in it is not used."""
    path = "/apis/gateway.networking.k8s.io/v1/namespaces/network/gateways/internal"
    assert "10.250.0.200" in message(applied, path, "Accepted", "UnsupportedAddress")
    found = ask_doctor(applied)[f"class-parameters GatewayClass {INTERNAL}"]
    assert "parametersRef" in found["fix"]
    reference = {"group": "", "kind": "ConfigMap", "name": "internal-addresses", "namespace": "network"}
    patch = "kubectl patch gatewayclass {} --type=merge --patch '{}'"
    applied.api.shell(patch.format(INTERNAL, json.dumps({"spec": {"parametersRef": reference}})))
    try:

        def named() -> bool:
            said = message(applied, path, "Programmed", "AddressNotUsable")
            return "10.250.0.11 is the IP of Node n1" in said and "10.250.0.200" not in said

        applied.cluster.until(named, "the node's IP alone to be named", 15.0)
        assert "n1" in ask_doctor(applied)["gateway Gateway network/internal"]["message"]
    finally:
        applied.api.shell(patch.format(INTERNAL, json.dumps({"spec": {"parametersRef": None}})))


@pytest.mark.parametrize("applied", [ON_HOST], indirect=True)
def test_pod_on_the_host_network_is_named(applied: "Stage") -> None:
    """A Pod that has no network of its own holds nothing, and the route says why."""
    path = "/apis/networking.gke.io/v1/namespaces/telephony/gkeiproutes/on-host"
    applied.cluster.until(
        lambda: "host network" in message(applied, path, "DPV2Ready", "NoEligiblePod"), "the host network to be named"
    )
    assert "persistip explain" in ask_doctor(applied)["route GKEIPRoute telephony/on-host"]["fix"]


def test_firewall_that_knows_the_pods_ips_alone_is_named(stage: "Stage") -> None:
    """Where a node drops packets from a held address nobody answers at it, and the doctor names the chain."""
    stage.settle()
    node = stage.cluster.nodes[stage.node_of("sip-0")]
    assert "forward-drop" not in "".join(ask_doctor_on(stage, node.name))
    node.run("nft", "-f", "-", stdin=SOURCE_CHECK)
    try:
        assert not stage.answers("sip-0")
        found = [each for name, each in ask_doctor_on(stage, node.name).items() if name.startswith("forward-drop")]
        assert "plugin" in found[0]["subject"] + found[0]["message"]
        assert found[0]["fix"]
    finally:
        node.run("nft", "delete table inet plugin")
    assert stage.answers("sip-0")


@pytest.mark.parametrize("applied", [DOCTOR], indirect=True)
def test_container_without_the_right_to_the_network_is_named(applied: "Stage") -> None:
    """Started as the agent is, but without NET_ADMIN, the image says that this is what it lacks."""

    def ended() -> str:
        status = applied.api.must("GET", "/api/v1/namespaces/telephony/pods/doctor").get("status", {})
        return applied.kubectl("logs", "doctor") if status.get("phase") in ("Failed", "Succeeded") else ""

    found = _as_findings(applied.cluster.until(ended, "the doctor to have looked"))
    told = [each for name, each in found.items() if name.startswith("capabilities")]
    assert any("NET_ADMIN" in each["subject"] and each["fix"] for each in told), found
