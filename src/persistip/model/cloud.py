"""
What does a cloud hold for the addresses of a route, and what is it to hold?

``CloudState`` as an allocator has observed it; the rules read it, and never the cloud. Actions as the rules decide
them: each says the whole of what is to stand for one route, so that repeating one changes nothing.
"""

from __future__ import annotations

import attrs

from persistip.model.address import Prefix
from persistip.model.gateway import Mode


@attrs.frozen(kw_only=True)
class CloudState:
    """
    What the cloud holds for a scope; ``leader`` is the node to which it sends the packets.

    ``reason``: why it cannot hold what it is to hold, in the words of ``GCPReady``; ``message``: the cloud's own words.
    ``owned``: the names of all that stands there with our mark, whole or not. ``is_known`` False: nobody has looked.
    """

    ready: bool
    leader: str | None = None
    reason: str = ""
    message: str = ""
    owned: tuple[str, ...] = ()
    is_known: bool = True


UNKNOWN = CloudState(ready=False, is_known=False, message="the cloud has not been looked at yet")
"""Of a route whose part of the cloud nobody has looked at."""


@attrs.frozen(kw_only=True)
class CloudScope:
    """
    Which part of the cloud to observe: the prefixes of one route.

    ``route``: its namespace and name with a slash between them; what was made for it is looked at whatever its prefixes
    are. Empty: the prefixes say it all.
    """

    prefixes: tuple[Prefix, ...]
    route: str = ""


@attrs.frozen(kw_only=True)
class Attract:
    """
    Make the cloud send the packets for ``prefixes`` to ``node_name``.

    Of a named ``route`` these are all: what was attracted for it beside them goes. ``nodes``: those which are to take
    over without any preparation, as far as the cloud knows one. ``external``: the prefixes are reachable from outside.
    ``global_access``: internal ones are reachable from other regions too.
    """

    prefixes: tuple[Prefix, ...]
    node_name: str
    route: str = ""
    nodes: tuple[str, ...] = ()
    mode: Mode = Mode.STANDARD
    external: bool = True
    global_access: bool = False


@attrs.frozen(kw_only=True)
class Withdraw:
    """Take away what ``Attract`` made for ``prefixes``; of a named ``route``, all that was made for it."""

    prefixes: tuple[Prefix, ...]
    route: str = ""


@attrs.frozen
class Sweep:
    """
    Take away all that was made for other routes than these, by whichever process of ours.

    For what nobody remembers: an attachment that somebody has deleted by force, work that outlived who asked for it. An
    allocator that may see less than there is does so only for what it has seen without its route twice.
    """

    routes: frozenset[str]


RouteAction = Attract | Withdraw
"""What is done for one route."""
CloudAction = Attract | Withdraw | Sweep
