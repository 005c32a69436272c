"""Do objects of an API server become the model's values, and is a broken one only itself?"""

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from persistip.decide.extracts import reader
from persistip.model.attachment import AddressAttachment, NodeReport
from persistip.model.gateway import From, Gateway, GatewayStatus, ListenerStatus, RouteKind
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.route import GATEWAY_GROUP, GKEIPRoute, RouteStatus
from persistip.wire import decode_event, decode_list, decode_object, from_model, status_from_model, to_model
from persistip.wire.decode import Unreadable
from persistip.wire.times import format_micro_time, format_time, parse_time

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "a",
        "namespace": "n",
        "uid": "u",
        "resourceVersion": "7",
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "deletionTimestamp": None,
        "managedFields": [{"manager": "kubelet"}],
    },
    "spec": {"nodeName": "node-a", "hostNetwork": True, "containers": [{"name": "x"}]},
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
        "conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:05Z"},
        ],
    },
}


def without(obj: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return a copy of *obj* that lacks the field at *path*."""
    copy = json.loads(json.dumps(obj))
    place = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy


def test_pod_is_read_with_ips_readiness_and_node() -> None:
    """All that the choice of a holder rests on is found."""
    pod = to_model(POD)
    assert isinstance(pod, Pod)
    assert (pod.node_name, pod.phase, pod.host_network, pod.ready) == ("node-a", "Running", True, True)
    assert pod.ips == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert pod.ready_at - pod.meta.created_at == 5.0
    assert not pod.meta.is_terminating


def test_pod_without_pod_ips_falls_back_to_pod_ip() -> None:
    """Servers that write podIP alone are understood."""
    pod = to_model(without(POD, "status", "podIPs"))
    assert isinstance(pod, Pod)
    assert pod.ips == (ip_address("10.0.0.1"),)


def test_pod_without_status_is_pending_and_not_ready() -> None:
    """A Pod just created has defaults in place of a status."""
    pod = to_model(without(POD, "status"))
    assert isinstance(pod, Pod)
    assert (pod.phase, pod.ready, pod.ips) == ("Pending", False, ())


def test_node_is_read_with_own_ips_ranges_and_taint() -> None:
    """Own addresses but not host names, ranges of both families, readiness and the administrator's word."""
    node = to_model(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n"},
            "spec": {
                "podCIDR": "10.0.0.0/24",
                "podCIDRs": ["10.0.0.0/24", "fd00::/64"],
                "taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}],
            },
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "ExternalIP", "address": "2001:db8::1"},
                    {"type": "Hostname", "address": "n"},
                ],
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        }
    )
    assert isinstance(node, Node)
    assert node.ips == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
    assert node.pod_cidrs == (ip_network("10.0.0.0/24"), ip_network("fd00::/64"))
    assert (node.ready, node.out_of_service) == (False, True)


@pytest.mark.parametrize(
    ("written", "read"),
    [("10.0.1.5/24", "10.0.1.0/24"), ("010.00.1.0/024", "10.0.1.0/24"), ("fd00:0:0:1::7/64", "fd00:0:0:1::/64")],
)
def test_ranges_of_a_cluster_are_read_as_api_servers_have_taken_them(written: str, read: str) -> None:
    """Host bits and leading zeros in a Node's range were no fault before Kubernetes 1.36, and the Node runs."""
    node = to_model({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"podCIDRs": [written]}})
    assert isinstance(node, Node)
    assert [str(each) for each in node.pod_cidrs] == [read]


def test_gateway_of_v1beta1_gets_the_defaults_of_the_crd() -> None:
    """Absent listener permissions mean the same namespace; an absent address type is IPAddress."""
    gateway = to_model(
        {
            "apiVersion": "gateway.networking.k8s.io/v1beta1",
            "kind": "Gateway",
            "metadata": {"name": "g", "namespace": "n"},
            "spec": {
                "gatewayClassName": "c",
                "addresses": [{"value": "192.0.2.9"}],
                "listeners": [
                    {"name": "l", "port": 80, "protocol": "TCP", "allowedRoutes": {"kinds": [{"kind": "X"}]}}
                ],
            },
        }
    )
    assert isinstance(gateway, Gateway)
    assert gateway.addresses[0].type == "IPAddress"
    assert gateway.listeners[0].namespaces_from == From.SAME
    assert gateway.listeners[0].kinds == (RouteKind(GATEWAY_GROUP, "X"),)


