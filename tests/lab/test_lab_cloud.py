"""The lab's cloud: the project's leader and the frames of nodes decide where real packets go."""

import asyncio
import contextlib
import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from persistip.backends.announce import PacketAnnouncer
from persistip.lab.cloud import LabCloud
from persistip.lab.fabric import CLIENT, UPLINK, Fabric
from persistip.lab.reserved import Reserved
from persistip.model.entry import Announcement, LinkRef, Manner
from persistip.testing.compute_engine import Request, insert

pytestmark = pytest.mark.requires("kernel")

ADDRESS, PORT = "203.0.113.10", 7000
RESERVED = (Reserved(name="web", ip=ADDRESS, is_external=True),)


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    with Fabric({"node-a": "ptp", "node-b": "ptp"}) as made:
        yield made


@pytest.fixture
def cloud(fabric: Fabric) -> Iterator[LabCloud]:
    with LabCloud(fabric, RESERVED, latency="none", seed_number=0) as made:
        yield made


def serve(cloud: LabCloud, fast_ip_move: str) -> None:
    """Have the project lead the address to node-a, as our backend would ask for it."""
    engine = cloud.engine
    url = f"https://www.googleapis.com/compute/v1/projects/{engine.state.project}"
    region, network = engine.state.region, f"{url}/global/networks/default"
    zones = {name: engine.state.zones[number] for number, name in enumerate(("node-a", "node-b"))}
    for name, zone in zones.items():
        group = {"name": "nodes", "networkEndpointType": "GCE_VM_IP", "network": network, "zone": zone}
        insert(engine, "networkEndpointGroups.insert", {**group, "subnetwork": f"regions/{region}/subnetworks/default"})
        attach(cloud, zone, name)
    leader = {"backendGroup": f"{url}/zones/{zones['node-a']}/networkEndpointGroups/nodes"}
    service = {
        "name": "service",
        "loadBalancingScheme": "EXTERNAL",
        "protocol": "UNSPECIFIED",
        "connectionDraining": {"drainingTimeoutSec": 0},
        "haPolicy": {"fastIPMove": fast_ip_move, "leader": {**leader, "networkEndpoint": {"instance": "node-a"}}},
        "backends": [{"group": f"{url}/zones/{zone}/networkEndpointGroups/nodes"} for zone in zones.values()],
    }
    if fast_ip_move == "GARP_RA":
        service["network"] = network
    insert(engine, "regionBackendServices.insert", service)
    rule = {"name": "rule", "IPAddress": f"regions/{region}/addresses/web", "IPProtocol": "L3_DEFAULT"}
    rule |= {"allPorts": True, "loadBalancingScheme": "EXTERNAL"}
    insert(engine, "forwardingRules.insert", {**rule, "backendService": f"regions/{region}/backendServices/service"})


def attach(cloud: LabCloud, zone: str, node: str) -> None:
    """Attach a node to its zone's group, over HTTP's other side."""
    path = f"/compute/v1/projects/{cloud.engine.state.project}/zones/{zone}/networkEndpointGroups/nodes"
    body = json.dumps({"networkEndpoints": [{"instance": node}]}).encode()
    reply = cloud.engine.answer(Request(http="POST", target=f"{path}/attachNetworkEndpoints", body=body))
    assert reply.status == 200, reply.body
    wait_until(lambda: not cloud.engine.operations.running)


def wait_until(holds: Callable[[], bool], seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert holds()


@contextlib.contextmanager
def listening(fabric: Fabric) -> Iterator[dict[str, socket.socket]]:
    """A socket on every node that has the address as its own, as a Pod behind it would."""
    sockets = {}
    with contextlib.ExitStack() as stack:
        for name in fabric.nodes:
            fabric.netlink(name, lambda netlink: netlink.addr("add", index=1, address=ADDRESS, prefixlen=32))
            with fabric.inside(name):
                sockets[name] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sockets[name].bind((ADDRESS, PORT))
        yield sockets


def who_hears(fabric: Fabric, sockets: dict[str, socket.socket]) -> str:
    """Send one packet from the client outside; the node that it came to, or nothing."""
    with fabric.inside(CLIENT), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"?", (ADDRESS, PORT))
    heard, _, _ = select.select(list(sockets.values()), [], [], 0.5)
    for each in heard:
        each.recv(10)
    return next((name for name, each in sockets.items() if each in heard), "")


def announce(fabric: Fabric, node: str, manner: Manner) -> None:
    """Have the agent's announcer say, on the node's uplink, that it has the address."""
    index = fabric.netlink(node, lambda netlink: netlink.link_lookup(ifname=UPLINK)[0])
    wanted = Announcement(prefix=ip_network(ADDRESS), link=LinkRef(UPLINK, index), epoch=1, manner=manner)

    async def run() -> None:
        async with PacketAnnouncer() as announcer:
            (outcome,) = await announcer.announce(frozenset({wanted}))
            assert outcome.is_done

    loop = asyncio.new_event_loop()
    try:
        with fabric.inside(node):
            loop.run_until_complete(run())
    finally:
        loop.close()


def test_packet_goes_where_the_leader_is_and_nowhere_without_a_rule(fabric: Fabric, cloud: LabCloud) -> None:
    """Before the project has a rule for the address nothing arrives, though both nodes have it."""
    with listening(fabric) as sockets:
        assert who_hears(fabric, sockets) == ""
        serve(cloud, "DISABLED")
        wait_until(lambda: cloud.leaders() == {ADDRESS: "node-a"})
        time.sleep(0.05)
        assert who_hears(fabric, sockets) == "node-a"


def test_frame_of_the_announcer_moves_the_address_at_once(fabric: Fabric, cloud: LabCloud) -> None:
    """With fast IP move one frame of the agent's own announcer leads packets to its node, and no call is made."""
    with listening(fabric) as sockets:
        serve(cloud, "GARP_RA")
        calls = sum(cloud.engine.calls.values())
        announce(fabric, "node-b", Manner.FAST_IP_MOVE)
        wait_until(lambda: cloud.leaders() == {ADDRESS: "node-b"}, 0.5)
        time.sleep(0.05)
        assert who_hears(fabric, sockets) == "node-b"
        assert sum(cloud.engine.calls.values()) == calls


@pytest.mark.parametrize(("fast_ip_move", "manner"), [("GARP_RA", Manner.LAYER_2), ("DISABLED", Manner.FAST_IP_MOVE)])
def test_frame_that_is_not_meant_for_it_moves_nothing(
    fabric: Fabric, cloud: LabCloud, fast_ip_move: str, manner: Manner
) -> None:
    """What is for neighbours, and any frame where the service has no fast IP move, leaves packets with the leader."""
    with listening(fabric) as sockets:
        serve(cloud, fast_ip_move)
        announce(fabric, "node-b", manner)
        time.sleep(0.1)
        assert cloud.leaders() == {ADDRESS: "node-a"}
        assert who_hears(fabric, sockets) == "node-a"


def test_node_that_is_cut_off_moves_nothing(fabric: Fabric, cloud: LabCloud) -> None:
    """A frame counts when it arrives: one of a node without a cable does not, and with the cable back it does."""
    serve(cloud, "GARP_RA")
    fabric.cut("node-b")
    announce(fabric, "node-b", Manner.FAST_IP_MOVE)
    time.sleep(0.1)
    assert cloud.leaders() == {ADDRESS: "node-a"}
    fabric.restore("node-b")
    announce(fabric, "node-b", Manner.FAST_IP_MOVE)
    wait_until(lambda: cloud.leaders() == {ADDRESS: "node-b"}, 0.5)
