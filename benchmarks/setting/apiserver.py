"""
What do the measurements on a real API server stand on?

In: how many routes and Pods.  Out: etcd and an API server on loopback with everything installed that `persistip
manifests` prints, a cluster in it, ours as processes that use the shipped ServiceAccounts, requests counted in the
server's audit log, and one way to print what was found.

The control plane is the tests' own (tests/support/controlplane.py): `nox -s apiserver` builds its programs once, and
KUBEBUILDER_ASSETS names others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

from audit import AuditLog
from controlplane import ControlPlane
from kubernetes_binaries import MissingError
from programs import LOOPBACK, Program
from setting.precedence import ahead

from persistip.backends.apiserver.access import Access, Load
from persistip.backends.apiserver.client import Client

HERE = Path(__file__).parent
NAMESPACE = "persistip-system"
CLASS = "gke-persistent-regional-internal-managed"
SPACE = IPv4Network("198.18.0.0/15")  # RFC 2544: set aside for benchmarks
PODS_A_NODE = 100
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
NO_PROGRAMS = 3
"""Exit status where there is no control plane to measure with: no goal was met, and none missed."""


# ---------------------------------------------------------------- the cluster


@attrs.frozen
class Size:
    """So many routes with an address and two Pods each, and Pods that match none, a hundred to a Node."""

    routes: int
    pods: int = attrs.field()

    @pods.validator
    def _is_whole(self, _: Any, pods: int) -> None:
        if pods % self.routes or pods < self.routes:
            raise SystemExit("--pods must be a multiple of --routes")

    @property
    def nodes(self) -> int:
        """How many Nodes; even, since each is the other one of a pair."""
        return max(2, -(-self.pods // PODS_A_NODE) // 2 * 2)

    def namespace_of(self, route: int) -> str:
        """A hundred routes share one."""
        return f"tenant-{route // 100:03}"

    def pod_name(self, number: int) -> str:
        """The first two of a route's share match it, so that it has a standby."""
        route, place = divmod(number, self.pods // self.routes)
        return f"nat-{route}-{place}" if place < 2 else f"web-{route}-{place}"

    def node_of(self, number: int) -> int:
        """A standby is on the other node of the pair."""
        node = number // PODS_A_NODE % self.nodes
        return node ^ 1 if number % (self.pods // self.routes) == 1 else node

    def ip_of(self, number: int) -> IPv4Address:
        """Each Pod has its own."""
        return IPv4Address("10.0.0.0") + 256 + number


def condition(kind: str, *, status: bool, message: str = "") -> dict[str, Any]:
    """A condition of a Pod, as a kubelet writes it."""
    return {
        "type": kind,
        "status": str(status),
        "lastProbeTime": None,
        "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **({"message": message} if message else {}),
    }


def pod_body(size: Size, number: int) -> dict[str, Any]:
    """A Pod of 4 to 5 KB, as Pods are."""
    route, place = divmod(number, size.pods // size.routes)
    app = f"nat-{route}" if place < 2 else f"web-{route}"
    labels = {"app": app, "pod-template-hash": f"{number % 97:010x}", "tier": f"tier-{number % 3}"}
    variables = [{"name": f"SETTING_{each}", "value": f"{each:04}" * 12} for each in range(24)]
    container = {
        "name": "main",
        "image": "registry.invalid/team/application@sha256:" + "0" * 64,
        "env": variables,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
        "volumeMounts": [{"name": f"volume-{each}", "mountPath": f"/mounted/{each}"} for each in range(4)],
    }
    return {
        "metadata": {
            "name": size.pod_name(number),
            "namespace": size.namespace_of(route),
            "labels": labels,
            "annotations": {f"example.com/note-{each}": "said by somebody" * 4 for each in range(4)},
        },
        "spec": {
            "nodeName": f"node-{size.node_of(number)}",
            "containers": [container],
            "volumes": [{"name": f"volume-{each}", "emptyDir": {}} for each in range(4)],
            "terminationGracePeriodSeconds": 0,
        },
    }


def pod_status(size: Size, number: int) -> dict[str, Any]:
    """Running and ready."""
    ip = str(size.ip_of(number))
    names = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ready = [condition(each, status=True) for each in names]
    return {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.0.2.1", "conditions": ready}


def route_body(size: Size, number: int) -> dict[str, Any]:
    """One address; it stays where it is while it can, so that each move has one cause."""
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "GKEIPRoute",
        "metadata": {
            "name": f"route-{number}",
            "namespace": size.namespace_of(number),
            "annotations": {"persistip.dev/failback": "never"},
        },
        "spec": {
            "parentRefs": [{"name": "pool", "namespace": "infra"}],
            "addresses": [{"type": "IPAddress", "value": str(SPACE[number + 1])}],
            "podSelector": {"matchLabels": {"app": f"nat-{number}"}},
        },
    }


async def side_by_side(work: Iterable[Coroutine[Any, Any, Any]], at_once: int = 32) -> None:
    """Do all of *work*, so much at a time."""
    left = iter(work)

    async def take() -> None:
        for each in left:
            await each

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(take())


class Cluster:
    """A control plane, and hands with every right on it."""

    def __init__(self, plane: ControlPlane, size: Size, admin: Client) -> None:
        self.plane, self.size, self._admin = plane, size, admin

    async def ask(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        """One request of the administrator's; raises BackendError."""
        return await self._admin.request(method, path, body=body, content_type=content_type, timeout_seconds=60.0)

    async def get(self, path: str) -> Any:
        """What stands at *path*."""
        return json.loads(await self.ask("GET", path))

    async def fill(self, *, with_pods: bool = True) -> None:
        """Make everything but what ours makes."""
        size = self.size
        spaces = ["infra", *sorted({size.namespace_of(route) for route in range(size.routes)})]
        await side_by_side(self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": each}}) for each in spaces)
        await side_by_side(self._add_node(number) for number in range(size.nodes))
        await self._add_pool()
        if with_pods:
            await side_by_side(self._add_pod(number) for number in range(size.pods))
        await side_by_side(self.add_route(route_body(size, number)) for number in range(size.routes))

    async def _add_pool(self) -> None:
        allowed = {"metadata": {"name": "allowed"}, "data": {"allowedAddresses": str(SPACE)}}
        await self.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", allowed)
        parameters = {"group": "", "kind": "ConfigMap", "name": "allowed", "namespace": NAMESPACE}
        path = "/apis/gateway.networking.k8s.io/v1"
        found = await self.get(f"{path}/gatewayclasses/{CLASS}")
        # A class cannot be changed, only made again.
        await self.ask("DELETE", f"{path}/gatewayclasses/{CLASS}")
        spec = {**found["spec"], "parametersRef": parameters}
        await self.ask(
            "POST",
            f"{path}/gatewayclasses",
            {"apiVersion": found["apiVersion"], "kind": "GatewayClass", "metadata": {"name": CLASS}, "spec": spec},
        )
        gateway = {
            "apiVersion": found["apiVersion"],
            "kind": "Gateway",
            "metadata": {"name": "pool", "namespace": "infra"},
            "spec": {
                "gatewayClassName": CLASS,
                "addresses": [{"type": "gke.networking.io/cidr", "value": str(SPACE)}],
                "listeners": [
                    {"name": "any", "port": 1, "protocol": "none", "allowedRoutes": {"namespaces": {"from": "All"}}}
                ],
            },
        }
        await self.ask("POST", f"{path}/namespaces/infra/gateways", gateway)

    async def _add_node(self, number: int) -> None:
        name = f"node-{number}"
        await self.ask("POST", "/api/v1/nodes", {"metadata": {"name": name}, "spec": {}})
        ready = {**condition("Ready", status=True), "reason": "Measured", "message": "a benchmark says so"}
        del ready["lastProbeTime"]
        address = {"type": "InternalIP", "address": str(IPv4Address("172.16.0.1") + number)}
        status = {"conditions": [ready], "addresses": [address]}
        await self.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, MERGE)

    async def _add_pod(self, number: int) -> None:
        body = pod_body(self.size, number)
        path = f"/api/v1/namespaces/{body['metadata']['namespace']}/pods"
        await self.ask("POST", path, body)
        status = {"status": pod_status(self.size, number)}
        await self.ask("PATCH", f"{path}/{body['metadata']['name']}/status", status, MERGE)

    async def add_route(self, body: Mapping[str, Any]) -> None:
        """Make a route."""
        await self.ask(
            "POST", f"/apis/networking.gke.io/v1/namespaces/{body['metadata']['namespace']}/gkeiproutes", body
        )

    # ------------------------------------------------------------ ours
    def token(self, account: str, node: str = "") -> str:
        """A token of a shipped ServiceAccount; with *node* as the agent's Pod there gets it."""
        if node:
            return self.plane.token_on_node(NAMESPACE, account, node)
        return self.plane.token(NAMESPACE, account)

    @contextmanager
    def in_pod(self, name: str, token: str, *command: str) -> Iterator[Program]:
        """*command* as a process that finds what it would find in a Pod: the service account's files and no more."""
        account = self.plane.folder / f"account-{name}"
        account.mkdir(exist_ok=True)
        (account / "token").write_text(token)
        shutil.copy(self.plane.folder / "ca.crt", account / "ca.crt")
        whole = [sys.executable, str(HERE / "in_pod.py"), str(account), *command]
        environment = {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": str(self.plane.servers[0].port)}
        program = Program(name, ["/usr/bin/env", *(f"{key}={value}" for key, value in environment.items()), *whole],
                          self.plane.folder)  # fmt: skip
        program.start()
        try:
            yield program
        finally:
            program.end(signal.SIGTERM)

    def controller(self) -> Any:
        """`persistip run controller` with one replica's settings."""
        command = (sys.executable, "-m", "persistip", "run", "controller", "--cluster=apiserver")
        return self.in_pod("controller", self.token("persistip-controller"), *command)

    @property
    def server_pid(self) -> int:
        """The API server's process."""
        process = self.plane.servers[0].program.process
        assert process is not None
        return process.pid


@asynccontextmanager
async def opened(size: Size) -> AsyncIterator[Cluster]:
    """A control plane with ours installed and nothing else in it."""
    with ControlPlane() as plane:
        plane.install_persistip(namespace=NAMESPACE)
        async with Client(
            access(plane.servers[0].url, plane.folder / "ca.crt", plane.admin), user_agent="bench"
        ) as admin:
            yield Cluster(plane, size, admin)


def access(server: str, authority: Path, token: str) -> Load:
    """How a process of the measurement reaches the API server."""
    trust = ssl.create_default_context(cafile=str(authority))

    async def load() -> Access:
        return Access(server=server, ssl=trust, authorization=lambda: f"Bearer {token}")

    return load


async def until(holds: Callable[[], Awaitable[bool]], what: str, *, seconds: float, every: float = 0.02) -> None:
    """Ask until it holds; TimeoutError naming *what* else."""
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        await asyncio.sleep(every)


# ---------------------------------------------------------------- what it costs


def of_ours(log: AuditLog) -> list[Mapping[str, Any]]:
    """The requests of controller and agents; what keeps a replica in office is no part of any work."""
    found = []
    for account in ("persistip-controller", "persistip-agent"):
        found += log.by(f"system:serviceaccount:{NAMESPACE}:{account}")
    return [event for event in found if event.get("objectRef", {}).get("resource") != "leases"]


async def quiet(log: AuditLog, *, seconds: float = 3.0) -> float:
    """Until ours has written nothing for so long; the instant of the monotonic clock at which that began."""
    written, since = -1, time.monotonic()
    while time.monotonic() - since < seconds:
        await asyncio.sleep(0.5)
        now = sum(event["verb"] in WRITES for event in of_ours(log))
        if now != written:
            written, since = now, time.monotonic()
    return since


def counted(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Requests by what they are: ``verb resource/subresource``."""
    found: dict[str, int] = {}
    for event in events:
        what = event.get("objectRef", {})
        name = "/".join(filter(None, (what.get("resource", "?"), what.get("subresource", ""))))
        found[f"{event['verb']} {name}"] = found.get(f"{event['verb']} {name}", 0) + 1
    return dict(sorted(found.items()))


def peak_mb(pid: int) -> float:
    """The most that a process ever had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} says nothing of its memory")


def cpu_seconds(pid: int) -> float:
    """The processor's time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    cuts = quantiles(milliseconds, n=100, method="inclusive") if len(milliseconds) > 1 else milliseconds * 99
    return {"p50": round(median(milliseconds), 2), "p99": round(cuts[98], 2), "worst": round(max(milliseconds), 2)}


# ---------------------------------------------------------------- a process that watches, and tells what it sees


class Watcher:
    """`watching.py` with *plan*; what it says comes by `said`, a line at a time."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = plan

    async def __aenter__(self) -> Watcher:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "watching.py"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24
        )
        assert self.process.stdin is not None
        # It ends when this end of the pipe does, however this process ends.
        self.process.stdin.write(json.dumps(self._plan).encode() + b"\n")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.process.communicate()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def said(self, *, seconds: float = 30.0) -> dict[str, Any]:
        """The next thing that it says; TimeoutError where it says nothing for so long."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the watching process ended")
        found: dict[str, Any] = json.loads(line)
        return found


# ---------------------------------------------------------------- what was found


@attrs.frozen
class Goal:
    """What was asked for, and what was measured."""

    goal: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is as good as asked for."""
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )


def show(title: str, figures: Mapping[str, Any], goals: Iterable[Goal], *, as_json: bool) -> int:
    """Print it, as a table or as JSON; the exit status: 1 when a goal is missed."""
    goals = tuple(goals)
    load = os.getloadavg()[0]
    if as_json:
        judged = [{**attrs.asdict(each), "met": each.met} for each in goals]
        print(json.dumps({"title": title, "load": load, "figures": figures, "goals": judged}, indent=2))
    else:
        console = Console()
        table = Table(title=title, caption=f"load {load:.1f} on {os.cpu_count()} processors")
        table.add_column("what")
        table.add_column("measured", justify="right")
        for name, value in figures.items():
            shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
            table.add_row(name, str(shown))
        console.print(table)
        for each in goals:
            bound = f"at most {each.at_most}" if each.at_most is not None else f"at least {each.at_least}"
            console.print(f"{'met   ' if each.met else 'missed'} {each.goal}: {round(each.measured, 3)} ({bound})")
    return 0 if all(each.met for each in goals) else 1


def options(description: str | None, *, seconds: float) -> argparse.ArgumentParser:
    """What every measurement can be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=seconds, help="after which it is given up")
    parser.add_argument("--json", action="store_true", help="print the figures instead of tables")
    parser.add_argument("--ahead", action="store_true", help="before the machine's other sessions (root; autogroups)")
    return parser


def run(measuring: Coroutine[Any, Any, int], given: argparse.Namespace) -> int:
    """Run a measurement within the time that it was given; its exit status."""

    async def bounded() -> int:
        async with asyncio.timeout(given.seconds):
            return await measuring

    # What is started is killed when this ends, also by a signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with ahead() if given.ahead else nullcontext():
            return asyncio.run(bounded())
    except MissingError as missing:
        print(f"no control plane to measure with: {missing}", file=sys.stderr)
        return NO_PROGRAMS
