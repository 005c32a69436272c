"""
What do reads answer?

In: a call, its query and body.  Out: one resource, or a page of a list. Lists may lag behind writes, and one that
spans scopes may miss one and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from persistip.testing.compute_engine import endpoint_groups, health
from persistip.testing.compute_engine.faults import FaultKind, refusal_of
from persistip.testing.compute_engine.kinds import Kind
from persistip.testing.compute_engine.links import ROOT, Link
from persistip.testing.compute_engine.listing import page_of
from persistip.testing.compute_engine.methods import Call
from persistip.testing.compute_engine.refusals import not_found
from persistip.testing.compute_engine.state import Listed, Resource

if TYPE_CHECKING:
    from persistip.testing.compute_engine.engine import ComputeEngine


def read(engine: ComputeEngine, call: Call, query: Mapping[str, str], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer to a call that changes nothing; raises RefusalError."""
    state, kind = engine.state, call.method.kind
    assert kind is not None
    if call.method.verb == "aggregatedList":
        return _aggregated(engine, call, kind, query)
    if call.method.verb == "list":
        if engine.faults.meet(call.method.id, FaultKind.UNREACHABLE, scope=call.scope):
            raise refusal_of(FaultKind.UNREACHABLE, "", call.scope)
        shown = [Listed(each, state.shown) for each in _listed(engine, call, kind) if each.link.scope == call.scope]
        return list_page(call, shown, query, kind.noun)
    link = Link(call.project, call.scope, kind.collection, call.name)
    resource = state.get(link)
    if resource is None:
        raise not_found(link.path)
    if call.method.verb == "listNetworkEndpoints":
        return endpoint_groups.list_endpoints(state, resource.body, query, body)
    if call.method.verb == "getHealth":
        return health.group_health(state, resource.body, body)
    return state.shown(resource)


def list_page(call: Call, shown: Iterable[Mapping[str, Any]], query: Mapping[str, str], noun: str) -> Mapping[str, Any]:
    """One page of a list."""
    page = page_of(shown, query)
    plural = "operations" if call.method.kind is None else call.method.kind.collection
    listed: dict[str, Any] = {
        "kind": f"compute#{noun}List",
        "id": f"projects/{call.project}/{call.scope}/{plural}",
        "selfLink": f"{ROOT}projects/{call.project}/{call.scope}/{plural}",
    }
    if page.items:
        listed["items"] = [dict(each) for each in page.items]
    if page.token:
        listed["nextPageToken"] = page.token
    return listed


def _aggregated(engine: ComputeEngine, call: Call, kind: Kind, query: Mapping[str, str]) -> Mapping[str, Any]:
    state = engine.state
    fault = engine.faults.meet(call.method.id, FaultKind.UNREACHABLE)
    scopes = [f"regions/{state.region}", *(f"zones/{zone}" for zone in state.zones)]
    missed = [fault.scope or str(state.choose(_scopes_of(kind, scopes)))] if fault else []
    there = [Listed(each, state.shown) for each in _listed(engine, call, kind) if each.link.scope not in missed]
    page = page_of(there, query)
    items: dict[str, Any] = {}
    for listed in page.items:
        assert isinstance(listed, Listed)
        items.setdefault(listed.resource.link.scope, {}).setdefault(kind.collection, []).append(dict(listed))
    for scope in scopes:
        if scope in missed:
            items[scope] = {"warning": _warning("UNREACHABLE", f"The scope '{scope}' could not be reached.", scope)}
        elif scope not in items:
            message = f"There are no results for scope '{scope}' on this page."
            items[scope] = {"warning": _warning("NO_RESULTS_ON_PAGE", message, scope)}
    answer: dict[str, Any] = {
        "kind": f"compute#{kind.noun}AggregatedList",
        "id": f"projects/{call.project}/aggregated/{kind.collection}",
        "selfLink": f"{ROOT}projects/{call.project}/aggregated/{kind.collection}",
        "items": dict(sorted(items.items())),
    }
    if page.token:
        answer["nextPageToken"] = page.token
    if missed:
        answer["unreachables"] = [f"{ROOT}projects/{call.project}/{scope}" for scope in missed]
    return answer


def _scopes_of(kind: Kind, scopes: Iterable[str]) -> list[str]:
    return [scope for scope in scopes if scope.startswith(kind.scope)]


def _warning(code: str, message: str, scope: str) -> Mapping[str, Any]:
    return {"code": code, "message": message, "data": [{"key": "scope", "value": scope}]}


def _listed(engine: ComputeEngine, call: Call, kind: Kind) -> list[Resource]:
    """What a list is made of: what is there, or was there."""
    lag = engine.faults.meet(call.method.id, FaultKind.LAGGING_LIST)
    as_of = engine.clock.now() - lag.seconds if lag else None
    return engine.state.resources_of(kind.collection, as_of)
