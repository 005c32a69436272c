"""
Which networks can Pods be attached to, beside the cluster's own?

GKE's ``Network`` and ``GKENetworkParamSet`` (``networking.gke.io/v1``), read only; a cluster may have neither kind.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from persistip.model.gateway import ParametersRef
from persistip.model.keys import Kind, ObjectKey, ObjectMeta


class NetworkType(StrEnum):
    """``spec.type`` of a Network."""

    L2 = "L2"
    L3 = "L3"
    DEVICE = "Device"


@attrs.frozen(kw_only=True)
class Network:
    """A network; ``type`` is as written. ``ready``: its condition Ready is True; ``message`` is what that says."""

    meta: ObjectMeta
    type: str = NetworkType.L3
    parameters_ref: ParametersRef | None = None
    ready: bool = False
    message: str = ""

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.NETWORK, "", self.meta.name)

    def names(self, parameters: ObjectKey) -> bool:
        """Whether those are its parameters."""
        return self.parameters_ref is not None and self.parameters_ref.name == parameters.name


@attrs.frozen(kw_only=True)
class GKENetworkParamSet:
    """Where a network lies in the cloud; ``ready`` and ``message`` as those of a Network."""

    meta: ObjectMeta
    vpc: str = ""
    vpc_subnet: str = ""
    pod_ranges: tuple[str, ...] = ()
    device_mode: str = ""
    ready: bool = False
    message: str = ""

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.PARAM_SET, "", self.meta.name)
