"""
May this Pod hold addresses?

In: one Pod.  Out: None, or why not, as the end of the sentence "Pod x …".
The rules are GKE's two values of ``spec.reactionMode``; a third party's mode has the same one method, and says
which annotations it reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from persistip.model.pod import Pod
from persistip.model.route import ReactionModeName
from persistip.model.views import Admits


class ReadyCondition:
    """The default: the Pod's condition Ready is True."""

    annotations: Collection[str] = frozenset()

    def refusal(self, pod: Pod) -> str | None:
        """Refuse a Pod that cannot serve at this moment."""
        return None if pod.ready else "is not Ready"


class Exists:
    """A Pod holds addresses from the moment it has a node, for programs that must own them before they are ready."""

    annotations: Collection[str] = frozenset()

    def refusal(self, pod: Pod) -> str | None:
        """Refuse a Pod that runs nowhere yet."""
        return None if pod.node_name else "is not scheduled"


BUILT_IN: Mapping[str, Admits] = {
    ReactionModeName.READY_CONDITION: ReadyCondition(),
    ReactionModeName.EXISTS: Exists(),
}
