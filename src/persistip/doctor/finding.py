"""
What is found wrong, and how bad is it?

A problem keeps addresses from working, now or at the next move. A warning may be meant so, or could not be looked into.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import attrs


class Severity(StrEnum):
    """How bad it is."""

    PROBLEM = "problem"
    WARNING = "warning"


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that is not as it should be. ``check`` is one word for programs; ``fix`` says what to do."""

    check: str
    severity: Severity = Severity.PROBLEM
    subject: str
    message: str
    fix: str


def has_problems(findings: Iterable[Finding]) -> bool:
    """Whether any of them is more than a warning."""
    return any(each.severity is Severity.PROBLEM for each in findings)
