"""Does the command that a stranger types do what it says: real packets, honest status, and nothing left behind?"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from persistip.cli.lab import EXAMPLE

COMMAND = [sys.executable, "-m", "persistip", "lab"]
# What may cost no packet on any machine, however busy: no figure of these is compared with a limit.
STEADY = ["--event", "agent-killed", "--event", "address-conflict"]
FAULTY = """
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {name: slip, namespace: phone}
spec:
  parentRefs: [{name: public, namespace: network}]
  addresses: [{type: IPAddress, value: 192.0.2.150}]
  podSelector: {matchLabels: {app: nat}}
  reactionmode: Exists
---
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {name: wide, namespace: phone}
spec:
  parentRefs: [{name: public, namespace: network}]
  addresses:
  - {type: gke.networking.io/cidr, value: 192.0.2.150/31}
  - {type: gke.networking.io/cidr, value: 192.0.2.153/31}
  podSelector: {matchLabels: {app: nat}}
---
kind: [
"""


def lab(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command with *typed* on its standard input."""
    return subprocess.run([*COMMAND, *arguments], input=typed, capture_output=True, text=True, timeout=240, check=False)


def document(ended: subprocess.CompletedProcess[str]) -> Mapping[str, Any]:
    """Return the one JSON document on standard output."""
    found: Mapping[str, Any] = json.loads(ended.stdout)
    return found


def descendants(root: int) -> set[int]:
    """Return every process below *root*."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def test_simulated_run_keeps_every_promise_and_says_so() -> None:
    """All events on simulated packets: status 0, every promise looked at and kept, one document on standard output."""
    ended = lab("--datapath", "memory", "--json")
    found = document(ended)
    assert (ended.returncode, ended.stderr, found["ok"], found["failures"]) == (0, "", True, [])
    assert {name: each["held"] and each["checks"] > 0 for name, each in found["promises"].items()} == dict.fromkeys(
        ["P1", "P2", "P3", "P4", "P5", "P6", "P7"], True
    )


def test_run_without_agents_fails_and_says_why() -> None:
    """Without agents the status is 1, nobody is Ready, and a promise is told as broken."""
    ended = lab("--datapath", "memory", "--without-agents")
    assert ended.returncode == 1
    assert "meant to fail" in ended.stdout
    assert "BROKEN P3" in ended.stdout
    assert "Not Ready at the end" in ended.stdout


def test_faulty_documents_are_told_and_the_rest_runs(tmp_path: Path) -> None:
    """Beside a good cluster, each faulty document is told with file, object, field and fix; the run goes well."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(FAULTY)
    ended = lab("--datapath", "memory", "--json", "--event", "agent-killed", "-f", str(EXAMPLE), str(bad))
    for said in (
        f"{bad}:9 (document 1): GKEIPRoute phone/slip: spec.reactionmode: unknown field; did you mean reactionMode?",
        "GKEIPRoute phone/wide: spec.addresses[1].value: '192.0.2.153/31' has host bits set; write 192.0.2.152/31",
        f"{bad}:1",
        "Left out of the run: GKEIPRoute phone/slip, document 3",
    ):
        assert said in ended.stderr
    assert (ended.returncode, document(ended)["ok"]) == (0, True)
    assert [each["route"] for each in document(ended)["routes"]] == [
        "phone/nat", "phone/registrar", "phone/sip-0", "phone/sip-1"
    ]  # fmt: skip


def test_kept_lab_takes_commands_from_a_pipe() -> None:
    """After the events the prompt takes commands until the input ends, and the run's own result stands."""
    ended = lab(
        "--datapath",
        "memory",
        "--keep",
        "--event",
        "agent-killed",
        typed="routes\nprobe foo\nprobe 192.0.2.140\nbogus\n",
    )
    assert ended.returncode == 0, ended.stdout
    assert "phone/nat: 192.0.2.140, 2001:db8:1::f0:40, held by nat-" in ended.stdout
    assert "answered by nat-" in ended.stdout
    assert " lost; the longest silence was " in ended.stdout
    assert "unknown command 'bogus'" in ended.stdout
    assert "Everything went as promised." in ended.stdout


@pytest.mark.requires("kernel")
def test_real_run_keeps_every_promise() -> None:
    """On real packets an agent dies and an address is claimed twice: nothing is lost, and every promise is kept."""
    ended = lab("--json", *STEADY)
    found = document(ended)
    assert (ended.returncode, found["failures"]) == (0, [])
    assert (found["datapath"], found["rootless"]) == ("linux", os.geteuid() != 0)
    assert [name for name, each in found["promises"].items() if not (each["held"] and each["checks"])] == []
    assert {event["name"] for event in found["events"]} == {"agent-killed", "address-conflict"}
    assert {event["family"] for event in found["events"]} == {4, 6}


@pytest.mark.requires("kernel")
def test_prompt_runs_commands_in_the_lab_namespaces() -> None:
    """`in MACHINE` runs a command there: a node has the links of a node, and its exit status is told."""
    look = f"{sys.executable} -c 'import os, sys; print(sorted(os.listdir(\"/proc/sys/net/ipv4/conf\"))); sys.exit(5)'"
    ended = lab("--keep", "--event", "address-conflict", typed=f"in node-b {look}\nquit\n")
    assert "'cni0'" in ended.stdout
    assert "exit status 5" in ended.stdout


def end_by_interrupts(process: subprocess.Popen[str], *pauses: float) -> None:
    """Press Ctrl-C after each pause, as a terminal does: every process of the group has it."""
    for pause in pauses:
        time.sleep(pause)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "persistip lab: interrupted; everything it made is gone\n"), output


