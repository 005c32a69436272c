"""
What does one event cost, and a cold start, when the cluster grows?

    event         one Pod changes ─> catalog.update ─> the plan of every key touched
    cold start    a process that knows nothing takes in the whole cluster and plans every key, as each new leader does
    from scratch  what the event would cost without a catalog: the whole cluster taken in, one key planned

100, 1k and 10k routes with an address each, and ten Pods to a route of which nine match none, on a Node for each
hundred Pods; everything is settled: each address is held by a Pod and confirmed by its Node. Layouts: one Gateway with
one CIDR for all routes, its Pods spread over Namespaces or in one Namespace; Gateways of 16 addresses each; and the
first again with Pods that came as the JSON of an API server, in pages, with the annotations that others write on them.
To decode them is no part of the cold start; what is left of it in memory is part of the memory.
Each size has a process of its own, so that its memory is its own; times are the processor's, so that a busy machine
blurs them less. Read the ratios first: they hold on any machine.
`nox -s bench`, or `python benchmarks/decide_at_scale.py --json`; the exit status is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import attrs
import msgspec
from rich.console import Console
from rich.table import Table
from setting.precedence import ahead

from persistip.decide.catalog import Catalog
from persistip.decide.extracts import reader
from persistip.decide.modes import BUILT_IN
from persistip.decide.versions import Written
from persistip.model.actions import ClusterAction, ReportClass, ReportGateway, ReportRoute, SetFinalizers
from persistip.model.address import IP_ADDRESS, AddressSpec
from persistip.model.attachment import (
    RELEASE_FINALIZER,
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Holder,
    NodeReport,
    NodeStateName,
    Reference,
)
from persistip.model.conditions import Condition
from persistip.model.gateway import (
    DEFAULT_CONTROLLER,
    ConfigMap,
    From,
    Gateway,
    GatewayClass,
    Listener,
    ParametersRef,
)
from persistip.model.keys import CLASS_LABEL, Kind, ObjectKey, ObjectMeta, attachment_name
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, ParentRef, RouteStatus
from persistip.model.selector import LabelSelector
from persistip.model.views import Policy
from persistip.runtime.cycle import decide
from persistip.strategies import Batch, ClusterObject
from persistip.wire import decode_list, from_model

SIZES = (100, 1_000, 10_000)
LAYOUTS = {
    "one Gateway, Namespaces": "one Gateway holds all; a Namespace for each hundred routes",
    "one Gateway, one Namespace": "one Gateway holds all; all routes and Pods in one Namespace",
    "many Gateways": "a Gateway for each 16 routes; a Namespace for each hundred routes",
    "one Gateway, Pods from JSON": "as the first, each Pod decoded from what an API server sends",
}
GOALS = {"event_us": 200.0, "flatness": 1.5, "piece_ms": 20.0, "cold_s": 5.0, "memory_mb": 250.0}
CLASS = "gke-persistent-regional-internal-managed"
START = 1_800_000_000.0
NOW = START + 3600
SPACE = IPv4Network("198.18.0.0/15")  # RFC 2544: set aside for benchmarks
PODS_PER_NODE = 100
PAGE = 500
GATEWAY_SIZE = 16


@attrs.frozen
class Shape:
    """How many routes, and how they lie."""

    routes: int
    layout: str

    @property
    def pods(self) -> int:
        """Nine in ten match no route."""
        return 10 * self.routes

    def namespace_of(self, number: int) -> str:
        """Where a route and its ten Pods live."""
        return "tenant-0" if self.layout.endswith("one Namespace") else f"tenant-{number // 100}"

    def gateway_of(self, number: int) -> str:
        """Which Gateway a route names."""
        return f"pool-{number // GATEWAY_SIZE}" if self.layout == "many Gateways" else "pool"


# ---------------------------------------------------------------- a cluster, object by object and none shared


def _meta(name: str, namespace: str = "", **fields: Any) -> ObjectMeta:
    known = {"uid": f"uid-{namespace}-{name}", "resource_version": "1", "generation": 1, "created_at": START}
    return ObjectMeta(**{**known, "name": name, "namespace": namespace, **fields})


def pod_of(shape: Shape, number: int, *, suffix: str = "0", created_at: float = START, ready: bool = True) -> Pod:
    """Pod *number*: each tenth is of a route, the others of none; *suffix* tells one made anew from the first."""
    app = f"nat-{number // 10}" if number % 10 == 0 else f"web-{number // 10}"
    labels = {
        "app": app,
        "app.kubernetes.io/part-of": "shop",
        "pod-template-hash": f"{number // 10:010x}",
        "security.istio.io/tlsMode": "istio",
        "tier": f"tier-{number // 10 % 3}",
    }
    return Pod(
        meta=_meta(
            f"{app}-{number % 10}-{suffix}", shape.namespace_of(number // 10), labels=labels, created_at=created_at
        ),
        node_name=f"node-{number // PODS_PER_NODE}",
        phase="Running",
        ips=(IPv4Address(int(IPv4Address("10.0.0.0")) + (number << 2) + len(suffix)),),
        ready=ready,
        ready_at=created_at,
    )


def pods(shape: Shape) -> Iterator[Pod]:
    """All of them, made here or decoded page by page."""
    if not shape.layout.endswith("from JSON"):
        yield from (pod_of(shape, number) for number in range(shape.pods))
        return
    for first in range(0, shape.pods, PAGE):
        items = [as_sent(shape, number) for number in range(first, min(first + PAGE, shape.pods))]
        page = msgspec.json.encode({"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": items})
        for _, found in decode_list(Kind.POD, page, reader(())).items:
            assert isinstance(found, Pod)
            yield found


def as_sent(shape: Shape, number: int) -> dict[str, Any]:
    """A Pod of three containers in a mesh, as an API server sends it."""
    body = from_model(pod_of(shape, number))
    name, node, ip = body["metadata"]["name"], body["spec"]["nodeName"], body["status"]["podIP"]
    container_id = f"{number:064x}"
    network = {"name": "k8s-pod-network", "interface": "eth0", "ips": [ip], "mac": f"{number:012x}", "default": True}
    body["metadata"] |= {
        "resourceVersion": str(1_000_000 + number),
        "generateName": name[:-1],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name[:-2], "controller": True}],
        "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {"f:podIP": {}}}}],
        "annotations": {
            "cni.projectcalico.org/containerID": container_id,
            "cni.projectcalico.org/podIP": f"{ip}/32",
            "cni.projectcalico.org/podIPs": f"{ip}/32",
            "k8s.v1.cni.cncf.io/network-status": json.dumps([network], indent=2),
            "kubectl.kubernetes.io/default-container": "app",
            "kubectl.kubernetes.io/restartedAt": f"2027-01-15T08:{number % 60:02}:00Z",
            "prometheus.io/port": "15020",
            "prometheus.io/scrape": "true",
            "sidecar.istio.io/status": json.dumps({"initContainers": ["istio-init"], "revision": f"1-{number % 9}"}),
        },
    }
    containers = ("app", "istio-proxy", "exporter")
    body["spec"]["containers"] = [
        {
            "name": each,
            "image": f"registry.example/{each}:1.{number % 7}",
            "env": [{"name": f"SETTING_{index}", "value": f"value-{index}"} for index in range(6)],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets", "readOnly": True}],
        }
        for each in containers
    ]
    body["status"]["containerStatuses"] = [
        {"name": each, "ready": True, "containerID": f"containerd://{container_id}", "state": {"running": {}}}
        for each in containers
    ]
    body["status"]["hostIP"] = node
    return body


def route_of(shape: Shape, number: int) -> GKEIPRoute:
    """Route *number*: one address, for the Pods of one app."""
    return GKEIPRoute(
        meta=_meta(f"route-{number}", shape.namespace_of(number)),
        parent_refs=(ParentRef(name=shape.gateway_of(number), namespace="infra"),),
        addresses=(AddressSpec(IP_ADDRESS, str(SPACE[number])),),
        pod_selector=LabelSelector((("app", f"nat-{number}"),)),
    )


def attachment_of(shape: Shape, number: int) -> AddressAttachment:
    """What stands for route *number* once everything has settled."""
    route, pod = route_of(shape, number), pod_of(shape, 10 * number)
    gateway = shape.gateway_of(number)
    via = Reference(namespace="infra", name=gateway, uid=f"uid-infra-{gateway}")
    spec = AttachmentSpec(
        route=Reference(namespace=route.meta.namespace, name=route.meta.name, uid=route.meta.uid),
        addresses=(AttachedAddress(prefix=IPv4Network(SPACE[number]), gateway=via),),
        holder=Holder(
            pod_name=pod.meta.name,
            pod_uid=pod.meta.uid,
            pod_ips=pod.ips,
            node_name=pod.node_name,
            node_uid=f"uid--{pod.node_name}",
        ),
        epoch=1,
    )
    name = attachment_name(route.meta.namespace, route.meta.name)
    meta = _meta(name, labels={CLASS_LABEL: CLASS, **spec.node_labels()}, finalizers=(RELEASE_FINALIZER,))
    report = NodeReport(node_name=pod.node_name, epoch=1, state=NodeStateName.PROGRAMMED)
    return AddressAttachment(meta=meta, spec=spec, nodes=(report,))


def gateways(shape: Shape) -> Iterator[Gateway]:
    """One that holds everything, or many that hold a few addresses each."""
    listeners = (Listener(name="any", namespaces_from=From.ALL),)
    if shape.layout != "many Gateways":
        addresses = (AddressSpec("gke.networking.io/cidr", str(SPACE)),)
        yield Gateway(meta=_meta("pool", "infra"), class_name=CLASS, addresses=addresses, listeners=listeners)
        return
    for first in range(0, shape.routes, GATEWAY_SIZE):
        numbers = range(first, min(first + GATEWAY_SIZE, shape.routes))
        yield Gateway(
            meta=_meta(shape.gateway_of(first), "infra"),
            class_name=CLASS,
            addresses=tuple(AddressSpec(IP_ADDRESS, str(SPACE[number])) for number in numbers),
            listeners=listeners,
        )


def cluster(shape: Shape) -> Iterator[ClusterObject]:
    """Every object, in the order in which the kinds happen to be listed."""
    yield ConfigMap(_meta("allowed", "persistip-system"), (("allowedAddresses", str(SPACE)),))
    ref = ParametersRef("", "ConfigMap", "allowed", "persistip-system")
    yield GatewayClass(meta=_meta(CLASS), controller_name=DEFAULT_CONTROLLER, parameters_ref=ref)
    names = dict.fromkeys(("infra", *(shape.namespace_of(number) for number in range(shape.routes))))
    yield from (Namespace(_meta(name, labels={"kubernetes.io/metadata.name": name})) for name in names)
    for number in range(-(-shape.pods // PODS_PER_NODE)):
        yield Node(
            meta=_meta(f"node-{number}", labels={"zone": f"zone-{number % 3}"}),
            ips=(IPv4Address(int(IPv4Address("172.16.0.0")) + number),),
            pod_cidrs=(IPv4Network((int(IPv4Address("10.0.0.0")) + (number << 10), 22)),),
        )
    yield from pods(shape)
    yield from gateways(shape)
    yield from chain.from_iterable((route_of(shape, each), attachment_of(shape, each)) for each in range(shape.routes))


# ---------------------------------------------------------------- the process under measurement


def started(objects: Iterable[ClusterObject]) -> Catalog:
    """A catalog that has been told of everything at once."""
    catalog = Catalog(Policy(), BUILT_IN)
    catalog.update(Batch(objects={each.key: each for each in objects}))
    return catalog


def settle(catalog: Catalog, keys: Iterable[ObjectKey]) -> None:
    """Plan the keys and write what the plans say of status, until they say nothing more."""
    waiting = set(keys)
    while waiting:
        for action in decide(catalog.view(waiting.pop(), NOW)).actions:
            if (written := _written(catalog, action)) is not None:
                waiting |= catalog.absorb(written)


def conditions(shape: Shape) -> tuple[Condition, ...]:
    """What stands in the status of the first route, in a cluster of it alone."""
    alone = Shape(1, shape.layout)
    catalog = started(cluster(alone))
    settle(catalog, catalog.keys())
    return next(each for each in catalog.objects.values() if isinstance(each, GKEIPRoute)).status.conditions


def with_gateways_settled(objects: list[ClusterObject]) -> list[ClusterObject]:
    """The objects, Gateways and their classes with the status that stands: Pods have no part in it."""
    catalog = started(each for each in objects if not isinstance(each, Pod))
    keys = catalog.keys()
    settle(catalog, (key for key in keys if key.kind is not Kind.ROUTE))
    return [catalog.objects.get(each.key, each) for each in objects]  # type: ignore[misc]


def _with_status(found: ClusterObject, shape: Shape, said: tuple[Condition, ...]) -> ClusterObject:
    """A route with the status that stands once everything has settled, said of its own Pod and Node."""
    if not isinstance(found, GKEIPRoute):
        return found
    first, own = (pod_of(shape, 10 * number) for number in (0, int(found.meta.name.removeprefix("route-"))))
    places = [f"Pod {pod.meta.name} on Node {pod.node_name}" for pod in (first, own)]
    own_words = tuple(attrs.evolve(each, message=each.message.replace(*places)) for each in said)
    return attrs.evolve(found, status=RouteStatus(pods=(own.meta.name,), conditions=own_words))


def _written(catalog: Catalog, action: ClusterAction) -> Written | None:
    match action:
        case ReportRoute() | ReportGateway():
            found = catalog.objects[action.key]
            assert isinstance(found, GKEIPRoute | Gateway)
            return attrs.evolve(found, meta=_next(found.meta), status=action.status)
        case SetFinalizers():
            found = catalog.objects[action.key]
            assert isinstance(found, GatewayClass)
            return attrs.evolve(found, meta=attrs.evolve(_next(found.meta), finalizers=action.finalizers))
        case ReportClass():
            found = catalog.objects[action.key]
            assert isinstance(found, GatewayClass)
            return attrs.evolve(found, meta=_next(found.meta), conditions=action.conditions)
    return None


def _next(meta: ObjectMeta) -> ObjectMeta:
    return attrs.evolve(meta, resource_version=str(int(meta.resource_version) + 1))


def take(catalog: Catalog, found: ClusterObject | ObjectKey) -> tuple[float, int, int]:
    """Seconds from one event to the plans of all that it touches; how many plans, and how many actions in them."""
    key, value = (found, None) if isinstance(found, ObjectKey) else (found.key, found)
    batch = Batch(objects={key: value})
    begun = time.process_time()
    touched = catalog.update(batch)
    plans = [decide(catalog.view(each, NOW)) for each in touched]
    return time.process_time() - begun, len(touched), sum(len(plan.actions) for plan in plans)


@attrs.define
class Events:
    """What the events of one kind cost, in microseconds."""

    seconds: list[float] = attrs.field(factory=list)
    touched: int = 0

    def add(self, measured: tuple[float, int, int], *, acts: bool) -> None:
        """Count one in; an event that decides nothing where it must, or something where it must not, is no measure."""
        seconds, touched, actions = measured
        if bool(actions) != acts:
            raise SystemExit(f"an event of the benchmark led to {actions} actions: the benchmark is wrong")
        self.seconds.append(seconds)
        self.touched = max(self.touched, touched)

    def summary(self) -> dict[str, float]:
        """Median and 99th percentile."""
        micro = [1e6 * each for each in self.seconds]
        return {"median_us": median(micro), "p99_us": quantiles(micro, n=100)[98], "touched": self.touched}


def events(shape: Shape, catalog: Catalog, rounds: int) -> dict[str, dict[str, float]]:
    """The events of a day: of Pods of no route, of holders, of a Pod that takes over, of Nodes and the rest."""
    measured = {name: Events() for name in ("other Pod", "holder unready", "newer Pod", "Node heartbeat", "Node label")}
    stride = max(shape.routes // rounds, 1)
    for turn in range(rounds):
        number = turn * stride % shape.routes
        other = pod_of(shape, 10 * number + 1 + turn % 9)
        holder, newer = pod_of(shape, 10 * number), pod_of(shape, 10 * number, suffix="10", created_at=START + 60)
        for ready in (False, True):
            measured["other Pod"].add(take(catalog, attrs.evolve(other, ready=ready)), acts=False)
            measured["holder unready"].add(take(catalog, attrs.evolve(holder, ready=ready)), acts=not ready)
        measured["newer Pod"].add(take(catalog, newer), acts=True)
        take(catalog, newer.key)
        node = catalog.objects[ObjectKey(Kind.NODE, "", holder.node_name)]
        assert isinstance(node, Node)
        beat = attrs.evolve(node, meta=_next(node.meta))
        measured["Node heartbeat"].add(take(catalog, beat), acts=False)
        labels = {**node.meta.labels, "seen": str(turn)}
        labelled = attrs.evolve(beat, meta=attrs.evolve(beat.meta, labels=labels))
        measured["Node label"].add(take(catalog, labelled), acts=False)
        take(catalog, beat)
    return {name: each.summary() for name, each in measured.items()}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def worst(shape: Shape, catalog: Catalog) -> dict[str, dict[str, float]]:
    """
    What touches much.

    ``update``: milliseconds in one piece, with the sorting of what was touched; so long the loop stands still. What is
    touched then queues up in pieces, and is planned key by key. ``longest``: the longest plan among
    the keys touched, each of which is a turn of its own; ``all``: until every key is planned.
    """
    annotated = _meta(shape.gateway_of(0), "infra", annotations={"edited": "yes"}, resource_version="99")
    gateway = attrs.evolve(next(gateways(shape)), meta=annotated)
    namespace = Namespace(_meta(shape.namespace_of(0), labels={"edited": "yes"}))
    node = catalog.objects[ObjectKey(Kind.NODE, "", "node-0")]
    new_node = attrs.evolve(node, meta=_meta("node-new"), ips=(IPv4Address("172.31.0.1"),), pod_cidrs=())
    route = route_of(shape, 0)
    edits = {"generation": 2, "annotations": {"persistip.dev/hold": "true"}, "resource_version": "99"}
    edited = attrs.evolve(route, meta=attrs.evolve(route.meta, **edits))
    changes: dict[str, ClusterObject] = {
        "Gateway edit": gateway,
        "Namespace label": namespace,
        "Node out of service": attrs.evolve(node, out_of_service=True),
        "route edit": edited,
        "Node comes": new_node,
    }
    found: dict[str, dict[str, float]] = {}
    for name, change in changes.items():
        seconds, touched = timed(lambda change=change: sorted(catalog.update(Batch(objects={change.key: change}))))
        turns = [timed(lambda key=key: decide(catalog.view(key, NOW)))[0] for key in touched]
        found[name] = {
            "touched": len(touched),
            "update_ms": 1e3 * seconds,
            "longest_ms": 1e3 * max(turns, default=0.0),
            "all_ms": 1e3 * (seconds + sum(turns)),
        }
    return found


def resident_mb() -> float:
    """What this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """One size and layout, in this process."""
    empty = resident_mb()
    said = conditions(shape)
    found = with_gateways_settled([_with_status(each, shape, said) for each in cluster(shape)])
    feeding, catalog = timed(partial(started, found))
    del found
    keys = sorted(catalog.keys())
    planning, left = timed(lambda: sum(len(decide(catalog.view(each, NOW)).actions) for each in keys))
    if left:
        raise SystemExit(f"{left} actions are left in a cluster that has settled: the benchmark is wrong")
    gc.collect()
    memory = resident_mb()
    gc.freeze()  # the collector's pauses are the garbage's, not the decision's
    found = events(shape, catalog, rounds)
    latest = list(catalog.objects.values())
    some = ObjectKey(Kind.ROUTE, shape.namespace_of(0), "route-0")
    scratch, _ = timed(lambda: decide(started(latest).view(some, NOW)))
    return {
        **attrs.asdict(shape),
        "pods": shape.pods,
        "events": found,
        "event_us": max(found["newer Pod"]["median_us"], found["holder unready"]["median_us"]),
        "cold_s": feeding + planning,
        "feeding_s": feeding,
        "planned": len(catalog.keys()),
        "memory_mb": memory,
        "empty_mb": empty,
        "scratch_ms": 1e3 * scratch,
        "worst": worst(shape, catalog),
    }


