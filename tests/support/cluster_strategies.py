"""Clusters for property tests: few names and few addresses, so that everything collides with everything."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import attrs
from hypothesis import strategies as st
from world import CLASS, T0, node, pod

from persistip.decide.agents import LABELS
from persistip.model.address import AddressSpec
from persistip.model.attachment import (
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    How,
    NodeReport,
    NodeStateName,
    Reference,
    Release,
)
from persistip.model.conditions import Condition
from persistip.model.gateway import ConfigMap, From, Gateway, GatewayClass, Listener, ParametersRef
from persistip.model.keys import CLASS_LABEL, ObjectMeta, attachment_name
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, ParentRef, RouteStatus
from persistip.model.selector import LabelSelector, Requirement
from persistip.model.service import Service, ServiceCIDR
from persistip.strategies import ClusterObject

NAMESPACES = ("tenant", "other")
ROUTES = ("r1", "r2", "r3")
PODS = ("p1", "p22")
NODES = ("a", "b")
ADDRESSES = ("203.0.113.8", "203.0.113.9", "203.0.113.8/31", "203.0.113.12/30", "203.0.113.15", "2001:db8::9")
CLASS_LABELS = (
    {},
    {CLASS_LABEL: CLASS},
    {CLASS_LABEL: CLASS},
    {CLASS_LABEL: "gke-persistent-regional-internal-managed"},
)
CLASSES = (CLASS, CLASS, "gke-persistent-fast-regional-external-managed")
WEB = ("app", "web")
selectors = st.sampled_from(
    [
        LabelSelector((WEB,)),
        LabelSelector((WEB,)),
        LabelSelector((("app", "db"),)),
        LabelSelector((WEB, ("tier", "front"))),
        LabelSelector((), (Requirement("app", "In", ("web", "db")),)),
        LabelSelector((), (Requirement("tier", "Exists"),)),
        LabelSelector((), (Requirement("tier", "DoesNotExist"),)),
        LabelSelector(()),
    ],
)
ACCEPTED = tuple(
    Condition(type="Accepted", status=status, reason=reason, observed_generation=1)
    for status, reason in (("True", "Accepted"), ("True", "Accepted"), ("False", "AddressConflict"))
)
ages = st.sampled_from([1.0, 5.0, 9.0])
generations = st.sampled_from(["", "-again"])


def gateway_classes() -> st.SearchStrategy[GatewayClass]:
    """Ours and another controller's, with and without parameters."""
    return st.builds(
        lambda name, controller, ref: GatewayClass(
            meta=ObjectMeta(name=name, uid="class"), controller_name=controller, parameters_ref=ref
        ),
        st.sampled_from(CLASSES),
        st.sampled_from(["persistip.dev/controller"] * 3 + ["example.com/other"]),
        st.sampled_from([ParametersRef("", "ConfigMap", "allowed", "persistip-system")] * 3 + [None]),
    )


def config_maps() -> st.SearchStrategy[ConfigMap]:
    """Parameters that allow all, a part, or cannot be read."""
    return st.builds(
        lambda allowed: ConfigMap(
            ObjectMeta(name="allowed", namespace="persistip-system", uid="cm"), (("allowedAddresses", allowed),)
        ),
        st.sampled_from(["203.0.113.0/24 2001:db8::/64"] * 3 + ["203.0.113.8/30", "nonsense"]),
    )


def suspects() -> st.SearchStrategy[ConfigMap]:
    """Nodes recorded as dead: by their UID, by that of a former one, by nothing that can be read."""
    values = st.sampled_from(["node-{} since noon", "node-{}-again", ""])
    return st.dictionaries(st.sampled_from(NODES), values, max_size=2).map(
        lambda found: ConfigMap(
            ObjectMeta(name="persistip-suspects", namespace="persistip-system", uid="suspects"),
            tuple(sorted((name, value.format(name)) for name, value in found.items())),
        )
    )


