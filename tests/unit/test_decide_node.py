"""What a node's kernel must hold, announce and report: each rule on a kernel that does as it is told."""

from ipaddress import ip_address, ip_network

import attrs
import pytest
from world import T0, UPLINK, Kernel, World, pod, route

from persistip.model.actions import DONE, ForgetPin, Outcome, OutcomeState, PutEntry, RecordPin, RemoveEntry
from persistip.model.attachment import (
    AddressAttachment,
    AttachedAddress,
    AttachmentSpec,
    Holder,
    How,
    NodeReport,
    NodeStateName,
    Reference,
    Release,
    Strategy,
)
from persistip.model.entry import (
    Announcement,
    ExemptEntry,
    GuardEntry,
    LinkRef,
    Manner,
    Obstacle,
    Pin,
    ProxyEntry,
    RouteEntry,
)
from persistip.model.gateway import Mode
from persistip.model.keys import ObjectMeta

ADDRESS = ip_network("203.0.113.9/32")
OTHER = ip_network("203.0.113.8/32")
WIDE = ip_network("203.0.113.0/29")
SIX = ip_network("2001:db8::9/128")
EPOCH = int(T0 * 1000)
GATEWAY = Reference(namespace="infra", name="pool", uid="gw")
MAC_X, MAC_Y = "02:00:00:00:00:01", "02:00:00:00:00:02"
LATER = T0 + 5


def attachment(
    *prefixes: object, on: str | None = "a", pod: str = "x", epoch: int = EPOCH, uid: str = "att", **fields: object
) -> AddressAttachment:
    """An attachment that node *on* holds for Pod *pod*; x has 10.0.1.1 and y has 10.0.1.2."""
    number = {"x": 1, "y": 2}[pod]
    ips = (ip_address(f"10.0.1.{number}"), ip_address(f"fd00::{number}"))
    holder = Holder(pod_name=pod, pod_uid=f"uid-{pod}", pod_ips=ips, node_name=on or "", node_uid=f"node-{on}")
    nodes = fields.pop("nodes", ())
    spec: dict[str, object] = {
        "route": Reference(namespace="tenant", name="web", uid="route"),
        "addresses": tuple(
            prefix if isinstance(prefix, AttachedAddress) else AttachedAddress(prefix=prefix, gateway=GATEWAY)
            for prefix in prefixes or (ADDRESS,)
        ),
        "holder": holder if on else None,
        "epoch": epoch,
    }
    return AddressAttachment(
        meta=ObjectMeta(name=f"r-{uid}", uid=uid), spec=AttachmentSpec(**spec | fields), nodes=nodes
    )


def release(*prefixes: object, pod: str = "x", on: str = "a", how: How = How.NOW, epoch: int = EPOCH) -> Release:
    """What node *on* must let go of Pod *pod*."""
    return Release(
        prefixes=prefixes or (ADDRESS,),
        pod_name=pod,
        pod_uid=f"uid-{pod}",
        node_name=on,
        node_uid=f"node-{on}",
        how=how,
        epoch=epoch,
        since_at=T0,
    )


def said(node: str = "a", state: NodeStateName = NodeStateName.PROGRAMMED, **fields: object) -> NodeReport:
    """A report that stands."""
    return NodeReport(**{"node_name": node, "state": state, "epoch": EPOCH, "at": T0} | fields)


@pytest.fixture
def kernel() -> Kernel:
    """Return node a's kernel, which knows where Pods x and y are."""
    kernel = Kernel("a")
    for number, (link, mac) in enumerate([("veth-x", MAC_X), ("veth-y", MAC_Y)], start=1):
        kernel.attach(f"10.0.1.{number}", link, mac, index=10 + number)
        kernel.attach(f"fd00::{number}", link, mac, index=10 + number)
    return kernel


def prefixes_of(kernel: Kernel, kind: type) -> set[object]:
    """The prefixes for which an entry of *kind* stands."""
    return {entry.prefix for entry in kernel.state.entries if isinstance(entry, kind)}


def test_holder_pins_before_it_programs(kernel: Kernel) -> None:
    """The pin is on record before anything leads to the Pod, whole and in the order in which it may be used."""
    plan = kernel.look(attachment())
    pin = Pin(
        attachment_uid="att",
        pod_uid="uid-x",
        epoch=EPOCH,
        link=LinkRef("veth-x", 11),
        hardware_address=MAC_X,
    )
    assert plan.reports == ()
    assert plan.actions == (
        RecordPin(pin),
        PutEntry(GuardEntry(prefix=ADDRESS, link=pin.link, hardware_address=MAC_X)),
        PutEntry(ExemptEntry(ADDRESS)),
        PutEntry(
            RouteEntry(prefix=ADDRESS, link=pin.link, hardware_address=MAC_X, pod_ip=ip_address("10.0.1.1")),
        ),
        PutEntry(ProxyEntry(prefix=ADDRESS, link=UPLINK)),
    )


