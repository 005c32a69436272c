"""
Who asked the API server for what?

In: its audit log.  Out: requests by user, and the permission that each needed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class AuditLog:
    """Requests of one stretch of time; grows until looked at."""

    files: dict[Path, int] = field(default_factory=dict)

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield every request since the beginning of the stretch."""
        for file, start in self.files.items():
            with file.open("rb") as log:
                log.seek(start)
                for line in log:
                    if line.endswith(b"\n"):
                        yield json.loads(line)

    def by(self, user: str) -> list[Mapping[str, Any]]:
        """Return the requests of one user; watches as they began."""
        return [
            event
            for event in self.events()
            if event["user"]["username"] == user and (event["verb"] == "watch") == (event["stage"] == "ResponseStarted")
        ]


def permission(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what a request needed: verb, group and ``resource/subresource``; a path where there is no resource."""
    what = event.get("objectRef")
    if not what or "resource" not in what:
        return event["verb"], "", event["requestURI"].partition("?")[0]
    named = f"{what['resource']}/{what['subresource']}" if what.get("subresource") else what["resource"]
    return event["verb"], what.get("apiGroup", ""), named
