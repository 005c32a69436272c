"""What the cloud refuses, loses or forgets, and what others do in it, is told, outlived, and touches nobody else."""

import asyncio
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from compute_backend import EXTERNAL, OTHER, Project, attract, project

from persistip.errors import BackendError, RefusedError, RejectedError, UnavailableError
from persistip.model.cloud import CloudAction, CloudScope, CloudState, Sweep, Withdraw
from persistip.model.conditions import Reason
from persistip.testing.compute_engine import FaultKind, Instance, Quotas, add_instance, insert

pytestmark = [pytest.mark.requires("gce")]

ONE = EXTERNAL[:1]
VALUE = "198.51.100.5"
GONE = Withdraw(prefixes=(), route="tenant/web")


@pytest.fixture
def made() -> Iterator[Project]:
    """Return a project in which nothing of ours is."""
    with project() as found:
        yield found


def at(node: str) -> Any:
    """Return whether a state is that a node gets the packets."""
    return lambda state: state.ready and state.leader == node


async def failure(made: Project, allocator: Any, action: CloudAction) -> BackendError:
    """Ask for an action until it is refused; return with what."""
    for _ in range(5000):
        try:
            await allocator.apply(action)
        except BackendError as error:
            return error
        await asyncio.sleep(0.002)
    raise AssertionError("nothing is refused")


async def look(allocator: Any, action: CloudAction) -> CloudState:
    """Return what is seen of an action."""
    found = await allocator.observe(CloudScope(prefixes=action.prefixes, route=action.route))
    assert isinstance(found, CloudState)
    return found


async def test_packets_follow_the_leader(made: Project) -> None:
    """What stands is what the data plane does, before and after a move."""
    async with made.allocator() as allocator:
        await made.until(allocator, attract("a", nodes=("b",)), at("a"))
        assert made.plane.holder(VALUE) == {"a"}
        await made.until(allocator, attract("b", nodes=("a",)), at("b"))
        assert made.plane.holder(VALUE) == {"b"}


async def test_move_to_a_prepared_node_is_one_change(made: Project) -> None:
    """Traffic waits for a PATCH of the leader; one wait and one look come after it, and nothing else is asked."""
    async with made.allocator(resync_seconds=60) as allocator:
        await made.until(allocator, attract("a", nodes=("b",)), at("a"))
        await made.rest(allocator, attract("a", nodes=("b",)))
        before = sum(made.engine.calls.values())
        await made.until(allocator, attract("b", nodes=("a",)), at("b"))
        assert made.engine.calls_of("regionBackendServices.patch") == 1
        assert sum(made.engine.calls.values()) - before == 3


async def test_address_that_is_not_reserved_is_told_and_the_others_are_served(made: Project) -> None:
    """One bad address of a route costs the others nothing."""
    bad = attract("a", (*ONE, *OTHER, type(ONE[0])("198.51.100.99/32")))
    async with made.allocator() as allocator:
        refused = await failure(made, allocator, bad)
        assert isinstance(refused, RefusedError)
        assert refused.reason == Reason.ADDRESS_NOT_USABLE
        assert "198.51.100.99" in str(refused)
        assert made.plane.holder(VALUE) == {"a"}
        state = await look(allocator, bad)
        assert (state.ready, state.leader) == (False, "a")


async def test_internal_address_is_refused_for_an_external_class(made: Project) -> None:
    """An address of the other kind is told as such, and not tried."""
    async with made.allocator() as allocator:
        refused = await failure(made, allocator, attract("a", (type(ONE[0])("10.128.15.200/32"),)))
        assert isinstance(refused, RefusedError)
        assert "internal" in str(refused)
        assert not [link for link, _ in made.engine.state.all_of("forwardingRules")]


async def test_address_that_another_user_has_is_left_to_him(made: Project) -> None:
    """His rule is named in the message and stands as it stood; when he goes, the address is ours without a word."""
    zone = "projects/lab/zones/europe-west4-a"
    insert(
        made.engine,
        "targetInstances.insert",
        {"name": "his", "instance": f"{zone}/instances/a", "zone": "europe-west4-a"},
    )
    rule = {"name": "his-rule", "IPAddress": VALUE, "IPProtocol": "L3_DEFAULT", "allPorts": True}
    his = insert(made.engine, "forwardingRules.insert", {**rule, "target": f"{zone}/targetInstances/his"})
    async with made.allocator() as allocator:
        refused = await failure(made, allocator, attract("b", ONE))
        assert isinstance(refused, RefusedError)
        assert (refused.reason, "his-rule" in str(refused)) == (Reason.ADDRESS_NOT_USABLE, True)
        rules = {link.name: body for link, body in made.engine.state.all_of("forwardingRules")}
        assert rules == {"his-rule": his}