def test_link_without_hardware_addresses_is_served() -> None:
    """On such a link nobody else can be, so the link is all that is pinned."""
    kernel = Kernel()
    kernel.attach("10.0.1.1", "tun0", "", index=11)
    want = attachment()
    for _ in range(3):
        kernel.apply(kernel.look(want).actions)
    assert prefixes_of(kernel, RouteEntry) == {ADDRESS}
    assert [report.report.state for report in kernel.look(want).reports] == ["Programmed"]


def test_holder_announces_and_confirms_only_what_was_read_back(kernel: Kernel) -> None:
    """Neither an announcement nor a confirmation goes out while one entry is missing."""
    want = attachment()
    actions = kernel.look(want).actions
    kernel.apply(actions[:-1])
    plan = kernel.look(want)
    assert (plan.announcements, plan.reports) == (frozenset(), ())
    kernel.apply(plan.actions)
    plan = kernel.look(want)
    assert plan.is_settled
    assert plan.announcements == {Announcement(prefix=ADDRESS, link=UPLINK, epoch=EPOCH)}
    assert [(each.uid, each.report) for each in plan.reports] == [("att", said())]


FAST = {"mode": Mode.FAST, "strategy": Strategy.FAST_IP_MOVE}


def moving(prefix: object) -> Announcement:
    """What the cloud hears of a prefix."""
    return Announcement(prefix=prefix, link=UPLINK, epoch=EPOCH, manner=Manner.FAST_IP_MOVE)


def test_node_says_nothing_where_the_cloud_delivers_by_its_leader(kernel: Kernel) -> None:
    """It delivers, guards and exempts, and neither answers for the address nor announces it."""
    plan = kernel.settle(attachment(ADDRESS, SIX, strategy=Strategy.LEADER))
    assert plan.announcements == frozenset()
    assert [prefixes_of(kernel, kind) for kind in (RouteEntry, GuardEntry, ExemptEntry)] == [{ADDRESS, SIX}] * 3
    assert prefixes_of(kernel, ProxyEntry) == set()
    assert [each.report.state for each in plan.reports] == ["Programmed"]


def test_fast_ip_move_hears_of_one_address_of_each_family(kernel: Kernel) -> None:
    """One frame moves all that belongs to a route, so that the lowest address of each family is enough."""
    want = attachment(ADDRESS, WIDE, OTHER, SIX, **FAST)
    plan = kernel.settle(want)
    assert plan.announcements == {moving(ip_network("203.0.113.0/32")), moving(SIX)}
    assert prefixes_of(kernel, ProxyEntry) == set()
    assert [each.report.state for each in plan.reports] == ["Programmed"]


def test_fast_ip_move_is_not_asked_for_what_does_not_stand(kernel: Kernel) -> None:
    """The cloud hears of nothing while an entry is missing: the packets would come, and be lost."""
    want = attachment(**FAST)
    kernel.apply(kernel.look(want).actions[:-1])
    assert kernel.look(want).announcements == frozenset()


def test_new_holder_keeps_three_seconds_from_the_former_ones_frame(kernel: Kernel) -> None:
    """The former holder sent a second ago by its schedule, so this one programs and confirms, and sends in two."""
    want = attachment(
        releasing=(release(on="b", pod="y"),), nodes=(said(node="b", epoch=EPOCH - 10_000, at=T0 - 15),), **FAST
    )
    plan = kernel.settle(want)
    assert (plan.announcements, plan.recheck_at) == (frozenset(), T0 + 2)
    assert [each.report.state for each in plan.reports] == ["Programmed"]
    plan = kernel.look(want, now=T0 + 2)
    assert (plan.announcements, plan.recheck_at) == ({moving(ADDRESS)}, None)


def test_new_holder_waits_for_nobody_whose_last_frame_is_long_past(kernel: Kernel) -> None:
    """Nine seconds after the former holder's last frame the cloud is told at once."""
    want = attachment(
        releasing=(release(on="b", pod="y"),), nodes=(said(node="b", epoch=EPOCH - 10_000, at=T0 - 23),), **FAST
    )
    plan = kernel.settle(want)
    assert (plan.announcements, plan.recheck_at) == ({moving(ADDRESS)}, None)


def test_neighbours_are_told_at_once_whoever_sent_before(kernel: Kernel) -> None:
    """On layer 2 the last frame counts, and nobody waits."""
    want = attachment(releasing=(release(on="b", pod="y"),), nodes=(said(node="b", epoch=EPOCH - 10_000, at=T0 - 0.1),))
    assert kernel.settle(want).announcements == {Announcement(prefix=ADDRESS, link=UPLINK, epoch=EPOCH)}


def test_former_holder_falls_silent_on_sight_of_the_next(kernel: Kernel) -> None:
    """With AfterReady it delivers what still arrives, and the cloud hears no more of it."""
    kernel.settle(attachment(**FAST))
    gone = attachment(
        on="b", epoch=EPOCH + 1, releasing=(release(how=How.AFTER_READY, epoch=EPOCH + 1),), nodes=(said(),), **FAST
    )
    plan = kernel.look(gone)
    assert plan.announcements == frozenset()
    assert prefixes_of(kernel, RouteEntry) == {ADDRESS}


