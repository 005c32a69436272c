"""
Do the shipped rights and policies hold against those who try?

The attackers have what an attacker could have: the token of an agent on another node, the ServiceAccount's token from
elsewhere, a namespace's administrator, and a user with every right on attachments given by mistake.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from controlplane import Answer, ControlPlane
from programs import until
from written import ATTACHMENTS, manifest

pytestmark = pytest.mark.requires("apiserver")

SYSTEM = "persistip-system"
AGENT, CONTROLLER = "persistip-agent", "persistip-controller"
NAME = "r-policies"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
ROUTE = "/apis/networking.gke.io/v1/namespaces/tenant/gkeiproutes/nat-0"
STANDARD, FAST = "gke-persistent-regional-external-managed", "gke-persistent-fast-regional-external-managed"
LISTENER = {"name": "any", "port": 1, "protocol": "none"}
GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces/infra/gateways"


class Cluster:
    """The API server with an attachment held on node-a that node-b lets go of, and the tokens of all concerned."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.agent = {node: plane.token_on_node(SYSTEM, AGENT, node) for node in ("node-a", "node-b", "node-c")}
        self.unbound = plane.token(SYSTEM, AGENT)
        self.controller = plane.token(SYSTEM, CONTROLLER)

    def report(self, token: str, node: str, *, query: str = "", spec: Any = None, **entry: Any) -> Answer:
        """Apply an entry of ``status.nodes`` as an agent does."""
        body: dict[str, Any] = {
            "apiVersion": "persistip.dev/v1alpha1",
            "kind": "AddressAttachment",
            "metadata": {"name": NAME},
            "status": {"nodes": [{"nodeName": node, "epoch": 5, "state": "Programmed"} | entry]},
        }
        if spec is not None:
            body["spec"] = spec
            body["metadata"] |= {"labels": {"stolen": "yes"}, "finalizers": ["stolen.example/yes"]}
        path = f"{ATTACHMENTS}/{NAME}/status?fieldManager={query or f'{AGENT}-{node}'}"
        return self.plane.request("PATCH", path, body, token=token, content_type=APPLY)

    def stored(self) -> Any:
        """Return the attachment as it stands."""
        return self.plane.must("GET", f"{ATTACHMENTS}/{NAME}")


@pytest.fixture(scope="module")
def ready(control_plane: ControlPlane) -> Cluster:
    """Return the cluster once its policies are in force, which takes the API server a moment after they are made."""
    cluster = Cluster(control_plane)
    body = manifest() | {"metadata": {"name": "r-probe"}}
    probe = f"{ATTACHMENTS}?dryRun=All"
    stranger = _user(control_plane, "probing", ["create"])
    until(lambda: "controller alone" in control_plane.request("POST", probe, body, token=stranger).message, "policies")
    return cluster


@pytest.fixture
def cluster(ready: Cluster) -> Iterator[Cluster]:
    """Return the cluster with its attachment in it."""
    body = manifest() | {"metadata": {"name": NAME}}
    ready.plane.must("POST", ATTACHMENTS, body, token=ready.controller)
    yield ready
    ready.plane.must("DELETE", f"{ATTACHMENTS}/{NAME}", token=ready.controller)


