"""When the process looks for garbage in cycles: never before everything is observed, and never at all that was."""

import asyncio
import gc

from persistip.runtime.garbage import collecting_after


async def test_collector_rests_until_all_is_observed_and_passes_over_it_then() -> None:
    """Off at first; then on, with everything that was there set apart; at the end as in any program."""
    observed = asyncio.Event()
    async with collecting_after(observed):
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
        kept = [[] for _ in range(1000)]
        observed.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gc.isenabled()
        assert gc.get_freeze_count() > len(kept)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


async def test_collector_works_again_when_nothing_was_ever_observed() -> None:
    """A process that is stopped before it has seen everything leaves the collector as it found it."""
    async with collecting_after(asyncio.Event()):
        assert not gc.isenabled()
    assert gc.isenabled()
