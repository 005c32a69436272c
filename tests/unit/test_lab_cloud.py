"""What the lab knows of a cloud before and beside its packets: what is reserved, and what decisions are told."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import attrs
import pytest
from world import T0, World, furniture, pod, route

from persistip.backends.memory import Dropped, MemoryFabric
from persistip.cli import lab as verb
from persistip.lab import invariants
from persistip.lab.options import LabOptions
from persistip.lab.reserved import Reserved, find_reserved
from persistip.model.attachment import Strategy
from persistip.model.cloud import CloudState
from persistip.model.entry import RouteEntry
from persistip.model.views import RouteView
from persistip.wire.files import find_doubts, read_files

ROUTES = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: pool, namespace: a}
spec:
  gatewayClassName: gke-persistent-regional-internal-managed
  addresses: [{type: gke.networking.io/cidr, value: 10.0.0.0/8}]
  listeners: [{name: all, port: 1, protocol: none}]
---
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {name: web, namespace: a}
spec:
  parentRefs: [{name: pool}]
  addresses:
  - {type: gke.networking.io/cidr, value: 10.1.2.4/31}
  - {type: IPAddress, value: 10.1.2.4}
  - {type: gke.networking.io/cidr, value: 10.2.0.0/16}
  - {type: NamedAddress, value: inside}
  podSelector: {matchLabels: {app: web}}
"""


def test_example_for_the_cloud_is_without_fault() -> None:
    """What a run without files applies can all be used, and its addresses are those that the lab reserves."""
    found = read_files([verb.EXAMPLE_GCE])
    assert (found.faults, find_doubts(found)) == ((), ())
    assert {each.ip: each.is_external for each in find_reserved(found.objects)} == {
        "203.0.113.10": True,
        "203.0.113.11": True,
        "192.0.2.140": False,
    }


def test_each_single_address_of_a_route_is_reserved_once(tmp_path: Path) -> None:
    """Prefixes are taken apart; one that is too large for a route, and one that only has a name, are not reserved."""
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES)
    assert find_reserved(read_files([file]).objects) == (
        Reserved(name="lab-10-1-2-4", ip="10.1.2.4", is_external=False),
        Reserved(name="lab-10-1-2-5", ip="10.1.2.5", is_external=False),
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (LabOptions(latency="slow"), "--latency is a cloud's; name one with --cloud"),
        (LabOptions(cloud="gce", datapath="memory"), "--cloud gce needs real packets: --datapath linux"),
        (LabOptions(), None),
    ],
)
def test_cloud_that_cannot_be_had_is_refused_with_the_fix(options: LabOptions, said: str | None) -> None:
    """Latency without a cloud and a cloud on simulated packets are refused, and nothing else is."""
    assert verb._why_no_cloud(options) == said


def test_options_of_the_cloud_go_into_the_sandbox() -> None:
    """The program inside is told the same cloud and latency."""
    arguments = verb._arguments(LabOptions(cloud="gce", latency="assumed"), (), as_json=False)
    assert {"--cloud=gce", "--latency=assumed"} <= set(arguments)


@pytest.mark.parametrize(
    ("leaders", "state"),
    [
        ({"203.0.113.9": "a"}, CloudState(ready=True, leader="a", owned=("what leads there",))),
        ({"203.0.113.9": None}, CloudState(ready=False)),
        ({}, CloudState(ready=False)),
        (None, None),
    ],
)
def test_decision_made_anew_is_told_where_the_cloud_sends_packets(
    leaders: dict[str, str | None] | None, state: CloudState | None
) -> None:
    """Promises are judged by the data plane; without a cloud the view has none."""
    made = World(*furniture(), route("web", "203.0.113.9"), pod("x", "a"))
    made.settle()
    seen = invariants.World(objects=made.catalog.objects, leaders=leaders)
    view = seen.view(invariants.decide_anew(seen), route("web", "203.0.113.9").key, T0)
    assert isinstance(view, RouteView)
    assert view.cloud == state


def test_fabric_with_a_cloud_asks_nobody_else() -> None:
    """Packets go where the cloud says, whoever was announced, and are lost where it says nowhere."""
    fabric = MemoryFabric()
    for number, name in enumerate("ab", start=1):
        fabric.add_node(name, ip_address(f"192.0.2.1{number}"))
    made = fabric.add_pod("b", "x", [ip_address("10.0.0.1")])
    address = ip_address("203.0.113.9")
    fabric.node("b").entries.add(
        RouteEntry(
            prefix=ip_network(address),
            link=made.link,
            hardware_address=made.hardware_address,
            pod_ip=ip_address("10.0.0.1"),
        )
    )
    places: dict[object, str] = {}
    fabric.leads = places.get
    lost = fabric.send(address, source=ip_address("198.51.100.2"))
    assert lost == Dropped("", "the cloud leads 203.0.113.9 nowhere")
    places[address] = "b"
    assert fabric.send(address, source=ip_address("198.51.100.2")).node == "b"


@pytest.mark.parametrize(("cloud", "strategy"), [(None, Strategy.NEIGHBOURS), (CloudState(ready=False), "haPolicy")])
def test_strategy_is_pinned_when_the_attachment_is_made(cloud: CloudState | None, strategy: str) -> None:
    """With a cloud its leader decides, and without one the neighbours are told."""
    from persistip.decide.plan_route import plan_route  # noqa: PLC0415

    made = World(*furniture(), route("web", "203.0.113.9"), pod("x", "a"))
    plan = plan_route(attrs.evolve(made.view("web"), cloud=cloud))
    (created,) = [action for action in plan.actions if hasattr(action, "attachment")]
    assert created.attachment.spec.strategy == strategy
