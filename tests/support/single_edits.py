"""
An object edited in one field, whichever fields its class has.

The fields are read from the classes, so that one added tomorrow is edited tomorrow. What stands in a field next is what
stands there in another object of the same kind, or what its type suggests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import attrs

from persistip.strategies import ClusterObject

Path = tuple[str | int, ...]

IDENTITY: frozenset[Path] = frozenset({("meta", "name"), ("meta", "namespace"), ("meta", "resource_version")})
"""By these an object is another one, or the same."""


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Every field, and those of the values in it; a collection is a field itself, and so is each of its members."""
    if attrs.has(type(value)):
        for each in attrs.fields(type(value)):
            if (*path, each.name) not in IDENTITY and each.init:
                yield from paths(getattr(value, each.name), (*path, each.name))
        return
    is_pair = isinstance(value, tuple) and bool(path) and isinstance(path[-1], int)
    if not is_pair:
        yield path
    if isinstance(value, tuple):
        for index, member in enumerate(value):
            yield from paths(member, (*path, index))


def at(value: Any, path: Path) -> Any:
    """What stands there; raises LookupError or AttributeError where nothing does."""
    for step in path:
        value = value[step] if isinstance(step, int) else getattr(value, step)
    return value


def with_value(value: Any, path: Path, new: object) -> Any:
    """The same with *new* there."""
    if not path:
        return new
    step, *rest = path
    if isinstance(step, int):
        return (*value[:step], with_value(value[step], tuple(rest), new), *value[step + 1 :])
    return attrs.evolve(value, **{step: with_value(getattr(value, step), tuple(rest), new)})


def alike(value: Any) -> Iterator[object]:
    """Other values of the type."""
    match value:
        case bool():
            yield not value
        case Enum():
            yield from type(value)
        case int() | float():
            yield value + 1
        case str():
            yield from ("", f"{value}-other")
        case IPv4Address() | IPv6Address():
            yield value + 1
        case IPv4Network() | IPv6Network():
            yield type(value)((int(value.network_address) ^ value.num_addresses, value.prefixlen))
        case tuple():
            yield from (value[:-1], value[1:], value[::-1])
        case Mapping():
            yield {}
            yield {**value, "added": "yes"}
        case _:
            return


def single_edits(found: ClusterObject, others: Iterable[ClusterObject], most: int = 100) -> list[ClusterObject]:
    """Versions of *found* that differ from it in one field, each value once, *most* of them for a field."""
    donors = [each for each in others if type(each) is type(found)]
    edited: list[ClusterObject] = []
    for path in paths(found):
        present = at(found, path)
        values = []
        for donor in donors:
            try:
                values.append(at(donor, path))
            except (LookupError, AttributeError):
                continue
        seen = [present]
        for value in (*values, *alike(present)):
            if value not in seen and len(seen) <= most:
                seen.append(value)
                edited.append(with_value(found, path, value))
    return edited
