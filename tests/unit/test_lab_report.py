"""Does a reader see what happened, on any console, in lines of at most a hundred columns?"""

import io
import re
from pathlib import Path

import attrs
import pytest

from persistip.lab.options import LabOptions
from persistip.lab.report import PROMISES, WIDTH, Report, make_console
from persistip.lab.results import EventResult, Flow, LabResult, Place, PromiseResult, RouteResult

READY = {"Accepted": ("True", "Accepted"), "DPV2Ready": ("True", "Programmed"), "Ready": ("True", "Ready")}
REFUSED = {**READY, "Accepted": ("False", "NotAllowedByListeners"), "Ready": ("False", "NotAllowedByListeners")}
CLEAN = Flow(sent=1500, lost=0, blackout_ms=0.2)
OLD, NEW = Place("nat-6d5f8c9b7d-x2k4q", "node-a"), Place("nat-7bdf99c8f6-q7w2z", "node-b")


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def event(
    name: str = "rolling-update",
    *,
    source: Place | None = OLD,
    target: Place | None = NEW,
    planned: bool = False,
    standby: bool = True,
    ingress: Flow = CLEAN,
    egress: Flow = CLEAN,
    reaction_ms: float | None = None,
    after: dict[str, tuple[str, str]] = READY,
) -> EventResult:
    """Return one event on one address."""
    return EventResult(
        name=name,
        route="phone/nat",
        address="2001:db8:1::f0:40/128",
        family=6,
        planned=planned,
        standby=standby,
        source=source,
        target=target,
        ingress=ingress,
        egress=egress,
        reaction_ms=reaction_ms,
        tcp="reset",
        conditions_before=READY,
        conditions_after=after,
    )


def told(one: EventResult) -> str:
    """Return what is printed when *one* ends."""
    file = io.StringIO()
    Report(make_console(file), LabOptions()).event_ends(one)
    return file.getvalue()


def finished(
    *events: EventResult, failures: tuple[str, ...] = (), remarks: tuple[str, ...] = (), **promises: PromiseResult
) -> str:
    """Return what is printed at the end of a run with these events."""
    file = io.StringIO()
    result = LabResult(
        seed=0,
        datapath="linux",
        rootless=True,
        routes=(RouteResult(route="phone/nat", addresses=("192.0.2.140/32",), place=NEW, conditions=READY),),
        events=events,
        promises=promises or {"P1": PromiseResult(held=True, checks=7)},
        failures=failures,
        remarks=remarks,
    )
    Report(make_console(file), LabOptions()).finish(result)
    return file.getvalue()


def test_planned_move_says_who_gave_to_whom_and_that_nothing_was_lost() -> None:
    """A clean hand-over names both Pods with their nodes, both directions, and is called planned."""
    text = told(event(planned=True, reaction_ms=31.26))
    assert "2001:db8:1::f0:40  nat-6d5f8c9b7d-x2k4q on node-a -> nat-7bdf99c8f6-q7w2z on node-b  planned" in text
    assert "no packet lost (1,500 in, 1,500 out), no silence" in text
    assert "the new holder answered after 31.3 ms; still Ready" in " ".join(text.split())


def test_loss_is_told_for_each_direction() -> None:
    """Where packets were lost, each direction has its silence and its count."""
    text = told(event(ingress=Flow(sent=2000, lost=1234, blackout_ms=1233.06)))
    assert "in   silent for 1,233.1 ms, 1,234 of 2,000 packets lost" in text
    assert "out  none of 1,500 packets lost; the longest gap was 0.2 ms" in text


def test_withdrawn_address_is_silent_as_it_should_be() -> None:
    """Silence is right where nobody holds the address, and the changed conditions are told with their reasons."""
    silent = Flow(sent=500, lost=400, blackout_ms=399.0, quiet_ms=399.0)
    text = " ".join(told(event(target=None, ingress=silent, egress=silent, after=REFUSED)).split())
    assert "nat-6d5f8c9b7d-x2k4q on node-a -> nobody silent, as it should be: in for 399 ms, out for 399 ms" in text
    assert "Accepted True -> False (NotAllowedByListeners), Ready True -> False (NotAllowedByListeners)" in text


