"""
What does a person see of a run?

In: what the story tells an Observer, in the end the LabResult.  Out: lines on a console, at most WIDTH columns wide;
where the console is no terminal, the same without colours and without a line that moves.
Everything is written for somebody who sees the project for the first time: sentences before figures, and each figure
with its unit.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TextIO

import attrs
from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from persistip.lab.observer import RunningLab
from persistip.lab.options import LabOptions
from persistip.lab.prompt import run_prompt
from persistip.lab.results import (
    Conditions,
    EventResult,
    Flow,
    LabResult,
    Place,
    PromiseResult,
    RouteResult,
    bare_address,
    is_move,
)

WIDTH = 100
SHORT_MS = 50.0
"""A silence up to this is what a move may cost; shown in green."""

TITLES = {
    "pod-deleted": "A Pod is deleted",
    "pod-added": "A newer Pod is added",
    "pod-removed": "The newest Pod is removed",
    "process-killed": "The process of a Pod is killed",
    "pod-unready": "A Pod turns unready",
    "pod-ready": "A Pod is ready again",
    "rolling-update": "A rolling update",
    "node-cordoned": "A node is cordoned",
    "node-drained": "A node is drained",
    "agent-killed": "An agent is killed",
    "namespace-unlabelled": "A namespace loses its label",
    "namespace-labelled": "The namespace has its label again",
    "address-conflict": "A second route claims an address",
    "link-cut": "A node's cable is pulled",
    "link-restored": "The cable is plugged in again",
    "broken-object": "Broken objects come beside the others",
}
PROMISES = {
    "P1": "An address has one holder, and is never programmed for two routes.",
    "P2": "Nothing outside its pool, its namespace or its own Pod.",
    "P3": "It comes to rest where the rules say, and then writes nothing more.",
    "P4": "A killed agent loses nothing, leaves nothing, touches nothing foreign.",
    "P5": "Ready is true: the holder answers at its address, in and out.",
    "P6": "The same objects give the same holder, whatever their order.",
    "P7": "One broken object affects no other.",
}
_NEXT = (
    "Next: `persistip lab --keep` to look around in it, `persistip lab --print-example` for the manifests of this run, "
    "`persistip lab -f FILE` for yours."
)
_KINDS = (
    "Planned: a Pod that is alive hands over to another",
    "Unplanned: the holder fails or goes before another has taken over",
    "No other Pod takes over",
)
_DELAYS = {"link-cut": "node is missed"}
"""What the silence mostly is where no Pod could take over at once; elsewhere the making of a Pod."""
_LOG_LINES = 6
_REPLACING = frozenset({"pod-deleted", "rolling-update", "node-drained"})
"""Events after which a Pod of the same name is another: a StatefulSet makes it anew."""


@attrs.frozen
class Line:
    """A paragraph and the column at which it begins."""

    text: Text
    columns: int


class Report:
    """The Observer that prints; `finish` prints the end, `close` lets go of the terminal."""

    def __init__(self, console: Console, options: LabOptions) -> None:
        self._console = console
        self._options = options
        self._status: Status | None = None
        self._events = 0
        self._are_routes_shown = False

    def begin(self) -> None:
        """Say what this is, before anything is built."""
        packets = {
            "linux": "real packets on this machine's kernel, in network namespaces that vanish at the end",
            "memory": "simulated packets and simulated time: no kernel is touched",
        }[self._options.datapath]
        self._print(Text.assemble(("persistip lab", "bold"), f"  {packets}"))
        if self._options.cloud == "gce":
            how_long = {
                "none": "at once",
                "assumed": "with latencies that are a guess, since Google publishes none",
                "slow": "with latencies five times those that are guessed",
            }[self._options.latency]
            self._print(Text(f"On an emulated Compute Engine, which decides where packets go and changes {how_long}."))
        if not self._options.with_agents:
            self._print(Text("Without agents: nobody programs the nodes, so this run is meant to fail.", "yellow"))
        self._print()

    # ------------------------------------------------------------ as it happens

    def stage(self, text: str) -> None:
        """A step of the way up or down."""
        self._print(Text.assemble(("  · ", "dim"), text))
        self._wait("waiting for the cluster to come to rest")

    def routes(self, routes: tuple[RouteResult, ...]) -> None:
        """The whole table the first time; later the events tell what changed."""
        self.close()
        if self._are_routes_shown:
            return
        self._are_routes_shown = True
        self._print()
        self._print(Text("Who holds what", "bold"))
        self._print(Padding(route_table(routes), (0, 0, 0, 2)))

    def event_begins(self, name: str, sentence: str) -> None:
        """What is done, before it is."""
        self.close()
        self._events += 1
        self._print()
        title = TITLES.get(name, name.replace("-", " "))
        self._print(Text.assemble((f"{self._events:>2}  {title}", "bold"), (f"  {name}", "dim")))
        self._say(Text(sentence, "cyan"), 4)
        self._wait("the client outside is measuring")

    def event_ends(self, result: EventResult) -> None:
        """What the client outside saw of it."""
        self.close()
        for line in event_lines(result):
            self._say(line.text, line.columns)
        self._wait("looking whether what was promised holds")

    async def prompt(self, lab: RunningLab) -> None:
        """Take commands until the user has enough."""
        self.close()
        self._print()
        await run_prompt(lab, self._console)

    # ------------------------------------------------------------ the end

    def finish(self, result: LabResult) -> None:
        """The table of all events, what they mean, which promises held, and what to do next."""
        self.close()
        if result.events:
            self._print()
            self._print(Text("All events: the longest silence and all losses, both directions together", "bold"))
            for title, table in event_tables(result.events, self._console.width):
                self._print()
                self._print(Text(title, "italic"))
                self._print(table)
            self._print()
            for sentence in summary_sentences(result):
                self._say(Text(sentence), 2)
        not_ready = [route for route in result.routes if not _is_ready(route)]
        if not_ready:
            self._print()
            self._print(Text("Not Ready at the end", "bold"))
            self._print(Padding(route_table(not_ready), (0, 0, 0, 2)))
        if result.promises:
            self._print()
            self._print(Text("What was promised, and looked at all the time", "bold"))
            for name, promise in result.promises.items():
                self._print_promise(name, promise)
        self._print_verdict(result)

    def _print_promise(self, name: str, promise: PromiseResult) -> None:
        mark, style = ("kept", "green") if promise.held else ("BROKEN", "bold red")
        if promise.held and not promise.checks:
            mark, style = "-", "dim"
        checks = f"{promise.checks:,} checks" if promise.checks else "no occasion"
        head = Text.assemble((f"  {mark:<6} {name}", style), (f" {checks:>13}  ", "dim"))
        first, *rest = Text(PROMISES.get(name, "")).wrap(self._console, max(20, self._console.width - len(head))) or [
            Text()
        ]
        first.rstrip()
        self._print(head.append_text(first))
        for line in rest:
            self._say(line, len(head.plain) - len(first.plain))
        for sentence in promise.seen:
            self._say(Text(sentence, "red"), 27)

    def _print_verdict(self, result: LabResult) -> None:
        self._print()
        sentences = [failure for failure in result.failures if "\n" not in failure]
        # What has several lines is the end of a process's log, which explains and is no failure of its own.
        logs = [failure for failure in result.failures if "\n" in failure]
        if result.is_ok:
            self._print(Text("Everything went as promised.", "bold green"))
        else:
            broken = [name for name, promise in result.promises.items() if not promise.held]
            count = len(sentences) + len(broken)
            what = f"; broken: {', '.join(broken)}" if broken else ""
            self._print(Text(f"{count} {'thing' if count == 1 else 'things'} went wrong{what}.", "bold red"))
        for failure in sentences:
            self._say(Text(failure, "red"), 2)
        for remark in result.remarks:
            self._say(Text(remark, "yellow"), 2)
        for log in logs:
            title, *lines = log.splitlines()
            self._print()
            self._say(Text(title, "bold"), 2)
            for line in lines[-_LOG_LINES:]:
                self._console.print(Text(f"    {line}", "dim"), no_wrap=True, overflow="ellipsis", crop=True)
        if result.is_ok and not self._options.keep:
            self._say(Text(_NEXT, "dim"), 0)

    def close(self) -> None:
        """Stop the line that moves, so that the terminal is as it was."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _print(self, what: Text | Table | Padding | str = "") -> None:
        self._console.print(what)

    def _say(self, text: Text, columns: int = 0) -> None:
        """A paragraph whose lines all begin at that column."""
        for line in text.wrap(self._console, max(20, self._console.width - columns)):
            line.rstrip()
            self._print(Text(" " * columns).append_text(line))

    def _wait(self, text: str) -> None:
        """A line that moves while nothing else does; only on a terminal, and slowly: the machine is being measured."""
        self.close()
        if self._console.is_terminal:
            self._status = self._console.status(Text(text, "dim"), refresh_per_second=4)
            self._status.start()


