"""Is our nftables table what nft itself would have made of it?"""

import json
import subprocess
from ipaddress import ip_network

import pytest

from persistip.backends.linux import elements, nft, ruleset
from persistip.backends.linux.sockets import NETLINK_NETFILTER, NetlinkSocket

pytestmark = pytest.mark.requires("kernel")

# The same table in nft's own language, elements included. What our codec makes must come out of the kernel the same.
SOURCE = """
table inet persistip {
  set uplinks { type iface_index; elements = { "lo" }; }
  set exempt4 { type ipv4_addr; flags interval;
                elements = { 203.0.113.7, 203.0.113.8, 198.51.100.0/24, 255.255.255.255 }; }
  set guarded4 { type ipv4_addr; flags interval; }
  set pods4 { type ipv4_addr; flags interval; elements = { 203.0.113.7 comment "10.9.1.5" }; }
  set owners4 { type iface_index . ether_addr . ipv4_addr;
                elements = { "lo" . 02:00:00:00:00:09 . 203.0.113.7 }; }
  set wide4 { type iface_index . ether_addr . ipv4_addr; flags interval;
              elements = { "lo" . 02:00:00:00:00:09 . 198.51.100.0/24 }; }
  set plain4 { type iface_index . ipv4_addr; flags interval; elements = { "lo" . 203.0.113.9 }; }
  set exempt6 { type ipv6_addr; flags interval; elements = { 2001:db8::/64, 2001:db8:7::7 }; }
  set guarded6 { type ipv6_addr; flags interval; }
  set pods6 { type ipv6_addr; flags interval; }
  set owners6 { type iface_index . ether_addr . ipv6_addr;
                elements = { "lo" . 02:00:00:00:00:09 . 2001:db8:7::7 }; }
  set wide6 { type iface_index . ether_addr . ipv6_addr; flags interval;
              elements = { "lo" . 02:00:00:00:00:09 . 2001:db8::/64 }; }
  set plain6 { type iface_index . ipv6_addr; flags interval; elements = { "lo" . 2001:db8:7::7 }; }
  chain guard4 {
    meta iiftype ether meta nfproto ipv4 iif . ether saddr . ip saddr @owners4 accept
    meta iiftype ether meta nfproto ipv4 iif . ether saddr . ip saddr @wide4 accept
    iif . ip saddr @plain4 accept
    drop
  }
  chain guard6 {
    meta iiftype ether meta nfproto ipv6 iif . ether saddr . ip6 saddr @owners6 accept
    meta iiftype ether meta nfproto ipv6 iif . ether saddr . ip6 saddr @wide6 accept
    iif . ip6 saddr @plain6 accept
    drop
  }
  chain guard { type filter hook prerouting priority -310; policy accept;
    iif @uplinks accept
    ip saddr @guarded4 goto guard4
    ip6 saddr @guarded6 goto guard6
  }
  chain exempt { type nat hook postrouting priority 90; policy accept;
    ip saddr @exempt4 snat ip to ip saddr
    ip daddr @exempt4 snat ip to ip saddr
    ip6 saddr @exempt6 snat ip6 to ip6 saddr
    ip6 daddr @exempt6 snat ip6 to ip6 saddr
  }
}
"""

BRIDGE_SOURCE = """
table bridge persistip {
  set uplinks { type iface_index; }
  set guarded4 { type ipv4_addr; flags interval; }
  set owners4 { type iface_index . ether_addr . ipv4_addr;
                elements = { "lo" . 02:00:00:00:00:09 . 203.0.113.7 }; }
  set wide4 { type iface_index . ether_addr . ipv4_addr; flags interval; }
  set guarded6 { type ipv6_addr; flags interval; }
  set owners6 { type iface_index . ether_addr . ipv6_addr; }
  set wide6 { type iface_index . ether_addr . ipv6_addr; flags interval; }
  chain from4 {
    meta protocol ip iif . ether saddr . ip saddr @owners4 accept
    meta protocol ip iif . ether saddr . ip saddr @wide4 accept
    drop
  }
  chain from6 {
    meta protocol ip6 iif . ether saddr . ip6 saddr @owners6 accept
    meta protocol ip6 iif . ether saddr . ip6 saddr @wide6 accept
    drop
  }
  chain to4 {
    meta protocol ip oif . ether daddr . ip daddr @owners4 accept
    meta protocol ip oif . ether daddr . ip daddr @wide4 accept
    drop
  }
  chain to6 {
    meta protocol ip6 oif . ether daddr . ip6 daddr @owners6 accept
    meta protocol ip6 oif . ether daddr . ip6 daddr @wide6 accept
    drop
  }
  chain from { type filter hook prerouting priority -310; policy accept;
    iif @uplinks accept
    ip saddr @guarded4 goto from4
    ip6 saddr @guarded6 goto from6
  }
  chain to { type filter hook postrouting priority -310; policy accept;
    oif @uplinks accept
    ip daddr @guarded4 goto to4
    ip6 daddr @guarded6 goto to6
  }
}
"""


