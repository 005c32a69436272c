"""
How long does Compute Engine take, and how much may be asked of it?

The cloud publishes no latencies of operations: ``assumed`` is a guess to develop against, and nothing may be claimed
from it. Quotas are the published ones where there are any, and settings all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import attrs

LatencyName = Literal["none", "assumed", "slow"]
LATENCY_NAMES: tuple[LatencyName, ...] = get_args(LatencyName)

QUICK = (0.001, 0.01)
"""Without latency: long enough for the seed to choose the order."""

_ASSUMED: Mapping[str, tuple[float, float]] = {
    "addresses": (0.5, 2.0),
    "forwardingRules": (2.0, 8.0),
    "regionBackendServices": (2.0, 6.0),
    "networkEndpointGroups": (1.0, 5.0),
    "regionHealthChecks": (1.0, 3.0),
    "firewalls": (2.0, 8.0),
    "targetInstances": (1.0, 4.0),
}
SLOW_FACTOR = 5.0


def seconds_of(latency: LatencyName, service: str) -> tuple[float, float]:
    """Between which two an operation of a service takes."""
    if latency == "none":
        return QUICK
    low, high = _ASSUMED[service]
    factor = SLOW_FACTOR if latency == "slow" else 1.0
    return low * factor, high * factor


@attrs.frozen(kw_only=True)
class Quotas:
    """What may be asked for; beyond it requests are refused, or operations fail."""

    calls_per_minute: int = 1500
    """Of one method; refilled when a minute begins."""
    operations: int = 1000
    """Running at once."""
    resources: Mapping[str, int] = attrs.field(
        factory=lambda: {
            "FORWARDING_RULES": 2000,
            "STATIC_ADDRESSES": 2000,
            "NETWORK_ENDPOINT_GROUPS": 500,
            "BACKEND_SERVICES": 500,
            "HEALTH_CHECKS": 500,
            "FIREWALLS": 500,
            "TARGET_INSTANCES": 500,
        }
    )
