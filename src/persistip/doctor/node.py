"""
Would this node deliver addresses, let replies out, and answer for what it holds, and for nothing else?

In: NodeFacts.  Out: findings. Nothing is asked for that the agent sees to itself once it has an address to deliver
(`proxy_delay`, `proxy_ndp`, forwarding on single links). Strict `rp_filter` on one uplink and on Pods' links is as it
should be, and no finding: it even keeps other Pods from sending with the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from persistip.doctor.finding import Finding, Severity

LEAST_KERNEL = (5, 6)
"""The first that knows the sets of our nftables table, whose keys are a link, a hardware address and a range."""

CAPABILITIES: Mapping[str, int] = {"NET_ADMIN": 12, "NET_RAW": 13}
"""Those that an agent needs, by their numbers, with what for."""
_NEEDED_FOR = {
    "NET_ADMIN": "routes, neighbours, guards and settings are changed",
    "NET_RAW": "moves are announced to the neighbours",
}
EXEMPT_PRIORITY = 90
"""Where our chain keeps addresses from being masqueraded. What has a smaller priority comes before it."""

FORWARD, POSTROUTING = 2, 4
"""Numbers of the kernel's hooks for packets on their way through."""

STRICT = "1"
_LOCAL_TABLE = 255
_CNI_LINKS = ((re.compile(r"cilium_host"), "Cilium"), (re.compile(r"vxlan\.calico|cali[0-9a-f]{4,11}"), "Calico"))

SOURCE_CHECKS: Mapping[str, str] = {
    "Cilium": 'switch off its source check: `enable-source-ip-verification: "false"` in ConfigMap '
    "kube-system/cilium-config, where your version has it, and restart its agents",
    "Calico": "set `workloadSourceSpoofing: Any` in FelixConfiguration default, and give the Pods that hold addresses "
    "the annotation cni.projectcalico.org/allowedSourcePrefixes with those addresses",
}
"""What to set where a network plugin drops what leaves a Pod with another source than its own IP."""


@attrs.frozen(kw_only=True)
class Chain:
    """A base chain of nftables, as iptables-nft makes them too."""

    family: str
    table: str
    name: str
    type: str
    hook: int
    priority: int
    drops: bool = False
    """Its policy: what none of its rules takes is dropped."""

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


@attrs.frozen(kw_only=True)
class Rule:
    """A policy rule of routing. ``matches_all``: it looks at nothing but the family."""

    version: int
    priority: int
    table: int
    matches_all: bool = True


@attrs.frozen(kw_only=True)
class NodeFacts:
    """What was seen of a node. ``settings`` by their path below /proc/sys, those alone that exist."""

    kernel: str
    capabilities: frozenset[int]
    settings: Mapping[str, str]
    links: tuple[str, ...] = ()
    uplinks: tuple[str, ...] = ()
    has_ipv6: bool = False
    """An uplink has an IPv6 address that is not of the link alone."""
    learns_ipv6_route: bool = False
    """The default route for IPv6 comes from router advertisements."""
    rules: tuple[Rule, ...] = ()
    chains: tuple[Chain, ...] | None = None
    """None: nftables could not be read; ``refusal`` says why."""
    refusal: str = ""
    packet_refusal: str = ""
    """Why no socket for frames could be opened; empty: it could."""


def judge_node(facts: NodeFacts) -> tuple[Finding, ...]:
    """All that is in the way on one node, the gravest first."""
    found = [
        *_judge_kernel(facts), *_judge_rights(facts), *_judge_forwarding(facts), *_judge_links(facts),
        *_judge_rules(facts), *_judge_chains(facts), *_judge_plugins(facts),
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.severity is not Severity.PROBLEM))


