"""
Does a class that inherits from nothing fit the interfaces, as a type checker sees it?

Checked by `nox -s types`, never run. An ignored error that no longer occurs is an error itself.
"""

from collections.abc import AsyncIterator, Sequence
from typing import assert_type

from persistip import (
    AddressAllocator,
    AllocatorFeatures,
    Attract,
    Batch,
    CloudAction,
    CloudScope,
    CloudState,
    Cluster,
    ClusterAction,
    Outcome,
    OutcomeState,
    Pod,
    ReactionMode,
)


class Acme:
    """An allocator for a cloud that sends packets where it is told."""

    def __init__(self) -> None:
        self.leader: str | None = None

    @property
    def features(self) -> AllocatorFeatures:
        return AllocatorFeatures(name="acme", needs_provisioning=True, knows_owners=True)

    async def observe(self, scope: CloudScope) -> CloudState:
        return CloudState(ready=self.leader is not None, leader=self.leader)

    async def apply(self, action: CloudAction) -> Outcome:
        self.leader = action.node_name if isinstance(action, Attract) else None
        return Outcome(state=OutcomeState.STARTED)


class Forgetful:
    """An allocator without ``apply``."""

    @property
    def features(self) -> AllocatorFeatures:
        return AllocatorFeatures(name="forgetful", needs_provisioning=True, knows_owners=True)

    async def observe(self, scope: CloudScope) -> CloudState:
        return CloudState(ready=False)


class Silent:
    """A cluster in which nothing ever changes."""

    async def changes(self) -> AsyncIterator[Batch]:
        yield Batch()

    async def apply(self, actions: Sequence[ClusterAction]) -> Sequence[Outcome]:
        return [Outcome(state=OutcomeState.UNSUPPORTED) for _ in actions]


class Warm:
    """A mode that admits every Pod but the cold ones."""

    annotations = frozenset({"example.com/temperature"})

    def refusal(self, pod: Pod) -> str | None:
        return "is cold" if pod.key.name.startswith("cold") else None


allocator: AddressAllocator = Acme()
cluster: Cluster = Silent()
mode: ReactionMode = Warm()
incomplete: AddressAllocator = Forgetful()  # type: ignore[assignment]


async def use() -> None:
    """What comes out is typed too."""
    assert_type(await allocator.observe(CloudScope(prefixes=())), CloudState)
    async for batch in cluster.changes():
        assert_type(batch, Batch)
