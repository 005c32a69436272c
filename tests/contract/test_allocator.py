"""Do the allocators keep the promises of AddressAllocator: ours, and a synchronous SDK's through ``threaded``?"""

import threading
import time

import attrs
import pytest

from persistip.backends.memory import MemoryCloud
from persistip.backends.static import StaticAllocator
from persistip.model.actions import DONE, Outcome, OutcomeState
from persistip.runtime.threads import ThreadedAllocator, threaded
from persistip.strategies import (
    AddressAllocator,
    AllocatorFeatures,
    Attract,
    CloudAction,
    CloudScope,
    CloudState,
    Withdraw,
)
from persistip.testing.allocator_contract import AllocatorContract


class TestStaticAllocator(AllocatorContract):
    """No cloud."""

    def make(self, owner: str) -> AddressAllocator:
        """Make one; there is nothing to own."""
        return StaticAllocator()


class TestMemoryAllocator(AllocatorContract):
    """A cloud that takes its time."""

    @pytest.fixture(autouse=True)
    def cloud(self) -> None:
        """Start each test on an empty cloud."""
        self.made = MemoryCloud(lambda: 0.005)

    def make(self, owner: str) -> AddressAllocator:
        """Make one on the test's cloud."""
        return self.made.allocator(owner)


@attrs.define
class Acme:
    """A cloud's blocking client: the lock is its rate limit, the dictionary the cloud."""

    owner: str
    rules: dict[object, tuple[str, str]]
    features = AllocatorFeatures(name="acme", needs_provisioning=True, knows_owners=True)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def observe(self, scope: CloudScope) -> CloudState:
        time.sleep(0.001)
        with self._lock:
            found = {self.rules.get(prefix) for prefix in scope.prefixes}
        leaders = {rule[1] for rule in found if rule is not None}
        ready = None not in found and len(leaders) == 1
        return CloudState(ready=ready, leader=leaders.pop() if ready else None)

    def apply(self, action: CloudAction) -> Outcome:
        time.sleep(0.001)
        with self._lock:
            match action:
                case Attract(prefixes=prefixes, node_name=name):
                    self.rules.update(dict.fromkeys(prefixes, (self.owner, name)))
                    return Outcome(state=OutcomeState.STARTED)
                case Withdraw(prefixes=prefixes):
                    for prefix in prefixes:
                        if self.rules.get(prefix, ("", ""))[0] == self.owner:
                            del self.rules[prefix]
                    return DONE
                case _:
                    return Outcome(state=OutcomeState.UNSUPPORTED)


class TestThreadedAllocator(AllocatorContract):
    """A blocking client behind ``threaded``."""

    @pytest.fixture(autouse=True)
    def cloud(self) -> None:
        """Start each test on an empty cloud."""
        self.rules: dict[object, tuple[str, str]] = {}

    def make(self, owner: str) -> ThreadedAllocator:
        """Make one on the test's cloud."""
        return threaded(Acme(owner, self.rules))
