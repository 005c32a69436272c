"""Does `persistip uninstall` leave a cluster as if persistip had never been there, and what is others' untouched?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import Said, run_script
from controlplane import ControlPlane
from living import MERGE, ROUTES, Living
from programs import until

from persistip.backends.apiserver.console import path_of
from persistip.manifests import Parameters, build
from persistip.model.gateway import IN_USE_FINALIZER

pytestmark = pytest.mark.requires("apiserver")

MANIFESTS = build(Parameters())
CLASSES = "/apis/gateway.networking.k8s.io/v1/gatewayclasses"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def living() -> Iterator[Living]:
    """Return a cluster of its own in which nat-0 on node-a holds an address, and whose controller runs."""
    with ControlPlane() as plane:
        plane.install_persistip()
        with Living(plane).running() as cluster:
            cluster.pool("tenant", "203.0.113.0/28")
            cluster.pod("tenant", "nat-0", "node-a", app="nat")
            cluster.route("tenant", "nat", "203.0.113.5")
            cluster.wait_held("tenant", "nat", "nat-0")
            yield cluster


def administrator(living: Living) -> Path:
    """Return the kubeconfig of a user who may do everything, and is no member of system:masters."""
    plane = living.plane
    plane.must("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "root"}})
    who = ("--clusterrole=cluster-admin", "--serviceaccount=default:root")
    plane.kubectl("create", "clusterrolebinding", "root", *who)
    path = plane.write_kubeconfig("root", plane.token("default", "root"))
    until(lambda: "yes" in plane.try_kubectl("auth", "can-i", "*", "*", kubeconfig=path).stdout, "the rights of root")
    return path


def uninstall(living: Living, *words: str, kubeconfig: Path | None = None) -> Said:
    """Run the verb as the administrator of the cluster."""
    return run_script("uninstall", *words, "--kubeconfig", str(kubeconfig or living.plane.kubeconfig))


def standing(living: Living) -> list[str]:
    """Return what is there of the manifests; what is on its way out counts."""
    answers = {path_of(each): living.plane.request("GET", path_of(each)) for each in MANIFESTS}
    return [path for path, answer in answers.items() if answer.status != 404]


def entries(living: Living) -> int:
    """Return how many entries of ours the nodes' kernels hold."""
    return sum(living.entries(name) for name in living.nodes)


def foreign_class(living: Living, name: str) -> None:
    """Make a GatewayClass of another controller, under a name of ours."""
    living.plane.must("DELETE", f"{CLASSES}/{name}")
    until(lambda: living.plane.request("GET", f"{CLASSES}/{name}").status == 404, "the class to go")
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": name}}
    living.plane.must("POST", CLASSES, body | {"spec": {"controllerName": "networking.gke.io/gateway"}})


def test_every_manifest_is_found_where_it_is(control_plane: ControlPlane) -> None:
    """The path made of each object's kind and name is the one under which Kubernetes serves it."""
    assert [path_of(each) for each in MANIFESTS if control_plane.request("GET", path_of(each)).status != 200] == []


def test_uninstall_leaves_nothing_but_what_is_yours(living: Living) -> None:
    """Nodes let go, everything installed goes, and a route, a Gateway and another's class stay as they are."""
    foreign = "gke-passthrough-lb-internal-managed"
    foreign_class(living, foreign)
    root = administrator(living)
    assert entries(living) > 0
    living.stop("controller")
    said = uninstall(living, kubeconfig=root)
    assert (said.status, said.err) == (0, "")
    assert "every address is withdrawn, and every node has confirmed it" in said.out
    assert "kept GatewayClass gke-passthrough-lb-internal-managed: it belongs to networking.gke.io/gateway" in said.out
    assert "your routes are of it (tenant/nat); with --routes they go too" in said.out
    assert entries(living) == 0, "no node goes on delivering"
    # Nobody empties a namespace here; it is on its way out, and so is what is in it.
    namespace = living.plane.must("GET", "/api/v1/namespaces/persistip-system")
    assert namespace["status"]["phase"] == "Terminating"
    kept = [f"{CRDS}/gkeiproutes.networking.gke.io", f"{CLASSES}/{foreign}"]
    until(lambda: sorted(standing(living)) == sorted([*kept, "/api/v1/namespaces/persistip-system"]), "all to go")
    route = living.plane.must("GET", f"{ROUTES.format('tenant')}/nat")
    assert route["spec"]["addresses"] == [{"type": "IPAddress", "value": "203.0.113.5"}]
    assert route.get("status", {}) == {}, "nobody says any longer that it is Ready"
    gateway = living.plane.must("GET", "/apis/gateway.networking.k8s.io/v1/namespaces/tenant/gateways/public")
    reasons = {each["reason"] for each in gateway["status"]["conditions"]}
    assert reasons == {"Pending"}, "as Gateway API has it where no controller has looked"


def test_uninstall_again_finds_nothing(living: Living) -> None:
    """What was done once is done; with --routes the routes and their CRD are gone too."""
    living.stop("controller")
    assert uninstall(living, "--routes").status == 0
    until(lambda: living.plane.request("GET", f"{CRDS}/gkeiproutes.networking.gke.io").status == 404, "the CRD to go")
    again = uninstall(living, "--routes")
    assert (again.out, again.err, again.status) == ("nothing of ours is there\n", "", 0)


