"""
What do agents see, and when?

In, as one line of JSON: where the API server is, for each node the token of its agent's Pod, and how many of them start
at a time; with Pods given the node has a whole agent, on a node of the memory fabric, else only the watch of one. Out:
a line for each attachment that arrives and each change of the Pod named as floor, with the instant of the machine's
monotonic clock, which all processes share. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from setting.apiserver import access, side_by_side

from persistip.agent import Agent
from persistip.backends.announce import SilentAnnouncer
from persistip.backends.apiserver import ApiServerCluster
from persistip.backends.apiserver.client import Client
from persistip.backends.memory import MemoryDatapath, MemoryFabric
from persistip.model.actions import ClusterAction, Outcome
from persistip.model.attachment import AddressAttachment
from persistip.runtime.clock import SystemClock
from persistip.strategies import Batch


def say(**what: Any) -> None:
    """One line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Seen:
    """A node's cluster that tells of each attachment as the agent is handed it."""

    def __init__(self, inner: ApiServerCluster, node: str) -> None:
        self._inner, self._node = inner, node
        self.synced = asyncio.Event()

    async def changes(self) -> AsyncIterator[Batch]:
        """Its batches."""
        is_first = True
        async with aclosing(self._inner.changes()) as batches:  # type: ignore[type-var]
            async for batch in batches:
                at = time.monotonic_ns()
                yield batch
                if is_first and batch.synced:
                    say(synced=self._node, at=at)
                    self.synced.set()
                    is_first = False
                for found in batch.objects.values():
                    if isinstance(found, AddressAttachment):
                        self._tell(found, at)

    def _tell(self, found: AddressAttachment, at: int) -> None:
        holder = found.spec.holder
        say(
            at=at,
            node=self._node,
            name=found.meta.name,
            epoch=found.spec.epoch,
            holder=holder.node_name if holder is not None else "",
            releasing=len(found.spec.releasing),
            reported=[[each.node_name, each.epoch, str(each.state)] for each in found.nodes],
        )

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        """Its own."""
        return await self._inner.apply(actions)


class Watching:
    """All nodes of the plan."""

    def __init__(self, plan: Mapping[str, Any], stack: AsyncExitStack, tasks: set[asyncio.Task[None]]) -> None:
        self._server, self._authority = plan["server"], Path(plan["authority"])
        self._stack, self._tasks, self._fabric = stack, tasks, MemoryFabric()

    async def start(self, name: str, facts: Mapping[str, Any]) -> None:
        """One node; returns once it has been handed everything that concerns it."""
        load = access(self._server, self._authority, facts["token"])
        inner = ApiServerCluster(load, SystemClock(), node_name=name, instance=name)
        cluster = Seen(await self._stack.enter_async_context(inner), name)
        if "pods" not in facts:
            self._tasks.add(asyncio.create_task(self._only_watch(cluster)))
            await cluster.synced.wait()
            return
        self._fabric.add_node(name, ip_address(facts["ip"]))
        for pod, ips in facts["pods"].items():
            self._fabric.add_pod(name, pod, tuple(IPv4Address(ip) for ip in ips))
        agent = Agent(name, cluster, MemoryDatapath(self._fabric, name), SilentAnnouncer())
        self._tasks.add(asyncio.create_task(agent.run()))

    async def _only_watch(self, cluster: Seen) -> None:
        async for _ in cluster.changes():
            pass

    async def watch_floor(self, pod: str, token: str) -> None:
        """The bare minimum of a watch: no decoding but of what tells one change from the next."""
        namespace, _, name = pod.partition("/")
        load = access(self._server, self._authority, token)
        client = await self._stack.enter_async_context(Client(load, user_agent="floor"))
        parameters = {"watch": "true", "fieldSelector": f"metadata.name={name}"}
        path = f"/api/v1/namespaces/{namespace}/pods"
        async with aclosing(client.lines(path, parameters=parameters, silence_seconds=600.0)) as batches:
            async for lines in batches:
                at = time.monotonic_ns()
                for line in filter(None, lines):
                    conditions = json.loads(line)["object"]["status"].get("conditions", ())
                    say(
                        at=at,
                        floor=next((each.get("message", "") for each in conditions if each["type"] == "Ready"), ""),
                    )


async def main() -> None:
    """Watch until standard input ends."""
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    plan = json.loads(await reader.readline())
    async with AsyncExitStack() as stack:
        tasks: set[asyncio.Task[None]] = set()
        watching = Watching(plan, stack, tasks)
        if "floor" in plan:
            tasks.add(asyncio.create_task(watching.watch_floor(plan["floor"], plan["floor_token"])))
        starting = (watching.start(name, facts) for name, facts in plan["nodes"].items())
        await side_by_side(starting, at_once=plan.get("at_once", 32))
        ending = asyncio.create_task(reader.read())
        done, _ = await asyncio.wait({ending, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for task in done - {ending}:
            task.result()


if __name__ == "__main__":
    asyncio.run(main())
