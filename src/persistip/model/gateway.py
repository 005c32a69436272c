"""
What do a GatewayClass and a Gateway say?

A class is behaviour, a Gateway a pool of addresses, a listener a permission to attach (Gateway API v1).
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from persistip.model.address import AddressSpec
from persistip.model.conditions import Condition
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.selector import LabelSelector

DEFAULT_CONTROLLER = "persistip.dev/controller"
IN_USE_FINALIZER = "gateway-exists-finalizer.gateway.networking.k8s.io"
"""Gateway API's finalizer: a class on which it stands is not gone while Gateways are of it."""


class Mode(StrEnum):
    """How addresses of a class move."""

    STANDARD = "standard"
    FAST = "fast"
    LOAD_BALANCING = "loadbalancing"


@attrs.frozen
class ClassBehaviour:
    """What a class name stands for."""

    mode: Mode
    external: bool


CLASSES = {
    "gke-persistent-regional-external-managed": ClassBehaviour(Mode.STANDARD, external=True),
    "gke-persistent-regional-internal-managed": ClassBehaviour(Mode.STANDARD, external=False),
    "gke-persistent-fast-regional-external-managed": ClassBehaviour(Mode.FAST, external=True),
    "gke-persistent-fast-regional-internal-managed": ClassBehaviour(Mode.FAST, external=False),
    "gke-passthrough-lb-external-managed": ClassBehaviour(Mode.LOAD_BALANCING, external=True),
    "gke-passthrough-lb-internal-managed": ClassBehaviour(Mode.LOAD_BALANCING, external=False),
}


CLASS_NAMES = {behaviour: name for name, behaviour in CLASSES.items()}


@attrs.frozen
class ParametersRef:
    """``spec.parametersRef`` of a class; only ConfigMaps of the core group are understood."""

    group: str
    kind: str
    name: str
    namespace: str = ""


@attrs.frozen(kw_only=True)
class GatewayClass:
    """A cluster-scoped GatewayClass."""

    meta: ObjectMeta
    controller_name: str
    parameters_ref: ParametersRef | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.GATEWAY_CLASS, "", self.meta.name)


@attrs.frozen
class ConfigMap:
    """Class parameters as a cluster administrator writes them."""

    meta: ObjectMeta
    data: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.CONFIG_MAP, self.meta.namespace, self.meta.name)


@attrs.frozen
class RouteKind:
    """A kind named in ``allowedRoutes.kinds``."""

    group: str
    kind: str


class From(StrEnum):
    """``allowedRoutes.namespaces.from``."""

    SAME = "Same"
    ALL = "All"
    SELECTOR = "Selector"


@attrs.frozen(kw_only=True)
class Listener:
    """One permission. ``namespaces_from`` is kept as written, so that a wrong word can be named."""

    name: str
    port: int = 1
    protocol: str = "none"
    namespaces_from: str = From.SAME
    namespace_selector: LabelSelector | None = None
    kinds: tuple[RouteKind, ...] = ()


@attrs.frozen(kw_only=True)
class ListenerStatus:
    """``status.listeners[]``."""

    name: str
    supported_kinds: tuple[RouteKind, ...] = ()
    attached_routes: int = 0
    conditions: tuple[Condition, ...] = ()


@attrs.frozen(kw_only=True)
class GatewayStatus:
    """What the controller wrote last."""

    addresses: tuple[AddressSpec, ...] = ()
    conditions: tuple[Condition, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()


@attrs.frozen(kw_only=True)
class Gateway:
    """A pool of addresses and who may use them."""

    meta: ObjectMeta
    class_name: str
    addresses: tuple[AddressSpec, ...] = ()
    listeners: tuple[Listener, ...] = ()
    status: GatewayStatus = GatewayStatus()

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.GATEWAY, self.meta.namespace, self.meta.name)
