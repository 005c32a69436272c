"""The indexes one by one: what they answer when little or nothing stands in them."""

from ipaddress import ip_network

from persistip.decide.multimap import Multimap
from persistip.decide.podindex import PodIndex
from persistip.decide.prefixes import ContestIndex, PrefixIndex
from persistip.model.selector import LabelSelector, Requirement
from persistip.testing.builders import pod, route, selector


def test_multimap_of_one_value_becomes_a_set_and_back() -> None:
    """A second value makes a set, the same one again does not, and the last one stands by itself again."""
    index: Multimap[str, int] = Multimap()
    index.add("k", 1)
    index.add("k", 1)
    assert list(index.get("k")) == [1]
    index.add("k", 2)
    index.add("k", 3)
    assert set(index.get("k")) == {1, 2, 3}
    index.discard("k", 3)
    index.discard("k", 1)
    assert list(index.get("k")) == [2]
    assert index


def test_multimap_without_the_value_stays_as_it_is() -> None:
    """What is not there can be taken away, also where another value stands, and an empty index is false."""
    index: Multimap[str, int] = Multimap()
    index.discard("k", 1)
    assert not index
    index.add("k", 1)
    index.discard("k", 2)
    assert list(index.get("k")) == [1]
    assert index.keys() == {"k"}


def test_prefix_index_without_the_prefix_stays_as_it_is() -> None:
    """A prefix that is not there can be taken away, also where its length is in use."""
    index: PrefixIndex[str] = PrefixIndex()
    index.discard(ip_network("192.0.2.1"), "x")
    assert not index
    index.add(ip_network("192.0.2.1"), "x")
    index.discard(ip_network("192.0.2.2"), "x")
    assert index.overlapping_any([ip_network("192.0.2.0/24")]) == {"x"}


def test_contest_is_over_when_the_last_overlap_goes() -> None:
    """Two keys contest while any of their prefixes overlap; a key's own prefixes contest nothing."""
    index: ContestIndex[str] = ContestIndex()
    wide, one, two = (ip_network(text) for text in ("192.0.2.0/24", "192.0.2.1", "192.0.2.2"))
    index.add(wide, "x")
    index.add(one, "x")
    assert not index.contested
    index.add(one, "y")
    index.add(two, "y")
    assert index.contested == {"x", "y"}
    index.discard(one, "y")
    assert index.contested == {"x", "y"}
    index.discard(wide, "x")
    assert not index.contested


def test_pods_are_found_by_the_rarest_label_that_a_selector_names() -> None:
    """Of the labels that it names all must match, whichever is looked up; one that no route names is no matter."""
    index = PodIndex()
    labels = [{"app": "nat", "tier": "front", "shard": str(number), "zone": "b"} for number in range(3)]
    found = [pod(f"nat-{number}", labels=each) for number, each in enumerate(labels)]
    for each in found:
        index.replace(each.key, None, each)
    narrow = route("narrow", pods=selector(app="nat", shard="1"))
    wide = route("wide", pods=LabelSelector((("app", "nat"),), (Requirement("tier", "Exists"),)))
    either = route("either", pods=LabelSelector((), (Requirement("shard", "In", ("0", "2", "2")),)))
    none = route("none", pods=LabelSelector((), (Requirement("tier", "DoesNotExist"),)))
    for claim in (narrow, wide, either, none):
        index.watch(claim)
    assert [each.meta.name for each in index.matching(narrow)] == ["nat-1"]
    assert {each.meta.name for each in index.matching(wide)} == {"nat-0", "nat-1", "nat-2"}
    assert {each.meta.name for each in index.matching(either)} == {"nat-0", "nat-2"}
    assert list(index.matching(none)) == []
    assert index.routes_of(found[1]) == {narrow.key, wide.key}


def test_routes_that_share_a_label_are_not_all_looked_at() -> None:
    """Of routes with a label in common and one of their own, each stands where the fewest others do."""
    index = PodIndex()
    for number in range(20):
        index.watch(route(f"r{number}", pods=selector(application="nat", shard=str(number))))
    column = index._columns["tenant"]["application"]
    assert len(column.routes.get("nat")) <= 1
    assert {key.name for key in index.routes_of(pod(labels={"application": "nat", "shard": "7"}))} == {"r7"}
