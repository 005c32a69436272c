"""
What does a mutation make of the project?

In: a verb, a kind, a target and a body.  Out: a Change, which computes the new resource from whatever state it finds,
and refuses where a rule is broken there. It is tried when asked for and made when its operation completes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import attrs

from persistip.testing.compute_engine.kinds import Action, Body, Case, Kind
from persistip.testing.compute_engine.links import Link, is_full
from persistip.testing.compute_engine.refusals import RefusalError, invalid, not_found, not_ready, required
from persistip.testing.compute_engine.shapes import check, merge_patch, references, replace_references
from persistip.testing.compute_engine.state import State

LOCKS = frozenset({"fingerprint", "labelFingerprint"})


def check_request_id(text: str) -> None:
    """A UUID, and not zero."""
    try:
        value = UUID(text)
    except ValueError as error:
        raise invalid("requestId", text, "Must be a UUID.") from error
    if value.int == 0:
        raise invalid("requestId", text, "The zero UUID is not supported.")


@attrs.frozen(kw_only=True)
class Change:
    """One mutation of one resource."""

    state: State
    kind: Kind
    target: Link
    is_insert: bool
    is_delete: bool
    compute: Callable[[bool], Body | None]
    """The new body, None for none, from the present state; called with whether the operation completes."""

    def try_now(self) -> Body | None:
        """What would come of it now; raises RefusalError."""
        if not self.is_insert and self.state.get(self.target) is None:
            raise not_ready(self.target.path) if self.state.is_wanted(self.target) else not_found(self.target.path)
        if self.target.url in self.state.leaving:
            raise not_ready(self.target.path)
        return self.compute(False)

    def announce(self, tried: Body | None, target_id: str) -> None:
        """It is under way: a name is taken, or a resource is leaving."""
        if self.is_insert and tried is not None:
            self.state.want(self.target, tried, target_id)
        if self.is_delete:
            self.state.leaving.add(self.target.url)

    def make(self, at: float, quotas: Mapping[str, int]) -> None:
        """Make it; raises RefusalError where the state that it finds does not allow it."""
        if not self.is_insert and self.state.get(self.target) is None:
            raise not_found(self.target.path)
        if self.is_insert and self.kind.quota:
            self._check_quota(quotas)
        self.state.commit(self.target, self.compute(True), at)

    def withdraw(self) -> None:
        """It is no longer under way."""
        self.state.unwant(self.target)
        if self.is_delete:
            self.state.leaving.discard(self.target.url)

    def _check_quota(self, quotas: Mapping[str, int]) -> None:
        limit = quotas[self.kind.quota]
        if sum(1 for _ in self.state.all_of(self.kind.collection)) < limit:
            return
        name, region = self.kind.quota, self.state.region
        raise RefusalError(
            403,
            "quotaExceeded",
            f"Quota '{name}' exceeded.  Limit: {limit}.0 in region {region}.",
            quota={
                "metricName": f"compute.googleapis.com/{name.lower()}",
                "limitName": f"{name.replace('_', '-')}-per-project-region",
                "dimensions": {"region": region},
                "limit": limit,
            },
        )


def make_change(state: State, verb: str, kind: Kind, target: Link, body: Mapping[str, Any]) -> Change:
    """The change that a verb asks for; raises RefusalError for a body that cannot be read."""
    match verb:
        case "insert":
            compute = _insert(state, kind, target, body)
        case "delete":
            compute = _delete(state, kind, target)
        case "patch" | "update":
            compute = _update(state, kind, target, body, whole=verb == "update")
        case _:
            compute = _act(state, kind, target, kind.actions[verb], body)
    return Change(
        state=state,
        kind=kind,
        target=target,
        is_insert=verb == "insert",
        is_delete=verb == "delete",
        compute=compute,
    )


Compute = Callable[[bool], Body | None]


def _insert(state: State, kind: Kind, target: Link, body: Mapping[str, Any]) -> Compute:
    given = _without_locks(body)
    for field in kind.required:
        if given.get(field) in (None, ""):
            raise required(f"resource.{field}")
    asked = check(kind.shape, given, "resource")
    if not kind.labels_at_insert:
        asked.pop("labels", None)
    chosen: dict[str, Any] = {}

    def compute(completing: bool) -> Body:
        if state.get(target) is not None or (state.is_wanted(target) and not completing):
            raise RefusalError(409, "alreadyExists", f"The resource '{target.path}' already exists")
        new = resolve(state, kind.shape, target, asked)
        case = Case(world=state, link=target, new={**new, **chosen}, completing=completing)
        made = dict(kind.complete(case))
        if not completing:
            # What the service has chosen once, an address for one, it does not choose again.
            chosen.update({name: value for name, value in made.items() if name not in new})
        _check_rules(kind, attrs.evolve(case, new=made))
        return made

    return compute


def _delete(state: State, kind: Kind, target: Link) -> Compute:
    def compute(_completing: bool) -> None:
        if users := state.users_of(target):
            noun = re.sub(r"(?=[A-Z])", "_", kind.noun).lower()
            message = f"The {noun} resource '{target.path}' is already being used by '{users[0].path}'"
            raise RefusalError(400, "resourceInUseByAnotherResource", message)

    return compute


def _update(state: State, kind: Kind, target: Link, body: Mapping[str, Any], *, whole: bool) -> Compute:
    given = _without_locks(body)
    asked = check(kind.shape, given, "resource", keep_null=not whole)
    lock = body.get("fingerprint") or ""
    if kind.lock == "required" and not lock:
        if whole:
            raise required("resource.fingerprint")
        raise RefusalError(412, "conditionNotMet", "Invalid fingerprint.")

    def compute(completing: bool) -> Body:
        present = state.get(target)
        assert present is not None
        if kind.lock and lock and lock != present.fingerprint:
            raise RefusalError(412, "conditionNotMet", "Invalid fingerprint.")
        old = present.body
        kept = {name: value for name, value in old.items() if name not in kind.shape.fields}
        new = {**kept, **asked} if whole else merge_patch(old, asked)
        new = resolve(state, kind.shape, target, new)
        new = dict(kind.complete(Case(world=state, link=target, old=old, new=new, completing=completing)))
        for name in sorted({*old, *new} - kind.mutable - kept.keys()):
            if new.get(name) != old.get(name):
                raise invalid(f"resource.{name}", new.get(name), "It cannot be changed.")
        _check_rules(kind, Case(world=state, link=target, old=old, new=new, completing=completing))
        return new

    return compute


def _act(state: State, kind: Kind, target: Link, action: Action, body: Mapping[str, Any]) -> Compute:
    asked = check(action.body, body, "resource")
    lock = str(body.get("labelFingerprint") or "")

    def compute(completing: bool) -> Body:
        present = state.get(target)
        assert present is not None
        if action.locked and lock != present.label_fingerprint:
            if not lock:
                raise required("labelFingerprint")
            raise RefusalError(
                412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed"
            )
        case = Case(world=state, link=target, old=present.body, completing=completing)
        new = action.apply(case, resolve(state, action.body, target, asked))
        case = attrs.evolve(case, new=new)
        _check_rules(kind, case)
        return new

    return compute


def resolve(state: State, shape: Any, target: Link, body: Mapping[str, Any]) -> dict[str, Any]:
    """Write every reference as a whole URL; refuse one to what is not there, or not yet."""
    names: dict[str, str] = {}
    for path, reference, text in references(shape, body, "resource"):
        if reference.full and not is_full(text):
            raise invalid(path, text, "The URL is malformed. Must be a whole URL.")
        link = state.resolve(text, reference.collections, target.scope)
        if link is None:
            raise invalid(path, text, "The URL is malformed.")
        if state.get(link) is None:
            if state.is_wanted(link):
                raise not_ready(link.path)
            raise invalid(path, text, f"The referenced resource '{link.path}' cannot be found.")
        if link.url in state.leaving:
            raise not_ready(link.path)
        names[path] = link.url
    resolved: dict[str, Any] = replace_references(shape, body, "resource", names)
    return resolved


def _without_locks(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without its fingerprints, which are no part of the resource."""
    return {name: value for name, value in body.items() if name not in LOCKS}


def _check_rules(kind: Kind, case: Case) -> None:
    for rule in kind.rules:
        rule.check(case)