def make_console(file: TextIO) -> Console:
    """A console for *file*, not wider than WIDTH, to which every text is plain text."""
    width = None if file.isatty() else WIDTH
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDTH)
    return console


def make_quiet_console() -> Console:
    """A console that nobody reads."""
    return Console(width=WIDTH, quiet=True)


# ---------------------------------------------------------------- words


def route_table(routes: Sequence[RouteResult]) -> Table:
    """One line for each address: who holds it, where, and whether packets flow."""
    table = _table("ADDRESS", "ROUTE", "HELD BY", "NODE", "READY")
    for route in routes:
        for address in route.addresses:
            place = route.place
            table.add_row(
                Text(bare_address(address), "bold"),
                route.route,
                place.pod if place else Text("nobody", "yellow"),
                place.node if place else "",
                _ready_cell(route.conditions),
            )
    return table


def _ready_cell(conditions: Conditions) -> Text:
    status, reason = conditions.get("Ready", ("Unknown", "no status yet"))
    return Text("True", "green") if status == "True" else Text(f"{status}: {reason}", "yellow")


def _is_ready(route: RouteResult) -> bool:
    return route.conditions.get("Ready", ("", ""))[0] == "True"


def event_lines(event: EventResult) -> Iterable[Line]:
    """What one event did to one address: who holds it, what was lost, what became of TCP and conditions."""
    planned = ("  planned", "green") if _kind(event) == 0 else ""
    yield Line(Text.assemble((bare_address(event.address), "bold"), f"  {_way(event)}", planned), 4)
    if event.target is None and event.source is not None:
        yield Line(_silent_words(event), 6)
    elif _is_clean(event.ingress) and _is_clean(event.egress):
        sent = f"{event.ingress.sent:,} in, {event.egress.sent:,} out"
        yield Line(Text(f"no packet lost ({sent}), no silence", "green"), 6)
    else:
        for direction, flow in (("in ", event.ingress), ("out", event.egress)):
            yield Line(Text.assemble(f"{direction}  ", _flow_words(flow)), 6)
    words = [_TCP_WORDS.get(event.tcp, event.tcp)]
    if event.reaction_ms is not None and _is_taken_over(event):
        words.append(f"the new holder answered after {event.reaction_ms:,.1f} ms")
    words.append(_conditions_words(event.conditions_before, event.conditions_after))
    yield Line(Text("; ".join(words), "dim" if event.conditions_before == event.conditions_after else ""), 6)


