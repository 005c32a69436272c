"""
What is this cluster like?

In: a person's connection.  Out: ClusterFacts. Nothing is changed. Kubernetes itself is asked what the accounts of the
controller and the agents may do; where the person may not ask that, it is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from persistip.backends.apiserver import Console
from persistip.decide.agents import LABELS
from persistip.doctor.cluster import ClusterFacts, Definition, Lacking, ProcessFacts
from persistip.errors import RefusedError
from persistip.manifests import Parameters, build
from persistip.model.definition import CustomResourceDefinition, is_of_gateway_api
from persistip.model.keys import Kind
from persistip.model.node import Node
from persistip.model.route import GKEIPRoute
from persistip.model.views import GatewayView, Policy
from persistip.runtime.clock import SystemClock
from persistip.runtime.rehearsal import Rehearsal

_AUTHORIZATION = "/apis/authorization.k8s.io/v1"
_CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
_NAME = "app.kubernetes.io/name"
_COMPONENT = "app.kubernetes.io/component"
_AT_ONCE = 16
_ME = "You"

Manifest = Mapping[str, Any]
Right = tuple[str, str, str, str, str]
"""Group, resource, subresource, name and verb."""


async def look_at_cluster(console: Console, policy: Policy) -> ClusterFacts:
    """Look; raises BackendError, RefusedError where not even the objects that decisions rest on may be read."""
    namespace = policy.system_namespace
    snapshot = await console.snapshot(policy)
    version = msgspec.json.decode(await console.client.request("GET", "/version"))
    installed = {each["metadata"]["name"]: each for each in await console.all_of(*_CRD)}
    unseen: list[str] = []
    lacking = await _lacking(console, namespace, unseen)
    rehearsal = Rehearsal(
        snapshot.objects.values(),
        now=SystemClock().now(),
        policy=policy,
        unreadable=snapshot.unreadable,
        with_nodes=False,
    )
    found = list(snapshot.objects.values())
    views = (rehearsal.view(key) for key in sorted(snapshot.objects) if key.kind is Kind.GATEWAY)
    return ClusterFacts(
        namespace=namespace,
        version=version["gitVersion"],
        definitions=tuple(_definitions(installed)),
        gateway_api=tuple(
            each for each in found if isinstance(each, CustomResourceDefinition) and is_of_gateway_api(each.key)
        ),
        processes=tuple(map(_process, await _our_pods(console, namespace))),
        nodes=tuple(each for each in found if isinstance(each, Node)),
        gateways=tuple(view for view in views if isinstance(view, GatewayView)),
        routes=tuple(each for each in found if isinstance(each, GKEIPRoute)),
        unreadable=snapshot.unreadable,
        lacking=lacking,
        source_checks=tuple([each async for each in _source_checks(console, installed)]),
        unseen=tuple(unseen),
    )


# ---------------------------------------------------------------- what is installed
def _definitions(installed: Mapping[str, Manifest]) -> Iterator[Definition]:
    for manifest in build(Parameters()):
        if manifest["kind"] == _CRD[1]:
            name = manifest["metadata"]["name"]
            there = installed.get(name)
            is_whole = there is not None and holds(there["spec"]["versions"], manifest["spec"]["versions"])
            yield Definition(name=name, is_there=there is not None, is_whole=is_whole)


def holds(there: Any, wanted: Any) -> bool:
    """Whether *there* has all of *wanted*; the server adds defaults of its own."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(holds(there.get(name), each) for name, each in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(holds(*pair) for pair in zip(there, wanted, strict=True))
        )
    # What is written out as a default may be left out by the server.
    return bool(there == wanted) or (not wanted and there is None)


async def _our_pods(console: Console, namespace: str) -> list[Manifest]:
    pods = await console.all_of("v1", "Pod", namespace)
    return [each for each in pods if (each["metadata"].get("labels") or {}).get(_NAME) == LABELS[_NAME]]


def _process(pod: Manifest) -> ProcessFacts:
    spec, status = pod["spec"], pod.get("status", {})
    contexts = [{**spec.get("securityContext", {}), **each.get("securityContext", {})} for each in spec["containers"]]
    added = (name for each in contexts for name in each.get("capabilities", {}).get("add", ()))
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    ready = conditions.get("Ready", {})
    is_privileged = any(each.get("privileged") for each in contexts)
    return ProcessFacts(
        name=pod["metadata"]["name"],
        component=pod["metadata"]["labels"].get(_COMPONENT, ""),
        node=spec.get("nodeName", ""),
        is_ready=ready.get("status") == "True" and "deletionTimestamp" not in pod["metadata"],
        capabilities=frozenset({"ALL"}) if is_privileged else frozenset(name.removeprefix("CAP_") for name in added),
        is_root=all(each.get("runAsUser", 0) == 0 for each in contexts),
        why=_why(status, ready),
    )


