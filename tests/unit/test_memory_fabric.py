"""Does the memory fabric say what a kernel would do with a packet?"""

import asyncio
from ipaddress import ip_address, ip_network

import pytest

from persistip.backends.memory import Delivered, Dropped, MemoryAnnouncer, MemoryDatapath, MemoryFabric
from persistip.model.actions import DatapathAction, Outcome, OutcomeState, PutEntry, RemoveEntry
from persistip.model.entry import (
    Announcement,
    Entry,
    ExemptEntry,
    GuardEntry,
    LinkRef,
    NodeScope,
    ProxyEntry,
    RouteEntry,
)
from persistip.strategies import Announcer, Datapath

ADDRESS = ip_address("203.0.113.9")
PREFIX = ip_network("203.0.113.9/32")
ADDRESS6 = ip_address("2001:db8::9")
PREFIX6 = ip_network("2001:db8::9/128")
CLIENT = ip_address("198.51.100.1")
CLIENT6 = ip_address("2001:db8:ffff::1")


class Segment:
    """Two nodes, a Pod of the same name and addresses on each, and a bystander beside the first."""

    def __init__(self) -> None:
        self.fabric = MemoryFabric()
        for number, name in enumerate(("a", "b"), start=1):
            self.fabric.add_node(name, ip_address(f"192.0.2.{number}"))
            self.fabric.add_pod(name, f"pod-{name}", [ip_address(f"10.0.{number}.2"), ip_address(f"fd00:{number}::2")])
        self.fabric.add_pod("a", "bystander", [ip_address("10.0.1.3"), ip_address("fd00:1::3")])
        self.datapaths = {name: MemoryDatapath(self.fabric, name) for name in ("a", "b")}
        self.announcers = {name: MemoryAnnouncer(self.fabric, name) for name in ("a", "b")}

    def entries(self, node: str) -> tuple[Entry, ...]:
        """Return all that carries the addresses to that node's Pod."""
        found: list[Entry] = []
        for prefix in (PREFIX, PREFIX6):
            pod = self.fabric.pod_at(node, ip_address(f"10.0.{'ab'.index(node) + 1}.2"))
            assert pod is not None
            ip = next(ip for ip in pod.ips if ip.version == prefix.version)
            found += [
                RouteEntry(prefix=prefix, link=pod.link, hardware_address=pod.hardware_address, pod_ip=ip),
                GuardEntry(prefix=prefix, link=pod.link, hardware_address=pod.hardware_address),
                ExemptEntry(prefix),
                ProxyEntry(prefix=prefix, link=self.fabric.node(node).uplinks[0]),
            ]
        return tuple(found)

    async def program(self, node: str) -> None:
        """Put everything on *node*."""
        outcomes = await self.datapaths[node].apply([PutEntry(entry) for entry in self.entries(node)])
        assert all(outcome.is_done for outcome in outcomes)

    async def withdraw(self, node: str) -> None:
        """Take everything from *node*."""
        await self.datapaths[node].apply([RemoveEntry(entry) for entry in self.entries(node)])

    async def announce(self, node: str, *, epoch: int = 1) -> None:
        """Announce the IPv4 address."""
        link = self.fabric.node(node).uplinks[0]
        (outcome,) = await self.announcers[node].announce(
            frozenset({Announcement(prefix=PREFIX, link=link, epoch=epoch)})
        )
        assert outcome.is_done


@pytest.fixture
def segment() -> Segment:
    """Return the segment with nothing programmed."""
    return Segment()


def test_memory_backends_are_what_they_claim(segment: Segment) -> None:
    """They have the methods of their interfaces."""
    assert isinstance(segment.datapaths["a"], Datapath)
    assert isinstance(segment.announcers["a"], Announcer)


async def test_programmed_address_is_delivered_both_ways(segment: Segment) -> None:
    """In to the Pod and out with the address as source, of both families."""
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Dropped("", "nobody answers for 203.0.113.9")
    await segment.program("a")
    for address, client in ((ADDRESS, CLIENT), (ADDRESS6, CLIENT6)):
        assert segment.fabric.send(address, source=client) == Delivered("pod-a", "a", client)
        assert segment.fabric.send_from("pod-a", address) == Delivered("pod-a", "a", address)


async def test_source_of_another_pod_is_dropped(segment: Segment) -> None:
    """A guarded address leaves by its holder's link only."""
    await segment.program("a")
    for address in (ADDRESS, ADDRESS6):
        assert segment.fabric.send_from("bystander", address) == Dropped("a", f"{address} is guarded for another Pod")


