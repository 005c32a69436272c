"""
When did what happen in the cluster?

In: the API server's watches.  Out: every change of Pods, Nodes and attachments with the instant at which it was heard,
on the clock that the client's probe uses too; and, for one move, when each step of it was done.
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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

    def heard(self, kind: str, **meta: str) -> int | None:
        """Return when something with this metadata was first heard of."""
        return next((at for at, _, _ in self._of(kind, **meta)), None)

    def since(self, kind: str, since: int) -> Sequence[tuple[int, Manifest]]:
        """Return all that was heard from an instant on, but for what was deleted."""
        return [(at, thing) for at, how, thing in list(self._heard[kind]) if at >= since and how != "DELETED"]

    def holders(self, route: str, since: int = 0) -> list[str]:
        """Return the UIDs of the Pods to which a route's attachment went, from *since* on, one after the other."""
        found: list[str] = []
        last = None
        for at, _, attachment in list(self._heard["attachments"]):
            spec = attachment["spec"]
            if spec["routeRef"]["name"] != route or "pod" not in spec or spec["pod"]["uid"] == last:
                continue
            if at >= since:
                found.append(spec["pod"]["uid"])
            last = spec["pod"]["uid"]
        return found

    def early_returns(self, route: str, uid: str, since: int, seconds: float) -> list[float]:
        """Return how many seconds a Pod had been Ready, each time that it took addresses too early from a Ready one."""
        found: list[float] = []
        last = None
        for at, _, attachment in list(self._heard["attachments"]):
            spec = attachment["spec"]
            if spec["routeRef"]["name"] != route or "pod" not in spec or spec["pod"]["uid"] == last:
                continue
            began, other = self._ready(0, spec["pod"]["uid"], at), last and self._ready(0, last, at)
            last = spec["pod"]["uid"]
            if at >= since and last == uid and began and other and at - began < seconds * 1e9:
                found.append((at - began) / 1e9)
        return found

    def span(self, routes: Collection[str], since: int) -> str:
        """Return when the first and the last of several routes were with another node, as it has confirmed."""
        programmed: dict[str, int] = {}
        for at, _, attachment in list(self._heard["attachments"]):
            name, spec = attachment["spec"]["routeRef"]["name"], attachment["spec"]
            was = self._node_before(name, since)
            if at >= since and name in routes and spec.get("nodeName") != was and is_programmed(attachment):
                programmed.setdefault(name, at)
        assert programmed.keys() == set(routes), sorted(set(routes) - programmed.keys())
        first, last = ((at - since) / 1e6 for at in (min(programmed.values()), max(programmed.values())))
        return f"{first:.0f} ms (the first) to {last:.0f} ms (the last) after the fault"

    def _node_before(self, route: str, since: int) -> str | None:
        node = None
        for at, _, attachment in list(self._heard["attachments"]):
            if at >= since:
                break
            if attachment["spec"]["routeRef"]["name"] == route:
                node = attachment["spec"].get("nodeName")
        return node

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
