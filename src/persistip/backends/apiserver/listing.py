"""
What is there of one kind, now?

In: a kind, perhaps a selection.  Out: every object of it and the version of the whole, or an error of ours.
In pages, so that neither side holds more than one of them at a time; consistent, so that the answer is not older than
the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from persistip.backends.apiserver.client import JSON, Client
from persistip.backends.apiserver.errors import SYSTEM
from persistip.backends.apiserver.served import Served
from persistip.errors import UnavailableError
from persistip.model.keys import Kind, ObjectKey
from persistip.strategies import ClusterObject
from persistip.wire.decode import IsRead, Unreadable, decode_list

PAGE = 500

_METADATA_ONLY = frozenset({Kind.NAMESPACE, Kind.DEFINITION})
"""Kinds of which nothing else is read; all definitions of a cluster together are megabytes."""
_AS_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"

_LIST_TIMEOUT_SECONDS = 60.0
_ITEMS_A_TURN = 50
"""How many are decoded until the next page's arrival, a lease or another kind gets its turn."""


async def list_kind(
    client: Client,
    served: Served,
    kind: Kind,
    selection: Mapping[str, str],
    *,
    in_pages: bool = True,
    is_read: IsRead | None = None,
) -> tuple[dict[ObjectKey, ClusterObject | Unreadable], str]:
    """
    Every object of *kind*, and the version from which to watch on.

    Of Pods and Nodes with those annotations that *is_read* says yes to, where it is given.
    Raises NotFoundError where the version asked for is not served, ExpiredError when the pages took longer than the
    server remembers.
    """
    found: dict[ObjectKey, ClusterObject | Unreadable] = {}
    path, form = served.collection(kind), accepted(kind, "List")
    # No resourceVersion: the answer is not older than the question, on whichever server it lands.
    parameters = dict(selection)
    if in_pages:
        parameters["limit"] = str(PAGE)

    def ask() -> asyncio.Task[bytes]:
        asked = client.request("GET", path, parameters=parameters, accept=form, timeout_seconds=_LIST_TIMEOUT_SECONDS)
        return asyncio.create_task(asked)

    asking = ask()
    try:
        while True:
            try:
                page = decode_list(kind, await asking, is_read)
            except msgspec.DecodeError as error:
                raise not_understood("list", path) from error
            if page.continue_token:
                # Asked for now: the server writes the next page while this one is taken in.
                parameters["continue"] = page.continue_token
                asking = ask()
            for number, (key, each) in enumerate(page.items):
                if key is not None:
                    found[key] = each
                if number % _ITEMS_A_TURN == 0:
                    await asyncio.sleep(0)
            if not page.continue_token:
                return found, page.resource_version
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def accepted(kind: Kind, suffix: str = "") -> str:
    """In what form *kind* is asked for; *suffix* ``List`` for a list."""
    return _AS_METADATA.format(suffix) if kind in _METADATA_ONLY else JSON


def not_understood(operation: str, path: str) -> UnavailableError:
    """Something between us and the server answers in its place, or the line was cut."""
    return UnavailableError(
        "the answer is not what an API server says", system=SYSTEM, operation=operation, target=path
    )
