"""
What does a cloud hold for the addresses of a route?

As an allocator has observed it; the rules read it, and never the cloud.
"""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class CloudState:
    """What the cloud holds for a scope; ``leader`` is the node to which it sends the packets."""

    ready: bool
    leader: str | None = None
    reason: str = ""
    message: str = ""
