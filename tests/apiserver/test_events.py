"""What does a person who reads Events of a real API server see of what is said again and again?"""

import pytest
from whole_system import System, Tenancy, address

pytestmark = pytest.mark.requires("apiserver")

TIMES = 3
OUTSIDE = "198.51.100.1"


def test_what_is_said_again_is_one_event_whose_series_grows(system: System, tenancy: Tenancy) -> None:
    """A route refused three times for one reason has one Event of it, which counts them, and of the rest as well."""
    (name,) = tenancy.pairs(1)
    events = f"/apis/events.k8s.io/v1/namespaces/{tenancy.name}/events"
    for _ in range(TIMES):
        tenancy.edit_route(name, addresses=[{"type": "IPAddress", "value": OUTSIDE}])
        system.settle(lambda: tenancy.reasons(name).get("Ready") == "AddressNotInPool", "a refusal")
        tenancy.edit_route(name, addresses=[{"type": "IPAddress", "value": address(0)}])
        system.settle(lambda: tenancy.is_held(name, f"{name}-0", address(0)), "its way back")
    uid = system.find(f"{tenancy.routes}/{name}")["metadata"]["uid"]
    # Events go last in a pass, behind what they tell of.
    system.settle(lambda: counts(system, events, uid).get("AddressNotInPool") == [TIMES], "the series")
    system.settle(lambda: counts(system, events, uid).get("Accepted") == [TIMES + 1], "the other series")
    (refused,) = [each for each in told(system, events, uid) if each["reason"] == "AddressNotInPool"]
    assert refused["type"] == "Warning"
    assert OUTSIDE in refused["note"]
    assert refused["eventTime"] < refused["series"]["lastObservedTime"]
    assert refused["regarding"]["kind"] == "GKEIPRoute"
    assert refused["reportingController"] == "persistip.dev/persistip-controller"


def told(system: System, events: str, uid: str) -> list[dict]:
    """Return the Events about an object."""
    return [each for each in system.ask("GET", events)["items"] if each["regarding"]["uid"] == uid]


def counts(system: System, events: str, uid: str) -> dict[str, list[int]]:
    """Return how often each reason was given, one number an Event."""
    found: dict[str, list[int]] = {}
    for each in told(system, events, uid):
        found.setdefault(each["reason"], []).append((each.get("series") or {"count": 1})["count"])
    return found
