"""
`persistip plan`: what would the controller make of these manifests, or of this cluster?

In: files, a cluster, or files that are laid over a cluster.  Out: a table for people, or a `v1 List` of every object of
ours with the status that it would get, and of the AddressAttachments; of a cluster also what would be written beside
what stands; with `--without-…` also which addresses would move where.  Exit status 0; 1 with `--strict` when a route is
refused or held by nobody, or something could not be read; 2 for files, a cluster or options that cannot be used at all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from cyclopts import App, Parameter

from persistip.cli import given
from persistip.cli.changes import Change, find_changes
from persistip.cli.tables import print_table
from persistip.cli.writes import Write, find_writes
from persistip.decide.events import without_origin
from persistip.errors import ConfigError
from persistip.model.address import show
from persistip.model.attachment import AddressAttachment
from persistip.model.conditions import Condition, ConditionType, Reason, Status, find_condition
from persistip.model.gateway import Gateway, GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.route import GKEIPRoute
from persistip.runtime.rehearsal import Settled
from persistip.wire import from_model, status_from_model

Format = Literal["table", "yaml", "json"]

_ORDER = (Kind.GATEWAY_CLASS, Kind.GATEWAY, Kind.ROUTE, Kind.ATTACHMENT)
# What is ours of each status; the rest is others' and stays.
_OURS = frozenset({"pods", "conditions", "addresses", "listeners"})
# Files tell nothing about a cloud, and without one nobody reserves an address.
_NO_VALUE = "(no value)"

app = App(name="plan", help="Say what would stand in the cluster once everything has settled.")


@app.default
def plan(
    *more: given.MoreFiles,
    options: given.Options = given.DEFAULTS,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    strict: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """
    Say what would stand in the cluster once everything has settled.

    Reads GatewayClass, Gateway, GKEIPRoute, AddressAttachment, Pod, Node, Namespace, ConfigMap, Network,
    GKENetworkParamSet, Service and ServiceCIDR: those of the files, or without -f those of the cluster, in which
    nothing is changed.

    Parameters
    ----------
    output
        A table for people, or a v1 List of the objects with their status.
    strict
        Exit with status 1 when a route is refused or held by nobody, or something could not be read.
    """
    try:
        cluster = given.load(options, more)
        settled, changes = cluster.rehearsal.settle(), None
        writes = None if cluster.before is None else find_writes(cluster.before, settled)
        if options.is_changed:
            before = settled
            cluster.remove(options.without_nodes, options.without_pods)
            settled = cluster.rehearsal.settle()
            changes = find_changes(before, settled)
    except ConfigError as error:
        given.refuse(error)
    for key in _shown(settled):
        # A cluster's Gateways of other classes are many, and nobody asked about them.
        if cluster.before is not None and key.kind is not Kind.ROUTE:
            continue
        if (why := given.is_left_alone(cluster, settled, key)) is not None:
            given.say(f"{key} {why}")
    if output == "table":
        _print_tables(cluster, settled)
        if writes is not None:
            _print_writes(writes)
        if changes is not None:
            _print_changes(changes, (*options.without_nodes, *options.without_pods))
    else:
        shown: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": list(_items(cluster, settled))}
        if writes is not None:
            shown["writes"] = [write.to_plain() for write in writes]
        if changes is not None:
            shown["changes"] = [change.to_plain() for change in changes]
        print(_dumped(shown, output), end="")
    sys.exit(_exit_status(cluster, settled, strict=strict))


def _dumped(shown: Mapping[str, Any], output: Format) -> str:
    if output == "json":
        return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
    return str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=10_000))


def _exit_status(cluster: given.Given, settled: Settled, *, strict: bool) -> int:
    if cluster.is_incomplete:
        return given.EXIT_UNUSABLE
    if not strict:
        return given.EXIT_DONE
    routes = [key for key in settled.objects if key.kind is Kind.ROUTE]
    if cluster.manifests.faults or settled.unreadable or not all(_is_well(cluster, settled, key) for key in routes):
        return given.EXIT_STRICT
    return given.EXIT_DONE


def _is_well(cluster: given.Given, settled: Settled, key: ObjectKey) -> bool:
    """Whether a route is held, or none of our business; one whose Gateway's class is not given is neither."""
    if given.is_left_alone(cluster, settled, key) is None:
        ready = _condition(settled.objects[key], ConditionType.READY)
        return ready is not None and ready.status == Status.TRUE
    return not given.lacks_class(cluster, key)


def _shown(settled: Settled) -> Iterator[ObjectKey]:
    """The objects that may get a status, in the order in which they are shown."""
    for kind in _ORDER:
        yield from (key for key in settled.objects if key.kind is kind)


def _is_ours(cluster: given.Given, settled: Settled, key: ObjectKey) -> bool:
    found = settled.objects[key]
    if isinstance(found, GatewayClass):
        return found.controller_name == cluster.policy.controller_name and key not in settled.unreadable
    return given.is_left_alone(cluster, settled, key) is None


