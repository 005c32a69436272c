"""
How does a test run all of persistip on a real API server, as it is shipped?

In: a control plane.  Out: two controllers and an agent a node, each a process of its own with the token that the
kubelet would give its Pod: the shipped ServiceAccount's, bound to Pod and node. What can be done to processes is done
to these: they are killed, paused and started again. Their nodes' kernels are files that outlive them.
"""

import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filed_kernel
from audit import AuditLog, permission
from controlplane import APIServer, ControlPlane
from programs import Program, until

from persistip.model.keys import attachment_name

SYSTEM = "persistip-system"
CONTROLLER, AGENT = "persistip-controller", "persistip-agent"
USERS = {part: f"system:serviceaccount:{SYSTEM}:{part}" for part in (CONTROLLER, AGENT)}
CLASS = "gke-persistent-regional-external-managed"
POOL = "203.0.113.0/24"
NODES = ("node-a", "node-b", "node-c")

MERGE = "application/merge-patch+json"
GATEWAY_API, GKE, OURS = "gateway.networking.k8s.io/v1", "networking.gke.io/v1", "persistip.dev/v1alpha1"
ATTACHMENTS = f"/apis/{OURS}/addressattachments"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{CONTROLLER}"

# A killed leader is followed in three seconds instead of fifteen; everything else is as shipped.
LEASE_SECONDS = 3
QUICK_ELECTION = (
    f"--election.lease-seconds={LEASE_SECONDS}",
    "--election.renew-seconds=2",
    "--election.retry-seconds=0.5",
)
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
QUIET_SECONDS = 1.5
WRITES_OF_A_MOVE = 8
"""All of it, ours and the agents', Event included: that is the rule."""
WRITES_OF_A_LIFE = 16
"""
Of a route, from its first to its last: created, cleared of `pending`, drained, finalizer off, deleted; three reports of
the route; three or four of agents; two Events.
"""


