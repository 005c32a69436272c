"""Which Pods may hold: IPs that two claim, nodes that are suspect, and what is said of Pods that may not."""

from ipaddress import ip_address

import attrs
import pytest
from world import World, holder, node, pod, route

from persistip.decide.holder import select_holder
from persistip.decide.suspects import NAME, recorded
from persistip.model.attachment import How
from persistip.model.gateway import ConfigMap
from persistip.model.keys import Kind, ObjectKey, ObjectMeta
from persistip.model.pod import Pod
from persistip.model.views import Policy
from persistip.strategies import Batch

FOUR = frozenset({4})


def heir(found: Pod, name: str = "heir", namespace: str = "other", **changes: object) -> Pod:
    """Another Pod with the IPs of *found*, which no route selects."""
    meta = ObjectMeta(name=name, namespace=namespace, uid=f"pod-{name}")
    return attrs.evolve(found, meta=meta, **changes)


def suspects(**entries: str) -> ConfigMap:
    """The record of suspects."""
    return ConfigMap(ObjectMeta(name=NAME, namespace="persistip-system", uid="suspects"), tuple(entries.items()))


def test_ip_that_two_pods_claim_is_neithers() -> None:
    """Nobody can say whose packets they are; the message names both Pods, and it ends with the other's end."""
    world = World()
    web = pod("x", "a")
    world.put(web, heir(web), route())
    world.settle()
    assert world.condition("DPV2Ready") == ("False", "PodIPConflict")
    assert "Pod other/heir and Pod x both claim IP 10.0.1.11, so nobody" in world.message("DPV2Ready")
    world.drop(heir(web))
    world.settle()
    assert holder(world) == "x"


def test_holder_keeps_an_ip_that_another_claims_later() -> None:
    """Whoever comes second takes nothing away; another eligible Pod still takes over in order, and the old delivers."""
    world = World()
    web = pod("x", "a", age=50)
    world.put(web, route())
    world.settle()
    world.put(heir(web))
    assert world.settle().actions == ()
    assert holder(world) == "x"
    world.put(pod("yy", "b"))
    world.step()
    assert holder(world) == "yy"
    assert world.step().actions == ()
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.AFTER_READY]


def test_holder_whose_ip_becomes_anothers_does_not_keep_that() -> None:
    """A holder keeps the IP for which it holds, not one that it shows later and that is another Pod's."""
    world = World()
    other = heir(pod("x", "b"))
    world.put(pod("x", "a"), other, route())
    world.settle()
    assert holder(world) == "x"
    world.put(pod("x", "a", ips=other.ips))
    world.settle()
    assert holder(world) is None
    assert world.condition("DPV2Ready") == ("False", "PodIPConflict")


def test_conflict_in_a_family_that_is_not_asked_for_is_none() -> None:
    """Only IPs to which something would be sent count."""
    world = World()
    web = pod("x", "a")
    world.put(web, heir(web, ips=web.ips[1:]), route())
    world.settle()
    assert holder(world) == "x"


def test_many_conflicts_are_counted_and_one_is_told() -> None:
    """A message has an end, however many Pods there are."""
    world = World()
    pods = [pod("x", "a"), pod("yy", "b")]
    world.put(*pods, *(heir(each, name=f"heir-{each.meta.name}") for each in pods), route())
    world.settle()
    assert "both claim IP 10.0.1.11 (and 1 more like it)" in world.message("DPV2Ready")


def test_view_without_the_other_claimant_has_no_conflict() -> None:
    """What if that Pod, or its node, were gone?"""
    world = World()
    web = pod("x", "a")
    world.put(web, heir(web, name="y", namespace="tenant", node_name="b"), route())
    view = world.view()
    assert select_holder(view, FOUR).pod is None
    for other in (view.without_node("b"), view.without_pod("y")):
        assert select_holder(other, FOUR).pod == web
        assert other.doubled_ips == {}
    assert view.without_node("c").doubled_ips == view.doubled_ips


