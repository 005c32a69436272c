"""
What can happen to an address in a real cluster?

Each scenario is a function that makes something happen on the stage, and undoes what it did to the nodes; the stage
waits until all is well again, and measures. To add one: write the function, name the route that the client watches,
and say whether payload may be lost.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from realcluster.installed import EXAMPLES, SYSTEM
from realcluster.stage import NAMESPACE, Stage

CUT_SECONDS = 3.0
API_GONE_SECONDS = 5.0


@dataclass(frozen=True)
class Scenario:
    """Something that happens."""

    name: str
    route: str
    play: Callable[[Stage], None]
    prepare: Callable[[Stage], None]
    """What is seen to before the client watches."""
    is_lossless: bool
    """Whether the promise is that no payload is lost."""


SCENARIOS: list[Scenario] = []


def leader_elsewhere(stage: Stage) -> None:
    """Keep the leading controller off the node of the border's holder."""
    stage.lead_from_elsewhere(stage.node_of("border"))


def scenario(
    name: str, route: str, *, lossless: bool = False, prepare: Callable[[Stage], None] = lambda stage: None
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Add a function to the list."""

    def add(play: Callable[[Stage], None]) -> Callable[[Stage], None]:
        SCENARIOS.append(Scenario(name, route, play, prepare, lossless))
        return play

    return add


def delete(stage: Stage, route: str) -> None:
    """Delete the Pod that holds a route's addresses, without waiting."""
    stage.kubectl("delete", "pod", stage.holder(route)["metadata"]["name"], "--wait=false")


def await_move(stage: Stage, route: str, act: Callable[[], object]) -> None:
    """Do something that makes a route's addresses move, and wait until they have."""
    before = stage.holder(route)
    act()
    stage.await_other_holder(route, before)


# ---------------------------------------------------------------- Pods
@scenario("Pod deleted, StatefulSet", "sip-0")
def pod_of_a_stateful_set_is_deleted(stage: Stage) -> None:
    """Nobody stands by: a new Pod has to start first."""
    await_move(stage, "sip-0", lambda: delete(stage, "sip-0"))


@scenario("Pod deleted, Deployment with a standby", "border", lossless=True)
def pod_with_a_standby_is_deleted(stage: Stage) -> None:
    """The standby takes over while the old Pod ends."""
    await_move(stage, "border", lambda: delete(stage, "border"))


@scenario("container killed (-9)", "sip-1")
def container_is_killed(stage: Stage) -> None:
    """The kubelet starts it again in the same Pod."""
    pod = stage.holder("sip-1")
    stage.kill(pod)
    stage.await_restart(pod)


@scenario("readiness fails, and recovers", "border")
def readiness_fails(stage: Stage) -> None:
    """The standby takes over, and keeps the address: the route's failback is `never`."""
    first = stage.holder("border")
    await_move(stage, "border", lambda: stage.set_ready(first, False))
    stage.set_ready(first, True)


@scenario("rollout restart of the Deployment", "border", lossless=True)
def deployment_is_rolled(stage: Stage) -> None:
    """Every Pod is replaced by another, one at a time."""

    def roll() -> None:
        stage.kubectl("rollout", "restart", "deployment/border")
        stage.kubectl("rollout", "status", "deployment/border", "--timeout=60s")

    await_move(stage, "border", roll)


# ---------------------------------------------------------------- nodes
@scenario("node drained", "border", lossless=True)
def node_is_drained(stage: Stage) -> None:
    """All Pods of the holder's node are evicted, as its PodDisruptionBudgets allow."""
    node = stage.node_of("border")
    await_move(stage, "border", lambda: stage.kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=60s"))
    stage.kubectl("uncordon", node)


@scenario("power cut, with a standby elsewhere", "border", prepare=leader_elsewhere)
def power_is_cut(stage: Stage) -> None:
    """The holder's node is gone until Kubernetes finds that out; later it comes back."""
    node = stage.node_of("border")
    await_move(stage, "border", stage.cluster.nodes[node].cut_power)
    stage.boot(node)


@scenario("node rebooted, StatefulSet", "sip-0")
def node_is_rebooted(stage: Stage) -> None:
    """The holder's node shuts down in order and comes back."""
    node = stage.node_of("sip-0")
    stage.cluster.nodes[node].shut_down()
    stage.boot(node)


@scenario("node cut off from the API server", "border", prepare=leader_elsewhere)
def api_is_out_of_reach(stage: Stage) -> None:
    """The holder's node goes on delivering while Kubernetes gives it up."""
    node = stage.node_of("border")
    await_move(stage, "border", lambda: stage.cluster.segment.cut(node, "api"))
    stage.cluster.segment.heal(node)


@scenario("node cut off from everything", "border", prepare=leader_elsewhere)
def everything_is_out_of_reach(stage: Stage) -> None:
    """The holder's node is alone until Kubernetes gives it up; later it comes back with what it knew."""
    node = stage.node_of("border")
    await_move(stage, "border", lambda: stage.cluster.segment.cut(node, "both"))
    stage.cluster.segment.heal(node)


@scenario(f"node cut off from the fabric alone for {CUT_SECONDS:g} s", "border")
def fabric_is_out_of_reach(stage: Stage) -> None:
    """The kubelet goes on reporting, so Kubernetes sees nothing, and nothing moves."""
    node = stage.node_of("border")
    stage.cluster.segment.cut(node, "fabric")
    time.sleep(CUT_SECONDS)
    stage.cluster.segment.heal(node)


@scenario("kubelet and containerd killed and started again", "border", lossless=True)
def daemons_are_killed(stage: Stage) -> None:
    """Containers live on without them; a new kubelet may take a Pod for not Ready until it has probed it."""
    name_of_node = stage.node_of("border")
    node = stage.cluster.nodes[name_of_node]
    for name in ("kubelet", "containerd"):
        node.stop_daemon(name, signal.SIGKILL)
    for name in ("containerd", "kubelet"):
        node.start_daemon(name)
    node.await_containerd()
    stage.await_probes(name_of_node)


# ---------------------------------------------------------------- ours
@scenario("agent killed (-9)", "sip-0", lossless=True)
def agent_is_killed(stage: Stage) -> None:
    """What is in the kernel goes on without it."""
    (agent,) = stage.parts("agent", stage.node_of("sip-0"))
    stage.kill(agent)
    stage.await_restart(agent)


@scenario("all agents rolled", "border", lossless=True)
def agents_are_rolled(stage: Stage) -> None:
    """A new version of the DaemonSet goes from node to node."""
    stage.api.kubectl("-n", SYSTEM, "rollout", "restart", "daemonset/persistip-agent")
    stage.api.kubectl("-n", SYSTEM, "rollout", "status", "daemonset/persistip-agent", "--timeout=60s")


@scenario("both controllers killed (-9), and a Pod deleted", "border")
def controllers_are_killed(stage: Stage) -> None:
    """Nobody decides until one of them is back."""

    controllers = stage.parts("controller")

    def act() -> None:
        stage.kill(*controllers)
        delete(stage, "border")

    await_move(stage, "border", act)
    stage.await_restart(*controllers)


@scenario(f"API server gone for {API_GONE_SECONDS:g} s during a move", "border")
def api_server_is_gone(stage: Stage) -> None:
    """A Pod is deleted, and the API server killed at once."""

    def act() -> None:
        delete(stage, "border")
        stage.api.server.end(signal.SIGKILL)
        time.sleep(API_GONE_SECONDS)
        stage.api.server.start()
        stage.api.await_ready()

    await_move(stage, "border", act)


# ---------------------------------------------------------------- routes
@scenario("route edited: an address added and taken away", "sip-0", lossless=True)
def route_is_edited(stage: Stage) -> None:
    """What stands in the route before and after is not interrupted."""
    path = f"/apis/networking.gke.io/v1/namespaces/{NAMESPACE}/gkeiproutes/sip-0"
    addresses = stage.route("sip-0")["spec"]["addresses"]
    for wanted in ([*addresses, {"type": "IPAddress", "value": "192.0.2.132"}], addresses):
        stage.api.must("PATCH", path, {"spec": {"addresses": wanted}}, content_type="application/merge-patch+json")
        stage.await_prefixes("sip-0", len(wanted))


@scenario("route deleted and made again", "border")
def route_is_made_again(stage: Stage) -> None:
    """The same name, another route: the first is drained before the second has the address."""
    stage.kubectl("delete", "gkeiproute", "border")
    stage.kubectl("apply", f"--filename={EXAMPLES / '30-standby.yaml'}")
