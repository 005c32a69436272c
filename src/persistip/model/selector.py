"""Which labels does a Kubernetes LabelSelector match? The rule is apimachinery's: every requirement must hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum

import attrs


class Operator(StrEnum):
    """Operators of ``matchExpressions``."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


_OPERATORS = frozenset(Operator)

_NAME = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_VALUE = re.compile(f"({_NAME})?")
_KEY = re.compile(rf"((?=[^/]{{1,253}}/){_DNS_LABEL}(\.{_DNS_LABEL})*/)?{_NAME}")
"""A label's value, and its key with the domain that may stand before it, as Kubernetes takes them."""


@attrs.frozen
class Requirement:
    """One entry of ``matchExpressions``; ``operator`` is as the user wrote it, so that a wrong one can be named."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether *labels* satisfy this requirement; an unknown operator matches nothing."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels
            case _:
                return False

    def fault(self) -> str | None:
        """Every reason why the API would refuse this requirement, in one sentence, or None."""
        return "; ".join(self._faults()) or None

    def _faults(self) -> Iterator[str]:
        yield from _label_faults(self.key, self.values)
        if self.operator not in _OPERATORS:
            yield f"operator {self.operator!r} of key {self.key!r} is unknown; use In, NotIn, Exists or DoesNotExist"
            return
        wants_values = self.operator in (Operator.IN, Operator.NOT_IN)
        if wants_values and not self.values:
            yield f"operator {self.operator} of key {self.key!r} needs values"
        if not wants_values and self.values:
            yield f"operator {self.operator} of key {self.key!r} takes no values"


@attrs.frozen
class LabelSelector:
    """``matchLabels`` and ``matchExpressions``, all of which must hold."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[Requirement, ...] = ()

    @property
    def is_empty(self) -> bool:
        """An empty selector matches everything, which is why routes may not use one."""
        return not self.match_labels and not self.match_expressions

    def __str__(self) -> str:
        """As kubectl writes a selector on one line."""
        words = [f"{key}={value}" for key, value in self.match_labels]
        for each in self.match_expressions:
            values = f" ({', '.join(each.values)})" if each.values else ""
            words.append(f"{each.key} {each.operator}{values}")
        return ", ".join(words) or "an empty selector"

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether *labels* satisfy every requirement."""
        # Plain loops: this is asked of each Pod at each event.
        for key, value in self.match_labels:
            if labels.get(key) != value:
                return False
        for requirement in self.match_expressions:  # noqa: SIM110 - see above
            if not requirement.matches(labels):
                return False
        return True

    def fault(self) -> str | None:
        """Every reason why the API would refuse this selector, in one sentence, or None."""
        faults = [fault for key, value in self.match_labels for fault in _label_faults(key, (value,))]
        faults += [fault for requirement in self.match_expressions if (fault := requirement.fault())]
        return "; ".join(faults) or None


def _label_faults(key: str, values: tuple[str, ...]) -> Iterator[str]:
    if not _KEY.fullmatch(key):
        yield (
            f"key {key!r} is no label's key: at most 63 letters, digits, '-', '_' or '.', a letter or digit first and "
            "last, and perhaps a domain and '/' before them"
        )
    for value in values:
        if not _VALUE.fullmatch(value):
            yield (
                f"value {value!r} of key {key!r} is no label's value: empty, or at most 63 letters, digits, '-', "
                "'_' or '.', a letter or digit first and last"
            )
