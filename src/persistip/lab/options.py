"""
What can be chosen for one run of the lab?

Values only: arguments and files are the command line's job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from persistip.model.bounds import above

DatapathName = Literal["linux", "memory"]
CloudName = Literal["none", "gce"]
LatencyName = Literal["none", "assumed", "slow"]

SETTLE_SECONDS: Mapping[LatencyName, float] = {"none": 15.0, "assumed": 90.0, "slow": 400.0}
"""How long anything may take to come to rest, by how long the cloud takes for each of a handful of steps."""


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
    cloud: CloudName = "none"
    latency: LatencyName = "none"
    events: tuple[str, ...] = ()
    settle_seconds: float = attrs.field(default=15.0, validator=above(0))
    """How long anything may take to come to rest before it counts as failed."""
