"""
What is wrong with an object that a person wrote?

In: plain data and the wire struct it should fit.  Out: every fault, each with the field's path and the fix; not only
the first, as decoding would give. Unlike an API server's answers, a misspelled field is an error here: silently
ignored, it would be a claim that nobody made.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import attrs
from msgspec import inspect

from persistip.wire.structs import Wire
from persistip.wire.times import parse_time

Path = tuple[str | int, ...]
Written = Callable[[Path], str | None]


@attrs.frozen
class Finding:
    """One fault."""

    path: Path
    message: str


def show_path(path: Path) -> str:
    """``spec.addresses[0].value``; keys that are no plain word stand in brackets."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif step.isidentifier():
            shown += f".{step}" if shown else step
        else:
            shown += f'["{step}"]'
    return shown


def closest(word: str, known: Collection[str], *, likeness: float = 0.6) -> str | None:
    """The known word that was probably meant: the same but for case and separators, else the most alike."""
    folded = {_fold(each): each for each in known}
    if _fold(word) in folded:
        return folded[_fold(word)]
    alike = difflib.get_close_matches(_fold(word), folded, n=1, cutoff=likeness)
    return folded[alike[0]] if alike else None


def _fold(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def check_object(obj: Mapping[str, Any], struct: type[Wire], written: Written = lambda _: None) -> tuple[Finding, ...]:
    """
    Every fault of *obj*, whose ``apiVersion`` and ``kind`` have been looked at.

    *written* tells what stands in the file at a path, so that a word that YAML took for something else can be shown.
    """
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    return tuple(_Checker(written).walk(body, _type_of(struct), ()))


@functools.cache
def _type_of(struct: type[Wire]) -> inspect.Type:
    return inspect.type_info(struct)


def name_of(value: Any) -> str:
    """What *value* is, as the end of the sentence "is …"."""
    match value:
        case None:
            return "empty"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the string {value!r}"
        case list():
            return "a list"
        case _:
            return "an object"


class _Checker:
    def __init__(self, written: Written) -> None:
        self._written = written

    def walk(self, value: Any, type_: inspect.Type, path: Path) -> Iterator[Finding]:
        match type_:
            case inspect.UnionType(types=types):
                if value is not None:
                    yield from self.walk(value, next(t for t in types if not isinstance(t, inspect.NoneType)), path)
            case inspect.StructType(cls=cls, fields=fields):
                if isinstance(value, dict):
                    yield from self._walk_struct(value, cls, fields, path)
                else:
                    yield self._mismatch("an object", value, path)
            case inspect.VarTupleType(item_type=item):
                if not isinstance(value, list):
                    yield self._mismatch("a list", value, path, ' (begin the line with "- ")')
                    return
                for index, each in enumerate(value):
                    yield from self.walk(each, item, (*path, index))
            case inspect.DictType(value_type=item):
                if not isinstance(value, dict):
                    yield self._mismatch("an object", value, path)
                    return
                for key, each in value.items():
                    yield from self.walk(each, item, (*path, key))
            case _:
                yield from self._walk_scalar(value, type_, path)

    def _walk_struct(
        self, value: dict[str, Any], cls: type[Any], fields: tuple[inspect.Field, ...], path: Path
    ) -> Iterator[Finding]:
        known = {field.encode_name: field for field in fields}
        unread: frozenset[str] = cls.unread
        demanded = {name for name, field in known.items() if field.required or name in cls.required}
        missing = {name for name in demanded if value.get(name) is None}
        for key, each in value.items():
            if key in missing:
                continue
            if key in known:
                yield from self.walk(each, known[key].type, (*path, key))
            elif key not in unread and not cls.is_open:
                yield Finding((*path, key), f"unknown field{_hint(key, known, unread)}")
        for name in known:
            if name in missing:
                yield Finding((*path, name), "is required and missing")

    def _walk_scalar(self, value: Any, type_: inspect.Type, path: Path) -> Iterator[Finding]:
        match type_:
            case inspect.StrType():
                if not isinstance(value, str):
                    yield self._mismatch("a string", value, path, self._quoted(value, path))
            case inspect.BoolType():
                if not isinstance(value, bool):
                    yield self._mismatch("true or false", value, path, " (without quotes)")
            case inspect.IntType():
                if not isinstance(value, int) or isinstance(value, bool):
                    yield self._mismatch("a whole number", value, path)
            case inspect.DateTimeType():
                try:
                    parse_time(value)
                except (TypeError, ValueError):
                    yield self._mismatch("a time such as 2030-01-31T12:00:00Z", value, path)
            case _:  # Any: whatever stands there is Kubernetes' to judge
                return

    def _quoted(self, value: Any, path: Path) -> str:
        if isinstance(value, dict | list):
            return ""
        text = self._written(path)
        return f'; put it in quotes: "{text}"' if text else "; put it in quotes"

    def _mismatch(self, wanted: str, value: Any, path: Path, fix: str = "") -> Finding:
        return Finding(path, f"must be {wanted}, but is {name_of(value)}{fix}")


def _hint(key: str, known: Mapping[str, inspect.Field], unread: frozenset[str]) -> str:
    meant = closest(key, [*known, *unread])
    if meant is not None:
        return f"; did you mean {meant}?"
    for name, field in known.items():
        if key in _fields_below(field.type):
            return f"; it belongs under {name}"
    return f"; known here: {', '.join(sorted(known))}"


def _fields_below(type_: inspect.Type) -> frozenset[str]:
    match type_:
        case inspect.UnionType(types=types):
            return frozenset[str]().union(*(_fields_below(each) for each in types))
        case inspect.StructType(fields=fields):
            return frozenset(field.encode_name for field in fields)
        case _:
            return frozenset()