def _why(status: Manifest, ready: Manifest) -> str:
    """The container's own trouble, such as an image that is not there, else the Pod's."""
    for each in status.get("containerStatuses", ()):
        state = each.get("state", {})
        told = state.get("waiting") or state.get("terminated")
        if told:
            return ": ".join(part for part in (told.get("reason", ""), told.get("message", "")) if part)
    return str(ready.get("message") or ready.get("reason") or status.get("phase", ""))


async def _source_checks(console: Console, installed: Mapping[str, Manifest]) -> Any:
    """Plugins that are there and have not been told to let foreign sources out, as far as one may see."""
    plugins = (
        ("Cilium", "ciliumendpoints.cilium.io", "/api/v1/namespaces/kube-system/configmaps/cilium-config",
         ("data", "enable-source-ip-verification"), "false"),
        ("Calico", "felixconfigurations.crd.projectcalico.org",
         "/apis/crd.projectcalico.org/v1/felixconfigurations/default", ("spec", "workloadSourceSpoofing"), "Any"),
    )  # fmt: skip
    for name, crd, path, (part, field), lets_out in plugins:
        if crd in installed and await _value(console, path, part, field) != lets_out:
            yield name, f"CustomResourceDefinition {crd}"


async def _value(console: Console, path: str, part: str, field: str) -> Any:
    from persistip.backends.apiserver.errors import NotFoundError  # noqa: PLC0415 - beside its only use

    try:
        return msgspec.json.decode(await console.client.request("GET", path)).get(part, {}).get(field)
    except (NotFoundError, RefusedError):
        return None


# ---------------------------------------------------------------- rights
async def _lacking(console: Console, namespace: str, unseen: list[str]) -> tuple[Lacking, ...]:
    """Which rights of the manifests the accounts of ours, and the person, do not have."""
    manifests = build(Parameters(namespace=namespace), ["rbac.yaml"])
    questions: list[tuple[str, str, str, Right]] = [
        (_ME, "", "", right) for right in _rights(manifests, "persistip-reader")
    ]
    for binding in manifests:
        for subject in binding.get("subjects", ()):
            where = namespace if binding["kind"] == "RoleBinding" else ""
            user = f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
            told = f"ServiceAccount {subject['namespace']}/{subject['name']}"
            kind = binding["roleRef"]["kind"]
            questions += [(told, user, where, right) for right in _rights(manifests, binding["roleRef"]["name"], kind)]
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(question: tuple[str, str, str, Right]) -> bool | None:
        async with turns:
            return await _may(console, *question[1:])

    answers = await asyncio.gather(*map(ask, questions))
    if None in answers:
        unseen.append(f"rights of the ServiceAccounts in {namespace}")
    return tuple(
        Lacking(subject=subject, verb=right[4], resource="/".join(part for part in right[:4] if part))
        for (subject, _, _, right), answer in zip(questions, answers, strict=True)
        if answer is False
    )


def _rights(manifests: Iterable[Manifest], name: str, kind: str = "ClusterRole") -> Sequence[Right]:
    (role,) = (each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return [
        (group, *_parted(resource), named, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for named in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    ]


def _parted(resource: str) -> tuple[str, str]:
    plural, _, sub = resource.partition("/")
    return plural, sub


async def _may(console: Console, user: str, namespace: str, right: Right) -> bool | None:
    """Whether *user*, or the person, has the right; None: the person may not ask that."""
    group, resource, subresource, name, verb = right
    attributes = {
        "group": group, "resource": resource, "subresource": subresource, "name": name, "verb": verb,
        "namespace": namespace,
    }  # fmt: skip
    kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
    groups = ["system:serviceaccounts", "system:authenticated"]
    spec: dict[str, Any] = {"resourceAttributes": attributes} | ({"user": user, "groups": groups} if user else {})
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    try:
        answer = await console.client.request("POST", f"{_AUTHORIZATION}/{kind.lower()}s", body=body)
    except RefusedError:
        return None
    return bool(msgspec.json.decode(answer)["status"].get("allowed"))