async def test_two_clusters_do_not_take_an_address_from_each_other(made: Project) -> None:
    """The second is told by whom it is used, and has it when the first lets go."""
    async with made.allocator("one") as one, made.allocator("two") as two:
        await made.until(one, attract("a", ONE), at("a"))
        refused = await failure(made, two, attract("b", ONE))
        assert isinstance(refused, RefusedError)
        assert refused.reason == Reason.ADDRESS_NOT_USABLE
        assert made.plane.holder(VALUE) == {"a"}
        await made.rest(one, GONE)
        await made.until(two, attract("b", ONE), at("b"))


async def test_name_of_ours_without_the_mark_is_not_touched(made: Project) -> None:
    """Whoever took the name before us keeps it, and the route says so."""
    async with made.allocator() as allocator:
        await made.until(allocator, attract("a", ONE), at("a"))
        names = made.left()
        await made.rest(allocator, GONE)
    firewall = next(name for name in names if name.endswith("-v4"))
    body = {
        "name": firewall,
        "description": "mine",
        "allowed": [{"IPProtocol": "tcp"}],
        "network": "global/networks/default",
    }
    insert(made.engine, "firewalls.insert", body)
    async with made.allocator() as allocator:
        refused = await failure(made, allocator, attract("a", ONE))
        assert firewall in str(refused)
        assert made.left() == [firewall]
        await made.rest(allocator, GONE)
        assert made.left() == [firewall]


@pytest.mark.parametrize("kind", ["forwardingRules", "firewalls"])
async def test_what_somebody_deletes_is_made_again(made: Project, kind: str) -> None:
    """The next look at the project finds it missing."""
    wanted = attract("a", ONE)
    async with made.allocator() as allocator:
        await made.until(allocator, wanted, at("a"))
        before = made.shown()
        for link, _ in list(made.engine.state.all_of(kind)):
            made.engine.state.commit(link, None, made.engine.clock.now())
        assert not (await look(allocator, wanted)).ready
        await made.until(allocator, wanted, at("a"))
        assert made.shown() == before


async def test_leader_that_somebody_changes_is_put_back(made: Project) -> None:
    """The fingerprint that we knew is stale by then, which costs another look and no more."""
    wanted = attract("a", ONE, nodes=("b",))
    async with made.allocator(resync_seconds=60) as allocator:
        await made.until(allocator, wanted, at("a"))
        async with made.allocator() as other:
            await made.until(other, attract("b", ONE, nodes=("a",)), at("b"))
        await made.until(allocator, attract("a", ONE, nodes=("b",)), at("a"))
        await made.until(allocator, attract("b", ONE, nodes=("a",)), at("b"))
        assert made.plane.holder(VALUE) == {"b"}


async def test_quota_half_way_is_told_and_taken_up_when_there_is_room() -> None:
    """What could be made stays, and the rest follows."""
    quotas = Quotas()
    with project(quotas=attrs.evolve(quotas, resources={**quotas.resources, "FORWARDING_RULES": 1})) as made:
        async with made.allocator() as allocator:
            refused = await failure(made, allocator, attract("a"))
            assert isinstance(refused, RefusedError)
            assert (refused.reason, "FORWARDING_RULES" in str(refused)) == (Reason.QUOTA_EXCEEDED, True)
            made.engine.quotas = quotas
            await made.until(allocator, attract("a"), at("a"))


async def test_permission_lost_half_way_is_told_in_the_words_of_the_api(made: Project) -> None:
    """When it is given again nothing else is needed."""
    made.engine.faults.add(FaultKind.FORBIDDEN, "regionBackendServices.insert", times=None)
    async with made.allocator() as allocator:
        refused = await failure(made, allocator, attract("a"))
        assert isinstance(refused, RefusedError)
        assert refused.reason == Reason.PERMISSION_DENIED
        assert "compute.backendServices.create" in str(refused) or "permission" in str(refused)
        made.engine.clear_faults()
        await made.until(allocator, attract("a"), at("a"))


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.LOST_REPLY,
        FaultKind.DUPLICATE,
        FaultKind.UNAVAILABLE,
        FaultKind.BAD_GATEWAY,
        pytest.param(FaultKind.BROKEN_BODY, marks=pytest.mark.unjudged("the answers are broken on purpose")),
        FaultKind.EARLY_WAIT,
        FaultKind.DONE_WITH_ERROR,
    ],
)
async def test_route_comes_to_stand_whatever_befalls_single_calls(made: Project, kind: FaultKind) -> None:
    """Each kind of change and each wait meets the fault once."""
    for verb in ("insert", "attachNetworkEndpoints", "patch", "delete", "wait"):
        made.engine.faults.add(kind, f"*.{verb}", times=2)
    async with made.allocator() as allocator:
        for action, is_so in (
            (attract("a"), at("a")),
            (attract("b"), at("b")),
            (GONE, lambda state: not state.owned),
        ):
            for _ in range(20):
                try:
                    await made.until(allocator, action, is_so)
                    break
                except UnavailableError:
                    await made.sleep(1.0)
            else:
                raise AssertionError(action)
    assert made.left() == []
    if kind is FaultKind.BROKEN_BODY:
        # The test's own doing, and the only faults that there are.
        made.judge.faults[:] = [fault for fault in made.judge.faults if "no JSON" not in fault]


