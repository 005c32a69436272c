"""
What does an address need in a cluster without a cloud?

In: any request.  Out: that there is nothing to do; ``GCPReady`` is True with reason NotRequired.
"""

from __future__ import annotations

from persistip.model.actions import DONE, Outcome, OutcomeState
from persistip.strategies import AllocatorFeatures, Attract, CloudAction, CloudScope, CloudState, Sweep, Withdraw

_KNOWN: tuple[type, ...] = (Attract, Withdraw, Sweep)


class StaticAllocator:
    """The ``AddressAllocator`` for clusters whose network already leads the addresses to the nodes."""

    features = AllocatorFeatures(name="static", needs_provisioning=False, knows_owners=False)

    async def observe(self, scope: CloudScope) -> CloudState:  # noqa: ARG002 - the same for every scope
        """Everything is as it should be."""
        return CloudState(ready=True)

    async def apply(self, action: CloudAction) -> Outcome:
        """There is nothing to do for any action that is known, and it is done."""
        return DONE if type(action) in _KNOWN else Outcome(state=OutcomeState.UNSUPPORTED)