# ---------------------------------------------------------------- for programs
def _items(cluster: given.Given, settled: Settled) -> Iterator[dict[str, Any]]:
    bodies = {each.model.key: each.body for each in cluster.manifests.objects if each.model is not None}
    for key in _shown(settled):
        if _is_ours(cluster, settled, key):
            yield _with_status(settled.objects[key], bodies.get(key, {}))


def _with_status(found: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it was given, with the status that it would get; an attachment is all ours."""
    match found:
        case GKEIPRoute() | Gateway():
            status = status_from_model(found.status)
        case GatewayClass():
            status = status_from_model(found.conditions)
        case _:
            return _of_ours(found)
    others = {name: value for name, value in (body.get("status") or {}).items() if name not in _OURS}
    return {**(body or _of_ours(found)), "status": {**status, **others}}


def _of_ours(found: Any) -> dict[str, Any]:
    shown = from_model(found)
    # Only an API server can count them; in a request to one the first would be a precondition.
    for name in ("resourceVersion", "generation"):
        shown["metadata"].pop(name, None)
    return shown


# ---------------------------------------------------------------- for people
def _print_tables(cluster: given.Given, settled: Settled) -> None:
    ours = [settled.objects[key] for key in _shown(settled) if _is_ours(cluster, settled, key)]
    routes = [each for each in ours if isinstance(each, GKEIPRoute)]
    if routes:
        columns = ("ROUTE", "ADDRESSES", "POD", "NODE", "READY", "REASON")
        print_table(columns, [_route_row(each, settled.attachment_of(each.key)) for each in routes])
    else:
        print("No GKEIPRoute of ours is given." if cluster.before is None else "No GKEIPRoute of ours is there.")
    gateways = [each for each in ours if isinstance(each, Gateway)]
    if gateways:
        print()
        print_table(("GATEWAY", "ADDRESSES", "LISTENERS", "PROGRAMMED", "REASON"), [_gateway_row(g) for g in gateways])
    remarks = [remark for each in ours if not isinstance(each, AddressAttachment) for remark in _remarks(each)]
    if remarks:
        print()
        print("\n".join(remarks))


def _route_row(route: GKEIPRoute, attachment: AddressAttachment | None) -> tuple[str, ...]:
    holder = attachment.spec.holder if attachment is not None and attachment.spec.held_prefixes else None
    ready = _condition(route, ConditionType.READY)
    return (
        route.key.path,
        ", ".join(address.value or _NO_VALUE for address in route.addresses),
        holder.pod_name if holder is not None else "",
        holder.node_name if holder is not None else "",
        ready.status if ready is not None else "",
        ready.reason if ready is not None else "",
    )


def _gateway_row(gateway: Gateway) -> tuple[str, ...]:
    programmed = _condition(gateway, ConditionType.PROGRAMMED)
    routes = {each.name: each.attached_routes for each in gateway.status.listeners}
    return (
        gateway.key.path,
        ", ".join(address.value or _NO_VALUE for address in gateway.addresses),
        ", ".join(f"{name} ({count} route{'s' * (count != 1)})" for name, count in routes.items()),
        programmed.status if programmed is not None else "",
        programmed.reason if programmed is not None else "",
    )


def _remarks(found: Any) -> Iterator[str]:
    """Everything that is not as its owner wished, once."""
    conditions = found.conditions if isinstance(found, GatewayClass) else found.status.conditions
    first = ConditionType.READY if isinstance(found, GKEIPRoute) else ConditionType.ACCEPTED
    said = [each for type_ in (first, ConditionType.PROGRAMMED) if (each := find_condition(conditions, type_))]
    # A Gateway stays accepted while one of its listeners is good.
    wrong = [each for each in said if each.status != Status.TRUE or each.reason == Reason.LISTENERS_NOT_VALID]
    messages = dict.fromkeys(without_origin(each.message) for each in wrong)
    for message in messages:
        # What Accepted says of listeners may repeat what Programmed says of addresses.
        if not any(message in other for other in messages if other != message):
            yield f"{found.key}: {message}"


def _condition(found: Any, type_: ConditionType) -> Condition | None:
    return find_condition(found.status.conditions, type_)


def _print_writes(writes: tuple[Write, ...]) -> None:
    print()
    if not writes:
        print("Nothing would be written: what stands is what the rules give.")
        return
    print("What would be written?")
    print_table(("OBJECT", "WHAT", "NOW", "THEN"), [write.row() for write in writes])


def _print_changes(changes: tuple[Change, ...], gone: tuple[str, ...]) -> None:
    print()
    print(f"Without {', '.join(gone)}: {'' if changes else 'nothing moves.'}".rstrip())
    if not changes:
        return
    rows = [
        (
            change.route.path,
            ", ".join(show(prefix) for prefix in change.prefixes),
            change.place(change.former),
            change.place(change.next),
            change.why,
        )
        for change in changes
    ]
    print_table(("ROUTE", "ADDRESSES", "FROM", "TO", "WHY"), rows)
