"""
One attachment is written: when do the agents of the two nodes concerned have it, of a thousand that watch?

    few    as many attachments, but only the watches of two nodes
    many   the same two, beside the watches of the other nodes of a thousand, each by its node's label as an agent's

In each step an attachment of the two nodes is replaced by a decision that moves its address between them, through the
controller's own way of writing and with its ServiceAccount; what is seen is what an agent is handed. The two are a
process of their own. The others are real watches too, in another process, but none of these moves concerns them: the
API server looks at every one of them at each move, and they read nothing. So the figure is the server's, not that of a
thousand agents in one program of Python. The processor is the API server's.

Rounds of both alternate. Each compares its own two, which met the same other work of the machine, and the median of the
rounds' ratios counts.

The others begin all at once, as after an outage: how long until each has what concerns it, and how many requests were
turned away, by the shipped FlowSchema or else.

`nox -s bench`, or `python benchmarks/apiserver_fanout.py --json`; the exit status is 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from ipaddress import ip_network
from statistics import median
from typing import Any

import attrs
from setting.apiserver import (
    SPACE,
    Cluster,
    Goal,
    Size,
    Watcher,
    access,
    cpu_seconds,
    of_ours,
    opened,
    options,
    peak_mb,
    run,
    show,
    side_by_side,
    spread,
)

from persistip.backends.apiserver import ApiServerCluster
from persistip.model.actions import CreateAttachment, Outcome, ReplaceAttachment
from persistip.model.attachment import (
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Holder,
    How,
    Reference,
    Release,
)
from persistip.model.keys import ObjectMeta, attachment_name
from persistip.runtime.clock import SystemClock

RATIO = 1.5
"""What bare watches of the same number cost beside two, on the same API server."""
WATCHED = 2
"""Nodes with the numbers below are those that moves concern."""
TURNED_AWAY = 429


def attachment(number: int, nodes: int) -> AddressAttachment:
    """Attachment *number* on one of a pair of nodes, and about to be let go on the other: two labels each."""
    holder, other = f"node-{number % nodes}", f"node-{(number % nodes) ^ 1}"
    prefix = ip_network(SPACE[number + 1])
    reference = Reference(namespace="tenant", name=f"route-{number}", uid=f"route-uid-{number}")
    spec = AttachmentSpec(
        route=reference,
        addresses=(AttachedAddress(prefix=prefix, gateway=Reference(namespace="infra", name="pool", uid="pool-uid")),),
        holder=Holder(
            pod_name=f"pod-{number}",
            pod_uid=f"pod-uid-{number}",
            pod_ips=(SPACE[-2 - number],),
            node_name=holder,
            node_uid=f"uid-{holder}",
        ),
        releasing=(
            Release(
                prefixes=(prefix,),
                pod_name=f"pod-{number}-before",
                pod_uid=f"pod-uid-{number}-before",
                node_name=other,
                node_uid=f"uid-{other}",
                how=How.NOW,
                epoch=1,
                since_at=1.8e9,
            ),
        ),
        epoch=1,
    )
    meta = ObjectMeta(name=attachment_name("tenant", f"route-{number}"), labels=spec.node_labels())
    return AddressAttachment(meta=meta, spec=spec)


def moved(before: AddressAttachment) -> AddressAttachment:
    """To the other node of the pair."""
    (release,) = before.spec.releasing
    holder = before.spec.holder
    assert holder is not None
    epoch = max(before.spec.epoch + 1, time.time_ns() // 1_000_000)
    spec = attrs.evolve(
        before.spec,
        holder=attrs.evolve(holder, node_name=release.node_name, node_uid=release.node_uid),
        releasing=(attrs.evolve(release, node_name=holder.node_name, node_uid=holder.node_uid, epoch=epoch),),
        epoch=epoch,
    )
    return attrs.evolve(before, spec=spec)


class Writing:
    """The controller's side: attachments, and the moves among those of the first two nodes or of all."""

    def __init__(self, cluster: Cluster, writer: ApiServerCluster, nodes: int) -> None:
        self._cluster, self._writer, self._nodes = cluster, writer, nodes
        self.standing: dict[int, AddressAttachment] = {}

    async def create(self, number: int) -> None:
        """One of those that are there before anything is measured."""
        (outcome,) = await self._writer.apply([CreateAttachment(attachment(number, self._nodes))])
        self._note(number, outcome)

    def _note(self, number: int, outcome: Outcome) -> None:
        assert isinstance(outcome.written, AddressAttachment), outcome
        self.standing[number] = outcome.written

    async def moves(self, watcher: Watcher, count: int, *, per_second: float) -> dict[str, Any]:
        """Move *count* of the watched nodes' attachments, at a steady pace; what was seen, and when."""
        sent: dict[tuple[str, int], int] = {}
        seen: dict[tuple[str, int], list[int]] = {}
        puts: list[float] = []
        used, began = cpu_seconds(self._cluster.server_pid), time.monotonic()

        async def listen() -> None:
            while sum(len(each) for each in seen.values()) < 2 * count:
                found = await watcher.said()
                key = (found.get("name", ""), found.get("epoch", 0))
                if key in sent:
                    seen.setdefault(key, []).append(found["at"])

        listening = asyncio.create_task(listen())
        numbers = [number for number in self.standing if number % self._nodes < WATCHED]
        for turn in range(count):
            number = numbers[turn % len(numbers)]
            wanted = moved(self.standing[number])
            key = (wanted.meta.name, wanted.spec.epoch)
            sent[key] = at = time.monotonic_ns()
            (outcome,) = await self._writer.apply([ReplaceAttachment(wanted)])
            puts.append((time.monotonic_ns() - at) / 1e6)
            self._note(number, outcome)
            await asyncio.sleep(max(0.0, began + (turn + 1) / per_second - time.monotonic()))
        await listening
        seconds = time.monotonic() - began
        delays = [(at - sent[key]) / 1e6 for key, instants in seen.items() for at in instants]
        return {
            "written, ms": spread(puts),
            "seen, ms": spread(delays),
            "API server, share of one processor": round((cpu_seconds(self._cluster.server_pid) - used) / seconds, 3),
        }