def _judge_kernel(facts: NodeFacts) -> Iterator[Finding]:
    version = re.match(r"(\d+)\.(\d+)", facts.kernel)
    if version is not None and (int(version[1]), int(version[2])) < LEAST_KERNEL:
        least = ".".join(map(str, LEAST_KERNEL))
        yield Finding(
            check="kernel-version",
            subject=f"kernel {facts.kernel}",
            message=f"nftables of a kernel before {least} cannot hold the guards of addresses",
            fix=f"run a kernel of {least} or newer on this node",
        )
    if facts.chains is None and "NET_ADMIN" in _held(facts):
        yield Finding(
            check="nftables",
            subject="nftables",
            message=f"the kernel does not answer for nftables: {facts.refusal}",
            fix="load the module nf_tables (`modprobe nf_tables`), or run a kernel that has it",
        )
    if facts.packet_refusal and "NET_RAW" in _held(facts):
        yield Finding(
            check="packet-sockets",
            subject="AF_PACKET",
            message=f"no socket for frames can be opened: {facts.packet_refusal}",
            fix="load the module af_packet (`modprobe af_packet`); without it neighbours learn of moves late",
        )


def _held(facts: NodeFacts) -> frozenset[str]:
    return frozenset(name for name, number in CAPABILITIES.items() if number in facts.capabilities)


def _judge_rights(facts: NodeFacts) -> Iterator[Finding]:
    for name in CAPABILITIES:
        if name not in _held(facts):
            yield Finding(
                check="capabilities",
                subject=f"capability {name}",
                message=f"this process does not have it; with it {_NEEDED_FOR[name]}",
                fix=f"add {name} to securityContext.capabilities.add of the agent's container, as `persistip "
                "manifests` has it; outside a Pod run this as root",
            )


def _judge_forwarding(facts: NodeFacts) -> Iterator[Finding]:
    if facts.settings.get("net/ipv4/ip_forward", "1") == "0":
        yield _switched_off("net/ipv4/ip_forward", "the node forwards no IPv4 packet to a Pod")
    if facts.has_ipv6 and facts.settings.get("net/ipv6/conf/all/forwarding", "1") == "0":
        yield _switched_off("net/ipv6/conf/all/forwarding", "the node forwards no IPv6 packet to a Pod")
    if facts.learns_ipv6_route and facts.settings.get("net/ipv6/conf/all/forwarding") == "1":
        for link in facts.uplinks:
            path = f"net/ipv6/conf/{link}/accept_ra"
            if facts.settings.get(path) == "1":
                yield Finding(
                    check="accept-ra",
                    subject=_name(path),
                    message="is 1: a node that forwards no longer hears routers, and loses the default route that it "
                    "has from them when it expires",
                    fix=_sysctl(path, 2),
                )


def _switched_off(path: str, message: str) -> Finding:
    return Finding(check="forwarding", subject=_name(path), message=f"is 0: {message}", fix=_sysctl(path, 1))


def _judge_links(facts: NodeFacts) -> Iterator[Finding]:
    for link in facts.uplinks:
        path = f"net/ipv4/conf/{link}/proxy_arp_pvlan"
        if facts.settings.get(path) == "1":
            yield Finding(
                check="proxy-arp",
                subject=_name(path),
                message="is 1: the node answers ARP for every address of the segment, also for those that another "
                "node holds",
                fix=_sysctl(path, 0),
            )
        path = f"net/ipv4/conf/{link}/proxy_arp"
        if facts.settings.get(path) == "1":
            yield Finding(
                check="proxy-arp",
                severity=Severity.WARNING,
                subject=_name(path),
                message="is 1: the node answers ARP for every address to which it has a route by another link, also "
                "when another node holds it",
                fix=f"{_sysctl(path, 0)}, unless something else on this node needs it",
            )
    strict = [link for link in facts.uplinks if _rp_filter(facts, link) == STRICT]
    if len(facts.uplinks) > 1 and strict:
        paths = [f"net/ipv4/conf/{link}/rp_filter" for link in strict]
        yield Finding(
            check="rp-filter",
            severity=Severity.WARNING,
            subject=", ".join(map(_name, paths)),
            message=f"is strict, and there are {len(facts.uplinks)} uplinks ({', '.join(facts.uplinks)}): what comes "
            "in by one and would be answered by another is dropped",
            fix="; ".join(_sysctl(path, 2) for path in paths),
        )


