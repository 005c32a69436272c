"""
What does a GatewayClass allow?

In: the class and the ConfigMap that its ``parametersRef`` names.  Out: a ClassRules, or the sentences that say what is
wrong with it. The keys are ``allowedAddresses`` and ``allowedNamespaces``, values separated by white space or commas.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_network

import attrs

from persistip.model.address import Prefix
from persistip.model.gateway import CLASSES, ClassBehaviour, ConfigMap, GatewayClass, Mode
from persistip.model.views import GatewayFacts, Policy

POD_ADDRESSES = frozenset({"app", "configure", "nat"})
SERVED_POD_ADDRESSES = frozenset({"app"})
"""Those that the agents of this version do something about; the others are refused, and never promised."""


@attrs.frozen(kw_only=True)
class Parameter:
    """One key of a class's ConfigMap; ``default``: what its absence means."""

    key: str
    form: str
    default: str
    means: str


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        key="allowedAddresses",
        form="CIDRs, separated by white space or commas; no host bits",
        default="none, where no cloud says who owns what",
        means="Which addresses Gateways of the class may list.",
    ),
    Parameter(
        key="allowedNamespaces",
        form="names of namespaces, separated by white space or commas",
        default="all",
        means="Where Gateways of the class may live.",
    ),
    Parameter(
        key="podAddress",
        form=", ".join(f"`{value}`" for value in sorted(SERVED_POD_ADDRESSES)),
        default="`app`",
        means="What routes without the annotation `persistip.dev/pod-address` get.",
    ),
)
"""Every key of the ConfigMap that ``spec.parametersRef`` of a GatewayClass names."""
_KEYS = frozenset(each.key for each in PARAMETERS)


@attrs.frozen(kw_only=True)
class ClassRules:
    """The behaviour behind a class name and its parameters; ``allowed_namespaces`` None: all. ``where`` they stand."""

    behaviour: ClassBehaviour
    where: str = ""
    allowed_addresses: tuple[Prefix, ...] = ()
    allowed_namespaces: frozenset[str] | None = None
    pod_address: str = "app"
    faults: tuple[str, ...] = ()


def is_ours(facts: GatewayFacts, policy: Policy) -> bool:
    """Whether the Gateway's class names our controller; an absent class belongs to nobody."""
    return facts.gateway_class is not None and facts.gateway_class.controller_name == policy.controller_name


def class_rules(gateway_class: GatewayClass, parameters: ConfigMap | None) -> ClassRules | None:
    """
    Read a class; None for a name that stands for no behaviour.

    Parameters that cannot be read are faults of the class, and nothing in them is used: a typing error must not
    widen what tenants may claim.
    """
    behaviour = CLASSES.get(gateway_class.meta.name)
    if behaviour is None:
        return None
    ref = gateway_class.parameters_ref
    if ref is None:
        return ClassRules(behaviour=behaviour)
    if ref.group not in ("", "core") or ref.kind != "ConfigMap":
        return _faulty(behaviour, f"spec.parametersRef names a {ref.kind} of group {ref.group!r}; name a ConfigMap")
    if parameters is None:
        return _faulty(
            behaviour, f"spec.parametersRef names ConfigMap {ref.namespace}/{ref.name}, which does not exist"
        )
    return _read(behaviour, parameters)


def _faulty(behaviour: ClassBehaviour, *faults: str) -> ClassRules:
    return ClassRules(behaviour=behaviour, faults=faults)


def _read(behaviour: ClassBehaviour, parameters: ConfigMap) -> ClassRules:
    data = dict(parameters.data)
    where = f"ConfigMap {parameters.meta.namespace}/{parameters.meta.name}"
    faults = [
        f"{where}: unknown key {key!r}; known are {', '.join(sorted(_KEYS))}" for key in sorted(set(data) - _KEYS)
    ]
    addresses: list[Prefix] = []
    for word in _words(data.get("allowedAddresses", "")):
        try:
            addresses.append(_cidr(word))
        except ValueError:
            faults.append(f"{where}: allowedAddresses: {word!r} is not a CIDR (or has host bits set)")
    pod_address = data.get("podAddress", "app")
    if pod_address not in POD_ADDRESSES:
        faults.append(f"{where}: podAddress {pod_address!r}; use one of {', '.join(sorted(POD_ADDRESSES))}")
    elif pod_address not in SERVED_POD_ADDRESSES:
        served = ", ".join(sorted(SERVED_POD_ADDRESSES))
        faults.append(f"{where}: podAddress {pod_address!r} is not served by the agents of this version; use {served}")
    if faults:
        return _faulty(behaviour, *faults)
    namespaces = _words(data["allowedNamespaces"]) if "allowedNamespaces" in data else None
    return ClassRules(
        behaviour=behaviour,
        where=where,
        allowed_addresses=tuple(addresses),
        allowed_namespaces=None if namespaces is None else frozenset(namespaces),
        pod_address=pod_address,
    )


@lru_cache(maxsize=1024)
def _cidr(word: str) -> Prefix:
    """Read a CIDR; ValueError for host bits and for what is none."""
    return ip_network(word, strict=True)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


def why_unserved(behaviour: ClassBehaviour) -> str:
    """
    Why this version's agents do not act on routes of such a class; empty where they do.

    The other classes are known and judged like any, and their routes are accepted; nothing is attached for them, and
    Gateway and route say so where they would say that they are programmed.
    """
    if behaviour.mode is Mode.STANDARD:
        return ""
    what = "fast failover" if behaviour.mode is Mode.FAST else "load balancing by health checks"
    return f"the class is for {what}, which this version checks and does not act on; use a standard class"
