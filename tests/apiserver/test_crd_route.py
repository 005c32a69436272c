"""
Does our CRD of the GKEIPRoute refuse what a route alone can do wrong, and nothing else?

Every object here is judged twice: by a real API server that has the CRD, and by the controller's acceptance, which is
all there is where GKE's own CRD is installed. Both must say the same.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from controlplane import ControlPlane
from world import World

from persistip.decide.plan_route import plan_route
from persistip.manifests import Parameters, build
from persistip.model.address import AddressSpec, Malformed, never_usable, parse_prefix
from persistip.model.route import GKEIPRoute
from persistip.testing import config_map, gateway, gateway_class, namespace
from persistip.wire.decode import to_model

pytestmark = pytest.mark.requires("apiserver")

ROUTES = "/apis/networking.gke.io/v1/namespaces/tenant/gkeiproutes"
POOL = ("203.0.113.0/24", "2001:db8::/48")
STANDARD = "gke-persistent-regional-internal-managed"
FAST = "gke-persistent-fast-regional-internal-managed"
BALANCING = "gke-passthrough-lb-internal-managed"
PARENT = {"name": "pool", "namespace": "infra"}
CIDR = "gke.networking.io/cidr"


def manifest(**changes: Any) -> dict[str, Any]:
    """Return a route as a user would write it, some fields of its spec changed; None takes one away."""
    spec: dict[str, Any] = {
        "parentRefs": [PARENT],
        "addresses": [{"type": CIDR, "value": "203.0.113.20/32"}],
        "podSelector": {"matchLabels": {"app": "nat"}},
    } | changes
    spec = {name: value for name, value in spec.items() if value is not None}
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "GKEIPRoute",
        "metadata": {"name": "nat-0", "namespace": "tenant"},
        "spec": spec,
    }


def addresses(*values: str, of_type: str | None = "IPAddress") -> list[dict[str, str]]:
    """Return ``spec.addresses``; without a type the schema's default is meant."""
    return [{"value": value} | ({"type": of_type} if of_type else {}) for value in values]


def needs(**requirement: Any) -> dict[str, Any]:
    """Return a selector with one requirement."""
    return {"matchExpressions": [{"key": "app", "operator": "In", "values": ["nat"]} | requirement]}


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """Return the API server, with the namespace of these routes."""
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "tenant"}})
    return control_plane


def faults_of(body: dict[str, Any], class_name: str) -> list[str]:
    """Return what the controller finds wrong with a route, and where, in a cluster that has all it could ask for."""
    found = to_model(body)
    assert isinstance(found, GKEIPRoute), found
    world = World(
        namespace("tenant"),
        namespace("infra"),
        config_map(allowed=" ".join(POOL)),
        gateway_class(class_name),
        gateway(addresses=POOL, class_name=class_name),
        found,
    )
    return [f"{fault.reason} {fault.path}" for fault in plan_route(world.view(found.meta.name)).verdict.faults]


