"""
How long does a controller take from its start until everything is decided, and what does it need for it?

    first    a cluster in which nothing is decided yet: every attachment, status and Event is written
    again    the same cluster when all is written: what a restart or a new leader costs; nothing is written
    models   a process that only makes the lists of the latter through the official client's models, and decides nothing
    stop     two replicas, of which the one that leads gets SIGTERM: by the times that they write into the Lease

The controller is `persistip run controller`, started as in a Pod and with the shipped ServiceAccount; all is counted
from the start of the process. Requests are counted in the server's audit log, memory is the most that the process ever
had. "Again" ends with the first write about a route that was added last, while nobody ran, and comes last in the order
of the work queue: what stands before it is decided then.

`nox -s bench`, or `python benchmarks/apiserver_start.py --json` as root; for a machine that carries it
`--routes 10000 --pods 50000 --seconds 7200`. The exit status is 1 when a goal is missed.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from apiserver_move import all_attached
from history import history, version_of
from programs import Program
from setting.apiserver import (
    HERE,
    NAMESPACE,
    SPACE,
    WRITES,
    Cluster,
    Goal,
    Size,
    counted,
    cpu_seconds,
    of_ours,
    opened,
    options,
    peak_mb,
    quiet,
    route_body,
    run,
    show,
    until,
)

from persistip.errors import BackendError

TIME_RATIO, MEMORY_RATIO = 10.0, 5.0
LAST = "zzz-last"
CONTROLLER = (sys.executable, "-m", "persistip", "run", "controller", "--cluster=apiserver")
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


async def first(cluster: Cluster) -> dict[str, Any]:
    """Until every route has its attachment and no write has come for a while."""
    # Looking at ten thousand attachments is work for the server, too.
    size = cluster.size.routes
    seconds, every = max(600.0, 0.3 * size), max(0.2, size / 5_000)
    with cluster.plane.audited() as log, cluster.controller() as controller:
        pid = controller.process.pid
        began = time.monotonic()
        await until(lambda: all_attached(cluster), "every route to be decided", seconds=seconds, every=every)
        attached = time.monotonic() - began
        since = await quiet(log)
        peak, used = peak_mb(pid), cpu_seconds(pid)
    events = of_ours(log)
    return {
        "all attachments made, s": round(attached, 2),
        "all written, s": round(since - began, 2),
        "processor, s": round(used, 2),
        "requests": len(events),
        "writes": counted(event for event in events if event["verb"] in WRITES),
        "refused": sum(event["responseStatus"]["code"] >= 400 for event in events if event["verb"] in WRITES),
        "peak MB": round(peak),
    }


async def again(cluster: Cluster) -> dict[str, Any]:
    """Until the route that is decided last is decided; it says so itself."""
    body = route_body(cluster.size, cluster.size.routes)
    body["metadata"] |= {"name": LAST, "namespace": LAST}
    body["spec"]["addresses"] = [{"type": "IPAddress", "value": str(SPACE[-2])}]
    await cluster.add_route(body)
    path = f"/apis/networking.gke.io/v1/namespaces/{LAST}/gkeiproutes/{LAST}"

    async def is_said() -> bool:
        return "status" in await cluster.get(path)

    with cluster.plane.audited() as log:
        began = time.monotonic()
        with cluster.controller() as controller:
            pid = controller.process.pid
            await until(is_said, "the last route to be decided", seconds=300, every=0.01)
            seconds = time.monotonic() - began
            used = cpu_seconds(pid)
            await asyncio.sleep(1.0)
            peak = peak_mb(pid)
    events = of_ours(log)
    await cluster.ask("DELETE", path)
    return {
        "seconds": round(seconds, 2),
        "processor, s": round(used, 2),
        "requests": len(events),
        "of these": counted(events),
        "peak MB": round(peak),
    }


async def stop(cluster: Cluster) -> dict[str, Any]:
    """From SIGTERM to the other's lease; both wrote their times by the clock of this machine."""
    lease = f"{LEASES}/persistip-controller"
    token = cluster.token("persistip-controller")
    chosen = {"fieldSelector": "metadata.name%3Dpersistip-controller"}

    async def is_taken() -> bool:
        return (await cluster.get(lease))["spec"].get("holderIdentity", "") not in ("", before)

    with ExitStack() as stack:
        replicas = [stack.enter_context(cluster.in_pod(f"replica-{number}", token, *CONTROLLER)) for number in range(2)]
        await until(lambda: all_ready(replicas), "both to have observed everything", seconds=300, every=0.1)
        spec = (await cluster.get(lease))["spec"]
        before = spec["holderIdentity"]
        leading = next(each for each in replicas if before in each.log.read_text())
        since = version_of(cluster.plane, LEASES)
        assert leading.process is not None
        at = time.time()
        leading.process.send_signal(signal.SIGTERM)
        await until(is_taken, "the other to lead", seconds=60, every=0.01)
    leases = [each["spec"] for each in history(cluster.plane, LEASES, since, **chosen)]
    given_back, taken = [each for each in leases if each.get("holderIdentity") != before][:2]
    instants = [datetime.fromisoformat(each).timestamp() for each in (given_back["renewTime"], taken["acquireTime"])]
    return {
        "SIGTERM until the lease is given back, ms": round((instants[0] - at) * 1000),
        "until the other has taken it, ms": round((instants[1] - at) * 1000),
        "it would have lasted for, s": spec["leaseDurationSeconds"],
    }


