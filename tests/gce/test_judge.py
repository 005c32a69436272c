"""Does the judge see what it should? Faults planted in requests and in answers, and their faultless twins."""

import json
import urllib.error
import urllib.request
from typing import Any

import attrs
import pytest
from compute_clients import Clients
from compute_judge import Judge, JudgingProxy, find
from compute_steps import IN_REGION, PROJECT, REGION, address

from persistip.testing.compute_engine import ComputeEngine, ComputeServer, Reply, Request

pytestmark = pytest.mark.requires("gce")

ADDRESSES = f"/compute/v1/projects/{PROJECT}/regions/{REGION}/addresses"
GOOD = {"name": "a", "networkTier": "PREMIUM", "prefixLength": 32, "labels": {"any": "thing"}}


def judged(verb: str, target: str, body: object = None) -> list[str]:
    """Return the faults of a request."""
    judge = Judge()
    judge.request(verb, target, b"" if body is None else json.dumps(body).encode())
    return judge.faults


@pytest.mark.parametrize(
    ("verb", "target", "body", "fault"),
    [
        ("POST", ADDRESSES, {**GOOD, "adress": "x"}, "'adress' was unexpected"),
        ("POST", ADDRESSES, {**GOOD, "networkTier": "GOLD"}, "'GOLD' is not one of"),
        ("POST", ADDRESSES, {"networkTier": "PREMIUM"}, "'name' is a required property"),
        ("POST", ADDRESSES, {**GOOD, "name": "Not-a-name"}, "does not match"),
        ("POST", ADDRESSES, {**GOOD, "name": "a name"}, "does not match"),
        ("POST", ADDRESSES, {**GOOD, "prefixLength": "32"}, "is not of type 'integer'"),
        ("POST", ADDRESSES, {**GOOD, "prefixLength": 2**40}, "is greater than the maximum"),
        ("POST", ADDRESSES, {**GOOD, "labels": {"any": 1}}, "is not of type 'string'"),
        ("POST", ADDRESSES, {**GOOD, "labelFingerprint": "not base64!"}, "does not match"),
        ("POST", f"{ADDRESSES}?requestid=1", GOOD, "no parameter requestid"),
        ("POST", f"{ADDRESSES}/a", GOOD, "no such method"),
        ("GET", f"{ADDRESSES}?maxResults=many", None, "is no number"),
        ("GET", f"{ADDRESSES}/A_B", None, "does not match"),
        ("GET", ADDRESSES, GOOD, "a body where there is none"),
        ("GET", f"/compute/v1/projects/{PROJECT}/addresses", None, "no such method"),
    ],
)  # fmt: skip
def test_fault_of_a_request_is_seen(verb: str, target: str, body: object, fault: str) -> None:
    """A request that the description of the API does not allow is a fault."""
    assert [fault in each for each in judged(verb, target, body)] == [True]


@pytest.mark.parametrize(
    ("verb", "target", "body"),
    [
        ("POST", f"{ADDRESSES}?requestId=1&prettyPrint=false&alt=json", GOOD),
        ("GET", f"{ADDRESSES}?maxResults=7&filter=name+eq+a", None),
        ("GET", f"{ADDRESSES}/a", None),
        ("DELETE", f"{ADDRESSES}/a", None),
    ],
)
def test_request_without_fault_passes(verb: str, target: str, body: object) -> None:
    """A request that is allowed has no faults."""
    assert judged(verb, target, body) == []


@pytest.mark.parametrize(
    ("status", "content_type", "body", "fault"),
    [
        (200, "application/json", {"name": "a", "colour": "red"}, "'colour' was unexpected"),
        (200, "application/json", {"status": "LOST"}, "'LOST' is not one of"),
        (200, "application/json", {"id": 12}, "is not of type 'string'"),
        (200, "application/json", {"id": "twelve"}, "does not match"),
        (200, "application/json", {"users": "one"}, "is not of type 'array'"),
        (200, "text/html", {}, "and no JSON"),
        (404, "application/json", {"error": {"code": 404, "message": "gone"}}, "'errors' is a required property"),
        (404, "application/json", {"message": "gone"}, "is a required property"),
    ],
)
def test_fault_of_an_answer_is_seen(status: int, content_type: str, body: object, fault: str) -> None:
    """An answer that the description of the API does not allow is a fault, and so is an error in another envelope."""
    found = find("GET", f"{ADDRESSES}/a")
    assert found is not None
    judge = Judge()
    judge.answer(found[0], status, content_type, json.dumps(body).encode())
    assert any(fault in each for each in judge.faults), judge.faults


@attrs.frozen
class Lying:
    """An emulator that changes one word of its answers; its methods are those that the server uses."""

    engine: ComputeEngine
    word: bytes
    instead: bytes

    def answer(self, request: Request) -> Reply:
        """Answer, with the word changed."""
        reply = self.engine.answer(request)
        return attrs.evolve(reply, body=reply.body.replace(self.word, self.instead))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        (b'"networkTier"', b'"networkTeer"'),
        (b'"PREMIUM"', b'"GOLD"'),
        (b'"RESERVED"', b'"FREE"'),
        (b'"id": "', b'"id": "x'),
    ],
)
def test_fault_of_the_emulator_is_seen_on_the_way(engine: ComputeEngine, word: bytes, instead: bytes) -> None:
    """Through the proxy, one wrong word in an answer of the emulator is a fault, though the client does not notice."""
    lying: Any = Lying(engine, word, instead)
    with ComputeServer(lying) as server, JudgingProxy(server.endpoint) as proxy:
        with urllib.request.urlopen(f"{proxy.endpoint}{ADDRESSES}/nat-1", timeout=30) as answer:
            assert instead in answer.read()
        assert len(proxy.judge.faults) == 1, proxy.judge.faults


@pytest.mark.unjudged("a fault is planted for the other judge")
def test_fault_of_the_client_is_seen_on_the_way(engine: ComputeEngine) -> None:
    """Through the proxy, a misspelt field is a fault of the request, whatever the emulator answers."""
    with ComputeServer(engine) as server, JudgingProxy(server.endpoint) as proxy:
        data = json.dumps({"name": "a", "adress": "x"}).encode()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{proxy.endpoint}{ADDRESSES}", data, timeout=30)
        refused.value.close()
        assert ["adress" in fault for fault in proxy.judge.faults] == [True]


def test_judge_has_seen_every_call(clients: Clients, judged: "tuple[str, Judge]") -> None:
    """What goes through the proxy is judged, calls and answers alike."""
    clients.do_all(address())
    assert next(each for each in judged[1].seen if each[1] == 200) == ("compute.addresses.insert", 200)
    assert clients.get("addresses", "address").region == IN_REGION
