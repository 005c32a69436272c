"""
Is the installation whole, and what of the objects keeps addresses from working?

In: ClusterFacts.  Out: findings. What a route or a Gateway lacks is judged by the rules of ``decide``; here is said
what no condition of theirs can: that nobody is there to write one, or that the ground on which all stands is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from persistip.decide.installed import judge_installed
from persistip.decide.parameters import is_ours
from persistip.decide.pool import resolve_pool
from persistip.doctor.finding import Finding, Severity
from persistip.doctor.node import CAPABILITIES, source_check
from persistip.model.conditions import ConditionType, Status, find_condition
from persistip.model.definition import CustomResourceDefinition
from persistip.model.gateway import Gateway
from persistip.model.keys import ObjectKey
from persistip.model.node import Node
from persistip.model.route import GKEIPRoute
from persistip.model.views import GatewayView

LEAST_KUBERNETES = (1, 30)
"""The first in which ValidatingAdmissionPolicies are switched on."""

_APPLY = "apply the manifests of this version: persistip manifests --image IMAGE | kubectl apply -f -"


@attrs.frozen(kw_only=True)
class ProcessFacts:
    """One Pod of ours. ``capabilities``: those that its container adds; ``why``: why it is not Ready."""

    name: str
    component: str
    node: str = ""
    is_ready: bool = False
    capabilities: frozenset[str] = frozenset()
    is_root: bool = True
    why: str = ""


@attrs.frozen(kw_only=True)
class Definition:
    """A definition of ours: the manifests of this version have it; is it there, and does it hold all of that?"""

    name: str
    is_there: bool = True
    is_whole: bool = True


@attrs.frozen(kw_only=True)
class Lacking:
    """A right that the manifests give to *subject*, and that it does not have."""

    subject: str
    verb: str
    resource: str


@attrs.frozen(kw_only=True)
class ClusterFacts:
    """What was seen of a cluster."""

    namespace: str
    version: str
    definitions: tuple[Definition, ...] = ()
    gateway_api: tuple[CustomResourceDefinition, ...] = ()
    processes: tuple[ProcessFacts, ...] = ()
    nodes: tuple[Node, ...] = ()
    gateways: tuple[GatewayView, ...] = ()
    routes: tuple[GKEIPRoute, ...] = ()
    unreadable: Mapping[ObjectKey, str] = attrs.field(factory=dict)
    lacking: tuple[Lacking, ...] = ()
    source_checks: tuple[tuple[str, str], ...] = ()
    """Network plugins that check sources, with what told so."""
    unseen: tuple[str, ...] = ()
    """What the person may not look at."""


def judge_cluster(facts: ClusterFacts) -> tuple[Finding, ...]:
    """All that is in the way in a cluster, the gravest first."""
    found = [
        *_judge_versions(facts), *_judge_definitions(facts), *_judge_controllers(facts), *_judge_agents(facts),
        *_judge_rights(facts), *_judge_gateways(facts), *_judge_routes(facts),
        *(source_check(name, told) for name, told in facts.source_checks), *_judge_sight(facts),
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.severity is not Severity.PROBLEM))


def _judge_versions(facts: ClusterFacts) -> Iterator[Finding]:
    version = re.match(r"v?(\d+)\.(\d+)", facts.version)
    if version is not None and (int(version[1]), int(version[2])) < LEAST_KUBERNETES:
        least = ".".join(map(str, LEAST_KUBERNETES))
        yield Finding(
            check="kubernetes-version",
            subject=f"Kubernetes {facts.version}",
            message=f"before {least} there are no ValidatingAdmissionPolicies: an agent could write for other nodes",
            fix=f"upgrade the cluster to {least} or newer",
        )
    if not facts.gateway_api:
        yield Finding(
            check="gateway-api",
            subject="CustomResourceDefinition gateways.gateway.networking.k8s.io",
            message="Gateway API is not installed: there can be no Gateway",
            fix="install the standard definitions of Gateway API v1",
        )
        return
    status, _, said = judge_installed(facts.gateway_api)
    if status is Status.FALSE:
        yield Finding(
            check="gateway-api",
            severity=Severity.WARNING,
            subject="Gateway API",
            message=said,
            fix="install the standard definitions of Gateway API v1 as a whole",
        )


def _judge_definitions(facts: ClusterFacts) -> Iterator[Finding]:
    for each in facts.definitions:
        subject = f"CustomResourceDefinition {each.name}"
        if not each.is_there:
            yield Finding(check="definitions", subject=subject, message="is not installed", fix=_APPLY)
        elif not each.is_whole:
            yield Finding(
                check="definitions",
                severity=Severity.WARNING,
                subject=subject,
                message="lacks fields or rules that this version has: it is of another version, or not ours",
                fix=f"{_APPLY}; beside GKE's own controller leave GKEIPRoute as it is",
            )


def _judge_controllers(facts: ClusterFacts) -> Iterator[Finding]:
    controllers = [each for each in facts.processes if each.component == "controller"]
    if any(each.is_ready for each in controllers):
        return
    where = f"Deployment {facts.namespace}/persistip-controller"
    if not controllers:
        yield Finding(
            check="controller",
            subject=where,
            message="has no Pod: nobody decides who holds an address",
            fix=f"{_APPLY}; another namespace is named with --namespace",
        )
        return
    yield Finding(
        check="controller",
        subject=where,
        message=f"has no Pod that is Ready: {_whys(controllers)}",
        fix=f"kubectl -n {facts.namespace} describe pods -l app.kubernetes.io/component=controller",
    )


def _whys(processes: Sequence[ProcessFacts]) -> str:
    return "; ".join(f"{each.name} ({each.why or 'not Ready'})" for each in processes)


def _judge_agents(facts: ClusterFacts) -> Iterator[Finding]:
    agents = [each for each in facts.processes if each.component == "agent"]
    for node in facts.nodes:
        if node.meta.labels.get("kubernetes.io/os") == "windows" or node.out_of_service:
            continue
        here = [each for each in agents if each.node == node.meta.name]
        if any(each.is_ready for each in here):
            continue
        what = f"its agent is not Ready: {_whys(here)}" if here else "no agent runs there"
        also = "" if node.ready else "; the Node itself is not Ready"
        see = f"--field-selector spec.nodeName={node.meta.name}"
        yield Finding(
            check="agent",
            subject=f"Node {node.meta.name}",
            message=f"{what}{also}: it takes no address, and lets none go",
            fix=f"kubectl -n {facts.namespace} describe pods -l app.kubernetes.io/component=agent {see}"
            if here
            else f"see why DaemonSet {facts.namespace}/persistip-agent has no Pod there: kubectl -n {facts.namespace} "
            "describe daemonset persistip-agent",
        )
    lacking = {
        name: sorted(each.name for each in agents if name not in each.capabilities and "ALL" not in each.capabilities)
        for name in CAPABILITIES
    }
    for name, pods in lacking.items():
        if pods:
            yield Finding(
                check="agent-capabilities",
                subject=f"DaemonSet {facts.namespace}/persistip-agent",
                message=f"its containers do not add the capability {name}: {', '.join(pods)}",
                fix=f"add {name} to securityContext.capabilities.add of container agent, or {_APPLY}",
            )
    if powerless := sorted(each.name for each in agents if not each.is_root):
        yield Finding(
            check="agent-user",
            subject=f"DaemonSet {facts.namespace}/persistip-agent",
            message=f"does not run as root, and a capability that is added helps root alone: {', '.join(powerless)}",
            fix=f"set securityContext.runAsUser: 0 of container agent, or {_APPLY}",
        )


def _judge_rights(facts: ClusterFacts) -> Iterator[Finding]:
    subjects = sorted({each.subject for each in facts.lacking})
    for subject in subjects:
        mine = [each for each in facts.lacking if each.subject == subject]
        said = ", ".join(sorted({f"{each.verb} {each.resource}" for each in mine}))
        is_process = subject.startswith("ServiceAccount")
        yield Finding(
            check="rights",
            severity=Severity.PROBLEM if is_process else Severity.WARNING,
            subject=subject,
            message=f"may not: {said}",
            fix=_APPLY
            if is_process
            else "kubectl create clusterrolebinding NAME --clusterrole=persistip-reader "
            "--user=USER, by an administrator",
        )


def _judge_gateways(facts: ClusterFacts) -> Iterator[Finding]:
    bare = {}
    for view in facts.gateways:
        if view.facts is None or view.facts.gateway_class is None or not is_ours(view.facts, view.policy):
            continue
        found, gateway = view.facts.gateway_class, view.facts.gateway
        if not view.policy.knows_owners and (found.parameters_ref is None or view.facts.parameters is None):
            bare[found.meta.name] = found
            continue
        yield from _judge_pool(gateway, view)
    for _, each in sorted(bare.items()):
        ref = each.parameters_ref
        what = (
            "has no spec.parametersRef, so no address is allowed in its Gateways"
            if ref is None
            else f"names {ref.kind} {ref.namespace}/{ref.name}, which is not there, so no address is allowed"
        )
        yield Finding(
            check="class-parameters",
            subject=f"GatewayClass {each.meta.name}",
            message=what,
            fix="make a ConfigMap with `allowedAddresses: CIDR …` and name it in spec.parametersRef of the class",
        )


def _judge_pool(gateway: Gateway, view: GatewayView) -> Iterator[Finding]:
    assert view.facts is not None  # noqa: S101 - of a Gateway of ours
    pool = resolve_pool(view.facts, view.ranges, view.policy)
    said = [*pool.unusable, *(fault.message for fault in pool.listener_faults.values())]
    if pool.refusal is not None and not said:
        said.append(pool.refusal[1])
    for message in said:
        yield Finding(
            check="gateway",
            severity=Severity.PROBLEM if pool.refusal is not None else Severity.WARNING,
            subject=f"Gateway {gateway.key.path}",
            message=message,
            fix=f"kubectl -n {gateway.meta.namespace} edit gateway {gateway.meta.name}",
        )


def _judge_routes(facts: ClusterFacts) -> Iterator[Finding]:
    for route in facts.routes:
        ready = find_condition(route.status.conditions, ConditionType.READY)
        if ready is not None and ready.status != Status.TRUE:
            yield Finding(
                check="route",
                severity=Severity.WARNING,
                subject=f"GKEIPRoute {route.key.path}",
                message=f"is not Ready, {ready.reason}: {ready.message}",
                fix=f"persistip explain {route.key.path}",
            )


def _judge_sight(facts: ClusterFacts) -> Iterator[Finding]:
    for key, why in sorted(facts.unreadable.items()):
        yield Finding(
            check="unreadable",
            severity=Severity.WARNING,
            subject=str(key),
            message=f"cannot be read: {why}",
            fix="correct the object; until then nothing that rests on it is changed",
        )
    for what in facts.unseen:
        yield Finding(
            check="unseen",
            severity=Severity.WARNING,
            subject=what,
            message="you may not look at this, so it was not judged",
            fix="ask as an administrator of the cluster",
        )
