"""Does the memory store answer as an API server would?"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from persistip.backends.memory import (
    AlreadyExistsError,
    ConflictError,
    ExpiredError,
    MemoryStore,
    NotFoundError,
    WatchEvent,
)
from persistip.errors import RejectedError
from persistip.testing import ManualClock

Body = dict[str, Any]


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands at the first second of 2030."""
    return ManualClock(1_893_456_000.0)


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    """Return an empty store with a short history."""
    return MemoryStore(clock, history_limit=20)


def route(name: str = "r", **metadata: Any) -> Body:
    """Return a route without meaning."""
    return {
        "apiVersion": "networking.gke.io/v1",
        "kind": "GKEIPRoute",
        "metadata": {"name": name, "namespace": "n", **metadata},
        "spec": {"network": "default"},
    }


def pod(**spec: Any) -> Body:
    """Return a Pod."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}


def attachment(epoch: int = 5, **spec: Any) -> Body:
    """Return an attachment."""
    ref = {"namespace": "n", "name": "r", "uid": "u"}
    return {
        "apiVersion": "persistip.dev/v1alpha1",
        "kind": "AddressAttachment",
        "metadata": {"name": "a"},
        "spec": {"routeRef": ref, "epoch": epoch, **spec},
    }


def with_status(obj: Body, status: Body, **metadata: Any) -> Body:
    """Return what server-side apply of *status* sends for *obj*."""
    names = {key: obj["metadata"][key] for key in ("name", "namespace") if key in obj["metadata"]}
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {**names, **metadata},
        "status": status,
    }


def condition(type_: str, status: str = "True") -> Body:
    """Return a condition."""
    return {"type": type_, "status": status}


async def read_on(events: AsyncIterator[WatchEvent]) -> None:
    """Read until there is no more."""
    async for _ in events:
        pass


async def seen(store: MemoryStore, kind: str, since: str, **filters: Any) -> list[WatchEvent]:
    """Return all that a watch from *since* on shows up to now."""
    events: list[WatchEvent] = []

    async def follow() -> None:
        events.extend([event async for event in store.watch(kind, resource_version=since, **filters)])

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.break_watches()
    await task
    return events


# ---------------------------------------------------------------- create, get, list
async def test_created_object_gets_the_servers_metadata(store: MemoryStore) -> None:
    """UID, version, generation and time are the server's; a status sent along is dropped."""
    created = await store.create({**route(), "status": {"pods": ["x"]}})
    metadata = created["metadata"]
    assert metadata["uid"]
    assert (metadata["generation"], metadata["creationTimestamp"]) == (1, "2030-01-01T00:00:00Z")
    assert "status" not in created
    assert await store.get("GKEIPRoute", "n", "r") == created


async def test_versions_count_all_writes_of_the_store(store: MemoryStore) -> None:
    """One counter serves all kinds, and a list carries where it stands."""
    first = await store.create(route())
    second = await store.create(pod())
    listing = await store.list("GKEIPRoute")
    assert int(first["metadata"]["resourceVersion"]) < int(second["metadata"]["resourceVersion"])
    assert listing.resource_version == second["metadata"]["resourceVersion"]


async def test_nobody_can_change_what_is_stored(store: MemoryStore) -> None:
    """What goes in and what comes out are copies."""
    body = route()
    created = await store.create(body)
    body["spec"]["network"] = created["spec"]["network"] = "other"
    (await store.list("GKEIPRoute")).items[0]["spec"]["network"] = "other"
    assert (await store.get("GKEIPRoute", "n", "r"))["spec"]["network"] == "default"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "Pud"}, "no kind 'Pud' is registered"),
        ({"apiVersion": "v1"}, "GKEIPRoute is served as networking.gke.io/v1"),
        ({"metadata": {"namespace": "n"}}, "metadata.name: is required"),
        ({"metadata": {"name": "r", "resourceVersion": "3"}}, "must not be set on objects to be created"),
        ({"metadata": None}, "metadata: is required"),
        ({**attachment(), "metadata": {"name": "a", "namespace": "n"}}, "AddressAttachment has none"),
    ],
)
async def test_object_that_makes_no_sense_is_rejected(store: MemoryStore, change: Body, said: str) -> None:
    """A create that a real server answers with 400 or 422 is one here."""
    with pytest.raises(RejectedError, match=said):
        await store.create({**route(), **change})


async def test_generated_names_differ(store: MemoryStore) -> None:
    """generateName gives each object a name of its own."""
    names = set()
    for _ in range(3):
        body = {**pod(), "metadata": {"generateName": "p-", "namespace": "n"}}
        names.add((await store.create(body))["metadata"]["name"])
    assert len(names) == 3
    assert all(name.startswith("p-") for name in names)


