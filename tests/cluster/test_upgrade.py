"""What becomes of what an administrator chose, when the manifests are applied again?"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from realcluster.stage import Stage

pytestmark = pytest.mark.requires("cluster")


def test_manifests_applied_again_leave_addresses_where_they_are(stage: "Stage") -> None:
    """The class keeps the parameters that the example gave it, so every Pod keeps its addresses."""
    from realcluster import installed  # noqa: PLC0415

    stage.settle()
    before = {name: each["spec"] for name, each in stage.attachments().items()}
    path = "/apis/gateway.networking.k8s.io/v1/gatewayclasses/gke-persistent-regional-external-managed"
    parameters = stage.api.must("GET", path)["spec"]["parametersRef"]
    installed.run_page(stage.cluster, "install")
    stage.settle()
    assert stage.api.must("GET", path)["spec"]["parametersRef"] == parameters
    assert {name: each["spec"] for name, each in stage.attachments().items()} == before
    stage.check()
