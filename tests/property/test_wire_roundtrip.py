"""Is every object that is written read back as the same object, whatever it holds?"""

import json
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from persistip.model.address import AddressSpec
from persistip.model.attachment import (
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Damped,
    Holder,
    How,
    NodeReport,
    Prepared,
    Reference,
    Release,
)
from persistip.model.conditions import Condition
from persistip.model.definition import CustomResourceDefinition
from persistip.model.gateway import (
    ConfigMap,
    Gateway,
    GatewayClass,
    GatewayStatus,
    Listener,
    ListenerStatus,
    Mode,
    ParametersRef,
    RouteKind,
)
from persistip.model.keys import ObjectMeta
from persistip.model.network import GKENetworkParamSet, Network
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, LoadBalancing, ParentRef, RouteStatus
from persistip.model.selector import LabelSelector, Requirement
from persistip.model.service import Service, ServiceCIDR
from persistip.strategies import ClusterObject
from persistip.wire import decode_object, from_model, to_model
from persistip.wire.times import format_micro_time, format_time, parse_time

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.text("abc-.0", min_size=1, max_size=8)
PAIRS = st.dictionaries(TEXT, TEXT, max_size=3)
SECONDS = st.integers(1, 4_000_000_000).map(float)
MICROSECONDS = st.integers(1, 4_000_000_000_000_000).map(lambda micros: micros / 1e6)
NUMBERS = st.integers(0, 2**53)
IPS = st.ip_addresses()
PREFIXES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(ip_network)


