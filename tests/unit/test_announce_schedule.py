"""When the announcer speaks, when it falls silent, and that one broken link does not silence another."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from itertools import pairwise

import pytest

from persistip.backends.announce import PacketAnnouncer, SilentAnnouncer
from persistip.errors import BackendError, RefusedError, RejectedError, UnavailableError
from persistip.model.actions import OutcomeState
from persistip.model.entry import Announcement, LinkRef, Manner
from persistip.settings import AnnounceSettings

pytestmark = [pytest.mark.looptime]

SETTINGS = AnnounceSettings(offsets_seconds=(0.0, 0.05, 0.2, 1.0), every_seconds=10.0, until_seconds=35.0)
ETH0, ETH1 = LinkRef("eth0", 2), LinkRef("eth1", 3)


class Segment:
    """What was sent, by link: the second on the loop's clock and the address, once for both forms of ARP."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, float, str]] = []
        self.senders: list[bytes] = []
        self.opened: list[str] = []
        self.failures: dict[LinkRef, BackendError] = {}
        self.hardware_address = b"\x02" * 6

    def open(self, link: LinkRef) -> "SegmentWire":
        self.opened.append(link.name)
        return SegmentWire(self, link)

    def times(self, link: LinkRef) -> list[float]:
        return [round(at, 3) for name, at, _ in self.sent if name == link.name]


class SegmentWire:
    def __init__(self, segment: Segment, link: LinkRef) -> None:
        self.segment, self.link = segment, link

    def hardware_address(self) -> bytes:
        return self.segment.hardware_address

    def send(self, frame: bytes) -> None:
        if self.link in self.segment.failures:
            raise self.segment.failures[self.link]
        is_second_form = frame[12:14] == b"\x08\x06" and frame[21] == 2 and frame[32:38] == frame[6:12]
        if is_second_form:
            return
        self.segment.sent.append((self.link.name, asyncio.get_running_loop().time(), frame[-4:].hex()))
        self.segment.senders.append(frame[6:12])

    def close(self) -> None:
        self.segment.opened.append(f"-{self.link.name}")


@pytest.fixture
def segment() -> Segment:
    """Return a segment on which everything that is sent can be read."""
    return Segment()


@pytest.fixture
async def announcer(segment: Segment) -> AsyncIterator[PacketAnnouncer]:
    """Return an announcer on that segment, closed after the test."""
    async with PacketAnnouncer(SETTINGS, open_wire=segment.open) as made:
        yield made


def on(link: LinkRef, last: int = 5, epoch: int = 1) -> Announcement:
    return Announcement(prefix=ip_network(f"203.0.113.{last}/32"), link=link, epoch=epoch)


async def test_announcement_goes_out_before_the_call_returns(announcer: PacketAnnouncer, segment: Segment) -> None:
    """Whoever confirms after ``announce`` confirms something that has been sent."""
    outcomes = await announcer.announce(frozenset({on(ETH0)}))
    assert segment.times(ETH0) == [0.0]
    assert [outcome.state for outcome in outcomes] == [OutcomeState.DONE]


async def test_announcement_is_repeated_by_the_schedule_and_ends(announcer: PacketAnnouncer, segment: Segment) -> None:
    """Early repeats come close together, later ones evenly, and none after the end."""
    await announcer.announce(frozenset({on(ETH0)}))
    await asyncio.sleep(200)
    assert segment.times(ETH0) == [0.0, 0.05, 0.2, 1.0, 11.0, 21.0, 31.0]


async def test_what_is_no_longer_wanted_is_never_sent_again(announcer: PacketAnnouncer, segment: Segment) -> None:
    """An address taken out of the set between two repeats is silent from that call on."""
    await announcer.announce(frozenset({on(ETH0), on(ETH0, 6)}))
    await asyncio.sleep(0.1)
    await announcer.announce(frozenset({on(ETH0, 6)}))
    stopped = asyncio.get_running_loop().time()
    await asyncio.sleep(100)
    late = {address for _, at, address in segment.sent if at >= stopped}
    assert late == {"cb007106"}


