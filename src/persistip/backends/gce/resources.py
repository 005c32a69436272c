"""
What is a resource of ours called, and how do we know it again?

In: a cluster, a route.  Out: names, the mark in ``description``, and the values in which the rest speaks. Names follow
from the route alone, and not from its UID: a process without memory finds what its predecessor made, a route that is
made again under its name takes up what stands, and no second resource for the same purpose can come to be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs

ROOT = "https://www.googleapis.com/compute/v1/"
MAX_NAME = 63
MAX_TAIL = 30

Body = Mapping[str, Any]
"""A resource as the API writes it."""


class Service(StrEnum):
    """The kinds of resource that we make, as methods name their service."""

    ADDRESSES = "addresses"
    RULES = "forwardingRules"
    SERVICES = "regionBackendServices"
    GROUPS = "networkEndpointGroups"
    FIREWALLS = "firewalls"


_COLLECTIONS = {Service.SERVICES: "backendServices"}


@attrs.frozen(order=True)
class Resource:
    """One resource; ``scope`` is ``global``, ``regions/R`` or ``zones/Z``."""

    service: Service
    scope: str
    name: str

    def url(self, project: str) -> str:
        """As other resources name it, whatever host is called."""
        collection = _COLLECTIONS.get(self.service, self.service.value)
        return f"{ROOT}projects/{project}/{self.scope}/{collection}/{self.name}"

    def __str__(self) -> str:
        return f"{self.scope}/{_COLLECTIONS.get(self.service, self.service.value)}/{self.name}"


@attrs.frozen(kw_only=True)
class Instance:
    """A virtual machine, by the one link that serves: its first."""

    name: str
    zone: str
    network: str
    subnetwork: str


@attrs.frozen
class Owner:
    """Whose resources these are: one cluster's."""

    cluster: str

    @property
    def prefix(self) -> str:
        """How every name of ours begins."""
        return f"pip-{_short_hash(self.cluster)}-"

    def name(self, route: str, what: str = "", tail: str = "") -> str:
        """The name of a route's resource; *what* tells apart those of one kind and scope, *tail* says it to people."""
        told = _short_hash(f"{self.cluster}\0{route}\0{what}")
        end = f"-{told}-{_words(tail)}"[:MAX_TAIL].rstrip("-")
        room = MAX_NAME - len(self.prefix) - len(end)
        return f"{self.prefix}{_words(route)[:room].strip('-') or 'x'}{end}"

    def mark(self, route: str) -> str:
        """The description of a route's resource."""
        return json.dumps({"persistip": "1", "cluster": self.cluster, "route": route}, sort_keys=True)

    def route_of(self, body: Body) -> str | None:
        """Whose resource that is by its mark; None: not ours."""
        try:
            said = json.loads(body.get("description", ""))
        except ValueError:
            return None
        if not isinstance(said, dict) or said.get("persistip") != "1" or said.get("cluster") != self.cluster:
            return None
        route = said.get("route")
        return route if isinstance(route, str) else None


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _short_hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:8].decode().lower()


def last(link: str) -> str:
    """The name at the end of a link; a bare name is its own end."""
    return link.rpartition("/")[2]


def partial(link: str) -> str:
    """A link without host and version: they differ between what is sent and what is read."""
    found = re.search(r"projects/.*", link)
    return found[0] if found else link
