"""
What does one action ask of the kernel?

Values only: Steps, made by ``delivery.py``, ``filtering.py`` and ``answering.py``, carried out by ``execution.py``;
or an Outcome where the kernel need not be asked.
"""

from __future__ import annotations

import errno

import attrs

from persistip.backends.linux.sockets import Message
from persistip.backends.linux.sysctls import Setting
from persistip.model.actions import DONE, Outcome, OutcomeState
from persistip.model.conditions import Reason

ABSENT = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL})
"""Refusals of a deletion that say that it was not needed."""
PRESENT = frozenset({errno.EEXIST})
"""The same for an addition."""


@attrs.frozen
class Step:
    """One rtnetlink message, and the refusals that mean it was not needed."""

    message: Message
    tolerated: frozenset[int] = frozenset()


@attrs.define
class Steps:
    """
    What one action asks of the kernel, in this order: settings, nftables messages, rtnetlink steps.

    ``outcome`` is what becomes of the action once the kernel has taken all of it. ``is_record`` says that the nftables
    messages only write something down, so that their place among rtnetlink steps of other actions does not matter.
    """

    settings: list[Setting] = attrs.field(factory=list)
    rules: list[Message] = attrs.field(factory=list)
    routes: list[Step] = attrs.field(factory=list)
    is_record: bool = False
    outcome: Outcome = DONE


def blocked(message: str) -> Outcome:
    """Something foreign stands there."""
    return Outcome(state=OutcomeState.BLOCKED, reason=Reason.PROGRAMMING_FAILED, message=message)


def failed(message: str, *, reason: Reason = Reason.PROGRAMMING_FAILED, stale: bool = False) -> Outcome:
    """It cannot be done as things stand."""
    return Outcome(state=OutcomeState.FAILED, reason=reason, message=message, stale=stale)


def link_gone(name: str) -> Outcome:
    """The link, or the one of its name with its index, is there no more."""
    return failed(f"link {name} is gone", reason=Reason.POD_LINK_NOT_FOUND, stale=True)