async def test_name_taken_exists_already(store: MemoryStore) -> None:
    """The same name in another namespace is free."""
    await store.create(route())
    with pytest.raises(AlreadyExistsError):
        await store.create(route())
    await store.create(route(namespace="other"))
    with pytest.raises(NotFoundError):
        await store.get("GKEIPRoute", "third", "r")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("", ["a", "b", "c"]),
        ("x", ["a", "b"]),
        ("!x", ["c"]),
        ("x=1", ["a"]),
        ("x==1", ["a"]),
        ("x!=1", ["b", "c"]),
        ("x in (1, 2)", ["a", "b"]),
        ("x notin (1)", ["b", "c"]),
        ("x in (1,2),y", ["b"]),
        ("example.com/z=", ["c"]),
    ],
)
async def test_list_selects_by_labels(store: MemoryStore, labels: str, names: list[str]) -> None:
    """Equality, sets and existence select as kubectl -l does."""
    for name, own in (("a", {"x": "1"}), ("b", {"x": "2", "y": ""}), ("c", {"example.com/z": ""})):
        await store.create(route(name, labels=own))
    assert [item["metadata"]["name"] for item in (await store.list("GKEIPRoute", labels=labels)).items] == names


@pytest.mark.parametrize("labels", ["x in 1", "=", "x,,y", "a b"])
async def test_selector_that_makes_no_sense_is_rejected(store: MemoryStore, labels: str) -> None:
    """A selector that cannot be read is told, not taken for everything."""
    with pytest.raises(RejectedError, match="unable to parse"):
        await store.list("Pod", labels=labels)


# ---------------------------------------------------------------- update
async def test_generation_rises_with_the_spec_alone(store: MemoryStore) -> None:
    """Labels and status leave the generation; the spec raises it."""
    created = await store.create(route())
    labelled = await store.patch("GKEIPRoute", "n", "r", {"metadata": {"labels": {"a": "b"}}})
    reported = await store.patch("GKEIPRoute", "n", "r", {"status": {"pods": ["x"]}}, subresource="status")
    changed = await store.patch("GKEIPRoute", "n", "r", {"spec": {"network": "blue"}})
    generations = [each["metadata"]["generation"] for each in (created, labelled, reported, changed)]
    assert generations == [1, 1, 1, 2]
    assert changed["status"] == {"pods": ["x"]}
    assert changed["metadata"]["labels"] == {"a": "b"}


async def test_status_and_the_rest_are_written_apart(store: MemoryStore) -> None:
    """PUT of the object ignores the status sent, PUT of the status everything else."""
    created = await store.create(route())
    both = {**created, "spec": {"network": "blue"}, "status": {"pods": ["x"]}}
    assert "status" not in await store.update(both)
    both = {**both, "metadata": {"name": "r", "namespace": "n", "labels": {"a": "b"}}, "spec": {"network": "red"}}
    updated = await store.update(both, subresource="status")
    assert (updated["spec"], updated["status"]) == ({"network": "blue"}, {"pods": ["x"]})
    assert "labels" not in updated["metadata"]


async def test_config_map_has_no_status(store: MemoryStore) -> None:
    """A kind without the subresource answers 404 for it."""
    await store.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}})
    with pytest.raises(NotFoundError):
        await store.patch("ConfigMap", "n", "c", {"status": {"a": 1}}, subresource="status")


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
async def test_precondition_that_fails_is_a_conflict(store: MemoryStore, field: str) -> None:
    """PUT, PATCH, apply and DELETE all hold to what they were given; without preconditions they go through."""
    created = await store.create(route())
    wrong = {field: "0"}
    stale = {**created, "metadata": {**created["metadata"], **wrong}}
    with pytest.raises(ConflictError):
        await store.update(stale)
    with pytest.raises(ConflictError):
        await store.update(stale, subresource="status")
    with pytest.raises(ConflictError):
        await store.patch("GKEIPRoute", "n", "r", {"metadata": wrong})
    with pytest.raises(ConflictError):
        await store.apply(with_status(created, {"pods": []}, **wrong), manager="m")
    with pytest.raises(ConflictError):
        await store.delete("GKEIPRoute", "n", "r", **{"uid" if field == "uid" else "resource_version": "0"})
    assert await store.update(route()) == created


