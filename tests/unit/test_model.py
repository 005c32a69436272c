"""The nouns: what an address string, a selector, a condition and a view may be."""

from ipaddress import ip_address, ip_network

import attrs
import pytest
from world import World, node, pod, route

from persistip.model.address import (
    AddressSpec,
    Malformed,
    is_overlapping,
    never_usable,
    overlap,
    parse_ip,
    parse_prefix,
    show,
    sort_key,
    well_formed,
)
from persistip.model.conditions import Condition, find_condition, merge_conditions
from persistip.model.keys import Kind, ObjectKey, ObjectMeta, attachment_key, node_label, short_hash
from persistip.model.selector import LabelSelector, Requirement

CIDR = "gke.networking.io/cidr"


@pytest.mark.parametrize(
    ("type_", "value", "prefix"),
    [
        ("IPAddress", "203.0.113.9", "203.0.113.9/32"),
        ("IPAddress", " 2001:db8::9 ", "2001:db8::9/128"),
        ("IPAddress", "203.0.113.8/31", "203.0.113.8/31"),
        (CIDR, "203.0.113.8/29", "203.0.113.8/29"),
        ("networking.gke.io/cidr", "2001:db8::/64", "2001:db8::/64"),
    ],
)
def test_address_is_normalised_to_a_network(type_: str, value: str, prefix: str) -> None:
    """A bare address is a network of one."""
    assert parse_prefix(AddressSpec(type_, value)) == ip_network(prefix)


@pytest.mark.parametrize(
    ("type_", "value", "words"),
    [
        ("NamedAddress", "mine", "needs a cloud"),
        ("Hostname", "example", "type 'Hostname' is not supported"),
        ("IPAddress", "", "needs a cloud that can reserve"),
        (CIDR, "203.0.113.8", "write 203.0.113.8/32"),
        (CIDR, "2001:db8::9", "write 2001:db8::9/128"),
        ("IPAddress", "203.0.113.9/28", "write 203.0.113.0/28 for the network or 203.0.113.9/32 for the address"),
        ("IPAddress", "2001:db8::9/64", "write 2001:db8::/64 for the network or 2001:db8::9/128"),
        ("IPAddress", "203.0.113.300", "is not an IPv4 or IPv6 address"),
        ("IPAddress", "203.0.113.9/33", "is not an IPv4 or IPv6 address"),
        ("IPAddress", "203.0.113.9/032", "is not an IPv4 or IPv6 address"),
        ("IPAddress", "fe80::1%eth0", "is not an IPv4 or IPv6 address"),
        ("IPAddress", "2001:db8::9%1", "is not an IPv4 or IPv6 address"),
        (CIDR, "203.0.113.0/255.255.255.0", "is not an IPv4 or IPv6 address"),
        (CIDR, "203.0.113.0/0.0.0.255", "is not an IPv4 or IPv6 address"),
        ("IPAddress", "nonsense", "is not an IPv4 or IPv6 address"),
    ],
)
def test_address_that_is_none_says_what_to_write(type_: str, value: str, words: str) -> None:
    """A value that cannot be an address is a sentence with the fix, never an exception."""
    found = parse_prefix(AddressSpec(type_, value))
    assert isinstance(found, Malformed)
    assert words in found.message


def test_index_of_claims_leaves_malformed_ones_out() -> None:
    """One bad address of a route hides none of the others from its rivals."""
    specs = [AddressSpec("IPAddress", value) for value in ("nonsense", "203.0.113.9")]
    assert well_formed(specs) == (ip_network("203.0.113.9/32"),)


@pytest.mark.parametrize(
    "value",
    [
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0",
        "127.1.2.3",
        "126.0.0.0/7",
        "169.254.1.1",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:203.0.113.9",
        "fe80::1",
        "fe00::/8",
        "ff02::1",
    ],
)
def test_special_address_is_never_usable(value: str) -> None:
    """Loopback, link-local, multicast, the unspecified address and a default route, and what overlaps them."""
    assert never_usable(ip_network(value)) is not None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("::ffff:203.0.113.9", "203.0.113.9 is written as an IPv4-mapped IPv6 address; write 203.0.113.9 itself"),
        (
            "::ffff:203.0.113.0/120",
            "203.0.113.0/24 is written as an IPv4-mapped IPv6 address; write 203.0.113.0/24 itself",
        ),
        (
            "::ffff:0:0/95",
            "::fffe:0:0/95 overlaps IPv4 addresses mapped into IPv6; write narrower prefixes that leave it out",
        ),
        ("fe00::/7", "fe00::/7 overlaps link-local; write narrower prefixes that leave it out"),
        ("127.0.0.0/8", "127.0.0.0/8 is loopback; write a unicast address that is routed in your network"),
    ],
)
def test_never_usable_address_is_told_what_it_is(value: str, why: str) -> None:
    """What lies in a special range is of it, what is wider overlaps it; IPv4 in the clothes of IPv6 is told apart."""
    assert never_usable(ip_network(value, strict=False)) == why


