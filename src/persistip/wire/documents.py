"""
Which documents stand in a YAML text, and where does each value stand?

In: text.  Out: JSON-like values with the line of every field, and every fault; one broken document costs no other.
Read as kubectl reads it, with the traps of YAML 1.1 said aloud: keys given twice, keys that are no strings, and (by
``check``, through ``written``) ``yes`` or ``010`` where a string is due. Dates stay strings and ``1:30`` is no number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs
import yaml

from persistip.wire.check import Path

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
# A manifest that grows by its aliases beyond this, and beyond one node a character, is an attack or a mistake.
_MAX_NODES = 200_000
_MAX_DEPTH = 100


@attrs.frozen(kw_only=True)
class TextFault:
    """A fault of the text itself, before any object is known; ``document`` counts from 1."""

    document: int
    line: int
    column: int
    path: Path
    message: str


@attrs.frozen(kw_only=True)
class Document:
    """One document. ``lines`` and ``scalars`` tell the line of each path and what is written there."""

    number: int
    line: int
    value: Any
    lines: dict[Path, int]
    scalars: dict[Path, str]


class _TooLargeError(Exception):
    pass


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates and without numbers to the base of sixty."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^(?:[-+]?0b[0-1_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)$"),
    list("-+0123456789."),
)


def parse_documents(text: str) -> Iterator[Document | TextFault]:
    """The documents that are not empty, in order; a broken one is a fault in its place."""
    number = 0
    for offset, chunk in _chunks(text):
        loader = None
        try:
            loader = _Loader(chunk)
            while loader.check_node():
                node = loader.get_node()
                if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
                    continue
                number += 1
                yield from _Reading(loader, number, offset, max(_MAX_NODES, len(chunk))).read(node)
        except RecursionError:
            number += 1
            message = "is nested too deeply to be read"
            yield TextFault(document=number, line=offset + 1, column=1, path=(), message=message)
        except yaml.YAMLError as error:
            number += 1
            yield _text_fault(error, number, offset, chunk)
        finally:
            if loader is not None:
                loader.dispose()


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The text between separators, each with the lines before it: a broken document must not hide those behind it."""
    starts = [0, *(found.end() for found in _SEPARATOR.finditer(text))]
    ends = [*(found.start() for found in _SEPARATOR.finditer(text)), len(text)]
    for start, end in zip(starts, ends, strict=True):
        chunk = text[start:end]
        content = [line for line in chunk.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if any(not line.startswith("%") for line in content):
            yield text.count("\n", 0, start), chunk


def _text_fault(error: yaml.YAMLError, number: int, offset: int, chunk: str) -> TextFault:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line, column = error.problem_mark.line, error.problem_mark.column
        message = " ".join(part for part in (error.context, error.problem) if part)
        if error.context_mark is not None and error.context_mark.line != line:
            message += f" (it began on line {offset + error.context_mark.line + 1})"
    else:
        position = int(getattr(error, "position", 0))
        line, column = chunk.count("\n", 0, position), position - chunk.rfind("\n", 0, position) - 1
        message = str(getattr(error, "reason", error))
    if "'\\t'" in message:
        message += "; indent with spaces, not tabs"
    return TextFault(
        document=number,
        line=offset + line + 1,
        column=column + 1,
        path=(),
        message=f"is no YAML, the rest of this document is lost: {message}",
    )


class _Reading:
    """One document: builds the value and notes where everything stands."""

    def __init__(self, loader: _Loader, number: int, offset: int, most: int) -> None:
        self._loader, self._number, self._offset, self._most = loader, number, offset, most
        self._lines: dict[Path, int] = {}
        self._scalars: dict[Path, str] = {}
        self._faults: list[TextFault] = []

    def read(self, node: yaml.Node) -> Iterator[Document | TextFault]:
        value = None
        try:
            value = self._value(node, ())
        except _TooLargeError:
            self._fault(node, (), "is too large or too deep once its aliases are followed; write it out")
        if self._faults:
            yield from self._faults
            return
        yield Document(
            number=self._number,
            line=self._line(node),
            value=value,
            lines=self._lines,
            scalars=self._scalars,
        )

    def _line(self, node: yaml.Node) -> int:
        return int(self._offset + node.start_mark.line + 1)

    def _fault(self, node: yaml.Node, path: Path, message: str) -> None:
        self._faults.append(
            TextFault(
                document=self._number,
                line=self._line(node),
                column=node.start_mark.column + 1,
                path=path,
                message=message,
            )
        )

    def _value(self, node: yaml.Node, path: Path) -> Any:
        if len(path) > _MAX_DEPTH or len(self._lines) > self._most:
            raise _TooLargeError
        self._lines[path] = self._line(node)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self._value(each, (*path, index)) for index, each in enumerate(node.value)]
            case _:
                return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        first_lines: dict[str, int] = {}
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in first_lines and key != "<<":
                message = f"key {key!r} appears twice, first on line {first_lines[key]}; keep one"
                self._fault(key_node, (*path, key), message)
            first_lines.setdefault(key, self._line(key_node))
        # Merge keys (<<) become pairs in front, so that the mapping's own win.
        self._loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "…"
                self._fault(key_node, path, f'key {shown} is no string to YAML; put it in quotes: "{shown}"')
                continue
            result[key_node.value] = self._value(value_node, (*path, key_node.value))
            self._lines[*path, key_node.value] = self._line(key_node)
        return result

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        self._scalars[path] = str(node.value)
        try:
            value = self._loader.construct_object(node)
        except ValueError:  # an explicit tag that the text does not fit, such as !!int x
            value = NotImplemented
        if value is None or isinstance(value, str | int | float):
            return value
        self._fault(node, path, f"tag {node.tag} has no meaning in JSON; write a plain string")
        return None
