"""
When did what happen in the cluster?

In: the API server's watches.  Out: every change of Pods, Nodes and attachments with the instant at which it was heard,
on the clock that the client's probe uses too; and, for one move, when each step of it was done.
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from realcluster.api import API
from realcluster.objects import condition, is_ready

PATHS = {
    "pods": "/api/v1/pods",
    "nodes": "/api/v1/nodes",
    "attachments": "/apis/persistip.dev/v1alpha1/addressattachments",
}
WATCH_SECONDS = 3600.0

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """Instants of one move in monotonic nanoseconds; None where a step was not needed or had been done before."""

    noticed: int | None
    """The API server was told that the old holder, or its node, is no longer well."""
    ready: int | None
    """The new holder is Ready."""
    decided: int | None
    """The attachment names the new holder."""
    programmed: int | None
    """The new holder's node has confirmed."""
    holder: str
    """The new holder's UID."""


class Journal:
    """Listens until it is closed; a watch that breaks off is begun again."""

    def __init__(self, api: API) -> None:
        self._api = api
        self._ended = threading.Event()
        self._heard: dict[str, list[tuple[int, str, Manifest]]] = {kind: [] for kind in PATHS}
        self._threads = [threading.Thread(target=self._listen, args=(kind,), daemon=True) for kind in PATHS]
        for each in self._threads:
            each.start()

    def close(self) -> None:
        """End it; the watches break off with the API server."""
        self._ended.set()

    def _listen(self, kind: str) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                for at, event in self._api.watch(PATHS[kind], WATCH_SECONDS):
                    if self._ended.is_set():
                        return
                    if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                        self._heard[kind].append((at, event["type"], event["object"]))
            time.sleep(0.1)

    def _of(self, kind: str, **meta: str) -> Iterator[tuple[int, str, Manifest]]:
        for at, how, thing in list(self._heard[kind]):
            if all(thing["metadata"].get(key) == value for key, value in meta.items()):
                yield at, how, thing

    def steps(self, since: int, before: Manifest, after: Manifest) -> Steps:
        """
        Return when, from *since* on, each step of the first move was done between two versions of an attachment.

        Where no other Pod ever held, it is the one that held before, given up and taken back.
        """
        name, old = after["metadata"]["name"], before["spec"]["pod"]["uid"]
        others = (
            each["spec"]["pod"]["uid"]
            for at, _, each in self._of("attachments", name=name)
            if at >= since and each["spec"].get("pod", {}).get("uid", old) != old
        )
        new = next(others, after["spec"]["pod"]["uid"])
        decided = self._began(since, name, new, lambda attachment: True)
        return Steps(
            noticed=self._noticed(since, before["spec"]),
            ready=self._ready(since, new, decided),
            decided=decided,
            programmed=self._began(since, name, new, is_programmed),
            holder=new,
        )

    def _noticed(self, since: int, spec: Manifest) -> int | None:
        if "pod" not in spec:
            return None
        pods = (
            at for at, how, pod in self._of("pods", uid=spec["pod"]["uid"]) if how == "DELETED" or not is_ready(pod)
        )
        nodes = (at for at, _, node in self._of("nodes", name=spec["nodeName"]) if condition(node, "Ready") != "True")
        return min((at for each in (pods, nodes) for at in each if at >= since), default=None)

    def _ready(self, since: int, uid: str, until: int | None) -> int | None:
        """Return when a Pod became Ready for the last time before *until*; None where it was at the beginning."""
        began = None
        for at, how, pod in self._of("pods", uid=uid):
            if until is not None and at > until:
                break
            if how == "DELETED" or not is_ready(pod):
                began = None
            elif began is None:
                began = at
        return began if began is not None and began >= since else None

    def _began(self, since: int, name: str, uid: str, holds: Callable[[Manifest], bool]) -> int | None:
        """Return when an attachment first named a Pod anew from *since* on, and *holds* was so."""
        was_named = True
        for at, how, attachment in self._of("attachments", name=name):
            is_named = how != "DELETED" and attachment["spec"].get("pod", {}).get("uid") == uid and holds(attachment)
            if at >= since and is_named and not was_named:
                return at
            was_named = is_named
        return None


def is_programmed(attachment: Manifest) -> bool:
    """Whether the holder's node has confirmed what the attachment says now."""
    spec = attachment["spec"]
    return any(
        each["nodeName"] == spec.get("nodeName")
        and each.get("epoch") == spec["epoch"]
        and each["state"] == "Programmed"
        for each in attachment.get("status", {}).get("nodes", ())
    )
