"""The lab end to end on this machine's kernel: real packets, real processes, killed and started again."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from persistip.lab import sandbox

pytestmark = pytest.mark.requires("kernel")

SOURCE = Path(sandbox.__file__).resolve().parents[2]
# What `persistip lab --json` does, without a terminal.
STORY = """
import json, sys
from pathlib import Path
from persistip import lab
from persistip.lab.options import LabOptions
from persistip.lab.promises import make_promises
from persistip.lab.results import to_json
from persistip.lab.story import run
from persistip.wire.files import read_files

class Silent:
    def stage(self, text): pass
    def routes(self, routes): pass
    def event_begins(self, name, sentence): pass
    def event_ends(self, result): pass
    async def prompt(self, lab): pass

options = LabOptions(**json.loads(sys.argv[1]))
result = run(options, read_files([Path(lab.__file__).parent / "examples"]).objects, Silent(), make_promises())
print(json.dumps(to_json(result)))
sys.exit(0 if result.is_ok else 1)
"""
ROOTLESS = """
import os, sys
from persistip.lab import sandbox
job = sandbox._Job(user=True, pid=%r, command=[sys.executable, "-c", *sys.argv[1:]], environment=dict(os.environ))
outcome = sandbox.attempt(job)
sys.exit(outcome if isinstance(outcome, int) else 99)
"""


def tell(*command: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Run the story in a sandbox; its exit status and document."""
    command = command or (sys.executable, "-m", "persistip.lab.sandbox", sys.executable, "-c")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    ended = subprocess.run(
        [*command, STORY, json.dumps(options)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


MARKS = {
    "echo": str(SOURCE / "persistip" / "lab" / "echo.py"),
    "probe": "persistip.lab.probe",
    "agent": "persistip-lab/api-node-",
    "controller": "persistip-lab/api-fabric.sock",
}
"""What the command line of each kind of process of a lab holds."""


def processes_of_the_lab() -> set[str]:
    """The kind, number and command line of every process of a lab on this machine."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found |= {f"{kind} {place.parent.name} {line}" for kind, mark in MARKS.items() if mark in line}
    return found


def check_story(document: dict[str, Any]) -> None:
    """What must hold however busy the machine is: only the length of an unplanned silence may depend on it."""
    assert document["failures"] == []
    assert document["ok"] is True
    assert {event["name"] for event in document["events"]} >= {
        "pod-deleted",
        "process-killed",
        "pod-unready",
        "rolling-update",
        "node-drained",
        "agent-killed",
        "link-cut",
        "link-restored",
        "namespace-unlabelled",
        "address-conflict",
        "broken-object",
    }
    for event in document["events"]:
        lost = event["probes"]["ingress"]["lost"] + event["probes"]["egress"]["lost"]
        assert event["probes"]["ingress"]["sent"] > 100
        assert event["probes"]["egress"]["sent"] > 100
        if event["planned"]:
            assert (event["name"], lost) == (event["name"], 0)
        if event["name"] == "agent-killed" and event["from"] == event["to"]:
            assert (lost, event["tcp"]) == (0, "kept")
        if event["name"] == "broken-object":
            assert (event["from"], lost, event["tcp"]) == (event["to"], 0, "kept")
        if event["name"] == "link-cut":
            assert event["from"]["node"] != event["to"]["node"]
            assert min(event["probes"][direction]["lost"] for direction in ("ingress", "egress")) > 500
        if event["to"] is None:
            quiet = {direction: event["probes"][direction]["quiet_ms"] for direction in ("ingress", "egress")}
            assert min(quiet.values()) > 100, (event["name"], event["address"], quiet)
    assert document["summary"]["planned"]["moves"] >= 10


def test_default_lab_holds_its_promises_and_leaves_nothing_behind() -> None:
    """The whole default story as this user, on real packets, loses nothing in planned moves; no process outlives it."""
    before = processes_of_the_lab()
    status, document = tell(seed=1)
    check_story(document)
    assert status == 0
    promises = {name: (each["held"], each["checks"] > 0, each["seen"]) for name, each in document["promises"].items()}
    assert promises == dict.fromkeys(["P1", "P2", "P3", "P4", "P5", "P6", "P7"], (True, True, []))
    assert document["datapath"] == "linux"
    assert document["seed"] == 1
    assert processes_of_the_lab() <= before


@pytest.mark.requires("userns")
def test_rootless_lab_is_the_same_lab() -> None:
    """In a user namespace, without any right outside, the same story is told."""
    _, document = tell(sys.executable, "-c", ROOTLESS % True, seed=2)
    check_story(document)
    assert document["rootless"] is True


def test_lab_without_a_pid_namespace_leaves_nothing_behind() -> None:
    """Where processes cannot be held by a namespace, as in some containers, none is left all the same."""
    before = processes_of_the_lab()
    during: set[str] = set()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(tell, sys.executable, "-c", (ROOTLESS % False), seed=3, events=["agent-killed"])
        while not running.done():
            during |= processes_of_the_lab() - before
            time.sleep(0.5)
        _, document = running.result()
    # Those that are looked for afterwards were found while they ran.
    assert {each.split()[0] for each in during} == MARKS.keys()
    assert {event["name"] for event in document["events"]} == {"agent-killed"}
    assert processes_of_the_lab() <= before


def test_lab_without_agents_ends_in_failure() -> None:
    """With the agents switched off the same lab ends with status 1: nobody answers, though Pods and controller run."""
    status, document = tell(with_agents=False, settle_seconds=4.0)
    assert status == 1
    assert document["ok"] is False
    assert "nobody answers at 192.0.2.140 of phone/nat" in document["failures"]
    assert "nobody answers at 2001:db8:1::f0:40 of phone/nat" in document["failures"]
    assert document["events"] == []
