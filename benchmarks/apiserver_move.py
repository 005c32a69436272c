"""
A Pod turns unready: when does the agent of the new holder's node have the attachment?

    floor   a Pod's status is patched ─> another process's bare watch has it; twice, since a move is two such hops
    move    a Pod's status is patched ─> controller ─> attachment written ─> the new node's agent has it

Both in one run, in turns, on a real API server with etcd: `persistip run controller` is a process of its own with the
shipped ServiceAccount, the agents of the two nodes are another's, each with the token of its own Pod, on nodes of the
memory fabric; all that is between them is as in a cluster. Writes are counted in the server's audit log, refused ones
too: those up to the one that traffic waits for, and all of a move, reports and Events included.

`nox -s bench`, or `python benchmarks/apiserver_move.py --json` as root; the exit status is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from statistics import mean, median
from typing import Any

import attrs
from setting.apiserver import (
    PODS_A_NODE,
    STRATEGIC,
    WRITES,
    Cluster,
    Goal,
    Size,
    Watcher,
    condition,
    counted,
    cpu_seconds,
    of_ours,
    opened,
    options,
    peak_mb,
    quiet,
    run,
    show,
    spread,
    until,
)

from persistip.model.attachment import NodeStateName
from persistip.model.keys import attachment_name

RATIO, P99_MS, WRITES_BEFORE, WRITES_IN_ALL = 2.0, 60.0, 1, 8
NODES = ("node-0", "node-1")
DECISION = "addressattachments"
SETTLE_SECONDS = 30.0


@attrs.define
class Move:
    """One: when it began and when the new holder's agent knew, by the clocks of the machine."""

    began_at: float
    ms: float
    seen_at: float


