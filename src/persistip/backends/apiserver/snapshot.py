"""
What does a decision rest on, read once?

In: an API server, and who we decide for.  Out: every object of it, as the controller would see them, by lists and a few
reads: nobody has to be allowed to watch. Kinds are listed one after the other in time, so two objects of a busy cluster
may be a moment apart.

The controller reads every ConfigMap; people, who may not be trusted with all of them, read those alone that a
GatewayClass of ours names, and the record of suspects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

import attrs

from persistip.backends.apiserver.client import Client
from persistip.backends.apiserver.errors import SYSTEM, ExpiredError, NotFoundError
from persistip.backends.apiserver.listing import list_kind
from persistip.backends.apiserver.served import Served
from persistip.decide.suspects import suspects_key
from persistip.errors import RefusedError
from persistip.model.gateway import GatewayClass
from persistip.model.keys import Kind, ObjectKey
from persistip.model.views import Policy
from persistip.strategies import ClusterObject
from persistip.wire.decode import Unreadable, decode_object
from persistip.wire.kinds import RESOURCES

READ_WHOLE = tuple(kind for kind in Kind if kind is not Kind.CONFIG_MAP)
"""The kinds of which everything is read."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """``objects`` as they stand, ``unreadable`` those that exist and why nothing is known of them, ``absent`` kinds."""

    objects: Mapping[ObjectKey, ClusterObject]
    unreadable: Mapping[ObjectKey, str]
    absent: frozenset[Kind]


async def read_snapshot(client: Client, served: Served, policy: Policy) -> Snapshot:
    """
    Everything that decisions rest on.

    Raises RefusedError naming every kind that may not be listed, else the error of the first list that fails.
    """
    answers = await asyncio.gather(*(_all_of(client, served, kind) for kind in READ_WHOLE), return_exceptions=True)
    _raise_first(zip(READ_WHOLE, answers, strict=True))
    found: dict[ObjectKey, ClusterObject | Unreadable] = {}
    absent = set()
    for kind, answer in zip(READ_WHOLE, answers, strict=True):
        if isinstance(answer, dict):
            found |= answer
        else:
            absent.add(kind)
    for key in sorted({*_parameters(found.values(), policy), suspects_key(policy.system_namespace)}):
        found |= await _one(client, served, key)
    return Snapshot(
        objects={key: each for key, each in found.items() if not isinstance(each, Unreadable)},
        unreadable={key: str(each) for key, each in found.items() if isinstance(each, Unreadable)},
        absent=frozenset(absent),
    )


async def _all_of(client: Client, served: Served, kind: Kind) -> dict[ObjectKey, ClusterObject | Unreadable] | None:
    """All of one kind; None where it is not installed."""
    in_pages = True
    while True:
        try:
            found, _ = await list_kind(client, served, kind, {}, in_pages=in_pages)
        except NotFoundError:
            if not served.has_another(kind):
                return None
        except ExpiredError:
            if not in_pages:
                raise
            in_pages = False
        else:
            return found


async def _one(client: Client, served: Served, key: ObjectKey) -> dict[ObjectKey, ClusterObject | Unreadable]:
    try:
        return {key: decode_object(key.kind, await client.request("GET", served.object(key)))}
    except NotFoundError:
        return {}
    except RefusedError as error:
        return {key: Unreadable("", f"may not be read: {error}")}


def _parameters(objects: Iterable[ClusterObject | Unreadable], policy: Policy) -> Iterator[ObjectKey]:
    """The ConfigMaps with the parameters of classes of ours."""
    for each in objects:
        if isinstance(each, GatewayClass) and each.controller_name == policy.controller_name:
            ref = each.parameters_ref
            if ref is not None and ref.kind == Kind.CONFIG_MAP:
                yield ObjectKey(Kind.CONFIG_MAP, ref.namespace, ref.name)


def _raise_first(answers: Iterable[tuple[Kind, object]]) -> None:
    failed = [(kind, answer) for kind, answer in answers if isinstance(answer, BaseException)]
    refused = [(kind, answer) for kind, answer in failed if isinstance(answer, RefusedError)]
    if refused and refused[0][1].reason != "Unauthorized":
        others = ", ".join(RESOURCES[kind].plural for kind, _ in refused[1:])
        more = f" (and so are: {others})" if others else ""
        first = refused[0][1]
        message = f"{first.args[0]}{more}"
        raise RefusedError(message, reason=first.reason, system=SYSTEM, operation="list", target=first.target)
    for _, answer in failed:
        raise answer
