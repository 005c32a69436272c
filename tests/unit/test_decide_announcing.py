"""When is an announcement due, and for how long does the next sender wait in a cloud?"""

from ipaddress import ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistip.decide.announcing import (
    BETWEEN_SENDERS_SECONDS,
    FAST_IP_MOVE,
    REACTION_SECONDS,
    free_at,
    last_offset,
    offset_of,
)
from persistip.model.attachment import (
    AddressAttachment,
    AttachmentSpec,
    How,
    NodeReport,
    NodeStateName,
    Reference,
    Release,
    Strategy,
)
from persistip.model.gateway import Mode
from persistip.model.keys import ObjectMeta
from persistip.settings import AnnounceSettings

T0 = 1_800_000_000.0


def moved(*released: tuple[str, float], at: float, nodes: tuple[NodeReport, ...] = ()) -> AddressAttachment:
    """An attachment that each node of *released* held, confirmed at that instant, and lost *at* another."""
    entries = tuple(
        Release(
            prefixes=(ip_network("203.0.113.9/32"),),
            pod_name="x",
            pod_uid="x",
            node_name=name,
            node_uid=name,
            how=How.NOW,
            epoch=int(at * 1000),
            since_at=at,
        )
        for name, _ in released
    )
    reports = tuple(
        NodeReport(node_name=name, epoch=1, state=NodeStateName.PROGRAMMED, at=since) for name, since in released
    )
    spec = AttachmentSpec(
        route=Reference(namespace="tenant", name="web", uid="route"),
        mode=Mode.FAST,
        strategy=Strategy.FAST_IP_MOVE,
        releasing=entries,
        epoch=int(at * 1000),
    )
    return AddressAttachment(meta=ObjectMeta(name="r-att", uid="att"), spec=spec, nodes=nodes or reports)


def test_schedule_without_early_repeats_is_even() -> None:
    """A schedule of no offsets repeats evenly from the first interval on."""
    settings = AnnounceSettings(offsets_seconds=(), every_seconds=5.0, until_seconds=12.0)
    assert [offset_of(step, settings) for step in range(3)] == [5.0, 10.0, None]


def test_cloud_hears_of_an_address_for_ten_minutes_after_its_leader_was_updated() -> None:
    """An update within the two minutes that a cloud may take is followed by ten minutes of frames, 10 s apart."""
    offsets = [offset for step in range(200) if (offset := offset_of(step, FAST_IP_MOVE)) is not None]
    assert offsets[0] == 0.0
    assert offsets[-1] > 120 + 600 - 10
    assert max(later - earlier for earlier, later in pairwise(offsets)) == 10.0


@given(st.floats(-10, 1000))
def test_last_step_is_the_latest_that_was_due(elapsed: float) -> None:
    """Nothing that is due by then comes behind it, and it was due itself."""
    offsets = [offset for step in range(200) if (offset := offset_of(step, FAST_IP_MOVE)) is not None]
    assert last_offset(elapsed, FAST_IP_MOVE) == max((each for each in offsets if each <= elapsed), default=None)


@pytest.mark.parametrize(
    ("since", "waits"),
    [(0.0, 3.0), (2.0, 2.0), (3.9, 3.1), (9.0, 0.0), (13.8, 3.2), (14.0, 3.0), (18.0, 0.0), (717.5, 0.0), (5e3, 0.0)],
)
def test_wait_is_what_is_left_of_three_seconds(since: float, waits: float) -> None:
    """A holder that lost the address so long after it confirmed had sent its last frame when its schedule says."""
    left = free_at(moved(("b", T0), at=T0 + since), "a") - (T0 + since)
    assert max(left, 0.0) == pytest.approx(waits, abs=0.001)


@given(st.floats(0, 800))
def test_frames_of_two_senders_are_three_seconds_apart(since: float) -> None:
    """Whenever the former holder loses the address and however late it reacts, no frame of its is nearer than that."""
    free = max(free_at(moved(("b", T0), at=T0 + since), "a"), T0 + since)
    offsets = [offset for step in range(200) if (offset := offset_of(step, FAST_IP_MOVE)) is not None]
    heard = int((T0 + since) * 1000) / 1000 + REACTION_SECONDS
    sent = [T0 + offset for offset in offsets if T0 + offset <= heard]
    assert free - max(sent) >= BETWEEN_SENDERS_SECONDS - 0.001
    assert free - (T0 + since) <= BETWEEN_SENDERS_SECONDS + REACTION_SECONDS


def test_latest_of_several_former_holders_counts() -> None:
    """Of two that may have sent the one that sent last is waited for."""
    alone = free_at(moved(("c", T0 + 5), at=T0 + 5.2), "a")
    assert free_at(moved(("b", T0), ("c", T0 + 5), at=T0 + 5.2), "a") == alone > T0 + 5.2


def test_nobody_is_waited_for_who_is_silent_or_oneself() -> None:
    """A node's own former Pod, a node that never confirmed, and one that has let go already send nothing more."""
    own = moved(("a", T0), at=T0 + 0.1)
    unheard = moved(("b", T0), at=T0 + 0.1, nodes=(NodeReport(node_name="z"),))
    gone = moved(("b", T0), at=T0 + 0.1, nodes=(NodeReport(node_name="b", epoch=2, released=2, at=T0 + 0.2),))
    later = moved(("b", T0 + 60), at=T0 + 0.1)
    assert [free_at(each, "a") for each in (own, unheard, gone, later)] == [0.0] * 4
