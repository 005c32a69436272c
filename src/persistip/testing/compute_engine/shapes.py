"""
What may stand in a body?

In: a shape, written by hand from the documentation, and JSON.  Out: the JSON without what only the service writes, or
a refusal that names the field. Every shape lists its fields: one that is unknown is refused, so a misspelt field is
found, and so is one of Compute Engine's that this emulator does not model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from persistip.testing.compute_engine.refusals import RefusalError, invalid


@attrs.frozen
class Text:
    """A string, wholly of one pattern where there is one."""

    pattern: str = ""


@attrs.frozen
class Word:
    """One of some words."""

    words: tuple[str, ...]


@attrs.frozen
class Flag:
    """True or false."""


@attrs.frozen
class Whole:
    """An integer between two, both included."""

    low: int = 0
    high: int = 2**31 - 1


@attrs.frozen
class Fraction:
    """A number between two, both included."""

    low: float = 0.0
    high: float = 1.0


@attrs.frozen
class Labels:
    """Names and values of one's own."""


@attrs.frozen
class Reference:
    """
    Another resource, of one of these collections; it must exist.

    ``full``: only a whole URL will do; else a bare name means one of the same scope.
    """

    collections: tuple[str, ...]
    full: bool = False


@attrs.frozen
class Many:
    """A list; an update replaces it whole."""

    of: Shape
    most: int = 1000


@attrs.frozen
class Struct:
    """An object of named fields; those in ``output`` are the service's, and ignored in requests."""

    fields: Mapping[str, Shape]
    output: frozenset[str] = frozenset()


Shape = Text | Word | Flag | Whole | Fraction | Labels | Reference | Many | Struct


def check(shape: Shape, value: object, path: str, *, keep_null: bool = False) -> Any:
    """
    Return *value* as the service takes it; raises RefusalError.

    Null counts as absent; ``keep_null`` leaves it, since in a merge patch it takes a field away.
    """
    if isinstance(shape, Struct):
        return _check_struct(shape, value, path, keep_null=keep_null)
    if isinstance(shape, Many):
        if not isinstance(value, list):
            raise invalid(path, value, "A list is expected.")
        if len(value) > shape.most:
            raise invalid(path, f"{len(value)} items", f"At most {shape.most} may be given.")
        return [check(shape.of, each, f"{path}[{index}]") for index, each in enumerate(value)]
    if isinstance(shape, Labels):
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise invalid(path, value, "A map of strings is expected.")
        return dict(value)
    if why := _fault(shape, value):
        raise invalid(path, value, why)
    return value


def _check_struct(shape: Struct, value: object, path: str, *, keep_null: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(path, value, "An object is expected.")
    checked: dict[str, Any] = {}
    for name, each in value.items():
        if name in shape.output:
            continue
        if name not in shape.fields:
            known = ", ".join(sorted(shape.fields))
            message = f"Invalid JSON payload received. Unknown name \"{name}\" at '{path}': Cannot find field."
            raise RefusalError(400, "invalid", f"{message} Known here: {known}")
        if each is not None:
            checked[name] = check(shape.fields[name], each, f"{path}.{name}", keep_null=keep_null)
        elif keep_null:
            checked[name] = None
    return checked


def _fault(shape: Text | Word | Flag | Whole | Fraction | Reference, value: object) -> str | None:
    """What is wrong with a single value; None: nothing."""
    if isinstance(shape, Flag):
        return None if isinstance(value, bool) else "A boolean is expected."
    if isinstance(shape, Whole | Fraction):
        number = isinstance(value, int if isinstance(shape, Whole) else int | float) and not isinstance(value, bool)
        if not number or not shape.low <= value <= shape.high:  # type: ignore[operator]
            return f"A number from {shape.low} to {shape.high} is expected."
        return None
    if not isinstance(value, str):
        return "A string is expected."
    if isinstance(shape, Word) and value not in shape.words:
        return f"Known words are {', '.join(shape.words)}."
    if isinstance(shape, Text) and shape.pattern and not re.fullmatch(shape.pattern, value):
        return f"Must be a match of regex '(?:{shape.pattern})'"
    return None


def references(shape: Shape, value: Any, path: str) -> Iterator[tuple[str, Reference, str]]:
    """Every reference in a body that has been checked: its path, what it may name, and what it names."""
    if isinstance(shape, Reference):
        yield path, shape, value
    elif isinstance(shape, Many):
        for index, each in enumerate(value):
            yield from references(shape.of, each, f"{path}[{index}]")
    elif isinstance(shape, Struct):
        for name, each in value.items():
            if name in shape.fields and each is not None:
                yield from references(shape.fields[name], each, f"{path}.{name}")


def replace_references(shape: Shape, value: Any, path: str, names: Mapping[str, str]) -> Any:
    """The same body with the reference at each path of *names* written as it says there."""
    if isinstance(shape, Reference):
        return names.get(path, value)
    if isinstance(shape, Many):
        return [replace_references(shape.of, each, f"{path}[{index}]", names) for index, each in enumerate(value)]
    if isinstance(shape, Struct):
        return {
            name: replace_references(shape.fields[name], each, f"{path}.{name}", names)
            if name in shape.fields
            else each
            for name, each in value.items()
        }
    return value


def merge_patch(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch: objects are merged, null takes away, all else replaces."""
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = old.get(name)
            merged[name] = merge_patch(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def without_empty(value: Any) -> Any:
    """As the service answers: fields that are unset, false, or empty are left out."""
    if isinstance(value, dict):
        inner = {name: without_empty(each) for name, each in value.items()}
        return {name: each for name, each in inner.items() if each is not False and each not in ("", None, [], {})}
    if isinstance(value, list):
        return [without_empty(each) for each in value]
    return value
