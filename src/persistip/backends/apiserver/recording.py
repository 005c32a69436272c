"""
How does an Event come to be, and how often?

In: a RecordEvent.  Out: an Event of events.k8s.io/v1, or one more in its series.
The same thing said again raises the count of the Event that said it first, as client-go has it; what was said is
remembered by this process alone, so that nothing has to be read, and a restarted one begins anew.
"""

from __future__ import annotations

from typing import Any

import attrs

from persistip.backends.apiserver.client import MERGE_PATCH, Client
from persistip.backends.apiserver.errors import NotFoundError
from persistip.backends.apiserver.served import Served, object_path
from persistip.model.actions import RecordEvent
from persistip.model.keys import short_hash
from persistip.strategies import Clock
from persistip.wire.kinds import RESOURCES
from persistip.wire.times import format_micro_time

_REMEMBERED = 4096
_SERIES_SECONDS = 1800.0
"""An API server keeps an Event for an hour after its last change; ours is continued for half of that."""
_MAX_NOTE_BYTES = 1024
_MAX_NAME = 200


@attrs.define
class _Series:
    path: str
    count: int
    said_at: float


class Recorder:
    """Writes Events as *controller*, which runs as *instance*."""

    def __init__(self, client: Client, served: Served, clock: Clock, *, controller: str, instance: str) -> None:
        self._client, self._served, self._clock = client, served, clock
        self._controller, self._instance = controller, instance
        self._series: dict[RecordEvent, _Series] = {}

    async def record(self, action: RecordEvent) -> None:
        """Say it, or say that it is so again."""
        now = self._clock.now()
        known = self._series.pop(action, None)
        if known is not None and now - known.said_at < _SERIES_SECONDS and await self._continue(known, now):
            known.count, known.said_at = known.count + 1, now
            self._remember(action, known)
            return
        resource = RESOURCES["Event"]
        namespace = action.regarding.namespace or "default"
        body = self._body(action, namespace, now)
        await self._client.request("POST", object_path(resource.api_version, resource.plural, namespace), body=body)
        path = object_path(resource.api_version, resource.plural, namespace, body["metadata"]["name"])
        self._remember(action, _Series(path, 1, now))

    async def _continue(self, known: _Series, now: float) -> bool:
        series = {"count": known.count + 1, "lastObservedTime": format_micro_time(now)}
        try:
            await self._client.request("PATCH", known.path, body={"series": series}, content_type=MERGE_PATCH)
        except NotFoundError:
            return False  # its time was up
        return True

    def _remember(self, action: RecordEvent, series: _Series) -> None:
        self._series[action] = series
        for oldest in list(self._series)[:-_REMEMBERED]:
            del self._series[oldest]

    def _body(self, action: RecordEvent, namespace: str, now: float) -> dict[str, Any]:
        key, instant = action.regarding, format_micro_time(now)
        said = f"{action.uid}\0{action.reason}\0{action.action}\0{action.message}\0{self._instance}\0{instant}"
        names = {"namespace": key.namespace, "name": key.name, "uid": action.uid}
        return {
            "apiVersion": RESOURCES["Event"].api_version,
            "kind": "Event",
            "metadata": {
                "namespace": namespace,
                "name": f"{key.name[:_MAX_NAME].rstrip('.-')}.{short_hash(said)}",
            },
            "eventTime": instant,
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "type": "Warning" if action.warning else "Normal",
            "reason": action.reason,
            "action": action.action,
            "note": _within(action.message, _MAX_NOTE_BYTES),
            "regarding": {
                "apiVersion": self._served.version(key.kind),
                "kind": str(key.kind),
                **{field: value for field, value in names.items() if value},
            },
        }


def _within(text: str, most: int) -> str:
    """*text*, cut to so many bytes between two characters."""
    if len(text.encode()) <= most:
        return text
    return text.encode()[: most - 3].decode(errors="ignore") + "..."
