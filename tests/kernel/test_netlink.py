"""Does our codec write the bytes that pyroute2 writes, and read what the kernel says?"""

import errno
import re
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

import persistip.errors as tree
from persistip.backends.linux import errors, neighbours, routes
from persistip.backends.linux.attributes import NESTED, attribute, parse_attributes
from persistip.backends.linux.links import dump_addresses, dump_links
from persistip.backends.linux.sockets import NETLINK_ROUTE, NetlinkSocket, Refusal, pack, unpack

pyroute2 = pytest.importorskip("pyroute2")
from pyroute2.netlink.rtnl.ndmsg import ndmsg  # noqa: E402
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # noqa: E402

HOP = ip_address("fe80::7069:200:0:9")
ROUTES = {
    "ipv4 by ipv6 hop, prepended": (
        routes.prepend_route(
            routes.Route(prefix=ip_network("203.0.113.7"), link=3, gateway=HOP, table=255, protocol=190, onlink=True)
        ),
        0x401,
        {"family": 2, "dst_len": 32, "table": 255, "proto": 190, "scope": 0, "type": 1, "flags": 4},
        [
            ("RTA_DST", "203.0.113.7"),
            ("RTA_VIA", {"family": socket.AF_INET6, "addr": str(HOP)}),
            ("RTA_OIF", 3),
        ],
    ),
    "ipv6, replaced, with metric": (
        routes.replace_route(
            routes.Route(
                prefix=ip_network("2001:db8::/64"), link=3, gateway=HOP, table=255, protocol=190, onlink=True, metric=1
            )
        ),
        0x501,
        {"family": 10, "dst_len": 64, "table": 255, "proto": 190, "scope": 0, "type": 1, "flags": 4},
        [("RTA_DST", "2001:db8::"), ("RTA_GATEWAY", str(HOP)), ("RTA_OIF", 3), ("RTA_PRIORITY", 1)],
    ),
    "ipv4 by ipv4 hop in a numbered table, added": (
        routes.add_route(
            routes.Route(
                prefix=ip_network("198.51.100.0/24"), link=7, gateway=ip_address("10.0.0.1"), table=5000, protocol=190
            )
        ),
        0x601,
        {"family": 2, "dst_len": 24, "table": 0, "proto": 190, "scope": 0, "type": 1, "flags": 0},
        [("RTA_DST", "198.51.100.0"), ("RTA_TABLE", 5000), ("RTA_GATEWAY", "10.0.0.1"), ("RTA_OIF", 7)],
    ),
    "ipv4, deleted": (
        routes.delete_route(routes.Route(prefix=ip_network("203.0.113.7"), link=3, table=255, protocol=190)),
        0x001,
        {"family": 2, "dst_len": 32, "table": 255, "proto": 190, "scope": 255, "type": 1, "flags": 0},
        [("RTA_DST", "203.0.113.7"), ("RTA_OIF", 3)],
    ),
}
NEIGHBOURS = {
    "permanent": (
        neighbours.put_neighbour(
            neighbours.Neighbour(
                address=HOP, link=3, hardware_address="02:00:00:00:00:09", state=neighbours.PERMANENT, protocol=190
            )
        ),
        0x501,
        {"family": 10, "ifindex": 3, "state": 0x80, "flags": 0},
        [("NDA_DST", str(HOP)), ("NDA_LLADDR", "02:00:00:00:00:09"), ("NDA_PROTOCOL", 190)],
    ),
    "proxy": (
        neighbours.put_neighbour(
            neighbours.Neighbour(address=ip_address("203.0.113.7"), link=2, protocol=190, is_proxy=True)
        ),
        0x501,
        {"family": 2, "ifindex": 2, "state": 0, "flags": 0x08},
        [("NDA_DST", "203.0.113.7"), ("NDA_PROTOCOL", 190)],
    ),
    "to be resolved": (
        neighbours.resolve_neighbour(ip_address("10.9.1.5"), 4),
        0x401,
        {"family": 2, "ifindex": 4, "state": 0, "flags": 0x01},
        [("NDA_DST", "10.9.1.5")],
    ),
}


@pytest.mark.parametrize("case", ROUTES)
def test_route_message_is_pyroute2s_byte_for_byte(case) -> None:
    """Each form of route message equals what pyroute2 encodes from the same fields."""
    message, flags, fields, attrs = ROUTES[case]
    assert pack(message, 5) == encoded(rtmsg(), message.number, flags, fields, attrs)


@pytest.mark.parametrize("case", NEIGHBOURS)
def test_neighbour_message_is_pyroute2s_byte_for_byte(case) -> None:
    """Each form of neighbour message equals what pyroute2 encodes from the same fields."""
    message, flags, fields, attrs = NEIGHBOURS[case]
    assert pack(message, 5) == encoded(ndmsg(), message.number, flags, fields, attrs)


def encoded(message, number, flags, fields, attrs):
    message["header"]["type"] = number
    message["header"]["flags"] = flags
    message["header"]["sequence_number"] = 5
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data)


