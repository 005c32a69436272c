"""
Which version of each object that we write may a view be built on?

    own write  ──response──┐
                           ├──> the newest of either; the watch is the judge of what exists
    watch      ──event─────┘

In: what the watch delivers and what our own writes return, in any interleaving.  Out: whether it is news.
A view never predates our own writes, and a response that comes late never turns back what the watch has told since.
Resource versions of one resource can be compared as numbers (KEP-5504).
"""

from __future__ import annotations

import attrs

from persistip.model.attachment import AddressAttachment
from persistip.model.gateway import Gateway, GatewayClass
from persistip.model.keys import ObjectKey
from persistip.model.route import GKEIPRoute

Written = AddressAttachment | GKEIPRoute | Gateway | GatewayClass
"""What is written here: by a controller attachments whole and of the others the status, by an agent its report."""

_REMEMBERED = 1024


@attrs.frozen
class _Version:
    uid: str
    number: int


def _version(found: Written) -> _Version:
    number = found.meta.resource_version
    return _Version(found.meta.uid, int(number) if number.isdecimal() else 0)  # objects from files have none


class Versions:
    """What the watch has delivered and what we have written since, by key."""

    def __init__(self) -> None:
        self._watched: dict[ObjectKey, _Version] = {}
        self._written: dict[ObjectKey, _Version] = {}
        self._gone: dict[ObjectKey, str] = {}

    def deliver(self, found: Written) -> bool:
        """The watch delivers *found*; False: we have written a newer version, which it will deliver too."""
        version = self._watched[found.key] = _version(found)
        self._gone.pop(found.key, None)
        written = self._written.get(found.key)
        if written is not None and version.number < written.number:
            return False
        self._written.pop(found.key, None)
        return True

    def depart(self, key: ObjectKey) -> bool:
        """The watch says that the object is gone; False: that was a former one, and we have made it again since."""
        watched, written = self._watched.pop(key, None), self._written.get(key)
        if watched is not None:
            self._gone[key] = watched.uid
            for oldest in list(self._gone)[:-_REMEMBERED]:
                del self._gone[oldest]
        if watched is not None and written is not None and watched.uid != written.uid:
            return False
        self._written.pop(key, None)
        return True

    def write(self, found: Written) -> bool:
        """A write of ours returned *found*; False: the watch has delivered that version, a newer one, or its end."""
        version = _version(found)
        known = [each for each in (self._watched.get(found.key), self._written.get(found.key)) if each is not None]
        if self._gone.get(found.key) == version.uid or any(version.number <= each.number for each in known):
            return False
        self._written[found.key] = version
        return True

    def is_overtaken(self, found: Written) -> bool:
        """Whether the watch has delivered a newer version than *found*."""
        watched = self._watched.get(found.key)
        return watched is not None and watched.number > _version(found).number

    def is_watched(self, found: Written) -> bool:
        """Whether the watch has delivered this very version, and with it everything that was written before."""
        return self._watched.get(found.key) == _version(found)
