"""The sandbox: what runs in it has a machine of its own, and nothing of it stays, however it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persistip.lab import sandbox

pytestmark = pytest.mark.requires("kernel")

SOURCE = Path(sandbox.__file__).resolve().parents[2]

# The command inside: it starts a child in one more network namespace, says where both live, and sleeps.
INSIDE = """
import json, os, signal, subprocess, sys, time
from persistip.lab import sandbox
facts = sandbox.current()
home = os.stat("/proc/self/ns/net").st_ino
child = os.fork()
if child == 0:
    os.setsid()
    sandbox.unshare(sandbox.CLONE_NEWNET)
    if not facts.pid_namespace:
        sandbox.die_with(os.getppid())
    print(json.dumps({"rootless": facts.rootless, "pid_namespace": facts.pid_namespace, "state": str(facts.state),
                      "uid": os.geteuid(), "links": os.listdir("/proc/sys/net/ipv4/conf"),
                      "namespaces": [home, os.stat("/proc/self/ns/net").st_ino]}), flush=True)
    time.sleep(60)
(facts.state / "file").write_text("x")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(43))
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(42)
"""

RUN = "import sys; from persistip.lab import sandbox; sys.exit(sandbox.run([sys.executable, '-c', sys.argv[1]]))"
RUN_WITHOUT_PID_NAMESPACE = (
    "import os, sys; from persistip.lab import sandbox; "
    "sys.exit(sandbox.attempt(sandbox._Job(user=os.geteuid() != 0, pid=False, "
    "command=[sys.executable, '-c', sys.argv[1]], environment=dict(os.environ))))"
)


@contextlib.contextmanager
def started(run: str = RUN, before: Callable[[], None] | None = None) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": "/"}
    process = subprocess.Popen(
        [sys.executable, "-c", run, INSIDE],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
        preexec_fn=before,  # noqa: PLW1509 - no other thread here
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def processes_in(namespaces: list[int]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in namespaces:
                    found.append(int(entry.name))
    return found


def assert_gone(facts: dict) -> None:
    deadline = time.monotonic() + 5
    while (left := processes_in(facts["namespaces"])) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left
    assert not Path(facts["state"]).exists()
    assert "persistip-lab" not in Path("/proc/self/mounts").read_text()


def test_command_has_own_network_and_private_files() -> None:
    """Inside there is one link, root's rights, and a folder that the outside does not see."""
    with started() as (_, facts):
        assert sorted(facts["links"]) == ["all", "default", "lo"]
        assert facts["uid"] == 0
        assert Path("/proc/self/ns/net").stat().st_ino not in facts["namespaces"]
        assert len(processes_in(facts["namespaces"])) >= 3
        assert not Path(facts["state"]).exists()


@pytest.mark.parametrize("run", [RUN, RUN_WITHOUT_PID_NAMESPACE], ids=["pid-namespace", "no-pid-namespace"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 42), (signal.SIGTERM, 43)])
def test_signal_reaches_the_command_and_leaves_nothing(run: str, number: int, status: int) -> None:
    """Ctrl-C and SIGTERM end the command its own way; its exit status comes back and its orphans are gone."""
    with started(run) as (process, facts):
        assert facts["pid_namespace"] == (run == RUN)
        time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(10) == status
        assert_gone(facts)


@pytest.mark.parametrize("run", [RUN, RUN_WITHOUT_PID_NAMESPACE], ids=["pid-namespace", "no-pid-namespace"])
def test_kill_9_of_the_outside_leaves_nothing(run: str) -> None:
    """No handler runs at kill -9; the kernel ends everything all the same."""
    with started(run) as (process, facts):
        process.kill()
        process.wait(10)
        assert_gone(facts)


@pytest.mark.parametrize("run", [RUN, RUN_WITHOUT_PID_NAMESPACE], ids=["pid-namespace", "no-pid-namespace"])
@pytest.mark.parametrize("depth", [1, 2, 3], ids=["keeper", "init", "command"])
def test_kill_9_of_any_process_leaves_nothing(run: str, depth: int) -> None:
    """Whichever process of the chain is killed, the others follow and the exit status says so."""
    with started(run) as (process, facts):
        victim = process.pid
        for _ in range(depth):
            victim = int(Path(f"/proc/{victim}/task/{victim}/children").read_text().split()[0])
        os.kill(victim, signal.SIGKILL)
        assert process.wait(10) == 128 + signal.SIGKILL
        assert_gone(facts)


def without_capabilities() -> None:
    """What the kernel goes by is capabilities, not the number 0: a root without them is an ordinary user to it."""
    for capability in range(41):
        if (
            capability != 31
        ):  # CAP_SETFCAP: without it the kernel lets nobody map the number 0, which others need not do
            sandbox._libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.requires("userns")
def test_process_without_rights_gets_the_same_and_leaves_nothing() -> None:
    """Without rights a user namespace gives them; inside, the user is root and nothing else changes."""
    with started(before=without_capabilities if os.geteuid() == 0 else None) as (process, facts):
        assert facts["rootless"]
        assert facts["uid"] == 0
        process.kill()
        process.wait(10)
        assert_gone(facts)


def test_exit_status_and_missing_program_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    """A status comes back as it is; a program that is not there is an error of its own, not of the sandbox."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "persistip.lab.sandbox"]
    assert subprocess.run([*command, "sh", "-c", "exit 7"], env=environment, timeout=20, check=False).returncode == 7
    assert subprocess.run([*command, "/no/such"], env=environment, timeout=20, check=False).returncode == 127
    assert "/no/such" in capfd.readouterr().err


def test_refusal_names_the_setting_and_offers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where namespaces are refused the message says what to change, and which lab still runs."""
    read = Path.read_text

    def fake(self: Path, *arguments: object) -> str:
        return "0\n" if self.name == "max_user_namespaces" else read(self)

    monkeypatch.setattr(Path, "read_text", fake)
    monkeypatch.setattr(sandbox, "attempt", lambda _: sandbox.Obstacle(step="unshare", number=28))
    with pytest.raises(sandbox.SandboxUnavailableError) as caught:
        sandbox.run(["true"])
    assert "sysctl -w user.max_user_namespaces" in str(caught.value)
    assert "--datapath memory" in str(caught.value)
