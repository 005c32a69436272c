"""
How long is an address silent in a planned move, beside the bare minimum on the same topology?

    floor    two Pods on two nodes; the netlink messages and the announcement alone, no controller, no agent, no API
    persistip    `persistip lab`: a Pod is deleted while a standby is Ready; controller and agents are processes

Both are measured in one run by the same probe, one payload a millisecond in each direction. Read the ratio, not the
milliseconds. `nox -s bench`, or `python benchmarks/planned_move.py --moves 50`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from setting.silence import FloorNode, lab_at_rest, measure_floor

from persistip.lab import sandbox
from persistip.lab.events import pod_deleted


async def floor_of(moves: int) -> list[dict[str, float]]:
    """Blackouts of bare moves, make before break."""

    async def move(old: FloorNode, new: FloorNode) -> None:
        await new.take()
        await old.leave()

    return await measure_floor(moves, move)


async def measure_lab(moves: int) -> list[dict[str, float]]:
    """Blackouts of the lab's planned moves, IPv4."""
    async with lab_at_rest() as scene:
        for _ in range(moves):
            await pod_deleted(scene)
        return [
            {
                "blackout_ms": max(event.ingress.blackout_ms, event.egress.blackout_ms),
                "lost": event.ingress.lost + event.egress.lost,
                "reaction_ms": event.reaction_ms or 0.0,
            }
            for event in scene.events
            if event.family == 4
        ]


def _row(name: str, results: list[dict[str, float]]) -> tuple[str, ...]:
    blackouts = sorted(each["blackout_ms"] for each in results)
    reactions = sorted(each["reaction_ms"] for each in results if "reaction_ms" in each)
    return (
        name,
        str(len(results)),
        f"{sum(each['lost'] for each in results):.0f}",
        f"{median(blackouts):.2f}",
        f"{blackouts[-1]:.2f}",
        f"{median(reactions):.1f}" if reactions else "-",
    )


def report(floor: list[dict[str, float]], lab: list[dict[str, float]], seconds: float) -> None:
    """The two rows, and the ratio of their medians."""
    table = Table(title="planned move, IPv4, one payload a millisecond each way")
    for heading in ("", "moves", "lost", "blackout p50 ms", "max ms", "reaction p50 ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row(*_row("bare minimum", floor))
    table.add_row(*_row("persistip lab", lab))
    console = Console(width=100)
    console.print(table)
    of = [median(each["blackout_ms"] for each in rows) for rows in (lab, floor)]
    console.print(f"ratio of the medians: {of[0] / max(of[1], 0.001):.1f} ({seconds:.0f} s)")


def main() -> int:
    """Enter the sandbox and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=20)
    arguments = parser.parse_args()
    if sandbox.current() is None:
        return sandbox.run([sys.executable, *sys.argv])
    started = time.monotonic()
    measures: tuple[Callable[..., Any], ...] = (floor_of, measure_lab)
    floor, lab = (asyncio.run(measure(arguments.moves)) for measure in measures)
    report(floor, lab, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
