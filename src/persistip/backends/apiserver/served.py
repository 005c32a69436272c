"""
Under which path is a kind served?

In: kind, namespace, name.  Out: the path of a request.  A kind that has several API versions, all alike to us, is asked
for under each in turn until one is there; what was found is kept.
"""

from __future__ import annotations

from persistip.model.keys import Kind, ObjectKey
from persistip.wire.kinds import RESOURCES


class Served:
    """Which version of each kind this API server has."""

    def __init__(self) -> None:
        self._chosen: dict[Kind, int] = {}

    def version(self, kind: Kind) -> str:
        """The ``apiVersion`` to ask for and to write."""
        return RESOURCES[kind].api_versions[self._chosen.get(kind, 0)]

    def has_another(self, kind: Kind) -> bool:
        """The version asked for is not there: turn to the next one; False after the last, and the first is next."""
        following = self._chosen.get(kind, 0) + 1
        is_left = following < len(RESOURCES[kind].api_versions)
        self._chosen[kind] = following if is_left else 0
        return is_left

    def collection(self, kind: Kind) -> str:
        """All objects of a kind, in all namespaces."""
        return f"{group_path(self.version(kind))}/{RESOURCES[kind].plural}"

    def object(self, key: ObjectKey, subresource: str = "") -> str:
        """One object, or its status."""
        path = object_path(self.version(key.kind), RESOURCES[key.kind].plural, key.namespace, key.name)
        return f"{path}/{subresource}" if subresource else path


def group_path(api_version: str) -> str:
    """Where an API version begins; the core group has a place of its own."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def object_path(api_version: str, plural: str, namespace: str, name: str = "") -> str:
    """One object, or without *name* the namespace's or the cluster's collection to which it is added."""
    where = f"{group_path(api_version)}/namespaces/{namespace}" if namespace else group_path(api_version)
    return f"{where}/{plural}/{name}" if name else f"{where}/{plural}"
