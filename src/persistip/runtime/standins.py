"""
What would an API server have added to objects that come from files?

In: objects as people write them, and the time.  Out: the same objects, complete, and the sentences that say what was
taken for granted. UIDs are made from kind, namespace and name, so that the same files always give the same ones; where
an attachment names an object that has no UID, it is that very object. What has no time of creation is created now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import attrs

from persistip.model.attachment import AddressAttachment
from persistip.model.gateway import From, Gateway
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.node import Namespace, Node
from persistip.model.pod import Pod
from persistip.strategies import ClusterObject

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that the API server gives every Namespace."""


@attrs.frozen(kw_only=True)
class Completed:
    """``objects`` by key, in the order of their keys; ``assumptions`` in sentences for people."""

    objects: Mapping[ObjectKey, ClusterObject]
    assumptions: tuple[str, ...] = ()


def complete(objects: Iterable[ClusterObject], *, now: float, lost: Collection[ObjectKey] = ()) -> Completed:
    """
    Fill in what only an API server knows.

    *lost* are objects that exist and could not be read: nothing is put in their place. Where no Node is given at all,
    those that Pods and attachments name are taken to exist.
    """
    given = {each.key: each for each in objects}
    uids = _known_uids(given.values())
    found = {key: _completed(each, uids.get(key), now) for key, each in given.items()}
    assumptions: list[str] = []
    if not any(key.kind is Kind.NODE for key in (*found, *lost)):
        nodes = _assumed_nodes(found.values(), uids, now)
        found |= nodes
        if nodes:
            assumptions.append(f"no Node is given: {_listed(key.name for key in nodes)} taken to exist, out of Pods")
    namespaces = _assumed_namespaces(found, lost, now)
    found |= namespaces
    if namespaces and any(_selects_namespaces(each) for each in found.values()):
        names = _listed(key.name for key in namespaces)
        assumptions.append(f"Namespace {names} not given: taken to have no labels but {NAME_LABEL}")
    return Completed(objects={key: found[key] for key in sorted(found)}, assumptions=tuple(assumptions))


def _listed(names: Iterable[str]) -> str:
    """At most five names, and how many more; with the verb that goes with it."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")
    return f"{shown} {'is' if len(ordered) == 1 else 'are'}"


def _completed(found: ClusterObject, uid: str | None, now: float) -> ClusterObject:
    meta = found.meta
    labels = meta.labels
    if isinstance(found, Namespace):
        labels = {NAME_LABEL: meta.name, **labels}
    return attrs.evolve(
        found,
        meta=attrs.evolve(
            meta,
            uid=meta.uid or uid or stand_in_uid(found.key),
            created_at=meta.created_at or float(int(now)),
            generation=meta.generation or 1,
            labels=labels,
        ),
    )


def stand_in_uid(key: ObjectKey) -> str:
    """A UID that no API server would make up, and that is the same in every run."""
    return f"file:{key.kind}/{key.path}"


def _known_uids(objects: Iterable[ClusterObject]) -> Mapping[ObjectKey, str]:
    """The UIDs by which attachments name objects; where they differ, that of the latest epoch."""
    named: dict[ObjectKey, tuple[int, str]] = defaultdict(lambda: (-1, ""))
    for each in objects:
        if isinstance(each, AddressAttachment):
            for key, epoch, uid in _named_by(each):
                named[key] = max(named[key], (epoch, uid))
    return {key: uid for key, (_, uid) in named.items()}


def _named_by(attachment: AddressAttachment) -> Iterator[tuple[ObjectKey, int, str]]:
    spec = attachment.spec
    namespace = spec.route.namespace
    yield attachment.route_key, spec.epoch, spec.route.uid
    for address in spec.addresses:
        gateway = address.gateway
        yield ObjectKey(Kind.GATEWAY, gateway.namespace, gateway.name), spec.epoch, gateway.uid
    if (holder := spec.holder) is not None:
        yield ObjectKey(Kind.POD, namespace, holder.pod_name), spec.epoch, holder.pod_uid
        yield ObjectKey(Kind.NODE, "", holder.node_name), spec.epoch, holder.node_uid
    for release in spec.releasing:
        yield ObjectKey(Kind.POD, namespace, release.pod_name), release.epoch, release.pod_uid
        yield ObjectKey(Kind.NODE, "", release.node_name), release.epoch, release.node_uid


def _assumed_nodes(
    objects: Iterable[ClusterObject], uids: Mapping[ObjectKey, str], now: float
) -> dict[ObjectKey, ClusterObject]:
    names = {each.node_name for each in objects if isinstance(each, Pod) and each.node_name}
    names |= {key.name for key in uids if key.kind is Kind.NODE}
    nodes = [Node(meta=ObjectMeta(name=name)) for name in sorted(names)]
    return {node.key: _completed(node, uids.get(node.key), now) for node in nodes}


def _assumed_namespaces(
    found: Mapping[ObjectKey, ClusterObject], lost: Collection[ObjectKey], now: float
) -> dict[ObjectKey, ClusterObject]:
    """An API server holds no object whose Namespace does not exist."""
    keys = {ObjectKey(Kind.NAMESPACE, "", key.namespace) for key in found if key.kind is Kind.ROUTE}
    missing = sorted(keys - found.keys() - set(lost))
    return {key: _completed(Namespace(ObjectMeta(name=key.name)), None, now) for key in missing}


def _selects_namespaces(found: ClusterObject) -> bool:
    return isinstance(found, Gateway) and any(each.namespaces_from == From.SELECTOR for each in found.listeners)