def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return tuples of up to three *items*."""
    return st.lists(items, max_size=3).map(tuple)


def metas(*, namespaced: bool) -> st.SearchStrategy[ObjectMeta]:
    """Return metadata of any object."""
    return st.builds(
        ObjectMeta,
        name=NAMES,
        namespace=NAMES if namespaced else st.just(""),
        uid=TEXT,
        resource_version=TEXT,
        generation=NUMBERS,
        created_at=SECONDS | st.just(0.0),
        deleted_at=SECONDS | st.none(),
        labels=PAIRS,
        annotations=PAIRS,
        finalizers=several(TEXT),
    )


CONDITIONS = several(
    st.builds(
        Condition,
        type=TEXT,
        status=TEXT,
        reason=TEXT,
        message=TEXT,
        observed_generation=NUMBERS,
        last_transition_at=SECONDS | st.just(0.0),
    )
)
SELECTORS = st.builds(
    LabelSelector,
    PAIRS.map(lambda pairs: tuple(sorted(pairs.items()))),
    several(st.builds(Requirement, TEXT, TEXT, several(TEXT))),
)
ADDRESSES = several(st.builds(AddressSpec, TEXT.filter(bool), TEXT))
KINDS = several(st.builds(RouteKind, TEXT, TEXT))
REFERENCES = st.builds(Reference, namespace=TEXT, name=TEXT, uid=TEXT)

CLASSES = st.builds(
    GatewayClass,
    meta=metas(namespaced=False),
    controller_name=TEXT,
    parameters_ref=st.builds(ParametersRef, TEXT, TEXT, TEXT, TEXT) | st.none(),
    conditions=CONDITIONS,
)
GATEWAYS = st.builds(
    Gateway,
    meta=metas(namespaced=True),
    class_name=TEXT,
    addresses=ADDRESSES,
    listeners=several(
        st.builds(
            Listener,
            name=TEXT,
            port=NUMBERS,
            protocol=TEXT,
            namespaces_from=TEXT,
            namespace_selector=SELECTORS | st.none(),
            kinds=KINDS,
        )
    ),
    status=st.builds(
        GatewayStatus,
        addresses=ADDRESSES,
        conditions=CONDITIONS,
        listeners=several(
            st.builds(ListenerStatus, name=TEXT, supported_kinds=KINDS, attached_routes=NUMBERS, conditions=CONDITIONS)
        ),
    ),
)
ROUTES = st.builds(
    GKEIPRoute,
    meta=metas(namespaced=True),
    parent_refs=several(
        st.builds(
            ParentRef,
            name=TEXT,
            namespace=TEXT,
            group=TEXT,
            kind=TEXT,
            section_name=TEXT,
            port=NUMBERS | st.none(),
        )
    ),
    addresses=ADDRESSES,
    pod_selector=SELECTORS,
    network=TEXT,
    reaction_mode=TEXT,
    node_selector=SELECTORS | st.none(),
    load_balancing=st.builds(LoadBalancing, health_check_name=TEXT, standby_pod_selector=SELECTORS | st.none())
    | st.none(),
    allow_global_access=st.booleans() | st.none(),
    ha_policy=st.booleans() | st.none(),
    status=st.builds(RouteStatus, pods=several(TEXT), conditions=CONDITIONS),
)
ATTACHMENTS = st.builds(
    AddressAttachment,
    meta=metas(namespaced=False),
    spec=st.builds(
        AttachmentSpec,
        route=REFERENCES,
        mode=st.sampled_from(Mode) | st.just("quantum"),
        strategy=TEXT,
        network=TEXT,
        addresses=several(st.builds(AttachedAddress, prefix=PREFIXES, gateway=REFERENCES, pending=st.booleans())),
        holder=st.builds(Holder, pod_name=TEXT, pod_uid=TEXT, pod_ips=several(IPS), node_name=TEXT, node_uid=TEXT)
        | st.none(),
        pod_address=TEXT,
        flows=TEXT,
        releasing=several(
            st.builds(
                Release,
                prefixes=several(PREFIXES),
                pod_name=TEXT,
                pod_uid=TEXT,
                node_name=TEXT,
                node_uid=TEXT,
                how=st.sampled_from(How),
                epoch=NUMBERS,
                since_at=MICROSECONDS,
            )
        ),
        prepared=several(st.builds(Prepared, node_name=TEXT, ip=IPS)),
        unknown=st.sampled_from([(), (("fresh", '{"a":[1,null]}'), ("fresher", "true"))]),
        damped=st.builds(Damped, pod_uid=TEXT, until_at=MICROSECONDS) | st.none(),
        epoch=NUMBERS,
    ),
    nodes=several(
        st.builds(
            NodeReport,
            node_name=TEXT,
            epoch=NUMBERS,
            state=TEXT,
            released=NUMBERS,
            reason=TEXT,
            message=TEXT,
            at=MICROSECONDS | st.just(0.0),
        )
    ),
)
PODS = st.builds(
    Pod,
    meta=metas(namespaced=True),
    node_name=TEXT,
    phase=TEXT.filter(bool),
    ips=several(IPS),
    host_network=st.booleans(),
    ready=st.booleans(),
    ready_at=SECONDS | st.just(0.0),
)
NODES = st.builds(
    Node,
    meta=metas(namespaced=False),
    ips=several(IPS),
    pod_cidrs=several(PREFIXES),
    ready=st.booleans(),
    out_of_service=st.booleans(),
)
NAMESPACES = st.builds(Namespace, metas(namespaced=False))
CONFIG_MAPS = st.builds(ConfigMap, metas(namespaced=True), PAIRS.map(lambda pairs: tuple(sorted(pairs.items()))))


NETWORKS = st.builds(
    Network,
    meta=metas(namespaced=False),
    type=TEXT,
    parameters_ref=st.none() | st.builds(ParametersRef, TEXT, TEXT, TEXT, TEXT),
    ready=st.booleans(),
    message=TEXT,
)
PARAM_SETS = st.builds(
    GKENetworkParamSet,
    meta=metas(namespaced=False),
    vpc=TEXT,
    vpc_subnet=TEXT,
    pod_ranges=several(TEXT),
    device_mode=TEXT,
    ready=st.booleans(),
    message=TEXT,
)
SERVICES = st.builds(Service, meta=metas(namespaced=True), ips=st.lists(IPS, max_size=3, unique=True).map(tuple))
SERVICE_CIDRS = st.builds(ServiceCIDR, meta=metas(namespaced=False), cidrs=several(PREFIXES))
DEFINITIONS = st.builds(CustomResourceDefinition, metas(namespaced=False))
ADDED = st.one_of(NETWORKS, PARAM_SETS, SERVICES, SERVICE_CIDRS, DEFINITIONS)


@given(st.one_of(ADDED, CLASSES, GATEWAYS, ROUTES, ATTACHMENTS, PODS, NODES, NAMESPACES, CONFIG_MAPS))
def test_object_written_and_read_is_the_same(obj: ClusterObject) -> None:
    """Plain data and JSON bytes both lead back to the value they were made from."""
    plain = from_model(obj)
    assert to_model(plain) == obj
    assert decode_object(obj.key.kind, json.dumps(plain).encode()) == obj


@given(MICROSECONDS)
def test_instant_written_and_read_is_the_same(seconds: float) -> None:
    """Microseconds survive; whole seconds are cut, never rounded into the future."""
    assert parse_time(format_micro_time(seconds)) == seconds
    assert parse_time(format_time(seconds)) == float(int(seconds))
