"""When a Pod that another link answers for may be looked for anew."""

from ipaddress import ip_address

import attrs
import pytest
from world import World, pod, route

from persistip.decide.plan_route import plan_route
from persistip.decide.relink import RELINK_SECONDS, found_anew_at
from persistip.model.actions import ReplaceAttachment
from persistip.model.attachment import POD_LINK_CHANGED, NodeReport, NodeStateName


def world_with(reason: str = POD_LINK_CHANGED, *, epoch: int | None = None) -> World:
    """A world whose holder's node found another link behind the Pod's IP."""
    world = World()
    world.put(pod("x", "a", age=50), route())
    world.settle()
    present = world.attachment()
    report = NodeReport(
        node_name="a",
        epoch=present.spec.epoch if epoch is None else epoch,
        state=NodeStateName.FAILED,
        reason=reason,
        message="another answers",
        at=world.now,
    )
    world.put(attrs.evolve(present, nodes=(report,)))
    world.settle(agents=False)
    return world


def test_pod_that_stays_ready_is_looked_for_anew() -> None:
    """The epoch rises after a minute, not before, by itself and once; the holder stays and nothing is released."""
    world = world_with()
    before = world.attachment().spec
    plan = plan_route(world.view())
    assert (plan.actions, plan.recheck_at) == ((), found_anew_at(world.view()))
    assert plan.recheck_at is not None
    world.now = plan.recheck_at
    plan = plan_route(world.view())
    [write, *_] = plan.actions
    assert isinstance(write, ReplaceAttachment)
    assert write.attachment.spec == attrs.evolve(before, epoch=int(world.now * 1000))
    world.settle(agents=False)
    assert plan_route(world.view()) == attrs.evolve(plan, actions=(), recheck_at=None)


def test_user_is_told_by_the_condition_that_he_knows() -> None:
    """Of the two reasons of a node the user sees one."""
    assert world_with().condition("DPV2Ready") == ("False", "PodLinkNotFound")


@pytest.mark.parametrize(
    ("reason", "epoch"), [("PodLinkNotFound", None), (POD_LINK_CHANGED, 1)], ids=["nobody answers", "older epoch"]
)
def test_pod_that_no_other_link_answers_for_now_is_not(reason: str, epoch: int | None) -> None:
    """A new epoch would not help; without end it would be tried."""
    world = world_with(reason, epoch=epoch)
    assert found_anew_at(attrs.evolve(world.view(), now=world.now + 2 * RELINK_SECONDS)) is None


def test_pod_of_which_the_api_is_not_sure_is_not() -> None:
    """What is meant for the Pod could reach the next owner of its IP: it must be its own, the Pod alive and Ready."""
    world = world_with()
    view = world.view()
    [found] = view.pods
    going = attrs.evolve(found.meta, deleted_at=world.now)
    assert found_anew_at(view) is not None
    assert found_anew_at(attrs.evolve(view, pods=())) is None
    assert found_anew_at(attrs.evolve(view, pods=(attrs.evolve(found, ready=False),))) is None
    assert found_anew_at(attrs.evolve(view, pods=(attrs.evolve(found, meta=going),))) is None
    assert found_anew_at(attrs.evolve(view, pods=(attrs.evolve(found, ips=(ip_address("10.0.1.99"),)),))) is None
    assert found_anew_at(attrs.evolve(view, doubled_ips={found.ips[0]: (found, found)})) is None


def test_nobody_is_looked_for_where_nobody_holds() -> None:
    """Without an attachment or a holder there is no need."""
    world = world_with()
    present = world.attachment()
    view = world.view()
    assert found_anew_at(attrs.evolve(view, attachment=None)) is None
    nobody = attrs.evolve(present, spec=attrs.evolve(present.spec, holder=None))
    assert found_anew_at(attrs.evolve(view, attachment=nobody)) is None
