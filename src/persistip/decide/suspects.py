"""
Which nodes has the system itself found dead?

In: the ConfigMap in which the controller records them.  Out: their names and UIDs. One entry of ``data`` for each node:

    NAME: "UID since 2026-01-31T12:00:00Z"

The first word of the value is the Node's UID, so that a Node made again under the name is none; the rest is for people.
An entry whose first word is another, and an absent ConfigMap, accuse nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from persistip.model.gateway import ConfigMap
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node

NAME = "persistip-suspects"
"""ConfigMap in the system's namespace with the nodes that are recorded as dead: UID by name."""


def suspects_key(namespace: str) -> ObjectKey:
    """Where suspects are recorded, given the namespace of the system."""
    return ObjectKey(Kind.CONFIG_MAP, namespace, NAME)


def recorded(found: object) -> Mapping[str, str]:
    """UID by node name, as the ConfigMap has it."""
    data = found.data if isinstance(found, ConfigMap) else ()
    return {name: value.split(maxsplit=1)[0] for name, value in data if value.split()}


def select_suspects(found: object, nodes: Mapping[str, Node]) -> frozenset[str]:
    """The names of those of *nodes* that are recorded."""
    known = recorded(found)
    return frozenset(name for name, node in nodes.items() if known.get(name) == node.meta.uid)
