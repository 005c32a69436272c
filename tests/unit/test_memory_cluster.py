"""What does the memory cluster do where the contract of Cluster does not look?"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from persistip.backends.memory import ExpiredError, MemoryCluster, MemoryStore, RemoteStore, StoreServer, WatchEvent
from persistip.errors import UnavailableError
from persistip.model.actions import DeleteAttachment, OutcomeState, RecordEvent, ReplaceAttachment, ReportNode
from persistip.model.attachment import AddressAttachment, NodeReport
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import Cluster
from persistip.testing import ManualClock, attachment, namespace, pod, route, seed
from persistip.wire import from_model, to_model

BROKEN = {**from_model(pod("broken")), "status": {"podIPs": [{"ip": "ten"}]}}


async def read_on(events: AsyncIterator[WatchEvent]) -> None:
    """Read until there is no more."""
    async for _ in events:
        pass


@pytest.fixture
def store() -> MemoryStore:
    """Return an empty store."""
    return MemoryStore(ManualClock())


def test_memory_cluster_is_a_cluster(store: MemoryStore) -> None:
    """It has the methods of the interface."""
    assert isinstance(MemoryCluster(store), Cluster)


async def test_unreadable_object_hides_no_other(store: MemoryStore) -> None:
    """An object that cannot be decoded is named with the reason, and its neighbours arrive."""
    await seed(store, BROKEN, pod("whole"))
    batches = MemoryCluster(store).changes()
    found = {}
    while not (batch := await anext(batches)).synced:
        found |= {**batch.objects, **batch.unreadable}
    assert found[ObjectKey(Kind.POD, "tenant", "broken")] == "status.podIPs[0].ip: 'ten' is not an IP address"
    assert found[pod("whole").key] is not None
    await store.patch("Pod", "tenant", "broken", {"status": {"podIPs": None}}, subresource="status")
    mended = await anext(batches)
    assert ObjectKey(Kind.POD, "tenant", "broken") in mended.objects
    assert mended.unreadable == {}
    await batches.aclose()  # type: ignore[attr-defined]


async def test_changes_made_meanwhile_come_as_one_batch(store: MemoryStore) -> None:
    """A reader that was busy gets the latest state once, not every step towards it."""
    await seed(store, namespace("n"))
    batches = MemoryCluster(store).changes()
    while not (await anext(batches)).synced:
        pass
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0.01)
    await store.patch("Namespace", "", "n", {"metadata": {"labels": {"a": "0"}}})
    await waiting
    for index in range(1, 5):
        await store.patch("Namespace", "", "n", {"metadata": {"labels": {"a": str(index)}}})
    await seed(store, namespace("m"))
    await asyncio.sleep(0.01)
    batch = await anext(batches)
    assert len(batch.objects) == 2
    assert dict(batch.objects[namespace("n").key].meta.labels) == {**namespace("n").meta.labels, "a": "4"}  # type: ignore[union-attr]
    await batches.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("missing", [{"uid": ""}, {"resource_version": ""}])
async def test_replacement_without_precondition_is_refused(store: MemoryStore, missing: dict[str, str]) -> None:
    """No write goes out that would win over one it does not know."""
    await seed(store, attachment())
    (outcome,) = await MemoryCluster(store).apply([ReplaceAttachment(attachment(**missing))])
    assert outcome.state is OutcomeState.BLOCKED


def reported(node_name: str, uid: str, epoch: int = 1) -> ReportNode:
    """What that node's agent says of the attachment."""
    report = NodeReport(node_name=node_name, epoch=epoch, state="Idle", at=1.0)
    return ReportNode(name=attachment().meta.name, uid=uid, report=report)


async def agents_report(store: MemoryStore, *nodes: str) -> AddressAttachment:
    """The attachment once the agents of *nodes* have written their entries, each as its own field manager."""
    (stands,) = await seed(store, attachment())
    for name in nodes:
        await MemoryCluster(store, node_name=name).apply([reported(name, stands["metadata"]["uid"])])
    found = to_model(await store.get("AddressAttachment", "", attachment().meta.name))
    assert isinstance(found, AddressAttachment)
    return found


