"""
How soon an agent acts on news, in virtual time, and what it believes of its own writes.

A Pod's link is asked for in one look and found in the next; what an answer says stands may stand no longer.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network

import attrs
import pytest

from persistip.agent import Agent
from persistip.backends.memory import MemoryAnnouncer, MemoryCluster, MemoryDatapath, MemoryFabric, MemoryStore
from persistip.model.actions import ClusterAction, Outcome, OutcomeState, ReportNode
from persistip.model.attachment import AddressAttachment, AttachedAddress, AttachmentSpec, Holder, NodeReport, Reference
from persistip.model.entry import NodeScope, NodeState
from persistip.model.keys import Kind, ObjectMeta
from persistip.runtime.clock import SystemClock
from persistip.settings import AgentSettings
from persistip.strategies import Batch
from persistip.wire.encode import from_model

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

ADDRESS = ip_network("192.0.2.130/32")
POD_IP = ip_address("10.244.1.2")


def attachment() -> AddressAttachment:
    spec = AttachmentSpec(
        route=Reference(namespace="shop", name="web", uid="r1"),
        addresses=(AttachedAddress(prefix=ADDRESS, gateway=Reference(namespace="shop", name="gw", uid="g1")),),
        holder=Holder(pod_name="web-0", pod_uid="p1", pod_ips=(POD_IP,), node_name="node-a", node_uid="n1"),
        epoch=1,
    )
    return AddressAttachment(meta=ObjectMeta(name="r-web", labels=spec.node_labels()), spec=spec)


class CountedLooks(MemoryDatapath):
    """A datapath that knows how often its kernel was looked at."""

    looks = 0

    async def observe(self, scope: NodeScope) -> NodeState:
        self.looks += 1
        return await super().observe(scope)


async def test_what_no_decision_rests_on_asks_for_no_look() -> None:
    """A new version of an attachment that asks for nothing else is taken in without a look; a new epoch is not."""
    fabric, store = MemoryFabric(), MemoryStore(SystemClock())
    fabric.add_node("node-a", ip_address("192.0.2.11"))
    fabric.add_pod("node-a", "web-0", [POD_IP])
    datapath = CountedLooks(fabric, "node-a")
    cluster, announcer = MemoryCluster(store, node_name="node-a"), MemoryAnnouncer(fabric, "node-a")
    async with Agent("node-a", cluster, datapath, announcer, settings=AgentSettings(resync_seconds=3600)) as agent:
        await agent.synced.wait()
        created = await store.create(from_model(attachment()))
        await asyncio.sleep(10)
        assert fabric.answering(ADDRESS.network_address) == ("node-a",)
        before, name = datapath.looks, created["metadata"]["name"]
        patched = await store.patch("AddressAttachment", "", name, {"status": {"note": "seen"}}, subresource="status")
        await asyncio.sleep(1)
        assert patched["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]
        assert datapath.looks == before
        await store.patch("AddressAttachment", "", name, {"spec": {"epoch": 2}})
        await asyncio.sleep(1)
        assert datapath.looks > before
        assert (await store.get("AddressAttachment", "", name))["status"]["nodes"][0]["epoch"] == 2


async def test_pod_that_answers_late_is_programmed_without_waiting_for_a_quiet_kernel() -> None:
    """A Pod that answers a millisecond after it was asked for is programmed then, however long the kernel must rest."""
    fabric, store = MemoryFabric(), MemoryStore(SystemClock())
    fabric.add_node("node-a", ip_address("192.0.2.11"))
    fabric.add_pod("node-a", "web-0", [POD_IP])
    fabric.mute("web-0")
    agent = Agent(
        "node-a",
        MemoryCluster(store, node_name="node-a"),
        MemoryDatapath(fabric, "node-a"),
        MemoryAnnouncer(fabric, "node-a"),
        settings=AgentSettings(kernel_quiet_seconds=0.5),
    )
    async with agent:
        await agent.synced.wait()
        # Whatever the agent did at its start lies behind it.
        await asyncio.sleep(10)
        await store.create(from_model(attachment()))
        await asyncio.sleep(0.001)
        fabric.mute("web-0", is_mute=False)
        await asyncio.sleep(0.008)
        assert fabric.answering(ADDRESS.network_address) == ("node-a",)


class Undone(MemoryCluster):
    """A cluster in which the first report is undone before it is answered, and the watch tells of both at once."""

    is_undone = False

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        outcomes = await super().apply(actions)
        if not self.is_undone:
            self.is_undone = True
            await self._store.patch("AddressAttachment", "", "r-web", {"status": {"nodes": []}}, subresource="status")
            await asyncio.sleep(1)
        return outcomes


async def test_report_that_another_undid_before_its_answer_is_made_again() -> None:
    """What stands is what the watch says of a later write, not what the answer to our own says of an earlier one."""
    fabric, store = MemoryFabric(), MemoryStore(SystemClock())
    fabric.add_node("node-a", ip_address("192.0.2.11"))
    fabric.add_pod("node-a", "web-0", [POD_IP])
    await store.create(from_model(attachment()))
    cluster, announcer = Undone(store, node_name="node-a"), MemoryAnnouncer(fabric, "node-a")
    settings = AgentSettings(resync_seconds=3600)
    async with Agent("node-a", cluster, MemoryDatapath(fabric, "node-a"), announcer, settings=settings):
        await asyncio.sleep(30)
        assert cluster.is_undone
        (entry,) = (await store.get("AddressAttachment", "", "r-web"))["status"]["nodes"]
        assert (entry["state"], entry["epoch"]) == ("Programmed", 1)


class Told:
    """A cluster whose watch tells what the test lets it tell, and which answers a report with *standing*."""

    def __init__(self, standing: AddressAttachment) -> None:
        self.standing = standing
        self.batches: asyncio.Queue[Batch] = asyncio.Queue()
        self.reports: list[NodeReport] = []

    async def changes(self) -> AsyncIterator[Batch]:
        while True:
            yield await self.batches.get()

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        self.reports += [action.report for action in actions if isinstance(action, ReportNode)]
        nodes = (*self.standing.nodes, self.reports[-1])
        written = attrs.evolve(self.standing, nodes=nodes)
        return [Outcome(state=OutcomeState.DONE, written=written) for _ in actions]


async def test_answer_that_outruns_the_watch_is_believed() -> None:
    """A view never predates our own report: what the watch tells late, of a write before it, asks for no second one."""
    fabric = MemoryFabric()
    fabric.add_node("node-a", ip_address("192.0.2.11"))
    fabric.add_pod("node-a", "web-0", [POD_IP])
    first, second, third = (
        attrs.evolve(attachment(), meta=attrs.evolve(attachment().meta, uid="u", resource_version=version))
        for version in ("1", "2", "3")
    )
    second = attrs.evolve(second, nodes=(NodeReport(node_name="node-b", epoch=1),))
    cluster = Told(attrs.evolve(third, nodes=second.nodes))
    datapath, announcer = MemoryDatapath(fabric, "node-a"), MemoryAnnouncer(fabric, "node-a")
    settings = AgentSettings(resync_seconds=3600)
    async with Agent("node-a", cluster, datapath, announcer, settings=settings):
        resynced = frozenset({str(Kind.ATTACHMENT)})
        cluster.batches.put_nowait(Batch(objects={first.key: first}, resynced=resynced, synced=True))
        await asyncio.sleep(10)
        assert [each.state for each in cluster.reports] == ["Programmed"]
        cluster.batches.put_nowait(Batch(objects={first.key: second}, synced=True))
        await asyncio.sleep(10)
        assert len(cluster.reports) == 1