async def test_call_that_repeats_the_set_starts_nothing_anew(announcer: PacketAnnouncer, segment: Segment) -> None:
    """Handing over the same set again leaves the schedule where it was."""
    wanted = frozenset({on(ETH0)})
    await announcer.announce(wanted)
    await asyncio.sleep(0.5)
    await announcer.announce(wanted)
    await asyncio.sleep(0.6)
    assert segment.times(ETH0) == [0.0, 0.05, 0.2, 1.0]


async def test_new_epoch_starts_the_schedule_anew(announcer: PacketAnnouncer, segment: Segment) -> None:
    """An address that came back to this node is announced as if it were new."""
    await announcer.announce(frozenset({on(ETH0)}))
    await asyncio.sleep(10)
    segment.sent.clear()
    await announcer.announce(frozenset({on(ETH0, epoch=2)}))
    await asyncio.sleep(0.1)
    assert segment.times(ETH0) == [10.0, 10.05]


async def test_broken_link_stops_no_other_and_recovers(announcer: PacketAnnouncer, segment: Segment) -> None:
    """While one link is down the other is served, and the first is announced as soon as it works again."""
    segment.failures[ETH0] = UnavailableError("down")
    outcomes = await announcer.announce(frozenset({on(ETH0), on(ETH1)}))
    assert sorted(outcome.state for outcome in outcomes) == [OutcomeState.DONE, OutcomeState.FAILED]
    await asyncio.sleep(2)
    assert segment.times(ETH1) == [0.0, 0.05, 0.2, 1.0]
    assert segment.times(ETH0) == []
    del segment.failures[ETH0]
    await asyncio.sleep(0.5)
    assert len(segment.times(ETH0)) >= 2


async def test_what_was_missed_is_not_sent_in_one_burst(announcer: PacketAnnouncer, segment: Segment) -> None:
    """A link that works again hears the early repeats with their pauses, and the later ones where they were due."""
    segment.failures[ETH0] = UnavailableError("down")
    await announcer.announce(frozenset({on(ETH0)}))
    await asyncio.sleep(3.2)
    del segment.failures[ETH0]
    await asyncio.sleep(30)
    assert segment.times(ETH0) == [3.5, 3.55, 3.7, 4.5, 11.0, 21.0, 31.0]


async def test_hundreds_of_addresses_meet_a_broken_link_once(
    announcer: PacketAnnouncer, segment: Segment, caplog: pytest.LogCaptureFixture
) -> None:
    """A link's fault is tried and told once for all the addresses on it, not once for each."""
    segment.failures[ETH0] = UnavailableError("down")
    await announcer.announce(frozenset(on(ETH0, last) for last in range(200)))
    assert segment.opened.count("eth0") == 1
    assert caplog.text.count("could not announce") == 1


async def test_link_that_cannot_be_announced_on_is_not_tried_for_ever(
    announcer: PacketAnnouncer, segment: Segment
) -> None:
    """What is no Ethernet link is reported as blocked and left alone."""
    segment.failures[ETH0] = RejectedError("not Ethernet")
    outcomes = await announcer.announce(frozenset({on(ETH0)}))
    assert [outcome.state for outcome in outcomes] == [OutcomeState.BLOCKED]
    await asyncio.sleep(100)
    assert segment.opened.count("eth0") == 1


async def test_missing_right_is_blocked_and_tried_again_until_the_end(
    announcer: PacketAnnouncer, segment: Segment
) -> None:
    """Without CAP_NET_RAW the outcome says so, and the tries end with the schedule."""
    segment.failures[ETH0] = RefusedError("no right")
    outcomes = await announcer.announce(frozenset({on(ETH0)}))
    assert outcomes[0].state is OutcomeState.BLOCKED
    assert "no right" in outcomes[0].message
    await asyncio.sleep(1000)
    tries = segment.opened.count("eth0")
    assert tries <= SETTINGS.until_seconds / 0.5 + 1
    await asyncio.sleep(1000)
    assert segment.opened.count("eth0") == tries


