"""The lab's network, its Pods' program and its probe: they measure what a hand-made path does, and no more."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2.nftables.expressions import genex
from pyroute2.nftables.main import NFTables

from persistip.lab import echo, sandbox
from persistip.lab.fabric import ONLINK, ROUTER, Fabric, NodeSite, PodSite
from persistip.lab.outside import Outside
from persistip.lab.site import ProbeFailedError

pytestmark = pytest.mark.requires("kernel")

ADDRESSES = ("192.0.2.200", "2001:db8:1::f0:1")
PORT = 7000


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    with Fabric() as made:
        yield made


def start_echo(fabric: Fabric, pod: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start the program in the Pod and wait until it says that it is ready."""
    process = fabric.spawn(
        pod,
        [sys.executable, "-S", "-I", echo.__file__],
        stdout=subprocess.PIPE,
        env={"POD_NAME": pod, "PERSISTENT_ADDRESSES": ",".join(ADDRESSES), "PORT": str(PORT), **environment},
    )
    assert says(process) == b"ready\n"
    return process


def says(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 5)[0]
    return os.read(process.stdout.fileno(), 100)


def program(fabric: Fabric, pod: PodSite) -> None:
    """Do by hand what the agent will do: routes, answers for the address, no masquerade, an announcement."""
    node = fabric.nodes[pod.node]
    fabric.sysctl(
        pod.node,
        {
            f"net.ipv4.neigh.{node.uplink}.proxy_delay": "0",
            f"net.ipv6.neigh.{node.uplink}.proxy_delay": "0",
            f"net.ipv6.conf.{node.uplink}.proxy_ndp": "1",
        },
    )

    def write(netlink: IPRoute) -> None:
        (uplink,) = netlink.link_lookup(ifname=node.uplink)
        (link,) = netlink.link_lookup(ifname=pod.route_link)
        for address, ip, family in zip(ADDRESSES, pod.ips, (socket.AF_INET, socket.AF_INET6), strict=True):
            length = 128 if family == socket.AF_INET6 else 32
            netlink.route(
                "replace", family=family, dst=f"{address}/{length}", gateway=ip, oif=link, flags=["onlink"], proto=99
            )
            netlink.neigh("replace", family=family, dst=address, ifindex=uplink, flags=0x08)  # NTF_PROXY

    fabric.netlink(pod.node, write)
    with fabric.inside(pod.node):
        for nfproto, family, length in ((2, socket.AF_INET, 4), (10, socket.AF_INET6, 16)):
            source, destination = (12, 16) if length == 4 else (8, 24)
            address = socket.inet_pton(family, ADDRESSES[0 if length == 4 else 1])
            load = genex("payload", {"dreg": 1, "base": 1, "offset": source, "len": length})
            snat = genex("nat", {"type": 0, "family": nfproto, "reg_addr_min": 1})
            with NFTables(nfgen_family=nfproto) as nft:
                nft.table("add", name="test")
                nft.chain("add", table="test", name="post", hook="postrouting", type="nat", priority=90, policy=1)
                for offset in (source, destination):
                    match = genex("payload", {"dreg": 1, "base": 1, "offset": offset, "len": length})
                    equal = genex("cmp", {"sreg": 1, "op": 0, "data": {"attrs": [("NFTA_DATA_VALUE", address)]}})
                    nft.rule("add", table="test", chain="post", expressions=([match, equal, load, snat],))