# ---------------------------------------------------------------- all sizes, and what they show


def measured_apart(shape: Shape, rounds: int) -> dict[str, Any]:
    """One size and layout, in a process of its own."""
    command = [sys.executable, __file__, "--only", str(shape.routes), shape.layout, "--rounds", str(rounds)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def judged(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each goal beside what was measured, at its worst."""
    largest = [each for each in results if each["routes"] == max(SIZES)]
    smallest = {each["layout"]: each for each in results if each["routes"] == min(SIZES)}
    flat = [each["event_us"] / smallest[each["layout"]]["event_us"] for each in largest]
    measured = {
        "event_us": max(each["event_us"] for each in largest),
        "flatness": max(flat),
        "cold_s": max(each["cold_s"] for each in largest),
        "memory_mb": max(each["memory_mb"] for each in largest),
        "piece_ms": max(cost["update_ms"] for each in largest for cost in each["worst"].values()),
    }
    return [
        {"goal": name, "at_most": GOALS[name], "measured": round(value, 3), "met": value <= GOALS[name]}
        for name, value in measured.items()
    ]


def show(results: list[dict[str, Any]], goals: list[dict[str, Any]]) -> None:
    """Tables for people."""
    console = Console()
    table = Table(title="One Pod event to the decided plan")
    for name in ("layout", "routes", "Pods", "event µs", "p99 µs", "to smallest", "from scratch to event"):
        table.add_column(name, justify="left" if name == "layout" else "right")
    smallest = {each["layout"]: each["event_us"] for each in results if each["routes"] == min(SIZES)}
    for each in results:
        p99 = max(each["events"][name]["p99_us"] for name in ("newer Pod", "holder unready"))
        table.add_row(
            each["layout"],
            f"{each['routes']:,}",
            f"{each['pods']:,}",
            f"{each['event_us']:.0f}",
            f"{p99:.0f}",
            f"{each['event_us'] / smallest[each['layout']]:.2f}",
            f"{1e3 * each['scratch_ms'] / each['event_us']:,.0f}",
        )
    console.print(table)
    table = Table(title="Cold start and memory")
    for name in ("layout", "routes", "Pods", "cold start s", "of it taking in s", "plans", "memory MB"):
        table.add_column(name, justify="left" if name == "layout" else "right")
    for each in results:
        cells = (
            f"{each['cold_s']:.2f}",
            f"{each['feeding_s']:.2f}",
            f"{each['planned']:,}",
            f"{each['memory_mb']:.0f}",
        )
        table.add_row(each["layout"], f"{each['routes']:,}", f"{each['pods']:,}", *cells)
    console.print(table)
    for each in (each for each in results if each["routes"] == max(SIZES)):
        table = Table(title=f"{each['layout']}, {each['routes']:,} routes: other events")
        for name in ("event", "keys touched", "in one piece ms", "longest plan ms", "all ms"):
            table.add_column(name, justify="left" if name == "event" else "right")
        for name, cost in each["events"].items():
            table.add_row(name, f"{cost['touched']:,}", "", "", f"{cost['median_us'] / 1e3:.3f}")
        for name, cost in each["worst"].items():
            cells = (f"{cost['update_ms']:.1f}", f"{cost['longest_ms']:.1f}", f"{cost['all_ms']:.0f}")
            table.add_row(name, f"{cost['touched']:,}", *cells)
        console.print(table)
    for each in goals:
        met = "met   " if each["met"] else "missed"
        console.print(f"{met} {each['goal']}: {each['measured']} (at most {each['at_most']})")


def main() -> int:
    """Measure all, or one; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500, help="events of each kind and size")
    parser.add_argument("--ahead", action="store_true", help="before the machine's other sessions (root; autogroups)")
    parser.add_argument("--json", action="store_true", help="print the figures instead of tables")
    parser.add_argument("--only", nargs=2, metavar=("ROUTES", "LAYOUT"), help="one size and layout, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        routes, layout = arguments.only
        print(json.dumps(measure(Shape(int(routes), layout), arguments.rounds)))
        return 0
    shapes = [Shape(routes, layout) for layout in LAYOUTS for routes in SIZES]
    with ahead() if arguments.ahead else contextlib.nullcontext():
        results = [measured_apart(shape, arguments.rounds) for shape in shapes]
    goals = judged(results)
    if arguments.json:
        print(json.dumps({"results": results, "goals": goals}, indent=2))
    else:
        show(results, goals)
    return 0 if all(each["met"] for each in goals) else 1


if __name__ == "__main__":
    raise SystemExit(main())
