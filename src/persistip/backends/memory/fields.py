"""
What does a server-side apply change, and whose fields are they?

In: the present value, the applied value, who owns which field.  Out: the merged value and the new owners, or a
ConflictError. The rules are structured-merge-diff's: a field is a leaf of the JSON tree; entries of list-maps are told
apart by their key; a field that its only owner no longer applies goes; a field of another manager is a conflict unless
forced or set to the value it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from persistip.backends.memory.errors import ConflictError

# A step into a map is its key; a step to an entry of a list-map is (name of the key field, its value).
Step = str | tuple[str, str]
Path = tuple[Step, ...]
Owners = Mapping[str, frozenset[Path]]

_LIST_KEYS: dict[tuple[str, ...], str] = {
    ("conditions",): "type",
    ("nodes",): "nodeName",
    ("listeners",): "name",
    ("listeners", "conditions"): "type",
}


@attrs.frozen
class Merged:
    """A value and who owns its fields."""

    value: dict[str, Any]
    owners: dict[str, frozenset[Path]]


def flatten(value: Any, path: Path = ()) -> dict[Path, Any]:
    """The leaves of a status, by path; empty maps and lists are leaves."""
    if isinstance(value, Mapping) and value:
        return {deep: leaf for key, item in value.items() for deep, leaf in flatten(item, (*path, key)).items()}
    if isinstance(value, list) and value:
        key = _LIST_KEYS.get(tuple(step for step in path if isinstance(step, str)))
        if key is not None and all(isinstance(item, Mapping) and isinstance(item.get(key), str) for item in value):
            return {deep: leaf for item in value for deep, leaf in flatten(item, (*path, (key, item[key]))).items()}
    return {path: value} if path else {}


def unflatten(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    """The value whose leaves these are, in their order."""
    tree: dict[Step, Any] = {}
    for path, leaf in leaves.items():
        place = tree
        for step in path[:-1]:
            place = place.setdefault(step, _Branch())
        place[path[-1]] = leaf
    return {str(step): _grown(branch) for step, branch in tree.items()}


class _Branch(dict[Step, Any]):
    """An inner node, told from a leaf that is a map."""


def _grown(branch: Any) -> Any:
    if not isinstance(branch, _Branch):
        return branch
    if all(isinstance(step, tuple) for step in branch):
        return [_grown(item) for item in branch.values()]
    return {step: _grown(item) for step, item in branch.items()}


def _is_related(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def apply_fields(
    present: Mapping[str, Any], applied: Mapping[str, Any], owners: Owners, manager: str, *, force: bool
) -> Merged:
    """Merge *applied* into *present* as *manager*."""
    leaves, wanted = flatten(present), flatten(applied)
    theirs = {name: paths for name, paths in owners.items() if name != manager}
    changed = {path for path, leaf in wanted.items() if path not in leaves or leaves[path] != leaf}
    for name, paths in theirs.items():
        taken = {path for path in paths if any(_is_related(path, other) for other in changed)}
        if taken and not force:
            raise ConflictError(f"conflict with {name!r}: {', '.join(sorted(map(show_path, taken)))}")
        theirs[name] = paths - taken
    shared = frozenset[Path]().union(*theirs.values())
    for path in owners.get(manager, frozenset()) - wanted.keys() - shared:
        leaves.pop(path, None)
    for path in changed:
        if path not in leaves:
            leaves = {other: leaf for other, leaf in leaves.items() if not _is_related(path, other)}
    for path, leaf in wanted.items():
        leaves[path] = leaf
    return Merged(unflatten(leaves), _without_empty({**theirs, manager: frozenset(wanted)}))


def update_fields(present: Mapping[str, Any], new: Mapping[str, Any], owners: Owners, manager: str) -> Merged:
    """Put *new* in the place of *present*: what changed belongs to *manager*, what is gone to nobody."""
    before, after = flatten(present), flatten(new)
    changed = frozenset(path for path, leaf in after.items() if path not in before or before[path] != leaf)
    kept = {name: (paths & after.keys()) - changed for name, paths in owners.items()}
    kept[manager] = kept.get(manager, frozenset()) | changed
    return Merged(dict(new), _without_empty(kept))


def _without_empty(owners: Owners) -> dict[str, frozenset[Path]]:
    return {name: paths for name, paths in owners.items() if paths}


def show_path(path: Path) -> str:
    """As the API server writes it: ``.status.conditions[type="Ready"].reason``."""
    return ".status" + "".join(f".{step}" if isinstance(step, str) else f'[{step[0]}="{step[1]}"]' for step in path)