# What is refused: the class that it is for, its one fault as the controller names it, the API server's sentence, and
# what is wrong.
REFUSED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "parent-of-another-kind": (
        STANDARD,
        "NoMatchingParent spec.parentRefs[0]",
        "no parentRef names a Gateway",
        {"parentRefs": [PARENT | {"kind": "Service", "group": ""}]},
    ),
    "parents-33": (
        STANDARD,
        "UnsupportedValue spec.parentRefs",
        "must have at most 32 items",
        {"parentRefs": [PARENT] * 33},
    ),
    "no-addresses": (STANDARD, "UnsupportedValue spec.addresses", "should have at least 1 items", {"addresses": []}),
    "addresses-17": (
        STANDARD,
        "UnsupportedValue spec.addresses",
        "must have at most 16 items",
        {"addresses": addresses(*(f"203.0.113.{n}" for n in range(17)))},
    ),
    "type-unknown": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "type example.com/mac is not supported",
        {"addresses": addresses("203.0.113.9", of_type="example.com/mac")},
    ),
    "type-hostname": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "type Hostname is not supported",
        {"addresses": addresses("a.example", of_type="Hostname")},
    ),
    "value-blank": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "an address needs a value",
        {"addresses": addresses(" ")},
    ),
    "value-no-address": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "203.0.113 is not an IPv4 or IPv6 address",
        {"addresses": addresses("203.0.113")},
    ),
    "cidr-without-length": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "write it with one, such as 203.0.113.9/32",
        {"addresses": addresses("203.0.113.9", of_type=CIDR)},
    ),
    "cidr-v6-without-length": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "such as 2001:db8::9/128",
        {"addresses": addresses("2001:db8::9", of_type=CIDR)},
    ),
    "host-bits": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "203.0.113.9/24 has host bits set",
        {"addresses": addresses("203.0.113.9/24", of_type=CIDR)},
    ),
    "loopback": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "what no cluster may use",
        {"addresses": addresses("127.0.0.1")},
    ),
    "link-local": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "what no cluster may use",
        {"addresses": addresses("fe80::1")},
    ),
    "default-route": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "what no cluster may use",
        {"addresses": addresses("0.0.0.0/0", of_type=CIDR)},
    ),
    "multicast-inside": (
        STANDARD,
        "UnsupportedAddress spec.addresses[0].value",
        "what no cluster may use",
        {"addresses": addresses("192.0.0.0/2", of_type=CIDR)},
    ),
    "address-twice": (
        STANDARD,
        "UnsupportedValue spec.addresses[1].value",
        "two addresses of the route overlap",
        {"addresses": addresses("203.0.113.9", "203.0.113.9/32")},
    ),
    "address-in-network": (
        STANDARD,
        "UnsupportedValue spec.addresses[1].value",
        "two addresses of the route overlap",
        {"addresses": addresses("203.0.113.0/28", "203.0.113.9")},
    ),
    "v6-written-twice": (
        STANDARD,
        "UnsupportedValue spec.addresses[1].value",
        "two addresses of the route overlap",
        {"addresses": addresses("2001:db8::1", "2001:db8:0::1")},
    ),
    "selector-empty": (
        STANDARD,
        "InvalidSelector spec.podSelector",
        "podSelector is empty and would match every Pod",
        {"podSelector": {}},
    ),
    "selector-labels-empty": (
        STANDARD,
        "InvalidSelector spec.podSelector",
        "podSelector is empty",
        {"podSelector": {"matchLabels": {}, "matchExpressions": []}},
    ),
    "operator-unknown": (
        STANDARD,
        "InvalidSelector spec.podSelector",
        "operator Has is unknown; use In",
        {"podSelector": needs(operator="Has")},
    ),
    "operator-needs-values": (
        STANDARD,
        "InvalidSelector spec.podSelector",
        "In and NotIn need values",
        {"podSelector": needs(values=[])},
    ),
    "operator-takes-none": (
        STANDARD,
        "InvalidSelector spec.podSelector",
        "Exists and DoesNotExist take no values",
        {"podSelector": needs(operator="Exists")},
    ),
    "node-operator-unknown": (
        FAST,
        "InvalidSelector spec.nodeSelector",
        "operator Has is unknown",
        {"nodeSelector": needs(operator="Has")},
    ),
    "reaction-mode-unknown": (
        STANDARD,
        "UnsupportedValue spec.reactionMode",
        'supported values: "ReadyCondition", "Exists"',
        {"reactionMode": "Warm"},
    ),
    "health-check-blank": (
        BALANCING,
        "UnsupportedValue spec.loadBalancing.healthCheckName",
        "should be at least 1 chars long",
        {"loadBalancing": {"healthCheckName": ""}},
    ),
    "standby-operator": (
        BALANCING,
        "InvalidSelector spec.loadBalancing.standbyPodSelector",
        "operator Has is unknown",
        {"loadBalancing": {"healthCheckName": "x", "standbyPodSelector": needs(operator="Has")}},
    ),
    "ha-on-fast": (
        FAST,
        "UnsupportedValue spec.haPolicy",
        "nodeSelector is for the fast classes and haPolicy",
        {"nodeSelector": needs(), "haPolicy": True},
    ),
    "ha-on-balancing": (
        BALANCING,
        "UnsupportedValue spec.haPolicy",
        "haPolicy is for the standard classes",
        {"loadBalancing": {"healthCheckName": "x"}, "haPolicy": False},
    ),
    "fast-and-balancing": (
        FAST,
        "UnsupportedValue spec.loadBalancing",
        "nodeSelector is for the fast classes and loadBalancing",
        {"nodeSelector": needs(), "loadBalancing": {"healthCheckName": "x"}},
    ),
}

