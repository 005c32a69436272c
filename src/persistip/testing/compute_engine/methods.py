"""
Which methods are there?

The whole surface, made of the kinds' verbs: one Method for each pair of verb and path. What is not among them is
refused with 501, naming what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import attrs

from persistip.testing.compute_engine.kinds import Kind

BASE = "/compute/v1/"
_LIST = frozenset({"filter", "maxResults", "orderBy", "pageToken", "returnPartialSuccess"})
"""The last is sent by gcloud and documented in other revisions: that a scope is missing is said either way."""
_ONCE = frozenset({"requestId"})
_EVERYWHERE = frozenset({"alt", "prettyPrint", "key", "quotaUser", "$.xgafv", "access_token"})
"""What every method takes and this emulator ignores; ``alt`` must say json."""


@attrs.frozen
class Verb:
    """What a verb is over HTTP: ``{}`` stands for the resource's own name."""

    http: str
    path: str
    query: frozenset[str]
    permission: str
    """What must be allowed to the caller; the same word for the verbs that ask for the same right."""


VERBS: Mapping[str, Verb] = {
    "get": Verb("GET", "/{}", frozenset(), "get"),
    "list": Verb("GET", "", _LIST, "list"),
    "aggregatedList": Verb("GET", "", _LIST | {"includeAllScopes", "serviceProjectNumber"}, "list"),
    "insert": Verb("POST", "", _ONCE, "create"),
    "patch": Verb("PATCH", "/{}", _ONCE, "update"),
    "update": Verb("PUT", "/{}", _ONCE, "update"),
    "delete": Verb("DELETE", "/{}", _ONCE, "delete"),
    "wait": Verb("POST", "/{}/wait", frozenset(), "get"),
    "getHealth": Verb("POST", "/{}/getHealth", frozenset(), "get"),
    "listNetworkEndpoints": Verb("POST", "/{}/listNetworkEndpoints", _LIST, "get"),
}
_SCOPES: Mapping[str, str] = {"region": r"regions/[^/]+", "zone": r"zones/[^/]+", "global": "global"}
OPERATIONS: Mapping[str, str] = {"regionOperations": "region", "zoneOperations": "zone", "globalOperations": "global"}


@attrs.frozen(kw_only=True)
class Method:
    """One method; ``kind`` is None for those of operations."""

    id: str
    http: str
    pattern: re.Pattern[str]
    query: frozenset[str]
    permission: str
    kind: Kind | None
    verb: str
    takes_body: bool


@attrs.frozen(kw_only=True)
class Call:
    """A method and what its path names."""

    method: Method
    project: str
    scope: str
    name: str


def make_methods(kinds: Iterable[Kind]) -> tuple[Method, ...]:
    """Every method of *kinds*, and those of operations."""
    return (*_of_kinds(kinds), *_of_operations())


def _of_kinds(kinds: Iterable[Kind]) -> Iterator[Method]:
    for kind in kinds:
        own = {name: Verb("POST", f"/{{}}/{name}", _ONCE, name) for name in kind.actions}
        for name, verb in [*((name, VERBS[name]) for name in kind.verbs), *own.items()]:
            over_all = name == "aggregatedList"
            where = "aggregated" if over_all else _SCOPES[kind.scope]
            service = (over_all and kind.aggregated) or kind.service
            yield _method(f"{service}.{name}", verb, f"(?P<scope>{where})/{kind.collection}", kind)


def _of_operations() -> Iterator[Method]:
    for service, scope in OPERATIONS.items():
        for name in ("get", "list", "wait"):
            yield _method(f"{service}.{name}", VERBS[name], f"(?P<scope>{_SCOPES[scope]})/operations", None)


def _method(name: str, verb: Verb, collection: str, kind: Kind | None) -> Method:
    service, _, word = name.partition(".")
    path = verb.path.replace("{}", "(?P<name>[^/]+)")
    return Method(
        id=name,
        http=verb.http,
        pattern=re.compile(f"{BASE}projects/(?P<project>[^/]+)/{collection}{path}"),
        query=verb.query | _EVERYWHERE,
        permission=f"compute.{service}.{verb.permission}",
        kind=kind,
        verb=word,
        takes_body=verb.http in ("PATCH", "PUT") or (verb.http == "POST" and word != "wait"),
    )


def find_call(methods: Iterable[Method], http: str, path: str) -> Call | None:
    """The method of a verb and a path; None where there is none."""
    for method in methods:
        if method.http == http and (match := method.pattern.fullmatch(path)):
            named = match.groupdict()
            return Call(method=method, project=named["project"], scope=named["scope"], name=named.get("name") or "")
    return None
