"""
What can be chosen for one run of the lab?

Values only: arguments and files are the command line's job.
"""

from __future__ import annotations

from typing import Literal

import attrs

from persistip.model.bounds import above

DatapathName = Literal["linux", "memory"]


@attrs.frozen(kw_only=True)
class LabOptions:
    """
    One run.

    ``datapath`` linux wants to be inside a sandbox (see ``sandbox``); memory needs nothing. ``seed`` decides the order
    of choices, not of time. ``events`` empty: every event that the manifests allow.
    """

    datapath: DatapathName = "linux"
    seed: int = 0
    with_agents: bool = True
    keep: bool = False
    events: tuple[str, ...] = ()
    settle_seconds: float = attrs.field(default=15.0, validator=above(0))
    """How long anything may take to come to rest before it counts as failed."""