def namespaces() -> st.SearchStrategy[Namespace]:
    """Namespaces with and without the label."""
    return st.builds(
        lambda name, labelled: Namespace(
            ObjectMeta(name=name, uid=f"ns-{name}", labels={"persistent-ip": "yes"} if labelled else {})
        ),
        st.sampled_from(NAMESPACES),
        st.sampled_from([True, True, False]),
    )


def gateways() -> st.SearchStrategy[Gateway]:
    """Two Gateways whose pools overlap."""
    return st.builds(
        lambda name, class_name, values, from_, again: Gateway(
            meta=ObjectMeta(name=name, namespace="infra", uid=f"gw-{name}{again}", generation=1, created_at=T0 - 99),
            class_name=class_name,
            addresses=tuple(AddressSpec("networking.gke.io/cidr", value) for value in values),
            listeners=(
                Listener(
                    name="l", namespaces_from=from_, namespace_selector=LabelSelector((("persistent-ip", "yes"),))
                ),
            ),
        ),
        st.sampled_from(["pool", "spare"]),
        st.sampled_from(CLASSES),
        st.sampled_from([("203.0.113.8/29", "2001:db8::/64"), ("203.0.113.8/31",), ("203.0.113.12/30",)]),
        st.sampled_from([From.ALL, From.SELECTOR, From.SELECTOR, From.SAME]),
        generations,
    )


def nodes() -> st.SearchStrategy[Node]:
    """Nodes that are well, off, made again, selected by fast routes, or own an address of a pool."""
    return st.builds(
        lambda name, again, labels, annotations, off, ready, extra: attrs.evolve(
            node(name),
            meta=ObjectMeta(name=name, uid=f"node-{name}{again}", labels=labels, annotations=annotations),
            out_of_service=off,
            ready=ready,
            ips=node(name).ips + extra,
        ),
        st.sampled_from(NODES),
        generations,
        st.sampled_from([{}, {"pool": "failover"}, {"pool": "failover", "zone": "z"}]),
        st.sampled_from([{}, {"networking.gke.io/networks": '[{"name": "blue", "cidrs": ["10.9.0.0/24"]}]'}]),
        st.sampled_from([False, False, True]),
        st.booleans(),
        st.sampled_from([()] * 8 + [(ip_address("203.0.113.15"),), (ip_address("203.0.113.9"),)]),
    )


@st.composite
def agents(draw: st.DrawFn) -> Pod:
    """Pods of agents, one or two on a node."""
    node_name, again = draw(st.sampled_from(NODES)), draw(st.sampled_from(["", "-next"]))
    found = pod(f"agent-{node_name}{again}", node_name, ready=draw(st.booleans()), host_network=True, ips=())
    namespace = draw(st.sampled_from(["persistip-system", "persistip-system", NAMESPACES[0]]))
    return attrs.evolve(found, meta=attrs.evolve(found.meta, namespace=namespace, labels=dict(LABELS)))


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """Pods in any state."""
    name, again = draw(st.sampled_from(PODS)), draw(generations)
    found = pod(name, draw(st.sampled_from(NODES)), age=draw(ages), ready=draw(st.booleans()))
    meta = attrs.evolve(
        found.meta,
        namespace=draw(st.sampled_from(NAMESPACES)),
        uid=f"pod-{name}{again}",
        labels={"app": draw(st.sampled_from(["web", "web", "db"])), **draw(st.sampled_from([{}, {"tier": "front"}]))},
        annotations=draw(
            st.sampled_from([{}, {"networking.gke.io/pod-ips": '[{"networkName": "blue", "ip": "10.9.0.7"}]'}])
        ),
        deleted_at=draw(st.sampled_from([None, None, T0])),
    )
    changes = draw(
        st.sampled_from(
            [
                {},
                {},
                {"ips": found.ips[:1]},
                {"ips": ()},
                {"node_name": ""},
                {"ips": (ip_address("10.0.1.99"),)},  # one that several claim
                {"ips": (ip_address("10.0.1.99"),), "host_network": True},
            ]
        )
    )
    return attrs.evolve(found, meta=meta, phase=draw(st.sampled_from(["Running", "Running", "Failed"])), **changes)