async def test_forgotten_nodes_entries_go_and_can_be_written_anew(store: MemoryStore) -> None:
    """Entries are taken away whoever wrote them; the other nodes' agents go on owning theirs."""
    stands = await agents_report(store, "node-a", "node-b")
    (outcome,) = await MemoryCluster(store).apply([ReplaceAttachment(stands, forgotten=("node-a", "node-x"))])
    assert [report.node_name for report in outcome.written.nodes] == ["node-b"]  # type: ignore[union-attr, attr-defined]
    for name in ("node-a", "node-b"):
        (outcome,) = await MemoryCluster(store, node_name=name).apply([reported(name, stands.meta.uid, epoch=2)])
        assert outcome.is_done
    epochs = {report.node_name: report.epoch for report in outcome.written.nodes}  # type: ignore[union-attr, attr-defined]
    assert epochs == {"node-a": 2, "node-b": 2}


async def test_forgetting_waits_when_an_agent_comes_between(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replacement stands, and what an agent has just said is not taken away unseen."""
    stands = await agents_report(store, "node-a")
    update = store.update

    async def overtaken(body: Mapping[str, Any], *, subresource: str = "", manager: str = "") -> dict[str, Any]:
        written = await update(body, subresource=subresource, manager=manager)
        if not subresource:
            await MemoryCluster(store, node_name="node-b").apply([reported("node-b", stands.meta.uid)])
        return written

    monkeypatch.setattr(store, "update", overtaken)
    labelled = attrs.evolve(stands, meta=attrs.evolve(stands.meta, labels={"mine": "yes"}))
    (outcome,) = await MemoryCluster(store).apply([ReplaceAttachment(labelled, forgotten=("node-a",))])
    assert outcome.is_done
    found = to_model(await store.get("AddressAttachment", "", stands.meta.name))
    assert isinstance(found, AddressAttachment)
    assert found.meta.labels["mine"] == "yes"
    assert {report.node_name for report in found.nodes} == {"node-a", "node-b"}


async def test_replacement_keeps_what_only_a_newer_version_knows(store: MemoryStore) -> None:
    """A PUT puts the whole spec: a field that this version does not read stays in it."""
    (stands,) = await seed(store, attachment())
    stands["spec"] |= {"fresh": {"b": [1], "a": None}, "epoch": stands["spec"]["epoch"] + 1}
    found = to_model(await store.update(stands))
    assert isinstance(found, AddressAttachment)
    assert (await MemoryCluster(store).apply([ReplaceAttachment(found)]))[0].is_done
    assert (await store.get("AddressAttachment", "", found.meta.name))["spec"]["fresh"] == {"b": [1], "a": None}


async def test_deletion_without_precondition_is_refused(store: MemoryStore) -> None:
    """An attachment is deleted by UID and version or not at all."""
    (stands,) = await seed(store, attachment())
    name = stands["metadata"]["name"]
    (outcome,) = await MemoryCluster(store).apply([DeleteAttachment(name=name, uid="", resource_version="")])
    assert outcome.state is OutcomeState.BLOCKED
    assert await store.get("AddressAttachment", "", name) == stands


async def test_event_is_recorded_about_its_object(store: MemoryStore) -> None:
    """The Event stands in the object's namespace, names it with its UID and carries both words."""
    action = RecordEvent(regarding=route().key, uid="u", reason="Moved", action="Move", message="why", warning=True)
    await MemoryCluster(store).apply([action])
    (event,) = (await store.list("Event", namespace="tenant")).items
    assert event["regarding"] == {
        "apiVersion": "networking.gke.io/v1",
        "kind": "GKEIPRoute",
        "namespace": "tenant",
        "name": "nat-0",
        "uid": "u",
    }
    assert (event["reason"], event["action"], event["note"], event["type"]) == ("Moved", "Move", "why", "Warning")


async def test_store_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    """Changes raise it, an action has it as its outcome, and a server that appears is used without a new client."""
    path = tmp_path / "store.sock"
    async with RemoteStore(path) as remote:
        cluster = MemoryCluster(remote)
        with pytest.raises(UnavailableError):
            await anext(cluster.changes())
        action = RecordEvent(regarding=route().key, uid="u", reason="Moved", action="Move", message="why")
        (outcome,) = await cluster.apply([action])
        assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, "Unavailable")
        async with StoreServer(MemoryStore(ManualClock()), path):
            assert (await cluster.apply([action]))[0].is_done


