"""What the allocator gce does next follows from what stands and what is wanted; no call is made for it."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistip.backends.gce.errors import error_of
from persistip.backends.gce.plan import (
    Attach,
    Delete,
    Detach,
    Insert,
    Patch,
    Plan,
    Planner,
    Seen,
    Step,
    Target,
)
from persistip.backends.gce.resources import Body, Instance, Owner, Resource, Service
from persistip.errors import (
    BackendError,
    RefusedError,
    RejectedError,
    StaleError,
    ThrottledError,
    UnavailableError,
)
from persistip.model.conditions import Reason

NETWORK, SUBNET = "projects/p/global/networks/n", "projects/p/regions/r/subnetworks/s"
PLANNER = Planner(owner=Owner("cluster"), project="p", region="r", sources=("10.0.0.0/8",))
MACHINES = {name: Instance(name=name, zone=f"r-{name}", network=NETWORK, subnetwork=SUBNET) for name in "abc"}
VALUES = ("198.51.100.5", "198.51.100.6")
ADDRESSES: Mapping[str, Body | None] = {
    value: {"name": "theirs", "address": value, "addressType": "EXTERNAL", "networkTier": "PREMIUM"} for value in VALUES
}
TARGET = Target(route="tenant/web", leader="a", prefixes=tuple(map(ip_network, VALUES)), nodes=("a", "b"))


class Project:
    """What a project would be after steps, in the simplest way that could be so."""

    def __init__(self) -> None:
        self.resources: dict[Resource, dict[str, Any]] = {}
        self.endpoints: dict[Resource, frozenset[str]] = {}

    @property
    def seen(self) -> Seen:
        return Seen(
            resources=self.resources, endpoints=self.endpoints, instances=dict(MACHINES), addresses=dict(ADDRESSES)
        )

    def take(self, step: Step) -> None:
        """Carry out a step that the service would take."""
        match step:
            case Insert(resource, body):
                assert resource not in self.resources
                for used in self.references(body):
                    assert used in self.urls()
                self.resources[resource] = {**body}
                if resource.service is Service.GROUPS:
                    self.endpoints[resource] = frozenset()
            case Patch(resource, body):
                self.resources[resource] = merged(self.resources[resource], body)
            case Delete(resource):
                url = resource.url("p")
                assert not any(url in self.references(each) for each in self.resources.values())
                del self.resources[resource]
                self.endpoints.pop(resource, None)
            case Attach(resource, names):
                assert not self.endpoints[resource] & set(names)
                self.endpoints[resource] |= set(names)
            case Detach(resource, names):
                assert set(names) <= self.endpoints[resource]
                assert not {self.leader_of(each) for each in self.resources.values()} & set(names)
                self.endpoints[resource] -= set(names)

    def urls(self) -> set[str]:
        return {each.url("p") for each in self.resources}

    @staticmethod
    def references(body: Mapping[str, Any]) -> set[str]:
        return (
            {body["backendService"]}
            if "backendService" in body
            else {each["group"] for each in body.get("backends", ())}
        )

    @staticmethod
    def leader_of(body: Mapping[str, Any]) -> str:
        return str(body.get("haPolicy", {}).get("leader", {}).get("networkEndpoint", {}).get("instance", ""))

    def rest(self, target: Target | None, route: str = TARGET.route) -> Plan:
        """Carry out plans until nothing is left to do."""
        for _ in range(50):
            plan = PLANNER.withdraw(self.seen, route) if target is None else PLANNER.attract(self.seen, target)
            steps = plan.steps or plan.housekeeping
            if not steps:
                return plan
            for step in steps:
                self.take(step)
        raise AssertionError("no end to it")


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a patch over a body."""
    return {
        **old,
        **{key: merged(old.get(key, {}), value) if isinstance(value, dict) else value for key, value in new.items()},
    }


targets = st.builds(
    Target,
    route=st.just(TARGET.route),
    leader=st.sampled_from("abc"),
    prefixes=st.lists(st.sampled_from(TARGET.prefixes), unique=True, min_size=1).map(tuple),
    nodes=st.lists(st.sampled_from("abc"), unique=True).map(tuple),
    fast=st.booleans(),
)


@given(first=targets, second=targets, gone=st.data())
def test_any_beginning_comes_to_what_is_wanted(first: Target, second: Target, gone: st.DataObject) -> None:
    """From whatever stands, also where somebody has taken a part of it away, plans lead to the same end."""
    clean, dirty = Project(), Project()
    clean.rest(second)
    dirty.rest(first)
    for rule in [each for each in dirty.resources if each.service in (Service.RULES, Service.FIREWALLS)]:
        if gone.draw(st.booleans()):
            del dirty.resources[rule]
    plan = dirty.rest(second)
    assert plan.obstacles == ()
    assert PLANNER.leader(dirty.seen, TARGET.route) == second.leader
    kinds = (Service.RULES, Service.FIREWALLS)
    assert {each: dirty.resources[each] for each in dirty.resources if each.service in kinds} == {
        each: clean.resources[each] for each in clean.resources if each.service in kinds
    }
    attached = {name for names in dirty.endpoints.values() for name in names}
    assert attached == set(second.attached)
    dirty.rest(None)
    assert dirty.resources == {}


@given(first=targets, second=targets)
def test_others_resources_are_never_part_of_a_step(first: Target, second: Target) -> None:
    """Neither those of another route nor those of another cluster under names like ours."""
    project = Project()
    project.rest(attrs.evolve(first, route="tenant/other"))
    foreign = Resource(Service.FIREWALLS, "global", f"{PLANNER.owner.prefix}his")
    project.resources[foreign] = {"name": foreign.name, "description": Owner("other").mark(TARGET.route)}
    before = {each: dict(body) for each, body in project.resources.items()}
    project.rest(second)
    project.rest(None)
    assert project.resources == before