def _user(plane: ControlPlane, name: str, verbs: list[str]) -> str:
    """Return the token of a ServiceAccount that has *verbs* on attachments and their status."""
    rules = [{"apiGroups": ["persistip.dev"], "resources": ["addressattachments", "addressattachments/status"]}]
    rules[0]["verbs"] = verbs
    plane.must("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    plane.must("POST", f"{rbac}/clusterroles", {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    plane.must("POST", f"{rbac}/clusterrolebindings", binding)
    return plane.token("default", name)


# ---------------------------------------------------------------- agents
@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_agent_reports_for_its_own_node(cluster: Cluster, node: str) -> None:
    """The agents of the holder and of a node that lets go write their own entries, side by side."""
    assert cluster.report(cluster.agent["node-a"], "node-a").status == 200
    assert cluster.report(cluster.agent["node-b"], "node-b", state="Idle").status == 200
    mine = cluster.report(cluster.agent[node], node, message="again")
    assert mine.status == 200
    assert {each["nodeName"] for each in cluster.stored()["status"]["nodes"]} == {"node-a", "node-b"}


def test_agent_reports_for_another_node_is_refused(cluster: Cluster) -> None:
    """An agent can neither write nor take away another node's entry, under any manager's name or by force."""
    assert cluster.report(cluster.agent["node-a"], "node-a").status == 200
    before = cluster.stored()["status"]
    for query in ("persistip-agent-node-a", "persistip-agent-node-a&force=true", "other&force=true"):
        answer = cluster.report(cluster.agent["node-b"], "node-a", query=query, state="Failed")
        assert (answer.status, "the agent of node node-b reports for that node only" in answer.message) == (403, True)
    wipe = {"status": {"nodes": []}}
    path = f"{ATTACHMENTS}/{NAME}/status"
    assert cluster.plane.request("PATCH", path, wipe, token=cluster.agent["node-b"], content_type=MERGE).status == 403
    assert cluster.stored()["status"] == before


def test_agent_without_a_part_is_refused(cluster: Cluster) -> None:
    """The agent of a node that neither holds nor releases has nothing to say."""
    answer = cluster.report(cluster.agent["node-c"], "node-c")
    assert (answer.status, "node node-c neither holds nor releases" in answer.message) == (403, True)


def test_agent_confirms_undecided_epoch_is_refused(cluster: Cluster) -> None:
    """Nothing can be confirmed before it has been decided, nor released."""
    for entry in ({"epoch": 6}, {"released": 6}):
        answer = cluster.report(cluster.agent["node-a"], "node-a", **entry)
        assert (answer.status, "an epoch that has not been decided" in answer.message) == (422, True)


def test_token_from_elsewhere_is_refused(cluster: Cluster) -> None:
    """The agents' ServiceAccount without a Pod on a node names no node, and writes nothing."""
    answer = cluster.report(cluster.unbound, "node-a")
    assert (answer.status, "the token names no node" in answer.message) == (403, True)


def test_agent_sends_spec_with_status_changes_nothing(cluster: Cluster) -> None:
    """Spec, labels and finalizers that come along with a report are dropped."""
    before = cluster.stored()
    thief = manifest(nodeName="node-b", nodeUID="uid-node-b", epoch=6)["spec"]
    answer = cluster.report(cluster.agent["node-b"], "node-b", spec=thief)
    assert answer.status == 200, answer.message
    after = cluster.stored()
    assert [(each["nodeName"], each["state"]) for each in after["status"]["nodes"]] == [("node-b", "Programmed")]
    assert after["spec"] == before["spec"]
    assert [after["metadata"].get(each) for each in ("labels", "finalizers")] == [None, None]


@pytest.mark.parametrize(
    ("method", "path", "body", "right"),
    [
        ("PATCH", f"{ATTACHMENTS}/{NAME}", {"spec": {"nodeName": "node-b"}}, "patch addressattachments"),
        ("PATCH", f"{ATTACHMENTS}/{NAME}", {"metadata": {"labels": {"mine": ""}}}, "patch addressattachments"),
        ("PATCH", f"{ATTACHMENTS}/{NAME}", {"metadata": {"finalizers": None}}, "patch addressattachments"),
        ("DELETE", f"{ATTACHMENTS}/{NAME}", None, "delete addressattachments"),
        ("POST", ATTACHMENTS, manifest(), "create addressattachments"),
        ("PATCH", f"{ROUTE}/status", {"status": {"pods": ["x"]}}, "patch gkeiproutes/status"),
        (
            "PUT",
            f"{ATTACHMENTS}/{NAME}/status",
            manifest() | {"metadata": {"name": NAME}},
            "update addressattachments/status",
        ),
        ("DELETE", ATTACHMENTS, None, "deletecollection addressattachments"),
        ("PATCH", f"{ATTACHMENTS}/{NAME}", {"metadata": {"ownerReferences": []}}, "patch addressattachments"),
        ("PATCH", ROUTE, {"metadata": {"labels": {"a": ""}}}, "patch gkeiproutes"),
        ("PATCH", ROUTE, {"spec": {"addresses": []}}, "patch gkeiproutes"),
        ("DELETE", ROUTE, None, "delete gkeiproutes"),
        ("PATCH", "/api/v1/namespaces/tenant", {"metadata": {"labels": {"a": ""}}}, "patch namespaces"),
        (
            "PATCH",
            "/api/v1/nodes/node-a",
            {"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}},
            "patch nodes",
        ),
        (
            "POST",
            f"/api/v1/namespaces/{SYSTEM}/configmaps",
            {"metadata": {"name": "persistip-suspects"}},
            "create configmaps",
        ),
        ("GET", f"{LEASES}/{CONTROLLER}", None, "get leases"),
        ("PATCH", f"{LEASES}/{CONTROLLER}", {"spec": {"holderIdentity": "node-b"}}, "patch leases"),
        ("POST", LEASES, {"metadata": {"name": CONTROLLER}}, "create leases"),
        (
            "POST",
            f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{CONTROLLER}/token",
            {"spec": {"audiences": []}},
            "create serviceaccounts/token",
        ),
        (
            "POST",
            f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{AGENT}/token",
            {"spec": {"audiences": []}},
            "create serviceaccounts/token",
        ),
        ("GET", "/apis/networking.gke.io/v1/gkeiproutes", None, "list gkeiproutes"),
        ("GET", "/api/v1/pods", None, "list pods"),
        ("GET", "/api/v1/secrets", None, "list secrets"),
        ("GET", "/api/v1/nodes", None, "list nodes"),
        ("POST", "/api/v1/namespaces/tenant/events", {"metadata": {"name": "x"}}, "create events"),
    ],
)
def test_agent_reaches_nothing_else(cluster: Cluster, method: str, path: str, body: Any, right: str) -> None:
    """An agent's rights end at reading attachments and writing its report: no policy has to refuse the rest."""
    answer = cluster.plane.request(method, path, body, token=cluster.agent["node-b"], content_type=(
        MERGE if method == "PATCH" else "application/json"
    ))  # fmt: skip
    verb, resource = right.split()
    words = f'"system:serviceaccount:{SYSTEM}:{AGENT}" cannot {verb} resource "{resource}"'
    assert (answer.status, words in answer.message) == (403, True), answer.message


def test_agent_takes_its_entry_for_another_nodes_is_refused(cluster: Cluster) -> None:
    """Writing one's own entry does not carry another node's along, nor a second one for oneself."""
    both = [{"nodeName": each, "epoch": 5, "state": "Failed"} for each in ("node-b", "node-a")]
    path = f"{ATTACHMENTS}/{NAME}/status"
    for how, query in ((APPLY, "?fieldManager=mine&force=true"), (MERGE, "")):
        body = {"apiVersion": "persistip.dev/v1alpha1", "kind": "AddressAttachment", "status": {"nodes": both}}
        answer = cluster.plane.request("PATCH", path + query, body, token=cluster.agent["node-b"], content_type=how)
        assert (answer.status, "reports for that node only" in answer.message) == (403, True), how
    assert "status" not in cluster.stored()


def test_agent_that_has_no_part_any_more_is_refused(cluster: Cluster) -> None:
    """Who held once has no say in what another holds now."""
    assert cluster.report(cluster.agent["node-b"], "node-b", state="Idle").status == 200
    alone = cluster.stored()
    alone["spec"]["releasing"] = []
    cluster.plane.must("PUT", f"{ATTACHMENTS}/{NAME}", alone, token=cluster.controller)
    late = cluster.report(cluster.agent["node-b"], "node-b", state="Programmed")
    assert (late.status, "node node-b neither holds nor releases" in late.message) == (403, True)


def test_token_of_an_agent_that_is_gone_is_worth_nothing(cluster: Cluster) -> None:
    """A token that was stolen from an agent ends with the agent's Pod."""
    plane = cluster.plane
    token = plane.token_on_node(SYSTEM, AGENT, "node-a")
    assert cluster.report(token, "node-a").status == 200
    claims = token.split(".")[1]
    pod = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["kubernetes.io"]["pod"]["name"]
    plane.must("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}", {"gracePeriodSeconds": 0})
    # The API server remembers for some seconds whom it has let in.
    until(lambda: cluster.report(token, "node-a").status == 401, "the token to end", 30)


# ---------------------------------------------------------------- tenants and their administrators
def test_namespace_administrator_claims_and_reaches_no_attachment(working_plane: ControlPlane) -> None:
    """Who has Kubernetes' own `admin` role in a namespace writes routes there, and cannot even read attachments."""
    plane = working_plane
    boss = _administrator(plane, "tenant-admin")
    mine = "/apis/networking.gke.io/v1/namespaces/tenant-admin/gkeiproutes"
    until(lambda: plane.request("GET", mine, token=boss).status == 200, "the role to be put together")
    spec = {
        "parentRefs": [{"name": "p"}],
        "addresses": [{"value": "203.0.113.9"}],
        "podSelector": {"matchLabels": {"a": "b"}},
    }
    route = {"metadata": {"name": "mine"}, "spec": spec}
    assert plane.request("POST", f"{mine}?dryRun=All", route | _kind("GKEIPRoute"), token=boss).status == 201
    assert plane.request("PUT", f"{mine}/mine/status", route | _kind("GKEIPRoute"), token=boss).status == 403
    elsewhere = mine.replace("tenant-admin", "infra")
    assert plane.request("GET", elsewhere, token=boss).status == 403
    plane.must("POST", ATTACHMENTS, manifest())
    one = f"{ATTACHMENTS}/r-rules"
    stolen = manifest(epoch=6, pod={"name": "mine", "uid": "uid-mine", "ips": ["10.0.0.9"]})
    for method, path, body in (
        ("GET", ATTACHMENTS, None),
        ("GET", one, None),
        ("POST", ATTACHMENTS, manifest() | {"metadata": {"name": "r-mine"}}),
        ("PUT", one, stolen),
        ("PUT", f"{one}/status", stolen),
        ("DELETE", one, None),
        ("DELETE", ATTACHMENTS, None),
    ):
        assert plane.request(method, path, body, token=boss).status == 403, f"{method} {path}"
    assert plane.must("GET", one)["spec"] == manifest()["spec"]
    plane.must("DELETE", one)


def test_namespace_administrator_gives_itself_no_right_of_ours(working_plane: ControlPlane) -> None:
    """Neither our roles, nor our ServiceAccounts, nor our Lease are within reach of a namespace's administrator."""
    plane = working_plane
    boss = _administrator(plane, "tenant-boss")
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    until(lambda: plane.request("GET", "/api/v1/namespaces/tenant-boss/pods", token=boss).status == 200, "its role")
    subject = {"kind": "ServiceAccount", "name": "boss", "namespace": "tenant-boss"}
    for kind in (CONTROLLER, AGENT):
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": kind}
        binding = {"metadata": {"name": f"steal-{kind}"}, "roleRef": role, "subjects": [subject]}
        here = f"{rbac}/namespaces/tenant-boss/rolebindings"
        assert plane.request("POST", here, binding, token=boss).status == 403
        assert plane.request("POST", f"{rbac}/clusterrolebindings", binding, token=boss).status == 403
    home = "/api/v1/namespaces/addresses"
    for method, path, body in (
        ("POST", f"{home}/serviceaccounts/{CONTROLLER}/token", {"spec": {"audiences": []}}),
        ("POST", f"{home}/pods", {"metadata": {"name": "x"}, "spec": {"serviceAccountName": CONTROLLER}}),
        ("GET", f"/apis/coordination.k8s.io/v1/namespaces/addresses/leases/{CONTROLLER}", None),
        ("POST", f"{home}/configmaps", {"metadata": {"name": "persistip-suspects"}}),
        ("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/persistip-decisions", None),
        ("PATCH", "/apis/gateway.networking.k8s.io/v1/gatewayclasses/gke-persistent-regional-external-managed",
         {"metadata": {"finalizers": None}}),
    ):  # fmt: skip
        how = MERGE if method == "PATCH" else "application/json"
        assert plane.request(method, path, body, token=boss, content_type=how).status == 403, f"{method} {path}"


def _administrator(plane: ControlPlane, namespace: str) -> str:
    """Return the token of somebody with Kubernetes' own `admin` role in a new namespace."""
    plane.must("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    plane.must("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "boss"}})
    binding = {
        "metadata": {"name": "boss"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "boss", "namespace": namespace}],
    }
    plane.must("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", binding)
    return plane.token(namespace, "boss")


