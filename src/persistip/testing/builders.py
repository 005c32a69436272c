"""
How does a test say what it needs of an object, and nothing else?

In: the fields that matter to the test.  Out: model objects that fit together: ``route()`` claims an address of
``gateway()`` for Pods like ``pod()`` on nodes like ``node()``, and a cluster of all of them accepts it. UIDs are made
from names, so that two objects of one name are the same object unless a test says otherwise. ``from_model`` of
``persistip.wire`` makes the dicts of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Protocol

from persistip.model.address import CIDR_TYPES, IP_ADDRESS, AddressSpec
from persistip.model.attachment import (
    RELEASE_FINALIZER,
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Holder,
    Reference,
)
from persistip.model.gateway import DEFAULT_CONTROLLER, ConfigMap, From, Gateway, GatewayClass, Listener, ParametersRef
from persistip.model.keys import CLASS_LABEL, ObjectMeta, attachment_name
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute, ParentRef, ReactionModeName
from persistip.model.selector import LabelSelector
from persistip.strategies import ClusterObject
from persistip.wire.encode import from_model

START = 1_800_000_000.0
"""When everything was created unless a test says otherwise."""
STANDARD_CLASS = "gke-persistent-regional-external-managed"
ADDRESS = "203.0.113.9"
PODS_LABELS: Mapping[str, str] = {"app": "nat"}


class ManualClock:
    """A Clock that stands still until it is moved."""

    def __init__(self, now: float = START) -> None:
        self._now = now

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


def _meta(name: str, namespace: str = "", *, uid: str | None = None, **fields: Any) -> ObjectMeta:
    named = {"name": name, "namespace": namespace, "uid": f"uid-{name}" if uid is None else uid}
    return ObjectMeta(**{**named, "resource_version": "1", "generation": 1, "created_at": START, **fields})


def pod(
    name: str = "nat-0",
    namespace: str = "tenant",
    *,
    node: str = "node-a",
    ips: Iterable[str] = ("10.0.0.2",),
    ready: bool = True,
    ready_at: float = START,
    labels: Mapping[str, str] = PODS_LABELS,
    phase: str | None = None,
    host_network: bool = False,
    uid: str | None = None,
    created_at: float = START,
    deleted_at: float | None = None,
) -> Pod:
    """A running Pod; without *node* it is pending."""
    return Pod(
        meta=_meta(name, namespace, uid=uid, created_at=created_at, deleted_at=deleted_at, labels=dict(labels)),
        node_name=node,
        phase=phase or ("Running" if node else "Pending"),
        ips=tuple(ip_address(ip) for ip in ips),
        host_network=host_network,
        ready=ready,
        ready_at=ready_at,
    )


def node(
    name: str = "node-a",
    *,
    ips: Iterable[str] = (),
    pod_cidrs: Iterable[str] = (),
    ready: bool = True,
    out_of_service: bool = False,
    uid: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Node:
    """A Node that is Ready."""
    return Node(
        meta=_meta(name, uid=uid, labels=dict(labels or {})),
        ips=tuple(ip_address(ip) for ip in ips),
        pod_cidrs=tuple(ip_network(cidr) for cidr in pod_cidrs),
        ready=ready,
        out_of_service=out_of_service,
    )


def namespace(name: str = "tenant", *, labels: Mapping[str, str] | None = None) -> Namespace:
    """A Namespace, with the label that every real one carries."""
    return Namespace(_meta(name, labels={"kubernetes.io/metadata.name": name, **(labels or {})}))


def config_map(
    name: str = "allowed", namespace: str = "persistip-system", *, allowed: str = "203.0.113.0/24 2001:db8::/64"
) -> ConfigMap:
    """The parameters of a class: *allowed* are the addresses that its Gateways may list."""
    return ConfigMap(_meta(name, namespace), (("allowedAddresses", allowed),))


def gateway_class(
    name: str = STANDARD_CLASS, *, controller: str = DEFAULT_CONTROLLER, parameters: str | None = "allowed"
) -> GatewayClass:
    """A class of ours whose parameters are ``config_map()``."""
    ref = ParametersRef("", "ConfigMap", parameters, "persistip-system") if parameters else None
    return GatewayClass(meta=_meta(name), controller_name=controller, parameters_ref=ref)


def _addresses(values: Iterable[str]) -> tuple[AddressSpec, ...]:
    cidr = min(CIDR_TYPES)
    return tuple(AddressSpec(cidr if "/" in value else IP_ADDRESS, value) for value in values)


def gateway(
    name: str = "pool",
    namespace: str = "infra",
    *,
    addresses: Iterable[str] = (ADDRESS,),
    class_name: str = STANDARD_CLASS,
    listeners: Iterable[Listener] = (Listener(name="any", namespaces_from=From.ALL),),
    uid: str | None = None,
    created_at: float = START,
) -> Gateway:
    """A pool that every namespace may use."""
    return Gateway(
        meta=_meta(name, namespace, uid=uid, created_at=created_at),
        class_name=class_name,
        addresses=_addresses(addresses),
        listeners=tuple(listeners),
    )


def selector(**labels: str) -> LabelSelector:
    """A selector of labels, by keyword."""
    return LabelSelector(tuple(sorted(labels.items())))


def route(
    name: str = "nat-0",
    namespace: str = "tenant",
    *,
    addresses: Iterable[str] = (ADDRESS,),
    parents: Iterable[ParentRef] = (ParentRef(name="pool", namespace="infra"),),
    pods: LabelSelector | None = None,
    reaction_mode: str = ReactionModeName.READY_CONDITION,
    annotations: Mapping[str, str] | None = None,
    uid: str | None = None,
    generation: int = 1,
    created_at: float = START,
) -> GKEIPRoute:
    """A claim of ``gateway()``'s address for Pods like ``pod()``."""
    return GKEIPRoute(
        meta=_meta(
            name,
            namespace,
            uid=uid,
            generation=generation,
            created_at=created_at,
            annotations=dict(annotations or {}),
        ),
        parent_refs=tuple(parents),
        addresses=_addresses(addresses),
        pod_selector=selector(**PODS_LABELS) if pods is None else pods,
        reaction_mode=reaction_mode,
    )