@pytest.mark.parametrize("value", ["203.0.113.9", "10.0.0.0/8", "126.0.0.0/8", "2001:db8::/64", "fd00::1"])
def test_ordinary_address_is_usable(value: str) -> None:
    """The list of special ranges takes nothing else."""
    assert never_usable(ip_network(value)) is None


def test_addresses_are_shown_and_sorted_as_people_do() -> None:
    """A network of one is written as an address; IPv4 comes first and a wider prefix before what is in it."""
    found = [ip_network(each) for each in ("2001:db8::9", "203.0.113.9", "203.0.113.8/29", "203.0.113.8")]
    assert [show(each) for each in sorted(found, key=sort_key)] == [
        "203.0.113.8/29",
        "203.0.113.8",
        "203.0.113.9",
        "2001:db8::9",
    ]


def test_families_never_overlap() -> None:
    """Equal numbers of two families are two addresses."""
    assert not is_overlapping(ip_network("0.0.0.9"), ip_network("::9"))
    assert overlap([ip_network("::9")], [ip_network("0.0.0.9")]) is None
    assert parse_ip("nonsense") is None
    assert parse_ip("::9") == ip_address("::9")


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        (Requirement("a", "Sometimes"), "is unknown"),
        (Requirement("a", "In"), "needs values"),
        (Requirement("a", "NotIn"), "needs values"),
        (Requirement("a", "Exists", ("b",)), "takes no values"),
        (Requirement("a", "DoesNotExist", ("b",)), "takes no values"),
        (Requirement("a b", "Exists"), "key 'a b' is no label's key"),
        (Requirement("a", "In", ("b", "c!")), "value 'c!' of key 'a' is no label's value"),
    ],
)
def test_selector_that_the_api_would_refuse_is_named(requirement: Requirement, words: str) -> None:
    """A fault of a selector is a sentence."""
    fault = LabelSelector((), (Requirement("fine", "Exists"), requirement)).fault()
    assert fault is not None
    assert words in fault


@pytest.mark.parametrize(
    ("key", "value", "is_fine"),
    [
        ("app.kubernetes.io/name", "web-1", True),
        ("a" * 63, "v" * 63, True),
        ("d" * 253 + "/a", "", True),
        ("a" * 64, "v", False),
        ("d" * 254 + "/a", "v", False),
        ("", "v", False),
        ("/a", "v", False),
        ("a/b/c", "v", False),
        ("Upper.example/a", "v", False),
        ("a.-b/c", "v", False),
        ("a", "v" * 64, False),
        ("a", "-v", False),
        ("a", "x y!", False),
        ("a", "v\n", False),
    ],
)
def test_label_that_no_pod_can_have_is_a_fault_of_the_selector(key: str, value: str, *, is_fine: bool) -> None:
    """Keys and values are judged as Kubernetes judges those of labels."""
    assert (LabelSelector(((key, value),)).fault() is None) is is_fine


def test_every_fault_of_a_selector_is_told() -> None:
    """Who mends one fault is not told of the next only then."""
    fault = LabelSelector((("", "x"),), (Requirement("a", "Exists", ("b",)), Requirement("b c", "Some"))).fault()
    assert fault is not None
    for words in ("key '' is", "operator Exists of key 'a'", "key 'b c' is", "operator 'Some'"):
        assert words in fault


def test_unknown_operator_matches_nothing() -> None:
    """What cannot be understood selects no Pod."""
    assert not Requirement("a", "Sometimes").matches({"a": "b"})


def test_condition_keeps_its_time_until_the_status_changes() -> None:
    """A new reason or message is no transition; those of others stay; the time is in whole seconds."""
    present = (
        Condition(type="Ready", status="True", reason="Ready", last_transition_at=5),
        Condition(type="Other", status="True", reason="X", last_transition_at=1),
    )
    wanted = Condition(type="Ready", status="True", reason="Else", message="m", observed_generation=1)
    merged = merge_conditions(present, [wanted], now=9.7)
    assert find_condition(merged, "Ready") == attrs.evolve(wanted, last_transition_at=5)
    assert find_condition(merged, "Other") == present[1]
    turned = merge_conditions(present, [attrs.evolve(wanted, status="False")], now=9.7)
    assert find_condition(turned, "Ready").last_transition_at == 9  # type: ignore[union-attr]
    assert find_condition(turned, "Missing") is None