async def test_region_that_cannot_be_listed_is_not_taken_for_empty(made: Project) -> None:
    """Nothing is concluded from a list in which a zone is missing."""
    async with made.allocator() as allocator:
        await made.until(allocator, attract("a", ONE), at("a"))
        made.engine.faults.add(FaultKind.UNREACHABLE, "networkEndpointGroups.aggregatedList", times=None)
        with pytest.raises(UnavailableError, match="europe-west4"):
            await look(allocator, attract("a", ONE))
        made.engine.clear_faults()
        assert (await look(allocator, attract("a", ONE))).ready


async def test_too_many_calls_wait_for_the_next_minute(made: Project) -> None:
    """The whole client waits, and then goes on where it was."""
    made.engine.faults.add(FaultKind.RATE_LIMIT, "regionBackendServices.insert")
    began = made.engine.clock.now()
    async with made.allocator() as allocator:
        refused = await failure(made, allocator, attract("a", ONE))
        assert not isinstance(refused, RefusedError | RejectedError)
        await made.until(allocator, attract("a", ONE), at("a"))
    assert made.engine.clock.now() // 60 > began // 60


async def test_more_operations_than_can_be_waited_for_are_told_by_lists(made: Project) -> None:
    """A dozen routes at once come to stand, and most of their ends are learned from lists."""
    for number in range(20, 32):
        insert(made.engine, "addresses.insert", {"name": f"extra-{number}", "address": f"198.51.100.{number}"})
    async with made.allocator(resync_seconds=60) as allocator:
        singles = {number: type(ONE[0])(f"198.51.100.{number}/32") for number in range(20, 32)}
        wishes = [attract("a", (single,), route=f"tenant/r{number}") for number, single in singles.items()]
        await asyncio.gather(*(made.until(allocator, wish, at("a")) for wish in wishes))
    assert made.engine.calls_of("regionOperations.list") + made.engine.calls_of("zoneOperations.list") > 0


async def test_node_without_a_machine_is_told(made: Project) -> None:
    """It is named, and when there is one the route follows."""
    async with made.allocator() as allocator:
        refused = await failure(made, allocator, attract("z", ONE))
        assert "no instance z" in str(refused)
        add_instance(made.engine, Instance(name="z", zone="europe-west4-b", ip="10.128.0.99"))
        await made.until(allocator, attract("z", ONE), at("z"))


async def test_internal_route_with_global_access_can_lose_it_again(made: Project) -> None:
    """It is patched, without a hole."""
    inside = (type(ONE[0])("10.128.15.200/32"),)
    async with made.allocator() as allocator:
        for access in (True, False, True):
            wanted = attract("a", inside, external=False, global_access=access)
            await made.until(allocator, wanted, at("a"))
            await made.rest(allocator, wanted)
            rules = [body for _, body in made.engine.state.all_of("forwardingRules")]
            assert [bool(body.get("allowGlobalAccess")) for body in rules] == [access]
    assert made.engine.calls_of("forwardingRules.insert") == 1


async def test_what_is_of_no_route_goes_after_two_complete_looks(made: Project) -> None:
    """One look may have come too early; what is of a route, of another cluster or of nobody stays."""
    async with made.allocator("two") as other:
        await made.until(other, attract("b", OTHER), at("b"))
    theirs = set(made.left())
    async with made.allocator() as allocator:
        await made.until(allocator, attract("a", ONE), at("a"))
        await made.until(allocator, attract("a", EXTERNAL[1:], route="tenant/kept"), at("a"))
        kept = frozenset({"tenant/kept"})
        mine = attract("a", ONE)
        await allocator.apply(Sweep(kept))
        assert (await look(allocator, mine)).ready
        for _ in range(5000):
            if (await allocator.apply(Sweep(kept))).is_done:
                break
            await asyncio.sleep(0.002)
        assert not (await look(allocator, mine)).owned
        assert (await look(allocator, attract("a", EXTERNAL[1:], route="tenant/kept"))).ready
    assert theirs <= set(made.left())


async def test_sweep_concludes_nothing_from_a_list_in_which_a_zone_is_missing(made: Project) -> None:
    """The look that failed is not counted."""
    async with made.allocator() as allocator:
        await made.until(allocator, attract("a", ONE), at("a"))
        await allocator.apply(Sweep(frozenset()))
        made.engine.faults.add(FaultKind.UNREACHABLE, "networkEndpointGroups.aggregatedList", times=None)
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await allocator.apply(Sweep(frozenset()))
        made.engine.clear_faults()
        assert (await look(allocator, attract("a", ONE))).ready
