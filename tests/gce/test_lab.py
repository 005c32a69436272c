"""The lab on Compute Engine: real packets go where the emulated project says, and nowhere else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from persistip.lab import sandbox

pytestmark = [pytest.mark.requires("gce"), pytest.mark.requires("kernel")]

PROVISIONED = {"status": "True", "reason": "Provisioned"}
SOURCE = Path(sandbox.__file__).resolve().parents[2]


def lab(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; its exit status and its document."""
    command = [sys.executable, "-c", "from persistip.cli import main; main()", "lab", "--cloud", "gce", "--json"]
    ended = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.stdout, ended.stderr[-3000:]
    document: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, document


def test_standard_classes_move_in_the_cloud() -> None:
    """External and internal addresses answer, move by the cloud's leader, and every promise is kept."""
    status, told = lab("--event", "pod-deleted", "--event", "node-drained", "--event", "agent-killed")
    assert (status, told["failures"]) == (0, [])
    assert {each["route"]: each["conditions"]["GCPReady"] for each in told["routes"]} == {
        "edge/nat": PROVISIONED,
        "edge/registrar": PROVISIONED,
    }
    assert {name: each["held"] for name, each in told["promises"].items()} == dict.fromkeys(told["promises"], True)


def test_slower_cloud_is_a_longer_silence() -> None:
    """Where its leader takes seconds to move, a standard address whose Pod is killed is silent for as long."""
    status, told = lab("--latency", "assumed", "--event", "process-killed")
    assert (status, told["failures"]) == (0, [])
    (killed,) = told["events"]
    assert killed["probes"]["ingress"]["blackout_ms"] > 1000


def test_without_agents_the_cloud_alone_answers_nothing() -> None:
    """The project is set up and its leader is named, and not one packet arrives at a Pod."""
    status, told = lab("--without-agents")
    assert status == 1
    assert any("nobody answers at 203.0.113.10" in each for each in told["failures"])