@st.composite
def routes(draw: st.DrawFn, namespaces: tuple[str, ...] = NAMESPACES) -> GKEIPRoute:
    """Routes over the same few addresses, with every annotation."""
    name, again = draw(st.sampled_from(ROUTES)), draw(generations)
    annotations = draw(
        st.sampled_from(
            [
                {},
                {},
                {},
                {"persistip.dev/failback": "never"},
                {"persistip.dev/prefer": "p1"},
                {"persistip.dev/hold": "true"},
            ]
        )
    )
    values = draw(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True))
    return GKEIPRoute(
        meta=ObjectMeta(
            name=name,
            namespace=draw(st.sampled_from(namespaces)),
            uid=f"route-{name}{again}",
            generation=1,
            created_at=T0 - draw(ages),
            annotations=annotations,
        ),
        parent_refs=tuple(
            ParentRef(name=each, namespace="infra", section_name=section)
            for each, section in draw(
                st.sampled_from(
                    [
                        (("pool", ""),),
                        (("pool", ""),),
                        (("pool", ""), ("spare", "")),
                        (("pool", "l"), ("pool", "none")),
                        (("pool", "none"),),
                    ]
                )
            )
        ),
        addresses=tuple(AddressSpec("IPAddress", value) for value in values),
        pod_selector=draw(selectors),
        network=draw(st.sampled_from(["default", "", "", "blue"])),
        node_selector=draw(st.sampled_from([None, None, None, LabelSelector((("pool", "failover"),))])),
        reaction_mode=draw(st.sampled_from(["ReadyCondition", "ReadyCondition", "Exists"])),
        status=draw(st.sampled_from([RouteStatus(), *(RouteStatus(conditions=(each,)) for each in ACCEPTED)])),
    )


@st.composite
def attachments(draw: st.DrawFn) -> AddressAttachment:
    """Attachments in any state, for any of the routes, also for routes that are not there."""
    name, namespace, again = draw(st.sampled_from(ROUTES)), draw(st.sampled_from(NAMESPACES)), draw(generations)
    prefixes = draw(st.lists(st.sampled_from([ip_network(value) for value in ADDRESSES]), max_size=2, unique=True))
    gateway = Reference(namespace="infra", name="pool", uid="gw-pool")
    epoch = draw(st.integers(1, 3))
    releasing = draw(
        st.lists(
            st.builds(
                lambda prefix, node_name, how: Release(
                    prefixes=(prefix,),
                    pod_name="p1",
                    pod_uid="pod-p1",
                    node_name=node_name,
                    node_uid=f"node-{node_name}",
                    how=how,
                    epoch=1,
                    since_at=T0,
                ),
                st.sampled_from([ip_network(value) for value in ADDRESSES]),
                st.sampled_from(NODES),
                st.sampled_from(How),
            ),
            max_size=1,
        )
    )
    report = NodeReport(
        node_name=draw(st.sampled_from(NODES)),
        epoch=draw(st.integers(1, 3)),
        state=draw(st.sampled_from(NodeStateName)),
        released=draw(st.integers(0, 1)),
    )
    spec = AttachmentSpec(
        route=Reference(namespace=namespace, name=name, uid=f"route-{name}{again}"),
        addresses=tuple(
            AttachedAddress(prefix=prefix, gateway=gateway, pending=draw(st.booleans())) for prefix in prefixes
        ),
        holder=draw(st.sampled_from([None, *HOLDERS])),
        releasing=tuple(releasing),
        epoch=epoch,
    )
    meta = ObjectMeta(
        name=attachment_name(namespace, name),
        uid=f"att-{name}",
        deleted_at=draw(st.sampled_from([None, None, None, T0])),
        finalizers=("persistip.dev/release",),
        labels={**draw(st.sampled_from(CLASS_LABELS)), **spec.node_labels()},
    )
    return AddressAttachment(meta=meta, spec=spec, nodes=(report,))


