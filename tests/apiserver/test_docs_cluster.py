"""
Does a cluster answer to the commands of the pages as the pages show?

Blocks ``shell-session`` are run from top to bottom by a shell; named ``yaml`` blocks are files beside it. Kubelets are
a thread of ours; the controller and the agents are processes with the shipped rights. ``PERSISTIP_REFRESH_DOCS=1``
writes what was printed into the page; look at the diff.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from controlplane import ControlPlane
from living import MERGE, Living

pytestmark = pytest.mark.requires("apiserver")

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "an-address-on-a-cluster.md"
BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*(?:\\\n|\n(?= {4}\S)))*.*)\n", re.MULTILINE)
REFRESH = "PERSISTIP_REFRESH_DOCS"
READY_SECONDS, REFRESH_SECONDS = 15, 3
LOOKS = ("kubectl get ", "persistip explain ", "persistip plan ")
# What is another every time: ages and durations, instants, epochs, nodes, the Pods' own IPs.
CHANGING = (
    (re.compile(r"\b\d+(?:\.\d+)?(?:ms|m|s)(?:\d+s)?\b|\b\d+ ms\b"), "T"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "INSTANT"),
    (re.compile(r"\b\d{13}\b"), "EPOCH"),
    (re.compile(r"\bnode-[ab]\b"), "NODE"),
    (re.compile(r" +"), " "),
)


class Kubelets(threading.Thread):
    """Starts the Pods of a namespace, a second apart at least, since Kubernetes counts their age in seconds."""

    def __init__(self, living: Living, namespace: str) -> None:
        super().__init__(daemon=True)
        self._living, self._path = living, f"/api/v1/namespaces/{namespace}/pods"
        self._seen: dict[str, float] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        """Look after Pods until ended."""
        while not self.ended.wait(0.1):
            for pod in self._living.plane.request("GET", self._path).body.get("items", ()):
                name, node = pod["metadata"]["name"], pod["spec"].get("nodeName")
                since = self._seen.setdefault(name, time.monotonic())
                if node and "podIP" not in pod.get("status", {}) and time.monotonic() - since > 1.2:
                    self._start_pod(name, node)

    def _start_pod(self, name: str, node: str) -> None:
        ip = f"10.1.{self._living.nodes.index(node)}.{20 + len(self._seen)}"
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}
        self._living.plane.must("PATCH", f"{self._path}/{name}/status", {"status": status}, content_type=MERGE)


@contextmanager
def at_work(plane: ControlPlane) -> Iterator[Living]:
    """Give a cluster at work, once persistip is installed in it."""
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    with Living(plane).running() as living:
        kubelets = [Kubelets(living, namespace) for namespace in ("phone", "persistip-system")]
        for each in kubelets:
            each.start()
        try:
            yield living
        finally:
            for each in kubelets:
                each.ended.set()
                each.join()


def run(plane: ControlPlane, command: str, folder: Path) -> str:
    """Run a command as a person at a shell would; return what the terminal shows."""
    found = f"{plane.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig), "PATH": found, "HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder, env=environment, text=True, timeout=120, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def settled(plane: ControlPlane, command: str, folder: Path, expected: str) -> str:
    """Run a command; one that only looks, again for a while until it shows what is expected: a node may not be done."""
    out = run(plane, command, folder)
    deadline = time.monotonic() + (REFRESH_SECONDS if os.environ.get(REFRESH) else READY_SECONDS)
    while command.startswith(LOOKS) and steady(out) != steady(expected) and time.monotonic() < deadline:
        time.sleep(0.2)
        out = run(plane, command, folder)
    return out


def steady(text: str) -> list[str]:
    """Return the lines without what is another every time."""
    for pattern, stand_in in CHANGING:
        text = pattern.sub(stand_in, text)
    return [line.rstrip() for line in text.splitlines()]


def test_page_shows_what_a_cluster_answers(tmp_path: Path) -> None:
    """Every command of the walk succeeds in its turn, and prints what the page shows."""
    text = PAGE.read_text(encoding="utf-8")
    shown = text
    with ControlPlane() as plane, ExitStack() as stack:
        plane.install_upstream()
        plane.start_workloads()
        living = None
        for language, name, body in BLOCK.findall(text):
            if name:
                (tmp_path / name).write_text(body)
            if language != "shell-session":
                continue
            printed = []
            _, *parts = COMMAND.split(body)
            for command, expected in zip(parts[::2], parts[1::2], strict=True):
                if living is not None and command.startswith("persistip uninstall"):
                    living.stop("controller")  # as the Deployment's Pods end with it
                printed.append(f"$ {command}\n{settled(plane, command, tmp_path, expected)}")
                living = living or stack.enter_context(at_work(plane))
            shown = shown.replace(f"```shell-session\n{body}```", f"```shell-session\n{''.join(printed)}```", 1)
    if os.environ.get(REFRESH):
        PAGE.write_text(shown, encoding="utf-8")
    assert steady(shown) == steady(text)