def test_condition_of_a_newer_generation_stays() -> None:
    """What was said of a newer spec is never turned back, and of the same one it is."""
    present = (Condition(type="Ready", status="True", reason="Ready", observed_generation=3),)
    older = Condition(type="Ready", status="False", reason="X", observed_generation=2)
    assert merge_conditions(present, [older], now=9) == present
    same = attrs.evolve(older, observed_generation=3)
    assert merge_conditions(present, [same], now=9)[0].status == "False"


def test_names_fit_and_tell_apart() -> None:
    """Hashes are 26 letters of base32, by the path of the whole name."""
    assert short_hash("tenant/web") == short_hash("tenant/web") != short_hash("tenant/web2")
    assert len(short_hash("x")) == 26
    assert len(node_label("n" * 253).split("/")[1]) == 26
    assert attachment_key(ObjectKey(Kind.ROUTE, "a", "b-c")) != attachment_key(ObjectKey(Kind.ROUTE, "a-b", "c"))


def test_key_is_written_as_people_do() -> None:
    """Kind and path; a cluster-scoped object has no namespace to show."""
    assert str(ObjectKey(Kind.ROUTE, "tenant", "web")) == "GKEIPRoute tenant/web"
    assert str(ObjectKey(Kind.NODE, "", "a")) == "Node a"


def test_version_alone_makes_no_difference() -> None:
    """A change that no decision reads costs none."""
    assert ObjectMeta(name="a", resource_version="1") == ObjectMeta(name="a", resource_version="2")
    assert ObjectMeta(name="a", uid="1") != ObjectMeta(name="a", uid="2")


def test_view_without_a_pod_or_node_is_the_cluster_after_it() -> None:
    """What-if views lack exactly what is asked away."""
    world = World()
    world.put(pod("x", "a"), pod("yy", "b"), route())
    view = world.view()
    assert [each.meta.name for each in view.without_pod("x").pods] == ["yy"]
    assert [each.meta.name for each in view.without_node("b").pods] == ["x"]
    assert "b" not in view.without_node("b").nodes
    assert view.without_node("a").nodes == {"b": view.nodes["b"]}


def test_pod_gives_the_first_ip_of_each_family_asked_for() -> None:
    """Families that it lacks are left out, and IPv4 comes first."""
    found = pod("x", "a", ips=tuple(map(ip_address, ("fd00::1", "10.0.0.1", "10.0.0.2"))))
    assert found.ips_of({6, 4}) == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert found.ips_of({4}) == (ip_address("10.0.0.1"),)
    assert pod("x", "a", ips=()).ips_of({4}) == ()


@pytest.mark.parametrize("name", ["", "default", "pod-network"])
def test_default_network_has_three_names(name: str) -> None:
    """GKE's older name and none at all mean the same network."""
    assert route("web", network=name).network_name == "default"
    assert route("web", network="blue").network_name == "blue"


def test_node_is_another_under_another_uid() -> None:
    """A node made again with the same name is not the same value."""
    assert node("a") != node("a", uid="again")


@pytest.mark.parametrize(
    ("requirement", "labels"),
    [
        (Requirement("a", "In", ("x", "y")), [{"a": "x"}, {"a": "y"}]),
        (Requirement("a", "NotIn", ("x", "y")), [{"a": "z"}, {}]),
        (Requirement("a", "Exists"), [{"a": "x"}, {"a": "y"}, {"a": "z"}]),
        (Requirement("a", "DoesNotExist"), [{}]),
    ],
)
def test_operator_matches_as_documented(requirement: Requirement, labels: list[dict[str, str]]) -> None:
    """Each operator of a selector takes these of four Pods and no other."""
    pods: list[dict[str, str]] = [{"a": "x"}, {"a": "y"}, {"a": "z"}, {}]
    selector = LabelSelector((), (requirement,))
    assert selector.fault() is None
    taken = [each for each in pods if selector.matches(each)]
    assert taken == labels


def test_selector_reads_as_kubectl_writes_it() -> None:
    """Messages show what a selector asks for on one line."""
    selector = LabelSelector((("app", "web"),), (Requirement("tier", "In", ("a", "b")), Requirement("old", "Exists")))
    assert str(selector) == "app=web, tier In (a, b), old Exists"
    assert str(LabelSelector()) == "an empty selector"