def test_malformed_attribute_ends_the_walk() -> None:
    """A length below the head's own is no reason to loop, and what came before it is kept."""
    good = attribute(3, b"abc")
    assert parse_attributes(good + b"\0\0\1\0" + good) == {3: b"abc"}
    assert parse_attributes(attribute(3 | NESTED, good)) == {3: good}
    assert list(unpack(b"\1\0\0\0" * 8)) == []


@pytest.mark.requires("kernel")
def test_each_refusal_goes_to_its_own_message(space) -> None:
    """Among a thousand messages in one call those refused are told by place, number and the kernel's words."""
    link = space.index("lo")
    made = [
        routes.Route(prefix=ip_network(f"10.{each // 250}.{each % 250}.0/24"), link=link, protocol=190, scope=253)
        for each in range(1000)
    ]
    missing = routes.Route(prefix=ip_network("10.200.0.0/24"), link=999, protocol=190)
    bad = routes.Route(prefix=ip_network("10.200.0.0/24"), link=link, protocol=190, gateway=ip_address("10.250.0.1"))
    messages = [routes.add_route(route) for route in made]
    messages[300], messages[700], messages[999] = messages[299], routes.add_route(missing), routes.add_route(bad)
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        answers = netlink.request(messages)
        refused = {place: answer for place, answer in enumerate(answers) if answer is not None}
        assert {place: answer.name for place, answer in refused.items()} == {
            300: "EEXIST",
            700: "ENODEV",
            999: "ENETUNREACH",
        }
        assert refused[999].text
        found = [route for route in routes.dump_routes(netlink, version=4, table=254) if route.protocol == 190]
        assert {route.prefix for route in found} == {
            made[place].prefix for place in range(1000) if place not in refused
        }


@pytest.mark.requires("kernel")
def test_links_and_addresses_read_back_as_the_kernel_shows_them(space) -> None:
    """Links, their settings and the node's addresses agree with what the system says elsewhere."""
    space.add_veth("one", space, "two", "02:00:00:00:00:22")
    space.add_bridge("br")
    space.add_address("one", "192.0.2.1/24")
    space.add_address("one", "2001:db8::1/64")
    space.set("net/ipv4/conf/one/forwarding", "1")
    space.set("net/ipv6/conf/one/proxy_ndp", "1")
    space.set("net/ipv6/conf/two/disable_ipv6", "1")
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        links = {link.name: link for link in dump_links(netlink)}
        addresses = list(dump_addresses(netlink))
    assert {name: link.index for name, link in links.items()} == {name: index for index, name in socket.if_nameindex()}
    assert {name: link.kind for name, link in links.items()} == {"lo": "", "one": "veth", "two": "veth", "br": "bridge"}
    assert links["two"].hardware_address == "02:00:00:00:00:22"
    assert (links["lo"].is_ethernet, links["lo"].is_loopback, links["one"].is_ethernet) == (False, True, True)
    assert (links["one"].ipv4_forwarding, links["two"].ipv4_forwarding) == (True, False)
    assert (links["one"].proxy_ndp, links["two"].proxy_ndp) == (True, False)
    assert (links["one"].ipv6_enabled, links["two"].ipv6_enabled) == (True, False)
    assert (links["one"].index, ip_address("192.0.2.1")) in addresses
    assert (links["one"].index, ip_address("2001:db8::1")) in addresses


@pytest.mark.requires("kernel")
def test_lookup_tells_the_link_that_leads_to_an_ip(space) -> None:
    """A lookup answers with the route itself, and with the kernel's word where there is none."""
    space.add_veth("one", space, "two")
    space.add_route("10.9.1.5/32", "one")
    space.add_route("fd09::5/128", "one")
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        for ip in ("10.9.1.5", "fd09::5"):
            found = routes.find_route(netlink, ip_address(ip))
            assert (found.prefix, found.link, found.gateway) == (ip_network(ip), space.index("one"), None)
        refusal = routes.find_route(netlink, ip_address("10.9.1.6"))
        assert isinstance(refusal, Refusal)
        assert refusal.code == errno.ENETUNREACH


def test_every_error_number_has_a_class() -> None:
    """Each number that Linux defines becomes exactly one of our errors, and the classes do not overlap."""
    assert not errors.STALE & errors.REFUSED
    assert not errors.STALE & errors.REJECTED
    assert not errors.REFUSED & errors.REJECTED
    kinds = {number: type(errors.error_from_code(number, "", "a", "b")) for number in errno.errorcode}
    assert kinds[errno.EEXIST] is tree.StaleError
    assert kinds[errno.ENODEV] is tree.StaleError
    assert kinds[errno.EPERM] is tree.RefusedError
    assert kinds[errno.EINVAL] is tree.RejectedError
    assert kinds[errno.ENOBUFS] is tree.UnavailableError
    assert kinds[errno.EINTR] is tree.UnavailableError


def test_errors_are_told_by_number_alone() -> None:
    """No line of the codec looks into the kernel's words."""
    folder = Path(errors.__file__).parent
    files = list(folder.glob("*.py"))
    assert len(files) > 10
    for file in files:
        assert not re.search(r"\bin \w*\.?(text|strerror)\b|\.text\.|strerror\.", file.read_text()), file.name
