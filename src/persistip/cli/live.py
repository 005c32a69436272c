"""
How does a person's command speak with a cluster, and with the person?

In: `--kubeconfig` and `--context`.  Out: what is in the cluster; a ConfigError, whose sentence says what to do, for
every way in which that can fail.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from persistip.backends.registry import find_cluster
from persistip.errors import BackendError, ConfigError, RefusedError, RejectedError, StaleError
from persistip.model.gateway import Gateway, GatewayClass
from persistip.model.keys import Kind
from persistip.model.route import GKEIPRoute
from persistip.model.views import Policy
from persistip.settings import ClusterSettings
from persistip.strategies import ClusterObject

if TYPE_CHECKING:
    from persistip.backends.apiserver import Console, Snapshot

API_SERVER = "apiserver"
READER = "persistip-reader"
"""The ClusterRole with all that a reader needs."""

T = TypeVar("T")


def open_console(api: ClusterSettings) -> Console:
    """The cluster that is meant, not yet entered; raises ConfigError."""
    find_cluster(API_SERVER)  # says what to install where something is missing
    from persistip.backends.apiserver import Console, find_access  # noqa: PLC0415 - what works on files needs none of it

    return Console(find_access(api.kubeconfig or "", api.context or "", os.environ))


def ask(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* to its end; raises ConfigError for whatever the API server has against it."""
    try:
        return asyncio.run(work)
    except BackendError as error:
        raise ConfigError(sentence(error)) from error


def read_cluster(api: ClusterSettings, policy: Policy) -> Snapshot:
    """Everything that decisions under *policy* rest on, as it stands; raises ConfigError."""

    async def read() -> Snapshot:
        async with open_console(api) as console:
            return await console.snapshot(policy)

    return check_installed(ask(read()))


def check_installed(found: Snapshot) -> Snapshot:
    """The same; raises ConfigError where the cluster knows no routes."""
    if Kind.ROUTE in found.absent:
        message = "this cluster has no kind GKEIPRoute: install it with `persistip manifests | kubectl apply -f -`"
        raise ConfigError(message)
    return found


def sentence(error: BackendError) -> str:
    """What is wrong, and what the person can do about it."""
    said = str(error.args[0])
    match error:
        case RefusedError(reason="Unauthorized"):
            return f"the API server does not know you ({said}); log in anew, or name another --context"
        case RefusedError() if error.operation in {"list", "GET"}:
            return f"you may not read what this needs: {said}; the ClusterRole {READER} has all of it"
        case RefusedError():
            return f"you may not do this: {said}"
        case StaleError():
            return f"somebody else was faster: {said}; try again"
        case RejectedError():
            return f"the API server refuses this: {said}"
        case _:
            return f"the API server cannot be reached: {said}; is it the one you mean (--kubeconfig, --context)?"


def over(given: ClusterObject, standing: ClusterObject | None) -> ClusterObject:
    """What `kubectl apply` would make of *given* where *standing* is: its identity stays, and its status."""
    if standing is None or type(given) is not type(standing):
        return given
    old = standing.meta
    meta = attrs.evolve(
        given.meta,
        uid=old.uid,
        created_at=old.created_at,
        deleted_at=old.deleted_at,
        finalizers=old.finalizers,
        generation=old.generation + 1,
    )
    if isinstance(given, GKEIPRoute) and isinstance(standing, GKEIPRoute):
        return attrs.evolve(given, meta=meta, status=standing.status)
    if isinstance(given, Gateway) and isinstance(standing, Gateway):
        return attrs.evolve(given, meta=meta, status=standing.status)
    if isinstance(given, GatewayClass) and isinstance(standing, GatewayClass):
        return attrs.evolve(given, meta=meta, conditions=standing.conditions)
    return attrs.evolve(given, meta=meta)
