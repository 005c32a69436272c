"""
How does a record of leadership look on the wire? As a Lease of coordination.k8s.io, like every other controller's.

In: the object as JSON, or a LeaseRecord.  Out: the other one. A Lease without a holder has no ``holderIdentity``: an
empty one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from persistip.strategies import LeaseRecord
from persistip.wire.kinds import RESOURCES
from persistip.wire.structs import Meta, Time, Wire
from persistip.wire.times import format_micro_time, to_seconds


class _Spec(Wire):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: Time | None = None
    renew_time: Time | None = None
    lease_transitions: int | None = None


class _Lease(Wire):
    metadata: Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


def lease_to_record(lease: Mapping[str, Any]) -> LeaseRecord:
    """What a Lease says; raises msgspec.ValidationError for what no API server would store."""
    found = msgspec.convert(lease, _Lease)
    spec = found.spec
    return LeaseRecord(
        holder=spec.holder_identity or "",
        duration_seconds=float(spec.lease_duration_seconds or 0),
        acquired_at=to_seconds(spec.acquire_time) if spec.acquire_time else 0.0,
        renewed_at=to_seconds(spec.renew_time) if spec.renew_time else 0.0,
        transitions=spec.lease_transitions or 0,
        version=found.metadata.resource_version or "",
    )


def lease_from_record(record: LeaseRecord, namespace: str, name: str) -> dict[str, Any]:
    """The Lease that says *record*; its version is the precondition."""
    resource = RESOURCES["Lease"]
    metadata = {"namespace": namespace, "name": name, "resourceVersion": record.version}
    spec: dict[str, Any] = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": max(math.ceil(record.duration_seconds), 1),
        "acquireTime": format_micro_time(record.acquired_at),
        "renewTime": format_micro_time(record.renewed_at),
        "leaseTransitions": record.transitions,
    }
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {field: value for field, value in metadata.items() if value},
        "spec": {field: value for field, value in spec.items() if value != ""},
    }
