"""Does the doctor see in a real kernel what was planted there, and nothing where nothing was?"""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pyroute2 import netns

pytestmark = pytest.mark.requires("kernel")

SPACE = "pi-doctor"
SOUND = """
set -e
ip link set lo up
ip link add uplink0 type veth peer name far0
ip addr add 192.0.2.10/24 dev uplink0
ip addr add 2001:db8::10/64 dev uplink0 nodad
ip link set uplink0 up
ip link set far0 up
ip route add default via 192.0.2.1
ip link add cni0 type bridge
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=1
"""


def inside(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the node."""
    prefix = ("ip", "netns", "exec", SPACE)
    return subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=60, check=False)


def doctor(*prefix: str) -> tuple[int, list[tuple[str, str]]]:
    """Return the exit status of `persistip doctor --node --json`, and each finding's check and subject."""
    said = inside(*prefix, sys.executable, "-m", "persistip", "doctor", "--node", "--json")
    assert said.returncode in (0, 1), said.stderr
    return said.returncode, [(each["check"], each["subject"]) for each in json.loads(said.stdout)["findings"]]


@pytest.fixture
def sound() -> Iterator[None]:
    """Give a node that is in order: an uplink with both families, a bridge for Pods, nobody's rules."""
    netns.create(SPACE)
    try:
        made = inside("sh", "-c", SOUND)
        assert made.returncode == 0, made.stderr
        yield
    finally:
        netns.remove(SPACE)


def test_node_in_order_has_no_finding(sound: None) -> None:
    """A plain node with strict filters passes, also with the usual masquerade of others, and the status says so."""
    usual = "table ip nat { chain POSTROUTING { type nat hook postrouting priority 100; masquerade; }; }"
    assert inside("nft", usual).returncode == 0
    assert doctor() == (0, [])


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        ("sysctl -qw net.ipv4.ip_forward=0", ("forwarding", "sysctl net.ipv4.ip_forward")),
        ("sysctl -qw net.ipv6.conf.all.forwarding=0", ("forwarding", "sysctl net.ipv6.conf.all.forwarding")),
        (
            "sysctl -qw net.ipv4.conf.uplink0.proxy_arp_pvlan=1",
            ("proxy-arp", "sysctl net.ipv4.conf.uplink0.proxy_arp_pvlan"),
        ),
        ("ip rule del pref 0 && ip rule add pref 5 from 10.0.0.1 lookup local", ("rule-local", "ip -4 rule")),
        (
            "nft 'table inet early { chain post { type nat hook postrouting priority 10; masquerade; }; }'",
            ("nat-before-ours", "nftables chain inet early post"),
        ),
    ],
)
def test_fault_that_was_planted_is_found(sound: None, plant: str, expected: tuple[str, str]) -> None:
    """What keeps addresses from working is the one finding, and a problem."""
    planted = inside("sh", "-c", plant)
    assert planted.returncode == 0, planted.stderr
    assert doctor() == (1, [expected])


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
            ("forward-drop", "nftables chain ip filter FORWARD"),
        ),
        (
            "ip rule add pref 100 lookup local && ip rule del pref 0 && ip rule add pref 50 lookup 77",
            ("rule-before-local", "ip -4 rule pref 50 lookup 77"),
        ),
        ("ip link add cilium_host type veth peer name cilium_net", ("source-check", "Cilium (link cilium_host)")),
        ("ip link add cali0a1b2c type veth peer name pod0", ("source-check", "Calico (link cali0a1b2c)")),
        (
            (
                "ip link add uplink1 type veth peer name far1; ip addr add 198.51.100.10/24 dev uplink1; "
                "ip link set uplink1 up; ip link set far1 up; ip route add default via 198.51.100.1 metric 50"
            ),
            ("rp-filter", "sysctl net.ipv4.conf.uplink0.rp_filter, sysctl net.ipv4.conf.uplink1.rp_filter"),
        ),
    ],
)
def test_what_may_be_meant_so_is_a_warning(sound: None, plant: str, expected: tuple[str, str]) -> None:
    """What may be meant so is told, and the status is that of a node without problems."""
    planted = inside("sh", "-c", plant)
    assert planted.returncode == 0, planted.stderr
    assert doctor() == (0, [expected])


@pytest.mark.parametrize(
    "plant",
    [
        "ip rule add pref 100 lookup local && ip rule del pref 0",
        "ip rule add pref 50 from 10.0.0.0/8 lookup 77 && ip rule add pref 60 fwmark 7 lookup 77",
        "nft 'table ip filter { chain INPUT { type filter hook input priority 0; policy drop; }; }'",
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy accept; }; }'",
        "ip link add calico type bridge",
    ],
)
def test_what_only_looks_like_a_fault_is_none(sound: None, plant: str) -> None:
    """Others' rules that are in nobody's way are not spoken of."""
    planted = inside("sh", "-c", plant)
    assert planted.returncode == 0, planted.stderr
    assert doctor() == (0, [])


def test_process_without_rights_is_told_which_it_lacks(sound: None) -> None:
    """Without capabilities it says which of them are missing, and does not call that a fault of the kernel."""
    status, found = doctor("setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw")
    assert status == 1
    assert found == [("capabilities", "capability NET_ADMIN"), ("capabilities", "capability NET_RAW")]
