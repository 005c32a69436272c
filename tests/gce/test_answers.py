"""How does the emulator answer: operations, fingerprints, references, request ids, lists, and what it does not know?"""

import json
import urllib.error
import urllib.request
import uuid

import pytest
from compute_clients import Clients
from compute_judge import Judge
from compute_steps import (
    DONE,
    FRESH,
    GROUP,
    IN_REGION,
    NETWORK,
    PROJECT,
    REGION,
    SERVED,
    SERVED_INSIDE,
    SUBNETWORK,
    URL,
    ZONE,
    Outcome,
    Step,
    address,
    attach,
    balancer,
    check,
    delete,
    detach,
    firewall,
    group,
    group_url,
    inner_rule,
    inside,
    leader,
    patch,
    rule,
    service,
    target,
)
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import compute_v1

from persistip.errors import ConfigError
from persistip.testing import ManualClock
from persistip.testing.compute_engine import ComputeEngine, Description, Quotas, Request, seed

pytestmark = pytest.mark.requires("gce")

RUNNING, ENDED = compute_v1.Operation.Status.RUNNING, compute_v1.Operation.Status.DONE


def raw(endpoint: str, verb: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    """Return status and body of one request that no client would send."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{endpoint}/compute/v1/{path}", data=data, method=verb)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def reason(answer: dict[str, object]) -> str:
    """Return the reason of a refusal."""
    return str(answer["error"]["errors"][0]["reason"])  # type: ignore[index]


# ---------------------------------------------------------------- operations
def test_first_look_at_an_operation_never_tells_its_end(clients: Clients, engine: ComputeEngine) -> None:
    """An operation is not DONE at the first look, however late that comes, and is at the second."""
    operation = clients.begin(address())
    engine.clock.advance(3600)  # type: ignore[attr-defined]
    where = {"project": PROJECT, "region": REGION, "operation": operation.name}
    assert clients.of("regionOperations").get(where, retry=None).status == RUNNING
    assert clients.of("regionOperations").get(where, retry=None).status == ENDED


def test_operations_end_in_another_order_than_they_began() -> None:
    """Which of several changes comes first is drawn from the seed, and one seed always draws the same."""

    def order(seed: int) -> list[str]:
        engine = ComputeEngine(clock=ManualClock(), latency="assumed", seed=seed)
        for number in range(8):
            body = json.dumps({"name": f"a{number}"}).encode()
            target = f"/compute/v1/projects/lab/regions/{REGION}/addresses"
            assert engine.answer(Request(http="POST", target=target, body=body)).status == 200
        engine.clock.advance(60)  # type: ignore[attr-defined]
        engine.settle()
        return [name["name"] for _, name in engine.state.all_of("addresses")]  # in the order of their making

    assert order(1) == order(1)
    assert order(1) != sorted(order(1))
    assert order(1) != order(2)


def test_done_at_once_is_done_when_asked_for() -> None:
    """In the mode for it an operation is answered as DONE, and its effect is there."""
    engine = ComputeEngine(clock=ManualClock(), done_at_once=True)
    target = f"/compute/v1/projects/lab/regions/{REGION}/addresses"
    reply = engine.answer(Request(http="POST", target=target, body=b'{"name": "a"}'))
    assert reply.json()["status"] == "DONE"
    assert engine.answer(Request(http="GET", target=f"{target}/a")).status == 200


def test_list_of_operations_tells_them_apart_by_target(clients: Clients) -> None:
    """One list of operations tells of every change of the region, what it was about and how it stands."""
    clients.do_all(address())
    clients.begin(address(name="second"))
    listed = clients.of("regionOperations").list({"project": PROJECT, "region": REGION}, retry=None)
    assert [(each.target_link.rpartition("/")[2], each.status) for each in listed] == [
        ("address", ENDED),
        ("second", RUNNING),
    ]


def test_unknown_operation_is_not_found(clients: Clients) -> None:
    """An operation that never was is not found."""
    with pytest.raises(NotFound):
        clients.of("regionOperations").get(project=PROJECT, region=REGION, operation="operation-1", retry=None)


# ---------------------------------------------------------------- names, references, use
def test_name_is_taken_from_the_request_on(clients: Clients) -> None:
    """A second resource of one name is refused while the first is being made, and after."""
    operation = clients.begin(address())
    assert clients.do(address()) == Outcome("alreadyExists")
    clients.finish(operation)
    assert clients.do(address()) == Outcome("alreadyExists")


def test_reference_to_what_is_being_made_is_not_ready(clients: Clients) -> None:
    """Who refers to a resource before it is there is told that it is not ready, and may later."""
    clients.do_all(address(), *GROUP)
    operation = clients.begin(service())
    assert clients.do(rule()) == Outcome("resourceNotReady")
    clients.finish(operation)
    assert clients.do(rule()) == DONE


def test_reference_to_nothing_is_invalid(clients: Clients) -> None:
    """Who refers to a resource that nobody makes is told so."""
    clients.do_all(address())
    assert clients.do(rule()) == Outcome("invalid")


def test_partial_links_are_taken_but_for_backends(clients: Clients) -> None:
    """A partial link will do everywhere but for a backend's group, which needs the whole URL."""
    clients.do_all(address(), *GROUP)
    partial = f"projects/{PROJECT}/zones/{ZONE}/networkEndpointGroups/nodes"
    assert clients.do(service(backends=[{"group": partial}])) == Outcome("invalid")
    assert clients.do(service()) == DONE
    assert clients.do(rule(IPAddress="address", backendService=f"regions/{REGION}/backendServices/service")) == DONE
    assert clients.get("forwardingRules", "rule").backend_service == f"{IN_REGION}/backendServices/service"


def test_deleting_what_is_used_names_the_user(clients: Clients) -> None:
    """From the address to the group, nothing can be deleted that another uses, and the order that works works."""
    clients.do_all(*SERVED)
    in_use = Outcome("resourceInUseByAnotherResource")
    steps = [
        delete("forwardingRules", "rule"),
        delete("regionBackendServices", "service"),
        delete("networkEndpointGroups", "nodes"),
    ]
    for step in steps[1:]:
        refused = clients.do(step)
        assert refused == in_use
    assert "regions/europe-west4/backendServices/service" in refused.message
    refused = clients.do(delete("addresses", "address"))
    assert (refused, "forwardingRules/rule" in refused.message) == (in_use, True)
    clients.do_all(*steps, delete("addresses", "address"))


def test_resource_that_leaves_cannot_be_used(clients: Clients) -> None:
    """What is being deleted is there, and can be neither deleted again, nor changed, nor referred to."""
    clients.do_all(address(), *GROUP, service())
    operation = clients.begin(delete("regionBackendServices", "service"))
    assert clients.get("regionBackendServices", "service").name == "service"
    assert clients.do(delete("regionBackendServices", "service")) == Outcome("resourceNotReady")
    assert clients.do(rule()) == Outcome("resourceNotReady")
    clients.finish(operation)
    assert clients.do(delete("regionBackendServices", "service")) == Outcome("notFound")


def test_users_of_an_address_are_told(clients: Clients) -> None:
    """A reserved address says who uses it."""
    clients.do_all(*SERVED)
    found = clients.get("addresses", "address")
    assert (found.status, list(found.users)) == ("IN_USE", [f"{IN_REGION}/forwardingRules/rule"])


# ---------------------------------------------------------------- what changes between asking and doing
def test_two_inserts_for_one_address_end_with_one_rule(clients: Clients) -> None:
    """Of two rules asked for at the same time for one internal address the later to be done fails with 409."""
    clients.do_all(*SERVED_INSIDE[:-1])
    first, second = (clients.begin(inner_rule(name=name)) for name in ("one", "two"))
    codes = {each.error.errors[0].code for each in (clients.finish(first), clients.finish(second)) if each.error.errors}
    assert codes == {"IP_IN_USE_BY_ANOTHER_RESOURCE"}
    assert len(clients.get("addresses", "inside").users) == 1


def test_two_writers_with_one_fingerprint_end_with_one_change(clients: Clients) -> None:
    """Of two changes that rest on the same fingerprint the later to be done fails."""
    clients.do_all(*GROUP, service())
    lock = clients.get("regionBackendServices", "service").fingerprint
    begun = [
        clients.begin(patch("regionBackendServices", "service", fingerprint=lock, description=text)) for text in "ab"
    ]
    ended = [clients.finish(each) for each in begun]
    assert sorted(each.error.errors[0].code if each.error.errors else "DONE" for each in ended) == [
        "CONDITION_NOT_MET",
        "DONE",
    ]


# ---------------------------------------------------------------- fingerprints, patch and put
@pytest.mark.parametrize(
    ("verb", "given", "word"),
    [
        ("patch", FRESH, "DONE"),
        ("patch", "", "conditionNotMet"),
        ("patch", "c3RhbGU=", "conditionNotMet"),
        ("update", FRESH, "DONE"),
        ("update", "", "required"),
        ("update", "c3RhbGU=", "conditionNotMet"),
    ],
)
def test_service_is_changed_with_its_present_fingerprint_only(
    clients: Clients, verb: str, given: str, word: str
) -> None:
    """A change of a backend service without its fingerprint, or with a stale one, is refused."""
    clients.do_all(*GROUP, service())
    body = {**(service(description="new").body or {}), "fingerprint": given}
    if not given:
        del body["fingerprint"]
    step = Step(method=f"regionBackendServices.{verb}", name="service", body=body)
    assert clients.do(step) == Outcome(word)


def test_fingerprint_of_a_rule_may_be_left_out_but_not_be_stale(clients: Clients) -> None:
    """A forwarding rule may be patched without its fingerprint; a stale one is refused."""
    clients.do_all(*SERVED_INSIDE)
    change = {"allowGlobalAccess": True}
    stale = Step(method="forwardingRules.patch", name="rule", body={"fingerprint": "c3RhbGU=", **change})
    assert clients.do(stale) == Outcome("conditionNotMet")
    assert clients.do(Step(method="forwardingRules.patch", name="rule", body=change)) == DONE
    assert clients.get("forwardingRules", "rule").allow_global_access is True


def test_every_write_changes_the_fingerprint(clients: Clients) -> None:
    """A fingerprint never stays the same over a write, also one that changes nothing."""
    clients.do_all(*GROUP, service())
    before = clients.get("regionBackendServices", "service").fingerprint
    assert clients.do(patch("regionBackendServices", "service", description="")) == DONE
    assert clients.get("regionBackendServices", "service").fingerprint != before


def test_patch_replaces_lists_and_merges_objects(clients: Clients) -> None:
    """A patch replaces a list whole, and keeps what it does not name of an object."""
    clients.do_all(*GROUP, group(name="more"), service())
    groups = [{"group": f"{URL}/zones/{ZONE}/networkEndpointGroups/{name}"} for name in ("more", "nodes")]
    assert clients.do(patch("regionBackendServices", "service", backends=groups, haPolicy={"leader": leader()})) == DONE
    found = clients.get("regionBackendServices", "service")
    assert ([each.group for each in found.backends], found.ha_policy.fast_i_p_move) == (
        [each["group"] for each in groups],
        "DISABLED",
    )


def test_put_takes_away_what_it_does_not_name(clients: Clients) -> None:
    """An update replaces the whole resource."""
    clients.do_all(*GROUP, service(description="something"))
    body = {**(service().body or {}), "fingerprint": FRESH}
    assert clients.do(Step(method="regionBackendServices.update", name="service", body=body)) == DONE
    assert clients.get("regionBackendServices", "service").description == ""


@pytest.mark.unjudged("null for a field")
def test_null_in_a_patch_takes_a_field_away(judged: tuple[str, Judge], clients: Clients) -> None:
    """By JSON merge patch, null takes a field away."""
    endpoint, judge = judged
    clients.do_all(firewall(sourceRanges=["10.0.0.0/8"], destinationRanges=["192.0.2.1/32"]))
    path = f"projects/{PROJECT}/global/firewalls/let-in"
    status, _ = raw(endpoint, "PATCH", path, {"name": "let-in", "destinationRanges": None})
    assert status == 200
    assert [fault for fault in judge.faults if "destinationRanges" not in fault] == []
    judge.faults.clear()


@pytest.mark.parametrize(
    "step",
    [
        patch("forwardingRules", "rule", IPAddress="198.51.100.9"),
        patch("forwardingRules", "rule", backendService=f"{IN_REGION}/backendServices/second"),
        patch("regionBackendServices", "service", loadBalancingScheme="INTERNAL"),
        patch("regionBackendServices", "service", protocol="TCP"),
        patch("regionBackendServices", "service", network=f"{URL}/global/networks/default"),
    ],
    ids=lambda step: f"{step.service}-{min(step.body)}",
)
def test_fixed_field_is_never_changed(clients: Clients, step: Step) -> None:
    """What cannot change is refused, whatever else is right."""
    clients.do_all(*SERVED, service(name="second"))
    assert clients.do(step) == Outcome("invalid")


def test_labels_come_by_their_own_verb(clients: Clients) -> None:
    """Labels at insert are kept for an address and dropped for a rule; setLabels takes the present fingerprint."""
    clients.do_all(address(labels={"a": "b"}), *SERVED[1:-1], rule(labels={"a": "b"}))
    assert dict(clients.get("addresses", "address").labels) == {"a": "b"}
    assert dict(clients.get("forwardingRules", "rule").labels) == {}
    labels = {"labels": {"c": "d"}}
    unlocked = Step(method="forwardingRules.setLabels", name="rule", body=labels)
    assert clients.do(unlocked) == Outcome("required")
    assert clients.do(
        Step(method="forwardingRules.setLabels", name="rule", body={**labels, "labelFingerprint": "c3RhbGU="})
    ) == Outcome("conditionNotMet")
    first = clients.get("forwardingRules", "rule").label_fingerprint
    assert (
        clients.do(Step(method="forwardingRules.setLabels", name="rule", body={**labels, "labelFingerprint": first}))
        == DONE
    )
    assert dict(clients.get("forwardingRules", "rule").labels) == {"c": "d"}


def test_set_target_needs_a_target_of_the_same_kind(clients: Clients) -> None:
    """A rule's target can be another target instance, and a rule with a service gets none."""
    second = f"{URL}/zones/{ZONE}/targetInstances/second"
    clients.do_all(*SERVED, target(), target(name="second"), address(name="other"))
    clients.do_all(
        rule(name="direct", IPAddress="other", backendService=None, target=f"zones/{ZONE}/targetInstances/target")
    )
    move = {"target": second}
    assert clients.do(Step(method="forwardingRules.setTarget", name="rule", body=move)) == Outcome("invalid")
    assert clients.do(Step(method="forwardingRules.setTarget", name="direct", body=move)) == DONE
    assert clients.get("forwardingRules", "direct").target == second


# ---------------------------------------------------------------- endpoints
def test_attaching_twice_and_detaching_what_is_absent_are_refused(clients: Clients) -> None:
    """Nobody comes to rely on what the real service may do when an endpoint is there already, or is not."""
    clients.do_all(*GROUP)
    assert clients.do(attach("node-a")) == Outcome("invalid")
    assert clients.do(detach("node-a")) == DONE
    assert clients.do(detach("node-a")) == Outcome("invalid")


@pytest.mark.parametrize(
    ("endpoint", "word"),
    [
        ({"instance": "node-a", "port": 80}, "invalid"),
        ({"instance": "node-a", "ipAddress": "10.128.0.99"}, "invalid"),
        ({"instance": "nobody"}, "invalid"),
        ({"ipAddress": "10.128.0.11"}, "required"),
        ({"instance": "node-a", "ipAddress": "10.128.0.11"}, "DONE"),
    ],
)
def test_endpoint_is_an_instance_and_nothing_else(clients: Clients, endpoint: dict[str, object], word: str) -> None:
    """An endpoint has no port, and if it has an address, that of its instance."""
    clients.do_all(group())
    body = {"networkEndpoints": [endpoint]}
    step = Step(method="networkEndpointGroups.attachNetworkEndpoints", name="nodes", body=body)
    assert clients.do(step) == Outcome(word)


def test_endpoints_are_listed_by_a_post(clients: Clients) -> None:
    """The endpoints of a group are listed with the addresses of their instances."""
    clients.do_all(*GROUP)
    step = Step(method="networkEndpointGroups.listNetworkEndpoints", name="nodes", body={})
    listed = clients.of("networkEndpointGroups").list_network_endpoints(clients.request_of(step), retry=None)
    assert [each.network_endpoint.ip_address for each in listed] == ["10.128.0.11"]
    assert clients.get("networkEndpointGroups", "nodes").size == 1


# ---------------------------------------------------------------- request ids
def test_request_id_returns_its_first_operation(clients: Clients) -> None:
    """A second request with the same id changes nothing and answers with the first one's operation."""
    key = str(uuid.uuid4())
    first = clients.begin(address(), request_id=key)
    again = clients.begin(address(), request_id=key)
    assert (again.name, again.client_operation_id) == (first.name, key)
    clients.finish(first)
    assert clients.begin(address(), request_id=key).status == ENDED


@pytest.mark.parametrize("key", ["no-uuid", "00000000-0000-0000-0000-000000000000"])
def test_request_id_is_a_uuid_and_not_zero(clients: Clients, key: str) -> None:
    """A request id that is none is refused."""
    with pytest.raises(BadRequest):
        clients.begin(address(), request_id=key)


def test_request_id_of_another_request_is_a_misuse(clients: Clients, engine: ComputeEngine) -> None:
    """One id for two different requests is refused, and remembered against the client."""
    key = str(uuid.uuid4())
    clients.begin(address(), request_id=key)
    with pytest.raises(BadRequest):
        clients.begin(address(name="other"), request_id=key)
    assert len(engine.misuses) == 1
    engine.misuses.clear()


# ---------------------------------------------------------------- lists
def test_pages_hold_everything_once(clients: Clients) -> None:
    """Through pages of two, every address comes once, in the order of their names."""
    names = [f"a-{number}" for number in range(5)]
    clients.do_all(*(address(name=name) for name in names))
    request = {"project": PROJECT, "region": REGION, "max_results": 2, "filter": "name eq 'a-.*'"}
    assert [each.name for each in clients.of("addresses").list(request, retry=None)] == names


def test_page_goes_on_where_the_last_one_ended_though_that_is_gone(clients: Clients) -> None:
    """What is deleted between two pages takes nothing else out of the list."""
    clients.do_all(*(address(name=f"a-{number}") for number in range(4)))
    request = {"project": PROJECT, "region": REGION, "max_results": 2, "filter": "name eq 'a-.*'"}
    pages = clients.of("addresses").list(request, retry=None).pages
    first = [each.name for each in next(pages).items]
    clients.do_all(delete("addresses", "a-1"))
    assert (first, [each.name for each in next(pages).items]) == (["a-0", "a-1"], ["a-2", "a-3"])


@pytest.mark.parametrize("order", ["name desc", "creationTimestamp desc"])
def test_list_is_turned_around(clients: Clients, order: str) -> None:
    """A list can begin with the last name, or with the newest, also over pages."""
    clients.do_all(address(name="a-1"), address(name="a-2"), address(name="a-3"))
    request = {"project": PROJECT, "region": REGION, "max_results": 2, "filter": "name eq 'a-.*'", "order_by": order}
    assert [each.name for each in clients.of("addresses").list(request, retry=None)] == ["a-3", "a-2", "a-1"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name eq 'nat-.*'", ["nat-1"]),
        ("name eq 'nat'", []),
        ("name ne 'nat-.*'", ["address", "inside-1"]),
        ("name=nat-1", ["nat-1"]),
        ('name = "nat-1" AND addressType = "EXTERNAL"', ["nat-1"]),
        ("(name eq 'nat.*') (addressType eq INTERNAL)", []),
        ("addressType != INTERNAL", ["address", "nat-1"]),
    ],
)
def test_filter_matches_the_whole_field(clients: Clients, text: str, names: list[str]) -> None:
    """A regular expression has to match all of a field, and of several conditions all."""
    clients.do_all(address())
    request = {"project": PROJECT, "region": REGION, "filter": text}
    assert [each.name for each in clients.of("addresses").list(request, retry=None)] == names