def attachment(
    of: GKEIPRoute | None = None,
    *,
    holder: Pod | None = None,
    addresses: Iterable[str] | None = None,
    epoch: int = 1,
    uid: str | None = None,
    resource_version: str = "1",
    pool: Gateway | None = None,
    **fields: Any,
) -> AddressAttachment:
    """What the controller would have written for the route *of*; *fields* are the spec's others (``releasing`` …)."""
    claim = of or route()
    source = pool or gateway()
    via = Reference(namespace=source.meta.namespace, name=source.meta.name, uid=source.meta.uid)
    values = [address.value for address in claim.addresses] if addresses is None else list(addresses)
    prefixes = [ip_network(value) for value in values]
    spec = AttachmentSpec(
        route=Reference(namespace=claim.meta.namespace, name=claim.meta.name, uid=claim.meta.uid),
        addresses=tuple(AttachedAddress(prefix=prefix, gateway=via) for prefix in prefixes),
        holder=(
            Holder(
                pod_name=holder.meta.name,
                pod_uid=holder.meta.uid,
                pod_ips=holder.ips_of(prefix.version for prefix in prefixes),
                node_name=holder.node_name,
                node_uid=f"uid-{holder.node_name}",
            )
            if holder
            else None
        ),
        epoch=epoch,
        **fields,
    )
    name = attachment_name(claim.meta.namespace, claim.meta.name)
    return AddressAttachment(
        meta=_meta(
            name,
            uid=uid,
            resource_version=resource_version,
            labels={CLASS_LABEL: STANDARD_CLASS, **spec.node_labels()},
            finalizers=(RELEASE_FINALIZER,),
        ),
        spec=spec,
    )


class _Seedable(Protocol):
    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]: ...

    async def update(self, body: Mapping[str, Any], *, subresource: str = "", manager: str = "") -> dict[str, Any]: ...


async def seed(store: _Seedable, *objects: ClusterObject | Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Put *objects* into a memory store, status included, as the API server and the kubelet would between them.

    UIDs, versions and times of creation are the store's. Returns what stands there.
    """
    stored = []
    for each in objects:
        body = dict(each) if isinstance(each, Mapping) else from_model(each)
        metadata = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
        created = await store.create({**body, "metadata": metadata})
        if "status" in body:
            created = await store.update({**created, "status": body["status"]}, subresource="status")
        stored.append(created)
    return stored
