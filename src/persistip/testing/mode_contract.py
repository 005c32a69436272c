"""
Does a ReactionMode keep its promises?

In: a mode, a Pod that it admits and one that it refuses.  Out: one test for every promise of
``persistip.strategies.ReactionMode``. A mode is a function of the Pod: what it remembers, or reads from elsewhere, a
process that was started again does not know, and two replicas would name different Pods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import attrs

from persistip.model.pod import Pod
from persistip.strategies import ReactionMode
from persistip.testing.builders import START, pod

_LONGEST = 200
"""A reason is a part of a condition's message, beside those of other Pods."""


def pods() -> Iterator[Pod]:
    """Pods in every state in which a mode may be asked about one."""
    yield pod()
    yield pod(node="", ips=(), ready=False)  # not scheduled
    yield pod(ips=(), ready=False)  # without an IP yet
    yield pod(ips=("2001:db8::2",))
    yield pod(ips=("10.0.0.2", "2001:db8::2"), ready=False)
    yield pod(deleted_at=START)
    yield pod(phase="Succeeded", ready=False)
    yield pod(labels={})


class ReactionModeContract(ABC):
    """Every promise of ReactionMode."""

    @abstractmethod
    def make(self) -> ReactionMode:
        """A mode as a process makes it at its start."""

    @abstractmethod
    def admitted(self) -> Pod:
        """A Pod that the mode admits."""

    @abstractmethod
    def refused(self) -> Pod:
        """A Pod that the mode refuses."""

    def _pods(self) -> tuple[Pod, ...]:
        return (self.admitted(), self.refused(), *pods())

    def test_admitted_pod_may_hold_addresses(self) -> None:
        """A Pod that meets the rule is given no reason against it."""
        assert self.make().refusal(self.admitted()) is None

    def test_refused_pod_is_told_why(self) -> None:
        """A Pod that does not meet the rule gets a reason."""
        assert self.make().refusal(self.refused())

    def test_reason_is_the_end_of_a_sentence(self) -> None:
        """Behind "Pod x" every reason reads as one line without a full stop, short enough to stand beside others."""
        mode = self.make()
        for each in self._pods():
            why = mode.refusal(each)
            if why is not None:
                assert why, "an empty reason admits nobody and says nothing; return None to admit"
                assert why == " ".join(why.split()), f"{why!r} is not one line of words"
                assert not why.endswith("."), f"{why!r} ends with a full stop"
                assert len(why) <= _LONGEST, f"{why!r} is longer than {_LONGEST} characters"

    def test_annotation_that_is_not_named_is_not_read(self) -> None:
        """What the mode does not name in ``annotations`` changes no answer: nobody would let a route carry it."""
        mode = self.make()
        for each in self._pods():
            named = {key: value for key, value in each.meta.annotations.items() if key in mode.annotations}
            bare = attrs.evolve(each, meta=attrs.evolve(each.meta, annotations=named))
            assert mode.refusal(bare) == mode.refusal(each), f"{sorted(each.meta.annotations)} are read and not named"

    def test_answer_is_the_same_when_asked_again(self) -> None:
        """What a mode was asked before, about this Pod in another state or about others, changes no answer."""
        mode = self.make()
        first = [mode.refusal(each) for each in self._pods()]
        for each in self._pods():
            mode.refusal(attrs.evolve(each, ready=not each.ready))
        assert [mode.refusal(each) for each in reversed(self._pods())] == first[::-1]

    def test_answer_is_the_same_after_a_restart(self) -> None:
        """A mode made anew answers like one that has judged all these Pods before."""
        mode = self.make()
        known = [mode.refusal(each) for each in self._pods()]
        assert [self.make().refusal(each) for each in reversed(self._pods())] == known[::-1]