def test_move_between_prepared_nodes_is_one_patch_before_all_else() -> None:
    """Also where other work is due at the same time."""
    project = Project()
    project.rest(TARGET)
    project.resources = {
        each: body for each, body in project.resources.items() if each.service is not Service.FIREWALLS
    }
    plan = PLANNER.attract(project.seen, attrs.evolve(TARGET, leader="b", nodes=("b", "c")))
    assert [(type(step), step.resource.service) for step in plan.steps] == [(Patch, Service.SERVICES)]
    assert isinstance(plan.steps[0], Patch)
    assert plan.steps[0].is_move


def test_links_and_ranges_of_other_spellings_are_no_difference() -> None:
    """What is read back has other hosts, versions and spellings than what was sent."""
    project = Project()
    project.rest(TARGET)
    for resource, body in project.resources.items():
        for key, value in body.items():
            if isinstance(value, str) and value.startswith("https://"):
                body[key] = value.replace("www.googleapis.com/compute/v1", "compute.googleapis.com/compute/beta")
        if resource.service is Service.FIREWALLS:
            body["destinationRanges"] = [value.partition("/")[0] for value in reversed(body["destinationRanges"])]
            body["network"] = f"https://www.googleapis.com/compute/v1/{NETWORK}"
    plan = PLANNER.attract(project.seen, TARGET)
    assert (plan.steps, plan.housekeeping) == ((), ())


@pytest.mark.parametrize(
    ("address", "prefix", "words"),
    [
        (None, VALUES[0], "not reserved in region r of project p"),
        ({"addressType": "INTERNAL", "name": "x"}, VALUES[0], "is internal"),
        ({"users": ["projects/p/regions/r/forwardingRules/his"]}, VALUES[0], "his, which is not ours"),
        ({}, "2600:1900::1/128", "/96"),
    ],
)
def test_address_that_cannot_be_used_is_told(address: Body | None, prefix: str, words: str) -> None:
    """By what it is, in words for the route's condition."""
    target = attrs.evolve(TARGET, prefixes=(ip_network(prefix),))
    value = prefix.partition("/")[0]
    seen = Seen(instances=dict(MACHINES), addresses={value: address})
    obstacles = PLANNER.attract(seen, target).obstacles
    assert [each.reason for each in obstacles] == [Reason.ADDRESS_NOT_USABLE]
    assert words in obstacles[0].message


def test_address_that_another_route_of_ours_still_has_is_waited_for() -> None:
    """It goes by itself, so it is no fault of anybody's."""
    other = PLANNER.rule_of("tenant/other", TARGET.prefixes[0])
    body = {**(ADDRESSES[VALUES[0]] or {}), "users": [other.url("p")]}
    seen = Seen(instances=dict(MACHINES), addresses={**ADDRESSES, VALUES[0]: body})
    obstacles = PLANNER.attract(seen, TARGET).obstacles
    assert [each.reason for each in obstacles] == [""]


@given(
    route=st.text(min_size=1, max_size=300),
    what=st.text(max_size=80),
    tail=st.text(max_size=80),
)
def test_every_name_is_one_that_the_service_takes(route: str, what: str, tail: str) -> None:
    """At most 63 letters, digits and dashes, beginning with a letter and not ending in a dash; known by its prefix."""
    owner = Owner("cluster")
    name = owner.name(route, what, tail)
    assert len(name) <= 63
    assert name.startswith(owner.prefix)
    assert name.isascii()
    assert name == name.lower().strip("-")
    assert all(each.isalnum() or each == "-" for each in name)


def test_names_and_marks_tell_clusters_routes_and_purposes_apart() -> None:
    """No two of them share a name, and only one's own mark is read as one's own."""
    names = {
        Owner(cluster).name(route, what)
        for cluster in ("one", "two")
        for route in ("a/b-c", "a-b/c", "a/b")
        for what in ("", "x")
    }
    assert len(names) == 12
    mark = Owner("one").mark("a/b")
    assert Owner("one").route_of({"description": mark}) == "a/b"
    for body in ({"description": Owner("two").mark("a/b")}, {"description": "[]"}, {"description": "{"}, {}):
        assert Owner("one").route_of(body) is None


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (409, ["alreadyExists"], StaleError),
        (409, ["IP_IN_USE_BY_ANOTHER_RESOURCE"], RejectedError),
        (400, ["resourceInUseByAnotherResource"], StaleError),
        (400, ["resourceNotReady"], StaleError),
        (412, ["conditionNotMet"], StaleError),
        (404, ["notFound"], StaleError),
        (403, ["rateLimitExceeded", "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED"], ThrottledError),
        (429, [], ThrottledError),
        (403, ["QUOTA_EXCEEDED"], RefusedError),
        (403, ["forbidden"], RefusedError),
        (401, [], RefusedError),
        (400, ["invalid"], RejectedError),
        (502, [], UnavailableError),
    ],
)
def test_answers_become_what_the_loop_must_do(status: int, words: list[str], kind: type[BackendError]) -> None:
    """By status and reason words; what people read decides nothing."""
    error = error_of(status, words, "said", operation="insert", target="x", now=90.0)
    assert type(error) is kind
    if isinstance(error, ThrottledError):
        assert error.retry_after_seconds == 30.0
    if isinstance(error, RefusedError):
        assert error.reason == (Reason.QUOTA_EXCEEDED if "QUOTA_EXCEEDED" in words else Reason.PERMISSION_DENIED)