# What is fine: the class that it is for, and what is special.
ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "as-in-the-docs": (STANDARD, {}),
    "type-by-default": (STANDARD, {"addresses": addresses("203.0.113.9", of_type=None)}),
    "address-with-length": (STANDARD, {"addresses": addresses("203.0.113.9/32")}),
    "other-word-for-cidr": (STANDARD, {"addresses": addresses("203.0.113.0/29", of_type="networking.gke.io/cidr")}),
    "both-families": (STANDARD, {"addresses": addresses("203.0.113.9", "2001:DB8::9")}),
    "blanks-around": (STANDARD, {"addresses": addresses(" 203.0.113.9 ")}),
    "addresses-16": (STANDARD, {"addresses": addresses(*(f"203.0.113.{n}" for n in range(16)))}),
    "parents-32": (STANDARD, {"parentRefs": [PARENT] * 32}),
    "parent-spelled-out": (
        STANDARD,
        {"parentRefs": [PARENT | {"group": "gateway.networking.k8s.io", "kind": "Gateway", "sectionName": "any"}]},
    ),
    "one-parent-of-another-kind": (STANDARD, {"parentRefs": [PARENT, PARENT | {"kind": "Service", "group": ""}]}),
    "network-empty": (STANDARD, {"network": ""}),
    "network-old-name": (STANDARD, {"network": "pod-network"}),
    "expressions": (
        STANDARD,
        {
            "podSelector": {
                "matchExpressions": [
                    {"key": "app", "operator": "NotIn", "values": ["a", "b"]},
                    {"key": "app", "operator": "Exists"},
                    {"key": "gone", "operator": "DoesNotExist", "values": []},
                ]
            }
        },
    ),
    "exists": (STANDARD, {"reactionMode": "Exists"}),
    "ha": (STANDARD, {"haPolicy": True}),
    "global-access": (STANDARD, {"allowGlobalAccess": True}),
    "fast": (FAST, {"nodeSelector": {"matchLabels": {"pool": "failover"}}}),
    "fast-all-nodes": (FAST, {"nodeSelector": {}}),
    "balancing": (BALANCING, {"loadBalancing": {"healthCheckName": "probe", "standbyPodSelector": needs()}}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_fault_of_route_alone_is_refused_twice(plane: ControlPlane, case: str) -> None:
    """What a route alone does wrong is refused by the API server in a sentence, and by the controller in any class."""
    class_name, fault, sentence, changes = REFUSED[case]
    answer = plane.request("POST", f"{ROUTES}?dryRun=All", manifest(**changes))
    assert answer.status == 422
    assert sentence in answer.message
    assert faults_of(manifest(**changes), class_name) == [fault]
    for other in (STANDARD, FAST, BALANCING):
        # The route without a fault lacks what some classes need.
        assert set(faults_of(manifest(**changes), other)) - set(faults_of(manifest(), other))


@pytest.mark.parametrize("case", ACCEPTED)
def test_route_in_order_is_accepted_twice(plane: ControlPlane, case: str) -> None:
    """What GKE's schema allows and the documentation does not forbid passes the API server and the controller."""
    class_name, changes = ACCEPTED[case]
    stored = plane.must("POST", f"{ROUTES}?dryRun=All", manifest(**changes))
    assert faults_of(manifest(**changes), class_name) == []
    assert faults_of(stored, class_name) == [], "nor after the schema's defaults"


def test_name_of_reserved_address_is_left_to_the_controller(plane: ControlPlane) -> None:
    """Whether an address can be named depends on the cloud, which the schema does not know."""
    named = manifest(addresses=addresses("edge-1", of_type="NamedAddress"))
    assert plane.request("POST", f"{ROUTES}?dryRun=All", named).status == 201


@pytest.mark.parametrize("parents", [None, []], ids=["absent", "empty"])
def test_route_without_parents_is_left_to_the_controller(plane: ControlPlane, parents: list[Any] | None) -> None:
    """GKE's schema has it, so a manifest made for GKE can be applied; the controller refuses it."""
    stored = plane.must("POST", f"{ROUTES}?dryRun=All", manifest(parentRefs=parents))
    assert faults_of(stored, STANDARD) == ["MissingParent spec.parentRefs"]


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.9", "203.0.113.09", "203.0.113.9/032", "203.0.113.9/33", "203.0.113.9/-1", "203.0.113.9/", "/32",
        "203.0.113.9/255.255.255.255", "203.0.113.9 /32", "203.0.113.256", "203.0.113.9.1", "0xcb.0.113.9",
        "3405803777",
        "2001:db8::1", "2001:DB8::1", "2001:db8:0:0:0:0:0:1", "2001:db8::0001", "2001:db8::00001", "2001:db8:::1",
        "2001:db8::1%eth0", "fe80::1%eth0", "2001:db8::1/128", "2001:db8::1/129", "2001:db8::/48", "2001:db8::1::2",
        "2001:db8:1:2:3:4:5::", "2001:db8:1:2:3:4:5:6:7", "2001:db8::203.0.113.9", "::ffff:203.0.113.9",
        "::203.0.113.9",
        "[2001:db8::1]", "::", "::/0", "::1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "169.254.169.254", "239.1.2.3",
        "ff02::1", "febf::1", "fec0::1", "a.example", "203.0.113.0/24", "\u0661.2.3.4", "\t203.0.113.9",
        "203.0.113.9\u00a0",
    ],
)  # fmt: skip
def test_address_is_read_alike(plane: ControlPlane, text: str) -> None:
    """The API server and the controller agree on what is an address, however oddly it is written."""
    answer = plane.request("POST", f"{ROUTES}?dryRun=All", manifest(addresses=addresses(text)))
    read = parse_prefix(AddressSpec("IPAddress", text))
    refused = isinstance(read, Malformed) or never_usable(read) is not None
    assert answer.status == (422 if refused else 201), answer.message


