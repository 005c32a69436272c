"""
What is there now, what is being made, and what was there a moment ago?

In: commits of whole resources.  Out: look-ups, who uses a resource, and lists as of an earlier instant, for lists
that lag behind writes. Bodies are never changed in place.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from persistip.testing.compute_engine.kinds import Body, Kind
from persistip.testing.compute_engine.links import Link, parse_link, scope_url
from persistip.testing.compute_engine.shapes import references, without_empty


@attrs.frozen(kw_only=True)
class Resource:
    """One resource and what the service keeps of it; ``version`` counts its writes."""

    link: Link
    body: Body
    id: str
    created_at: float
    version: int = 1

    @property
    def fingerprint(self) -> str:
        """Changes with every write."""
        return _hash(f"{self.id}/{self.version}")

    @property
    def label_fingerprint(self) -> str:
        """Changes with the labels."""
        return _hash(json.dumps(self.body.get("labels", {}), sort_keys=True))


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def timestamp(at: float) -> str:
    """An instant as Compute Engine writes it."""
    return datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="milliseconds")


@attrs.frozen
class Listed(Mapping[str, Any]):
    """
    A resource as reads answer it, made only when a field is asked for that its name does not tell.

    A list of ten thousand is sorted, and often filtered, by names alone, and shows a page of it.
    """

    resource: Resource
    make: Callable[[Resource], Mapping[str, Any]]
    _made: list[Mapping[str, Any]] = attrs.field(factory=list, init=False)

    @property
    def whole(self) -> Mapping[str, Any]:
        """All of its fields."""
        if not self._made:
            self._made.append(self.make(self.resource))
        return self._made[0]

    def __getitem__(self, name: str) -> Any:
        if name == "name":
            return self.resource.link.name
        return self.resource.link.url if name == "selfLink" else self.whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)


@attrs.frozen
class Change:
    """That a resource was another, or none, until an instant."""

    at: float
    link: Link
    before: Resource | None


class State:
    """Everything of one project; what rules see of it is ``kinds.World``."""

    def __init__(
        self, kinds: Mapping[str, Kind], rng: random.Random, *, project: str, region: str, zones: Collection[str]
    ) -> None:
        self.kinds = kinds
        self.project = project
        self.region = region
        self.zones = tuple(zones)
        self.external_pool = "198.51.100.0/24"
        self.endpoint_cap = 32
        self.leaving: set[str] = set()
        self.unhealthy: set[str] = set()
        self._rng = rng
        self._resources: dict[str, dict[str, Resource]] = {name: {} for name in kinds}
        self._rules_at: dict[str, set[str]] = {}
        self._wanted: dict[str, tuple[Link, Body, str]] = {}
        self._changes: list[Change] = []

    # ------------------------------------------------------------ what rules see
    def find(self, url: str) -> Body | None:
        """A resource's body by its URL."""
        link = parse_link(url, self.project)
        resource = self.get(link) if link else None
        return resource.body if resource else None

    def all_of(self, collection: str) -> Iterator[tuple[Link, Body]]:
        """Every resource of a collection."""
        return ((each.link, each.body) for each in self._resources[collection].values())

    def rules_at(self, address: str) -> Iterator[tuple[Link, Body]]:
        """Every forwarding rule for an address; an IPv6 one is written without its length."""
        rules = self._resources["forwardingRules"]
        return ((rules[url].link, rules[url].body) for url in sorted(self._rules_at.get(address, ())))

    def wanted_of(self, collection: str) -> Iterator[tuple[Link, Body]]:
        """Every resource of a collection that is being made."""
        return ((link, body) for link, body, _ in self._wanted.values() if link.collection == collection)

    def is_healthy(self, instance: str) -> bool:
        """Whether an instance, by its URL, passes its health checks."""
        return instance not in self.unhealthy

    def choose(self, choices: Collection[Any]) -> Any:
        """One of several, by the seed."""
        return self._rng.choice(tuple(choices))

    # ------------------------------------------------------------ look-ups
    def get(self, link: Link) -> Resource | None:
        """A resource as it is."""
        return self._resources.get(link.collection, {}).get(link.url)

    def resources_of(self, collection: str, as_of: float | None = None) -> list[Resource]:
        """Every resource of a collection; ``as_of``: as they were at that instant."""
        found = dict(self._resources[collection])
        if as_of is not None:
            for change in reversed(self._changes):
                if change.at <= as_of:
                    break
                if change.link.collection != collection:
                    continue
                if change.before is None:
                    found.pop(change.link.url, None)
                else:
                    found[change.link.url] = change.before
        return sorted(found.values(), key=lambda each: (each.link.scope, each.link.name))

    def is_wanted(self, link: Link) -> bool:
        """Whether it is being made."""
        return link.url in self._wanted

    def has_scope(self, scope: str) -> bool:
        """Whether the project has that region or zone."""
        return scope in {"global", f"regions/{self.region}", *(f"zones/{zone}" for zone in self.zones)}

    def resolve(self, text: str, collections: tuple[str, ...], scope: str) -> Link | None:
        """What a reference in a resource of *scope* names; None: nothing it could name."""
        link = parse_link(text, self.project)
        if link is None and "/" not in text:
            wide = {"networks": "global"}
            link = Link(self.project, wide.get(collections[0], scope), collections[0], text)
        return link if link and link.collection in collections and link.project == self.project else None

    def users_of(self, link: Link) -> list[Link]:
        """Every resource that uses another, so that it cannot be deleted."""
        found: list[Link] = []
        for collection, resources in self._resources.items():
            shape = self.kinds[collection].shape
            found += [
                each.link
                for each in resources.values()
                if any(url == link.url for _, _, url in references(shape, each.body, ""))
            ]
        kind, own = self.kinds[link.collection], self.get(link)
        if kind.users is not None and own is not None:
            found += kind.users(self, link, own.body)
        return sorted(set(found) - {link})

    def shown(self, resource: Resource) -> dict[str, Any]:
        """A resource as reads answer it."""
        kind, link = self.kinds[resource.link.collection], resource.link
        kept = {name: value for name, value in resource.body.items() if name in kind.shape.fields}
        body = {
            **kept,
            **kind.shown(self, link, resource.body),
            "kind": kind.type,
            "id": resource.id,
            "creationTimestamp": timestamp(resource.created_at),
            "selfLink": link.url,
        }
        if link.scope != "global":
            body[link.scope.partition("s/")[0]] = scope_url(self.project, link.scope)
        if kind.lock:
            body["fingerprint"] = resource.fingerprint
        if kind.has_labels:
            body["labelFingerprint"] = resource.label_fingerprint
        cleaned: dict[str, Any] = without_empty(body)
        return cleaned

    # ------------------------------------------------------------ writes
    def new_id(self) -> str:
        """A number such as identifies resources and operations."""
        return str(self._rng.randrange(10**17, 10**19))

    def want(self, link: Link, body: Body, target_id: str) -> None:
        """It is being made: its name is taken, it cannot be used yet, and it will have that id."""
        self._wanted[link.url] = (link, body, target_id)

    def unwant(self, link: Link) -> None:
        """It is made now, or never will be."""
        self._wanted.pop(link.url, None)

    def commit(self, link: Link, body: Body | None, at: float) -> None:
        """Write a whole resource, or None for its end."""
        there = self._resources[link.collection]
        before = there.get(link.url)
        self._changes.append(Change(at, link, before))
        for address in {_address(each) for each in (before and before.body, body) if each}:
            self._rules_at.setdefault(address, set()).discard(link.url)
        if body is None:
            there.pop(link.url, None)
            return
        if before is None:
            wanted = self._wanted.get(link.url)
            there[link.url] = Resource(link=link, body=body, id=wanted[2] if wanted else self.new_id(), created_at=at)
        else:
            there[link.url] = attrs.evolve(before, body=body, version=before.version + 1)
        self._rules_at.setdefault(_address(body), set()).add(link.url)


def _address(body: Body) -> str:
    """The address of a forwarding rule, without the length of an IPv6 one."""
    return str(body.get("IPAddress", "")).partition("/")[0]
