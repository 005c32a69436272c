"""
What can happen to an address in a real cluster?

Each scenario is a function that makes something happen on the stage, and undoes what it did to the nodes; the stage
waits until all is well again, and measures. To add one: write the function, name the route that the client watches,
and say whether payload may be lost. What takes long is longer with `--long` (`stage.pick`).
"""

import signal
import time
from collections.abc import Callable

from realcluster import extras, kernels
from realcluster.installed import EXAMPLES, SYSTEM
from realcluster.scenario import SCENARIOS, scenario
from realcluster.stage import MERGE, NAMESPACE, Stage

__all__ = ["SCENARIOS"]

CUT_SECONDS = 3.0
FLAP_SECONDS = 2.5
# Ten, but for how much later one watch may be heard than another.
DAMPED_SECONDS = 8.0
ADDRESSES = EXAMPLES / "10-addresses.yaml"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/network/gateways/public"
LABEL = {"pool": "public"}


def leader_elsewhere(stage: Stage) -> None:
    """Keep the leading controller off the node of the border's holder."""
    stage.lead_from_elsewhere(stage.node_of("border"))


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


def newest_holds(stage: Stage) -> None:
    """Let the newest Ready Pod hold the border's addresses, as it is without the example's annotation."""
    stage.kubectl("annotate", "gkeiproute", "border", "persistip.dev/failback-")


def holder_stays(stage: Stage) -> None:
    """Take that back."""
    stage.kubectl("annotate", "--overwrite", "gkeiproute", "border", "persistip.dev/failback=never")


@scenario("readiness flaps, with failback", "border", long=True, prepare=newest_holds, clean=holder_stays)
def readiness_flaps(stage: Stage) -> None:
    """The first failure moves the address, and it does not come back before the Pod has been well for a while."""
    began = time.monotonic_ns()
    first = stage.holder("border")
    for _ in range(stage.pick(2, 12)):
        for is_well in (False, True):
            stage.set_ready(first, is_well)
            time.sleep(FLAP_SECONDS)
    assert stage.journal.holders("border", began)
    early = stage.journal.early_returns("border", first["metadata"]["uid"], began, DAMPED_SECONDS)
    assert early == [], f"the address came back when the Pod had been Ready for {early} s"


@scenario("rollout restart of the Deployment", "border", lossless=True)
def deployment_is_rolled(stage: Stage) -> None:
    """Every Pod is replaced by another, one at a time."""

    def roll() -> None:
        stage.kubectl("rollout", "restart", "deployment/border")
        stage.kubectl("rollout", "status", "deployment/border", "--timeout=60s")

    await_move(stage, "border", roll)


def remove_tenant(stage: Stage) -> None:
    """Take the other tenant away."""
    stage.remove_namespace(extras.TENANT)


@scenario("Pod IP reused by a Pod of another tenant", "egress", clean=remove_tenant)
def pod_ip_is_reused(stage: Stage) -> None:
    """While nobody holds the address, another's Pod on the same node gets the former holder's IP, and no packet."""
    former = stage.holder("egress")
    ips, node = [each["ip"] for each in former["status"]["podIPs"]], stage.cluster.nodes[former["spec"]["nodeName"]]
    stage.kubectl("scale", "deployment/egress", "--replicas=0")
    stage.cluster.until(lambda: not stage.cluster.list_pods(NAMESPACE, "app=egress"), "the former holder to be gone")
    node.give_next(ips)
    stage.api.kubectl("apply", "--filename=-", stdin=extras.tenant(node.name, [stage.address("egress")]))
    stage.cluster.await_pods(extras.TENANT, "", 1)
    (other,) = stage.cluster.list_pods(extras.TENANT)
    assert [each["ip"] for each in other["status"]["podIPs"]] == ips
    time.sleep(stage.pick(1, 10))
    stage.kubectl("scale", "deployment/egress", "--replicas=1")
    stage.cluster.await_pods(NAMESPACE, "app=egress", 1)
    stage.cluster.until(lambda: stage.is_held("egress"), "the address to be held again")
    assert stage.datagrams(other) == 0


