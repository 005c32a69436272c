"""
What is in the project before anybody calls?

In: a description, as values or as YAML.  Out: networks, instances, addresses, prefixes and rules of others in an
emulator's state, made under the same rules as if they had been asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from persistip.errors import ConfigError
from persistip.testing.compute_engine import changes
from persistip.testing.compute_engine.engine import ComputeEngine
from persistip.testing.compute_engine.links import Link
from persistip.testing.compute_engine.refusals import RefusalError


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As every part of a description: an unknown field is an error."""


class Subnetwork(_Value, frozen=True, kw_only=True):
    """A subnetwork of the project's region; ``ipv6`` is a /64."""

    name: str = "default"
    network: str = "default"
    ipv4: str = "10.128.0.0/20"
    ipv6: str = ""


class Instance(_Value, frozen=True, kw_only=True):
    """A virtual machine with one interface; without ``ip`` and ``mac`` it gets some."""

    name: str
    zone: str = ""
    subnetwork: str = "default"
    ip: str = ""
    mac: str = ""
    third_generation: bool = False


class ReservedAddress(_Value, frozen=True, kw_only=True):
    """An address that the user has reserved; ``internal`` names its subnetwork."""

    name: str
    ip: str = ""
    internal: str = ""
    tier: str = "PREMIUM"
    shared: bool = False


class DelegatedPrefix(_Value, frozen=True, kw_only=True):
    """A prefix of the user's own; ``enhanced``: single addresses may be taken out of it by its name."""

    name: str
    prefix: str
    enhanced: bool = True
    status: str = "ANNOUNCED"


class Description(_Value, frozen=True, kw_only=True):
    """
    A whole project. ``resources``: anything else, by method and body, as another user would have asked for it:
    ``[forwardingRules.insert, {name: theirs, …}]``; a zonal one has its zone in the body.
    """

    project: str = "lab"
    region: str = "europe-west4"
    zones: tuple[str, ...] = ("europe-west4-a", "europe-west4-b", "europe-west4-c")
    external_pool: str = "198.51.100.0/24"
    subnetworks: tuple[Subnetwork, ...] = (Subnetwork(),)
    instances: tuple[Instance, ...] = ()
    addresses: tuple[ReservedAddress, ...] = ()
    delegated_prefixes: tuple[DelegatedPrefix, ...] = ()
    resources: tuple[tuple[str, dict[str, Any]], ...] = ()


EXAMPLE = Description(
    instances=tuple(
        Instance(name=f"node-{letter}", zone=f"europe-west4-{letter}", ip=f"10.128.0.1{index}")
        for index, letter in enumerate("abc", start=1)
    ),
    addresses=(
        ReservedAddress(name="nat-1"),
        ReservedAddress(name="inside-1", internal="default", ip="10.128.15.200"),
    ),
    delegated_prefixes=(DelegatedPrefix(name="own", prefix="203.0.113.0/28"),),
)
"""Three nodes in three zones, one reserved address of each scheme, and a prefix of one's own."""


def read_description(path: Path) -> Description:
    """Read YAML; raises ConfigError."""
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, Description)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


def seed(engine: ComputeEngine, description: Description) -> None:
    """Put everything described into a project; raises ConfigError for what the service would refuse."""
    state = engine.state
    state.external_pool = description.external_pool
    for subnet in description.subnetworks:
        network = Link(state.project, "global", "networks", subnet.network)
        if state.get(network) is None:
            _put(engine, network, {"name": subnet.network})
        body = {"name": subnet.name, "network": network.url, "ipCidrRange": subnet.ipv4}
        if subnet.ipv6:
            body["ipv6CidrRange"] = subnet.ipv6
        _put(engine, Link(state.project, f"regions/{state.region}", "subnetworks", subnet.name), body)
    for index, instance in enumerate(description.instances):
        add_instance(engine, instance, number=index)
    for prefix in description.delegated_prefixes:
        delegated = {
            "name": prefix.name,
            "ipCidrRange": prefix.prefix,
            "status": prefix.status,
            "enableEnhancedIpv4Allocation": prefix.enhanced and ":" not in prefix.prefix,
        }
        _put(engine, Link(state.project, f"regions/{state.region}", "publicDelegatedPrefixes", prefix.name), delegated)
    for address in description.addresses:
        reserve(engine, address)
    for method, wanted in description.resources:
        insert(engine, method, wanted)