def test_source_without_guard_is_stopped_in_ipv4_only(segment: Segment) -> None:
    """The reverse path filter knows IPv4; in IPv6 nothing but a guard stops a false source."""
    assert isinstance(segment.fabric.send_from("bystander", ADDRESS), Dropped)
    assert segment.fabric.send_from("bystander", ADDRESS6) == Delivered("bystander", "a", ADDRESS6)


async def test_masquerade_of_others_hides_what_is_not_exempt(segment: Segment) -> None:
    """The Pod's own IP leaves as the node's; so would the address without its exemption."""
    node_ip = segment.fabric.node("a").ip
    assert segment.fabric.send_from("pod-a", ip_address("10.0.1.2")) == Delivered("pod-a", "a", node_ip)
    await segment.program("a")
    segment.fabric.lose("a", ExemptEntry(PREFIX))
    assert segment.fabric.send_from("pod-a", ADDRESS) == Delivered("pod-a", "a", node_ip)


async def test_neighbours_follow_the_last_announcement(segment: Segment) -> None:
    """An announcement takes the traffic at once; without one the cache leads to the old node until it runs out."""
    await segment.program("a")
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-a", "a", CLIENT)
    await segment.program("b")
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-a", "a", CLIENT)
    await segment.announce("b")
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-b", "b", CLIENT)
    await segment.withdraw("a")
    segment.fabric.forget_neighbours()
    assert segment.fabric.answering(ADDRESS) == ("b",)
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-b", "b", CLIENT)


async def test_cached_neighbour_that_withdrew_drops(segment: Segment) -> None:
    """Withdrawing first is a hole: the client goes on sending to the node it knows."""
    await segment.program("a")
    segment.fabric.send(ADDRESS, source=CLIENT)
    await segment.withdraw("a")
    await segment.program("b")
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Dropped("a", "no route for 203.0.113.9")


async def test_announcement_no_longer_wanted_is_not_repeated(segment: Segment) -> None:
    """Time repeats what is announced now: an announcer that stopped, or died, takes nothing back."""
    for name in ("a", "b"):
        await segment.program(name)
    await segment.announce("b")
    await segment.announce("a")
    segment.fabric.repeat_announcements()
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-b", "b", CLIENT)
    await segment.announcers["b"].announce(frozenset())
    segment.fabric.repeat_announcements()
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-a", "a", CLIENT)
    MemoryAnnouncer(segment.fabric, "a")
    await segment.announce("b", epoch=2)
    segment.fabric.repeat_announcements()
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-b", "b", CLIENT)


@pytest.mark.parametrize(("prefix", "link"), [("203.0.113.8/31", None), ("203.0.113.9/32", LinkRef("elsewhere", 99))])
async def test_what_cannot_be_announced_is_told(segment: Segment, prefix: str, link: LinkRef | None) -> None:
    """A wider prefix or a link that is no uplink fails by itself, the others are announced."""
    uplink = segment.fabric.node("b").uplinks[0]
    wrong = Announcement(prefix=ip_network(prefix), link=link or uplink, epoch=1)
    right = Announcement(prefix=PREFIX, link=uplink, epoch=1)
    outcomes = await segment.announcers["b"].announce(frozenset({wrong, right}))
    assert sorted(outcome.state for outcome in outcomes) == [OutcomeState.DONE, OutcomeState.FAILED]
    assert segment.fabric.node("b").announced == {right}


async def test_node_that_is_cut_off_drops_and_does_not_answer(segment: Segment) -> None:
    """A dead uplink carries nothing either way, and announces nothing."""
    await segment.program("a")
    segment.fabric.cut("a")
    assert segment.fabric.answering(ADDRESS) == ()
    assert segment.fabric.send_from("pod-a", ADDRESS) == Dropped("a", "the node is down")
    await segment.announce("a")
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Dropped("", "nobody answers for 203.0.113.9")
    segment.fabric.mend("a")
    segment.fabric.repeat_announcements()
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-a", "a", CLIENT)
    segment.fabric.cut("a")
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Dropped("a", "the node is down")


