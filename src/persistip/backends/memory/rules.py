"""
What would the CRD of AddressAttachment refuse?

The CEL rules of our manifests, for the memory store: ``routeRef`` is immutable; ``epoch`` never falls, and rises with
every change of what agents must do. Taking finished ``releasing`` entries away, turning ``AfterReady`` into ``Now``,
``prepared`` and ``damped`` change nothing of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOT_FOR_AGENTS = frozenset({"epoch", "releasing", "prepared", "damped"})


def refusal(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why the API server answers 422 to this update, or None."""
    if kind != "AddressAttachment":
        return None
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if before.get("routeRef") != after.get("routeRef"):
        return "spec.routeRef: is immutable"
    old_epoch, new_epoch = before.get("epoch", 0), after.get("epoch", 0)
    if new_epoch < old_epoch:
        return f"spec.epoch: must not fall (from {old_epoch} to {new_epoch})"
    if new_epoch == old_epoch and _is_news(before, after):
        return f"spec.epoch: must rise with a change of what agents must do (is {old_epoch})"
    return None


def _is_news(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    fields = (before.keys() | after.keys()) - _NOT_FOR_AGENTS
    if any(before.get(field) != after.get(field) for field in fields):
        return True
    known = before.get("releasing") or []
    return any(entry not in known and not _was_deferred(entry, known) for entry in after.get("releasing") or [])


def _was_deferred(entry: Mapping[str, Any], known: list[Mapping[str, Any]]) -> bool:
    return entry.get("how") == "Now" and {**entry, "how": "AfterReady"} in known
