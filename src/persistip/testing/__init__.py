"""
The kit for people who extend the library: builders of objects, and contracts that an implementation proves itself by.

Contracts are classes for pytest, which finds and runs them; they are loaded when they are first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from persistip.testing.builders import (
    ADDRESS,
    PODS_LABELS,
    STANDARD_CLASS,
    START,
    ManualClock,
    attachment,
    config_map,
    gateway,
    gateway_class,
    namespace,
    node,
    pod,
    route,
    seed,
    selector,
)

if TYPE_CHECKING:
    from persistip.testing.contracts import (
        AllocatorContract,
        ClusterContract,
        ClusterWorld,
        DatapathContract,
        DatapathWorld,
        LeaseContract,
        ReactionModeContract,
    )

__all__ = [
    "ADDRESS",
    "PODS_LABELS",
    "STANDARD_CLASS",
    "START",
    "AllocatorContract",
    "ClusterContract",
    "ClusterWorld",
    "DatapathContract",
    "DatapathWorld",
    "LeaseContract",
    "ManualClock",
    "ReactionModeContract",
    "attachment",
    "config_map",
    "gateway",
    "gateway_class",
    "namespace",
    "node",
    "pod",
    "route",
    "seed",
    "selector",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("persistip.testing.contracts"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