@attrs.define
class Moving:
    """The routes whose two Pods are on the two nodes with agents."""

    cluster: Cluster
    watcher: Watcher
    holders: dict[int, int] = attrs.field(factory=dict)
    """For each route the place of the Pod that holds."""
    names: dict[str, int] = attrs.field(factory=dict)

    async def patch_ready(self, number: int, *, ready: bool, message: str = "") -> None:
        """Say of a Pod whether it is ready, as its kubelet would."""
        size = self.cluster.size
        namespace = size.namespace_of(number // (size.pods // size.routes))
        path = f"/api/v1/namespaces/{namespace}/pods/{size.pod_name(number)}/status"
        said = [condition("Ready", status=ready, message=message)]
        await self.cluster.ask("PATCH", path, {"status": {"conditions": said}}, STRATEGIC)

    def pod(self, route: int, place: int) -> int:
        """The number of a route's Pod."""
        return route * (self.cluster.size.pods // self.cluster.size.routes) + place

    async def settled_at_first(self) -> None:
        """Until every route of the two nodes is held by one that reports so."""
        waiting = set(self.names)
        while waiting:
            found = await self.watcher.said(seconds=SETTLE_SECONDS)
            if is_settled(found) and found["name"] in waiting:
                route = self.names[found["name"]]
                node = f"node-{self.cluster.size.node_of(self.pod(route, 0))}"
                self.holders[route] = 0 if found["holder"] == node else 1
                waiting.discard(found["name"])

    async def move(self, route: int, *, pause_seconds: float) -> Move:
        """Make the holder unready; what is returned has settled."""
        old = self.holders[route]
        name = attachment_name(self.cluster.size.namespace_of(route), f"route-{route}")
        new_node = f"node-{self.cluster.size.node_of(self.pod(route, 1 - old))}"
        began_at, began = time.time(), time.monotonic_ns()
        await self.patch_ready(self.pod(route, old), ready=False)
        seen = None
        while True:
            found = await self.watcher.said(seconds=SETTLE_SECONDS)
            if found.get("name") != name or found["holder"] != new_node:
                continue
            if seen is None and found["node"] == new_node:
                seen = found["at"]
            if seen is not None and is_settled(found):
                break
        self.holders[route] = 1 - old
        # Time for what nobody waits for: the status, the Event.
        await asyncio.sleep(pause_seconds)
        await self.patch_ready(self.pod(route, old), ready=True)
        return Move(began_at, (seen - began) / 1e6, began_at + (seen - began) / 1e9)

    async def hop(self, number: int) -> float:
        """One patch seen by the bare watch, in milliseconds."""
        said = f"floor {number}"
        began = time.monotonic_ns()
        await self.patch_ready(FLOOR_POD, ready=True, message=said)
        while (found := await self.watcher.said()).get("floor") != said:
            pass
        return (found["at"] - began) / 1e6


FLOOR_POD = 9
"""One of no route's."""


def is_settled(found: Mapping[str, Any]) -> bool:
    """Nothing is being released any more, and the holder's node has reported."""
    return (
        found.get("releasing") == 0
        and bool(found.get("holder"))
        and [found["holder"], found["epoch"], str(NodeStateName.PROGRAMMED)] in found["reported"]
    )


def instant(event: Mapping[str, Any], of: str) -> float:
    """When the server was asked ("requestReceived"), or had answered ("stage")."""
    return datetime.fromisoformat(event[f"{of}Timestamp"]).timestamp()


def writes_until(writes: list[Mapping[str, Any]], moves: list[Move]) -> list[int]:
    """For each move how many writes of ours had been answered when the one that traffic waits for was, with it."""
    found = []
    for move in moves:
        asked = [event for event in writes if instant(event, "requestReceived") >= move.began_at]
        decision = min(instant(event, "stage") for event in asked if event["objectRef"]["resource"] == DECISION)
        found.append(sum(instant(event, "stage") <= decision for event in asked))
    return found


def writes_before(writes: list[Mapping[str, Any]], moves: list[Move]) -> list[int]:
    """For each move how many writes of ours had reached the server when the new holder's agent knew."""
    asked = [instant(event, "requestReceived") for event in writes]
    return [sum(move.began_at <= each < move.seen_at for each in asked) for move in moves]


async def measure(given: argparse.Namespace) -> int:
    """All of it; the exit status."""
    size = Size(given.routes, given.pods)
    async with opened(size) as cluster:
        began = time.monotonic()
        await cluster.fill()
        made_in = time.monotonic() - began
        with cluster.controller() as controller:
            await until(lambda: all_attached(cluster), "every route to be decided", seconds=300, every=0.5)
            routes = [
                route
                for route in range(size.routes)
                if {f"node-{size.node_of(route * (size.pods // size.routes) + place)}" for place in (0, 1)} == {*NODES}
            ][: 2 * PODS_A_NODE]
            names = {attachment_name(size.namespace_of(route), f"route-{route}"): route for route in routes}
            async with Watcher(plan(cluster, routes)) as watcher:
                moving = Moving(cluster, watcher, names=names)
                await moving.settled_at_first()
                # What the first decisions write would stand before the moves.
                with cluster.plane.audited() as log:
                    await quiet(log)
                return await measured(moving, controller.process.pid, given, made_in)


async def measured(moving: Moving, pid: int, given: argparse.Namespace, made_in: float) -> int:
    """The moves of a cluster that has settled."""
    cluster, size, moves = moving.cluster, moving.cluster.size, given.moves
    routes = list(moving.names.values())
    hops, done = [], []
    used, server_used, began = cpu_seconds(pid), cpu_seconds(cluster.server_pid), time.monotonic()
    with cluster.plane.audited() as log:
        for number in range(moves):
            hops.append(await moving.hop(number))
            done.append(await moving.move(routes[number % len(routes)], pause_seconds=given.pause))
        # What comes late of its own accord belongs to the moves too: damping ends 10 seconds after.
        await asyncio.sleep(min(12.0, moves * 0.5))
    seconds = time.monotonic() - began
    events = of_ours(log)
    writes = [event for event in events if event["verb"] in WRITES]
    floor, move = spread(hops), spread([each.ms for each in done])
    before, until_decided = writes_before(writes, done), writes_until(writes, done)
    refused = [event for event in events if event["responseStatus"]["code"] >= 400]
    figures = {
        "cluster": f"{size.routes:,} routes, {size.pods:,} Pods, {size.nodes} Nodes, made in {made_in:.0f} s",
        "moves": moves,
        "one hop of the floor, ms": floor,
        "unready until the new agent has it, ms": move,
        "to twice the floor": {
            "p50": round(move["p50"] / (2 * floor["p50"]), 2),
            "p99": round(move["p99"] / (2 * floor["p99"]), 2),
        },
        "writes until the attachment is written": {
            "median": median(until_decided),
            "mean": round(mean(until_decided), 2),
        },
        "writes asked for when the new agent has it": {"median": median(before), "mean": round(mean(before), 2)},
        "writes of a move": round(len(writes) / moves, 2),
        "of these": {name: round(count / moves, 2) for name, count in counted(writes).items()},
        "reads and watches": counted(event for event in events if event["verb"] not in WRITES),
        "refused": counted(refused),
        "processor, share of one": {
            "controller": round((cpu_seconds(pid) - used) / seconds, 3),
            "API server": round((cpu_seconds(cluster.server_pid) - server_used) / seconds, 3),
        },
        "controller's peak memory, MB": round(peak_mb(pid)),
    }
    goals = (
        Goal("move to twice the floor, p50", move["p50"] / (2 * floor["p50"]), at_most=RATIO),
        Goal("move, p99 ms", move["p99"], at_most=P99_MS),
        Goal("writes until the attachment is written, mean", mean(until_decided), at_most=WRITES_BEFORE),
        Goal("writes of a move, mean", len(writes) / moves, at_most=WRITES_IN_ALL),
    )
    return show("A Pod turns unready: until the agent of the new node knows", figures, goals, as_json=given.json)


async def all_attached(cluster: Cluster) -> bool:
    """Whether every route has an attachment."""
    found = await cluster.get("/apis/persistip.dev/v1alpha1/addressattachments?limit=1")
    return len(found["items"]) + found["metadata"].get("remainingItemCount", 0) >= cluster.size.routes


def plan(cluster: Cluster, routes: list[int]) -> dict[str, Any]:
    """What the watching process has to know: two agents and the Pods on their nodes."""
    size = cluster.size
    each = size.pods // size.routes
    numbers = [route * each + place for route in routes for place in (0, 1)]
    nodes = {
        name: {
            "token": cluster.token("persistip-agent", name),
            "ip": f"172.16.0.{1 + number}",
            "pods": {
                size.pod_name(pod): [str(size.ip_of(pod))] for pod in numbers if f"node-{size.node_of(pod)}" == name
            },
        }
        for number, name in enumerate(NODES)
    }
    return {
        "server": cluster.plane.servers[0].url,
        "authority": str(cluster.plane.folder / "ca.crt"),
        "nodes": nodes,
        "floor": f"{size.namespace_of(0)}/{size.pod_name(FLOOR_POD)}",
        "floor_token": cluster.plane.admin,
    }


def main() -> int:
    """Measure; 1 when a goal is missed."""
    parser = options(__doc__, seconds=1200)
    parser.add_argument("--routes", type=int, default=1_000)
    parser.add_argument("--pods", type=int, default=10_000, help="so many times the routes, of which two match each")
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between a move and the next")
    given = parser.parse_args()
    return run(measure(given), given)


if __name__ == "__main__":
    sys.exit(main())
