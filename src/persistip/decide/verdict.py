"""
What was judged of a route?

Faults, the claims that its Gateways grant, and what follows from both: accepted, refused, or neither (a live fault,
which refuses new claims only). All faults are kept; the first in the order of ``conditions.ACCEPTANCE_ORDER`` gives
the route its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from persistip.model.address import Prefix
from persistip.model.attachment import Reference
from persistip.model.conditions import ACCEPTANCE_ORDER, Reason
from persistip.model.gateway import CLASS_NAMES, ClassBehaviour
from persistip.model.keys import ObjectKey

# The name of a field and, of a list, the number of the entry.
_WORD_AND_INDEX = re.compile(r"([^\[]+)(?:\[(\d+)\])?")


@attrs.frozen(kw_only=True)
class Fault:
    """
    One thing wrong. ``path`` is the field.

    ``is_live``: a fact that others can change. Such a fault refuses new claims only; any other withdraws. ``winner``:
    the route that has what this one claims.
    """

    reason: Reason
    path: str
    message: str
    is_live: bool = False
    winner: ObjectKey | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@attrs.frozen(kw_only=True)
class Claim:
    """A prefix that the route may use, through this Gateway; ``path`` is the field that claims it."""

    prefix: Prefix
    gateway: Reference
    path: str = "spec.addresses"


@attrs.frozen(kw_only=True)
class Verdict:
    """
    ``is_ours`` False: the route is another controller's, and nothing is written to it.

    ``remarks``: parents that fail while another remains; said, and no reason to refuse. ``behaviour`` is that of the
    parents' class, where it can be told. ``unserved``: why nothing acts on the route although it may be accepted.
    """

    is_ours: bool
    faults: tuple[Fault, ...] = ()
    remarks: tuple[Fault, ...] = ()
    claims: tuple[Claim, ...] = ()
    behaviour: ClassBehaviour | None = None
    unserved: str = ""

    @property
    def class_name(self) -> str:
        """The GatewayClass of the parents, where it can be told; else empty."""
        return CLASS_NAMES[self.behaviour] if self.behaviour is not None else ""

    @property
    def is_accepted(self) -> bool:
        """No fault at all."""
        return self.is_ours and not self.faults

    @property
    def is_refused(self) -> bool:
        """A fault of the route's own spec or permissions: what is attached is withdrawn."""
        return not self.is_ours or any(not fault.is_live for fault in self.faults)

    @property
    def reason(self) -> Reason:
        """The reason of the Accepted condition."""
        return self.faults[0].reason if self.faults else Reason.ACCEPTED

    @property
    def message(self) -> str:
        """Every fault, in order, and then the remarks."""
        return "; ".join(str(fault) for fault in (*self.faults, *self.remarks))

    def with_faults(self, *faults: Fault) -> Verdict:
        """The same verdict with more faults, in the order of the reasons."""
        return attrs.evolve(self, faults=in_order((*self.faults, *faults)))


def in_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """The order of the reasons; within one, that of the fields, and of their entries as they are counted."""
    return tuple(
        sorted(faults, key=lambda fault: (ACCEPTANCE_ORDER.index(fault.reason), _as_counted(fault.path), fault.message))
    )


def _as_counted(path: str) -> tuple[tuple[str, int], ...]:
    """The path with its indices as numbers: the second entry comes before the tenth."""
    return tuple((word, int(index or 0)) for word, index in _WORD_AND_INDEX.findall(path))