async def test_write_that_changes_nothing_raises_no_version(store: MemoryStore) -> None:
    """PUT, PATCH and apply of what stands are no writes and no events."""
    await store.create(route())
    status: Body = {"conditions": [condition("Ready")]}
    first = await store.apply(with_status(route(), status), manager="m")
    revision = store.revision
    assert await store.update(route()) == first
    assert await store.patch("GKEIPRoute", "n", "r", {"spec": {"network": "default"}}) == first
    assert await store.apply(with_status(route(), status), manager="m") == first
    assert store.revision == revision


async def test_servers_metadata_cannot_be_overwritten(store: MemoryStore) -> None:
    """UID aside, which is a precondition, what the server owns stays whatever is sent."""
    created = await store.create(route())
    forged = {**created, "metadata": {**created["metadata"], "generation": 9, "creationTimestamp": "x"}}
    assert await store.update(forged) == created


# ---------------------------------------------------------------- the rules of AddressAttachment
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"epoch": 4}, "epoch: must not fall"),
        ({"epoch": 5, "nodeName": "x"}, "epoch: must rise"),
        ({"epoch": 5, "releasing": [{"epoch": 3, "how": "Now"}, {"epoch": 5, "how": "Now"}]}, "epoch: must rise"),
        ({"epoch": 5, "releasing": [{"epoch": 3, "how": "AfterReady"}]}, "epoch: must rise"),
        ({"epoch": 6, "routeRef": {"namespace": "n", "name": "other", "uid": "u"}}, "routeRef: is immutable"),
    ],
)
async def test_attachment_update_against_the_rules_is_rejected(store: MemoryStore, spec: Body, said: str) -> None:
    """What the CRD's rules refuse, the store refuses."""
    await store.create(attachment(5, releasing=[{"epoch": 3, "how": "Now"}]))
    body = attachment(releasing=[{"epoch": 3, "how": "Now"}])
    with pytest.raises(RejectedError, match=said):
        await store.update({**body, "spec": {**body["spec"], **spec}})


@pytest.mark.parametrize(
    "spec",
    [
        {"epoch": 5, "releasing": [{"epoch": 3, "how": "Now"}]},
        {"epoch": 5, "releasing": []},
        {"epoch": 5, "releasing": [{"epoch": 3, "how": "AfterReady"}], "damped": {"podUID": "p"}, "prepared": []},
        {"epoch": 9, "nodeName": "x", "releasing": [{"epoch": 9, "how": "Now"}]},
    ],
)
async def test_attachment_update_within_the_rules_is_written(store: MemoryStore, spec: Body) -> None:
    """Ending or hastening a release and bookkeeping need no new epoch; a new epoch allows everything."""
    await store.create(attachment(5, releasing=[{"epoch": 3, "how": "AfterReady"}]))
    body = attachment()
    updated = await store.update({**body, "spec": {**body["spec"], **spec}})
    assert updated["spec"]["epoch"] == spec["epoch"]


# ---------------------------------------------------------------- server-side apply
async def test_managers_share_a_list_of_conditions(store: MemoryStore) -> None:
    """Each owns its conditions by type; one that its owner no longer applies goes, the other's stays."""
    await store.create(route())
    await store.apply(with_status(route(), {"conditions": [condition("A"), condition("B")]}), manager="one")
    await store.apply(with_status(route(), {"conditions": [condition("C")]}), manager="two")
    left = await store.apply(with_status(route(), {"conditions": [condition("A", "False")]}), manager="one")
    assert left["status"]["conditions"] == [condition("A", "False"), condition("C")]


async def test_field_of_another_manager_is_a_conflict_unless_forced(store: MemoryStore) -> None:
    """Applying another value than the owner's conflicts; force takes the field over for good."""
    await store.create(route())
    await store.apply(with_status(route(), {"pods": ["x"]}), manager="one")
    with pytest.raises(ConflictError, match=r"conflict with 'one': .status.pods"):
        await store.apply(with_status(route(), {"pods": ["y"]}), manager="two")
    forced = await store.apply(with_status(route(), {"pods": ["y"]}), manager="two", force=True)
    assert forced["status"] == {"pods": ["y"]}
    assert (await store.apply(with_status(route(), {}), manager="one"))["status"] == {"pods": ["y"]}


async def test_field_applied_by_two_goes_with_the_last(store: MemoryStore) -> None:
    """The same value applied by two is owned by both: it goes when neither applies it."""
    await store.create(route())
    for manager in ("one", "two"):
        await store.apply(with_status(route(), {"pods": ["x"]}), manager=manager)
    assert (await store.apply(with_status(route(), {}), manager="one"))["status"] == {"pods": ["x"]}
    assert "status" not in await store.apply(with_status(route(), {}), manager="two")


