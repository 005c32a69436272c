"""
Which objects does a ``labelSelector`` of a request select?

In: the text of the query parameter, as ``kubectl -l`` takes it.  Out: the model's LabelSelector.
"""

from __future__ import annotations

import re

from persistip.errors import RejectedError
from persistip.model.selector import LabelSelector, Operator, Requirement

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"(?P<key>{_NAME})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(rf"(?P<key>{_NAME})\s*(?P<operator>==|=|!=)\s*(?P<value>[-A-Za-z0-9_.]*)")
_EXISTENCE = re.compile(rf"(?P<not>!)?\s*(?P<key>{_NAME})")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^()]*\))")


def parse_selector(text: str) -> LabelSelector:
    """
    The selector that *text* stands for; the empty text selects everything.

    Raises RejectedError for anything that the API server would answer with 400.
    """
    if not text.strip():
        return LabelSelector()
    return LabelSelector((), tuple(_requirement(part.strip()) for part in _COMMA_OUTSIDE_PARENTHESES.split(text)))


def _requirement(part: str) -> Requirement:
    if found := _SET.fullmatch(part):
        values = tuple(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], Operator.IN if found["operator"] == "in" else Operator.NOT_IN, values)
    if found := _EQUALITY.fullmatch(part):
        operator = Operator.NOT_IN if found["operator"] == "!=" else Operator.IN
        return Requirement(found["key"], operator, (found["value"],))
    if found := _EXISTENCE.fullmatch(part):
        return Requirement(found["key"], Operator.DOES_NOT_EXIST if found["not"] else Operator.EXISTS)
    raise RejectedError(f"unable to parse requirement {part!r}", system="memory", operation="select")
