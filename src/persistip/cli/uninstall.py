"""
`persistip uninstall`: take everything of ours out of a cluster.

In: a cluster, and the parameters with which it was installed.  Out: a cluster in which nothing of ours is left but your
routes, your Gateways and the GatewayClasses that you made, without our marks; in an order in which nothing hangs and no
node goes on delivering:

    the controller stops; this command leads in its place
    every address is withdrawn, and every node confirms it: this needs the agents
    what the controller said of routes, Gateways and your own classes goes, its classes go
    the agents, the rights, the policies, the CRDs

What others own is not touched, although it may have the name of ours. May be repeated when it was interrupted.

Exit status 0; 1 when a node did not let go in time, or a controller goes on; 2 when the cluster or the options cannot
be used at all.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import App, Parameter

from persistip.backends.registry import LeasingCluster, find_cluster
from persistip.backends.static import StaticAllocator
from persistip.cli import given
from persistip.cli.departure import Departing
from persistip.cli.live import API_SERVER, ask, open_console
from persistip.cli.run import LEASE
from persistip.controller import Controller
from persistip.decide.suspects import NAME as SUSPECTS
from persistip.errors import ConfigError
from persistip.manifests import Parameters, build
from persistip.model.address import show
from persistip.model.attachment import RELEASE_FINALIZER, AddressAttachment
from persistip.model.gateway import IN_USE_FINALIZER
from persistip.model.views import Policy
from persistip.runtime.clock import SystemClock
from persistip.runtime.election import Election
from persistip.settings import ClusterSettings, ControllerSettings
from persistip.wire.decode import to_model
from persistip.wire.kinds import RESOURCES

if TYPE_CHECKING:
    from persistip.backends.apiserver import Console

EXIT_LEFT = 1

Manifest = Mapping[str, Any]

_CONTROLLER = "persistip-controller"
_DECISIONS = "persistip-decisions"
_NAME_LABEL = "app.kubernetes.io/name"
# What is in every namespace, or comes and goes by itself with what is ours.
_NOBODYS = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
_OTHERS = (
    ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service"), ("v1", "ServiceAccount"), ("v1", "Pod"),
    ("v1", "PersistentVolumeClaim"), ("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"), ("batch/v1", "CronJob"), ("networking.gke.io/v1", "GKEIPRoute"),
    ("gateway.networking.k8s.io/v1", "Gateway"),
)  # fmt: skip

app = App(name="uninstall", help="Take everything of ours out of a cluster.")


@app.default
def uninstall(
    *,
    namespace: str = Parameters().namespace,
    controller_name: str = Parameters().controller_name,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    routes: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    timeout: float = 60.0,
    api: given.Api = None,
) -> None:
    """
    Take everything of ours out of a cluster, in an order in which nothing hangs.

    Your Gateways and GatewayClasses stay, and your GKEIPRoutes with their CRD as long as there are any.

    Parameters
    ----------
    namespace
        Where the controller and the agents live.
    controller_name
        The controllerName of the GatewayClasses that are ours.
    dry_run
        Say what would go, and what would stay; change nothing.
    routes
        The GKEIPRoutes go too, all of them, with their CRD.
    force
        Do not wait for nodes that have not let go in time: what is in their kernels stays there until they restart.
    timeout
        How long nodes may take to let go, in seconds.
    """
    parameters = Parameters(namespace=namespace, controller_name=controller_name)
    wish = _Wish(parameters=parameters, routes=routes, force=force, timeout_seconds=timeout)
    if not timeout > 0:
        given.refuse(ConfigError(f"--timeout {timeout} is no time to wait; give seconds, more than 0"))
    try:
        is_all_gone = ask(_uninstall(wish, api or ClusterSettings(), is_dry=dry_run))
    except ConfigError as error:
        given.refuse(error)
    sys.exit(given.EXIT_DONE if is_all_gone else EXIT_LEFT)


@attrs.frozen(kw_only=True)
class _Wish:
    """What was typed."""

    parameters: Parameters
    routes: bool
    force: bool
    timeout_seconds: float


async def _uninstall(wish: _Wish, api: ClusterSettings, *, is_dry: bool) -> bool:
    async with open_console(api) as console:
        ours, left = await _standing(console, wish)
        attachments = await console.all_of("persistip.dev/v1alpha1", "AddressAttachment")
        marked = [each for each in await _classes(console, wish) if _is_held(each) or _is_reported(each)]
        if is_dry:
            for line in (*_withdrawals(attachments), *(f"would delete {_subject(each)}" for each in ours)):
                print(line)
            for line in left:
                print(f"would keep {line}")
            return True
        if not ours and not attachments and not marked:
            print("nothing of ours is there")
            return True
        steps = _Steps(console, wish, ours)
        if not await steps.withdraw(api, has_attachments=bool(attachments)):
            return False
        await steps.clean()
        for line in left:
            print(f"kept {line}")
        return True


async def _standing(console: Console, wish: _Wish) -> tuple[list[Manifest], list[str]]:
    """What is there of our manifests, in the order in which it goes, and why the rest stays."""
    ours: list[Manifest] = []
    left: list[str] = []
    for manifest in reversed(build(wish.parameters)):
        found = await console.find(manifest)
        if found is None or found["metadata"].get("deletionTimestamp"):
            continue
        why = await _why_kept(console, wish, found)
        if why is None:
            ours.append(found)
        else:
            left.append(f"{_subject(found)}: {why}")
    mine = {each["metadata"]["name"] for each in build(wish.parameters) if each["kind"] == "GatewayClass"}
    left += [
        f"{_subject(found)}: it is yours; what the controller said of it goes"
        for found in await _classes(console, wish)
        if found["metadata"]["name"] not in mine and not found["metadata"].get("deletionTimestamp")
    ]
    return ours, left


async def _classes(console: Console, wish: _Wish) -> list[Manifest]:
    """The GatewayClasses that are the controller's to serve, whoever made them, on their way out or not."""
    found = await console.all_of(RESOURCES["GatewayClass"].api_version, "GatewayClass")
    return [each for each in found if each["spec"]["controllerName"] == wish.parameters.controller_name]