def _rp_filter(facts: NodeFacts, link: str) -> str:
    """The kernel takes the larger of the two."""
    values = (facts.settings.get(f"net/ipv4/conf/{name}/rp_filter", "0") for name in ("all", link))
    return max(values, key=int)


def _judge_rules(facts: NodeFacts) -> Iterator[Finding]:
    for version in sorted({rule.version for rule in facts.rules}):
        family = "-6" if version == 6 else "-4"
        rules = sorted((rule for rule in facts.rules if rule.version == version), key=lambda rule: rule.priority)
        local = next((rule for rule in rules if rule.table == _LOCAL_TABLE and rule.matches_all), None)
        if local is None:
            yield Finding(
                check="rule-local",
                subject=f"ip {family} rule",
                message="no rule looks into table local, where our routes are",
                fix=f"ip {family} rule add pref 0 lookup local",
            )
            continue
        for rule in rules:
            if rule.priority < local.priority and rule.matches_all and rule.table not in (0, _LOCAL_TABLE):
                yield Finding(
                    check="rule-before-local",
                    severity=Severity.WARNING,
                    subject=f"ip {family} rule pref {rule.priority} lookup {rule.table}",
                    message=f"is asked for every packet before table local (pref {local.priority}), where our routes "
                    "are: a default route in it takes the packets of addresses away",
                    fix=f"give it a larger preference than {local.priority}, or see to it that table {rule.table} has "
                    f"no route for addresses (`ip {family} route show table {rule.table}`)",
                )


def _judge_chains(facts: NodeFacts) -> Iterator[Finding]:
    for chain in facts.chains or ():
        if chain.table == "persistip":
            continue
        if chain.type == "nat" and chain.hook == POSTROUTING and chain.priority < EXEMPT_PRIORITY:
            yield Finding(
                check="nat-before-ours",
                subject=f"nftables chain {chain}",
                message=f"translates sources at priority {chain.priority}, before ours at {EXEMPT_PRIORITY}: what "
                "it masquerades reaches the Pod, or leaves it, with the node's IP",
                fix=f"give the chain a priority of 100 (srcnat), or except addresses in it: nft list chain {chain}",
            )
        if chain.type == "filter" and chain.hook == FORWARD and chain.drops:
            yield Finding(
                check="forward-drop",
                severity=Severity.WARNING,
                subject=f"nftables chain {chain}",
                message="drops what none of its rules accepts, and packets for addresses are forwarded",
                fix=f"see whether a rule accepts the addresses (nft list chain {chain}), or add one; where Docker made "
                'it, "ip-forward-no-drop": true in its daemon.json keeps it from doing so',
            )


def _judge_plugins(facts: NodeFacts) -> Iterator[Finding]:
    seen = {name: link for link in facts.links for form, name in _CNI_LINKS if form.fullmatch(link)}
    for name, link in sorted(seen.items()):
        yield source_check(name, f"link {link}")


def source_check(name: str, subject: str) -> Finding:
    """What is said of a network plugin that drops foreign sources unless it is told not to."""
    return Finding(
        check="source-check",
        severity=Severity.WARNING,
        subject=f"{name} ({subject})",
        message=f"{name} drops what leaves a Pod with a source that is not the Pod's own IP, unless it is told not to: "
        "packets come in, and no answer leaves",
        fix=SOURCE_CHECKS[name],
    )


def _name(path: str) -> str:
    return f"sysctl {_dotted(path)}"


def _sysctl(path: str, value: int) -> str:
    return f"sysctl -w {_dotted(path)}={value}"


def _dotted(path: str) -> str:
    """As people write it; where a link has a dot in its name only slashes are unambiguous."""
    return path if "." in path else path.replace("/", ".")