@pytest.mark.parametrize(
    ("mode", "strategy", "said"),
    [
        ("fast", "", "this agent does not know mode 'fast'; upgrade it"),
        ("fast", "haPolicy", "this agent does not know mode 'fast' with strategy 'haPolicy'; upgrade it"),
        ("standard", "newer", "this agent does not know mode 'standard' with strategy 'newer'; upgrade it"),
    ],
)
def test_strategy_that_an_agent_does_not_know_changes_nothing(
    kernel: Kernel, mode: str, strategy: str, said: str
) -> None:
    """What stands stays, nothing is added or announced, and the report says with what it cannot be done."""
    kernel.settle(attachment())
    before = kernel.state.entries
    plan = kernel.settle(attachment(mode=Mode(mode), strategy=strategy))
    assert (plan.actions, plan.announcements, kernel.state.entries) == ((), frozenset(), before)
    assert [(each.report.state, each.report.message) for each in plan.reports] == [("Unsupported", said)]


def test_report_that_stands_is_not_repeated(kernel: Kernel) -> None:
    """A report is due only when it says something else than the object does, whenever it was said."""
    kernel.settle(attachment())
    assert kernel.look(attachment(nodes=(said(at=T0 - 100),))).reports == ()
    assert kernel.look(attachment(nodes=(said(message="else"),))).reports != ()
    assert kernel.look(attachment(uid="att-again")).reports == (), "another object is another pin, and nothing yet"


def test_attachment_made_again_gets_a_report_of_its_own(kernel: Kernel) -> None:
    """Epochs of different UIDs are never compared: what was said of the former object is not said of this one."""
    kernel.settle(attachment())
    plan = kernel.settle(attachment(uid="again"))
    assert [(each.uid, each.report.state) for each in plan.reports] == [("again", NodeStateName.PROGRAMMED)]
    assert {pin.attachment_uid for pin in kernel.state.pins} == {"again"}


def test_both_families_lead_to_the_one_link(kernel: Kernel) -> None:
    """An IPv6 address goes to the Pod's IPv6 address on the same link."""
    kernel.settle(attachment(ADDRESS, SIX))
    routes = {(e.prefix, e.pod_ip) for e in kernel.state.entries if isinstance(e, RouteEntry)}
    assert routes == {(ADDRESS, ip_address("10.0.1.1")), (SIX, ip_address("fd00::1"))}
    assert prefixes_of(kernel, ProxyEntry) == {ADDRESS, SIX}


def test_prefix_of_many_addresses_is_routed_and_not_answered_for(kernel: Kernel) -> None:
    """The kernel answers ARP for single addresses only, and only those are announced."""
    plan = kernel.settle(attachment(WIDE))
    assert prefixes_of(kernel, RouteEntry) == {WIDE}
    assert prefixes_of(kernel, ProxyEntry) == set()
    assert plan.announcements == frozenset()
    assert plan.reports[0].report.state == NodeStateName.PROGRAMMED


def test_pending_address_is_ignored(kernel: Kernel) -> None:
    """No agent acts on a claim that is not granted."""
    pending = AttachedAddress(prefix=OTHER, gateway=GATEWAY, pending=True)
    plan = kernel.look(attachment(pending))
    assert (plan.actions, plan.reports) == ((), ())
    kernel.settle(attachment(ADDRESS, pending))
    assert prefixes_of(kernel, RouteEntry) == {ADDRESS}


def test_other_nodes_attachment_is_not_programmed(kernel: Kernel) -> None:
    """A node holds only what names it, and nothing that is held by nobody."""
    assert kernel.look(attachment(on="b")).actions == ()
    assert kernel.look(attachment(on=None)).actions == ()


def test_entry_in_no_attachment_goes_with_its_pin(kernel: Kernel) -> None:
    """What is owned and asked for by nobody is removed, the answering first, and then the pin is forgotten."""
    kernel.settle(attachment())
    actions = kernel.look().actions
    assert [type(action.entry) for action in actions] == [ProxyEntry, RouteEntry, ExemptEntry, GuardEntry]
    kernel.settle()
    assert (kernel.state.entries, kernel.state.pins) == (frozenset(), frozenset())


def test_union_over_all_attachments_keeps_each_ones_entries(kernel: Kernel) -> None:
    """One attachment's release touches nothing that another holds on the node."""
    one, two = attachment(uid="one"), attachment(OTHER, pod="y", uid="two")
    kernel.settle(one, two)
    gone = attachment(on=None, uid="one", releasing=(release(),), epoch=EPOCH + 1)
    plan = kernel.settle(gone, two)
    assert prefixes_of(kernel, RouteEntry) == {OTHER}
    assert {pin.pod_uid for pin in kernel.state.pins} == {"uid-y", "uid-x"}
    assert [(each.uid, each.report.released) for each in plan.reports] == [("one", EPOCH), ("two", 0)]


