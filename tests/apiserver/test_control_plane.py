"""Is the test control plane what the other tests take it for: real, restartable, accounted for, and gone afterwards?"""

from pathlib import Path

import pytest
from audit import permission
from controlplane import ControlPlane
from programs import until

pytestmark = pytest.mark.requires("apiserver")

NAMESPACES = "/api/v1/namespaces"


@pytest.fixture(scope="module")
def plane() -> ControlPlane:
    """Return a control plane of this module's own, whose servers come and go."""
    with ControlPlane() as running:
        yield running


def test_server_killed_and_started_keeps_objects(plane: ControlPlane) -> None:
    """What was written through one API server is there in another and in the first after its sudden end."""
    plane.must("POST", NAMESPACES, {"metadata": {"name": "kept"}})
    first, second = plane.servers[0], plane.add_server()
    assert plane.request("GET", f"{NAMESPACES}/kept", server=second).status == 200
    first.kill()
    first.start()
    assert plane.request("GET", f"{NAMESPACES}/kept", server=first).status == 200


def test_requests_audited_by_user_and_permission(plane: ControlPlane) -> None:
    """The audit log says what a ServiceAccount asked for, on which node its token is bound, and what was refused."""
    plane.must("POST", NAMESPACES, {"metadata": {"name": "audited"}})
    plane.must("POST", f"{NAMESPACES}/audited/serviceaccounts", {"metadata": {"name": "agent"}})
    token = plane.token_on_node("audited", "agent", "node-audited")
    with plane.audited() as log:
        plane.request("GET", "/api/v1/pods", token=token)
        plane.request("GET", f"{NAMESPACES}/audited")
    (event,) = log.by("system:serviceaccount:audited:agent")
    assert permission(event) == ("list", "", "pods")
    assert event["user"]["extra"]["authentication.kubernetes.io/node-name"] == ["node-audited"]
    assert event["responseStatus"]["code"] == 403


def test_history_compacted_expires_paged_list(plane: ControlPlane) -> None:
    """A list that is resumed after its history was compacted away, from etcd and memory, is told 410."""
    for name in ("one", "two"):
        plane.must("POST", NAMESPACES, {"metadata": {"name": name}})
    page = plane.must("GET", f"{NAMESPACES}?limit=1")
    plane.must("POST", NAMESPACES, {"metadata": {"name": "three"}})
    plane.compact()
    for server in plane.servers:
        server.kill()
        server.start()
    token = page["metadata"]["continue"]
    assert plane.request("GET", f"{NAMESPACES}?limit=1&continue={token}").status == 410


def test_workloads_started_make_pods(plane: ControlPlane) -> None:
    """With controllers and scheduler running, a StatefulSet's Pod is made and given a node."""
    plane.add_node("roomy")
    plane.must("POST", NAMESPACES, {"metadata": {"name": "working"}})
    plane.start_workloads()
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "none.invalid/none"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    plane.must("POST", "/apis/apps/v1/namespaces/working/statefulsets", {"metadata": {"name": "web"}, "spec": spec})
    pod = f"{NAMESPACES}/working/pods/web-0"
    until(lambda: plane.request("GET", pod).body.get("spec", {}).get("nodeName"), "web-0 to have a node", 30)


def test_control_plane_closed_leaves_nothing() -> None:
    """After its end there is neither a process of a control plane nor its folder."""
    with ControlPlane() as short:
        folder = short.folder
        pids = [short.etcd.process.pid, short.servers[0].program.process.pid]
        assert folder.exists()
    assert not folder.exists()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
