"""What is measured: from which change a reaction counts, which ticks were never sent, time that is not waited for."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from persistip.lab import echo
from persistip.lab.kubelet import Journal, host_of
from persistip.lab.measure import Event, change_that_moved
from persistip.lab.probe import Probe, reach
from persistip.lab.results import EventResult, Flow, Place
from persistip.lab.scene import Expected, judge, remark
from persistip.lab.track import Track
from persistip.lab.virtualtime import LoopClock, VirtualTimeLoop
from persistip.runtime.clock import SystemClock

BEGIN = 1000


def journal() -> Journal:
    return Journal(lambda: 0)


def test_reaction_to_a_newer_pod_counts_from_its_readiness() -> None:
    """A Pod that became Ready in the event is why the address moved, even if the old one was deleted since."""
    pods = journal()
    pods.of("new").ready_ns = 1500
    pods.of("old").terminating_ns = 1600
    assert change_that_moved(pods, BEGIN, "old", "new") == 1500


def test_reaction_to_a_lost_pod_counts_from_its_first_sign() -> None:
    """Where a standby was Ready before, the old Pod's first change counts: deletion before unreadiness."""
    pods = journal()
    pods.of("new").ready_ns = 10
    pods.of("old").terminating_ns = 1200
    pods.of("old").unready_ns = 2200
    assert change_that_moved(pods, BEGIN, "old", "new") == 1200
    pods.of("old").terminating_ns = 0
    assert change_that_moved(pods, BEGIN, "old", "new") == 2200


def test_reaction_without_readiness_counts_from_the_pods_ip() -> None:
    """Where readiness is not waited for, a Pod is eligible as soon as it runs."""
    pods = journal()
    pods.of("new").running_ns = 1100
    pods.of("new").ready_ns = 1900
    assert change_that_moved(pods, BEGIN, "old", "new", waits_for_ready=False) == 1100


def test_changes_before_the_event_are_none() -> None:
    """What happened before the event explains nothing in it."""
    pods = journal()
    pods.of("new").ready_ns = 10
    pods.of("old").unready_ns = 20
    assert change_that_moved(pods, BEGIN, "old", "new") is None


def test_address_under_test_is_a_host() -> None:
    """Of a range the first host is tested, of a single address itself."""
    assert host_of("192.0.2.16/28") == "192.0.2.17"
    assert host_of("192.0.2.16/32") == "192.0.2.16"
    assert host_of("2001:db8::7") == "2001:db8::7"


@pytest.mark.parametrize(
    ("text", "port"), [("80", 80), ("65535", 65535), (None, 7), ("", 7), ("http", 7), ("0", 7), ("65536", 7), ("-1", 7)]
)
def test_variable_that_is_no_port_is_another_programs(text: str | None, port: int) -> None:
    """The echo program listens where it can, whatever the image was told that it stands for."""
    assert echo.port_of(text) == port


def test_silence_that_a_stall_of_our_own_covers_is_told_apart() -> None:
    """A busy machine is no outage: what the probe slept through is taken off the silence, and the rest is not."""
    track = Track()
    for at_ns in (10_000_000, 11_000_000, 61_000_000, 62_000_000):
        track.hear(at_ns, at_ns, "pod")
    found = track.silence(10_000_000, 62_000_000, 1_000_000, [(20_000_000, 60_000_000)])
    assert (found["silence_ms"], found["blackout_ms"], found["stalled_ms"]) == (49.0, 9.0, 40.0)
    assert track.silence(10_000_000, 62_000_000, 1_000_000, [])["blackout_ms"] == 49.0


