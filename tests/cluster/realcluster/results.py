"""
What did a scenario cost, and where did the time go?

In: what the probe saw since an instant, and the steps of the move.  Out: a Result, and a table of several.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from realcluster.journal import Steps

HEADERS = (
    "what happens", "lost of sent, in", "lost of sent, out", "blackout", "noticed", "new Pod Ready", "decided",
    "programmed", "first packet", "lost, behind a Service", "blackout",
)  # fmt: skip

# A watch may be heard later than the packet that came of what it tells.
GRACE_NS = 100_000_000


@dataclass(frozen=True)
class Result:
    """One scenario; instants are milliseconds from its beginning, None where a step was not needed."""

    name: str
    lost: tuple[int, int]
    """Payload that never came: to the Pod and back, and from the Pod."""
    sent: tuple[int, int]
    blackout_ms: float
    """The longest time without payload in either direction, but for what the probe itself slept through."""
    noticed_ms: float | None
    ready_ms: float | None
    decided_ms: float | None
    programmed_ms: float | None
    first_ms: float | None
    beside: tuple[int, int, float] | None = None
    """Of the same Pods behind a Service: payload to them that was lost, of how much, and the blackout in ms."""

    def cells(self) -> tuple[str, ...]:
        """Return a row of the table."""
        counts = (f"{lost} of {sent}" for lost, sent in zip(self.lost, self.sent, strict=True))
        steps = (self.noticed_ms, self.ready_ms, self.decided_ms, self.programmed_ms, self.first_ms)
        beside = ("", "")
        if self.beside is not None:
            lost, sent, blackout = self.beside
            beside = (f"{lost} of {sent}", f"{blackout:.0f} ms")
        told = ("" if ms is None else f"{ms:.0f}" for ms in steps)
        return (self.name, *counts, f"{self.blackout_ms:.0f} ms", *told, *beside)


def result_of(
    name: str, since: int, seen: Mapping[str, Any], steps: Steps, beside: Mapping[str, Any] | None = None
) -> Result:
    """Return the result of what was *seen* since an instant, and *beside* it at a Service."""

    def after(at: int | None) -> float | None:
        return None if at is None else (at - since) / 1e6

    flows = (seen["ingress"], seen["egress"])
    # Who held before was heard at once: of it the first packet tells nothing.
    heard = [at for flow in flows for who, at in flow["first_ns"].items() if who.endswith(f"@{steps.holder}")]
    first = min(heard, default=None) if steps.decided is not None else None
    return Result(
        name=name,
        lost=(flows[0]["lost"], flows[1]["lost"]),
        sent=(flows[0]["sent"], flows[1]["sent"]),
        blackout_ms=max(flow["blackout_ms"] for flow in flows),
        noticed_ms=after(steps.noticed),
        ready_ms=after(steps.ready),
        decided_ms=after(steps.decided),
        programmed_ms=after(steps.programmed),
        first_ms=after(first if first is not None and first > (steps.decided or 0) - GRACE_NS else None),
        beside=beside and (beside["ingress"]["lost"], beside["ingress"]["sent"], beside["ingress"]["blackout_ms"]),
    )


def table(results: Iterable[Result]) -> str:
    """Return the results as a table of Markdown."""
    rows = [HEADERS, *(result.cells() for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADERS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