async def test_put_takes_ownership_of_what_it_changes(store: MemoryStore) -> None:
    """A field that an update changed is no longer the applier's, and conflicts with its next apply."""
    await store.create(route())
    await store.apply(with_status(route(), {"pods": ["x"]}), manager="one")
    await store.patch("GKEIPRoute", "n", "r", {"status": {"pods": ["y"]}}, subresource="status", manager="kubectl")
    with pytest.raises(ConflictError, match="kubectl"):
        await store.apply(with_status(route(), {"pods": ["x"]}), manager="one")


async def test_listeners_hold_conditions_of_their_own(store: MemoryStore) -> None:
    """A list-map within a list-map is merged by both keys."""
    gateway: Body = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "n"},
    }
    await store.create(gateway)
    for manager, type_ in (("one", "A"), ("two", "B")):
        listeners = [{"name": "l", "conditions": [condition(type_)]}]
        await store.apply(with_status(gateway, {"listeners": listeners}), manager=manager)
    left = await store.apply(with_status(gateway, {}), manager="one")
    assert left["status"]["listeners"] == [{"conditions": [condition("B")], "name": "l"}]


async def test_apply_to_nothing_is_not_found(store: MemoryStore) -> None:
    """A status without its object is not created."""
    with pytest.raises(NotFoundError):
        await store.apply(with_status(route(), {"pods": ["x"]}), manager="one")


# ---------------------------------------------------------------- delete
async def test_object_with_a_finalizer_waits_for_it(store: MemoryStore) -> None:
    """It stays, terminating, takes no new finalizer, and goes with the last one's removal."""
    created = await store.create(route(finalizers=["a"]))
    waiting = await store.delete("GKEIPRoute", "n", "r")
    assert waiting is not None
    assert waiting["metadata"]["deletionTimestamp"] == "2030-01-01T00:00:00Z"
    assert waiting["metadata"]["generation"] == 2
    assert await store.delete("GKEIPRoute", "n", "r") == waiting
    with pytest.raises(RejectedError, match="none can be added"):
        await store.update(route(finalizers=["a", "b"]))
    events = await seen(store, "GKEIPRoute", created["metadata"]["resourceVersion"])
    assert [event.type for event in events] == ["MODIFIED"]
    await store.update(route())
    with pytest.raises(NotFoundError):
        await store.get("GKEIPRoute", "n", "r")


async def test_object_without_a_finalizer_goes_at_once(store: MemoryStore) -> None:
    """Nothing waits, and the watch says with which version it went."""
    created = await store.create(route())
    assert await store.delete("GKEIPRoute", "n", "r") is None
    (event,) = await seen(store, "GKEIPRoute", created["metadata"]["resourceVersion"])
    assert event.type == "DELETED"
    assert event.object["metadata"]["resourceVersion"] == str(store.revision)


async def test_pod_on_a_node_is_given_its_grace_period(store: MemoryStore, clock: ManualClock) -> None:
    """The kubelet ends it; a shorter period replaces a longer one, never the other way."""
    await store.create(pod(nodeName="node-a", terminationGracePeriodSeconds=20))
    first = await store.delete("Pod", "n", "p")
    clock.advance(1)
    longer = await store.delete("Pod", "n", "p", grace_seconds=60)
    shorter = await store.delete("Pod", "n", "p", grace_seconds=2)
    assert first is not None
    assert shorter is not None
    assert first["metadata"]["deletionTimestamp"] == "2030-01-01T00:00:20Z"
    assert longer == first
    assert shorter["metadata"]["deletionTimestamp"] == "2030-01-01T00:00:03Z"
    assert await store.delete("Pod", "n", "p", grace_seconds=0) is None


@pytest.mark.parametrize(("spec", "phase"), [({}, "Pending"), ({"nodeName": "node-a"}, "Succeeded")])
async def test_pod_that_runs_nowhere_goes_at_once(store: MemoryStore, spec: Body, phase: str) -> None:
    """A Pod without a node or with its work done needs no grace."""
    await store.create(pod(**spec))
    await store.patch("Pod", "n", "p", {"status": {"phase": phase}}, subresource="status")
    assert await store.delete("Pod", "n", "p") is None


async def test_terminating_pod_may_still_change(store: MemoryStore) -> None:
    """A Pod in its grace period loses its readiness and stays."""
    await store.create(pod(nodeName="node-a"))
    await store.delete("Pod", "n", "p")
    status = {"conditions": [condition("Ready", "False")]}
    await store.patch("Pod", "n", "p", {"status": status}, subresource="status")
    assert (await store.get("Pod", "n", "p"))["status"] == status


