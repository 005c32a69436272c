"""How soon an agent acts on news, in virtual time: a Pod's link is asked for in one look and found in the next."""

import asyncio
from ipaddress import ip_address, ip_network

import pytest

from persistip.agent import Agent
from persistip.backends.memory import MemoryAnnouncer, MemoryCluster, MemoryDatapath, MemoryFabric, MemoryStore
from persistip.model.attachment import AddressAttachment, AttachedAddress, AttachmentSpec, Holder, Reference
from persistip.model.entry import NodeScope, NodeState
from persistip.model.keys import ObjectMeta
from persistip.runtime.clock import SystemClock
from persistip.settings import AgentSettings
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
