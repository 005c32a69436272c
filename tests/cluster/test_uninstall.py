"""Is everything gone after the page's last command?"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from realcluster.stage import Stage

pytestmark = pytest.mark.requires("cluster")

KINDS = (
    "clusterroles", "clusterrolebindings", "roles", "rolebindings", "serviceaccounts", "validatingadmissionpolicies",
    "validatingadmissionpolicybindings", "crds", "gatewayclasses", "priorityclasses", "flowschemas",
    "prioritylevelconfigurations", "deployments", "daemonsets", "poddisruptionbudgets", "leases",
)  # fmt: skip


def test_uninstalled_leaves_nothing_on_api_and_nodes(stage: "Stage") -> None:
    """No object of ours, no finalizer and no kernel entry stays, and installed again all is at work."""
    from realcluster import installed, kernels  # noqa: PLC0415

    stage.settle()
    try:
        installed.run_page(stage.cluster, "uninstall")
        for node in stage.cluster.nodes.values():
            assert kernels.delivered(node) == frozenset()
            tables = node.run("nft", "list", "tables")
            assert "persistip" not in tables, node.run("nft", "list", "ruleset")
        found = stage.api.kubectl("get", ",".join(KINDS), "--all-namespaces", "--output=name")
        assert found
        assert [line for line in found.splitlines() if "persistip" in line or "/gke-p" in line] == []
        gateways = stage.api.must("GET", "/apis/gateway.networking.k8s.io/v1/gateways")["items"]
        routes = stage.api.must("GET", "/apis/networking.gke.io/v1/gkeiproutes")["items"]
        assert gateways
        assert routes
        for each in (*gateways, *routes):
            assert "finalizers" not in each["metadata"]
        assert not any(each.get("status", {}).get("conditions") for each in routes)
        system = f"/api/v1/namespaces/{installed.SYSTEM}"
        stage.cluster.until(lambda: stage.api.request("GET", system)[0] == 404, "the namespace to be gone")
    finally:
        stage.install()
    stage.settle()
    stage.check()
