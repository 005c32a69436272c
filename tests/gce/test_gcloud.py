"""Does Google's own command line work against the emulator, and come to the same as the libraries?"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from compute_judge import Judge
from compute_steps import PROJECT, REGION

pytestmark = [pytest.mark.requires("gce"), pytest.mark.requires("gcloud")]

Gcloud = Callable[..., tuple[int, str, str]]
WAYS_OF_ITS_OWN = ("parameter returnPartialSuccess", "includeAllScopes='True'")
"""What gcloud sends beside the description of the API that the judge knows; the real service takes both."""


@pytest.fixture
def gcloud(judged: tuple[str, Judge], tmp_path: Path) -> Gcloud:
    """Return a function that runs one command of gcloud compute, and gives its status, output and errors."""
    endpoint, judge = judged
    settings = {
        "API_ENDPOINT_OVERRIDES_COMPUTE": f"{endpoint}/compute/v1/",
        "AUTH_DISABLE_CREDENTIALS": "true",
        "COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "COMPUTE_REGION": REGION,
        "CONFIG": str(tmp_path),
        "CORE_DISABLE_PROMPTS": "true",
        "CORE_DISABLE_USAGE_REPORTING": "true",
        "CORE_PROJECT": PROJECT,
        "SURVEY_DISABLE_PROMPTS": "true",
    }
    environment = {**os.environ, **{f"CLOUDSDK_{name}": value for name, value in settings.items()}}

    def run(*arguments: str) -> tuple[int, str, str]:
        command = ["gcloud", "compute", *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        judge.faults[:] = [each for each in judge.faults if not any(own in each for own in WAYS_OF_ITS_OWN)]
        return ran.returncode, ran.stdout, ran.stderr

    return run


@pytest.mark.unjudged("its own judge excuses what gcloud says in ways of its own")
def test_gcloud_makes_a_balancer_and_takes_it_apart(gcloud: Gcloud) -> None:
    """An address, a group, a check, a service and a rule are made, shown, refused while in use, and deleted."""
    here, zone, external = f"--region={REGION}", f"--zone={REGION}-a", "--load-balancing-scheme=external"
    rule = ["--backend-service=svc", "--ip-protocol=L3_DEFAULT", "--ports=all", external]
    of_nodes = ["--network-endpoint-group=nodes", f"--network-endpoint-group-zone={REGION}-a"]
    checked = ["--health-checks=check", f"--health-checks-region={REGION}"]
    groups = ["--network-endpoint-type=gce-vm-ip", "--network=default", "--subnet=default"]
    made = [
        ["addresses", "create", "web", here],
        ["network-endpoint-groups", "create", "nodes", zone, *groups],
        ["network-endpoint-groups", "update", "nodes", zone, "--add-endpoint=instance=node-a"],
        ["health-checks", "create", "tcp", "check", here, "--port=80"],
        ["backend-services", "create", "svc", here, external, "--protocol=UNSPECIFIED", *checked],
        ["backend-services", "add-backend", "svc", here, *of_nodes],
        ["forwarding-rules", "create", "rule", here, *rule, "--address=web"],
    ]
    for command in made:
        status, _, errors = gcloud(*command)
        assert status == 0, (command, errors)
    status, said, _ = gcloud("addresses", "list", "--filter=name=web", "--format=value(name,status)")
    assert (status, said.split()) == (0, ["web", "IN_USE"])
    status, _, errors = gcloud("forwarding-rules", "create", "again", here, *rule, "--address=web")
    assert (status, "in-use and would result in a conflict" in errors) == (1, True)
    status, _, errors = gcloud("backend-services", "delete", "svc", here)
    assert (status, "already being used by" in errors) == (1, True)
    for kind, name in [("forwarding-rules", "rule"), ("backend-services", "svc"), ("addresses", "web")]:
        status, _, errors = gcloud(kind, "delete", name, here)
        assert status == 0, errors
    status, said, _ = gcloud("backend-services", "list", "--format=value(name)")
    assert (status, said.split()) == (0, [])
