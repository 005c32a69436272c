"""
Where do the scenarios play?

In: a cluster.  Out: a Stage: persistip installed as the page says, the examples at work, a client that watches one
address while something happens, and what must hold when it is over. `Stage.play` is the whole of a scenario.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from persistip.lab.outside import Outside
from realcluster import installed, kernels, service
from realcluster.client import PORT, name_of, probe_at
from realcluster.cluster import Cluster
from realcluster.journal import Journal, is_programmed
from realcluster.objects import condition, is_ready
from realcluster.picture import hold_in_one_picture
from realcluster.results import Result, result_of
from realcluster.scenario import Scenario
from realcluster.service import Balancer

NAMESPACE = "telephony"
ROUTES = ("sip-0", "sip-1", "border", "egress")
SETTLE_SECONDS = 120.0
QUIET_SECONDS = 1.0
FLOW_SECONDS = 10.0
BESIDE_SECONDS = 1.0
WORKLOADS = (
    (NAMESPACE, "app=sip", 2), (NAMESPACE, "app=border", 2), (NAMESPACE, "app=egress", 1), (installed.SYSTEM, "", None),
)  # fmt: skip

# In the metrics of a kubelet: a Pod whose readiness it has found good since it was started.
_PROBED = re.compile(r'^prober_probe_total\{.*pod="([^"]+)".*probe_type="Readiness".*result="successful"', re.MULTILINE)

_DATAGRAMS = ("InDatagrams", "NoPorts", "InErrors")
MERGE = "application/merge-patch+json"

Manifest = Mapping[str, Any]


def container_of(pod: Manifest) -> str:
    """Return the ID of a Pod's container."""
    return str(pod["status"]["containerStatuses"][0]["containerID"].partition("//")[2])


