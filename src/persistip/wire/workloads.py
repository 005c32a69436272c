"""
What do the objects that only files hold look like: those that make Pods?

In structs as those of ``persistip.wire.structs``; no controller of ours reads them.
"""

from __future__ import annotations

from typing import Any

from persistip.wire.structs import Meta, Selector, Wire


class TemplateMeta(Wire):
    """``metadata`` of a Pod template, which needs no name."""

    unread = frozenset({"name", "namespace", "creationTimestamp", "finalizers"})

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Template(Wire):
    """``spec.template``."""

    spec: dict[str, Any]
    metadata: TemplateMeta | None = None


class StatefulSetSpec(Wire):
    """StatefulSet ``spec``."""

    unread = frozenset(
        {
            "serviceName",
            "updateStrategy",
            "podManagementPolicy",
            "revisionHistoryLimit",
            "volumeClaimTemplates",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
            "ordinals",
        }
    )

    selector: Selector
    template: Template
    replicas: int | None = None


class DeploymentSpec(Wire):
    """Deployment ``spec``."""

    unread = frozenset({"strategy", "minReadySeconds", "revisionHistoryLimit", "paused", "progressDeadlineSeconds"})

    selector: Selector
    template: Template
    replicas: int | None = None


class StatefulSetObject(Wire):
    """StatefulSet."""

    unread = frozenset({"status"})

    metadata: Meta
    spec: StatefulSetSpec


class DeploymentObject(Wire):
    """Deployment."""

    unread = frozenset({"status"})

    metadata: Meta
    spec: DeploymentSpec
