"""
Compute Engine on loopback, hard to please: an emulator of what persistip's backend for it uses.

It refuses what the real service is documented to refuse, answers every mutation with an operation that is done later,
and says 501 to everything that it does not know. What was never compared with the live service is said in
``docs/how-to/run-against-an-emulated-compute-engine.md``.
"""

from __future__ import annotations

from persistip.testing.compute_engine.dataplane import DataPlane
from persistip.testing.compute_engine.engine import ComputeEngine, Reply, Request
from persistip.testing.compute_engine.faults import Chances, Fault, FaultKind, Faults
from persistip.testing.compute_engine.project import (
    EXAMPLE,
    DelegatedPrefix,
    Description,
    Instance,
    ReservedAddress,
    Subnetwork,
    add_instance,
    insert,
    read_description,
    reserve,
    seed,
    set_running,
)
from persistip.testing.compute_engine.server import ComputeServer
from persistip.testing.compute_engine.settings import LatencyName, Quotas

__all__ = [
    "EXAMPLE",
    "Chances",
    "ComputeEngine",
    "ComputeServer",
    "DataPlane",
    "DelegatedPrefix",
    "Description",
    "Fault",
    "FaultKind",
    "Faults",
    "Instance",
    "LatencyName",
    "Quotas",
    "Reply",
    "Request",
    "ReservedAddress",
    "Subnetwork",
    "add_instance",
    "insert",
    "read_description",
    "reserve",
    "seed",
    "set_running",
]