def plan(cluster: Cluster, nodes: range, token: str) -> dict[str, Any]:
    """Watches of these nodes, all begun at once; one token does for all, since only what it may read counts here."""
    return {
        "server": cluster.plane.servers[0].url,
        "authority": str(cluster.plane.folder / "ca.crt"),
        "nodes": {f"node-{number}": {"token": token} for number in nodes},
        "at_once": max(len(nodes), 1),
    }


async def ready(watcher: Watcher, nodes: int) -> float:
    """Until every node has been handed what concerns it; how many seconds that took."""
    began, synced = time.monotonic(), set()
    while len(synced) < nodes:
        found = await watcher.said(seconds=120)
        if "synced" in found:
            synced.add(found["synced"])
    return time.monotonic() - began


async def measure(given: argparse.Namespace) -> int:
    """All of it; the exit status."""
    async with opened(Size(1, 1)) as cluster:
        account = cluster.token("persistip-controller")
        load = access(cluster.plane.servers[0].url, cluster.plane.folder / "ca.crt", account)
        async with ApiServerCluster(load, SystemClock(), instance="benchmark") as writer:
            writing = Writing(cluster, writer, given.agents)
            began = time.monotonic()
            await side_by_side((writing.create(number) for number in range(given.attachments)), at_once=8)
            made_in = time.monotonic() - began
            token = cluster.token("persistip-agent", "node-0")
            found: dict[str, list[dict[str, Any]]] = {"few": [], "many": []}
            coming: dict[str, Any] = {}
            async with Watcher(plan(cluster, range(WATCHED), token)) as watcher:
                await ready(watcher, WATCHED)
                for _ in range(given.rounds):
                    found["few"].append(await writing.moves(watcher, given.moves, per_second=given.rate))
                    others = range(WATCHED, given.agents)
                    with cluster.plane.audited() as log:
                        async with Watcher(plan(cluster, others, token)) as rest:
                            seconds = await ready(rest, len(others))
                            await asyncio.sleep(2.0)
                            coming = {"seconds": round(seconds, 1), **answers(of_ours(log))}
                            found["many"].append(await writing.moves(watcher, given.moves, per_second=given.rate))
            return judged(cluster, given, found, made_in, coming)


def answers(events: list[Mapping[str, Any]]) -> dict[str, int]:
    """How many requests were asked, and how many of them turned away."""
    codes = [event["responseStatus"]["code"] for event in events]
    return {
        "requests": len(codes),
        "turned away": codes.count(TURNED_AWAY),
        "failed": sum(code >= 400 for code in codes),
    }


def judged(
    cluster: Cluster,
    given: argparse.Namespace,
    found: dict[str, list[dict[str, Any]]],
    made_in: float,
    coming: dict[str, Any],
) -> int:
    """Print it; the exit status."""
    rounds = list(zip(found["few"], found["many"], strict=True))
    ratios = [many["seen, ms"]["p50"] / few["seen, ms"]["p50"] for few, many in rounds]
    figures = {
        "attachments": f"{given.attachments:,}, made in {made_in:.0f} s by 8 writers",
        "moves": f"{given.moves} in each of {given.rounds} rounds, {given.rate:g} a second",
        **{
            f"round {number}, watches: {watches:,}; {name}": value
            for number, pair in enumerate(rounds, 1)
            for watches, measured in zip((WATCHED, given.agents), pair, strict=True)
            for name, value in measured.items()
        },
        "seen with all watches to seen with two, p50, of each round": [round(each, 2) for each in ratios],
        f"{given.agents - WATCHED:,} agents at once, until all have their list": coming,
        "API server's peak memory, MB": round(peak_mb(cluster.server_pid)),
    }
    goals = (Goal("seen with all watches to seen with two, p50, median of the rounds", median(ratios), at_most=RATIO),)
    return show("One attachment written, seen by the two agents concerned", figures, goals, as_json=given.json)


def main() -> int:
    """Measure; 1 when a goal is missed."""
    parser = options(__doc__, seconds=900)
    parser.add_argument("--attachments", type=int, default=10_000)
    parser.add_argument("--agents", type=int, default=1_000, help="nodes, of which each watches; an even number")
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--rate", type=float, default=10.0, help="moves a second")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    return run(measure(given), given)


if __name__ == "__main__":
    sys.exit(main())
