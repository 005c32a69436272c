"""
How does persistip come into the cluster?

Only as a page says: the commands are read from docs/how-to/install-on-a-cluster.md and run by the cluster's
administrator, and what they apply are docs/examples, as they stand there. Here is nothing but the images under the
names that the pages use, the same application for each of the examples, and Gateway API's definitions from their Go
module, since nothing is pulled.
"""

import re
from pathlib import Path

import built_image
from kubernetes_binaries import find_crds

from realcluster.cluster import ECHO, Cluster

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "install-on-a-cluster.md"
EXAMPLES = ROOT / "docs" / "examples"
APPLICATIONS = ("sip", "border", "egress")
NAMES = {
    "registry.example/persistip:1": built_image.TAG, **{f"registry.example/{each}:1": ECHO for each in APPLICATIONS},
}  # fmt: skip
INSTALL_SECONDS = 120.0
SYSTEM = "persistip-system"


def commands(name: str) -> str:
    """Return the block of the page that is named so, without what a cluster of tests has already."""
    found = re.search(rf"^```sh {name}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{PAGE.name} has no block `sh {name}`"
    return "\n".join(line for line in found[1].splitlines() if not line.startswith("pip install"))


def bring_images(cluster: Cluster) -> None:
    """Give every node the images under the names of the pages."""
    archive = built_image.archive()

    for node in cluster.nodes.values():
        node.import_images([archive])
        for name, source in NAMES.items():
            node.ctr("images", "tag", source, name)


def run_page(cluster: Cluster, name: str) -> str:
    """Run a block of the page in the folder of the examples, and return what was printed."""
    return cluster.api.shell(f"cd {EXAMPLES}\nset -e\n{commands(name)}", seconds=INSTALL_SECONDS)


def install(cluster: Cluster) -> None:
    """Bring Gateway API and persistip into the cluster, and wait until both parts are ready."""
    files = [f"--filename={file}" for file in find_crds()]
    cluster.api.kubectl("apply", "--server-side", *files)
    cluster.api.kubectl("wait", "--for=condition=Established", "--timeout=30s", *files)
    run_page(cluster, "install")
    try:
        run_page(cluster, "look")
    except AssertionError as error:
        logs = [
            cluster.api.shell(f"kubectl -n {SYSTEM} logs {part} --tail=30 || true")
            for part in ("deployment/persistip-controller", "daemonset/persistip-agent")
        ]
        raise AssertionError("\n".join([str(error), *logs, cluster.troubles()])) from error