def add_instance(engine: ComputeEngine, instance: Instance, *, number: int = 0) -> None:
    """Add a virtual machine; *number* tells those apart that have no addresses of their own."""
    state = engine.state
    subnet = Link(state.project, f"regions/{state.region}", "subnetworks", instance.subnetwork)
    body = state.find(subnet.url)
    if body is None:
        raise ConfigError(f"instance {instance.name}: no subnetwork {instance.subnetwork}")
    nic: dict[str, str] = {
        "name": "nic0",
        "network": body["network"],
        "subnetwork": subnet.url,
        "networkIP": instance.ip or f"{body['ipCidrRange'].rpartition('.')[0]}.{number + 2}",
    }
    if instance.mac:
        nic["mac"] = instance.mac
    zone = instance.zone or state.zones[number % len(state.zones)]
    _put(
        engine,
        Link(state.project, f"zones/{zone}", "instances", instance.name),
        {
            "name": instance.name,
            "status": "RUNNING",
            "canIpForward": True,
            "networkInterfaces": [nic],
            "_third_generation": instance.third_generation,
        },
    )


def set_running(engine: ComputeEngine, instance: str, *, running: bool) -> None:
    """Stop a virtual machine, or start it again."""
    with engine.lock:
        for link, body in list(engine.state.all_of("instances")):
            if link.name == instance:
                _put(engine, link, {**body, "status": "RUNNING" if running else "TERMINATED"})
                return
    raise KeyError(f"no instance {instance}")


def reserve(engine: ComputeEngine, address: ReservedAddress) -> str:
    """Reserve an address as its user would; returns its value. External ones may be any."""
    body: dict[str, Any] = {"name": address.name, "networkTier": address.tier}
    if address.internal:
        body |= {"addressType": "INTERNAL", "subnetwork": address.internal}
        if address.shared:
            body["purpose"] = "SHARED_LOADBALANCER_VIP"
    if address.ip and not address.internal:
        link = Link(engine.state.project, f"regions/{engine.state.region}", "addresses", address.name)
        family = "IPV6" if ":" in address.ip else "IPV4"
        _put(engine, link, {**body, "address": address.ip, "addressType": "EXTERNAL", "ipVersion": family})
        return address.ip
    if address.ip:
        body["address"] = address.ip
    made = insert(engine, "addresses.insert", body)
    return str(made["address"])


def insert(engine: ComputeEngine, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a resource at once, under all rules, uncounted and without an operation; raises ConfigError."""
    service, _, verb = method.partition(".")
    with engine.lock:
        state = engine.state
        kind = next((each for each in state.kinds.values() if each.service == service and "insert" in each.verbs), None)
        if kind is None or verb != "insert":
            raise ConfigError(f"{method}: not a method that makes a resource")
        wanted = dict(body)
        scope = {"region": f"regions/{state.region}", "global": "global"}.get(
            kind.scope
        ) or f"zones/{wanted.pop('zone', '')}"
        target = Link(state.project, scope, kind.collection, str(wanted.get("name", "")))
        if not state.has_scope(scope):
            raise ConfigError(f"{target.path}: the project has no {scope}")
        try:
            change = changes.make_change(state, "insert", kind, target, wanted)
            change.try_now()
            change.make(engine.clock.now(), engine.quotas.resources)
        except RefusalError as error:
            raise ConfigError(f"{method} {target.name}: {error}") from error
        return state.find(target.url) or {}


def _put(engine: ComputeEngine, link: Link, body: Mapping[str, Any]) -> None:
    with engine.lock:
        if not engine.state.has_scope(link.scope):
            raise ConfigError(f"{link.path}: the project has no {link.scope}")
        engine.state.commit(link, body, engine.clock.now())
