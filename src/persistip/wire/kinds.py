"""
Which kinds of object are there on the wire, under which API version, and of what shape?

Group, versions and scope are upstream's (Kubernetes, Gateway API) and GKE's; AddressAttachment is ours.
"""

from __future__ import annotations

import attrs

from persistip.model.keys import DOMAIN


@attrs.frozen(kw_only=True)
class Resource:
    """One kind: ``api_versions`` are all alike to us, the first is what we write."""

    kind: str
    plural: str
    api_versions: tuple[str, ...]
    namespaced: bool
    has_status: bool = True

    @property
    def api_version(self) -> str:
        """The version we write."""
        return self.api_versions[0]


_ALL = (
    Resource(
        kind="GatewayClass",
        plural="gatewayclasses",
        api_versions=("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"),
        namespaced=False,
    ),
    Resource(
        kind="Gateway",
        plural="gateways",
        api_versions=("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"),
        namespaced=True,
    ),
    Resource(kind="GKEIPRoute", plural="gkeiproutes", api_versions=("networking.gke.io/v1",), namespaced=True),
    Resource(
        kind="AddressAttachment", plural="addressattachments", api_versions=(f"{DOMAIN}/v1alpha1",), namespaced=False
    ),
    Resource(kind="Pod", plural="pods", api_versions=("v1",), namespaced=True),
    Resource(kind="Node", plural="nodes", api_versions=("v1",), namespaced=False),
    Resource(kind="Namespace", plural="namespaces", api_versions=("v1",), namespaced=False),
    Resource(kind="ConfigMap", plural="configmaps", api_versions=("v1",), namespaced=True, has_status=False),
    Resource(kind="Network", plural="networks", api_versions=("networking.gke.io/v1",), namespaced=False),
    Resource(
        kind="GKENetworkParamSet",
        plural="gkenetworkparamsets",
        api_versions=("networking.gke.io/v1",),
        namespaced=False,
    ),
    Resource(kind="Service", plural="services", api_versions=("v1",), namespaced=True),
    Resource(
        kind="ServiceCIDR",
        plural="servicecidrs",
        api_versions=("networking.k8s.io/v1", "networking.k8s.io/v1beta1"),
        namespaced=False,
    ),
    Resource(
        kind="CustomResourceDefinition",
        plural="customresourcedefinitions",
        api_versions=("apiextensions.k8s.io/v1",),
        namespaced=False,
    ),
    Resource(kind="StatefulSet", plural="statefulsets", api_versions=("apps/v1",), namespaced=True),
    Resource(kind="Deployment", plural="deployments", api_versions=("apps/v1",), namespaced=True),
    Resource(kind="ReplicaSet", plural="replicasets", api_versions=("apps/v1",), namespaced=True),
    Resource(
        kind="Lease", plural="leases", api_versions=("coordination.k8s.io/v1",), namespaced=True, has_status=False
    ),
    Resource(kind="Event", plural="events", api_versions=("events.k8s.io/v1",), namespaced=True, has_status=False),
)

RESOURCES = {resource.kind: resource for resource in _ALL}
