"""Can what `persistip manifests` prints be applied to a real cluster, again and again, and does it make Pods there?"""

import pytest
from commandline import call
from controlplane import ControlPlane
from programs import until

pytestmark = pytest.mark.requires("apiserver")


def test_manifests_applied_again_change_nothing(control_plane: ControlPlane) -> None:
    """What was applied once is there as it was written: applying it anew would change no object."""
    printed = call("manifests").out
    assert control_plane.kubectl("diff", "--filename=-", stdin=printed) == ""


def test_manifests_make_pods_with_least_privilege(working_plane: ControlPlane) -> None:
    """Two controllers and an agent on each node are admitted, also a tainted one; none has more than it should."""

    def pods() -> list[dict]:
        found = working_plane.must("GET", "/api/v1/namespaces/addresses/pods")["items"]
        return found if len(found) == 4 and all("nodeName" in each["spec"] for each in found) else []

    made = until(pods, "two controllers and two agents to have nodes")
    parts = {part: [] for part in ("controller", "agent")}
    for each in made:
        parts[each["metadata"]["labels"]["app.kubernetes.io/component"]].append(each["spec"])
    assert sorted(spec["nodeName"] for spec in parts["agent"]) == ["node-a", "node-b"]
    for spec in (*parts["controller"], *parts["agent"]):
        (container,) = spec["containers"]
        security = container["securityContext"]
        assert container["image"] == "registry.example/persistip:1"
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert not spec.get("hostPID")
    for spec in parts["controller"]:
        assert spec["securityContext"]["runAsNonRoot"]
        assert "add" not in spec["containers"][0]["securityContext"]["capabilities"]
    budget = "/apis/policy/v1/namespaces/addresses/poddisruptionbudgets/persistip-controller"
    assert working_plane.must("GET", budget)["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("account", ["persistip-controller", "persistip-agent"])
def test_requests_of_ours_have_a_share_of_their_own(control_plane: ControlPlane, account: str) -> None:
    """The API server puts the requests of both ServiceAccounts into the priority level that is kept for them."""
    level = control_plane.must("GET", "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/persistip")
    token = control_plane.token("persistip-system", account)

    def is_there() -> bool:
        answer = control_plane.request("GET", "/apis/persistip.dev/v1alpha1/addressattachments", token=token)
        return answer.headers.get("X-Kubernetes-Pf-Prioritylevel-Uid") == level["metadata"]["uid"]

    # The API server takes up a new level after a moment.
    until(is_there, f"{account} to have its level", 30)