def test_route_with_null_lists_is_read_as_empty() -> None:
    """Go writes an empty list as null, which is no fault of the object."""
    route = to_model(
        {
            "apiVersion": "networking.gke.io/v1",
            "kind": "GKEIPRoute",
            "metadata": {"name": "r", "namespace": "n", "labels": None},
            "spec": {"parentRefs": None, "addresses": [], "podSelector": {"matchLabels": None}},
            "status": {"pods": None, "conditions": None},
        }
    )
    assert isinstance(route, GKEIPRoute)
    assert route.pod_selector.is_empty
    assert route.status == RouteStatus()


ATTACHMENT: dict[str, Any] = {
    "apiVersion": "persistip.dev/v1alpha1",
    "kind": "AddressAttachment",
    "metadata": {"name": "r-x"},
    "spec": {
        "routeRef": {"namespace": "n", "name": "r", "uid": "u"},
        "mode": "quantum",
        "addresses": [
            {"prefix": "192.0.2.9/32", "gatewayRef": {"namespace": "n", "name": "g", "uid": "gu"}, "pending": True}
        ],
        "pod": {"name": "p", "uid": "pu", "ips": ["10.0.0.1"]},
        "nodeName": "node-a",
        "nodeUID": "nu",
        "releasing": [
            {
                "prefixes": ["192.0.2.9/32"],
                "pod": {"name": "q", "uid": "qu"},
                "nodeName": "node-b",
                "nodeUID": "mu",
                "how": "AfterReady",
                "epoch": 3,
                "since": "2024-01-01T00:00:00.250000Z",
            }
        ],
        "damped": {"podUID": "qu", "until": "2024-01-01T00:00:10Z"},
        "epoch": 4,
    },
    "status": {"nodes": [{"nodeName": "node-a", "epoch": 4, "state": "Programmed"}]},
}


def test_attachment_is_read_with_fields_as_written_in_the_api() -> None:
    """The decision's fields are found under their names; an unknown mode is kept, to be reported."""
    attachment = to_model(ATTACHMENT)
    assert isinstance(attachment, AddressAttachment)
    spec = attachment.spec
    assert spec.mode == "quantum"
    assert spec.holder is not None
    assert (spec.holder.node_uid, spec.pod_address, spec.flows, spec.network) == ("nu", "app", "keep", "default")
    assert spec.addresses[0].pending
    assert spec.releasing[0].since_at % 1 == 0.25
    assert attachment.is_confirmed
    assert from_model(attachment)["spec"]["releasing"] == ATTACHMENT["spec"]["releasing"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("spec", "addresses", 0, "prefix"),
            "192.0.2.9/24",
            "spec.addresses[0].prefix: 192.0.2.9/24 has host bits set",
        ),
        (("spec", "pod", "ips", 0), "ten", "spec.pod.ips[0]: 'ten' is not an IP address"),
        (("spec", "nodeUID"), None, "spec: pod, nodeName and nodeUID must be set together or not at all"),
        (("spec", "releasing", 0, "how"), "Later", "spec.releasing[0].how: 'Later' is not one of AfterReady, Now"),
        (("spec", "epoch"), "4", "spec.epoch: Expected `int`, got `str`"),
        (("metadata", "labels"), {"a": 1}, "metadata.labels[...]: Expected `str`, got `int`"),
        (("metadata",), None, "metadata: Expected `object`, got `null`"),
        (("kind",), "Pud", "kind: 'Pud' is not one of GatewayClass, Gateway"),
    ],
)
def test_broken_object_is_a_value_with_the_fields_path(path: tuple[Any, ...], value: Any, said: str) -> None:
    """What cannot be decoded says where and why, and raises nothing."""
    broken = json.loads(json.dumps(ATTACHMENT))
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    unreadable = to_model(broken)
    assert isinstance(unreadable, Unreadable)
    assert str(unreadable).startswith(said)