# ---------------------------------------------------------------- watch
async def test_watch_shows_each_change_after_its_version(store: MemoryStore) -> None:
    """What was listed is not repeated, what came after is not missed, other kinds and namespaces do not show."""
    await store.create(route("old"))
    since = (await store.list("GKEIPRoute")).resource_version
    await store.create(route("new"))
    await store.create(route("elsewhere", namespace="m"))
    await store.create(pod())
    await store.patch("GKEIPRoute", "n", "old", {"metadata": {"labels": {"a": "b"}}})
    await store.delete("GKEIPRoute", "n", "new")
    events = await seen(store, "GKEIPRoute", since, namespace="n")
    assert [(event.type, event.object["metadata"]["name"]) for event in events] == [
        ("ADDED", "new"),
        ("MODIFIED", "old"),
        ("DELETED", "new"),
    ]


async def test_watch_by_label_sees_objects_come_and_go(store: MemoryStore) -> None:
    """An object that begins to match is ADDED, one that stops is DELETED under the version that took it away."""
    created = await store.create(route())
    await store.patch("GKEIPRoute", "n", "r", {"metadata": {"labels": {"a": ""}}})
    await store.patch("GKEIPRoute", "n", "r", {"spec": {"network": "blue"}})
    gone = await store.patch("GKEIPRoute", "n", "r", {"metadata": {"labels": {"a": None}}})
    await store.patch("GKEIPRoute", "n", "r", {"spec": {"network": "red"}})
    events = await seen(store, "GKEIPRoute", created["metadata"]["resourceVersion"], labels="a")
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[2].object["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"]
    assert events[2].object["metadata"]["labels"] == {"a": ""}


async def test_watch_from_forgotten_history_expires(store: MemoryStore) -> None:
    """A version older than the history, and one from the future, is 410."""
    since = (await store.create(route()))["metadata"]["resourceVersion"]
    for index in range(25):
        await store.patch("GKEIPRoute", "n", "r", {"metadata": {"labels": {"a": str(index)}}})
    with pytest.raises(ExpiredError, match="too old"):
        await seen(store, "GKEIPRoute", since)
    with pytest.raises(ExpiredError, match="too large"):
        await seen(store, "GKEIPRoute", "9999")
    assert len(await seen(store, "GKEIPRoute", str(store.revision - 5))) == 5


async def test_watcher_that_does_not_read_expires_alone(store: MemoryStore) -> None:
    """Who falls behind by more than the history is told; who reads is not disturbed."""
    created = await store.create(route())
    since = created["metadata"]["resourceVersion"]
    slow = store.watch("GKEIPRoute", resource_version=since)
    quick = store.watch("GKEIPRoute", resource_version=since)
    for index in range(25):
        await store.patch("GKEIPRoute", "n", "r", {"metadata": {"labels": {"a": str(index)}}})
        assert (await anext(quick)).object["metadata"]["labels"] == {"a": str(index)}
        if index == 0:
            await anext(slow)
    with pytest.raises(ExpiredError, match="fell behind"):
        await read_on(slow)
    await quick.aclose()  # type: ignore[attr-defined]


async def test_event_of_a_watch_is_a_copy(store: MemoryStore) -> None:
    """Two watchers and the store share nothing."""
    created = await store.create(route())
    await store.patch("GKEIPRoute", "n", "r", {"spec": {"network": "blue"}})
    since = created["metadata"]["resourceVersion"]
    (event,) = await seen(store, "GKEIPRoute", since)
    event.object["spec"]["network"] = "red"
    assert (await seen(store, "GKEIPRoute", since))[0].object["spec"] == {"network": "blue"}


# ---------------------------------------------------------------- Events
async def test_event_repeated_is_counted_in_a_series(store: MemoryStore, clock: ManualClock) -> None:
    """The same about the same object is one Event with a count; another message is another Event."""
    said = {"reason": "Moved", "action": "Move", "note": "a to b", "warning": False, "manager": "m"}
    regarding = {"apiVersion": "networking.gke.io/v1", "kind": "GKEIPRoute", "namespace": "n", "name": "r", "uid": "u"}
    first = await store.record_event(regarding=regarding, **said)  # type: ignore[arg-type]
    clock.advance(1.5)
    again = await store.record_event(regarding=regarding, **said)  # type: ignore[arg-type]
    await store.record_event(regarding=regarding, **{**said, "note": "b to a", "warning": True})  # type: ignore[arg-type]
    assert "series" not in first
    assert first["eventTime"] == "2030-01-01T00:00:00.000000Z"
    assert again["series"] == {"count": 2, "lastObservedTime": "2030-01-01T00:00:01.500000Z"}
    assert sorted(each["type"] for each in (await store.list("Event", namespace="n")).items) == ["Normal", "Warning"]