class Stage:
    """A cluster with all that the scenarios need; use it as a context manager."""

    routes = ROUTES

    def __init__(self, cluster: Cluster, *, is_long: bool = False, with_services: bool = False) -> None:
        self.cluster, self.api = cluster, cluster.api
        self.notes: list[str] = []
        self._is_long, self._with_services = is_long, with_services
        self._beside: tuple[Outside, Balancer] | None = None
        self._foreign: dict[str, frozenset[str]] = {}

    # ------------------------------------------------------------ setting
    def __enter__(self) -> Self:
        installed.bring_images(self.cluster)
        self.install()
        for node in self.cluster.nodes:
            self._remember_foreign(node)
        self.cluster.booted.append(self._remember_foreign)
        self.probe, self._looker = (probe_at(self.cluster.segment.client) for _ in range(2))
        self.journal = Journal(self.api)
        if self._with_services:
            self.api.kubectl("apply", "--filename=-", stdin=service.manifests())
            places = {name: node.place for name, node in self.cluster.nodes.items()}
            balancer = Balancer(self.api, self.cluster.segment.router, places)
            self._beside = probe_at(self.cluster.segment.client), balancer
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()
        self.probe.close()
        self._looker.close()
        for each in self._beside or ():
            each.close()

    def install(self) -> None:
        """Install persistip and the examples by the commands of the page."""
        installed.install(self.cluster)
        installed.run_page(self.cluster, "addresses")
        installed.run_page(self.cluster, "example")

    def _remember_foreign(self, name: str) -> None:
        kernels.plant_foreign(self.cluster.nodes[name])
        self._foreign[name] = kernels.foreign(self.cluster.nodes[name])

    def pick(self, short: int, long: int) -> int:
        """Return how much of something: *long* where time does not matter."""
        return long if self._is_long else short

    def note(self, text: str) -> None:
        """Keep something that a row of the table does not tell."""
        self.notes.append(text)

    # ------------------------------------------------------------ looking
    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the examples' namespace."""
        return self.api.kubectl("--namespace", NAMESPACE, *arguments)

    def route(self, name: str) -> Manifest:
        """Return a route."""
        found: Manifest = self.api.must("GET", f"/apis/networking.gke.io/v1/namespaces/{NAMESPACE}/gkeiproutes/{name}")
        return found

    def attachments(self) -> Mapping[str, Manifest]:
        """Return the attachments by the names of their routes."""
        listed = self.api.must("GET", "/apis/persistip.dev/v1alpha1/addressattachments")["items"]
        return {each["spec"]["routeRef"]["name"]: each for each in listed}

    def holder(self, route: str) -> Manifest:
        """Return the Pod that holds a route's addresses."""
        name = self.attachments()[route]["spec"]["pod"]["name"]
        pod: Manifest = self.api.must("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        return pod

    def node_of(self, route: str) -> str:
        """Return the node that delivers a route's addresses."""
        return str(self.attachments()[route]["spec"]["nodeName"])

    def is_held(self, route: str) -> bool:
        """Whether a Pod holds all addresses of a route, as its node has confirmed."""
        attachment = self.attachments().get(route)
        return attachment is not None and "pod" in attachment["spec"] and is_programmed(attachment)

    def reason(self, route: str, kind: str) -> str:
        """Return the reason of a route's condition."""
        conditions = self.route(route).get("status", {}).get("conditions", ())
        return next((str(each["reason"]) for each in conditions if each["type"] == kind), "")

    def answers(self, route: str) -> bool:
        """Whether somebody answers the client at an address of a route."""
        addresses = (each["value"] for each in self.route(route)["spec"]["addresses"])
        return any(self._looker.reach(each, PORT)["udp"] is not None for each in addresses)

    def await_answer(self, route: str) -> None:
        """Return when the client is answered at all addresses of a route, by whom the API names."""
        self.cluster.until(lambda: not self._untrue(route, self.attachments().get(route)), f"{route} to answer")

    def datagrams(self, pod: Manifest) -> int:
        """Return how many datagrams came to a Pod, to any port and address of it."""
        node, container = self.cluster.nodes[pod["spec"]["nodeName"]], container_of(pod)
        names, values = (
            line.split() for line in node.look_into(container, "net/snmp").splitlines() if line.startswith("Udp:")
        )
        counted = dict(zip((f"Udp{name}" for name in names), values, strict=True))
        counted |= dict(line.split() for line in node.look_into(container, "net/snmp6").splitlines())
        return sum(int(counted[f"{kind}{what}"]) for kind in ("Udp", "Udp6") for what in _DATAGRAMS)

    def remove_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it."""
        self.api.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true")

    def parts(self, component: str, node: str | None = None) -> Sequence[Manifest]:
        """Return the Pods of the controller or the agent, on one node or on all."""
        pods = self.cluster.list_pods(installed.SYSTEM, f"app.kubernetes.io/component={component}")
        return [pod for pod in pods if node in (None, pod["spec"].get("nodeName"))]

    def await_other_holder(self, route: str, before: Manifest) -> None:
        """Return when another Pod than *before* holds, as far as its node has confirmed."""
        uid = before["metadata"]["uid"]

        def moved() -> bool:
            attachment = self.attachments()[route]
            return attachment["spec"].get("pod", {}).get("uid", uid) != uid and is_programmed(attachment)

        self.cluster.until(moved, f"{route} to leave {before['metadata']['name']}", SETTLE_SECONDS)

    def await_prefixes(self, route: str, count: int) -> None:
        """Return when a route's attachment has so many prefixes, and its node has confirmed them."""

        def has() -> bool:
            attachment = self.attachments()[route]
            granted = [each for each in attachment["spec"]["addresses"] if not each.get("pending")]
            return len(granted) == len(attachment["spec"]["addresses"]) == count and is_programmed(attachment)

        self.cluster.until(has, f"{route} to have {count} prefixes", SETTLE_SECONDS)

    def kill(self, *pods: Manifest) -> None:
        """Kill the first process of each Pod's container."""
        for pod in pods:
            self.cluster.nodes[pod["spec"]["nodeName"]].kill_container(container_of(pod))

    def set_ready(self, pod: Manifest, is_well: bool) -> None:
        """Tell the application in a Pod what to answer to the kubelet's probe from now on."""
        self.kubectl("exec", pod["metadata"]["name"], "--", "/app", "set", str(is_well).lower())

    def await_restart(self, *pods: Manifest) -> None:
        """Return when the kubelets have started other containers in the place of those that were there before."""
        for pod in pods:
            self.cluster.until(lambda pod=pod: self._is_restarted(pod), f"{pod['metadata']['name']} to be restarted")

    def _is_restarted(self, before: Manifest) -> bool:
        meta = before["metadata"]
        pod = self.api.must("GET", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}")
        count = before["status"]["containerStatuses"][0]["restartCount"]
        return bool(pod["status"]["containerStatuses"][0]["restartCount"] > count) and is_ready(pod)

    def await_probes(self, node: str) -> None:
        """
        Return when the kubelet that runs on a node now has probed each of its Pods that says how to.

        One that was started again may say of a Pod that it is not Ready, for as long as it has not asked it.
        """
        here = {
            pod["metadata"]["name"]
            for namespace, selector, _ in WORKLOADS
            for pod in self.cluster.list_pods(namespace, selector)
            if pod["spec"].get("nodeName") == node
            and any("readinessProbe" in container for container in pod["spec"]["containers"])
        }

        def probed() -> bool:
            status, metrics = self.api.request("GET", f"/api/v1/nodes/{node}/proxy/metrics/probes")
            return status == 200 and here <= set(_PROBED.findall(metrics))

        self.cluster.until(probed, f"the kubelet of {node} to have probed {sorted(here)}")

    def lead_from_elsewhere(self, node: str) -> None:
        """See to it that the controller that leads is not on a node: its own failure is another scenario."""

        def leads_elsewhere() -> bool:
            path = f"/apis/coordination.k8s.io/v1/namespaces/{installed.SYSTEM}/leases/persistip-controller"
            leader = self.api.must("GET", path)["spec"].get("holderIdentity", "")
            found = [pod for pod in self.parts("controller") if leader.startswith(pod["metadata"]["name"])]
            if found and found[0]["spec"]["nodeName"] == node:
                name = found[0]["metadata"]["name"]
                self.api.kubectl("-n", installed.SYSTEM, "delete", "pod", name, "--wait=true")
                return False
            return bool(found)

        self.cluster.until(leads_elsewhere, f"the leader to be elsewhere than on {node}")
        self.settle()

    # ------------------------------------------------------------ playing
    def play(self, scenario: Scenario) -> Result:
        """Let something happen while the client watches an address; return what it saw when all is well again."""
        self.settle()
        try:
            return self._play(scenario)
        finally:
            scenario.clean(self)

    def _play(self, scenario: Scenario) -> Result:
        scenario.prepare(self)
        route = scenario.route
        self.cluster.until(lambda: not self._damped(), "damping to be over: its end is a move of its own")
        self.settle()
        before = self.attachments()[route]
        rival = self._beside[0] if self._beside and not scenario.is_ours and route in service.ADDRESSES else None
        with self._watched(self.address(route)) as seen, self._watched_beside(rival, route) as beside:
            since = self.probe.mark("fault")
            if rival is not None:
                rival.mark("fault")
            scenario.play(self)
            self.settle()
            time.sleep(0.3)
        after = self.attachments()[route]
        self.check()
        self._judge_names(route, seen)
        steps = self.journal.steps(since, before, after)
        return result_of(scenario.name, since, seen["marks"]["fault"], steps, beside.get("marks", {}).get("fault"))

    def _judge_names(self, route: str, seen: Mapping[str, Any]) -> None:
        """Raise if anybody answered the client who was never given the address."""
        known = self.journal.holders(route)
        heard = {who for flow in ("ingress", "egress") for who in seen[flow]["first_ns"]}
        strangers = [who for who in heard if who.rpartition("@")[2] not in known]
        assert not strangers, f"{route} was answered by {strangers}, and held by {known} only"

    @contextmanager
    def _watched(self, address: str) -> Iterator[dict[str, Any]]:
        started = self.probe.start(address, PORT, settle_seconds=FLOW_SECONDS)
        if not started["ok"]:
            self.probe.drop()
            raise AssertionError(f"{address} does not answer in both directions: {started}\n{self.cluster.troubles()}")
        time.sleep(0.2)
        seen: dict[str, Any] = {}
        try:
            yield seen
        except BaseException:
            self.probe.drop()
            raise
        seen.update(self.probe.stop())

    @contextmanager
    def _watched_beside(self, rival: Outside | None, route: str) -> Iterator[dict[str, Any]]:
        """Watch the same Pods behind their Service, where there is one; they do not send with its IP."""
        seen: dict[str, Any] = {}
        if rival is None:
            yield seen
            return
        address = service.ADDRESSES[route]
        rival.start(address, PORT, settle_seconds=BESIDE_SECONDS)
        if rival.status()["ingress"]["who"] is None:
            rival.drop()
            raise AssertionError(f"the Service of {route} does not answer at {address}")
        try:
            yield seen
        except BaseException:
            rival.drop()
            raise
        seen.update(rival.stop())

    def address(self, route: str) -> str:
        """Return the first address of a route."""
        value: str = self.route(route)["spec"]["addresses"][0]["value"]
        return value

    # ------------------------------------------------------------ what must hold
    def settle(self) -> None:
        """Return when everything is at work and nothing moves, and the client is answered by whom the API names."""
        seen: list[str] = []
        quiet: tuple[object, float] = ({}, 0.0)

        def settled() -> bool:
            nonlocal quiet
            seen[:] = self._unsettled()
            epochs = {} if seen else {name: each["spec"]["epoch"] for name, each in self.attachments().items()}
            if seen or epochs != quiet[0]:
                quiet = (epochs, time.monotonic())
            return not seen and time.monotonic() - quiet[1] > QUIET_SECONDS

        try:
            self.cluster.until(settled, "everything to be at work again", SETTLE_SECONDS)
        except TimeoutError as error:
            raise AssertionError(f"{'; '.join(seen)}\n{error}") from error

    def _damped(self) -> list[str]:
        """Return the routes whose addresses a Pod may take back later."""
        until = {
            name: datetime.fromisoformat(each["spec"]["damped"]["until"])
            for name, each in self.attachments().items()
            if "damped" in each["spec"]
        }
        return [name for name, at in until.items() if at > datetime.now(UTC)]

    def _unsettled(self) -> list[str]:
        found = [
            f"node {node['metadata']['name']} is not Ready"
            for node in self.cluster.list_nodes()
            if condition(node, "Ready") != "True"
        ]
        for namespace, selector, count in WORKLOADS:
            pods = self.cluster.list_pods(namespace, selector)
            expected = count if count is not None else 2 + len(self.cluster.nodes)
            if len(pods) != expected or not all(map(is_ready, pods)):
                found.append(f"{len(pods)} Pods {selector} in {namespace}, not {expected} that are Ready")
        if found:
            return found
        attachments = self.attachments()
        for name in ROUTES:
            found += self._untrue(name, attachments.get(name))
        return found

    def _untrue(self, name: str, attachment: Manifest | None) -> list[str]:
        """Return where the route, its attachment and the wire do not say the same."""
        route = self.route(name)
        if attachment is None or "pod" not in attachment["spec"]:
            return [f"{name} is held by nobody"]
        pod = attachment["spec"]["pod"]
        if attachment["spec"].get("releasing") or not is_programmed(attachment):
            return [f"{name} is on the move"]
        if condition(route, "Ready") != "True" or route["status"].get("pods") != [pod["name"]]:
            return [f"{name} is not Ready with {pod['name']}: {route.get('status')}"]
        for each in route["spec"]["addresses"]:
            heard = self._looker.reach(each["value"], PORT)["udp"]
            if heard != name_of(pod):
                return [f"{each['value']} is answered by {heard}, not by {name_of(pod)}"]
        return []

    def check(self) -> None:
        """Hold the kernels of all nodes and kubectl against the attachments; others' entries must be there still."""
        hold_in_one_picture(self._picture, self._faults, seconds=SETTLE_SECONDS)

    def _picture(self) -> object | None:
        """Return which versions of attachments and routes there are, if nothing is on the move."""
        if self._unsettled():
            return None
        versions = {name: each["metadata"]["resourceVersion"] for name, each in self.attachments().items()}
        return versions, {name: self.route(name)["metadata"]["resourceVersion"] for name in ROUTES}

    def _faults(self) -> list[str]:
        found = []
        attachments = self.attachments()
        for name, node in self.cluster.nodes.items():
            ours, due = kernels.delivered(node), kernels.wanted(attachments, name)
            if ours != due:
                found.append(f"{name} has entries for {sorted(ours)}, and should for {sorted(due)}")
            if gone := self._foreign[name] - kernels.foreign(node):
                found.append(f"of others on {name} is gone: {sorted(gone)}")
        table = self.api.kubectl("get", "gkeiproutes,addressattachments", "--all-namespaces", "--no-headers")
        for route, attachment in attachments.items():
            spec = attachment["spec"]
            pod, node = spec.get("pod", {}).get("name"), spec.get("nodeName")
            told = [line.split() for line in table.splitlines() if route in line.replace("/", " ").split()]
            if not any({pod, "True"} <= set(line) for line in told):
                found.append(f"kubectl does not say that {pod} holds:\n{table}")
            if not any({pod, node, "Programmed"} <= set(line) for line in told):
                found.append(f"kubectl does not name {node}:\n{table}")
        return found
