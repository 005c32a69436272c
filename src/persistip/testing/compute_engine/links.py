"""
How is a resource named?

In: a full URL of any host and version, a partial one, or a bare name.  Out: a Link, which writes itself as Compute
Engine always does: ``https://www.googleapis.com/compute/v1/…``, whatever host was called.
"""

from __future__ import annotations

import re

import attrs

ROOT = "https://www.googleapis.com/compute/v1/"
NAME = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"

_FULL = re.compile(r"https?://[^/]+/(?:compute/)?(?:v1|beta|alpha)/(?P<rest>.+)")
_REST = re.compile(
    r"(?:projects/(?P<project>[^/]+)/)?(?P<scope>global|(?:regions|zones)/[^/]+)/(?P<collection>[A-Za-z]+)/(?P<name>[^/]+)"
)


@attrs.frozen(order=True)
class Link:
    """One resource; ``scope`` is ``global``, ``regions/R`` or ``zones/Z``."""

    project: str
    scope: str
    collection: str
    name: str

    @property
    def path(self) -> str:
        """As messages name it."""
        return f"projects/{self.project}/{self.scope}/{self.collection}/{self.name}"

    @property
    def url(self) -> str:
        """As resources name it."""
        return ROOT + self.path


def is_full(text: str) -> bool:
    """Whether *text* is a whole URL and no partial one."""
    return _FULL.fullmatch(text) is not None


def parse_link(text: str, project: str) -> Link | None:
    """Read a full or partial URL; None where it is none."""
    full = _FULL.fullmatch(text)
    match = _REST.fullmatch(full["rest"] if full else text)
    if match is None or (full and not match["project"]):
        return None
    return Link(match["project"] or project, match["scope"], match["collection"], match["name"])


def scope_url(project: str, scope: str) -> str:
    """A region or zone, as the resources in it name it."""
    return f"{ROOT}projects/{project}/{scope}"