# ---------------------------------------------------------------- nodes
@scenario("node drained", "border", lossless=True)
def node_is_drained(stage: Stage) -> None:
    """All Pods of the holder's node are evicted, as its PodDisruptionBudgets allow."""
    node = stage.node_of("border")
    await_move(stage, "border", lambda: stage.kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=60s"))
    stage.kubectl("uncordon", node)


@scenario("Pods evicted by a taint (NoExecute)", "border", lossless=True, prepare=leader_elsewhere)
def pods_are_evicted(stage: Stage) -> None:
    """All Pods that do not tolerate it go at once, without a word of their PodDisruptionBudgets."""
    node = stage.node_of("border")
    try:
        await_move(stage, "border", lambda: stage.kubectl("taint", "node", node, "maintenance=now:NoExecute"))
    finally:
        stage.kubectl("taint", "node", node, "maintenance-")


@scenario("power cut, with a standby elsewhere", "border", prepare=leader_elsewhere)
def power_is_cut(stage: Stage) -> None:
    """The holder's node is gone until Kubernetes finds that out; later it comes back."""
    node = stage.node_of("border")
    await_move(stage, "border", stage.cluster.nodes[node].cut_power)
    stage.cluster.boot(node)


def bring_many(stage: Stage) -> None:
    """Let one Pod hold many addresses, on a node where the leading controller is not."""
    count = stage.pick(10, 50)
    stage.api.kubectl("apply", "--filename=-", stdin=extras.many(NAMESPACE, count))
    stage.cluster.await_pods(NAMESPACE, f"app={extras.MANY}", 2)
    names = extras.names_of_many(count)
    stage.cluster.until(lambda: all(map(stage.is_held, names)), "all of many routes to be held")
    nodes = {stage.node_of(name) for name in names}
    assert len(nodes) == 1, nodes
    stage.lead_from_elsewhere(nodes.pop())


def remove_many(stage: Stage) -> None:
    """Take them away."""
    stage.kubectl("delete", "gkeiproute,deployment", f"--selector=app={extras.MANY}", "--wait=true")
    selector = f"app={extras.MANY}"
    stage.cluster.until(lambda: not stage.cluster.list_pods(NAMESPACE, selector), "the Pods of many routes to be gone")


@scenario(
    "power cut, a node with many routes: the first",
    f"{extras.MANY}-0",
    long=True,
    prepare=bring_many,
    clean=remove_many,
)
def power_is_cut_under_many(stage: Stage) -> None:
    """All addresses of the node are with the standby, and each of them answers."""
    count, began = stage.pick(10, 50), time.monotonic_ns()
    names, node = extras.names_of_many(count), stage.node_of(f"{extras.MANY}-0")
    stage.cluster.nodes[node].cut_power()
    stage.cluster.until(
        lambda: all(stage.node_of(name) != node and stage.is_held(name) for name in names), "all routes to have moved"
    )
    stage.note(f"{count} routes on the node: decided and programmed {stage.journal.span(names, began)}")
    stage.cluster.boot(node)
    for name in names:
        stage.await_answer(name)


@scenario("node rebooted, StatefulSet", "sip-0")
def node_is_rebooted(stage: Stage) -> None:
    """The holder's node shuts down in order and comes back."""
    node = stage.node_of("sip-0")
    stage.cluster.nodes[node].shut_down()
    stage.cluster.boot(node)


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
@scenario("agent killed (-9), with --long in a loop", "sip-0", lossless=True, ours=True)
def agent_is_killed(stage: Stage) -> None:
    """What is in the kernel goes on without it."""
    for _ in range(stage.pick(1, 5)):
        (agent,) = stage.parts("agent", stage.node_of("sip-0"))
        stage.kill(agent)
        stage.await_restart(agent)


@scenario("all agents rolled", "border", lossless=True, ours=True)
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


@scenario("API server gone during a move: 5 s, with --long 30 s", "border")
def api_server_is_gone(stage: Stage) -> None:
    """A Pod is deleted, and the API server killed at once."""

    def act() -> None:
        delete(stage, "border")
        stage.api.server.end(signal.SIGKILL)
        time.sleep(stage.pick(5, 30))
        stage.api.server.start()
        stage.api.await_ready()

    await_move(stage, "border", act)


# ---------------------------------------------------------------- routes
@scenario("route edited: an address added and taken away", "sip-0", lossless=True, ours=True)
def route_is_edited(stage: Stage) -> None:
    """What stands in the route before and after is not interrupted."""
    path = f"/apis/networking.gke.io/v1/namespaces/{NAMESPACE}/gkeiproutes/sip-0"
    addresses = stage.route("sip-0")["spec"]["addresses"]
    for wanted in ([*addresses, {"type": "IPAddress", "value": "192.0.2.132"}], addresses):
        stage.api.must("PATCH", path, {"spec": {"addresses": wanted}}, content_type=MERGE)
        stage.await_prefixes("sip-0", len(wanted))


@scenario("route deleted and made again", "border", ours=True)
def route_is_made_again(stage: Stage) -> None:
    """The same name, another route: the first is drained before the second has the address."""
    stage.kubectl("delete", "gkeiproute", "border")
    stage.kubectl("apply", f"--filename={EXAMPLES / '30-standby.yaml'}")


def admit_by_label(stage: Stage) -> None:
    """Let the Gateway admit namespaces by a label that can be taken away; the name's can not."""
    stage.kubectl("label", "namespace", NAMESPACE, *(f"{key}={value}" for key, value in LABEL.items()))
    stage.api.must("PATCH", GATEWAY, extras.pool_by_label(LABEL), content_type=MERGE)


def admit_by_name(stage: Stage) -> None:
    """Take that back."""
    stage.api.kubectl("apply", f"--filename={ADDRESSES}")
    stage.kubectl("label", "namespace", NAMESPACE, *(f"{key}-" for key in LABEL))


@scenario(
    "label of the namespace removed, and set again",
    "border",
    ours=True,
    prepare=admit_by_label,
    clean=admit_by_name,
)
def label_is_removed(stage: Stage) -> None:
    """Without it no route of the namespace is accepted, and no node has an entry left, until it is set again."""
    stage.kubectl("label", "namespace", NAMESPACE, *(f"{key}-" for key in LABEL))
    try:
        stage.cluster.until(
            lambda: all(stage.reason(name, "Accepted") == "NotAllowedByListeners" for name in stage.routes),
            "no route to be accepted",
        )
        nodes = stage.cluster.nodes.values()
        stage.cluster.until(lambda: not any(map(kernels.delivered, nodes)), "no node to have an entry of ours")
        assert not any(stage.answers(name) for name in stage.routes)
    finally:
        stage.kubectl("label", "namespace", NAMESPACE, *(f"{key}={value}" for key, value in LABEL.items()))