def _holders() -> list[object]:
    from persistip.decide.holder import to_holder  # noqa: PLC0415

    known = {name: node(name) for name in NODES}
    return [to_holder(pod(name, on), known, frozenset({4, 6})) for name in PODS for on in NODES]


HOLDERS = _holders()


def networks() -> st.SearchStrategy[Network | GKENetworkParamSet]:
    """The network blue in any state, and its parameters."""
    ref = ParametersRef("networking.gke.io", "GKENetworkParamSet", "params")
    return st.one_of(
        st.builds(
            lambda type_, ready, ref: Network(
                meta=ObjectMeta(name="blue", uid="blue"), type=type_, ready=ready, parameters_ref=ref
            ),
            st.sampled_from(["L3", "L3", "Device", "L2"]),
            st.booleans(),
            st.sampled_from([None, ref]),
        ),
        st.builds(
            lambda ready: GKENetworkParamSet(meta=ObjectMeta(name="params", uid="params"), ready=ready), st.booleans()
        ),
    )


def services() -> st.SearchStrategy[Service | ServiceCIDR]:
    """Services that take an address, and ranges that hold some."""
    return st.one_of(
        st.builds(
            lambda name, ips, age: Service(
                meta=ObjectMeta(name=name, namespace="other", uid=f"svc-{name}", created_at=T0 - age), ips=ips
            ),
            st.sampled_from(["s1", "s2"]),
            st.sampled_from(
                [(), (ip_address("203.0.113.9"),), (ip_address("203.0.113.13"), ip_address("2001:db8::9"))]
            ),
            ages,
        ),
        st.builds(
            lambda cidrs: ServiceCIDR(meta=ObjectMeta(name="kubernetes", uid="cidr"), cidrs=cidrs),
            st.sampled_from([(), (ip_network("203.0.113.12/30"),)]),
        ),
    )


def objects() -> st.SearchStrategy[ClusterObject]:
    """Any object of such a cluster."""
    return st.one_of(
        gateway_classes(),
        config_maps(),
        suspects(),
        namespaces(),
        gateways(),
        nodes(),
        pods(),
        pods(),
        agents(),
        routes(),
        routes(),
        routes(),
        attachments(),
        attachments(),
        networks(),
        services(),
    )


def clusters() -> st.SearchStrategy[dict[object, ClusterObject]]:
    """A cluster in which routes have a chance: the furniture and then anything over it."""
    return st.lists(objects(), max_size=14).map(
        lambda found: {each.key: each for each in (*FURNITURE, *found)},
    )


FURNITURE: tuple[ClusterObject, ...] = (
    GatewayClass(
        meta=ObjectMeta(name=CLASS, uid="class"),
        controller_name="persistip.dev/controller",
        parameters_ref=ParametersRef("", "ConfigMap", "allowed", "persistip-system"),
    ),
    ConfigMap(
        ObjectMeta(name="allowed", namespace="persistip-system", uid="cm"),
        (("allowedAddresses", "203.0.113.0/24 2001:db8::/64"),),
    ),
    *(Namespace(ObjectMeta(name=name, uid=f"ns-{name}", labels={"persistent-ip": "yes"})) for name in NAMESPACES),
    Gateway(
        meta=ObjectMeta(name="pool", namespace="infra", uid="gw-pool", generation=1, created_at=T0 - 99),
        class_name=CLASS,
        addresses=(
            AddressSpec("networking.gke.io/cidr", "203.0.113.8/29"),
            AddressSpec("IPAddress", "2001:db8::9"),
        ),
        listeners=(Listener(name="l", namespaces_from=From.ALL),),
    ),
    *(node(name) for name in NODES),
)
