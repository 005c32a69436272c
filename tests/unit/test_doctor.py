"""Does the doctor find what is wrong, name it with its fix, and say nothing of what only looks alike?"""

from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from persistip.decide.catalog import Catalog
from persistip.doctor.cluster import ClusterFacts, Definition, Lacking, ProcessFacts, judge_cluster
from persistip.doctor.finding import Finding, Severity, has_problems
from persistip.doctor.look_at_cluster import holds
from persistip.doctor.node import FORWARD, POSTROUTING, Chain, NodeFacts, Rule, judge_node
from persistip.model.conditions import Condition, Reason
from persistip.model.definition import BUNDLE_VERSION, CustomResourceDefinition
from persistip.model.views import GatewayView
from persistip.strategies import Batch
from persistip.testing import config_map, gateway, gateway_class, namespace, node, route

HEALTHY = NodeFacts(
    kernel="6.1.0-13-amd64",
    capabilities=frozenset({12, 13}),
    settings={
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/ipv4/conf/all/rp_filter": "1",
        "net/ipv4/conf/eth0/rp_filter": "1",
        "net/ipv4/conf/eth0/proxy_arp": "0",
        "net/ipv4/conf/eth0/proxy_arp_pvlan": "0",
        "net/ipv6/conf/eth0/accept_ra": "2",
    },
    links=("cni0", "eth0", "veth1"),
    uplinks=("eth0",),
    has_ipv6=True,
    learns_ipv6_route=True,
    rules=tuple(
        Rule(version=version, priority=priority, table=table)
        for version in (4, 6)
        for priority, table in ((0, 255), (32766, 254))
    ),
    chains=(
        Chain(family="inet", table="persistip", name="exempt", type="nat", hook=POSTROUTING, priority=90),
        Chain(family="ip", table="nat", name="POSTROUTING", type="nat", hook=POSTROUTING, priority=100),
        Chain(family="ip", table="filter", name="FORWARD", type="filter", hook=FORWARD, priority=0),
    ),
)


def with_settings(**values: str) -> NodeFacts:
    """Return the healthy node with settings changed; a double underscore stands for a slash."""
    changed = {name.replace("__", "/"): value for name, value in values.items()}
    return attrs.evolve(HEALTHY, settings={**HEALTHY.settings, **changed})


def with_chain(**values: Any) -> NodeFacts:
    """Return the healthy node with one more chain of somebody's."""
    chain = Chain(**{"family": "ip", "table": "foreign", "name": "c", "priority": 100, **values})
    return attrs.evolve(HEALTHY, chains=(*(HEALTHY.chains or ()), chain))