def _kind(kind: str) -> dict[str, str]:
    return {"apiVersion": "networking.gke.io/v1", "kind": kind}


def test_rights_given_by_mistake_decide_nothing(cluster: Cluster) -> None:
    """Somebody with every right on attachments can still not write, report or delete one, and is told what to do."""
    plane = cluster.plane
    lucky = _user(plane, "lucky", ["*"])
    mine = manifest(epoch=6, nodeName="node-c", nodeUID="uid-node-c") | {"metadata": {"name": NAME}}
    mine["metadata"]["resourceVersion"] = cluster.stored()["metadata"]["resourceVersion"]
    for method, path, body in (
        ("PUT", f"{ATTACHMENTS}/{NAME}", mine),
        ("DELETE", f"{ATTACHMENTS}/{NAME}", None),
        ("POST", ATTACHMENTS, manifest() | {"metadata": {"name": "r-planted"}}),
        ("DELETE", ATTACHMENTS, None),
    ):
        answer = plane.request(method, path, body, token=lucky)
        assert (answer.status, "use `persistip move`" in answer.message) == (403, True), f"{method}: {answer.message}"
    told = cluster.report(lucky, "node-a")
    assert (told.status, "only the controller and the agents" in told.message) == (403, True)


# ---------------------------------------------------------------- Gateways
class UsedGateway:
    """A Gateway of some class, to which routes can be said to be attached."""

    def __init__(self, plane: ControlPlane, name: str, class_name: str) -> None:
        self._plane, self._path = plane, f"{GATEWAYS}/{name}"
        spec = {"gatewayClassName": class_name, "listeners": [LISTENER]}
        plane.must("POST", GATEWAYS, {"metadata": {"name": name}, "spec": spec} | _gateway())

    def change(self, *, dry: bool = False, **fields: Any) -> Answer:
        """Change fields of its spec."""
        path = self._path + ("?dryRun=All" if dry else "")
        return self._plane.request("PATCH", path, {"spec": fields}, content_type=MERGE)

    def attach(self, routes: int) -> None:
        """Say in its status that so many GKEIPRoutes are attached."""
        kinds = [{"group": "networking.gke.io", "kind": "GKEIPRoute"}]
        status = {"name": LISTENER["name"], "attachedRoutes": routes, "conditions": [], "supportedKinds": kinds}
        body = {"status": {"listeners": [status]}}
        self._plane.must("PATCH", f"{self._path}/status", body, content_type=MERGE)

    def is_fixed(self, class_name: str) -> bool:
        """Whether its class may not become *class_name*, and the answer says why; nothing is changed."""
        answer = self.change(dry=True, gatewayClassName=class_name)
        return answer.status == 403 and "while GKEIPRoutes are attached" in answer.message


