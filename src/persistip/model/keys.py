"""
How is an object of the cluster named, and what does every object carry?

An ``ObjectKey`` is kind, namespace and name: what a work queue holds. An ``ObjectMeta`` is the part of Kubernetes'
``metadata`` that decisions read. Objects are told apart by UID, never by name: a name made again is another object.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import attrs

DOMAIN = "persistip.dev"


class Kind(StrEnum):
    """The kinds of object that a decision may look at."""

    GATEWAY_CLASS = "GatewayClass"
    GATEWAY = "Gateway"
    ROUTE = "GKEIPRoute"
    ATTACHMENT = "AddressAttachment"
    POD = "Pod"
    NODE = "Node"
    NAMESPACE = "Namespace"
    CONFIG_MAP = "ConfigMap"
    NETWORK = "Network"
    PARAM_SET = "GKENetworkParamSet"
    SERVICE = "Service"
    SERVICE_CIDR = "ServiceCIDR"
    DEFINITION = "CustomResourceDefinition"

    # An enum's own is a call of Python's for each look-up of a key; this one also agrees with that of the bare word.
    __hash__ = str.__hash__


class ObjectKey(NamedTuple):
    """
    Kind, namespace (empty for cluster-scoped kinds) and name.

    A tuple, unlike the other values: keys are hashed and compared more often than anything else is done, and a tuple
    does both without a call of Python's.
    """

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"

    @property
    def path(self) -> str:
        """``namespace/name``, or the bare name of a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


_NONE: Mapping[str, str] = MappingProxyType({})
"""One for all objects that have none, of which there are very many."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class ObjectMeta:
    """
    Kubernetes ``metadata``, as far as decisions read it.

    ``created_at`` and ``deleted_at`` are seconds since the epoch (Kubernetes keeps whole seconds).
    ``resource_version`` is opaque to decisions, which only hand it back as a precondition; two versions of an object
    that differ in nothing else are equal, so a change that no decision reads costs none.
    """

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = attrs.field(default="", eq=False)
    generation: int = 0
    created_at: float = 0.0
    deleted_at: float | None = None
    labels: Mapping[str, str] = _NONE
    annotations: Mapping[str, str] = _NONE
    finalizers: tuple[str, ...] = ()

    @property
    def is_terminating(self) -> bool:
        """Deletion was asked for and has not finished."""
        return self.deleted_at is not None


def short_hash(text: str) -> str:
    """
    26 lower-case base32 letters of the SHA-256 of *text*.

    Names and labels that must fit 63 characters whatever the user's names are; 130 bits, so two never meet.
    """
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:26]


@lru_cache(maxsize=32_768)
def attachment_name(namespace: str, route: str) -> str:
    """Name of the AddressAttachment of a standard or fast route."""
    return "r-" + short_hash(f"{namespace}/{route}")


def attachment_key(route: ObjectKey) -> ObjectKey:
    """Key of the AddressAttachment of a standard or fast route."""
    return ObjectKey(Kind.ATTACHMENT, "", attachment_name(route.namespace, route.name))


CLASS_LABEL = f"{DOMAIN}/gateway-class"
"""Label of an AddressAttachment: the GatewayClass through which its addresses were attached."""
NODE_LABELS = f"node.{DOMAIN}"
"""Prefix of the labels of an AddressAttachment, one for each node concerned; behind it a hash of the node's name."""


@lru_cache(maxsize=4096)
def node_label(node_name: str) -> str:
    """Label that an attachment carries for a node concerned; the node's agent watches for its existence."""
    return f"{NODE_LABELS}/{short_hash(node_name)}"