def _is_held(found: Manifest) -> bool:
    return IN_USE_FINALIZER in (found["metadata"].get("finalizers") or ())


def _is_reported(found: Manifest) -> bool:
    """Whether the controller has said something of it."""
    return any(each.get("manager") == _CONTROLLER for each in found["metadata"].get("managedFields") or ())


async def _why_kept(console: Console, wish: _Wish, found: Manifest) -> str | None:
    """Why an object stays that has the name of ours; None: it goes."""
    match found["kind"]:
        case "GatewayClass" if (name := found["spec"]["controllerName"]) != wish.parameters.controller_name:
            return f"it belongs to {name}"
        case "CustomResourceDefinition" | "Namespace" if not _is_labelled(found):
            return "somebody else installed it"
        case "CustomResourceDefinition" if found["spec"]["names"]["kind"] == "GKEIPRoute" and not wish.routes:
            routes = await console.all_of("networking.gke.io/v1", "GKEIPRoute")
            names = _listed(f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in routes)
            return f"your routes are of it ({names}); with --routes they go too" if routes else None
        case "Namespace":
            others = [each async for each in _others_in(console, wish)]
            return f"it has other things in it ({_listed(others)})" if others else None
        case _:
            return None


async def _others_in(console: Console, wish: _Wish) -> AsyncIterator[str]:
    """What is in the system's namespace, by name, and neither ours nor everybody's."""
    namespace = wish.parameters.namespace
    mine = {(each["kind"], each["metadata"]["name"]) for each in build(wish.parameters)}
    mine |= _NOBODYS | {("ConfigMap", SUSPECTS)}
    for api_version, kind in _OTHERS:
        for each in await console.all_of(api_version, kind, namespace):
            name = each["metadata"]["name"]
            if (kind, name) not in mine and not _is_labelled(each):
                yield f"{kind} {name}"


def _is_labelled(found: Manifest) -> bool:
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return labels.get(_NAME_LABEL) == "persistip"


