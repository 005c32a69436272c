"""Do the two modes of the API keep the promises of ReactionMode, and does the contract catch modes that do not?"""

from contextlib import nullcontext

import attrs
import pytest

from persistip.decide.modes import Exists, ReadyCondition
from persistip.model.pod import Pod
from persistip.strategies import ReactionMode
from persistip.testing import ReactionModeContract, pod


class TestReadyCondition(ReactionModeContract):
    """The default."""

    def make(self) -> ReactionMode:
        """Make one."""
        return ReadyCondition()

    def admitted(self) -> Pod:
        """Give one that is Ready."""
        return pod()

    def refused(self) -> Pod:
        """Give one that is not."""
        return pod(ready=False)


class TestExists(TestReadyCondition):
    """For programs that must own the address before they are ready."""

    def make(self) -> ReactionMode:
        """Make one."""
        return Exists()

    def admitted(self) -> Pod:
        """Give one that runs somewhere."""
        return pod(ready=False)

    def refused(self) -> Pod:
        """Give one that runs nowhere yet."""
        return pod(node="", ips=())


class Sulking:
    """Whoever was not Ready once is refused for good: remembers."""

    annotations = ()

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def refusal(self, pod: Pod) -> str | None:
        """Refuse."""
        if not pod.ready:
            self.seen.add(pod.meta.uid)
        return "was not Ready once" if pod.meta.uid in self.seen else None


class Verbose:
    """Writes sentences of its own."""

    annotations = ()

    def refusal(self, pod: Pod) -> str | None:
        """Refuse."""
        return None if pod.ready else "The Pod\nis not Ready."


class Open:
    """Admits everybody."""

    annotations = ()

    def refusal(self, pod: Pod) -> str | None:
        """Admit."""
        return None


class Mute:
    """Refuses and does not say why."""

    annotations = ()

    def refusal(self, pod: Pod) -> str | None:
        """Refuse."""
        return None if pod.ready else ""


@pytest.mark.parametrize(
    ("mode", "promise"),
    [
        (Sulking, "test_answer_is_the_same_when_asked_again"),
        (Sulking, "test_answer_is_the_same_after_a_restart"),
        (Verbose, "test_reason_is_the_end_of_a_sentence"),
        (Open, "test_refused_pod_is_told_why"),
        (Mute, "test_reason_is_the_end_of_a_sentence"),
    ],
)
def test_mode_that_breaks_a_promise_is_caught(mode: type[ReactionMode], promise: str) -> None:
    """Each mistake that is easily made fails the test that speaks of it."""

    class Broken(TestReadyCondition):
        def make(self) -> ReactionMode:
            return mode()

    with pytest.raises(AssertionError):
        getattr(Broken(), promise)()


class Secretive:
    """Reads an annotation and does not say so."""

    annotations = ()

    def refusal(self, pod: Pod) -> str | None:
        """Refuse."""
        return None if pod.meta.annotations.get("example.com/cache") == "warm" else "is not warm"


class Frank(Secretive):
    """The same, and says so."""

    annotations = ("example.com/cache",)


@pytest.mark.parametrize(("mode", "passes"), [(Secretive, False), (Frank, True)])
def test_annotation_read_and_not_named_is_caught(mode: type[ReactionMode], *, passes: bool) -> None:
    """A mode that reads what it does not name fails the test that speaks of it, and one that names it passes."""

    class Judged(TestReadyCondition):
        def make(self) -> ReactionMode:
            return mode()

        def admitted(self) -> Pod:
            found = pod()
            return attrs.evolve(found, meta=attrs.evolve(found.meta, annotations={"example.com/cache": "warm"}))

    with nullcontext() if passes else pytest.raises(AssertionError, match="are read and not named"):
        Judged().test_annotation_that_is_not_named_is_not_read()