def build_ports(netlink, link):
    owner = elements.owner_element(link, "02:00:00:00:00:09", ip_network("203.0.113.7"))
    table = ruleset.BRIDGE_TABLE
    return nft.commit(netlink, [*nft.create_table(table), *nft.add_elements(table, "owners4", [owner])])


TABLES = pytest.mark.parametrize(
    ("table", "make", "source"),
    [(ruleset.TABLE, "build", SOURCE), (ruleset.BRIDGE_TABLE, "build_ports", BRIDGE_SOURCE)],
    ids=["inet", "bridge"],
)


def build(netlink, link):
    four = [ip_network(each) for each in ("203.0.113.7", "203.0.113.8", "198.51.100.0/24", "255.255.255.255")]
    six = [ip_network(each) for each in ("2001:db8::/64", "2001:db8:7::7")]
    hardware = "02:00:00:00:00:09"
    table, prefixes, owner = ruleset.TABLE, elements.prefix_elements, elements.owner_element
    return nft.commit(
        netlink,
        [
            *nft.create_table(table),
            *nft.add_elements(table, "uplinks", [elements.uplink_element(link)]),
            *(message for prefix in four for message in nft.add_elements(table, "exempt4", prefixes(prefix))),
            *(message for prefix in six for message in nft.add_elements(table, "exempt6", prefixes(prefix))),
            *nft.add_elements(table, "pods4", prefixes(four[0], "10.9.1.5")),
            *nft.add_elements(table, "owners4", [owner(link, hardware, four[0])]),
            *nft.add_elements(table, "wide4", [owner(link, hardware, four[2])]),
            *nft.add_elements(table, "plain4", [owner(link, "", ip_network("203.0.113.9"))]),
            *nft.add_elements(table, "owners6", [owner(link, hardware, six[1])]),
            *nft.add_elements(table, "wide6", [owner(link, hardware, six[0])]),
            *nft.add_elements(table, "plain6", [owner(link, "", six[1])]),
        ],
    )