async def test_server_that_goes_ends_changes_as_unavailable(store: MemoryStore, tmp_path: Path) -> None:
    """A watch through a socket that breaks is no silence: the reader is told, and begins anew when it is back."""
    path = tmp_path / "store.sock"
    async with RemoteStore(path) as remote:
        cluster = MemoryCluster(remote)
        async with StoreServer(store, path):
            batches = cluster.changes()
            while not (await anext(batches)).synced:
                pass
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.01)
        with pytest.raises(UnavailableError):
            await waiting
        async with StoreServer(store, path):
            assert (await anext(cluster.changes())).resynced


async def test_socket_is_its_owners_alone(store: MemoryStore, tmp_path: Path) -> None:
    """Who may open the socket may do everything, so nobody else may."""
    path = tmp_path / "store.sock"
    async with StoreServer(store, path):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_fault_of_ours_while_following_one_kind_is_raised_and_no_silence(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the changes learns that one kind is no longer followed, whatever ended that."""
    batches = MemoryCluster(store).changes()
    while not (await anext(batches)).synced:
        pass
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0.01)

    def break_down(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("persistip.backends.memory.cluster.to_model", break_down)
    await seed(store, namespace("n"))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(waiting, 5)


async def test_client_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Its watch expires when it has fallen behind; another client's calls and watches go on meanwhile."""
    store = MemoryStore(ManualClock(), history_limit=50)
    path = tmp_path / "store.sock"
    (created,) = await seed(store, namespace("n"))
    since = created["metadata"]["resourceVersion"]
    async with StoreServer(store, path), RemoteStore(path) as quick, RemoteStore(path) as slow:
        lazy = slow.watch("Namespace", resource_version=since)
        busy = quick.watch("Namespace", resource_version=since)
        waiting = asyncio.ensure_future(anext(lazy))
        await asyncio.sleep(0.01)
        # Its process is stopped: nothing is read from the socket any more.
        transport = slow._connection._writer.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[attr-defined]
        for index in range(300):
            label = f"{index}" * 3000
            await quick.patch("Namespace", "", "n", {"metadata": {"annotations": {"a": label}}})
            assert (await anext(busy)).object["metadata"]["annotations"] == {"a": label}
        transport.resume_reading()  # type: ignore[attr-defined]
        await waiting
        with pytest.raises(ExpiredError):
            await read_on(lazy)
        await busy.aclose()  # type: ignore[attr-defined]


async def test_frame_that_is_no_call_ends_that_connection_alone(store: MemoryStore, tmp_path: Path) -> None:
    """Noise on the socket is hung up on, and the server serves on."""
    path = tmp_path / "store.sock"
    async with StoreServer(store, path), RemoteStore(path) as remote:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\x00\x00\x00\x02{]")
        assert await reader.read() == b""
        writer.close()
        assert (await remote.list("Pod")).items == ()


async def test_call_given_up_leaves_the_connection_usable(store: MemoryStore, tmp_path: Path) -> None:
    """A caller that stops waiting disturbs no later call."""
    path = tmp_path / "store.sock"
    async with StoreServer(store, path), RemoteStore(path) as remote:
        calling = asyncio.ensure_future(remote.create(from_model(namespace("given-up")) | {"metadata": {"name": "x"}}))
        await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert (await remote.list("Pod")).items == ()