@pytest.mark.parametrize("gap_ms", [0.2, 2.0, 14.0, 300.0])
def test_withdrawn_address_that_still_flows_is_pointed_out(gap_ms: float) -> None:
    """Packets that flow to the end, whatever gap was among them, are not called silence, then and in the table."""
    silent = Flow(sent=500, lost=500, blackout_ms=499.0, quiet_ms=499.0)
    flowing = Flow(sent=500, lost=0, blackout_ms=gap_ms, quiet_ms=0.4)
    one = event("namespace-unlabelled", target=None, ingress=silent, egress=flowing, after=REFUSED)
    assert "packets still flow out, though nobody holds the address" in told(one)
    assert "silent" not in told(one)
    assert "flows out" in finished(one)


@pytest.mark.parametrize(
    ("name", "said"), [("pod-deleted", "-> sip-0 made anew"), ("agent-killed", "stays with sip-0 on node-a")]
)
def test_same_name_afterwards_is_the_same_pod_or_made_anew(name: str, said: str) -> None:
    """A Pod of the same name is another one after a deletion, and the same one when only its agent died."""
    place = Place("sip-0", "node-a")
    assert said in told(event(name, source=place, target=place))


def test_end_sorts_events_by_kind_and_explains_them() -> None:
    """The end has one table for each kind of change, and sentences with the figures of each."""
    slow = Flow(sent=2000, lost=300, blackout_ms=300.0)
    text = finished(
        event(planned=True), event("pod-unready", ingress=slow), event("agent-killed", target=OLD, planned=False)
    )
    order = ["Planned: a Pod that is alive", "Unplanned: the holder fails", "No other Pod takes over"]
    assert [text.index(title) for title in order] == sorted(text.index(title) for title in order)
    flat = " ".join(text.split())
    assert "lost 0 of 3,000 packets. The longest silence was 0.2 ms." in flat
    assert "heard nothing for 300.0 ms in the middle case" in flat
    assert "Without a move (once): 0 of 3,000 packets were lost." in flat
    assert "Everything went as promised." in text


@pytest.mark.parametrize("width", [80, 100])
def test_table_of_events_breaks_no_address_on_any_usual_console(width: int) -> None:
    """On eighty columns as on a hundred each event is one row that holds its address, its way and its TCP state."""
    file = io.StringIO()
    console = make_console(file)
    console.width = width
    one = event("namespace-unlabelled", target=attrs.evolve(NEW, node="node-b"))
    result = LabResult(seed=0, datapath="linux", rootless=False, events=(one, event("link-cut", standby=False)))
    Report(console, LabOptions()).finish(result)
    rows = [line for line in file.getvalue().splitlines() if line.startswith(("namespace-unlabelled", "link-cut "))]
    assert len(rows) == 2
    for row in rows:
        assert re.search(r" 2001:db8:1::f0:40 +node-a -> node-b +0\.2 +0 reset", row), row
        assert len(row) <= width
    assert ("node is missed" in rows[1]) == (width == 100)


def test_packets_lost_when_a_node_comes_back_are_told_apart() -> None:
    """What a returning node costs is a sentence of its own, not mixed with events in which nothing may be lost."""
    lossy = Flow(sent=2000, lost=67, blackout_ms=67.0)
    text = " ".join(
        finished(event("link-restored", target=OLD, ingress=lossy), event("agent-killed", target=OLD)).split()
    )
    assert "Without a move (once): 0 of 3,000 packets were lost." in text
    assert "cut off (once), 67 of 3,500 packets were lost until it had heard of the move" in text


def test_row_of_a_pod_made_anew_is_marked() -> None:
    """A silence that holds the making of a Pod is told from that of a failover to one that stood by."""
    slow = Flow(sent=2000, lost=254, blackout_ms=254.0)
    text = finished(
        event("pod-deleted", ingress=slow, standby=False), event("pod-unready"), event(planned=True, standby=False)
    )
    (marked,) = [line for line in text.splitlines() if "Pod made anew" in line]
    assert "pod-deleted" in marked
    assert "254.0" in marked