def listed():
    """The table as nft lists it; handles are numbers that the kernel gives in passing."""
    text = subprocess.run(
        ["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    return sorted(json.dumps(strip(entry), sort_keys=True) for entry in json.loads(text)["nftables"])


def strip(value):
    if isinstance(value, dict):
        kept = {key: strip(each) for key, each in value.items() if key != "handle"}
        if "elem" in kept and isinstance(kept["elem"], list):
            kept["elem"] = sorted(kept["elem"], key=json.dumps)
        return kept
    return [strip(each) for each in value] if isinstance(value, list) else value


@pytest.mark.requires("nft")
@TABLES
def test_table_is_listed_as_nfts_own(space, table, make, source) -> None:
    """nft lists the table that we write exactly as the one it writes from its own language."""
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        assert globals()[make](netlink, space.index("lo")) is None
        ours = listed()
        assert nft.commit(netlink, [nft.delete_table(table.name, table.family)]) is None
    subprocess.run(["nft", "-f", "-"], input=source, text=True, check=True, timeout=20)
    assert ours == listed()


@pytest.mark.requires("nft")
@TABLES
def test_kernel_gives_back_the_same_bytes_for_both(space, table, make, source) -> None:
    """Rules, chains, sets and elements come out of the kernel byte for byte the same, whoever put them in."""
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        assert globals()[make](netlink, space.index("lo")) is None
        ours = raw(netlink, table)
        assert nft.commit(netlink, [nft.delete_table(table.name, table.family)]) is None
        subprocess.run(["nft", "-f", "-"], input=source, text=True, check=True, timeout=20)
        assert ours == raw(netlink, table)


def raw(netlink, wanted):
    table = nft.read_table(netlink, wanted.name, wanted.family)
    assert ruleset.is_whole(table, wanted)
    # nft marks the stretch before the first interval with an end at zero, which matters to nobody.
    zeros = {b"\0" * 4, b"\0" * 16}
    found = {
        spec.name: sorted(
            (each.key, each.key_end, each.is_end, each.comment)
            for each in nft.dump_elements(netlink, wanted, spec.name)
            if not (each.is_end and each.key in zeros)
        )
        for spec in table.sets
    }
    return sorted(table.sets, key=repr), sorted(table.chains, key=repr), found


def test_table_read_back_is_whole_and_alterations_are_not(space) -> None:
    """The check says yes to our table and no to one with a rule more, a rule less, another order, a set more."""
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        assert not ruleset.is_whole(nft.read_table(netlink, "persistip", nft.FAMILY_INET), ruleset.TABLE)
        assert nft.commit(netlink, nft.create_table(ruleset.TABLE)) is None
        table = nft.read_table(netlink, "persistip", nft.FAMILY_INET)
    assert ruleset.is_whole(table, ruleset.TABLE)
    chains = {chain.name: chain for chain in table.chains}
    guard = chains["guard"]
    for rules in (guard.rules[:-1], guard.rules[::-1], (*guard.rules, guard.rules[0])):
        altered = tuple(nft.Chain("guard", guard.hook, rules) if chain is guard else chain for chain in table.chains)
        assert not ruleset.is_whole(replaced(table, chains=altered), ruleset.TABLE)
    moved = nft.Chain("guard", nft.Hook("filter", 0, -150), guard.rules)
    assert not ruleset.is_whole(
        replaced(table, chains=(*(each for each in table.chains if each is not guard), moved)), ruleset.TABLE
    )
    assert not ruleset.is_whole(replaced(table, sets=table.sets[:-1]), ruleset.TABLE)
    assert not ruleset.is_whole(replaced(table, flags=1), ruleset.TABLE)


def replaced(table, **changes):
    fields = {name: getattr(table, name) for name in ("name", "family", "sets", "chains", "flags")}
    return nft.TableSpec(**(fields | changes))


def test_refused_batch_changes_nothing(space) -> None:
    """One bad message among good ones leaves the ruleset untouched, its generation included."""
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        before = nft.read_generation(netlink)
        bad = nft.add_elements(ruleset.TABLE, "no such set", elements.prefix_elements(ip_network("203.0.113.7")))
        refusal = nft.commit(netlink, [*nft.create_table(ruleset.TABLE), *bad])
        assert refusal is not None
        assert refusal.name == "ENOENT"
        assert nft.read_table(netlink, "persistip", nft.FAMILY_INET) is None
        assert nft.read_generation(netlink) == before


@pytest.mark.parametrize("version", [4, 6])
def test_prefixes_round_trip_through_a_set(space, version) -> None:
    """Neighbouring, first, last and wide prefixes come back as they went in, with their comments."""
    texts = {
        4: ["1.0.0.0", "203.0.113.7", "203.0.113.8", "203.0.113.16/28", "10.0.0.0/8", "255.255.255.255"],
        6: ["::", "2001:db8::", "2001:db8::1", "2001:db8:1::/48", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
    }[version]
    wanted = {ip_network(text): f"of {text}" for text in texts}
    name = ruleset.set_of("pods", version)
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        messages = [
            message
            for prefix, comment in wanted.items()
            for message in nft.add_elements(ruleset.TABLE, name, elements.prefix_elements(prefix, comment))
        ]
        assert nft.commit(netlink, [*nft.create_table(ruleset.TABLE), *messages]) is None
        assert elements.read_prefixes(list(nft.dump_elements(netlink, ruleset.TABLE, name))) == (wanted, True)
