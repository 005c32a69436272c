"""The frames byte for byte, and the checksum against an example that is not ours."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from persistip.backends.announce.frames import (
    advertisement_frame,
    announcing_frames,
    arp_frame,
    frames_of,
    icmpv6_checksum,
    moving_frame,
)
from persistip.model.entry import Announcement, LinkRef, Manner
from persistip.testing.compute_engine.frames import Announced, read_frame

MAC = bytes.fromhex("02aabbccddee")
MAC_TEXT = "02aabbccddee"
MAC_COLONS = "02:aa:bb:cc:dd:ee"
NOBODY = "00:00:00:00:00:00"


def test_gratuitous_request_is_what_rfc_5227_shows() -> None:
    """The request names the address twice and leaves the target's hardware address zero."""
    expected = "ffffffffffff" + MAC_TEXT + "0806" + "0001" + "0800" + "06" + "04" + "0001"
    expected += MAC_TEXT + "cb007105" + "000000000000" + "cb007105"
    assert arp_frame(IPv4Address("203.0.113.5"), MAC, is_reply=False).hex() == expected


def test_gratuitous_reply_names_the_sender_as_its_target() -> None:
    """The reply carries our hardware address in both places, without which Linux does not take it as gratuitous."""
    expected = "ffffffffffff" + MAC_TEXT + "0806" + "0001" + "0800" + "06" + "04" + "0002"
    expected += MAC_TEXT + "cb007105" + MAC_TEXT + "cb007105"
    assert arp_frame(IPv4Address("203.0.113.5"), MAC, is_reply=True).hex() == expected


def test_advertisement_is_what_rfc_4861_shows() -> None:
    """Ethernet, IPv6 with hop limit 255, then type 136 with the override flag alone, target and link-layer address."""
    address = IPv6Address("2001:db8::5")
    frame = advertisement_frame(address, MAC)
    assert frame[:14].hex() == "333300000001" + MAC_TEXT + "86dd"
    assert frame[14:54].hex() == "60000000" + "0020" + "3a" + "ff" + address.packed.hex() + "ff02" + "00" * 13 + "01"
    assert frame[54:56].hex() == "8800"
    assert frame[58:].hex() == "20000000" + address.packed.hex() + "0201" + MAC_TEXT
    assert len(frame) == 14 + 40 + 32


def test_checksum_matches_one_computed_by_hand() -> None:
    """The field is the complement of the folded sum of the words that can be read off the RFC's picture."""
    words = [0x2001, 0x0DB8, 0x0005, 0xFF02, 0x0001, 0x0020, 0x003A]
    words += [0x8800, 0x2000, 0x2001, 0x0DB8, 0x0005, 0x0201, 0x02AA, 0xBBCC, 0xDDEE]
    total = sum(words)
    folded = (total & 0xFFFF) + (total >> 16)
    frame = advertisement_frame(IPv6Address("2001:db8::5"), MAC)
    assert int.from_bytes(frame[56:58], "big") == ~folded & 0xFFFF


@given(st.integers(0, 2**128 - 1), st.binary(min_size=6, max_size=6))
def test_receiver_finds_every_checksum_right(number: int, hardware_address: bytes) -> None:
    """Over the message with its checksum in place the sum comes out as zero, as each receiver verifies."""
    address = IPv6Address(number)
    frame = advertisement_frame(address, hardware_address)
    destination = IPv6Address(frame[38:54])
    assert icmpv6_checksum(IPv6Address(frame[22:38]), destination, frame[54:]) == 0
    assert destination == IPv6Address("ff02::1")


def test_odd_length_is_summed_with_a_zero_behind() -> None:
    """A message of odd length has the checksum of the same message with a zero byte, but for its length."""
    one, other = IPv6Address("::1"), IPv6Address("::2")
    data = b"\x81\x00\x00\x00\x07"
    whole = one.packed + other.packed + struct.pack("!II", 5, 58) + data + b"\x00"
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert icmpv6_checksum(one, other, data) == ~total & 0xFFFF


