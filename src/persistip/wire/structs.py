"""
What do the objects that we decide on look like on the wire, as far as we read them?

Those of Gateway API, of networking.gke.io and our own; all others are in ``persistip.wire.surroundings``. One msgspec
struct per JSON object. Decoding ignores what a struct does not name, which makes it fast and safe against newer
servers; ``null`` means absent, as Go writes it. For users' files, ``persistip.wire.check`` forbids unknown fields:
``unread`` names those that exist upstream and that we never look at, ``required`` those that the CRD's schema demands
although we could do without, ``is_open`` the structs whose schema is Kubernetes' own and long.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

import msgspec

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Wire(msgspec.Struct, omit_defaults=True, rename="camel", gc=False):
    """Base of all: camelCase on the wire only."""

    unread: ClassVar[frozenset[str]] = frozenset()
    required: ClassVar[frozenset[str]] = frozenset()
    is_open: ClassVar[bool] = False


class Meta(Wire):
    """``metadata``."""

    unread = frozenset({"managedFields", "ownerReferences", "generateName", "selfLink", "deletionGracePeriodSeconds"})
    required = frozenset({"name"})

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: tuple[str, ...] | None = None


class Condition(Wire):
    """``metav1.Condition``."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    observed_generation: int | None = None
    last_transition_time: Time | None = None


class Requirement(Wire):
    """``matchExpressions[]``."""

    key: str
    operator: str
    values: tuple[str, ...] | None = None


class Selector(Wire):
    """``metav1.LabelSelector``."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[Requirement, ...] | None = None


class Address(Wire):
    """``{type, value}`` of a Gateway or route."""

    type: str | None = None
    value: str | None = None


# ---------------------------------------------------------------- gateway.networking.k8s.io
class ParametersRef(Wire):
    """``spec.parametersRef``."""

    group: str
    kind: str
    name: str
    namespace: str | None = None


class GatewayClassSpec(Wire):
    """GatewayClass ``spec``."""

    unread = frozenset({"description"})

    controller_name: str
    parameters_ref: ParametersRef | None = None


class ConditionsStatus(Wire):
    """A ``status`` of which only the conditions are read."""

    unread = frozenset({"supportedFeatures"})

    conditions: tuple[Condition, ...] | None = None


class GatewayClassObject(Wire):
    """GatewayClass."""

    metadata: Meta
    spec: GatewayClassSpec
    status: ConditionsStatus | None = None


class RouteKind(Wire):
    """``kinds[]``."""

    kind: str
    group: str | None = None


class RouteNamespaces(Wire):
    """``allowedRoutes.namespaces``."""

    from_: str | None = msgspec.field(default=None, name="from")
    selector: Selector | None = None


class AllowedRoutes(Wire):
    """``allowedRoutes``."""

    namespaces: RouteNamespaces | None = None
    kinds: tuple[RouteKind, ...] | None = None


class Listener(Wire):
    """``spec.listeners[]``."""

    unread = frozenset({"hostname", "tls"})
    required = frozenset({"port", "protocol"})

    name: str
    port: int | None = None
    protocol: str | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewaySpec(Wire):
    """Gateway ``spec``."""

    unread = frozenset({"infrastructure", "backendTLS", "allowedListeners", "tls", "defaultScope"})
    required = frozenset({"listeners"})

    gateway_class_name: str
    addresses: tuple[Address, ...] | None = None
    listeners: tuple[Listener, ...] | None = None


class ListenerStatus(Wire):
    """``status.listeners[]``."""

    name: str
    supported_kinds: tuple[RouteKind, ...] | None = None
    attached_routes: int | None = None
    conditions: tuple[Condition, ...] | None = None


class GatewayStatus(Wire):
    """Gateway ``status``."""

    unread = frozenset({"attachedListenerSets"})

    addresses: tuple[Address, ...] | None = None
    conditions: tuple[Condition, ...] | None = None
    listeners: tuple[ListenerStatus, ...] | None = None


class GatewayObject(Wire):
    """Gateway."""

    metadata: Meta
    spec: GatewaySpec
    status: GatewayStatus | None = None


# ---------------------------------------------------------------- networking.gke.io
class ParentRef(Wire):
    """``spec.parentRefs[]``."""

    name: str
    namespace: str | None = None
    group: str | None = None
    kind: str | None = None
    section_name: str | None = None
    port: int | None = None


class LoadBalancing(Wire):
    """``spec.loadBalancing``."""

    health_check_name: str
    standby_pod_selector: Selector | None = None


class RouteSpec(Wire):
    """GKEIPRoute ``spec``; parentRefs may be absent by the schema, which acceptance then reports."""

    required = frozenset({"addresses", "podSelector"})

    parent_refs: tuple[ParentRef, ...] | None = None
    addresses: tuple[Address, ...] | None = None
    pod_selector: Selector | None = None
    network: str | None = None
    reaction_mode: str | None = None
    node_selector: Selector | None = None
    load_balancing: LoadBalancing | None = None
    allow_global_access: bool | None = None
    ha_policy: bool | None = None


class RouteStatus(Wire):
    """GKEIPRoute ``status``."""

    pods: tuple[str, ...] | None = None
    conditions: tuple[Condition, ...] | None = None


class RouteObject(Wire):
    """GKEIPRoute."""

    metadata: Meta
    spec: RouteSpec | None = None
    status: RouteStatus | None = None

    required = frozenset({"spec"})


# ---------------------------------------------------------------- persistip.dev
class Reference(Wire):
    """An object by name and UID."""

    name: str
    uid: str
    namespace: str | None = None


class AttachedAddress(Wire):
    """``spec.addresses[]``."""

    prefix: str
    gateway_ref: Reference
    pending: bool = False


class HolderPod(Wire):
    """``spec.pod`` and ``spec.releasing[].pod``; the latter without IPs."""

    name: str
    uid: str
    ips: tuple[str, ...] | None = None


class Release(Wire):
    """``spec.releasing[]``."""

    prefixes: tuple[str, ...]
    pod: HolderPod
    node_name: str
    how: str
    epoch: int
    since: Time
    node_uid: str = msgspec.field(name="nodeUID")


class Prepared(Wire):
    """``spec.prepared[]``."""

    node_name: str
    ip: str


class Damped(Wire):
    """``spec.damped``."""

    until: Time
    pod_uid: str = msgspec.field(name="podUID")


class AttachmentSpec(Wire):
    """AddressAttachment ``spec``."""

    route_ref: Reference
    epoch: int
    mode: str | None = None
    strategy: str | None = None
    network: str | None = None
    addresses: tuple[AttachedAddress, ...] | None = None
    pod: HolderPod | None = None
    node_name: str | None = None
    node_uid: str | None = msgspec.field(default=None, name="nodeUID")
    pod_address: str | None = None
    flows: str | None = None
    releasing: tuple[Release, ...] | None = None
    prepared: tuple[Prepared, ...] | None = None
    damped: Damped | None = None


class NodeReport(Wire):
    """``status.nodes[]``."""

    node_name: str
    epoch: int | None = None
    state: str | None = None
    released: int | None = None
    reason: str | None = None
    message: str | None = None
    at: Time | None = None


class AttachmentStatus(Wire):
    """AddressAttachment ``status``."""

    nodes: tuple[NodeReport, ...] | None = None


class AttachmentObject(Wire):
    """AddressAttachment."""

    metadata: Meta
    spec: AttachmentSpec
    status: AttachmentStatus | None = None