def test_sample_in_the_readme_is_in_the_words_of_the_report() -> None:
    """What the README shows of a run is, line for line, what the report prints of such an event."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (sample,) = re.findall(r"^```text\n( *\d+  A Pod is deleted .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    numbers = re.compile(r"\d[\d,]*\.?\d*")
    shown = [line.strip() for line in sample.splitlines()]
    file = io.StringIO()
    report = Report(make_console(file), LabOptions())
    report.event_begins("pod-deleted", " ".join(shown[1:3]))
    flow = Flow(sent=1522, lost=0, blackout_ms=3.4)
    source, target = re.findall(r"(nat-\S+) on (node-\w)", shown[3])
    one = event(
        "pod-deleted",
        source=Place(*source),
        target=Place(*target),
        planned=True,
        ingress=flow,
        egress=flow,
        reaction_ms=69.1,
    )
    report.event_ends(attrs.evolve(one, address="192.0.2.140/32"))
    printed = [line.strip() for line in file.getvalue().splitlines() if line.strip()]
    assert [numbers.sub("0", line) for line in shown] == [numbers.sub("0", line) for line in printed]


def test_broken_promise_is_told_with_what_was_seen() -> None:
    """A broken promise is marked, says what was seen, and ends the run with a count and not with praise."""
    broken = PromiseResult(held=False, checks=12, seen=("192.0.2.1 is granted to two routes at once",))
    text = finished(event(), P1=broken, P7=PromiseResult(held=True, checks=0))
    assert f"BROKEN P1     12 checks  {PROMISES['P1']}" in text
    assert "192.0.2.1 is granted to two routes at once" in text
    assert "P7   no occasion" in text
    assert "1 thing went wrong; broken: P1." in text
    assert "Everything went" not in text


def test_slow_move_is_remarked_and_no_failure() -> None:
    """No promise speaks of milliseconds: what took longer than aimed for is said, and the run is still in order."""
    text = finished(event(), remarks=("process-killed on 192.0.2.1: silent for 60.0 ms; 50 is aimed for",))
    assert "silent for 60.0 ms; 50 is aimed for" in text
    assert "Everything went as promised." in text


def test_failure_shows_the_end_of_logs_without_counting_them() -> None:
    """Logs follow the failures, cut to the width, their last lines only; they are no failures themselves."""
    log = "\n".join(["the end of the log of agent-node-a:", *(f"line {number} " + "x" * 200 for number in range(30))])
    text = finished(event(), failures=("nobody answers at 192.0.2.1", log))
    assert "1 thing went wrong." in text
    assert "nobody answers at 192.0.2.1" in text
    assert "line 29 xxx" in text
    assert "line 5 " not in text
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_whole_run_fits_the_width_and_hides_no_text(kind: type[io.StringIO]) -> None:
    """Every line fits, colours appear on terminals only, and brackets in names are no markup."""
    file = kind()
    console = make_console(file)
    report = Report(console, LabOptions(with_agents=False))
    report.begin()
    report.stage("built 3 nodes")
    routes = (RouteResult(route="phone/nat", addresses=("192.0.2.140/32",), place=None, conditions={}),)
    report.routes(routes)
    report.routes(routes)
    report.event_begins("made-up-event", "kubectl [bold]delete[/bold] " + "pod " * 60)
    report.event_ends(event())
    report.finish(LabResult(seed=0, datapath="linux", rootless=False, routes=routes, events=(event(),)))
    text = file.getvalue()
    assert "meant to fail" in text
    assert text.count("Who holds what") == 1
    assert "made up event" in text
    assert "[bold]delete[/bold]" in text
    assert "Unknown: no status yet" in text
    if kind is Terminal:
        assert console.width <= WIDTH
    else:
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) <= WIDTH