@pytest.fixture
def used(ready: Cluster) -> Iterator[UsedGateway]:
    """Return a Gateway of a class of ours with a route, once the API server guards it: it looks at classes then."""
    ready.plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "infra"}})
    made = UsedGateway(ready.plane, "used", STANDARD)
    made.attach(1)
    until(lambda: made.is_fixed(FAST), "the policy of Gateways")
    yield made
    ready.plane.must("DELETE", f"{GATEWAYS}/used")


def test_class_of_gateway_in_use_is_fixed(used: UsedGateway) -> None:
    """The class of a Gateway with routes of ours cannot change; without them it can, and other fields always can."""
    assert used.is_fixed(FAST)
    assert used.is_fixed("of-nobody")
    assert used.change(listeners=[LISTENER | {"name": "other"}, LISTENER | {"port": 2}]).status == 200
    used.attach(0)
    assert used.change(gatewayClassName=FAST).status == 200


def test_class_of_gateway_of_another_controller_is_its_business(ready: Cluster) -> None:
    """A Gateway whose class has another controllerName may change it with GKEIPRoutes attached, even to one of ours."""
    plane, names = ready.plane, ("theirs", "ours-since-then")
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "infra"}})
    classes = "/apis/gateway.networking.k8s.io/v1/gatewayclasses"
    for name, controller in zip(names, ("networking.gke.io/gateway", "persistip.dev/controller"), strict=True):
        body = {"metadata": {"name": name}, "spec": {"controllerName": controller}} | _gateway()
        plane.must("POST", classes, body | {"kind": "GatewayClass"})
    made = {name: UsedGateway(plane, name, name) for name in names}
    try:
        for each in made.values():
            each.attach(1)
        until(lambda: made["ours-since-then"].is_fixed(FAST), "the newer of the two classes to be known")
        assert made["theirs"].change(dry=True, gatewayClassName="theirs-too").status == 200
        assert made["theirs"].change(gatewayClassName=STANDARD).status == 200
        assert made["theirs"].is_fixed("theirs"), "it is ours by now"
    finally:
        for name in names:
            plane.must("DELETE", f"{GATEWAYS}/{name}")
            plane.must("DELETE", f"{classes}/{name}")


def _gateway() -> dict[str, str]:
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway"}
