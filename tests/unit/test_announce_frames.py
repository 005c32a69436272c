"""The frames byte for byte, and the checksum against an example that is not ours."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistip.backends.announce.frames import advertisement_frame, announcing_frames, arp_frame, icmpv6_checksum

MAC = bytes.fromhex("02aabbccddee")
MAC_TEXT = "02aabbccddee"


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