async def test_link_made_anew_takes_its_route_along(segment: Segment) -> None:
    """The route goes with its link, nothing is delivered, and the Pod is found on another link and address."""
    await segment.program("a")
    old = segment.fabric.pod_at("a", ip_address("10.0.1.2"))
    new = segment.fabric.recreate_link("pod-a")
    assert old is not None
    assert new.link.name == old.link.name
    assert (new.link.index, new.hardware_address) != (old.link.index, old.hardware_address)
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Dropped("a", "no route for 203.0.113.9")
    state = await segment.datapaths["a"].observe(NodeScope(pod_ips=frozenset({ip_address("10.0.1.2")})))
    assert state.pod_links[ip_address("10.0.1.2")].link == new.link
    assert not any(isinstance(entry, RouteEntry) for entry in state.entries)


async def test_packet_never_reaches_the_next_owner_of_an_ip(segment: Segment) -> None:
    """A route leads to a hardware address: another Pod with the same IP is not delivered to."""
    await segment.program("a")
    segment.fabric.remove_pod("pod-a")
    segment.fabric.add_pod("a", "next", [ip_address("10.0.1.2")])
    assert isinstance(segment.fabric.send(ADDRESS, source=CLIENT), Dropped)


async def test_mute_pod_has_a_link_and_no_hardware_address(segment: Segment) -> None:
    """A Pod that does not answer is where the route leads, without an address there."""
    segment.fabric.mute("pod-a")
    ip = ip_address("10.0.1.2")
    state = await segment.datapaths["a"].observe(NodeScope(pod_ips=frozenset({ip})))
    assert state.pod_links[ip].hardware_address is None
    segment.fabric.mute("pod-a", is_mute=False)
    state = await segment.datapaths["a"].observe(NodeScope(pod_ips=frozenset({ip})))
    assert state.pod_links[ip].hardware_address is not None


async def test_obstacle_shadows_until_it_is_cleared(segment: Segment) -> None:
    """Something foreign swallows the packets and makes our route stale; when it goes, ours works again."""
    await segment.program("a")
    before = (await segment.datapaths["a"].observe(NodeScope())).entries
    segment.fabric.obstruct("a", PREFIX, "local route, protocol 66")
    state = await segment.datapaths["a"].observe(NodeScope())
    assert {type(entry) for entry in state.stale} == {RouteEntry}
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Dropped("a", "local route, protocol 66")
    segment.fabric.clear("a", PREFIX)
    assert (await segment.datapaths["a"].observe(NodeScope())).entries == before
    assert segment.fabric.send(ADDRESS, source=CLIENT) == Delivered("pod-a", "a", CLIENT)


async def test_damaged_entry_is_stale_until_put_again(segment: Segment) -> None:
    """Half an entry is ours and not whole."""
    await segment.program("a")
    guard = next(entry for entry in segment.entries("a") if isinstance(entry, GuardEntry))
    segment.fabric.damage("a", guard)
    assert guard in (await segment.datapaths["a"].observe(NodeScope())).stale
    await segment.datapaths["a"].apply([PutEntry(guard)])
    state = await segment.datapaths["a"].observe(NodeScope())
    assert guard in state.entries
    assert guard not in state.stale


async def test_proxy_for_more_than_one_address_is_refused(segment: Segment) -> None:
    """No kernel answers for a range, nor on a link that it lacks."""
    uplink = segment.fabric.node("a").uplinks[0]
    wide = ProxyEntry(prefix=ip_network("203.0.113.8/31"), link=uplink)
    lost = ProxyEntry(prefix=PREFIX, link=LinkRef("gone", 99))
    outcomes = await segment.datapaths["a"].apply([PutEntry(wide), PutEntry(lost)])
    assert [(outcome.is_done, outcome.stale) for outcome in outcomes] == [(False, False), (False, True)]


async def test_failure_injected_is_the_outcome_and_wakes_nobody(segment: Segment) -> None:
    """A failing apply leaves the kernel as it was and must not call for the next look by itself."""
    broken = Outcome(state=OutcomeState.FAILED, message="no buffer space")

    def failure(action: DatapathAction) -> Outcome | None:
        return broken if isinstance(action, PutEntry) else None

    segment.fabric.fail("a", failure)
    changes = segment.datapaths["a"].changes()
    waking = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    assert await segment.datapaths["a"].apply([PutEntry(ExemptEntry(PREFIX))]) == [broken]
    assert (await segment.datapaths["a"].observe(NodeScope())).entries == frozenset()
    await asyncio.sleep(0.01)
    assert not waking.done()
    segment.fabric.fail("a", lambda _: None)
    await segment.datapaths["a"].apply([PutEntry(ExemptEntry(PREFIX))])
    await asyncio.wait_for(waking, 1.0)
    await changes.aclose()  # type: ignore[attr-defined]