async def all_ready(replicas: Sequence[Program]) -> bool:
    """Whether each has observed everything, by its log."""
    return all("observed everything" in each.log.read_text() for each in replicas)


async def models(cluster: Cluster) -> dict[str, Any]:
    """The lists alone."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "models.py"),
        str(cluster.plane.kubeconfig),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line.startswith(b"listed"):
        raise RuntimeError("the lists through the models failed")
    seconds = time.monotonic() - began
    found = {
        "seconds": round(seconds, 2),
        "processor, s": round(cpu_seconds(process.pid), 2),
        "objects": int(line.split()[1]),
        "peak MB": round(peak_mb(process.pid)),
    }
    process.stdin.close()
    await process.wait()
    return found


async def measure(size: Size, rounds: int, *, as_json: bool) -> int:
    """All of it; the exit status."""
    async with opened(size) as cluster:
        await cluster.fill()
        await cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"name": LAST}})
        figures: dict[str, Any] = {"cluster": f"{size.routes:,} routes, {size.pods:,} Pods, {size.nodes} Nodes"}
        figures["first"] = await first(cluster)
        ours, theirs = [], []
        for _ in range(rounds):  # in turns, so that the machine's other work meets both
            ours.append(await again(cluster))
            theirs.append(await models(cluster))
        best, other = (min(each, key=lambda found: found["seconds"]) for each in (ours, theirs))
        figures |= {"again, the best of the rounds": best, "models, the best of the rounds": other}
        figures["stop"] = await stop(cluster)
        writes = sum(count for name, count in best["of these"].items() if name.split()[0] in WRITES)
        figures["rounds, s"] = {
            "again": [each["seconds"] for each in ours],
            "models": [each["seconds"] for each in theirs],
        }
        goals = (
            Goal("time of the models to ours", other["seconds"] / best["seconds"], at_least=TIME_RATIO),
            Goal("memory of the models to ours", other["peak MB"] / best["peak MB"], at_least=MEMORY_RATIO),
            Goal("writes: of the last route its status, Event and place in the Gateway's status", writes, at_most=3),
        )
        return show("From the start of a controller until all is decided", figures, goals, as_json=as_json)


def main() -> int:
    """Measure; 1 when a goal is missed."""
    parser = options(__doc__, seconds=1800)
    parser.add_argument("--routes", type=int, default=1_000)
    parser.add_argument("--pods", type=int, default=10_000, help="so many times the routes, of which two match each")
    parser.add_argument("--rounds", type=int, default=3, help="of starts where all is written")
    given = parser.parse_args()
    return run(measure(Size(given.routes, given.pods), given.rounds, as_json=given.json), given)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BackendError as error:
        sys.exit(f"the cluster could not be made: {error}")