# ---------------------------------------------------------------- pins
def test_next_owner_of_the_ip_gets_nothing(kernel: Kernel) -> None:
    """Within an epoch another link is not adopted: the entries go and the reason is said."""
    kernel.settle(attachment())
    kernel.attach("10.0.1.1", "veth-z", MAC_Y, index=99)
    plan = kernel.look(attachment(nodes=(said(),)), now=LATER)
    assert {type(action) for action in plan.actions} == {RemoveEntry}
    assert plan.announcements == frozenset()
    kernel.apply(plan.actions)
    plan = kernel.look(attachment(nodes=(said(),)), now=LATER)
    assert plan.is_settled
    [report] = [each.report for each in plan.reports]
    assert (report.state, report.reason) == (NodeStateName.FAILED, "PodLinkChanged")
    assert "veth-z" in report.message
    assert "veth-x" in report.message
    assert kernel.state.entries == frozenset()


@pytest.mark.parametrize("change", ["link", "index", "hardware address"])
def test_any_change_of_the_link_is_another_link(kernel: Kernel, change: str) -> None:
    """A re-created veth of the same name, or another card behind it, is not the Pod that was pinned."""
    kernel.settle(attachment())
    changed = {
        "link": ("veth-z", MAC_X, 11),
        "index": ("veth-x", MAC_X, 12),
        "hardware address": ("veth-x", MAC_Y, 11),
    }[change]
    kernel.attach("10.0.1.1", changed[0], changed[1], index=changed[2])
    kernel.settle(attachment(), now=LATER)
    assert kernel.state.entries == frozenset()


def test_link_is_not_adopted_after_a_restart_of_the_agent(kernel: Kernel) -> None:
    """The pin outlives the process: an agent that starts beside a foreign link takes nothing over."""
    kernel.settle(attachment())
    kernel.state = attrs.evolve(kernel.state, entries=frozenset())
    kernel.attach("10.0.1.1", "veth-z", MAC_Y, index=99)
    assert kernel.look(attachment(), now=LATER).actions == ()


def test_link_is_adopted_when_the_epoch_rises(kernel: Kernel) -> None:
    """A new epoch is a new decision: the link that answers now is pinned first, then programmed, without a gap."""
    kernel.settle(attachment())
    kernel.attach("10.0.1.1", "veth-z", MAC_Y, index=99)
    risen = attachment(epoch=EPOCH + 1)
    plan = kernel.look(risen)
    assert [type(action) for action in plan.actions] == [RecordPin, PutEntry, PutEntry]
    assert plan.announcements == frozenset()
    kernel.apply(plan.actions)
    assert {type(action) for action in kernel.look(risen).actions} == {RemoveEntry}
    plan = kernel.settle(risen)
    assert {entry.link.name for entry in kernel.state.entries if isinstance(entry, RouteEntry)} == {"veth-z"}
    assert plan.reports[0].report == said(epoch=EPOCH + 1)


def test_older_epoch_than_the_pins_binds_as_well(kernel: Kernel) -> None:
    """Adopting needs an epoch that rises: an attachment seen late does not loosen the pin."""
    kernel.settle(attachment(epoch=EPOCH + 5))
    kernel.attach("10.0.1.1", "veth-z", MAC_Y, index=99)
    kernel.settle(attachment(epoch=EPOCH), now=LATER)
    assert kernel.state.entries == frozenset()


def test_epoch_that_rises_keeps_entries_that_still_fit(kernel: Kernel) -> None:
    """A pin renewed changes nothing in the packets' way, and then the new epoch is confirmed."""
    kernel.settle(attachment())
    before = kernel.state.entries
    kernel.done.clear()
    plan = kernel.settle(attachment(epoch=EPOCH + 1))
    assert [type(action) for action in kernel.done] == [RecordPin]
    assert kernel.state.entries == before
    assert plan.reports[0].report.epoch == EPOCH + 1


def test_silent_pod_keeps_its_entries(kernel: Kernel) -> None:
    """A Pod that does not answer for a moment is still where it was pinned, in this epoch and at its change."""
    kernel.settle(attachment())
    kernel.attach("10.0.1.1", "veth-x", None, index=11)
    assert kernel.look(attachment(), now=LATER).is_settled
    plan = kernel.look(attachment(epoch=EPOCH + 9000), now=LATER)
    assert plan.is_settled
    assert plan.recheck_at is not None


def test_pod_without_a_route_keeps_its_entries_and_is_reported(kernel: Kernel) -> None:
    """Where nobody else answers nothing is withdrawn, and after a moment the reason is said."""
    kernel.settle(attachment())
    kernel.detach("10.0.1.1")
    plan = kernel.look(attachment(), now=LATER)
    assert plan.is_settled
    assert plan.reports[0].report.reason == "PodLinkNotFound"
    assert plan.announcements == frozenset()


def test_brief_trouble_is_not_reported_at_once(kernel: Kernel) -> None:
    """A link that appears a moment after the decision costs no report; its absence is looked at again soon."""
    kernel.detach("10.0.1.1")
    plan = kernel.look(attachment(), now=T0 + 0.5)
    assert (plan.reports, plan.recheck_at) == ((), T0 + 1.5)
    plan = kernel.look(attachment(), now=T0 + 1)
    assert plan.reports[0].report.state == NodeStateName.FAILED