def streamed(*datagrams: tuple[str, int, int]) -> Probe:
    """A probe that has received a stream's datagrams, each as (Pod, tick, the tick it served before)."""
    probe = Probe("127.0.0.1", 9, 1_000_000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pod:
        for who, tick, before in datagrams:
            pod.sendto(
                echo.STREAM.pack(echo.STREAM_MAGIC, tick, before) + who.encode(), ("127.0.0.1", probe.stream_port)
            )
    deadline = time.monotonic() + 2
    while len(probe.egress.heard) < len(datagrams) and time.monotonic() < deadline:
        probe.receive()
    probe.close()
    return probe


def test_tick_that_no_pod_sent_is_not_lost_while_two_pods_deliver() -> None:
    """In a hand-over both Pods are heard in turn, and a tick that each says it slept through was never sent."""
    probe = streamed(("old", 10, 9), ("new", 10, 10), ("old", 13, 10), ("new", 13, 10))
    assert probe.unsent == {11, 12}


def test_tick_before_a_pods_datagram_was_missed_counts_as_sent() -> None:
    """A Pod whose datagram did not arrive says nothing about the ticks since: they may be lost like it."""
    probe = streamed(("old", 10, 9), ("old", 14, 12))
    assert probe.unsent == set()


@contextlib.contextmanager
def answering(answers_from: tuple[str, int] | None) -> Iterator[tuple[Probe, Callable[[], None]]]:
    """
    A probe that has sent a request and been sent what a Pod would send, and a function that lets it take these in.

    *answers_from*: the source of answer and stream, where it is another than the address under test; port 0 is any.
    """
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pod,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        pod.bind(("127.0.0.1", 0))
        pod.settimeout(5)
        port = pod.getsockname()[1]
        probe = Probe("127.0.0.1", port, 1_000_000)
        try:
            if answers_from is not None:
                other.bind((answers_from[0], answers_from[1] or 0))
            sender = pod if answers_from is None else other
            probe.next_ns = time.monotonic_ns() // 1_000_000 * 1_000_000
            probe.started_ns = probe.next_ns - 1
            probe.send()
            request, client = pod.recvfrom(2048)
            tick = (probe.started_ns // 1_000_000) + 2
            sender.sendto(request + b"pod", client)
            sender.sendto(echo.STREAM.pack(echo.STREAM_MAGIC, tick, tick) + b"pod", ("127.0.0.1", probe.stream_port))

            def take() -> None:
                deadline = time.monotonic() + 5
                while time.monotonic() < deadline:
                    probe.receive()
                    if all(track.heard or track.wrong_source for track in (probe.ingress, probe.egress)):
                        return

            yield probe, take
        finally:
            probe.close()


def test_answer_from_the_address_under_test_counts() -> None:
    """What comes from the very address is heard, in and out: the twin of those that come from elsewhere."""
    with answering(None) as (probe, take):
        take()
        found = probe.result(probe.started_ns + 4_000_000, None)
    assert (found["ingress"]["sent"], found["ingress"]["lost"], found["ingress"]["wrong_source"]) == (1, 0, 0)
    assert list(found["egress"]["first_ns"]) == ["pod"]
    assert found["egress"]["wrong_source"] == 0


def test_answer_from_another_address_is_lost() -> None:
    """A reply, or a stream, whose source was rewritten on its way is no reply of the address: lost, counted apart."""
    with answering(("127.0.0.2", 0)) as (probe, take):
        take()
        found = probe.result(probe.started_ns + 4_000_000, None)
    assert (found["ingress"]["sent"], found["ingress"]["lost"], found["ingress"]["wrong_source"]) == (1, 1, 1)
    assert found["egress"]["lost"] == found["egress"]["sent"] > 0
    assert found["egress"]["wrong_source"] == 1
    assert found["ingress"]["first_ns"] == found["egress"]["first_ns"] == {}


def test_answer_from_another_port_is_lost() -> None:
    """A reply from another port of the right address belongs to no flow of the client's: lost as well."""
    with answering(("127.0.0.1", 0)) as (probe, take):
        take()
        found = probe.result(probe.started_ns + 4_000_000, None)
    assert (found["ingress"]["lost"], found["ingress"]["wrong_source"]) == (1, 1)


def test_connection_to_an_address_that_fell_silent_is_not_kept() -> None:
    """A connection that carried payload a moment ago is kept while requests are answered, and not when nothing is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe = Probe("127.0.0.1", server.getsockname()[1], 1_000_000)
        try:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"1 pod\n")
                deadline = time.monotonic() + 5
                while probe.tcp_state() == "none" and time.monotonic() < deadline:
                    probe.receive()
                heard_ns = probe.tcp.heard_ns
                probe.tcp.heard_ns = time.monotonic_ns()
                assert heard_ns > 0
                assert probe.result(probe.tcp.heard_ns + 50_000_000, None)["tcp"] == "kept"
                assert probe.result(probe.tcp.heard_ns + 300_000_000, None)["tcp"] == "none"
                probe.ingress.hear(probe.tcp.heard_ns + 250_000_000, 1, "pod")
                assert probe.result(probe.tcp.heard_ns + 300_000_000, None)["tcp"] == "kept"
        finally:
            probe.close()


@pytest.mark.parametrize(("source", "who"), [("127.0.0.1", "pod"), ("127.0.0.2", None)])
def test_reach_believes_the_address_itself_alone(source: str, who: str | None) -> None:
    """Who is asked at an address and answers from another is not reached there."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pod,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        pod.bind(("127.0.0.1", 0))
        pod.settimeout(5)
        port = pod.getsockname()[1]
        other.bind(("127.0.0.2", port))
        stop = threading.Event()

        def answer() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    request, client = pod.recvfrom(2048)
                    (pod if source == "127.0.0.1" else other).sendto(request + b"pod", client)

        thread = threading.Thread(target=answer)
        pod.settimeout(0.05)
        thread.start()
        try:
            assert reach("127.0.0.1", port, 0.3)["udp"] == who
        finally:
            stop.set()
            thread.join()


def seen(
    *, is_held: bool = True, lost: int = 0, blackout_ms: float = 0.0, quiet_ms: tuple[float, float] = (0.0, 0.0)
) -> EventResult:
    """What the client saw of 192.0.2.1; *quiet_ms* in and out."""
    ingress, egress = (Flow(sent=100, lost=lost, blackout_ms=blackout_ms, quiet_ms=each) for each in quiet_ms)
    return EventResult(
        name="x",
        route="a/b",
        address="192.0.2.1",
        family=4,
        planned=False,
        source=Place("one", "node-a"),
        target=Place("two", "node-b") if is_held else None,
        ingress=ingress,
        egress=egress,
        reaction_ms=None,
        tcp="none",
        conditions_before={},
        conditions_after={},
    )


def judged(
    expected: Expected,
    *,
    after: str,
    lost: int = 0,
    planned: bool = False,
    quiet_ms: tuple[float, float] = (300.0, 300.0),
) -> tuple[str, ...]:
    """What fails in an event on an address that the Pod with UID `old` held before."""
    event = Event(name="x", sentence="", planned=planned)
    result = seen(is_held=bool(after), lost=lost, quiet_ms=quiet_ms)
    return judge(event, result, expected, before="old", after=after)


def remarked(blackout_ms: float, expected: Expected = Expected.OTHER_POD, **event: bool) -> str | None:
    return remark(Event(name="x", sentence="", **event), seen(blackout_ms=blackout_ms), expected)


def test_lost_packet_is_a_failure_where_a_living_pod_hands_over_and_nowhere_else() -> None:
    """One packet lost in a planned move or under an undisturbed holder is said; a failover may lose some."""
    said = ("x on 192.0.2.1: 1 of 100 requests and 1 of 100 packets from the Pod were lost, and none should be",)
    assert judged(Expected.OTHER_POD, after="new", lost=1, planned=True) == said
    assert judged(Expected.UNDISTURBED, after="old", lost=1) == said
    assert judged(Expected.OTHER_POD, after="new", lost=1) == ()


def test_address_of_nobody_is_silent_to_the_end_in_both_directions_or_it_is_a_failure() -> None:
    """Where nobody holds an address both directions must have stopped; gaps within a flow that goes on do not count."""
    assert judged(Expected.NOBODY, after="", quiet_ms=(300.0, 300.0)) == ()
    assert judged(Expected.NOBODY, after="", quiet_ms=(300.0, 14.0)) == (
        "x on 192.0.2.1: nobody holds it, and what one sends from it still arrives outside",
    )
    assert judged(Expected.NOBODY, after="", quiet_ms=(2.0, 300.0)) == (
        "x on 192.0.2.1: nobody holds it, and requests are still answered",
    )


def test_long_silence_is_remarked_of_a_failover_to_a_standby_alone() -> None:
    """Fifty milliseconds are aimed for; late packets of a hand-over and the making of a Pod are another matter."""
    assert remarked(50.1) == "x on 192.0.2.1: silent for 50.1 ms, more than the 50 aimed for"
    assert remarked(50.0) is None
    assert remarked(500, standby=False) is None
    assert remarked(500, planned=True) is None
    assert remarked(500, Expected.NOBODY) is None


def test_wrong_holder_is_a_failure() -> None:
    """Nobody where somebody should be, somebody where nobody should be, and a move or none against the rules."""
    assert judged(Expected.OTHER_POD, after="") == ("x on 192.0.2.1: held by nobody afterwards",)
    assert judged(Expected.NOBODY, after="new") == ("x on 192.0.2.1: held by two afterwards",)
    assert judged(Expected.OTHER_POD, after="old") == ("x on 192.0.2.1: one holds it still",)
    assert judged(Expected.SAME_POD, after="new") == ("x on 192.0.2.1: it moved, and should not",)
    assert judged(Expected.NOBODY, after="") == judged(Expected.SAME_POD, after="old") == ()


def test_virtual_time_passes_without_waiting() -> None:
    """An hour of timers takes no time, and each fires in its turn."""
    fired: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        clock = LoopClock(SystemClock())
        begin = clock.now()
        await asyncio.sleep(seconds)
        fired.append((name, round(clock.now() - begin, 6)))

    async def work() -> None:
        await asyncio.gather(sleeper("long", 3600), sleeper("short", 0.001))

    begin = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(work())
    assert fired == [("short", 0.001), ("long", 3600)]
    assert time.monotonic() - begin < 5


def test_virtual_time_follows_the_real_clock_when_told() -> None:
    """From then on a timer takes its time."""

    async def work() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.follow_real_time()
        begin = time.monotonic()
        await asyncio.sleep(0.05)
        return time.monotonic() - begin

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(work()) > 0.04