_TCP_WORDS = {
    "kept": "open TCP connection kept",
    "reset": "open TCP connection reset",
    "none": "open TCP connection without answer",
}


def _is_taken_over(event: EventResult) -> bool:
    """Another Pod holds the address afterwards, be it one of the same name."""
    is_anew = event.name in _REPLACING and event.source is not None and event.source == event.target
    return is_move(event) or is_anew


def _way(event: EventResult) -> str:
    source, target = event.source, event.target
    if source is not None and source == target:
        return (
            f"{_place(source)} -> {source.pod} made anew" if _is_taken_over(event) else f"stays with {_place(source)}"
        )
    if source is None and target is None:
        return "held by nobody"
    return f"{_place(source)} -> {_place(target)}"


def _place(place: Place | None) -> str:
    return f"{place.pod} on {place.node}" if place is not None else "nobody"


def _is_clean(flow: Flow) -> bool:
    return bool(flow.sent) and not flow.lost and flow.blackout_ms < 1


def _silent_words(event: EventResult) -> Text:
    """Nobody holds the address, so silence is right."""
    flows = (("in", event.ingress), ("out", event.egress))
    heard = [direction for direction, flow in flows if not flow.has_stopped]
    if heard:
        return Text(f"packets still flow {' and '.join(heard)}, though nobody holds the address", "red")
    times = ", ".join(f"{direction} for {flow.quiet_ms:,.0f} ms" for direction, flow in flows)
    return Text(f"silent, as it should be: {times}, to the end of the look", "green")


def _flow_words(flow: Flow) -> tuple[str, str]:
    """Silence and loss, and how to show them."""
    if not flow.sent:
        return "nothing was sent", "dim"
    style = "green" if flow.blackout_ms <= SHORT_MS else "yellow"
    if not flow.lost:
        return f"none of {flow.sent:,} packets lost; the longest gap was {flow.blackout_ms:,.1f} ms", style
    return f"silent for {flow.blackout_ms:,.1f} ms, {flow.lost:,} of {flow.sent:,} packets lost", style


def _conditions_words(before: Conditions, after: Conditions) -> str:
    """Only what changed, or that nothing did."""
    changed = []
    for type_ in sorted(before.keys() | after.keys(), key=_condition_order):
        old, new = before.get(type_), after.get(type_)
        if old != new:
            changed.append(f"{type_} {_said(old)} -> {_said(new)}")
    if changed:
        return ", ".join(changed)
    ready = after.get("Ready")
    if ready is None:
        return "without conditions"
    return "still Ready" if ready[0] == "True" else f"Ready still {_said(ready)}"


def _condition_order(type_: str) -> tuple[int, str]:
    order = ("Accepted", "GCPReady", "DPV2Ready", "Ready")
    return (order.index(type_) if type_ in order else len(order)), type_