def test_clock_of_the_controller_ahead_does_not_silence_the_agent(kernel: Kernel) -> None:
    """An epoch of another clock, an hour ahead, delays no report by an hour."""
    kernel.detach("10.0.1.1")
    assert kernel.look(attachment(epoch=EPOCH + 3_600_000)).reports != ()


def test_pod_that_never_answered_is_not_programmed(kernel: Kernel) -> None:
    """Without a hardware address there is nothing to pin."""
    kernel.attach("10.0.1.1", "veth-x", None, index=11)
    plan = kernel.look(attachment(), now=LATER)
    assert plan.actions == ()
    assert "does not answer" in plan.reports[0].report.message


def test_silent_on_another_link_than_the_pinned_is_no_answer(kernel: Kernel) -> None:
    """A route that now leads to another, silent link says only that the Pod is not found."""
    kernel.settle(attachment())
    kernel.attach("10.0.1.1", "veth-z", None, index=99)
    plan = kernel.look(attachment(), now=LATER)
    assert plan.is_settled
    assert plan.reports[0].report.reason == "PodLinkNotFound"


def test_families_on_different_links_are_refused(kernel: Kernel) -> None:
    """One Pod has one link: where its two IPs are apart, one of them is somebody else's."""
    kernel.attach("fd00::1", "veth-y", MAC_Y, index=12)
    plan = kernel.look(attachment(ADDRESS, SIX), now=LATER)
    assert plan.actions == ()
    assert "different links" in plan.reports[0].report.message


def test_one_family_elsewhere_and_the_other_silent_withdraws(kernel: Kernel) -> None:
    """Somebody else's answer counts though the Pod's other IP has no route."""
    kernel.settle(attachment(ADDRESS, SIX))
    kernel.attach("10.0.1.1", "veth-z", MAC_Y, index=99)
    kernel.detach("fd00::1")
    kernel.settle(attachment(ADDRESS, SIX), now=LATER)
    assert kernel.state.entries == frozenset()


def test_one_family_silent_is_where_the_pin_says(kernel: Kernel) -> None:
    """The family that answers at the pinned place vouches for the other."""
    kernel.settle(attachment(ADDRESS, SIX))
    kernel.attach("10.0.1.1", "veth-x", None, index=11)
    plan = kernel.look(attachment(ADDRESS, SIX, nodes=(said(),)), now=LATER)
    assert plan.is_settled
    assert plan.reports == ()


def test_holder_without_an_ip_of_the_family_is_said(kernel: Kernel) -> None:
    """Nothing is guessed for an address whose family the Pod does not have."""
    want = attachment(ADDRESS, SIX)
    assert want.spec.holder is not None
    four = attrs.evolve(want.spec.holder, pod_ips=want.spec.holder.pod_ips[:1])
    plan = kernel.look(attrs.evolve(want, spec=attrs.evolve(want.spec, holder=four)))
    assert plan.actions == ()
    assert plan.reports[0].report.reason == "AwaitingPodIP"
    assert plan.reports[0].report.message.startswith("the attachment names no IPv6 address of Pod x, ")


def without_six(whole: AddressAttachment) -> AddressAttachment:
    """The attachment with a holder that has an IPv4 address only."""
    assert whole.spec.holder is not None
    four = attrs.evolve(whole.spec.holder, pod_ips=whole.spec.holder.pod_ips[:1])
    return attrs.evolve(whole, spec=attrs.evolve(whole.spec, holder=four))


def test_family_that_the_pod_lacks_leaves_the_other_as_it_stands(kernel: Kernel) -> None:
    """An IPv6 address that is granted to a Pod with IPv4 only is no reason to cut off the IPv4 address."""
    kernel.settle(without_six(attachment(ADDRESS)))
    before = kernel.state.entries
    plan = kernel.settle(without_six(attachment(ADDRESS, SIX, epoch=EPOCH + 1)))
    assert [report.report.reason for report in plan.reports] == ["AwaitingPodIP"]
    assert kernel.state.entries == before
    assert prefixes_of(kernel, RouteEntry) == {ADDRESS}


def test_family_that_the_pod_lost_is_withdrawn_alone(kernel: Kernel) -> None:
    """What leads to an IP that the Pod does not have any more is not kept beside the rest."""
    kernel.settle(attachment(ADDRESS, SIX))
    kernel.settle(without_six(attachment(ADDRESS, SIX, epoch=EPOCH + 1)))
    assert {entry.prefix for entry in kernel.state.entries} == {ADDRESS}


def test_family_that_the_pod_lacks_spares_nothing_where_another_answers(kernel: Kernel) -> None:
    """What was meant for one Pod is not left to the next owner of its IP, also across a change of the epoch."""
    kernel.settle(without_six(attachment(ADDRESS)))
    kernel.attach("10.0.1.1", "veth-z", MAC_Y, index=99)
    kernel.settle(without_six(attachment(ADDRESS, SIX, epoch=EPOCH + 1)), now=LATER)
    assert kernel.state.entries == frozenset()