def test_list_with_a_broken_item_gives_the_others() -> None:
    """One unreadable Pod keeps its key, and its neighbours are read."""
    broken = {**POD, "metadata": {"name": "b", "namespace": "n"}, "status": {"podIPs": [{"ip": 3}]}}
    nameless = {**POD, "metadata": 3}
    page = {"metadata": {"resourceVersion": "9", "continue": "c"}, "items": [POD, broken, nameless]}
    decoded = decode_list(Kind.POD, json.dumps(page).encode())
    assert (decoded.resource_version, decoded.continue_token) == ("9", "c")
    keys, values = zip(*decoded.items, strict=True)
    assert keys == (ObjectKey(Kind.POD, "n", "a"), ObjectKey(Kind.POD, "n", "b"), None)
    assert [isinstance(value, Unreadable) for value in values] == [False, True, True]
    assert str(values[1]) == "status.podIPs[0].ip: Expected `str | null`, got `int`"


def test_annotations_that_nobody_reads_are_left_out_where_many_come() -> None:
    """Of Pods and Nodes only those asked for are kept; of a route, all are its author's word to us."""
    annotations = {"persistip.dev/a": "1", "other.example/b": "2" * 1000}
    read = reader(["named.example/c"])
    annotated = {**POD, "metadata": {**POD["metadata"], "annotations": {**annotations, "named.example/c": "3"}}}
    page = json.dumps({"metadata": {"resourceVersion": "9"}, "items": [annotated, POD]}).encode()
    event = decode_event(Kind.POD, json.dumps({"type": "MODIFIED", "object": annotated}).encode(), read)
    first, second = (value for _, value in decode_list(Kind.POD, page, read).items)
    assert isinstance(first, Pod)
    assert isinstance(second, Pod)
    assert first.meta.annotations == {"persistip.dev/a": "1", "named.example/c": "3"}
    assert (event.value, second.meta.annotations) == (first, {})
    route = {"metadata": {"name": "r", "namespace": "n", "annotations": annotations}}
    found = decode_object(Kind.ROUTE, json.dumps(route).encode(), read)
    assert isinstance(found, GKEIPRoute)
    assert found.meta.annotations == annotations


def test_event_of_a_watch_is_read_with_its_object() -> None:
    """A line of a watch gives type and object; what is no Pod at all is unreadable, its JSON still at hand."""
    event = decode_event(Kind.POD, json.dumps({"type": "MODIFIED", "object": POD}).encode())
    assert (event.type, event.value) == ("MODIFIED", to_model(POD))
    error = decode_event(Kind.POD, b'{"type":"ERROR","object":{"kind":"Status","code":410}}')
    assert error.key is None
    assert json.loads(error.raw)["code"] == 410


def test_bytes_that_are_no_json_are_unreadable() -> None:
    """A cut-off object says that it is no JSON."""
    assert "is no JSON" in str(decode_object(Kind.POD, b'{"metadata": {'))


def test_status_holds_what_gateway_api_demands() -> None:
    """A listener without routes says 0, and supportedKinds is there though empty."""
    status = status_from_model(GatewayStatus(listeners=(ListenerStatus(name="l"),)))
    assert status == {"listeners": [{"name": "l", "supportedKinds": [], "attachedRoutes": 0}]}


def test_node_report_is_one_entry() -> None:
    """An agent's report is its own entry of status.nodes and nothing else."""
    status = status_from_model(NodeReport(node_name="n", epoch=4, state="Idle", released=3, at=1.5))
    assert status == {
        "nodes": [{"nodeName": "n", "epoch": 4, "state": "Idle", "released": 3, "at": "1970-01-01T00:00:01.500000Z"}]
    }


def test_times_are_rfc_3339_in_utc() -> None:
    """Whole seconds and microseconds are written as Kubernetes writes them; any offset is read."""
    assert format_time(1.9) == "1970-01-01T00:00:01Z"
    assert format_micro_time(1.25) == "1970-01-01T00:00:01.250000Z"
    assert parse_time("1970-01-01T02:00:01.5+02:00") == 1.5
    with pytest.raises(ValueError, match="no time zone"):
        parse_time("1970-01-01T00:00:01")