def test_uninstall_leaves_your_class_as_you_made_it(living: Living) -> None:
    """A GatewayClass that you made for the controller stays, and nothing on it says that there is one."""
    plane = living.plane
    spec = {"controllerName": Parameters().controller_name}
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "mine"}}
    plane.must("POST", CLASSES, body | {"spec": spec})
    gateways = "/apis/gateway.networking.k8s.io/v1/namespaces/tenant/gateways"
    gateway = {"gatewayClassName": "mine", "listeners": [{"name": "any", "port": 1, "protocol": "none"}]}
    meta = {"name": "second", "namespace": "tenant"}
    plane.must("POST", gateways, {**body, "kind": "Gateway", "metadata": meta, "spec": gateway})
    path = f"{CLASSES}/mine"
    until(lambda: IN_USE_FINALIZER in plane.must("GET", path)["metadata"].get("finalizers", ()), "the class to be used")
    living.stop("controller")
    said = uninstall(living)
    assert (said.status, said.err) == (0, "")
    assert "kept GatewayClass mine: it is yours" in said.out
    left = plane.must("GET", path)
    assert (left["spec"], left["metadata"].get("finalizers")) == (spec, None)
    reasons = {each["reason"] for each in left["status"]["conditions"]}
    assert reasons == {"Pending"}, "as Gateway API has it where no controller has looked"
    assert [each for each in left["metadata"]["managedFields"] if each["manager"] == "persistip-controller"] == []
    assert uninstall(living).out == "nothing of ours is there\n"


def test_uninstall_dry_run_changes_nothing(living: Living) -> None:
    """What would be withdrawn, deleted and kept is said, and the API server is asked for nothing but reads."""
    root = administrator(living)
    with living.plane.audited() as log:
        said = uninstall(living, "--dry-run", kubeconfig=root)
    assert {event["verb"] for event in log.by("system:serviceaccount:default:root")} <= {"get", "list"}
    assert said.status == 0
    assert "would withdraw 203.0.113.5 of GKEIPRoute tenant/nat from nat-0 on node-a" in said.out
    assert "would delete DaemonSet persistip-system/persistip-agent" in said.out
    assert "would keep CustomResourceDefinition gkeiproutes.networking.gke.io: your routes are of it" in said.out


def test_uninstall_with_silent_agent_says_which_node(living: Living) -> None:
    """A node that does not let go keeps everything in place, is named with the fix, and can be left behind by force."""
    living.stop("controller")
    living.stop("node-a")
    said = uninstall(living, "--timeout", "3")
    assert said.status == 1
    assert "of GKEIPRoute tenant/nat: node-a has not let go; does an agent run there?" in said.err
    assert "node.kubernetes.io/out-of-service" in said.err
    assert any("daemonsets/persistip-agent" in path for path in standing(living)), "agents go last"
    forced = uninstall(living, "--timeout", "3", "--force")
    assert forced.status == 0
    assert "by force" in forced.out
    gone = f"{CRDS}/addressattachments.persistip.dev"
    until(lambda: living.plane.request("GET", gone).status == 404, "the attachments and their CRD to go")


def test_uninstall_of_a_dead_node_goes_on_at_the_administrators_word(living: Living) -> None:
    """A node that is tainted out of service need not let go."""
    living.stop("controller")
    living.stop("node-a")
    living.plane.kubectl("taint", "node", "node-a", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
    assert uninstall(living, "--timeout", "20").status == 0


def test_uninstall_beside_a_running_controller_stops(living: Living) -> None:
    """A controller that runs elsewhere keeps its lease, and nothing is taken from under it."""
    said = uninstall(living, "--timeout", "2")
    assert said.status == 1
    assert "a controller still runs somewhere: it does not give up the Lease persistip-controller" in said.err
    assert living.status("tenant", "nat")["pods"] == ["nat-0"]
    assert entries(living) > 0


def test_uninstall_without_rights_names_them(living: Living) -> None:
    """Who may not do this is told what is missing, before anything has changed."""
    plane = living.plane
    plane.must("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "eve"}})
    before = standing(living)
    said = uninstall(living, kubeconfig=plane.write_kubeconfig("eve", plane.token("default", "eve")))
    assert (said.status, said.out) == (2, "")
    assert 'User "system:serviceaccount:default:eve" cannot' in said.err
    assert standing(living) == before


def test_uninstall_keeps_a_definition_that_is_not_ours(living: Living) -> None:
    """A CRD without our mark is somebody else's, such as GKE's own, and a namespace with other things in it stays."""
    crd = f"{CRDS}/gkeiproutes.networking.gke.io"
    unmarked: dict[str, Any] = {"metadata": {"labels": None}}
    living.plane.must("PATCH", crd, unmarked, content_type=MERGE)
    mine = {"metadata": {"name": "mine"}}
    living.plane.must("POST", "/api/v1/namespaces/persistip-system/configmaps", mine)
    living.stop("controller")
    said = uninstall(living, "--routes")
    assert "kept CustomResourceDefinition gkeiproutes.networking.gke.io: somebody else installed it" in said.out
    assert "kept Namespace persistip-system: it has other things in it (ConfigMap mine)" in said.out
    assert living.plane.request("GET", f"{ROUTES.format('tenant')}/nat").status == 200
    assert living.plane.must("GET", "/api/v1/namespaces/persistip-system")["status"]["phase"] == "Active"
