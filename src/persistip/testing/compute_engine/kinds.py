"""
What is a kind of resource, and what is a rule about it?

A kind is a value: its fields, its verbs, its rules. A rule is a value too: its name, the sentence of the reference
that it comes from, what it says, and a function that finds what breaks it. The engine (``cloud.py``) knows no kind by
name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

import attrs

from persistip.testing.compute_engine.links import NAME, Link
from persistip.testing.compute_engine.refusals import RefusalError
from persistip.testing.compute_engine.shapes import Labels, Many, Reference, Struct, Text, Word

Body = Mapping[str, Any]
"""What is kept of a resource: the fields that a user may set, and beside them what an action has changed."""


class World(Protocol):
    """What a rule may look at: everything of the project, as it stands now."""

    @property
    def project(self) -> str:
        """Its name."""
        ...

    @property
    def region(self) -> str:
        """Its one region."""
        ...

    @property
    def external_pool(self) -> str:
        """The range out of which Google gives external IPv4 addresses."""
        ...

    @property
    def endpoint_cap(self) -> int:
        """How many endpoints a service with fast IP move may have."""
        ...

    def find(self, url: str) -> Body | None:
        """A resource by its URL; None where there is none."""
        ...

    def all_of(self, collection: str) -> Iterator[tuple[Link, Body]]:
        """Every resource of a collection."""
        ...

    def rules_at(self, address: str) -> Iterator[tuple[Link, Body]]:
        """Every forwarding rule for an address; an IPv6 one is written without its length."""
        ...

    def wanted_of(self, collection: str) -> Iterator[tuple[Link, Body]]:
        """Every resource of a collection that is being made."""
        ...

    def is_healthy(self, instance: str) -> bool:
        """Whether an instance, by its URL, passes its health checks."""
        ...

    def choose(self, choices: Collection[Any]) -> Any:
        """One of several, by the seed."""
        ...


@attrs.frozen(kw_only=True)
class Case:
    """One change, as the rules see it: ``old`` is None when something is made, ``new`` is None when it is deleted."""

    world: World
    link: Link
    old: Body | None = None
    new: Body | None = None
    completing: bool = False
    """True when its operation completes, False when it is asked for."""

    @property
    def body(self) -> Body:
        """The resource as it would be."""
        return self.new or {}


TRUST: Mapping[str, str] = {
    "A": "the API's own description of the field",
    "D": "a page of the documentation",
    "G": "the public source of others who use it",
    "K": "recorded traffic of others",
    "Q": "people's bug reports",
    "I": "inferred, never tried",
}
"""How the parts of a rule's ``source`` are known. None was tried on a live project by us."""

Finding = str | bool | None
"""What breaks a rule: words for its message, or just True; None and False: nothing does."""


@attrs.frozen(kw_only=True)
class Rule:
    """
    What the service refuses, and where we know it from.

    ``source`` says so in the words of ``TRUST``, with the field. ``message`` may hold ``{found}`` and
    ``{path}``.
    """

    name: str
    source: str
    message: str
    broken: Callable[[Case], Finding]
    status: int = 400
    reason: str = "invalid"
    late: bool = False
    """Found when the operation completes, not when it is asked for."""

    def check(self, case: Case) -> None:
        """Raise RefusalError where *case* breaks the rule."""
        if self.late and not case.completing:
            return
        if found := self.broken(case):
            message = self.message.format(found="" if found is True else found, path=case.link.path)
            raise RefusalError(self.status, self.reason, message)


@attrs.frozen(kw_only=True)
class Action:
    """A verb of one kind's own: what its body may hold, and what it makes of the resource."""

    body: Struct
    apply: Callable[[Case, Mapping[str, Any]], Body]
    """From the resource as it is (``case.old``) and the request, the resource as it will be."""
    locked: bool = False
    """Carries a ``labelFingerprint`` that must be the present one."""


@attrs.frozen(kw_only=True)
class Kind:
    """One kind of resource."""

    service: str
    """As methods name it: ``regionBackendServices``."""
    collection: str
    """As paths name it: ``backendServices``."""
    noun: str
    """As types and messages name it: ``backendService``."""
    scope: str
    """``region``, ``zone`` or ``global``."""
    verbs: tuple[str, ...]
    """Of get, list, aggregatedList, insert, patch, update, delete."""
    shape: Struct
    aggregated: str = ""
    """As the method over all scopes names the service, where that is another word."""
    required: tuple[str, ...] = ("name",)
    mutable: frozenset[str] = frozenset()
    """What patch and update may change; all else is fixed."""
    lock: str = ""
    """Of patch and update: ``required``, ``optional``, or empty where the kind has no fingerprint."""
    has_labels: bool = False
    """Whether reads carry a ``labelFingerprint``."""
    labels_at_insert: bool = True
    """False: labels given at insert are dropped."""
    actions: Mapping[str, Action] = attrs.field(factory=dict)
    rules: tuple[Rule, ...] = ()
    complete: Callable[[Case], Body] = attrs.field(default=lambda case: case.body)
    """What the service adds to a new resource: defaults, an address."""
    shown: Callable[[World, Link, Body], Mapping[str, Any]] = attrs.field(default=lambda _world, _link, _body: {})
    """What reads show beside what is kept."""
    users: Callable[[World, Link, Body], Iterator[Link]] | None = None
    """Who uses a resource, where that is not told by references alone."""
    quota: str = ""
    """The metric that counts it, for each project and region."""

    @property
    def type(self) -> str:
        """The word in the field ``kind``."""
        return f"compute#{self.noun}"


OUTPUT = frozenset({"kind", "id", "creationTimestamp", "selfLink", "region", "zone", "selfLinkWithId"})
"""What every resource shows and no request sets."""

NAME_FIELD = Text(NAME)
LABELS_REQUEST = Struct({"labels": Labels(), "labelFingerprint": Text()})
TIER = Word(("PREMIUM", "STANDARD"))
FAMILY = Word(("IPV4", "IPV6"))
SCHEME = Word(("EXTERNAL", "INTERNAL"))


def network_reference() -> Reference:
    """A VPC network."""
    return Reference(("networks",))


def subnetwork_reference() -> Reference:
    """A subnetwork."""
    return Reference(("subnetworks",))


def texts(pattern: str = "") -> Many:
    """A list of strings."""
    return Many(Text(pattern))
