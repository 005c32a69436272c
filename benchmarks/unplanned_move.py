"""
How long is an address silent when its holder dies and another Pod stands by, beside the bare minimum?

    floor          two Pods on two nodes; this script kills one, hears that it ended as kubelet would, and sends the
                   netlink messages and the announcement for the other: no controller, no agent, no API
    process-killed `persistip lab`: kill -9 of the holder's program; controller and agents are processes
    pod-unready    the same, by a readiness probe that fails while the program still answers

All are measured in one run by the same probe, one payload a millisecond in each direction; in the lab for IPv4 and IPv6
at once. Read the ratio, and the milliseconds only beside the load that is printed: the whole cluster shares this
machine. `--ahead` puts every process of the measurement before those of other sessions (root; the kernel's autogroups),
for a machine that has other work to do.

`nox -s bench`, or `python benchmarks/unplanned_move.py --moves 50`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import sys
import time

from rich.console import Console
from rich.table import Table
from setting.precedence import ahead
from setting.silence import FloorNode, lab_at_rest, measure_floor

from persistip.lab import sandbox
from persistip.lab.events import has_standby, pod_unready, process_killed
from persistip.lab.results import EventResult
from persistip.lab.scene import MOST_BLACKOUT_MS

_KILLS_A_LAB = 8
"""Programs that end again and again are started ever later, so a fresh lab is sooner ready than an old one."""
_STANDBY_SECONDS = 30.0


async def floor_of(moves: int) -> list[float]:
    """Blackouts of bare take-overs from a Pod that was killed."""

    async def move(old: FloorNode, new: FloorNode) -> None:
        old.kill()
        old.wait_for_its_end()
        await new.take()
        await old.leave()

    return [each["blackout_ms"] for each in await measure_floor(moves, move, FloorNode.start)]


async def measure_lab(kills: int, unready: int) -> list[EventResult]:
    """What the client saw of one lab's unplanned moves."""
    async with lab_at_rest() as scene:

        async def is_ready() -> bool:
            return await scene.choose("process-killed", has_standby) is not None

        for act in [process_killed] * kills + [pod_unready] * unready:
            if not await scene.lab.until(is_ready, _STANDBY_SECONDS):
                raise RuntimeError("no Pod stands by")
            await act(scene)
        if scene.failures:
            raise RuntimeError("; ".join(scene.failures))
        return [event for event in scene.events if event.standby and not event.planned]


def _at(values: list[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _row(name: str, blackouts: list[float], floor: float, reactions: list[float]) -> tuple[str, ...]:
    values = sorted(blackouts)
    return (
        name,
        str(len(values)),
        *(f"{_at(values, percent):.1f}" for percent in (50, 90, 99)),
        f"{values[-1]:.1f}",
        f"{sum(1 for value in values if value > MOST_BLACKOUT_MS)}",
        f"{_at(values, 50) / max(floor, 0.001):.1f}",
        f"{_at(sorted(reactions), 50):.1f}" if reactions else "-",
    )


def report(floor: list[float], events: list[EventResult], seconds: float) -> None:
    """One row a kind of move; the ratio is that of the medians."""
    table = Table(title="unplanned move with a standby, one payload a millisecond each way")
    headings = ("", "seen", "p50 ms", "p90", "p99", "max", f"> {MOST_BLACKOUT_MS:g} ms", "x floor", "reaction p50 ms")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    least = _at(sorted(floor), 50)
    table.add_row(*_row("bare minimum", floor, least, []))
    for name in dict.fromkeys(event.name for event in events):
        mine = [event for event in events if event.name == name]
        worst = [max(event.ingress.blackout_ms, event.egress.blackout_ms) for event in mine]
        table.add_row(*_row(name, worst, least, [each.reaction_ms for each in mine if each.reaction_ms is not None]))
    console = Console(width=110)
    console.print(table)
    console.print(f"{seconds:.0f} s; {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f} at the end")


def main() -> int:
    """Enter the sandbox and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=24)
    parser.add_argument("--unready", type=int, default=2, help="how often a readiness probe fails; 12 s each")
    parser.add_argument("--ahead", action="store_true")
    arguments = parser.parse_args()
    if sandbox.current() is None:
        return sandbox.run([sys.executable, *sys.argv])
    started, events = time.monotonic(), []
    with ahead() if arguments.ahead else contextlib.nullcontext():
        floor = asyncio.run(floor_of(arguments.moves))
        for done in range(0, max(arguments.moves, 1), _KILLS_A_LAB):
            kills = min(_KILLS_A_LAB, arguments.moves - done)
            events += asyncio.run(measure_lab(kills, 0 if done else arguments.unready))
    report(floor, events, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