async def test_hundreds_of_addresses_leave_the_loop_to_others(announcer: PacketAnnouncer, segment: Segment) -> None:
    """Another task gets its turn while a large set is being sent for the first time."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await announcer.announce(frozenset(on(ETH0, last) for last in range(250)))
    task.cancel()
    assert len(segment.sent) == 250
    assert turns >= 2


async def test_later_call_overtakes_one_that_is_still_sending(announcer: PacketAnnouncer, segment: Segment) -> None:
    """When the set shrinks while a large one is being sent, the rest of it is not sent."""
    sending = asyncio.create_task(announcer.announce(frozenset(on(ETH0, last) for last in range(250))))
    await asyncio.sleep(0)
    await announcer.announce(frozenset())
    sent = len(segment.sent)
    outcomes = await sending
    await asyncio.sleep(10)
    assert len(segment.sent) == sent < 250
    assert any(outcome.stale for outcome in outcomes)


async def test_changed_hardware_address_is_announced(announcer: PacketAnnouncer, segment: Segment) -> None:
    """Each burst carries the hardware address that the link has at that moment."""
    await announcer.announce(frozenset({on(ETH0)}))
    segment.hardware_address = b"\x04" * 6
    await asyncio.sleep(0.1)
    assert segment.senders == [b"\x02" * 6, b"\x04" * 6]


async def test_links_without_announcements_are_closed(announcer: PacketAnnouncer, segment: Segment) -> None:
    """A link that nothing is announced on any more gives its socket back."""
    await announcer.announce(frozenset({on(ETH0)}))
    await announcer.announce(frozenset())
    assert segment.opened == ["eth0", "-eth0"]


async def test_closed_announcer_is_silent(segment: Segment) -> None:
    """Leaving the announcer ends every repeat."""
    async with PacketAnnouncer(SETTINGS, open_wire=segment.open) as announcer:
        await announcer.announce(frozenset({on(ETH0)}))
    await asyncio.sleep(100)
    assert segment.times(ETH0) == [0.0]


async def test_silent_announcer_is_content_with_everything() -> None:
    """Where routes lead to the nodes, announcing nothing is a success."""
    outcomes = await SilentAnnouncer().announce(frozenset({on(ETH0), on(ETH1)}))
    assert [outcome.is_done for outcome in outcomes] == [True, True]


def in_cloud(link: LinkRef, last: int = 5, epoch: int = 1) -> Announcement:
    return Announcement(prefix=ip_network(f"203.0.113.{last}/32"), link=link, epoch=epoch, manner=Manner.FAST_IP_MOVE)


async def test_cloud_is_told_by_its_own_schedule(announcer: PacketAnnouncer, segment: Segment) -> None:
    """Whatever is set for neighbours, the cloud hears of an address every ten seconds, for twelve minutes."""
    await announcer.announce(frozenset({in_cloud(ETH0), on(ETH1)}))
    await asyncio.sleep(3600)
    assert segment.times(ETH1) == [0.0, 0.05, 0.2, 1.0, 11.0, 21.0, 31.0]
    told = segment.times(ETH0)
    assert told[:5] == [0.0, 1.0, 4.0, 14.0, 24.0]
    assert {round(later - earlier, 3) for earlier, later in pairwise(told[2:])} == {10.0}
    assert told[-1] == 714.0


async def test_cloud_hears_nothing_once_the_address_is_gone(announcer: PacketAnnouncer, segment: Segment) -> None:
    """Who holds no longer sends no frame more, not even one that was about to go."""
    await announcer.announce(frozenset({in_cloud(ETH0)}))
    await asyncio.sleep(13.999)
    before = len(segment.sent)
    await announcer.announce(frozenset())
    await asyncio.sleep(1000)
    assert len(segment.sent) == before == 3


async def test_end_has_passed_while_the_loop_stood_still(
    announcer: PacketAnnouncer, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that was due before the end is not sent behind it: each looks at the time before it goes."""
    await announcer.announce(frozenset({in_cloud(ETH0)}))
    await asyncio.sleep(705)
    before = len(segment.sent)
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + 20)
    await asyncio.sleep(100)
    assert len(segment.sent) == before > 70
