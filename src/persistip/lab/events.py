"""
Which events are there?

Each is a function of a Scene that does nothing where it does not apply: the manifests may be the user's own. All it may
do is write manifests, signal processes and cut links.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from persistip.lab.measure import Event
from persistip.lab.scene import Expected, Scene

Act = Callable[[Scene], Awaitable[None]]


async def pod_deleted(scene: Scene) -> None:
    """The holder is deleted; where a standby is, it takes over while the old one still serves."""
    subject = await scene.choose("pod-deleted", lambda each: each.has_standby)
    if subject is None:
        return
    await scene.happen(
        Event(
            name="pod-deleted",
            sentence=f"kubectl delete pod {subject.pod}: it holds {subject.addresses}, and another Pod stands by",
            planned=True,
        ),
        subject.standing,
        lambda: scene.lab.delete("Pod", subject.namespace, subject.pod),
        Expected.OTHER_POD,
    )


EVENTS: tuple[tuple[str, Act], ...] = (("pod-deleted", pod_deleted),)
