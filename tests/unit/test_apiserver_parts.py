"""The parts of the API server's backend that need no API server."""

import asyncio
import inspect
from pathlib import Path

import aiohttp
import attrs
import msgspec
import pytest

from persistip.backends.apiserver import find_access
from persistip.backends.apiserver.errors import (
    TRANSPORT,
    AlreadyExistsError,
    ConflictError,
    ExpiredError,
    NotFoundError,
    error_from_answer,
    error_from_event,
    error_from_transport,
)
from persistip.backends.apiserver.mailbox import Mailbox
from persistip.backends.apiserver.reporting import Sightings
from persistip.backends.apiserver.served import Served
from persistip.errors import (
    BackendError,
    ConfigError,
    RefusedError,
    RejectedError,
    StaleError,
    ThrottledError,
    UnavailableError,
)
from persistip.model.attachment import AddressAttachment, NodeReport, NodeStateName
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import Batch
from persistip.testing import builders
from persistip.wire.decode import Unreadable

pytestmark = pytest.mark.asyncio


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", RejectedError),
        (401, "Unauthorized", RefusedError),
        (403, "Forbidden", RefusedError),
        (404, "NotFound", NotFoundError),
        (405, "MethodNotAllowed", RejectedError),
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (410, "Expired", ExpiredError),
        (415, "UnsupportedMediaType", RejectedError),
        (422, "Invalid", RejectedError),
        (429, "TooManyRequests", ThrottledError),
        (500, "InternalError", UnavailableError),
        (502, "", UnavailableError),
        (503, "ServiceUnavailable", UnavailableError),
        (504, "Timeout", UnavailableError),
        (599, "", UnavailableError),
    ],
)
async def test_answer_becomes_what_the_loop_must_do(code: int, reason: str, expected: type[BackendError]) -> None:
    """Every code that an API server answers with is one of our errors, by code and reason alone."""
    body = msgspec.json.encode({"kind": "Status", "code": code, "reason": reason, "message": "in words"})
    found = error_from_answer(code, body, None, "PUT", "/x")
    assert type(found) is expected
    assert "in words" in str(found)


async def test_answer_of_something_else_is_understood_by_its_code() -> None:
    """A proxy's page has no reason, and its code is enough."""
    assert type(error_from_answer(502, b"<html>", None, "GET", "/x")) is UnavailableError
    assert type(error_from_answer(409, b"", None, "PUT", "/x")) is ConflictError


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [("7", {}, 7.0), (None, {"details": {"retryAfterSeconds": 3}}, 3.0), (None, {}, 1.0), ("0", {}, 1.0)],
)
async def test_server_that_is_asked_too_much_says_how_long(
    header: str | None, body: dict[str, object], seconds: float
) -> None:
    """The wait is the header's, else the body's, and never none."""
    found = error_from_answer(429, msgspec.json.encode(body), header, "GET", "/x")
    assert isinstance(found, ThrottledError)
    assert found.retry_after_seconds == seconds


async def test_namespace_that_ends_is_no_missing_right() -> None:
    """A write into a namespace under deletion is refused with 403, and is stale: no administrator has to act."""
    status = {"code": 403, "reason": "Forbidden", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}
    assert type(error_from_answer(403, msgspec.json.encode(status), None, "POST", "/x")) is StaleError


async def test_error_inside_a_watch_is_the_same_error() -> None:
    """A watch says 410 in its stream, with the answer itself a 200."""
    assert type(error_from_event(b'{"kind":"Status","code":410}', "watch", "/x")) is ExpiredError
    assert type(error_from_event(b"{}", "watch", "/x")) is UnavailableError


async def test_every_failure_of_the_transport_is_mapped() -> None:
    """Whatever the library raises for a request without an answer is caught, and a new one would show here."""
    raised = [
        each
        for name, each in inspect.getmembers(aiohttp, inspect.isclass)
        if each.__module__ == "aiohttp.client_exceptions" and not name.startswith("WS")  # web sockets are not used
    ]
    assert len(raised) > 10
    assert [each for each in raised if not issubclass(each, TRANSPORT)] == []
    assert "timed out" in str(error_from_transport(TimeoutError(), "GET", "/x"))


# ---------------------------------------------------------------- access


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """Give the folder of a service account."""
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text("")
    return tmp_path


