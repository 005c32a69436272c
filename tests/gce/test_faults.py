"""What do clients see when something goes wrong, and what is left of it?"""

import json
from collections import Counter

import pytest
import requests
from compute_clients import Clients
from compute_steps import (
    DONE,
    GROUP,
    PROJECT,
    REGION,
    ZONE,
    Outcome,
    Step,
    address,
    delete,
    group,
)
from google.api_core.exceptions import BadGateway, NotFound, ServiceUnavailable
from google.cloud import compute_v1
from google.protobuf.json_format import ParseError

from persistip.testing import ManualClock
from persistip.testing.compute_engine import Chances, ComputeEngine, FaultKind, Request
from persistip.testing.compute_engine.faults import WHAT

pytestmark = pytest.mark.requires("gce")

DONE_STATUS = compute_v1.Operation.Status.DONE


def names(clients: Clients) -> list[str]:
    """Return the addresses that a list holds."""
    return [each.name for each in clients.of("addresses").list({"project": PROJECT, "region": REGION}, retry=None)]


def test_lost_reply_leaves_the_effect(clients: Clients, engine: ComputeEngine) -> None:
    """A call whose reply is lost raises an error of the connection, and has been carried out all the same."""
    engine.faults.add("lost-reply", "addresses.insert")
    with pytest.raises(requests.exceptions.ConnectionError):
        clients.begin(address())
    assert clients.do(address()) == Outcome("alreadyExists")


def test_duplicate_delivery_is_seen_by_who_sends_no_request_id(clients: Clients, engine: ComputeEngine) -> None:
    """A call that arrives twice ends as a conflict with itself, unless it carries a request id."""
    engine.faults.add("duplicate", "addresses.insert", times=2)
    assert clients.do(address()) == Outcome("alreadyExists")
    outcome = clients.do(address(name="second"), request_id="c5d1f6d0-1111-4222-8333-444455556666")
    assert outcome == DONE


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("too-many-requests", "rateLimitExceeded"),
        ("rate-limit", "rateLimitExceeded"),
        ("unavailable", "backendError"),
        ("forbidden", "forbidden"),
    ],
)
def test_refused_call_changes_nothing(clients: Clients, engine: ComputeEngine, kind: str, word: str) -> None:
    """A burst of refusals lasts as long as it should, and none of the refused calls is carried out."""
    engine.faults.add(kind, "addresses.*", times=2)
    assert [clients.do(address()) for _ in range(3)] == [Outcome(word), Outcome(word), DONE]


def test_permission_is_refused_until_it_is_given_back(clients: Clients, engine: ComputeEngine) -> None:
    """A method stays refused until the fault is cleared, others do not, and the sentence names the permission."""
    engine.faults.add("forbidden", "addresses.insert", times=None)
    refused = [clients.do(address()) for _ in range(3)]
    assert refused == [Outcome("forbidden")] * 3
    assert "compute.addresses.create" in refused[0].message
    assert names(clients) == ["inside-1", "nat-1"]
    engine.clear_faults()
    assert clients.do(address()) == DONE


def test_bad_gateway_is_a_page_and_the_effect_is_there(clients: Clients, engine: ComputeEngine) -> None:
    """A proxy's page of HTML says nothing about what became of the call."""
    engine.faults.add("bad-gateway", "addresses.insert")
    with pytest.raises(BadGateway):
        clients.begin(address())
    assert clients.do(address()) == Outcome("alreadyExists")


@pytest.mark.unjudged("the answer is broken on purpose")
def test_broken_body_cannot_be_read(judged: "tuple[str, object]", clients: Clients, engine: ComputeEngine) -> None:
    """An answer that is cut short raises an error of its own kind."""
    engine.faults.add("broken-body", "addresses.get")
    with pytest.raises(ParseError):
        clients.get("addresses", "nat-1")
    judge = judged[1]
    assert any("no JSON" in fault for fault in judge.faults)  # type: ignore[attr-defined]
    judge.faults.clear()  # type: ignore[attr-defined]


def test_operation_that_never_ends_ends_when_the_fault_is_cleared(clients: Clients, engine: ComputeEngine) -> None:
    """wait gives up after two minutes without an end, and the operation ends after the fault."""
    engine.faults.add("never-ends", "addresses.insert")
    operation = clients.begin(address())
    where = {"project": PROJECT, "region": REGION, "operation": operation.name}
    began = engine.clock.now()
    waited = clients.of("regionOperations").wait(where, retry=None, timeout=150)
    assert (waited.status, engine.clock.now() - began >= 120) == (compute_v1.Operation.Status.RUNNING, True)
    engine.clear_faults()
    assert clients.finish(operation).status == DONE_STATUS


def test_early_wait_returns_at_once(clients: Clients, engine: ComputeEngine) -> None:
    """A wait may come back before the end, and whoever loops gets there."""
    engine.faults.add("early-wait", "regionOperations.wait")
    operation = clients.begin(address())
    where = {"project": PROJECT, "region": REGION, "operation": operation.name}
    waited = clients.of("regionOperations").wait(where, retry=None, timeout=150)
    assert waited.status == compute_v1.Operation.Status.RUNNING
    assert clients.finish(operation).status == DONE_STATUS