def summary(found: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Return what is told of each finding."""
    return [(each.check, each.severity.value, each.subject) for each in found]


TWO_UPLINKS = attrs.evolve(HEALTHY, uplinks=("eth0", "eth1"))
BEFORE_LOCAL = Rule(version=4, priority=9, table=100)


# ---------------------------------------------------------------- nodes
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (attrs.evolve(HEALTHY, kernel="5.4.0-generic"), ("kernel-version", "problem", "kernel 5.4.0-generic")),
        (attrs.evolve(HEALTHY, capabilities=frozenset({13})), ("capabilities", "problem", "capability NET_ADMIN")),
        (attrs.evolve(HEALTHY, capabilities=frozenset({12})), ("capabilities", "problem", "capability NET_RAW")),
        (attrs.evolve(HEALTHY, chains=None, refusal="no such protocol"), ("nftables", "problem", "nftables")),
        (attrs.evolve(HEALTHY, packet_refusal="no such family"), ("packet-sockets", "problem", "AF_PACKET")),
        (with_settings(net__ipv4__ip_forward="0"), ("forwarding", "problem", "sysctl net.ipv4.ip_forward")),
        (
            with_settings(net__ipv6__conf__all__forwarding="0"),
            ("forwarding", "problem", "sysctl net.ipv6.conf.all.forwarding"),
        ),
        (
            with_settings(net__ipv6__conf__eth0__accept_ra="1"),
            ("accept-ra", "problem", "sysctl net.ipv6.conf.eth0.accept_ra"),
        ),
        (
            with_settings(net__ipv4__conf__eth0__proxy_arp_pvlan="1"),
            ("proxy-arp", "problem", "sysctl net.ipv4.conf.eth0.proxy_arp_pvlan"),
        ),
        (
            with_settings(net__ipv4__conf__eth0__proxy_arp="1"),
            ("proxy-arp", "warning", "sysctl net.ipv4.conf.eth0.proxy_arp"),
        ),
        (
            TWO_UPLINKS,
            ("rp-filter", "warning", "sysctl net.ipv4.conf.eth0.rp_filter, sysctl net.ipv4.conf.eth1.rp_filter"),
        ),
        (
            attrs.evolve(HEALTHY, rules=(Rule(version=4, priority=32766, table=254),)),
            ("rule-local", "problem", "ip -4 rule"),
        ),
        (
            attrs.evolve(HEALTHY, rules=(BEFORE_LOCAL, Rule(version=4, priority=100, table=255))),
            ("rule-before-local", "warning", "ip -4 rule pref 9 lookup 100"),
        ),
        (
            with_chain(type="nat", hook=POSTROUTING, priority=80),
            ("nat-before-ours", "problem", "nftables chain ip foreign c"),
        ),
        (
            with_chain(type="filter", hook=FORWARD, drops=True),
            ("forward-drop", "warning", "nftables chain ip foreign c"),
        ),
        (
            attrs.evolve(HEALTHY, links=("cilium_host", "cilium_net", "eth0")),
            ("source-check", "warning", "Cilium (link cilium_host)"),
        ),
        (
            attrs.evolve(HEALTHY, links=("cali12345", "eth0")),
            ("source-check", "warning", "Calico (link cali12345)"),
        ),
    ],
)
def test_fault_of_a_node_is_named_with_its_fix(facts: NodeFacts, expected: tuple[str, str, str]) -> None:
    """One fault on a node that is in order otherwise is the one finding, and it says what to do."""
    found = judge_node(facts)
    assert summary(found) == [expected]
    assert found[0].fix
    assert has_problems(found) == (expected[1] == "problem")


@pytest.mark.parametrize(
    "facts",
    [
        HEALTHY,
        attrs.evolve(HEALTHY, kernel="5.6.0"),
        attrs.evolve(HEALTHY, kernel="of-a-vendor"),
        # Strict filters on one uplink are as they should be; loose ones do no harm on two.
        with_settings(net__ipv4__conf__all__rp_filter="0"),
        attrs.evolve(
            TWO_UPLINKS,
            settings={**HEALTHY.settings, "net/ipv4/conf/all/rp_filter": "2"},
        ),
        # A node without IPv6, and one whose route was not learnt.
        attrs.evolve(with_settings(net__ipv6__conf__all__forwarding="0"), has_ipv6=False, learns_ipv6_route=False),
        attrs.evolve(with_settings(net__ipv6__conf__eth0__accept_ra="1"), learns_ipv6_route=False),
        # A kernel without IPv6 has no such settings.
        attrs.evolve(HEALTHY, settings={"net/ipv4/ip_forward": "1"}),
        # Others' rules that are narrow, come after table local, or jump.
        attrs.evolve(HEALTHY, rules=(attrs.evolve(BEFORE_LOCAL, matches_all=False), *HEALTHY.rules)),
        attrs.evolve(HEALTHY, rules=(*HEALTHY.rules, attrs.evolve(BEFORE_LOCAL, priority=200))),
        attrs.evolve(HEALTHY, rules=(attrs.evolve(BEFORE_LOCAL, table=0), Rule(version=4, priority=10, table=255))),
        # Where Cilium has moved the rule for table local, it is still asked.
        attrs.evolve(HEALTHY, rules=(Rule(version=4, priority=100, table=255),)),
        # Chains of others that are in nobody's way.
        with_chain(type="nat", hook=POSTROUTING, priority=90),
        with_chain(type="nat", hook=0, priority=-100),
        with_chain(type="filter", hook=1, drops=True),
        # Plain bridge and point-to-point plugins let foreign sources out.
        attrs.evolve(HEALTHY, links=("calico", "cni0", "eth0", "veth2")),
    ],
)
def test_node_that_is_in_order_is_told_nothing(facts: NodeFacts) -> None:
    """What only looks like a fault is none."""
    assert judge_node(facts) == ()


def test_rights_that_are_missing_are_not_told_twice() -> None:
    """Without a capability the socket that needs it is not called a fault of the kernel."""
    facts = attrs.evolve(HEALTHY, capabilities=frozenset(), chains=None, refusal="EPERM", packet_refusal="EPERM")
    assert [each.check for each in judge_node(facts)] == ["capabilities", "capabilities"]


def test_problems_come_before_warnings() -> None:
    """Whoever reads the first line reads the gravest."""
    facts = attrs.evolve(with_settings(net__ipv4__ip_forward="0"), links=("cilium_host",))
    assert [each.severity for each in judge_node(facts)] == [Severity.PROBLEM, Severity.WARNING]


def test_link_with_a_dot_is_named_so_that_sysctl_takes_it() -> None:
    """A VLAN's name has a dot, which among dots would mean another setting."""
    facts = attrs.evolve(HEALTHY, uplinks=("eth0.7",), settings={"net/ipv4/conf/eth0.7/proxy_arp_pvlan": "1"})
    (found,) = judge_node(facts)
    assert found.fix == "sysctl -w net/ipv4/conf/eth0.7/proxy_arp_pvlan=0"


# ---------------------------------------------------------------- clusters
def agent(name: str = "node-a", **changes: Any) -> ProcessFacts:
    """Return an agent as the manifests start it."""
    given = ProcessFacts(
        name=f"persistip-agent-{name}",
        component="agent",
        node=name,
        is_ready=True,
        capabilities=frozenset({"NET_ADMIN", "NET_RAW"}),
    )
    return attrs.evolve(given, **changes)


CONTROLLER = ProcessFacts(name="persistip-controller-1", component="controller", is_ready=True, is_root=False)


def views(*objects: Any) -> tuple[GatewayView, ...]:
    """Return the Gateways among *objects* as decisions see them."""
    catalog = Catalog()
    catalog.update(Batch(objects={each.key: each for each in objects}, synced=True))
    found = (catalog.view(each.key, 0.0) for each in objects)
    return tuple(view for view in found if isinstance(view, GatewayView))


def crd(version: str = "v1.4.0") -> CustomResourceDefinition:
    """Return the definition of Gateways."""
    name = "gateways.gateway.networking.k8s.io"
    return CustomResourceDefinition(meta=attrs.evolve(node("x").meta, name=name, annotations={BUNDLE_VERSION: version}))


SOUND = ClusterFacts(
    namespace="persistip-system",
    version="v1.36.3",
    definitions=(Definition(name="gkeiproutes.networking.gke.io"),),
    gateway_api=(crd(),),
    processes=(CONTROLLER, agent()),
    nodes=(node("node-a"),),
    gateways=views(namespace(), config_map(), gateway_class(), gateway(), node("node-a")),
    routes=(route(),),
)
DEFINITION = "CustomResourceDefinition gkeiproutes.networking.gke.io"
AGENTS = "DaemonSet persistip-system/persistip-agent"
CONTROLLERS = "Deployment persistip-system/persistip-controller"


def unready_route() -> Any:
    """Return a route that says why it is not Ready."""
    found = route()
    said = Condition(type="Ready", status="False", reason=Reason.NO_ELIGIBLE_POD, message="no Pod matches")
    return attrs.evolve(found, status=attrs.evolve(found.status, conditions=(said,)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": "v1.29.4"}, ("kubernetes-version", "problem", "Kubernetes v1.29.4")),
        (
            {"gateway_api": ()},
            ("gateway-api", "problem", "CustomResourceDefinition gateways.gateway.networking.k8s.io"),
        ),
        ({"gateway_api": (crd("v0.8.0"),)}, ("gateway-api", "warning", "Gateway API")),
        (
            {"definitions": (Definition(name="gkeiproutes.networking.gke.io", is_there=False),)},
            ("definitions", "problem", DEFINITION),
        ),
        (
            {"definitions": (Definition(name="gkeiproutes.networking.gke.io", is_whole=False),)},
            ("definitions", "warning", DEFINITION),
        ),
        ({"processes": (agent(),)}, ("controller", "problem", CONTROLLERS)),
        (
            {"processes": (attrs.evolve(CONTROLLER, is_ready=False, why="ImagePullBackOff"), agent())},
            ("controller", "problem", CONTROLLERS),
        ),
        ({"processes": (CONTROLLER,)}, ("agent", "problem", "Node node-a")),
        ({"processes": (CONTROLLER, agent(is_ready=False))}, ("agent", "problem", "Node node-a")),
        (
            {"processes": (CONTROLLER, agent(capabilities=frozenset({"NET_RAW"})))},
            ("agent-capabilities", "problem", AGENTS),
        ),
        ({"processes": (CONTROLLER, agent(is_root=False))}, ("agent-user", "problem", AGENTS)),
        (
            {"lacking": (Lacking(subject="ServiceAccount s/persistip-agent", verb="patch", resource="x"),)},
            ("rights", "problem", "ServiceAccount s/persistip-agent"),
        ),
        ({"lacking": (Lacking(subject="You", verb="list", resource="pods"),)}, ("rights", "warning", "You")),
        (
            {"gateways": views(namespace(), gateway_class(parameters=None), gateway())},
            ("class-parameters", "problem", "GatewayClass gke-persistent-regional-external-managed"),
        ),
        (
            {"gateways": views(namespace(), gateway_class(), gateway())},
            ("class-parameters", "problem", "GatewayClass gke-persistent-regional-external-managed"),
        ),
        ({"routes": (unready_route(),)}, ("route", "warning", f"GKEIPRoute {route().key.path}")),
        ({"unreadable": {route().key: "no such field"}}, ("unreadable", "warning", str(route().key))),
        (
            {"source_checks": (("Cilium", "ConfigMap kube-system/cilium-config"),)},
            ("source-check", "warning", "Cilium (ConfigMap kube-system/cilium-config)"),
        ),
        ({"unseen": ("rights of others",)}, ("unseen", "warning", "rights of others")),
    ],
)
def test_fault_of_a_cluster_is_named_with_its_fix(changes: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """One fault in a cluster that is in order otherwise is the one finding, and it says what to do."""
    found = judge_cluster(attrs.evolve(SOUND, **changes))
    assert summary(found) == [expected]
    assert found[0].fix


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"version": "v1.30.0-gke.100"},
        {"version": "something else"},
        # One of two controllers, and one of two agents while it is replaced, is enough.
        {"processes": (CONTROLLER, attrs.evolve(CONTROLLER, is_ready=False), agent(), agent(is_ready=False))},
        {"processes": (CONTROLLER, agent(capabilities=frozenset({"ALL"})))},
        # No agent belongs on these.
        {"nodes": (node("win", labels={"kubernetes.io/os": "windows"}),)},
        {"nodes": (attrs.evolve(node("off"), out_of_service=True),)},
        # A class of another controller needs no parameters of ours.
        {"gateways": views(namespace(), gateway_class(parameters=None, controller="a.example/b"), gateway())},
    ],
)
def test_cluster_that_is_in_order_is_told_nothing(changes: dict[str, Any]) -> None:
    """What only looks like a fault is none."""
    assert judge_cluster(attrs.evolve(SOUND, **changes)) == ()


def test_gateway_that_lists_a_nodes_own_ip_is_told_so() -> None:
    """The finding names the Gateway, the address and the node."""
    own = node("node-a", ips=["192.0.2.10"])
    parameters = config_map(allowed="192.0.2.0/24")
    both = gateway(addresses=["192.0.2.10", "192.0.2.40"])
    (found,) = judge_cluster(attrs.evolve(SOUND, gateways=views(namespace(), parameters, gateway_class(), both, own)))
    assert (found.check, found.severity, found.subject) == ("gateway", "warning", f"Gateway {both.key.path}")
    assert "192.0.2.10" in found.message
    assert "node-a" in found.message


@pytest.mark.parametrize(
    ("there", "wanted", "expected"),
    [
        ({"a": 1, "default": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([{"a": 1}], [{"a": 1}, {"b": 1}], False),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({}, {"a": False}, True),
        ("text", {"a": 1}, False),
    ],
)
def test_definition_is_whole_when_it_holds_what_ours_says(there: Any, wanted: Any, expected: bool) -> None:
    """What the server adds does no harm; what is missing or another is seen."""
    assert holds(there, wanted) is expected