def test_ha_policy_is_fixed(plane: ControlPlane) -> None:
    """What the cloud cannot take back can be neither set, changed nor taken away later."""
    made = plane.must("POST", ROUTES, manifest(haPolicy=True))
    path = f"{ROUTES}/nat-0"
    try:
        for later in (manifest(haPolicy=False), manifest()):
            later["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
            answer = plane.request("PUT", path, later)
            assert (answer.status, "haPolicy is fixed when the route is made" in answer.message) == (422, True)
        kept = manifest(haPolicy=True, reactionMode="Exists")
        kept["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
        assert plane.request("PUT", path, kept).status == 200
    finally:
        plane.must("DELETE", path)


def test_status_alone_is_written_through_status(plane: ControlPlane) -> None:
    """A status sent with the route is dropped, and a spec sent with the status changes nothing."""
    sent = manifest() | {"status": {"pods": ["liar"]}}
    made = plane.must("POST", ROUTES, sent)
    try:
        assert "status" not in made
        made["spec"]["network"] = "blue"
        made["status"] = {"pods": ["nat-0"]}
        told = plane.must("PUT", f"{ROUTES}/nat-0/status", made)
        assert (told["spec"]["network"], told["status"]["pods"]) == ("default", ["nat-0"])
    finally:
        plane.must("DELETE", f"{ROUTES}/nat-0")


def test_kubectl_get_tells_the_story(plane: ControlPlane) -> None:
    """`kubectl get` shows addresses, holder, readiness with its reason, and age; `-o wide` every address."""
    made = plane.must("POST", ROUTES, manifest(addresses=addresses("203.0.113.20", "2001:db8::20")))
    try:
        times = {"lastTransitionTime": "2026-01-05T10:00:00Z", "message": ""}
        ready = {"type": "Ready", "status": "False", "reason": "Programming"} | times
        accepted = {"type": "Accepted", "status": "True", "reason": "Accepted"} | times
        made["status"] = {"pods": ["nat-0-x"], "conditions": [accepted, ready]}
        plane.must("PUT", f"{ROUTES}/nat-0/status", made)
        head, row = plane.kubectl("get", "gkeiproutes", "-n", "tenant").splitlines()
        assert head.split() == ["NAME", "ADDRESSES", "POD", "READY", "REASON", "AGE"]
        assert row.split()[:-1] == ["nat-0", "203.0.113.20", "nat-0-x", "False", "Programming"]
        assert "2001:db8::20" in plane.kubectl("get", "gkeiproute", "nat-0", "-n", "tenant", "-o", "wide")
        assert "gkeiproute.networking.gke.io/nat-0" in plane.kubectl("get", "persistip", "-n", "tenant", "-o", "name")
    finally:
        plane.must("DELETE", f"{ROUTES}/nat-0")


def test_kubectl_explains_every_field(plane: ControlPlane) -> None:
    """`kubectl explain` has a text for every field of both kinds."""
    for kind in ("gkeiproutes", "addressattachments"):
        assert "<no description>" not in plane.kubectl("explain", kind, "--recursive")
        assert "DESCRIPTION" in plane.kubectl("explain", f"{kind}.spec")


def without_rules(node: Any) -> Any:
    """Return a schema with the same fields of the same types, and nothing that would refuse or fill in a value."""
    if isinstance(node, list):
        return [without_rules(each) for each in node]
    if not isinstance(node, dict):
        return node
    limits = {"default", "enum", "pattern", "x-kubernetes-validations"}
    limits |= {f"{which}{what}" for which in ("min", "max") for what in ("Items", "Length", "imum")}
    return {name: without_rules(child) for name, child in node.items() if name not in limits}


@pytest.fixture(scope="module")
def bare_plane() -> Iterator[ControlPlane]:
    """Return an API server whose CRD has the fields alone, as a cluster may have that did not get it from us."""
    (crd,) = build(Parameters(), ["crd-gkeiproutes.yaml"])
    crd["spec"]["versions"] = without_rules(crd["spec"]["versions"])
    with ControlPlane() as plane:
        plane.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(crd))
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        plane.must("POST", "/api/v1/namespaces", {"metadata": {"name": "tenant"}})
        yield plane


def test_without_rules_in_the_schema_the_controller_refuses(bare_plane: ControlPlane) -> None:
    """Where the CRD lets everything through, each faulty route is listed, read and refused, and a good one accepted."""
    for case, (*_, changes) in REFUSED.items():
        body = manifest(**changes)
        body["metadata"]["name"] = case
        bare_plane.must("POST", ROUTES, body)
    bare_plane.must("POST", ROUTES, manifest())
    stored = bare_plane.must("GET", ROUTES)["items"]
    for each in stored:
        class_name, fault, *_ = REFUSED.get(each["metadata"]["name"], (STANDARD, ""))
        assert faults_of(each, class_name) == ([fault] if fault else []), each["metadata"]["name"]
    assert {each["metadata"]["name"] for each in stored} == {*REFUSED, "nat-0"}
