"""Which labels does a Kubernetes LabelSelector match? The rule is apimachinery's: every requirement must hold."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import attrs


class Operator(StrEnum):
    """Operators of ``matchExpressions``."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


_OPERATORS = frozenset(Operator)


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
        """Why the API would refuse this requirement, or None."""
        if self.operator not in _OPERATORS:
            return f"operator {self.operator!r} of key {self.key!r} is unknown; use In, NotIn, Exists or DoesNotExist"
        wants_values = self.operator in (Operator.IN, Operator.NOT_IN)
        if wants_values and not self.values:
            return f"operator {self.operator} of key {self.key!r} needs values"
        if not wants_values and self.values:
            return f"operator {self.operator} of key {self.key!r} takes no values"
        return None


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
        """Why the API would refuse this selector, or None."""
        return next((fault for requirement in self.match_expressions if (fault := requirement.fault())), None)