def _said(condition: tuple[str, str] | None) -> str:
    if condition is None:
        return "absent"
    status, reason = condition
    return status if status == "True" else f"{status} ({reason})"


def event_tables(events: Sequence[EventResult], width: int = WIDTH) -> Iterable[tuple[str, Table]]:
    """
    All events, one table for each kind of change; silence is that of the worse direction, losses those of both.

    Where no Pod stood by, the silence holds the making of one and is not to be compared with the others; on a narrow
    console there is no room to say so at each, and the sentences below say it.
    """
    headers = ("EVENT", "ADDRESS", "FROM -> TO", "SILENT ms", "LOST", "TCP", "")
    widths = (20, 18, 16, 9, 7, 5, 14)
    shown = len(widths) if width >= sum(widths) + len(widths) - 1 else len(widths) - 1
    for kind, title in enumerate(_KINDS):
        chosen = [event for event in events if _kind(event) == kind]
        if not chosen:
            continue
        table = _table(*headers[:shown], gap=1)
        for column, column_width in zip(table.columns, widths, strict=False):
            column.width = column_width
        for number in (3, 4):
            table.columns[number].justify = "right"
        for event in chosen:
            table.add_row(*[*_event_cells(event)][:shown])
        yield title, table


def _kind(event: EventResult) -> int:
    if not _is_taken_over(event):
        return 2
    return 0 if event.planned else 1


def _event_cells(event: EventResult) -> Iterable[Text | str]:
    yield event.name
    yield bare_address(event.address)
    yield _short_way(event)
    if event.target is None:
        heard = [name for name, flow in (("in", event.ingress), ("out", event.egress)) if not flow.has_stopped]
        yield Text(f"flows {heard[-1]}", "red") if heard else Text("silent", "dim")
        yield ""
    else:
        style = "green" if _worst(event) <= SHORT_MS else "yellow"
        yield Text(f"{_worst(event):,.1f}", style)
        yield f"{event.ingress.lost + event.egress.lost:,}"
    yield event.tcp
    yield Text(_DELAYS.get(event.name, "Pod made anew") if _kind(event) == 1 and not event.standby else "", "dim")


def _short_way(event: EventResult) -> str:
    """By node: the Pods were named when it happened."""
    source, target = event.source, event.target
    if source is not None and target is not None and source.node == target.node:
        return f"within {source.node}" if _is_taken_over(event) else f"stays on {source.node}"
    return f"{source.node if source else 'nobody'} -> {target.node if target else 'nobody'}"


def summary_sentences(result: LabResult) -> Iterable[str]:
    """What the tables mean, for a reader who knows none of their words."""
    planned, unplanned, still = (
        [event for event in result.events if _kind(event) == kind and event.source and event.target]
        for kind in range(3)
    )
    if planned:
        lost, sent = _count(planned)
        yield (
            f"Planned ({_times(planned)}): while a Pod that was alive handed its address over, the client outside "
            f"lost {lost:,} of {sent:,} packets. The longest silence was {max(map(_worst, planned)):,.1f} ms."
        )
    if unplanned:
        silences = [_worst(event) for event in unplanned]
        yield (
            f"Unplanned ({_times(unplanned)}): the client outside heard nothing for {statistics.median(silences):,.1f} "
            f"ms in the middle case, and for {max(silences):,.1f} ms in the worst. Where no other Pod stood by, that "
            "includes the making of one; where a node was cut off, the time until Kubernetes calls it lost."
        )
    others = [event for event in still if event.name != "link-restored"]
    returned = [event for event in still if event.name == "link-restored"]
    if others:
        lost, sent = _count(others)
        yield f"Without a move ({_times(others)}): {lost:,} of {sent:,} packets were lost."
    if returned:
        lost, sent = _count(returned)
        yield (
            f"When a node came back that had been cut off ({_times(returned)}), {lost:,} of {sent:,} packets were lost "
            "until it had heard of the move: so long two nodes answer."
        )
    if any(event.tcp == "reset" for event in result.events):
        yield (
            "A TCP connection belongs to the process that accepted it: after a move it is reset at once, so that the "
            "client connects again and does not wait."
        )


def _count(events: Iterable[EventResult]) -> tuple[int, int]:
    """Packets lost and sent, both directions."""
    flows = [flow for event in events for flow in (event.ingress, event.egress)]
    return sum(flow.lost for flow in flows), sum(flow.sent for flow in flows)


def _worst(event: EventResult) -> float:
    return max(event.ingress.blackout_ms, event.egress.blackout_ms)


def _times(events: Sequence[EventResult]) -> str:
    return "once" if len(events) == 1 else f"{len(events)} times"


def _table(*headers: str, gap: int = 2) -> Table:
    table = Table(box=None, padding=(0, gap, 0, 0), header_style="dim", pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header == "ADDRESS")
    return table