def test_done_with_error_changed_nothing(clients: Clients, engine: ComputeEngine) -> None:
    """An operation may be DONE and have failed, and then its name is free again."""
    engine.faults.add("done-with-error", "addresses.insert")
    assert clients.do(address()) == Outcome("INTERNAL_ERROR")
    with pytest.raises(NotFound):
        clients.get("addresses", "address")
    assert clients.do(address()) == DONE


def test_unreachable_scope_is_missing_and_says_so(clients: Clients, engine: ComputeEngine) -> None:
    """A list over all scopes goes on without the one that cannot be reached, and names it twice."""
    clients.do_all(*GROUP)
    engine.faults.add("unreachable", "networkEndpointGroups.aggregatedList", scope=f"zones/{ZONE}")
    pager = clients.of("networkEndpointGroups").aggregated_list({"project": PROJECT}, retry=None)
    (page,) = pager.pages
    assert [url.rpartition("/")[2] for url in page.unreachables] == [ZONE]
    assert page.items[f"zones/{ZONE}"].warning.code == "UNREACHABLE"
    assert not page.items[f"zones/{ZONE}"].network_endpoint_groups


def test_unreachable_scope_fails_its_own_list_alone(clients: Clients, engine: ComputeEngine) -> None:
    """The list of the one zone fails, that of another does not."""
    clients.do_all(*GROUP, group(zone="europe-west4-b"))
    engine.faults.add("unreachable", "networkEndpointGroups.list", times=None, scope=f"zones/{ZONE}")
    listed = clients.of("networkEndpointGroups").list
    with pytest.raises(ServiceUnavailable):
        list(listed({"project": PROJECT, "zone": ZONE}, retry=None))
    assert [each.name for each in listed({"project": PROJECT, "zone": "europe-west4-b"}, retry=None)] == ["nodes"]


def test_lagging_list_shows_what_was(clients: Clients, engine: ComputeEngine) -> None:
    """A list may miss what is new and hold what is gone, while a get is up to date."""
    clients.do_all(address(name="old"))
    engine.clock.advance(60)  # type: ignore[attr-defined]
    clients.do_all(address(name="new"), delete("addresses", "old"))
    engine.faults.add("lagging-list", "addresses.list", seconds=60.0)
    assert names(clients) == ["inside-1", "nat-1", "old"]
    assert names(clients) == ["inside-1", "nat-1", "new"]


def test_chance_of_a_seed_is_the_same_each_time() -> None:
    """Faults by chance come at the same calls for the same seed, and about as often as they should."""

    def met(seed: int) -> list[int]:
        engine = ComputeEngine(clock=ManualClock(), seed=seed)
        engine.faults.chances = Chances(of={FaultKind.UNAVAILABLE: 0.25})
        look = Request(http="GET", target=f"/compute/v1/projects/lab/regions/{REGION}/addresses")
        return [engine.answer(look).status for _ in range(200)]

    assert met(1) == met(1) != met(2)
    assert 25 <= Counter(met(1))[503] <= 75


def test_every_kind_of_fault_says_what_it_is() -> None:
    """Each kind has a sentence, for the documentation."""
    assert set(WHAT) == set(FaultKind)


def test_outcome_of_a_seed_under_many_faults_is_reproducible() -> None:
    """With lost replies, duplicates and failing operations at once, the same calls leave the same project behind."""

    def left(seed: int) -> str:
        engine = ComputeEngine(clock=ManualClock(), seed=seed, latency="assumed")
        kinds = (FaultKind.LOST_REPLY, FaultKind.DUPLICATE, FaultKind.DONE_WITH_ERROR, FaultKind.UNAVAILABLE)
        engine.faults.chances = Chances(of=dict.fromkeys(kinds, 0.2))
        target = f"/compute/v1/projects/lab/regions/{REGION}/addresses"
        for number in range(30):
            engine.answer(Request(http="POST", target=target, body=json.dumps({"name": f"a{number}"}).encode()))
        engine.clock.advance(60)  # type: ignore[attr-defined]
        engine.clear_faults()
        return engine.answer(Request(http="GET", target=target)).body.decode()

    assert left(3) == left(3)
    assert 5 < left(3).count('"id": "') < 31


def test_step_of_an_unknown_method_is_said_to_be_unknown(clients: Clients) -> None:
    """A method of the service that is not emulated is named in its refusal."""
    with pytest.raises(Exception, match=r"Not emulated: POST .*/addresses/nat-1/move"):
        clients.of("addresses").move_unary(
            project=PROJECT,
            region=REGION,
            address="nat-1",
            region_addresses_move_request_resource=compute_v1.RegionAddressesMoveRequest(),
            retry=None,
        )
    assert clients.do(Step(method="addresses.delete", name="nat-1")) == DONE