def test_never_usable_address_is_refused_by_the_agent_too(kernel: Kernel) -> None:
    """Whoever wrote the attachment, loopback is not programmed."""
    plan = kernel.look(attachment(ADDRESS, ip_network("127.0.0.0/30")))
    assert plan.actions == ()
    assert plan.reports[0].report.reason == "UnsupportedAddress"


# ---------------------------------------------------------------- releases
def moved(how: How = How.AFTER_READY, *, confirmed: bool = False, **fields: object) -> AddressAttachment:
    """The address has moved from Pod x on node a to Pod y on node b."""
    epoch = EPOCH + 1
    nodes = (said("b", epoch=epoch),) if confirmed else ()
    return attachment(pod="y", on="b", epoch=epoch, releasing=(release(how=how, epoch=epoch),), nodes=nodes, **fields)


def test_after_ready_keeps_what_is_there_and_is_silent(kernel: Kernel) -> None:
    """The old node goes on delivering, stops announcing at once, and confirms no release."""
    kernel.settle(attachment())
    plan = kernel.look(moved())
    assert (plan.actions, plan.announcements, plan.reports) == ((), frozenset(), ())


def test_after_ready_never_adds(kernel: Kernel) -> None:
    """What is missing on a node that only lingers stays missing."""
    kernel.settle(attachment())
    kernel.state = attrs.evolve(
        kernel.state, entries=frozenset(e for e in kernel.state.entries if not isinstance(e, RouteEntry))
    )
    assert kernel.look(moved()).actions == ()
    assert Kernel("a").look(moved()).actions == ()


def test_proxy_goes_once_the_holder_has_confirmed(kernel: Kernel) -> None:
    """Two nodes never answer for an address longer than it takes to see the confirmation."""
    kernel.settle(attachment())
    plan = kernel.look(moved(confirmed=True))
    assert plan.actions == (RemoveEntry(ProxyEntry(prefix=ADDRESS, link=UPLINK)),)


def test_now_withdraws_and_confirms_released(kernel: Kernel) -> None:
    """The release is confirmed by its epoch after everything was seen to be gone, and not before."""
    kernel.settle(attachment())
    plan = kernel.look(moved(How.NOW))
    assert [type(action) for action in plan.actions] == [RemoveEntry] * 4
    assert plan.reports == ()
    kernel.apply(plan.actions[:-1])
    assert kernel.look(moved(How.NOW)).reports == ()
    plan = kernel.settle(moved(How.NOW))
    assert [each.report for each in plan.reports] == [
        said(state=NodeStateName.IDLE, epoch=EPOCH + 1, released=EPOCH + 1)
    ]


def test_damaged_entry_left_over_is_no_release(kernel: Kernel) -> None:
    """Half of an entry is still something in the kernel."""
    half = ExemptEntry(ADDRESS)
    kernel.state = attrs.evolve(kernel.state, stale=frozenset({half}))
    plan = kernel.look(moved(How.NOW))
    assert plan.actions == (RemoveEntry(half),)
    assert plan.reports == ()


def test_released_is_not_repeated_and_never_falls(kernel: Kernel) -> None:
    """A release confirmed is confirmed; an older number than the one that stands is never said."""
    stands = said(state=NodeStateName.IDLE, epoch=EPOCH + 1, released=EPOCH + 1)
    assert kernel.look(attrs.evolve(moved(How.NOW), nodes=(stands,))).reports == ()
    higher = attrs.evolve(stands, released=EPOCH + 50)
    assert kernel.look(attrs.evolve(moved(How.NOW), nodes=(higher,))).reports == ()
    back = attachment(epoch=EPOCH + 60, nodes=(higher,))
    assert kernel.settle(back).reports[0].report.released == EPOCH + 50


def test_now_beside_after_ready_confirms_nothing(kernel: Kernel) -> None:
    """While an entry is AfterReady its node confirms no release, though one part is withdrawn."""
    kernel.settle(attachment(ADDRESS, OTHER))
    both = attachment(
        pod="y",
        on="b",
        epoch=EPOCH + 2,
        releasing=(release(OTHER, epoch=EPOCH + 1), release(ADDRESS, how=How.AFTER_READY, epoch=EPOCH + 2)),
    )
    plan = kernel.settle(both)
    assert prefixes_of(kernel, RouteEntry) == {ADDRESS}
    assert plan.reports == ()


def test_dropped_address_is_released_by_the_node_that_still_holds(kernel: Kernel) -> None:
    """Holding one address and releasing another is said in one report."""
    kernel.settle(attachment(ADDRESS, OTHER))
    edited = attachment(ADDRESS, epoch=EPOCH + 1, releasing=(release(OTHER, epoch=EPOCH + 1),))
    plan = kernel.settle(edited)
    assert prefixes_of(kernel, RouteEntry) == {ADDRESS}
    assert [each.report for each in plan.reports] == [said(epoch=EPOCH + 1, released=EPOCH + 1)]


