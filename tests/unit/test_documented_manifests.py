"""Are the manifests that the docs show such as `persistip plan` accepts, and do the examples do what they say?"""

import json
import re

import pytest
import yaml
from commandline import call
from documented import EXAMPLES, sets

NAMESPACE = "{apiVersion: v1, kind: Namespace, metadata: {name: beside}}"
POD = """
apiVersion: v1
kind: Node
metadata: {name: node-a}
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: telephony, creationTimestamp: "2026-01-01T00:00:00Z", labels: LABELS}
spec: {nodeName: node-a}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}], conditions: [{type: Ready, status: READY}]}
"""


def holders(*documents: str) -> dict[str, list[str]]:
    """Return who holds each route, after `persistip plan` of *documents*; every one of them is accepted."""
    said = call("plan", "-f", "-", "--output", "json", documents=documents)
    assert said.status == 0, said.err
    found = {}
    for each in json.loads(said.out)["items"]:
        if each["kind"] == "GKEIPRoute":
            conditions = {one["type"]: one["status"] for one in each["status"]["conditions"]}
            assert conditions["Accepted"] == "True", each["status"]
            found[each["metadata"]["name"]] = each["status"].get("pods", [])
    return found


@pytest.mark.parametrize("where", sets())
def test_every_manifest_of_the_docs_can_be_planned(where: str) -> None:
    """Every object that the docs show is read without a fault, beside one that decisions are made by."""
    said = call("plan", "-f", "-", documents=[sets()[where], NAMESPACE])
    assert said.status == 0, said.err
    assert not re.findall(r"^stdin.*", said.err, re.MULTILINE)


def test_there_are_examples_of_each_kind_of_workload() -> None:
    """The examples have a StatefulSet with a route for each ordinal, Deployments with and without a standby."""
    found = [each for path in EXAMPLES for each in yaml.safe_load_all(path.read_text())]
    objects = [each for each in found if "spec" in each]
    sizes = {f"{each['kind']} {each['metadata']['name']}": each["spec"].get("replicas") for each in objects}
    assert sizes["StatefulSet sip"] == len([name for name in sizes if name.startswith("GKEIPRoute sip-")]) == 2
    assert (sizes["Deployment border"], sizes["Deployment egress"]) == (2, 1)


@pytest.mark.parametrize(
    ("pod", "labels", "is_ready", "route"),
    [
        ("sip-1", "{app: sip, statefulset.kubernetes.io/pod-name: sip-1}", True, "sip-1"),
        ("border-x", "{app: border}", True, "border"),
        # It sends before it is Ready.
        ("egress-x", "{app: egress}", False, "egress"),
    ],
)
def test_pod_of_an_example_holds_the_addresses_of_its_route(pod: str, labels: str, is_ready: bool, route: str) -> None:
    """With a Pod as its workload would make it that Pod holds the route, and every other route is held by nobody."""
    text = POD.replace("NAME", pod).replace("LABELS", labels).replace("READY", f'"{is_ready}"')
    assert {name: pods for name, pods in holders(sets()["examples"], text).items() if pods} == {route: [pod]}


def test_examples_are_each_a_workload_whose_container_holds_the_addresses_of_its_routes() -> None:
    """What a container is told to put on itself is what the routes for its Pods claim."""
    for path in EXAMPLES:
        found = list(yaml.safe_load_all(path.read_text()))
        told = [
            variable["value"].split()
            for each in found
            if each["kind"] in {"StatefulSet", "Deployment"}
            for container in each["spec"]["template"]["spec"]["containers"]
            for variable in container["env"]
            if variable["name"] == "PERSISTENT_ADDRESSES"
        ]
        claimed = [one["value"] for each in found if each["kind"] == "GKEIPRoute" for one in each["spec"]["addresses"]]
        assert [address for several in told for address in several] == claimed
