"""
Which node's agent cannot be asked?

In: a Pod.  Out: whether it is an agent of ours. An agent that runs as a Pod and is not Ready tells nothing, and what it
told is old: the kernel goes on as it was programmed, and nobody knows whether it still does what was confirmed. Agents
that are no Pods are not judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from persistip.model.pod import Pod

LABELS = {"app.kubernetes.io/name": "persistip", "app.kubernetes.io/component": "agent"}
"""What agents' Pods carry, in the namespace of the system."""


def is_agent(pod: Pod, system_namespace: str) -> bool:
    """Whether it is one of ours; a tenant's Pod is none, whatever its labels."""
    return pod.meta.namespace == system_namespace and LABELS.items() <= pod.meta.labels.items()


def is_silent(agents: Iterable[Pod]) -> bool:
    """Whether there are Pods of agents on a node, and none that is Ready; while one is replaced there may be two."""
    found = tuple(agents)
    return bool(found) and not any(pod.ready for pod in found)
