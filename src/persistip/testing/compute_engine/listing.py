"""
Which resources does a list hold, and which of them are on this page?

In: resources as reads show them, and the query.  Out: a page. Of the two dialects of filters, both in their simple
forms: ``name eq 'regex'``, where the expression has to match the entire field, and ``name=value``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from persistip.testing.compute_engine.refusals import invalid

MOST = 500

_OLD = re.compile(r"""\(?\s*(?P<field>[\w.]+)\s+(?P<op>eq|ne)\s+(?P<value>"[^"]*"|'[^']*'|[^\s()]+)\s*\)?""")
_NEW = re.compile(r"""\(?\s*(?P<field>[\w.]+)\s*(?P<op>!=|=)\s*(?P<value>"[^"]*"|'[^']*'|[^\s()]+)\s*\)?""")
_ORDERS: Mapping[str, tuple[str, bool]] = {
    "": ("name", False),
    "name": ("name", False),
    "name desc": ("name", True),
    "creationTimestamp desc": ("creationTimestamp", True),
}

Shown = Mapping[str, Any]


@attrs.frozen
class Page:
    """The items of a page, and how to ask for the next; empty where this is the last."""

    items: tuple[Shown, ...]
    token: str


def make_filter(text: str) -> Callable[[Shown], bool]:
    """The meaning of a filter; raises RefusalError for what this emulator does not know."""
    if not text.strip():
        return lambda _: True
    for pattern, glue in ((_OLD, r"\s*(?:AND\s+)?"), (_NEW, r"\s*AND\s+|\s*(?=\()")):
        tests, rest = [], text.strip()
        while match := pattern.match(rest):
            tests.append(_test(match["field"], match["op"], match["value"].strip("\"'")))
            rest = rest[match.end() :]
            rest = re.sub(rf"^(?:{glue})", "", rest)
        if tests and not rest:
            return lambda shown: all(test(shown) for test in tests)
    raise invalid("filter", text, "Invalid list filter expression, or one that is not emulated.")


def _test(field: str, operator: str, value: str) -> Callable[[Shown], bool]:
    if operator in ("eq", "ne"):
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise invalid("filter", value, f"Not a regular expression: {error}") from error
        return lambda shown: (pattern.fullmatch(_text(shown, field)) is not None) == (operator == "eq")
    return lambda shown: (_text(shown, field) == value) == (operator == "=")


def _text(shown: Shown, field: str) -> str:
    """What stands in a field, as a filter compares it."""
    value: Any = shown
    for part in field.split("."):
        value = value.get(part, "") if isinstance(value, Mapping) else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def page_of(
    shown: Iterable[Shown], query: Mapping[str, str], key: Callable[[Shown], str] = lambda each: each["selfLink"]
) -> Page:
    """
    The page that a query asks for; *key* tells items of one order apart.

    A page begins after the last item of the one before, whether that is still there or not.
    """
    matches = make_filter(query.get("filter", ""))
    order = query.get("orderBy", "")
    if order not in _ORDERS:
        raise invalid("orderBy", order, f"Known are {', '.join(each for each in _ORDERS if each)}.")
    field, descending = _ORDERS[order]

    def place(each: Shown) -> tuple[str, str]:
        return each.get(field, ""), key(each)

    found = sorted((each for each in shown if matches(each)), key=place, reverse=descending)
    if token := query.get("pageToken", ""):
        last = _read_token(token)
        found = [each for each in found if (place(each) < last if descending else place(each) > last)]
    most = _most(query.get("maxResults", ""))
    items = tuple(found[:most])
    return Page(items, _make_token(place(items[-1])) if len(found) > most else "")


def _most(text: str) -> int:
    if not text:
        return MOST
    if not text.isdigit() or not 0 <= int(text) <= MOST:
        raise invalid("maxResults", text, f"A number from 0 to {MOST} is expected.")
    return int(text) or MOST


def _make_token(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_token(token: str) -> tuple[str, str]:
    try:
        value, key = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError) as error:
        raise invalid("pageToken", token, "It comes from no list.") from error
    return str(value), str(key)