def announce(fabric: Fabric, node: NodeSite) -> None:
    """Tell the segment once for each family where the address is now, by gratuitous ARP and neighbour advertisement."""
    with fabric.inside(node.name):
        uplink = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        uplink.bind((node.uplink, 0))
    with uplink:
        hardware = uplink.getsockname()[4]
        address = socket.inet_aton(ADDRESSES[0])
        arp = bytes.fromhex("0001080006040001") + hardware + address + bytes(6) + address
        uplink.send(b"\xff" * 6 + hardware + b"\x08\x06" + arp)
        source = destination = socket.inet_pton(socket.AF_INET6, ADDRESSES[1])
        destination = socket.inet_pton(socket.AF_INET6, "ff02::1")
        body = bytes.fromhex("8800000020000000") + source + b"\x02\x01" + hardware
        pseudo = source + destination + len(body).to_bytes(4) + (58).to_bytes(4) + body
        total = sum(int.from_bytes(pseudo[i : i + 2]) for i in range(0, len(pseudo), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        body = body[:2] + (total ^ 0xFFFF).to_bytes(2) + body[4:]
        header = bytes.fromhex("60000000") + len(body).to_bytes(2) + b"\x3a\xff" + source + destination
        uplink.send(bytes.fromhex("333300000001") + hardware + b"\x86\xdd" + header + body)


def lossless(result: dict) -> None:
    for direction in ("ingress", "egress"):
        seen = result[direction]
        assert seen["lost"] == 0, result
        assert seen["wrong_source"] == 0
        assert seen["sent"] > 500 - result["stalls"]["total_ms"]
    assert result["tcp"] == "kept"


def test_three_nodes_and_eight_pods_stand_in_a_moment() -> None:
    """The whole network is built in less than a second and a half, and gone at the end."""
    begin = time.monotonic()
    with Fabric() as fabric:
        for number in range(8):
            fabric.add_pod(f"node-{'abc'[number % 3]}", f"pod-{number}")
        assert time.monotonic() - begin < 1.5
        namespaces = {os.fstat(machine.netns).st_ino for machine in fabric.machines.values()}
        assert len(namespaces) == 4 + 3 + 8
        sleeper = fabric.spawn("pod-0", ["sleep", "60"])
    assert sleeper.returncode == -signal.SIGKILL


def test_pods_reach_each_other_over_every_cni(fabric: Fabric) -> None:
    """Pod to Pod works within a node and between nodes, by both CNIs and both families, before we do anything."""
    for node, name in (("node-a", "one"), ("node-a", "two"), ("node-b", "three"), ("node-b", "four")):
        fabric.add_pod(node, name)
        start_echo(fabric, name)
    for asker in fabric.pods:
        with Outside(fabric, asker) as outside:
            for answerer in fabric.pods.values():
                for ip in answerer.ips:
                    assert outside.reach(ip, PORT) == {"udp": answerer.name, "tcp": answerer.name}


@pytest.mark.parametrize("client", ["client", ONLINK])
@pytest.mark.parametrize("node", ["node-a", "node-b"], ids=["ptp", "bridge"])
@pytest.mark.parametrize("address", ADDRESSES, ids=["ipv4", "ipv6"])
def test_programmed_path_loses_nothing(fabric: Fabric, client: str, node: str, address: str) -> None:
    """A path made by hand carries every probe of a second both ways, to a client beside and to one behind a router."""
    pod = fabric.add_pod(node, "pod")
    start_echo(fabric, "pod")
    program(fabric, pod)
    with Outside(fabric, client) as outside:
        assert outside.start(address, PORT)["ok"]
        time.sleep(1)
        result = outside.stop()
    lossless(result)
    assert result["tcp_fresh"] == "pod"
    assert result["ingress"]["first_ns"].keys() == result["egress"]["first_ns"].keys() == {"pod"}


def test_cni_masquerade_hides_the_address_without_us(fabric: Fabric) -> None:
    """The hostile neighbour is real: with routes alone the Pod takes the node for its client, and streams to it."""
    pod = fabric.add_pod("node-b", "pod")
    start_echo(fabric, "pod")
    program(fabric, pod)
    with fabric.inside("node-b"), NFTables(nfgen_family=2) as nft:
        nft.table("del", name="test")
    with Outside(fabric) as outside:
        assert not outside.start(ADDRESSES[0], PORT, settle_seconds=0.3)["ok"]
        result = outside.stop()
    assert result["egress"]["first_ns"] == {}


def test_unprogrammed_address_is_silent(fabric: Fabric) -> None:
    """Nobody answers for an address that no node was told of, and the whole time counts as blackout."""
    fabric.add_pod("node-a", "pod")
    start_echo(fabric, "pod")
    with Outside(fabric) as outside:
        assert outside.reach(ADDRESSES[0], PORT, timeout_seconds=0.2) == {"udp": None, "tcp": None}
        assert not outside.start(ADDRESSES[0], PORT, settle_seconds=0.1)["ok"]
        time.sleep(0.3)
        result = outside.stop()
    for direction in ("ingress", "egress"):
        assert result[direction]["blackout_ms"] + result[direction]["stalled_ms"] > 290
        assert result[direction]["lost"] == result[direction]["sent"] > 200
    assert result["tcp"] == "none"


def test_dropped_probe_sends_nothing_more(fabric: Fabric) -> None:
    """What is no longer under test hears nothing more of the client, which can begin anew."""
    pod = fabric.add_pod("node-a", "pod")
    start_echo(fabric, "pod")
    program(fabric, pod)
    with Outside(fabric) as outside:
        outside.drop()
        assert outside.start(ADDRESSES[0], PORT)["ok"]
        outside.drop()
        with pytest.raises(ProbeFailedError, match="no probe runs"):
            outside.stop()
        before = received(fabric, "pod")
        time.sleep(0.3)
        assert received(fabric, "pod") - before < 30
        assert outside.start(ADDRESSES[1], PORT)["ok"]


def received(fabric: Fabric, pod: str) -> int:
    """How many UDP datagrams a Pod has been sent by IPv4."""
    with fabric.inside(pod):
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    names, counts = (line.split() for line in lines if line.startswith("Udp:"))
    return int(counts[names.index("InDatagrams")])


@pytest.mark.parametrize("carrier", [False, True], ids=["cable-pulled", "switch-deaf"])
@pytest.mark.parametrize("address", ADDRESSES, ids=["ipv4", "ipv6"])
def test_blackout_is_as_long_as_the_cut(fabric: Fabric, address: str, carrier: bool) -> None:
    """A link cut for 300 ms is seen as 300 ms of silence in both directions, and the TCP connection outlives it."""
    pod = fabric.add_pod("node-a", "pod")
    start_echo(fabric, "pod")
    program(fabric, pod)
    with Outside(fabric) as outside:
        assert outside.start(address, PORT)["ok"]
        time.sleep(0.2)
        outside.mark("cut")
        begin = time.monotonic()
        fabric.cut("node-a", carrier=carrier)
        time.sleep(0.3)
        fabric.restore("node-a")
        cut_ms = (time.monotonic() - begin) * 1e3
        time.sleep(1.5)
        result = outside.stop()
    for direction in ("ingress", "egress"):
        # The kernel is slow to believe in a carrier that comes back: up to a second (linkwatch).
        slowness_ms = 60 if carrier else 1060
        for seen in (result[direction], result["marks"]["cut"][direction]):
            assert cut_ms - 20 < seen["blackout_ms"] + seen["stalled_ms"] < cut_ms + slowness_ms
            assert cut_ms - 20 < seen["lost"] < cut_ms + slowness_ms
    assert result["tcp"] == "kept"


@pytest.mark.parametrize("address", ADDRESSES, ids=["ipv4", "ipv6"])
def test_make_before_break_by_hand_loses_nothing(fabric: Fabric, address: str) -> None:
    """The address moves to another node's Pod without one lost packet, and the probe says who was heard when."""
    old, new = fabric.add_pod("node-a", "old"), fabric.add_pod("node-b", "new")
    for pod in (old, new):
        start_echo(fabric, pod.name)
    program(fabric, old)
    with Outside(fabric) as outside:
        assert outside.start(address, PORT)["ok"]
        time.sleep(0.3)
        marked = outside.mark("moved")
        program(fabric, new)
        announce(fabric, fabric.nodes["node-b"])
        time.sleep(0.3)
        result = outside.stop()
    for direction in ("ingress", "egress"):
        assert result[direction]["lost"] == 0
        assert [run[0] for run in result[direction]["stretches"]] == ["old", "new"]
        assert result["marks"]["moved"][direction]["first_ns"]["new"] > marked
    assert result["tcp"] == "reset"
    assert result["tcp_fresh"] == "new"


def test_pod_process_is_ready_unready_and_serves_on_after_sigterm(fabric: Fabric) -> None:
    """The Pod's program tells its readiness by signal, and after SIGTERM serves for as long as it was told."""
    fabric.add_pod("node-a", "pod")
    process = start_echo(fabric, "pod", SHUTDOWN_SECONDS="0.3")
    process.send_signal(signal.SIGUSR1)
    assert says(process) == b"unready\n"
    process.send_signal(signal.SIGUSR2)
    assert says(process) == b"ready\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    with Outside(fabric, "pod") as outside:
        assert outside.reach(ADDRESSES[1], PORT)["udp"] == "pod"
    assert process.wait(5) == 0
    assert 0.25 < time.monotonic() - begin < 2


def test_program_of_a_pod_loads_next_to_nothing() -> None:
    """Beside the interpreter's own a Pod's program loads a dozen small modules: the lab must not measure its start."""
    look = """if True:
        import importlib.util, sys
        own = set(sys.modules)
        spec = importlib.util.spec_from_file_location("echo", sys.argv[1])
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        print(*sorted({name.partition(".")[0] for name in sys.modules.keys() - own} - {*sys.builtin_module_names}))
    """
    ended = subprocess.run([sys.executable, "-S", "-I", "-c", look, echo.__file__], capture_output=True, check=True)
    loaded = set(ended.stdout.decode().split())
    assert loaded >= {"select", "signal", "socket", "struct"}
    assert len(loaded) <= 16, loaded


def test_deleted_pod_leaves_no_link_and_its_ip_comes_back_late(fabric: Fabric) -> None:
    """Deleting a Pod ends its processes and its link; the next Pod gets another IP, unless one is asked for."""
    pod = fabric.add_pod("node-b", "pod")
    process = start_echo(fabric, "pod")
    fabric.delete_pod("pod")
    assert process.returncode == -signal.SIGKILL
    assert fabric.netlink("node-b", lambda netlink: netlink.link_lookup(ifname=pod.link)) == []
    again = fabric.add_pod("node-b", "pod")
    assert not set(again.ips) & set(pod.ips)
    assert fabric.add_pod("node-b", "heir", ips=pod.ips).ips == pod.ips


def test_stalled_probe_reports_its_own_stall(fabric: Fabric) -> None:
    """A probe that was stopped for 200 ms says so, and takes none of its own silence for an outage."""
    pod = fabric.add_pod("node-a", "pod")
    start_echo(fabric, "pod")
    program(fabric, pod)
    with Outside(fabric) as outside:
        assert outside.start(ADDRESSES[0], PORT)["ok"]
        os.kill(outside._process.pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(outside._process.pid, signal.SIGCONT)
        time.sleep(0.2)
        result = outside.stop()
    assert result["stalls"]["longest_ms"] > 190
    assert result["ingress"]["silence_ms"] > 190
    assert result["ingress"]["blackout_ms"] < 60
    assert result["ingress"]["lost"] == result["egress"]["lost"] == 0
    assert result["egress"]["silence_ms"] < 60


def test_cut_of_one_node_leaves_other_paths_alone(fabric: Fabric) -> None:
    """Cutting one node leaves the others' paths alone."""
    fabric.add_pod("node-c", "pod")
    start_echo(fabric, "pod")
    program(fabric, fabric.pods["pod"])
    fabric.cut("node-a")
    with Outside(fabric, ROUTER) as outside:
        assert outside.reach(ADDRESSES[0], PORT) == {"udp": "pod", "tcp": "pod"}


LAB = """
import os, subprocess, sys, time
from persistip.lab import echo, sandbox
from persistip.lab.fabric import Fabric
with Fabric() as fabric:
    for number in range(3):
        fabric.add_pod("node-a", f"pod-{number}")
        fabric.spawn(f"pod-{number}", [sys.executable, "-S", "-I", echo.__file__],
                     env={"PORT": "7000"}, stdout=subprocess.DEVNULL)
    print(*(os.fstat(machine.netns).st_ino for machine in fabric.machines.values()), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_lab_that_was_killed(number: int) -> None:
    """After kill -9, SIGTERM or Ctrl-C of a lab no process is left in any of its namespaces, so they are gone."""
    environment = {**os.environ, "PYTHONPATH": str(Path(sandbox.__file__).parents[2])}
    command = [sys.executable, "-m", "persistip.lab.sandbox", sys.executable, "-c", LAB]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    try:
        assert process.stdout is not None
        namespaces = {int(inode) for inode in process.stdout.readline().split()}
        assert len(namespaces) == 10
        assert populated(namespaces)
        process.send_signal(number)
        process.wait(10)
        deadline = time.monotonic() + 5
        while populated(namespaces) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not populated(namespaces)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def populated(namespaces: set[int]) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.add((entry / "ns/net").stat().st_ino)
    return found & namespaces
