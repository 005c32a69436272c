"""Indexes and selectors against a reading that looks at everything."""

from ipaddress import IPv4Network, IPv6Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from persistip.decide.multimap import Multimap
from persistip.decide.podindex import PodIndex
from persistip.decide.prefixes import ContestIndex, PrefixIndex
from persistip.model.address import Prefix, is_overlapping, is_within
from persistip.model.keys import ObjectMeta
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.selector import LabelSelector, Operator, Requirement
from persistip.model.spans import Spans

WORDS = ("a", "b", "cc")
labels = st.dictionaries(st.sampled_from(WORDS), st.sampled_from(WORDS), max_size=3)
requirements = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from(WORDS),
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(tuple),
    ),
    st.builds(Requirement, st.sampled_from(WORDS), st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST])),
)
selectors = st.builds(
    LabelSelector,
    st.dictionaries(st.sampled_from(WORDS), st.sampled_from(WORDS), max_size=2).map(lambda d: tuple(sorted(d.items()))),
    st.lists(requirements, max_size=2).map(tuple),
)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """A prefix out of few enough that overlaps of every kind are common."""
    if draw(st.booleans()):
        length, base, width = draw(st.sampled_from([0, 24, 28, 31, 32])), int(ip_network("203.0.113.0/24")[0]), 32
    else:
        length, base, width = draw(st.sampled_from([0, 64, 126, 128])), int(ip_network("2001:db8::/64")[0]), 128
    value = base + draw(st.integers(0, 31))
    mask = ((1 << length) - 1) << (width - length)
    network = IPv4Network if width == 32 else IPv6Network
    return network((value & mask, length))


def brute_match(selector: LabelSelector, found: dict[str, str]) -> bool:
    """Kubernetes' documentation of the operators, word by word."""
    holds = [key in found and found[key] == value for key, value in selector.match_labels]
    for each in selector.match_expressions:
        if each.operator == "In":
            holds.append(each.key in found and found[each.key] in each.values)
        elif each.operator == "NotIn":
            holds.append(each.key not in found or found[each.key] not in each.values)
        elif each.operator == "Exists":
            holds.append(each.key in found)
        else:
            holds.append(each.key not in found)
    return all(holds)


@given(selectors, labels)
def test_selector_matches_as_documented(selector: LabelSelector, found: dict[str, str]) -> None:
    """A selector of any operators agrees with a reading of each alone."""
    assert selector.fault() is None
    assert selector.matches(found) == brute_match(selector, found)


@given(prefixes(), prefixes())
def test_overlap_is_sharing_an_address(one: Prefix, other: Prefix) -> None:
    """Two prefixes overlap when their ranges of addresses do, and one lies within when its range does."""
    ranges = [(p.version, int(p.network_address), int(p.broadcast_address)) for p in (one, other)]
    (family, low, high), (other_family, other_low, other_high) = ranges
    assert is_overlapping(one, other) == (family == other_family and low <= other_high and other_low <= high)
    assert is_within(one, other) == (family == other_family and other_low <= low and high <= other_high)


@given(st.lists(st.tuples(st.booleans(), prefixes(), st.sampled_from("xyz"))), st.lists(prefixes(), max_size=3))
def test_prefix_index_equals_brute_force(changes: list[tuple[bool, Prefix, str]], asked: list[Prefix]) -> None:
    """After any additions and removals the index names the keys that a look at all of them finds."""
    index: PrefixIndex[str] = PrefixIndex()
    present: set[tuple[Prefix, str]] = set()
    for is_added, prefix, key in changes:
        (index.add if is_added else index.discard)(prefix, key)
        (present.add if is_added else present.discard)((prefix, key))
    expected = {key for prefix, key in present if any(is_overlapping(prefix, each) for each in asked)}
    assert index.overlapping_any(asked) == expected