@dataclass
class System:
    """Everything of persistip on *plane*; ``start`` it, and ``close`` it."""

    plane: ControlPlane
    election: tuple[str, ...] = QUICK_ELECTION
    controllers: list[Program] = field(default_factory=list)
    agents: dict[str, Program] = field(default_factory=dict)
    noise: list[tuple[str, str, str]] = field(default_factory=list)

    # ------------------------------------------------------------ life
    def start(self, nodes: Iterable[str] = NODES, *, replicas: int = 2) -> None:
        """Install what every route needs, and start the processes."""
        self.allow(POOL)
        filed_kernel.install_as_plugin(self.plane.folder / "plugins")
        for node in nodes:
            self.add_agent(node)
        for number in range(replicas):
            self.add_controller(f"controller-{number}")
        self.wait_led()

    def allow(self, *prefixes: str) -> None:
        """Let Gateways of the class list these addresses, as a cluster administrator does."""
        self.plane.kubectl(
            "apply", "--server-side", "--force-conflicts", "--filename=-",
            stdin=json.dumps({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "allowed", "namespace": SYSTEM},
                "data": {"allowedAddresses": " ".join(prefixes)},
            }),
        )  # fmt: skip
        reference = {"group": "", "kind": "ConfigMap", "name": "allowed", "namespace": SYSTEM}
        self.plane.must(
            "PATCH", f"/apis/{GATEWAY_API}/gatewayclasses/{CLASS}", {"spec": {"parametersRef": reference}},
            content_type=MERGE,
        )  # fmt: skip

    def add_controller(
        self, name: str, *options: str, skew_seconds: float = 0.0, node: str = "", url: str = ""
    ) -> Program:
        """
        Start one more replica; *skew_seconds* is by how much its clock is ahead.

        With *node* its Pod runs there, by which an audit log tells replicas apart; with *url* it asks there.
        """
        token = self.plane.token_on_node(SYSTEM, CONTROLLER, node) if node else self.plane.token(SYSTEM, CONTROLLER)
        kubeconfig = self.plane.write_kubeconfig(name, token, url=url)
        command = ("run", "controller", f"--kubeconfig={kubeconfig}", *self.election, *options)
        program = self._program(name, command, skew_seconds)
        self.controllers.append(program)
        program.start()
        return program

    def add_agent(self, node: str, *, token: str = "") -> Program:
        """Start the agent of a node, which is made where it is missing; *token* is used in place of a Pod's on it."""
        token = token or self.plane.token_on_node(SYSTEM, AGENT, node)
        kubeconfig = self.plane.write_kubeconfig(f"{AGENT}-{node}", token)
        self.kernel(node).mkdir(parents=True, exist_ok=True)
        command = ("run", "agent", f"--kubeconfig={kubeconfig}", f"--node-name={node}", "--announcer=none")
        program = self._program(
            f"{AGENT}-{node}", (*command, "--datapath=filed", f"--state-directory={self.kernel(node)}")
        )
        self.agents[node] = program
        program.start()
        return program

    def _program(self, name: str, arguments: Iterable[str], skew_seconds: float = 0.0) -> Program:
        paths = (self.plane.folder / "plugins", Path(__file__).parent)
        setting = f"PYTHONPATH={os.pathsep.join(map(str, paths))}"
        entry = ("-m", "persistip") if not skew_seconds else ("-m", "skewed_persistip", str(skew_seconds))
        return Program(name, ("/usr/bin/env", setting, sys.executable, *entry, *arguments), self.plane.folder)

    @property
    def programs(self) -> list[Program]:
        """All processes of ours."""
        return [*self.controllers, *self.agents.values()]

    def lose_node(self, name: str) -> None:
        """Let a machine burn down: agent, kernel and Node go without a word."""
        self.agents.pop(name).end()
        shutil.rmtree(self.kernel(name))
        self.ask("DELETE", f"/api/v1/nodes/{name}")

    def revive(self) -> None:
        """Start what does not run."""
        for program in self.programs:
            if not program.is_running:
                program.start()

    def close(self) -> None:
        """End all of it."""
        for program in self.programs:
            program.end(signal.SIGKILL)

    def leader(self) -> str:
        """Return who leads by the lease; empty: nobody."""
        answer = self.plane.request("GET", LEASE, server=self._running_server())
        return (answer.body["spec"].get("holderIdentity") or "") if answer.is_success else ""

    def leading(self) -> Program | None:
        """Return the controller that leads by the lease; None: nobody, or one that is no more."""
        leader = self.leader()
        running = (each for each in self.controllers if each.is_running)
        return next((each for each in running if leader and leader in each.log.read_text()), None)

    def wait_led(self) -> str:
        """Return who leads once somebody does."""
        found: str = until(self.leader, lambda: f"a leader\n{self.last_words()}")
        return found

    def last_words(self) -> str:
        """Return the ends of all logs, for the message of a failure."""
        return "\n".join(f"--- {each.name}\n{each.last_words()}" for each in self.programs)

    def kernel(self, node: str) -> Path:
        """Return the folder of a node's kernel."""
        return self.plane.folder / "kernels" / node

    def _running_server(self) -> APIServer:
        return next(server for server in self.plane.servers if server.program.is_running)

    # ------------------------------------------------------------ what stands
    def ask(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """Ask as the administrator what must succeed, of a server that runs."""
        return self.plane.must(method, path, body, server=self._running_server(), **how)

    def find(self, path: str) -> Any:
        """Return an object, or None."""
        answer = self.plane.request("GET", path, server=self._running_server())
        return answer.body if answer.is_success else None

    def attachment(self, namespace: str, route: str) -> Any:
        """Return a route's attachment, or None."""
        return self.find(f"{ATTACHMENTS}/{attachment_name(namespace, route)}")

    def attachments(self) -> dict[str, Any]:
        """Return all attachments by namespace/name of their route."""
        found = self.ask("GET", ATTACHMENTS)["items"]
        return {f"{each['spec']['routeRef']['namespace']}/{each['spec']['routeRef']['name']}": each for each in found}

    def delivering(self) -> dict[str, dict[str, str]]:
        """Return where packets go: for each address, the Pod's IP by node."""
        found: dict[str, dict[str, str]] = {}
        for node in self.agents:
            for address, ip in filed_kernel.routed(self.kernel(node)).items():
                found.setdefault(address, {})[node] = ip
        return found

    def leftovers(self) -> list[str]:
        """Return all that stands in kernels, pins included."""
        return [
            f"{node}: {each}" for node in self.agents for kept in filed_kernel.read_kernel(self.kernel(node))
            for each in kept
        ]  # fmt: skip

    def settle(self, holds: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        """Wait for a state, and fail with all that is known when it does not come."""
        try:
            until(holds, what, seconds)
        except TimeoutError as error:
            routes = self.ask("GET", f"/apis/{GKE}/gkeiproutes")["items"]
            said = "\n".join(f"{each['metadata']['name']}: {conditions(each)}" for each in routes)
            stands = json.dumps({key: each["spec"] for key, each in self.attachments().items()}, indent=1)
            raise AssertionError(
                f"{error}\n{said}\n{stands[-6000:]}\n{self.delivering()}\n{self.last_words()}"
            ) from error

    def wait_quiet(self) -> None:
        """Wait for a stretch in which nothing is written but the lease; such a stretch has to come."""

        def is_quiet() -> bool:
            with self.plane.audited() as log:
                time.sleep(QUIET_SECONDS)
            self.noise = writes(log)
            return not self.noise

        until(is_quiet, lambda: f"a quiet cluster, in which there was {self.noise}\n{self.last_words()}")

    @contextmanager
    def writing_at_most(self, count: int) -> Iterator[None]:
        """Fail unless ours write what is to do within the block, until all is quiet, in *count* writes; no lease's."""
        with self.plane.audited() as log:
            yield
            self.wait_quiet()
        made = Counter(f"{verb} {kind}" for verb, kind, _ in writes(log))
        assert 0 < made.total() <= count, made

    @contextmanager
    def reached_at(self, url: str) -> Iterator[None]:
        """Start every process anew, with an API server at *url*; and again with its own afterwards."""
        self._restart_with(url)
        try:
            yield
        finally:
            self._restart_with(self.plane.servers[0].url)

    def _restart_with(self, url: str) -> None:
        said = {}
        for program in self.programs:
            program.end(signal.SIGTERM)
            said[program.log] = program.log.stat().st_size
            kubeconfig = self.plane.folder / f"{program.name}.kubeconfig"
            content = json.loads(kubeconfig.read_text())
            content["clusters"][0]["cluster"]["server"] = url
            kubeconfig.write_text(json.dumps(content))
        self.revive()
        until(
            lambda: all(b"observed everything" in log.read_bytes()[size:] for log, size in said.items()),
            "everybody to have observed everything",
        )


class Tenancy:
    """A namespace with Pods and routes, and a Gateway in another that lets them have addresses."""

    def __init__(self, system: System, *, pool: Iterable[str] = (POOL,)) -> None:
        self.system, self.name = system, f"t-{uuid.uuid4().hex[:8]}"
        self.gateway = f"/apis/{GATEWAY_API}/namespaces/{self.name}-infra/gateways/pool"
        self.routes = f"/apis/{GKE}/namespaces/{self.name}/gkeiproutes"
        self.pods = f"/api/v1/namespaces/{self.name}/pods"
        self._next_ip = 0
        for name in (self.name, f"{self.name}-infra"):
            system.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        kinds = [("IPAddress", each) if "/" not in each else ("gke.networking.io/cidr", each) for each in pool]
        spec = {
            "gatewayClassName": CLASS,
            "listeners": [{
                "name": "any", "port": 1, "protocol": "none", "allowedRoutes": {"namespaces": {"from": "All"}},
            }],
            "addresses": [{"type": kind, "value": value} for kind, value in kinds],
        }  # fmt: skip
        body = {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": "pool"}, "spec": spec}
        system.ask("POST", self.gateway.rpartition("/")[0], body)

    def add_pod(self, name: str, node: str, *, app: str, ready: bool = True) -> str:
        """Start a Pod that *app*'s route selects, and return its IP."""
        self._next_ip += 1
        ip = f"10.{int(self.name[2:4], 16)}.{self._next_ip >> 8}.{self._next_ip & 255}"
        spec = {"nodeName": node, "containers": [{"name": "main", "image": "none.invalid/none"}]}
        made = {"metadata": {"name": name, "labels": {"app": app}}, "spec": spec}
        self.system.ask("POST", self.pods, made)
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
        self.system.ask("PATCH", f"{self.pods}/{name}/status", {"status": status}, content_type=MERGE)
        self.set_ready(name, ready=ready)
        return ip

    def wait_next_second(self) -> None:
        """Return when a Pod made now is newer than those that are there: Kubernetes counts ages in whole seconds."""
        newest = max(each["metadata"]["creationTimestamp"] for each in self.system.ask("GET", self.pods)["items"])
        until(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) > newest, "the next second")

    def set_ready(self, pod: str, *, ready: bool) -> None:
        """Turn a Pod's condition Ready, as its kubelet would."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
        patch = {"status": {"conditions": [condition]}}
        self.system.ask(
            "PATCH", f"{self.pods}/{pod}/status", patch, content_type="application/strategic-merge-patch+json"
        )

    def remove_pod(self, name: str) -> None:
        """End a Pod at once."""
        self.system.ask("DELETE", f"{self.pods}/{name}", {"gracePeriodSeconds": 0})

    def route(self, name: str, *addresses: str, app: str = "") -> dict[str, Any]:
        """Return the manifest of a route."""
        spec = {
            "parentRefs": [{"name": "pool", "namespace": f"{self.name}-infra"}],
            "addresses": [{"type": "IPAddress", "value": each} for each in addresses],
            "podSelector": {"matchLabels": {"app": app or name}},
        }
        return {"apiVersion": GKE, "kind": "GKEIPRoute", "metadata": {"name": name}, "spec": spec}

    def add_route(self, name: str, *addresses: str, app: str = "") -> None:
        """Make a route."""
        self.system.ask("POST", self.routes, self.route(name, *addresses, app=app))

    def edit_route(self, name: str, **spec: Any) -> None:
        """Change fields of a route's spec."""
        self.system.ask("PATCH", f"{self.routes}/{name}", {"spec": spec}, content_type=MERGE)

    def remove_route(self, name: str) -> None:
        """Delete a route."""
        self.system.ask("DELETE", f"{self.routes}/{name}")

    def pairs(self, count: int) -> list[str]:
        """Make routes with two Pods each on different nodes, of which the first is Ready; wait until all are held."""
        names = [f"nat{number}" for number in range(count)]
        for number, name in enumerate(names):
            for turn in range(2):
                self.add_pod(f"{name}-{turn}", NODES[(number + turn) % len(NODES)], app=name, ready=turn == 0)
            self.add_route(name, address(number))
        for number, name in enumerate(names):
            self.system.settle(lambda n=number, r=name: self.is_held(r, f"{r}-0", address(n)), f"{name} to be held")
        return names

    def reasons(self, name: str) -> Mapping[str, str]:
        """Return a route's conditions."""
        return conditions(self.system.find(f"{self.routes}/{name}"))

    def is_held(self, name: str, pod: str, *addresses: str) -> bool:
        """Whether a route is Ready with these addresses at that Pod, and nothing is left of a move."""
        route, decided = self.system.find(f"{self.routes}/{name}"), self.system.attachment(self.name, name)
        if route is None or decided is None or conditions(route).get("Ready") != "Ready":
            return False
        generations = {each["observedGeneration"] for each in route["status"]["conditions"]}
        spec = decided["spec"]
        if spec.get("releasing") or spec.get("pod", {}).get("name") != pod or route["status"].get("pods") != [pod]:
            return False
        held = {each["prefix"].partition("/")[0] for each in spec["addresses"] if not each.get("pending")}
        delivering = self.system.delivering()
        at = {spec["nodeName"]: spec["pod"]["ips"][0]}
        return (
            generations == {route["metadata"]["generation"]}
            and held == set(addresses)
            and all(delivering.get(each) == at for each in addresses)
            and [spec["epoch"]]
            == [each["epoch"] for each in decided["status"]["nodes"] if each["nodeName"] == spec["nodeName"]]
        )

    def close(self) -> None:
        """Take all of it away; afterwards nothing of it is left anywhere."""
        system = self.system
        system.revive()
        system.ask("DELETE", self.routes)
        mine = f"{self.name}/"
        system.settle(
            lambda: not [key for key in system.attachments() if key.startswith(mine)], "attachments to go", 90
        )
        system.settle(lambda: not system.leftovers(), "kernels to be empty")
        system.ask("DELETE", self.gateway)
        for pod in system.ask("GET", self.pods)["items"]:
            self.remove_pod(pod["metadata"]["name"])


def address(number: int) -> str:
    """Return the address of a route by its number."""
    return f"203.0.113.{number + 1}"


def turn_over(tenancy: Tenancy, name: str, turn: int) -> None:
    """Let the Pod that holds become unready, and the other Ready."""
    tenancy.set_ready(f"{name}-{(turn + 1) % 2}", ready=True)
    tenancy.set_ready(f"{name}-{turn % 2}", ready=False)


def conditions(found: Any) -> dict[str, str]:
    """Return the reason of each condition."""
    return {each["type"]: each["reason"] for each in (found or {}).get("status", {}).get("conditions", ())}


def by_us(log: AuditLog) -> Iterator[Mapping[str, Any]]:
    """Yield the requests of controllers and agents."""
    return (event for event in log.events() if event["user"].get("username") in USERS.values())


def writes(log: AuditLog) -> list[tuple[str, str, str]]:
    """Return the writes of ours but for the lease's: what was done, to what, under which name."""
    return [
        (event["verb"], permission(event)[2], event["objectRef"].get("name", ""))
        for event in by_us(log)
        if event["verb"] in WRITES and event["objectRef"]["resource"] != "leases"
    ]


def refused(log: AuditLog) -> list[str]:
    """Return the requests of ours that were forbidden."""
    return [
        f"{event['user']['username'].rpartition(':')[2]}: {' '.join(permission(event))} {event['requestURI']}: "
        f"{event['responseStatus'].get('message', '')}"
        for event in by_us(log)
        if event.get("responseStatus", {}).get("code") == 403
    ]


@contextmanager
def running(plane: ControlPlane, **how: Any) -> Iterator[System]:
    """Give a system of the test's own, and end it."""
    system = System(plane)
    try:
        system.start(**how)
        yield system
    finally:
        system.close()
