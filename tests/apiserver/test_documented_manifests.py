"""Does a real API server take every manifest that the docs show, with the shipped definitions and policies?"""

import re
from collections.abc import Iterator

import pytest
import yaml
from controlplane import ControlPlane
from documented import EXAMPLES, sets

SKETCHED = {"Pod", "Node", "List"}

pytestmark = pytest.mark.requires("apiserver")


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Return a control plane with all that is installed, and no object that a page shows."""
    with ControlPlane() as made:
        made.install_persistip()
        yield made


def test_examples_are_applied_in_their_order_and_taken_away() -> None:
    """Applied file by file, as the page says, every object is made; deleted, none is left of the routes."""
    with ControlPlane() as plane:
        plane.install_persistip()
        apply_and_delete(plane)


def apply_and_delete(plane: ControlPlane) -> None:
    """Apply the examples for real, count the routes, take them away; the class is patched, as its file says."""
    applied = [path for path in EXAMPLES if path.stem != "11-class"]
    for path in EXAMPLES:
        if path not in applied:
            name = "gke-persistent-regional-external-managed"
            assert "patched" in plane.kubectl("patch", "gatewayclass", name, "--type=merge", f"--patch-file={path}")
            continue
        said = plane.kubectl("apply", f"--filename={path}")
        assert "warning" not in said.lower()
    assert len(plane.kubectl("get", "gkeiproutes", "--all-namespaces", "--output=name").split()) == 4
    for path in reversed(applied[1:]):
        plane.kubectl("delete", "--wait=false", f"--filename={path}")
    assert plane.kubectl("get", "gkeiproutes", "--all-namespaces", "--output=name").split() == []


@pytest.mark.parametrize("where", sorted(set(sets()) - {"examples"}))
def test_manifests_of_a_page_are_what_the_server_takes(plane: ControlPlane, where: str) -> None:
    """The server takes, as a dry run, every object that a page shows but the Pods and Nodes sketched for `plan`."""
    objects = [each for each in yaml.safe_load_all(sets()[where]) if each["kind"] not in SKETCHED]
    assert objects
    text = yaml.safe_dump_all(objects)
    for name in sorted(set(re.findall(r"namespace: ([\w-]+)", text))):
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    plane.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename=-", stdin=text)