async def test_pod_without_a_token_says_what_is_missing(tmp_path: Path) -> None:
    """A Pod that is given no service account is told what to set."""
    load = find_access("", "", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        await load()


async def test_nowhere_to_go_names_the_choices(tmp_path: Path) -> None:
    """Without a kubeconfig and outside a Pod the message says what could be given."""
    with pytest.raises(ConfigError, match="--kubeconfig"):
        find_access(str(tmp_path / "none"), "", {})


# ---------------------------------------------------------------- mailbox
NODE, OTHER = builders.node("node-a"), builders.node("node-b")


async def test_reader_that_is_slow_gets_the_latest_only() -> None:
    """A thousand changes of one object that nobody read are one entry, the last."""
    mailbox = Mailbox({Kind.NODE})
    mailbox.replace(Kind.NODE, {NODE.key: NODE})
    for _ in range(1000):
        mailbox.put(NODE.key, None)
        mailbox.put(NODE.key, NODE)
    batch = await mailbox.take()
    assert (dict(batch.objects), batch.resynced, batch.synced) == ({NODE.key: NODE}, frozenset({"Node"}), True)


async def test_list_takes_the_place_of_what_was_not_yet_read() -> None:
    """What a new list does not hold is not delivered, of that kind and of no other."""
    mailbox = Mailbox({Kind.NODE, Kind.NAMESPACE})
    mailbox.put(NODE.key, NODE)
    mailbox.put(builders.namespace().key, builders.namespace())
    mailbox.replace(Kind.NODE, {OTHER.key: OTHER})
    batch = await mailbox.take()
    assert set(batch.objects) == {OTHER.key, builders.namespace().key}
    assert not batch.synced


async def test_object_is_readable_or_not_and_never_both() -> None:
    """The last state decides, whichever way it changed."""
    mailbox = Mailbox({Kind.NODE})
    mailbox.put(NODE.key, NODE)
    mailbox.put(NODE.key, Unreadable("spec", "is odd"))
    mailbox.put(OTHER.key, Unreadable("spec", "is odd"))
    mailbox.put(OTHER.key, OTHER)
    batch = await mailbox.take()
    assert (set(batch.objects), set(batch.unreadable)) == ({OTHER.key}, {NODE.key})


async def test_gap_is_over_with_the_next_list() -> None:
    """Between the loss of a watch and the list that follows, not everything is known."""
    mailbox = Mailbox({Kind.NODE})
    mailbox.replace(Kind.NODE, {})
    assert (await mailbox.take()).synced
    mailbox.lose(Kind.NODE)
    assert not (await mailbox.take()).synced
    mailbox.replace(Kind.NODE, {})
    assert (await mailbox.take()).synced


async def test_follower_that_fails_ends_the_iteration() -> None:
    """A reader who waits is told why there will be no more."""
    mailbox = Mailbox({Kind.NODE})
    waiting = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    mailbox.fail(UnavailableError("gone"))
    with pytest.raises(UnavailableError, match="gone"):
        await waiting


# ---------------------------------------------------------------- paths
async def seconds_behind(seen: AddressAttachment, node: str, *, later: AddressAttachment | None = None) -> float:
    """Return how long *node* waits when *seen* stands, and after a second *later*."""
    loop = asyncio.get_running_loop()
    sightings = Sightings()
    sightings.note(seen)
    if later is not None:
        loop.call_later(1, sightings.learn, Batch(objects={later.key: later}))
    began = loop.time()
    await sightings.behind_holder(seen.meta.name, node, seconds=10)
    return loop.time() - began


@pytest.mark.looptime
async def test_report_of_who_lets_go_waits_for_the_holders() -> None:
    """Two nodes that report at once would cost a refusal: the other waits for the holder's word, and not for ever."""
    moved = builders.attachment(holder=builders.pod(node="node-b"), epoch=7)
    by_holder = NodeReport(node_name="node-b", epoch=7, state=NodeStateName.PROGRAMMED)
    told = attrs.evolve(moved, nodes=(by_holder,))
    assert await seconds_behind(moved, "node-a", later=told) == 1
    assert await seconds_behind(moved, "node-a") == 10


@pytest.mark.looptime
async def test_report_that_need_not_wait_does_not() -> None:
    """The holder's own node waits for nobody, and nobody for a holder that has reported, or where none is."""
    moved = builders.attachment(holder=builders.pod(node="node-b"), epoch=7)
    assert await seconds_behind(moved, "node-b") == 0
    by_holder = NodeReport(node_name="node-b", epoch=7, state=NodeStateName.PROGRAMMED)
    assert await seconds_behind(attrs.evolve(moved, nodes=(by_holder,)), "node-a") == 0
    held_by_nobody = attrs.evolve(moved, spec=attrs.evolve(moved.spec, holder=None))
    assert await seconds_behind(held_by_nobody, "node-a") == 0


async def test_kind_of_several_versions_is_asked_for_under_each() -> None:
    """The versions of a kind are tried in turn, and after the last the first is next."""
    served = Served()
    assert served.collection(Kind.SERVICE_CIDR) == "/apis/networking.k8s.io/v1/servicecidrs"
    assert served.has_another(Kind.SERVICE_CIDR)
    assert served.collection(Kind.SERVICE_CIDR) == "/apis/networking.k8s.io/v1beta1/servicecidrs"
    assert not served.has_another(Kind.SERVICE_CIDR)
    assert served.version(Kind.SERVICE_CIDR) == "networking.k8s.io/v1"
    assert served.object(ObjectKey(Kind.POD, "shop", "web-0"), "status") == "/api/v1/namespaces/shop/pods/web-0/status"
