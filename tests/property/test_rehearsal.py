"""A cluster at rest: the same in any order of its objects, quiet, and the same again when it is fed back."""

import random

import attrs
from cluster_strategies import clusters
from hypothesis import given
from hypothesis import strategies as st
from world import T0

from persistip.model.address import is_overlapping
from persistip.model.attachment import AddressAttachment
from persistip.model.keys import Kind, ObjectKey
from persistip.runtime.rehearsal import Rehearsal, Settled
from persistip.runtime.standins import complete
from persistip.strategies import ClusterObject

Cluster = dict[ObjectKey, ClusterObject]


def settled(cluster: Cluster, now: float = T0) -> Settled:
    """Return the cluster at rest, as the command line makes it."""
    return Rehearsal(complete(cluster.values(), now=now).objects.values(), now=now).settle()


def attachments(at_rest: Settled) -> list[AddressAttachment]:
    """Return the attachments that stand in the end."""
    return [each for each in at_rest.objects.values() if isinstance(each, AddressAttachment)]


@given(clusters(), st.randoms(use_true_random=False))
def test_any_order_of_objects_comes_to_the_same(cluster: Cluster, shuffle: random.Random) -> None:
    """The order in which objects are handed over changes nothing of the outcome."""
    items = list(cluster.items())
    shuffle.shuffle(items)
    assert settled(dict(items)) == settled(cluster)


@given(clusters())
def test_cluster_at_rest_fed_back_stays_as_it_is(cluster: Cluster) -> None:
    """What has settled is at rest, also for a controller that starts on it later and knows nothing else."""
    once = settled(cluster)
    again = settled(dict(once.objects), now=T0)
    assert again.objects == once.objects


@given(clusters(), st.sampled_from("ab"))
def test_cluster_without_a_node_settles_too(cluster: Cluster, node_name: str) -> None:
    """Whatever node goes, nothing is left pending or releasing there, and no two attachments share an address."""
    rehearsal = Rehearsal(complete(cluster.values(), now=T0).objects.values(), now=T0)
    rehearsal.settle()
    rehearsal.without_node(node_name)
    found = attachments(rehearsal.settle())
    for each in found:
        concerned = {release.node_name for release in each.spec.releasing}
        assert node_name not in concerned | ({each.spec.holder.node_name} if each.spec.holder else set())
        assert not any(address.pending for address in each.spec.addresses)
    held = [(each.meta.name, prefix) for each in found for prefix in each.spec.held_prefixes]
    shared = [(a, b) for a in held for b in held if a[0] < b[0] and is_overlapping(a[1], b[1])]
    # What the files say was already so stays so: the rehearsal is no judge of a broken past.
    past = {each.meta.name for each in cluster.values() if isinstance(each, AddressAttachment)}
    assert [pair for pair in shared if not {pair[0][0], pair[1][0]} <= past] == []


@given(clusters())
def test_objects_without_uid_get_one_that_is_always_the_same(cluster: Cluster) -> None:
    """Plain manifests are completed alike in every run, and each object by a UID of its own."""
    plain = {key: attrs.evolve(each, meta=attrs.evolve(each.meta, uid="")) for key, each in cluster.items()}
    completed = complete(plain.values(), now=T0).objects
    assert completed == complete(reversed(list(plain.values())), now=T0).objects
    routes = [each.meta.uid for key, each in completed.items() if key.kind is Kind.ROUTE]
    assert all(routes)
    assert len(set(routes)) == len(routes)