class _Steps:
    """The work itself; each step may find that it has been done already."""

    def __init__(self, console: Console, wish: _Wish, ours: Sequence[Manifest]) -> None:
        self._console, self._wish, self._ours = console, wish, ours

    async def withdraw(self, api: ClusterSettings, *, has_attachments: bool) -> bool:
        """Stop who decides, decide that nobody holds anything, and see it done; False: something is still held."""
        # The policy lets the controller's own account alone decide, and that is not who sits here.
        await self._delete(each for each in self._ours if _is(each, "ValidatingAdmissionPolicyBinding", _DECISIONS))
        await self._delete(each for each in self._ours if each["kind"] == "Deployment")
        classes = await _classes(self._console, self._wish)
        has_classes = any(each["kind"] == "GatewayClass" for each in self._ours) or any(map(_is_held, classes))
        if not has_attachments and not has_classes:
            return True
        namespace = self._wish.parameters.namespace
        is_electing = any(each["kind"] == "Namespace" for each in self._ours) or bool(
            await self._console.find({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        )
        async with find_cluster(API_SERVER)(api, None, ()) as cluster:
            return await self._drain(cluster, is_electing=is_electing)

    async def _drain(self, cluster: LeasingCluster, *, is_electing: bool) -> bool:
        parameters = self._wish.parameters
        departing = Departing(cluster, parameters.controller_name)
        policy = Policy(controller_name=parameters.controller_name, system_namespace=parameters.namespace)
        election = None
        if is_electing:
            identity = f"uninstall_{socket.gethostname()}_{uuid.uuid4()}"
            election = Election(cluster.lease(parameters.namespace, LEASE), identity, SystemClock())
        controller = Controller(
            departing, StaticAllocator(), settings=ControllerSettings(policy=policy), election=election
        )
        # What it would log are retries; what is left in the end is said in a sentence.
        quiet, logger = logging.NullHandler(), logging.getLogger("persistip")
        logger.addHandler(quiet)
        is_leading = True
        try:
            async with controller:
                with suppress(TimeoutError):
                    await asyncio.wait_for(departing.done.wait(), self._wish.timeout_seconds)
                is_leading = election is None or election.is_leading
        finally:
            logger.removeHandler(quiet)
        if not departing.done.is_set():
            return await self._give_up(departing, is_leading=is_leading)
        print("every address is withdrawn, and every node has confirmed it")
        return True

    async def _give_up(self, departing: Departing, *, is_leading: bool) -> bool:
        """Say what still stands in the way; with --force, go on all the same."""
        if not is_leading:
            given.say(f"a controller still runs somewhere: it does not give up the Lease {LEASE}")
        elif departing.refusal:
            given.say(departing.refusal)
        for each in departing.attachments.values() if is_leading else ():
            if each is not None:
                given.say(f"{each.key} of {each.route_key}: {_why_held(each)}")
        if not self._wish.force:
            given.say(
                "nothing else is removed. Where a node's machine is off, say so with `kubectl taint node NODE "
                "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`, and call this again; or use --force"
            )
            return False
        for found in await self._console.all_of("persistip.dev/v1alpha1", "AddressAttachment"):
            await self._console.delete(found)
            await self._console.release(found, RELEASE_FINALIZER)
            print(f"let go of {_subject(found)} by force")
        for held in filter(_is_held, await _classes(self._console, self._wish)):
            await self._console.release(held, IN_USE_FINALIZER)
        return True

    async def clean(self) -> None:
        """Take away what was said and what was installed."""
        yours = [await self._console.all_of(RESOURCES[kind].api_version, kind) for kind in ("GKEIPRoute", "Gateway")]
        for found in (*chain(*yours), *await _classes(self._console, self._wish)):
            if _is_reported(found):
                await self._console.drop_status(found, _CONTROLLER)
        await self._delete(self._ours)
        namespace = self._wish.parameters.namespace
        for kind, name in (("Lease", LEASE), ("ConfigMap", SUSPECTS)):
            meta = {"name": name, "namespace": namespace}
            named = {"apiVersion": RESOURCES[kind].api_version, "kind": kind, "metadata": meta}
            if (standing := await self._console.find(named)) is not None:
                await self._console.delete(standing)

    async def _delete(self, manifests: Iterable[Manifest]) -> None:
        for each in manifests:
            if await self._console.find(each) is not None:
                await self._console.delete(each)
                print(f"deleted {_subject(each)}")


def _is(found: Manifest, kind: str, name: str) -> bool:
    return (found["kind"], found["metadata"]["name"]) == (kind, name)


def _subject(found: Manifest) -> str:
    meta = found["metadata"]
    return f"{found['kind']} {meta['namespace']}/{meta['name']}" if meta.get("namespace") else _bare(found)


def _bare(found: Manifest) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def _withdrawals(attachments: Iterable[Manifest]) -> Iterator[str]:
    """A line for each attachment that is held, or cannot be read."""
    for found in attachments:
        model = to_model(found)
        if isinstance(model, AddressAttachment) and model.spec.holder is not None:
            prefixes = ", ".join(show(prefix) for prefix in model.spec.held_prefixes)
            holder = model.spec.holder
            yield f"would withdraw {prefixes} of {model.route_key} from {holder.pod_name} on {holder.node_name}"
        else:
            yield f"would delete {_subject(found)}"


def _why_held(attachment: AddressAttachment) -> str:
    nodes = sorted({release.node_name for release in attachment.spec.releasing})
    if not nodes:
        return "is not yet drained"
    return f"{', '.join(nodes)} has not let go; does an agent run there?"


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")