def test_suspect_node_loses_its_holder_now() -> None:
    """A recorded node has no candidates, and its holder's release waits for nothing but the node."""
    world = World()
    world.put(pod("x", "a"), pod("yy", "b", age=50), route())
    world.settle()
    assert holder(world) == "x"
    world.put(suspects(a="node-a since noon"))
    world.step()
    assert holder(world) == "yy"
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]
    world.put(suspects())
    world.settle()
    assert holder(world) == "x", "after the hold-down it is a node like any other"


def test_suspect_turns_after_ready_into_now() -> None:
    """A node that is recorded in the middle of a planned move is not waited for."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    world.put(attrs.evolve(pod("x", "a", age=50), meta=attrs.evolve(pod("x", "a").meta, deleted_at=1.0)))
    world.put(pod("yy", "b"))
    world.step()
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.AFTER_READY]
    world.put(suspects(a="node-a"))
    world.step()
    assert [entry.how for entry in world.attachment().spec.releasing] == [How.NOW]


@pytest.mark.parametrize("entry", ["", "node-a-of-before since noon"])
def test_suspicion_is_of_one_node_and_not_of_its_name(entry: str) -> None:
    """A node made again is another; a word that nobody can read accuses nobody."""
    world = World()
    world.put(suspects(a=entry), pod("x", "a"), route())
    world.settle()
    assert holder(world) == "x"
    world.put(suspects(a="node-a"))
    assert select_holder(world.view(), FOUR).refused == (("is on Node a, which is suspected dead", 1),)
    assert world.view().without_node("a").suspects == frozenset()
    world.put(node("a", uid="again"))
    assert select_holder(world.view(), FOUR).pod is not None


def test_suspects_are_read_where_the_system_lives() -> None:
    """The namespace is a setting; a ConfigMap of the name elsewhere is a tenant's, and means nothing."""
    world = World()
    world.put(suspects(a="node-a"), pod("x", "a"))
    world.drop(suspects())
    tenants = attrs.evolve(suspects(a="node-a"), meta=ObjectMeta(name=NAME, namespace="tenant", uid="u"))
    world.put(tenants, route())
    world.settle()
    assert holder(world) == "x"
    world.catalog.policy = Policy()
    assert recorded(None) == {}


def test_suspects_that_cannot_be_read_stay_what_they_were() -> None:
    """Neither present nor gone: what was recorded last goes on holding."""
    world = World()
    world.put(pod("x", "a"), route(), suspects(a="node-a"))
    world.settle()
    world.catalog.update(Batch(unreadable={ObjectKey(Kind.CONFIG_MAP, "persistip-system", NAME): "data: broken"}))
    assert world.view().suspects == {"a"}
    world.settle()
    assert world.condition("DPV2Ready") == ("False", "NoEligiblePod")


def test_pod_without_ip_is_named_with_its_node_and_what_it_lacks() -> None:
    """With Exists a Pod is chosen before it has an IP: who waits, where, and for which."""
    world = World()
    bare = pod("x", "a", ips=(ip_address("fd00::1"),), ready=False)
    world.put(bare, route(reaction_mode="Exists"))
    world.settle()
    assert world.message("DPV2Ready").startswith(
        "Pod x on Node a has no IPv4 address yet; give it an IPv4 address, or let the route list IPv6 addresses "
        "only; before: nobody; rule: newest"
    )
    world.put(pod("yy", "b", node_name="", ips=()))
    world.settle()
    assert world.message("DPV2Ready").startswith(
        "Pod x on Node a has no IPv4 address yet; of 1 other Pod none is eligible;"
    )
    world.put(pod("zzz", "b", node_name="", ips=()))
    world.settle()
    assert "; of 2 other Pods none is eligible;" in world.message("DPV2Ready")


def test_reasons_are_counted_the_commonest_first_and_bounded() -> None:
    """A thousand nodes that are gone do not make a message of a thousand words."""
    world = World()
    pods = [pod(f"p{number}", "a", node_name=f"gone-{number}") for number in range(9)]
    world.put(*pods, pod("u1", "a", ready=False), pod("u2", "b", ready=False), route())
    world.settle()
    said = world.message("DPV2Ready")
    assert said.startswith("11 Pods match spec.podSelector, none may hold the addresses: 2 are not Ready, 1 is on Node")
    assert said.endswith("2 kinds more")