@given(st.lists(st.tuples(st.booleans(), prefixes(), st.sampled_from("xyz"))))
def test_contested_keys_are_those_that_overlap_another(changes: list[tuple[bool, Prefix, str]]) -> None:
    """After any additions and removals it is told of which keys a prefix overlaps one of another key."""
    index: ContestIndex[str] = ContestIndex()
    present: set[tuple[Prefix, str]] = set()
    for is_added, prefix, key in changes:
        if is_added == ((prefix, key) in present):
            continue
        (index.add if is_added else index.discard)(prefix, key)
        (present.add if is_added else present.discard)((prefix, key))
    pairs = ((one, two) for one in present for two in present if one[1] != two[1])
    assert index.contested == {one[1] for one, two in pairs if is_overlapping(one[0], two[0])}


@given(st.lists(prefixes(), max_size=8), prefixes())
def test_spans_find_the_first_that_overlaps(given: list[Prefix], asked: Prefix) -> None:
    """Of fixed prefixes, nested and doubled ones among them, the first in their order is found, or none."""
    expected = next((each for each in given if is_overlapping(each, asked)), None)
    assert Spans(given).first_overlap(asked) == expected


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("kl"), st.sampled_from("xyz"))))
def test_multimap_equals_sets(changes: list[tuple[bool, str, str]]) -> None:
    """After any additions and removals each key has the values that sets would have, and an empty one is forgotten."""
    index: Multimap[str, str] = Multimap()
    present: set[tuple[str, str]] = set()
    for is_added, key, value in changes:
        (index.add if is_added else index.discard)(key, value)
        (present.add if is_added else present.discard)((key, value))
        for asked in "kl":
            assert sorted(index.get(asked)) == sorted(value for key, value in present if key == asked)
    assert index.keys() == {key for key, _ in present}
    assert bool(index) == bool(present)
    assert index.union("kl") == {value for _, value in present}


def pods() -> st.SearchStrategy[Pod]:
    """Pods of two namespaces, few names, on two nodes or none."""
    return st.builds(
        lambda name, namespace, found, node: Pod(
            meta=ObjectMeta(name=name, namespace=namespace, uid=f"{namespace}-{name}", labels=found), node_name=node
        ),
        st.sampled_from("pqr"),
        st.sampled_from(["one", "two"]),
        labels,
        st.sampled_from(["", "n1", "n2"]),
    )


def routes() -> st.SearchStrategy[GKEIPRoute]:
    """Routes of two namespaces, few names."""
    return st.builds(
        lambda name, namespace, selector: GKEIPRoute(
            meta=ObjectMeta(name=name, namespace=namespace), pod_selector=selector
        ),
        st.sampled_from("fgh"),
        st.sampled_from(["one", "two"]),
        selectors,
    )


@given(st.lists(st.tuples(st.booleans(), st.one_of(pods(), routes())), max_size=20))
def test_pod_index_equals_brute_force(changes: list[tuple[bool, Pod | GKEIPRoute]]) -> None:
    """Whatever came, changed and went: the same Pods for each route and the same routes for each Pod."""
    index = PodIndex()
    present: dict[object, Pod | GKEIPRoute] = {}
    for is_added, each in changes:
        old = present.pop(each.key, None)
        if is_added:
            present[each.key] = each
        if isinstance(each, Pod):
            if old is not None or is_added:
                index.replace(each.key, old, present.get(each.key))
            continue
        if isinstance(old, GKEIPRoute):
            index.unwatch(old)
        if is_added:
            index.watch(each)
    found_pods = [each for each in present.values() if isinstance(each, Pod)]
    found_routes = [each for each in present.values() if isinstance(each, GKEIPRoute)]

    def belong(route: GKEIPRoute, pod: Pod) -> bool:
        same = route.meta.namespace == pod.meta.namespace
        return same and brute_match(route.pod_selector, dict(pod.meta.labels))

    for route in found_routes:
        assert {pod.key for pod in index.matching(route)} == {pod.key for pod in found_pods if belong(route, pod)}
    for pod in found_pods:
        assert index.routes_of(pod) == {route.key for route in found_routes if belong(route, pod)}
    for node in ("n1", "n2"):
        assert {pod.key for pod in index.on_node(node)} == {pod.key for pod in found_pods if pod.node_name == node}