@pytest.mark.parametrize("text", ["name", "name eq 'a' OR name eq 'b'", "name eq '('", "name:nat*"])
def test_filter_that_is_not_known_is_refused(clients: Clients, text: str) -> None:
    """A filter that the emulator does not know is refused, not ignored."""
    with pytest.raises(BadRequest):
        list(clients.of("addresses").list({"project": PROJECT, "region": REGION, "filter": text}, retry=None))


def test_aggregated_list_names_every_scope(clients: Clients) -> None:
    """A list over all scopes holds those without results too, with a warning in place of them."""
    clients.do_all(*GROUP)
    listed = dict(clients.of("networkEndpointGroups").aggregated_list({"project": PROJECT}, retry=None))
    assert [each.name for each in listed[f"zones/{ZONE}"].network_endpoint_groups] == ["nodes"]
    assert listed["zones/europe-west4-b"].warning.code == "NO_RESULTS_ON_PAGE"


@pytest.mark.unjudged("what the description does not know is sent on purpose")
# ---------------------------------------------------------------- what it does not know
@pytest.mark.parametrize(
    ("asked", "body", "status", "word"),
    [
        (f"GET projects/{PROJECT}/zones/{ZONE}/disks", None, 501, "notImplemented"),
        (f"POST projects/{PROJECT}/regions/{REGION}/addresses/a/move", {}, 501, "notImplemented"),
        (f"GET projects/{PROJECT}/regions/{REGION}/addresses?returnSuccess=true", None, 400, "invalid"),
        (f"GET projects/{PROJECT}/regions/{REGION}/addresses?maxResults=many", None, 400, "invalid"),
        (f"GET projects/{PROJECT}/regions/{REGION}/addresses?pageToken=x", None, 400, "invalid"),
        (f"GET projects/{PROJECT}/regions/{REGION}/addresses?alt=media", None, 400, "invalid"),
        (f"GET projects/{PROJECT}/regions/nowhere/addresses", None, 400, "invalid"),
        (f"GET projects/another/regions/{REGION}/addresses", None, 404, "notFound"),
        (f"POST projects/{PROJECT}/regions/{REGION}/addresses", {"name": "a", "adress": "x"}, 400, "invalid"),
        (f"POST projects/{PROJECT}/regions/{REGION}/addresses", {"name": "A"}, 400, "invalid"),
        (f"POST projects/{PROJECT}/regions/{REGION}/addresses", {"name": 7}, 400, "invalid"),
        (
            f"POST projects/{PROJECT}/regions/{REGION}/addresses",
            {"name": "a", "networkTier": "GOLD"},
            400,
            "invalid",
        ),
        (f"POST projects/{PROJECT}/regions/{REGION}/addresses", {"name": "a", "labels": {"b": 1}}, 400, "invalid"),
        (f"POST projects/{PROJECT}/regions/{REGION}/addresses", {}, 400, "required"),
        (f"POST projects/{PROJECT}/regions/{REGION}/addresses", [], 400, "parseError"),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else None,
)
def test_unknown_is_refused_loudly(judged: tuple[str, Judge], asked: str, body: object, status: int, word: str) -> None:
    """No unknown method, scope, field, word or parameter is ever passed over in silence."""
    endpoint, judge = judged
    answered, answer = raw(endpoint, *asked.split(), body)
    assert (answered, reason(answer)) == (status, word)
    judge.faults.clear()


@pytest.mark.unjudged("null for a field")
def test_output_fields_and_null_count_as_absent(judged: tuple[str, Judge], clients: Clients) -> None:
    """What only the service writes is ignored in requests, and null is as good as nothing."""
    endpoint, judge = judged
    body = {"name": "a", "status": "IN_USE", "selfLink": "x", "region": "y", "description": None}
    status, _ = raw(endpoint, "POST", f"projects/{PROJECT}/regions/{REGION}/addresses", body)
    assert status == 200
    assert [fault for fault in judge.faults if "description" not in fault and "status" not in fault] == []
    judge.faults.clear()


# ---------------------------------------------------------------- quotas and counts
def test_calls_beyond_the_quota_wait_for_the_next_minute() -> None:
    """Of one method so many calls are answered in a minute as the quota says, and more when the next begins."""
    clock = ManualClock(600.0)
    engine = ComputeEngine(clock=clock, quotas=Quotas(calls_per_minute=3))
    look = Request(http="GET", target=f"/compute/v1/projects/lab/regions/{REGION}/addresses")
    assert [engine.answer(look).status for _ in range(5)] == [200, 200, 200, 403, 403]
    clock.advance(60)
    reply = engine.answer(look)
    assert (reply.status, engine.calls_of("addresses.list")) == (200, 6)
    assert engine.calls["addresses.list", 10] == 5


def test_quota_of_resources_fails_the_operation(clients: Clients, engine: ComputeEngine) -> None:
    """What exceeds the number of resources is found when the operation is done."""
    engine.quotas = Quotas(resources={**engine.quotas.resources, "STATIC_ADDRESSES": 3})
    assert clients.do(address()) == DONE
    assert clients.do(address(name="one-too-many")) == Outcome("QUOTA_EXCEEDED")


def test_quota_of_operations_counts_those_that_run(clients: Clients, engine: ComputeEngine) -> None:
    """So many changes may be under way at once, and the next is refused until one has ended."""
    engine.quotas = Quotas(operations=1)
    operation = clients.begin(address())
    assert clients.do(address(name="second")) == Outcome("rateLimitExceeded")
    clients.finish(operation)
    assert clients.do(address(name="second")) == DONE


# ---------------------------------------------------------------- health, and addresses without a name
def test_health_of_a_group_is_told(clients: Clients, engine: ComputeEngine) -> None:
    """A balancer says who of a group passes its checks; of a group that it does not have it says nothing."""
    clients.do_all(*GROUP, check(), balancer())
    ask = Step(method="regionBackendServices.getHealth", name="service", body={"group": group_url()})
    healthy = clients.of("regionBackendServices").get_health
    told = [each.health_state for each in healthy(clients.request_of(ask), retry=None).health_status]
    engine.state.unhealthy.add(f"{URL}/zones/{ZONE}/instances/node-a")
    told += [each.health_state for each in healthy(clients.request_of(ask), retry=None).health_status]
    assert told == ["HEALTHY", "UNHEALTHY"]
    ask = Step(method="regionBackendServices.getHealth", name="service", body={"group": group_url("other")})
    with pytest.raises(BadRequest):
        healthy(clients.request_of(ask), retry=None)


def test_rule_without_address_gets_one_that_lives_as_long(clients: Clients) -> None:
    """A rule that names no address gets one of Google's, and its network's where it is internal."""
    clients.do_all(*GROUP, service(), service(name="inner", loadBalancingScheme="INTERNAL", network=NETWORK))
    clients.do_all(rule(IPAddress=None), inner_rule(name="inner", IPAddress=None, backendService="inner"))
    assert clients.get("forwardingRules", "rule").I_p_address.startswith("198.51.100.")
    assert clients.get("forwardingRules", "inner").I_p_address.startswith("10.128.")


def test_address_that_is_being_reserved_is_not_ready(clients: Clients) -> None:
    """A rule for an address that is not there yet is refused for now."""
    clients.do_all(*GROUP, service())
    operation = clients.begin(address())
    assert clients.do(rule()) == Outcome("resourceNotReady")
    clients.finish(operation)
    assert clients.do(rule()) == DONE


# ---------------------------------------------------------------- what the project brings along
def test_rule_of_another_user_is_there_from_the_beginning(clients: Clients, engine: ComputeEngine) -> None:
    """A project may begin with what others have made, under the same rules, and it is in the way as theirs is."""
    direct = {"name": "theirs", "IPAddress": "nat-1", "target": f"zones/{ZONE}/targetInstances/theirs"}
    target = {"name": "theirs", "zone": ZONE, "instance": "node-a"}
    theirs = (("targetInstances.insert", target), ("forwardingRules.insert", {**direct, "ports": ["80"]}))
    seed(engine, Description(subnetworks=(), resources=theirs))
    assert list(clients.get("addresses", "nat-1").users) == [f"{IN_REGION}/forwardingRules/theirs"]
    clients.do_all(*GROUP, service())
    assert clients.do(rule(IPAddress="nat-1", IPProtocol="TCP")) == Outcome("invalid")
    assert clients.do(rule(IPAddress="nat-1")) == DONE


@pytest.mark.parametrize(
    ("method", "body", "said"),
    [
        ("forwardingRules.insert", {"name": "r", "IPAddress": "nowhere"}, "cannot be found"),
        ("disks.insert", {"name": "d"}, "not a method that makes a resource"),
        ("networkEndpointGroups.insert", {"name": "g", "zone": "moon-a"}, "the project has no zones/moon-a"),
    ],
)
def test_project_that_the_service_would_refuse_is_refused(
    engine: ComputeEngine, method: str, body: dict[str, object], said: str
) -> None:
    """What a project brings along keeps the rules too, or is named."""
    with pytest.raises(ConfigError, match=said):
        seed(engine, Description(subnetworks=(), resources=((method, body),)))


# ---------------------------------------------------------------- one's own prefixes
def test_address_is_reserved_out_of_a_delegated_prefix(clients: Clients) -> None:
    """An address comes out of a prefix of one's own by its name, or by its value."""
    found = clients.get("publicDelegatedPrefixes", "own")
    assert found.ip_cidr_range == "203.0.113.0/28"
    clients.do_all(address(ipCollection=found.self_link), address(name="second", address="203.0.113.5"))
    assert clients.get("addresses", "address").address.startswith("203.0.113.")
    assert clients.get("addresses", "second").address == "203.0.113.5"


def test_internal_address_without_value_is_of_its_subnetwork(clients: Clients) -> None:
    """An internal address that was not named is chosen in the subnetwork, with the purpose that it is given then."""
    clients.do_all(inside())
    found = clients.get("addresses", "inside")
    assert (found.address.startswith("10.128."), found.purpose, found.subnetwork) == (True, "GCE_ENDPOINT", SUBNETWORK)