@pytest.mark.parametrize(("address", "kinds"), [("203.0.113.5", [0x0806, 0x0806]), ("2001:db8::5", [0x86DD])])
def test_family_decides_the_frames(address: str, kinds: list[int]) -> None:
    """IPv4 is announced by two ARP frames, request first, and IPv6 by one advertisement."""
    frames = announcing_frames(ip_address(address), MAC)
    assert [int.from_bytes(frame[12:14], "big") for frame in frames] == kinds
    if kinds[0] == 0x0806:
        assert [frame[21] for frame in frames] == [1, 2]


def test_another_reads_the_frames_for_neighbours_as_they_are_meant() -> None:
    """To scapy, which shares no code with us, they are a request, a reply and an advertisement that overrides."""
    request, reply = (Ether(frame)[ARP] for frame in announcing_frames(IPv4Address("203.0.113.5"), MAC))
    assert (request.op, request.psrc, request.pdst, request.hwdst) == (1, "203.0.113.5", "203.0.113.5", NOBODY)
    assert (reply.op, reply.psrc, reply.pdst, reply.hwdst) == (2, "203.0.113.5", "203.0.113.5", MAC_COLONS)
    (frame,) = announcing_frames(IPv6Address("2001:db8::5"), MAC)
    read = Ether(frame)
    told = read[ICMPv6ND_NA]
    assert (told.tgt, told.R, told.S, told.O) == ("2001:db8::5", 0, 0, 1)
    assert read[ICMPv6NDOptDstLLAddr].lladdr == read.src == MAC_COLONS


def test_arp_that_moves_an_address_in_the_cloud_is_the_reply_to_everybody() -> None:
    """Sender and target are the address, the sender's hardware address is the link's, the target's is everybody's."""
    read = Ether(moving_frame(IPv4Address("203.0.113.5"), MAC))
    assert (read.dst, read.src) == ("ff:ff:ff:ff:ff:ff", MAC_COLONS)
    arp = read[ARP]
    assert (arp.op, arp.hwsrc, arp.psrc) == (2, MAC_COLONS, "203.0.113.5")
    assert (arp.hwdst, arp.pdst) == ("ff:ff:ff:ff:ff:ff", "203.0.113.5")


def test_advertisement_that_moves_an_address_in_the_cloud_offers_no_router() -> None:
    """It comes from the address, is no router's for any time, names no prefix, and its checksum is right."""
    frame = moving_frame(IPv6Address("2001:db8::5"), MAC)
    read = Ether(frame)
    assert (read[IPv6].src, read[IPv6].dst, read[IPv6].hlim) == ("2001:db8::5", "ff02::1", 255)
    told = read[ICMPv6ND_RA]
    assert (told.routerlifetime, told.reachabletime, told.retranstimer, told.M, told.O) == (0, 0, 0, 0, 0)
    assert read[ICMPv6NDOptSrcLLAddr].lladdr == read.src == MAC_COLONS
    assert isinstance(told.payload, ICMPv6NDOptSrcLLAddr)
    assert not told.payload.payload
    stated = told.cksum
    del told.cksum
    assert Ether(bytes(read))[ICMPv6ND_RA].cksum == stated


@pytest.mark.parametrize("address", ["203.0.113.5", "2001:db8::5"])
def test_emulated_cloud_hears_what_is_meant_for_it_and_nothing_else(address: str) -> None:
    """Of both manners it takes the frame of the fast IP move, and none that is for neighbours."""
    heard = {
        manner: [
            read_frame(frame)
            for frame in frames_of(
                Announcement(prefix=ip_network(address), link=LinkRef("eth0", 2), epoch=1, manner=manner), MAC
            )
        ]
        for manner in Manner
    }
    assert heard[Manner.FAST_IP_MOVE] == [Announced(ip_address(address), MAC_COLONS)]
    assert set(heard[Manner.LAYER_2]) == {None}