@pytest.mark.parametrize("datapath", ["memory", pytest.param("linux", marks=pytest.mark.requires("kernel"))])
@pytest.mark.parametrize("pauses", [(0.0,), (0.0, 0.01, 0.05), (0.0, 0.3)])
def test_interrupts_in_quick_succession_end_with_one_sentence(datapath: str, pauses: tuple[float, ...]) -> None:
    """However often Ctrl-C is pressed, a running lab goes down in order, with one sentence and status 130."""
    command = [*COMMAND, "--datapath", datapath, "--keep", "--event", "address-conflict"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Who holds what" in line:
            break
    end_by_interrupts(process, *pauses)


@pytest.mark.parametrize("datapath", ["memory", pytest.param("linux", marks=pytest.mark.requires("kernel"))])
@pytest.mark.parametrize("begun_seconds", [0.15, 0.3, 0.5, 0.7])
def test_interrupt_while_the_program_is_loaded_ends_with_the_same_sentence(datapath: str, begun_seconds: float) -> None:
    """Ctrl-C in the first moments, when modules are being loaded, shows no traceback."""
    process = subprocess.Popen(
        [*COMMAND, "--datapath", datapath, "--keep"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end_by_interrupts(process, begun_seconds)


# Presses Ctrl-C the moment that a module is asked for, and starts the command as its console script does.
INTERRUPTED_AT = """
import os, sys
class Presser:
    def find_spec(self, name, *_):
        if name == module:
            sys.meta_path.remove(presser)
            os.kill(os.getpid(), 2)
module, presser = sys.argv[1], Presser()
sys.argv = ["persistip", *sys.argv[2:]]
import persistip
sys.meta_path.insert(0, presser)
from persistip.__main__ import main
main()
"""


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(
    "module", ["persistip.cli", "typing", "signal", "cyclopts", "persistip.cli.lab", "persistip.lab.story", "asyncio"]
)
def test_interrupt_at_a_module_of_the_start_ends_with_the_same_sentence(module: str, ignored: bool) -> None:
    """At whatever step of the start Ctrl-C comes there is one sentence, and none where the starter had it ignored."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, module, "lab", "--datapath", "memory", "--event", "address-conflict"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )
    if ignored:
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        assert (ended.returncode, ended.stderr) == (130, "persistip lab: interrupted; everything it made is gone\n")


@pytest.mark.requires("kernel")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_lab_and_leaves_no_process(number: signal.Signals) -> None:
    """Ctrl-C, or a request to end, takes everything down with the status that a shell expects."""
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Who holds what" in line:
                break
        below = descendants(process.pid)
        assert len(below) > 8
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    end = time.monotonic() + 5
    while left := {pid for pid in below if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < end, left
        time.sleep(0.05)
