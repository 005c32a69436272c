"""The keyed queue: each key once, one worker a key, timers that coalesce, and nothing that grows."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistip.runtime.workqueue import SHARE, QueueClosed, WorkQueue

pytestmark = [pytest.mark.looptime]


async def test_key_added_many_times_is_worked_on_once() -> None:
    """A thousand events about one object are one pass."""
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(1000):
        queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.is_idle


async def test_key_added_while_in_work_comes_once_more_after_the_others() -> None:
    """What changed during a pass is looked at again, after those that waited meanwhile."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    queue.done("a")
    assert [await queue.get(), await queue.get()] == ["b", "a"]
    queue.done("a")
    queue.done("b")
    assert queue.is_idle


async def test_key_in_work_is_never_given_to_a_second_worker() -> None:
    """Two passes over one object never run at the same time, however often it is added."""
    queue: WorkQueue[int] = WorkQueue()
    at_work: set[int] = set()
    passes = 0

    async def work() -> None:
        nonlocal passes
        while True:
            try:
                key = await queue.get()
            except QueueClosed:
                return
            assert key not in at_work
            at_work.add(key)
            await asyncio.sleep(0.01)
            at_work.discard(key)
            passes += 1
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    for round_ in range(50):
        for key in range(3):
            queue.add(key)
        await asyncio.sleep(0.001 * (round_ % 7))
    await asyncio.sleep(1)
    queue.close()
    await asyncio.gather(*workers)
    assert 3 * 2 <= passes <= 3 * 50


async def test_of_several_delays_the_earliest_counts() -> None:
    """A later wish does not put off an earlier one, and only one pass follows."""
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    start = loop.time()
    queue.add_after("a", 10)
    queue.add_after("a", 2)
    queue.add_after("a", 30)
    assert await queue.get() == "a"
    assert loop.time() - start == pytest.approx(2, abs=0.01)
    queue.done("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await queue.get()


async def test_key_added_now_uses_up_its_delay() -> None:
    """An event that comes before the retry makes the retry needless."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 5)
    queue.add("a")
    queue.done(await queue.get())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await queue.get()


async def test_held_key_waits_until_it_may() -> None:
    """A key that is held back comes once, at the end of its hold, though it is added before."""
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    start = loop.time()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.hold("a", 3)
    queue.done("a")
    queue.add("a")
    assert await queue.get() == "a"
    assert loop.time() - start == pytest.approx(3, abs=0.01)
    queue.done("a")
    assert queue.is_idle


async def test_cancelled_worker_passes_its_wake_up_on() -> None:
    """A key is not lost when the worker that was woken for it is cancelled in the same moment."""
    queue: WorkQueue[str] = WorkQueue()
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"
    assert first.cancelled()


async def test_closed_queue_ends_its_workers_and_takes_nothing() -> None:
    """After ``close`` waiting workers end, what waited is dropped, and nothing new comes in."""
    queue: WorkQueue[str] = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after("a", 1)
    queue.close()
    queue.add("b")
    queue.add_after("c", 1)
    with pytest.raises(QueueClosed):
        await waiting
    await asyncio.sleep(5)
    assert queue.is_idle
    with pytest.raises(QueueClosed):
        await queue.get()


async def test_failures_are_counted_in_a_row() -> None:
    """The count grows with each failure and starts anew after a success."""
    queue: WorkQueue[str] = WorkQueue()
    assert [queue.count_failure("a"), queue.count_failure("a"), queue.count_failure("b")] == [1, 2, 1]
    queue.forget_failures("a")
    assert queue.count_failure("a") == 1


async def test_timers_renewed_for_ever_take_no_room() -> None:
    """A key whose delay is shortened again and again leaves no trail of void timers."""
    queue: WorkQueue[str] = WorkQueue()
    for step in range(10_000):
        queue.add_after("a", 1_000_000 - step)
    assert len(queue._timers) < 100


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["add", "press", "after", "get", "done", "pass"])),
        max_size=60,
    )
)
def test_every_key_added_is_worked_on_after_it_was_added(steps: list[tuple[str, str]]) -> None:
    """Whatever the order of calls, each addition is followed by a turn of its key."""

    async def run() -> None:
        queue: WorkQueue[str] = WorkQueue()
        unseen: set[str] = set()
        at_work: list[str] = []

        async def take() -> None:
            key = await asyncio.wait_for(queue.get(), 1)
            assert key not in at_work
            at_work.append(key)
            unseen.discard(key)

        for key, step in steps:
            match step:
                case "add" | "press":
                    queue.add(key, pressing=step == "press")
                    unseen.add(key)
                case "after":
                    queue.add_after(key, 0.001)
                    unseen.add(key)
                case "get" if queue._depth():
                    await take()
                case "done" if at_work:
                    queue.done(at_work.pop(0))
                case _:
                    await asyncio.sleep(0)
        while at_work:
            queue.done(at_work.pop())
        while unseen:
            await take()
            queue.done(at_work.pop())

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


async def taken(queue: WorkQueue[str], count: int) -> str:
    """The next keys, each done before the next is asked for."""
    found = ""
    for _ in range(count):
        found += await queue.get()
        queue.done(found[-1])
    return found


async def test_key_that_presses_overtakes_those_that_do_not() -> None:
    """Traffic may be waiting for it; among themselves they come as they were added."""
    queue: WorkQueue[str] = WorkQueue()
    for key in "abc":
        queue.add(key)
    for key in "xy":
        queue.add(key, pressing=True)
    assert await taken(queue, 5) == "xyabc"


async def test_waiting_key_that_begins_to_press_overtakes_and_does_not_fall_back() -> None:
    """A route that waits to have its status written loses its Pod meanwhile."""
    queue: WorkQueue[str] = WorkQueue()
    for key in "abc":
        queue.add(key)
    queue.add("c", pressing=True)
    queue.add("c", pressing=False)
    assert len(queue) == 3
    assert await taken(queue, 3) == "cab"


async def test_keys_that_do_not_press_have_their_share() -> None:
    """However many press, one that does not comes after a bounded number of them."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    pressing = "ABCDEFGHIJKLMNOPQRST"
    for key in pressing:
        queue.add(key, pressing=True)
    assert await taken(queue, 22) == pressing[:SHARE] + "a" + pressing[SHARE : 2 * SHARE] + "b" + pressing[2 * SHARE :]


async def test_share_is_not_saved_up() -> None:
    """Keys that press, overtaking nobody, use up no turn of those that come later."""
    queue: WorkQueue[str] = WorkQueue()
    for key in "ABCDEFGHIJ":
        queue.add(key, pressing=True)
    assert await taken(queue, 10) == "ABCDEFGHIJ"
    queue.add("a")
    queue.add("Z", pressing=True)
    assert await taken(queue, 2) == "Za"


async def test_key_that_presses_while_in_work_overtakes_afterwards() -> None:
    """What came to press during a pass is looked at before what waits and does not press."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("b")
    queue.add("a", pressing=True)
    queue.add("a", pressing=False)
    queue.done("a")
    assert await taken(queue, 2) == "ab"


async def test_key_whose_timer_rings_presses_as_it_then_stands() -> None:
    """A move that is tried again comes before what nobody waits for."""
    queue: WorkQueue[str] = WorkQueue(is_pressing="m".__eq__)
    queue.add_after("m", 1)
    queue.add_after("a", 1)
    queue.add("b")
    await asyncio.sleep(2)
    assert await taken(queue, 3) == "mba"
