"""Do two client libraries that know nothing of each other come to the same, step by step?"""

from typing import Any

import pytest
from compute_clients import ApiClient, Clients
from compute_judge import JudgingProxy
from compute_steps import (
    FRESH,
    GROUP,
    IN_REGION,
    NETWORK,
    SERVED,
    SERVED_INSIDE,
    ZONE,
    Step,
    address,
    attach,
    balancer,
    check,
    delete,
    detach,
    fast,
    firewall,
    inner_rule,
    leader,
    patch,
    rule,
    service,
    target,
)

from persistip.testing import ManualClock
from persistip.testing.compute_engine import EXAMPLE, ComputeEngine, ComputeServer, DataPlane, seed

pytestmark = pytest.mark.requires("gce")

TARGET = f"zones/{ZONE}/targetInstances/target"
LABELS = {"labels": {"a": "b"}, "labelFingerprint": FRESH}
SCENARIO: tuple[tuple[Step, str], ...] = (
    *((step, "DONE") for step in SERVED),
    (address(), "alreadyExists"),
    (rule(name="again"), "invalid"),
    (delete("addresses", "address"), "resourceInUseByAnotherResource"),
    (delete("regionBackendServices", "service"), "resourceInUseByAnotherResource"),
    (detach("node-a"), "resourceInUseByAnotherResource"),
    (attach("node-a"), "invalid"),
    (patch("regionBackendServices", "service", description="mine"), "DONE"),
    (patch("regionBackendServices", "service", fingerprint="c3RhbGU=", description="other"), "conditionNotMet"),
    (service(name="late", connectionDraining=None), "invalid"),
    (service(name="late", network=NETWORK), "invalid"),
    (fast(name="late", network=None), "required"),
    (fast(name="late"), "DONE"),
    (patch("regionBackendServices", "late", haPolicy={"fastIPMove": "DISABLED"}), "invalid"),
    (delete("regionBackendServices", "late"), "DONE"),
    (check(), "DONE"),
    (balancer(name="late"), "DONE"),
    (patch("regionBackendServices", "late", haPolicy={"leader": leader()}), "invalid"),
    (firewall(), "DONE"),
    (firewall(name="both", denied=[{"IPProtocol": "tcp"}]), "invalid"),
    (Step(method="firewalls.patch", name="let-in", body={"name": "let-in", "disabled": True}), "DONE"),
    (target(), "DONE"),
    (address(name="other"), "DONE"),
    (rule(name="direct", IPAddress="other", backendService=None, target=TARGET), "DONE"),
    (delete("targetInstances", "target"), "resourceInUseByAnotherResource"),
    (Step(method="forwardingRules.setLabels", name="rule", body=LABELS), "DONE"),
    (SERVED_INSIDE[0], "DONE"),
    (service(name="inner", loadBalancingScheme="INTERNAL", network=NETWORK), "DONE"),
    (inner_rule(name="inner", backendService=f"{IN_REGION}/backendServices/inner"), "DONE"),
    (inner_rule(name="again", backendService=f"{IN_REGION}/backendServices/inner"), "IP_IN_USE_BY_ANOTHER_RESOURCE"),
    (delete("forwardingRules", "nobody"), "notFound"),
    *((delete("forwardingRules", name), "DONE") for name in ("rule", "direct", "inner")),
    *((delete("regionBackendServices", name), "DONE") for name in ("service", "late", "inner")),
    (detach("node-a"), "DONE"),
    (delete("networkEndpointGroups", "nodes"), "DONE"),
    *((delete("addresses", name), "DONE") for name in ("address", "other", "inside")),
)  # fmt: skip


@pytest.mark.parametrize("library", [Clients, ApiClient], ids=["google-cloud-compute", "google-api-python-client"])
def test_same_scenario_comes_to_the_same(library: Any) -> None:
    """Through either library every step comes to what the service documents, and nothing is left at the end."""
    clock = ManualClock()
    engine = ComputeEngine(clock=clock, latency="assumed")
    seed(engine, EXAMPLE)
    with ComputeServer(engine, pause=clock.advance) as server, JudgingProxy(server.endpoint) as proxy:
        client = library(proxy.endpoint)
        try:
            came = [client.do(step).word for step, _ in SCENARIO]
        finally:
            client.close()
    assert came == [word for _, word in SCENARIO]
    assert proxy.judge.faults == []
    kinds = ("forwardingRules", "backendServices", "networkEndpointGroups")
    assert [link.name for kind in kinds for link, _ in engine.state.all_of(kind)] == []
    assert sorted(link.name for link, _ in engine.state.all_of("addresses")) == ["inside-1", "nat-1"]


def test_insert_that_follows_its_operation_asks_elsewhere(clients: Clients) -> None:
    """The methods without _unary would ask Google's own endpoint, whatever endpoint was named."""
    transport = clients.of("addresses").transport
    assert transport._region_operations_client.api_endpoint == "compute.googleapis.com"


def test_packets_follow_the_steps_of_either_library(clients: Clients, plane: DataPlane) -> None:
    """What was set up by calls is where packets go."""
    clients.do_all(*GROUP, address(), service(), rule())
    assert plane.holder(clients.get("addresses", "address").address) == {"node-a"}
