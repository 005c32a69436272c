"""
Which Nodes are gone, so that nothing need be awaited of them?

    a Node leaves this process's sight ──────────────────────────────> gone for good: no UID comes twice
    it was never in sight, or is out of service ──> a live read says so ──> gone, for the attachment as it stands

In: what the watch delivers, what live reads answer, a route's view.  Out: the UIDs known to be gone; what to ask first.
That a Node is not in sight proves nothing: a watch of Nodes may be behind one of attachments, and what another leader
granted on a Node made a moment ago would be taken for released. Nor does a taint that was there a while ago.
"""

from __future__ import annotations

from collections.abc import Iterator

from persistip.model.actions import ConfirmNodeGone
from persistip.model.attachment import AddressAttachment
from persistip.model.keys import ObjectKey
from persistip.model.node import Node
from persistip.model.views import RouteView

_REMEMBERED = 4096


class Departed:
    """What one process knows of Nodes that are gone; forgetting costs a read, and nothing else."""

    def __init__(self) -> None:
        self._left: dict[str, None] = {}
        self._confirmed: dict[ObjectKey, tuple[str, frozenset[str]]] = {}

    def see(self, key: ObjectKey, old: object | None, new: object | None) -> None:
        """*new* is in the place of *old* now: a Node made again under its name is another."""
        if new is None:
            self._confirmed.pop(key, None)
        if isinstance(old, Node) and (not isinstance(new, Node) or new.meta.uid != old.meta.uid):
            self._left[old.meta.uid] = None
            while len(self._left) > _REMEMBERED:
                del self._left[next(iter(self._left))]

    def confirm(self, asked: ConfirmNodeGone) -> None:
        """A live read, begun after the attachment was seen as it stands, found the Node gone."""
        version, known = self._confirmed.get(asked.attachment, ("", frozenset[str]()))
        others = known if version == asked.resource_version else frozenset[str]()
        self._confirmed[asked.attachment] = (asked.resource_version, others | {asked.uid})

    def of(self, attachment: AddressAttachment | None) -> frozenset[str]:
        """The UIDs of the Nodes that *attachment* names and that are known to be gone, as far as it is concerned."""
        if attachment is None:
            return frozenset()
        if not self._left and not self._confirmed:
            return frozenset()
        version, confirmed = self._confirmed.get(attachment.key, ("", frozenset[str]()))
        current = confirmed if version == attachment.meta.resource_version else frozenset[str]()
        return frozenset(uid for _, uid in _places(attachment) if uid in current or uid in self._left)


def _places(attachment: AddressAttachment) -> Iterator[tuple[str, str]]:
    spec = attachment.spec
    yield from ((entry.node_name, entry.node_uid) for entry in spec.releasing)
    if spec.holder is not None:
        yield spec.holder.node_name, spec.holder.node_uid


def is_node_gone(view: RouteView, node_uid: str) -> bool:
    """No Node with that UID, or the administrator's word that the machine is off; known, not guessed."""
    return node_uid in view.gone_nodes


def select_unconfirmed(view: RouteView, attachment: AddressAttachment) -> tuple[ConfirmNodeGone, ...]:
    """The Nodes of its releases that seem to be gone by *view*, each to be asked for."""
    places = sorted({(entry.node_name, entry.node_uid) for entry in attachment.spec.releasing})
    return tuple(
        ConfirmNodeGone(
            name=name, uid=uid, attachment=attachment.key, resource_version=attachment.meta.resource_version
        )
        for name, uid in places
        if not is_node_gone(view, uid) and _seems_gone(view.nodes.get(name), uid)
    )


def _seems_gone(node: Node | None, uid: str) -> bool:
    return node is None or node.meta.uid != uid or node.out_of_service