def test_release_is_confirmed_while_the_held_address_has_trouble(kernel: Kernel) -> None:
    """A holder that is not ready to say Programmed still says what it has let go."""
    kernel.settle(attachment(ADDRESS, OTHER))
    edited = attachment(ADDRESS, epoch=EPOCH + 1, releasing=(release(OTHER, epoch=EPOCH + 1),))
    kernel.detach("10.0.1.1")
    plan = kernel.settle(edited)
    [report] = [each.report for each in plan.reports]
    assert (report.state, report.released) == (NodeStateName.PROGRAMMING, EPOCH + 1)
    assert prefixes_of(kernel, RouteEntry) == {ADDRESS}, "what still leads to the Pod stays"


def within_node(how: How, **fields: object) -> AddressAttachment:
    """The address has moved from Pod x to Pod y on the same node."""
    return attachment(pod="y", epoch=EPOCH + 1, releasing=(release(how=how, epoch=EPOCH + 1),), **fields)


@pytest.mark.parametrize("how", list(How))
def test_move_within_a_node_makes_before_it_breaks(kernel: Kernel, how: How) -> None:
    """At every step of the move the address leads to one of the two Pods, and the node answers for it."""
    kernel.settle(attachment())
    want = within_node(how)
    for _ in range(5):
        plan = kernel.look(want)
        for action in plan.actions:
            kernel.apply([action])
            assert prefixes_of(kernel, RouteEntry) == prefixes_of(kernel, ProxyEntry) == {ADDRESS}
            assert prefixes_of(kernel, GuardEntry) == prefixes_of(kernel, ExemptEntry) == {ADDRESS}
    routes = [entry for entry in kernel.state.entries if isinstance(entry, RouteEntry)]
    assert [entry.link.name for entry in routes] == ["veth-y"]
    assert plan.reports[0].report.state == NodeStateName.PROGRAMMED
    assert plan.reports[0].report.released == (EPOCH + 1 if how is How.NOW else 0)


def test_unready_pod_loses_the_address_though_its_successor_is_not_found(kernel: Kernel) -> None:
    """A release Now within a node does not wait for the new holder's link."""
    kernel.settle(attachment())
    kernel.detach("10.0.1.2")
    plan = kernel.settle(within_node(How.NOW))
    assert kernel.state.entries == frozenset()
    assert plan.reports[0].report.released == EPOCH + 1


def test_lingering_pod_does_not_shelter_the_successors_broken_entries(kernel: Kernel) -> None:
    """AfterReady keeps the former Pod's entries only: what leads to a link that is no longer the holder's goes."""
    kernel.settle(attachment())
    kernel.settle(within_node(How.AFTER_READY))
    kernel.attach("10.0.1.2", "veth-z", "02:00:00:00:00:03", index=99)
    kernel.settle(within_node(How.AFTER_READY), now=LATER)
    assert prefixes_of(kernel, RouteEntry) == set()


def test_failed_put_on_a_move_within_a_node_keeps_the_old_entry(kernel: Kernel) -> None:
    """Nothing of a Pod that may still use the address is removed before its replacement has been read back."""
    kernel.settle(attachment())
    want = within_node(How.AFTER_READY)
    first, *puts = kernel.look(want).actions
    assert {type(action) for action in puts} == {PutEntry}
    kernel.apply((first,))
    plan = kernel.look(want)
    assert {type(action) for action in plan.actions} == {PutEntry}
    assert plan.reports == ()


def test_release_now_waits_for_no_other_pod(kernel: Kernel) -> None:
    """What leads to the Pod that lost the address goes behind the puts, and is confirmed though none of them stands."""
    kernel.settle(attachment())
    want = within_node(How.NOW)
    actions = kernel.look(want).actions
    assert [type(action) for action in actions] == [RecordPin, PutEntry, PutEntry, RemoveEntry, RemoveEntry]
    old = actions[-2:]
    assert all(isinstance(each, RemoveEntry) and each.is_due and each.entry.link.index == 11 for each in old)  # type: ignore[union-attr]
    kernel.apply((actions[0], *old))
    plan = kernel.look(want)
    assert {type(action) for action in plan.actions} == {PutEntry}
    assert [report.report.released for report in plan.reports] == [EPOCH + 1]


# ---------------------------------------------------------------- what goes wrong
def test_failure_to_put_is_reported(kernel: Kernel) -> None:
    """The last try's words reach the user, and what stands is not called programmed."""
    kernel.apply(kernel.look(attachment()).actions[:1])
    missing = kernel.look(attachment()).actions[0]
    assert isinstance(missing, PutEntry)
    failed = {missing.entry: Outcome(state=OutcomeState.FAILED, message="no room")}
    [report] = kernel.look(attachment(), outcomes=failed).reports
    assert (report.report.state, report.report.reason, report.report.message) == (
        NodeStateName.FAILED,
        "ProgrammingFailed",
        "no room",
    )


def test_foreign_obstacle_is_reported_and_not_removed(kernel: Kernel) -> None:
    """What is not ours is named, and the entry in its shadow is put again."""
    kernel.settle(attachment())
    route = next(entry for entry in kernel.state.entries if isinstance(entry, RouteEntry))
    kernel.state = attrs.evolve(
        kernel.state,
        entries=kernel.state.entries - {route},
        stale=frozenset({route}),
        obstacles=(Obstacle(prefix=OTHER, message="else"), Obstacle(prefix=ADDRESS, message="a foreign route")),
    )
    plan = kernel.look(attachment(nodes=(said(),)), outcomes={route: DONE})
    assert plan.actions == (PutEntry(route),)
    assert plan.reports[0].report.message == "a foreign route"


def test_confirmation_is_taken_back_when_what_stood_is_gone(kernel: Kernel) -> None:
    """Programmed means that it stands: entries that vanish and have not come back are said at once."""
    kernel.settle(attachment())
    kernel.state = attrs.evolve(kernel.state, entries=frozenset())
    plan = kernel.look(attachment(nodes=(said(),)))
    assert plan.reports[0].report.state == NodeStateName.PROGRAMMING
    assert kernel.look(attachment(nodes=(said(epoch=1),))).reports == (), "an older epoch's word confirms nothing"


def test_unknown_mode_is_touched_not_at_all(kernel: Kernel) -> None:
    """Entries, releases, pins and confirmed releases of a mode that this agent does not know stay as they are."""
    kernel.settle(attachment(ADDRESS, OTHER))
    strange = attachment(
        ADDRESS,
        mode="hovering",
        epoch=EPOCH + 1,
        releasing=(release(OTHER),),
        nodes=(said(released=7),),
    )
    plan = kernel.look(strange)
    assert (plan.actions, plan.announcements) == ((), frozenset())
    [report] = [each.report for each in plan.reports]
    assert (report.state, report.released, report.epoch) == (NodeStateName.UNSUPPORTED, 7, EPOCH + 1)
    assert "hovering" in report.message
    assert kernel.look(attachment(mode=Mode.FAST)).reports[0].report.state == NodeStateName.UNSUPPORTED


def test_pins_of_the_gone_are_forgotten_beside_an_unknown_mode(kernel: Kernel) -> None:
    """Only the pins of the attachment in question are sheltered by its mode."""
    kernel.settle(attachment(uid="one"), attachment(OTHER, pod="y", uid="two"))
    plan = kernel.settle(attachment(uid="one", mode="hovering"))
    assert plan.is_settled
    assert {pin.attachment_uid for pin in kernel.state.pins} == {"one"}
    assert ForgetPin in {type(action) for action in kernel.done}


@pytest.mark.parametrize(
    ("value", "own", "said"),
    [
        ("203.0.113.9", {"own_ips": "203.0.113.9"}, "203.0.113.9 is an address of this node's own"),
        ("203.0.113.8/30", {"gateways": "203.0.113.9"}, "203.0.113.8/30 contains 203.0.113.9, a gateway of this node"),
    ],
)
def test_agent_refuses_what_is_the_nodes_own(value: str, own: dict[str, str], said: str) -> None:
    """Whoever decided it: a node that gave away its own address or its gateway's would be cut off."""
    world = World()
    world.put(pod("x", "a"), route("web", value))
    world.settle()
    kernel = Kernel()
    kernel.attach("10.0.1.11", "veth1", "02:00:00:00:00:01")
    kernel.state = attrs.evolve(kernel.state, **{name: frozenset({ip_address(ip)}) for name, ip in own.items()})
    plan = kernel.settle(world.attachment(), now=world.now + 5)
    assert kernel.state.entries == frozenset()
    (report,) = plan.reports
    assert (report.report.state, report.report.reason) == (NodeStateName.FAILED, "UnsupportedAddress")
    assert report.report.message == said
    kernel.state = attrs.evolve(kernel.state, own_ips=frozenset({ip_address("2001:db8::9")}), gateways=frozenset())
    kernel.settle(world.attachment(), now=world.now + 5)
    assert kernel.state.entries


def test_pin_is_forgotten_although_another_address_cannot_be_put(kernel: Kernel) -> None:
    """An obstacle of one attachment keeps no pin of another; one whose entries still stand is kept for them."""
    kernel.settle(attachment(uid="one"), attachment(OTHER, pod="y", uid="two"))
    standing = next(entry for entry in kernel.state.entries if isinstance(entry, RouteEntry) and entry.prefix != OTHER)
    kernel.state = attrs.evolve(kernel.state, entries=kernel.state.entries - {standing})
    first = kernel.look(attachment(uid="one"))
    assert {type(action) for action in first.actions} == {PutEntry, RemoveEntry}, "the pin outlives what rests on it"
    kernel.apply(action for action in first.actions if isinstance(action, RemoveEntry))
    second = kernel.look(attachment(uid="one"))
    assert [type(action) for action in second.actions] == [PutEntry, ForgetPin]
    assert second.actions[1].pin.attachment_uid == "two"  # type: ignore[union-attr]
