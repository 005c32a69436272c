"""
What do the verbs that work on files have in common: which files, which instant, which cluster comes of them?

In: `-f`, `--now`, `--allocator`, `--reaction-mode`, `--policy.…`, `--without-node`, `--without-pod`.  Out: a rehearsal
of that cluster, and on standard error what was wrong with the files, what was taken for granted, and was left aside.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, NoReturn

import attrs
from cyclopts import Parameter

from persistip.backends.registry import find_allocator, find_reaction_modes
from persistip.decide.catalog import Planned
from persistip.errors import ConfigError
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.views import GatewayView, Policy, RouteView
from persistip.runtime.clock import SystemClock
from persistip.runtime.rehearsal import Rehearsal, Settled
from persistip.runtime.standins import complete
from persistip.settings import ControllerSettings
from persistip.wire.check import closest
from persistip.wire.files import Fault, Manifests, join_manifests, read_files, read_text
from persistip.wire.times import parse_time

EXIT_DONE, EXIT_STRICT, EXIT_UNUSABLE = 0, 1, 2

Files = Annotated[
    tuple[str, ...],
    Parameter(
        name=["--filename", "-f"],
        allow_leading_hyphen=True,  # for `-f -`
        negative=(),
        help="Files, folders, or - for standard input; may be given several times.",
    ),
]
# What a shell makes of `-f *.yaml`.
MoreFiles = Annotated[str, Parameter(show=False)]
Now = Annotated[str | None, Parameter(help="The instant to decide at, such as 2030-01-31T12:00:00Z; default: now.")]
Allocator = Annotated[str, Parameter(help="What provides addresses: static, or one that is installed.")]
ReactionModes = Annotated[
    tuple[str, ...],
    Parameter(
        name="--reaction-mode",
        consume_multiple=True,
        negative=(),
        help="Installed reaction modes that routes may name, beside the two of the API.",
    ),
]
Settings = Annotated[Policy | None, Parameter(name="policy", group="Settings that change decisions")]
WithoutNodes = Annotated[
    tuple[str, ...],
    Parameter(name="--without-node", consume_multiple=True, negative=(), help="Nodes that go, with their Pods."),
]
WithoutPods = Annotated[
    tuple[str, ...],
    Parameter(name="--without-pod", consume_multiple=True, negative=(), help="Pods that go, as NAMESPACE/NAME."),
]


@attrs.frozen(kw_only=True)
class Offline:
    """A cluster made of files, not yet settled; ``nodes`` and ``pods`` are the names of those that may be taken out."""

    rehearsal: Rehearsal
    manifests: Manifests
    policy: Policy
    nodes: frozenset[str]
    pods: frozenset[str]

    @property
    def is_incomplete(self) -> bool:
        """A file or folder that was named could not be used at all."""
        return any(fault.document == 0 for fault in self.manifests.faults)

    def remove(self, nodes: Iterable[str], pods: Iterable[str]) -> None:
        """Take Nodes and Pods out; raises ConfigError for one that is not there."""
        nodes, pods = sorted(set(nodes)), sorted(set(pods))
        for what, names, known in (("Node", nodes, self.nodes), ("Pod", pods, self.pods)):
            for name in names:
                if name not in known:
                    named = {each.rpartition("/")[2]: each for each in sorted(known)}
                    meant = named.get(name) or closest(name, known)
                    fix = f"did you mean {meant}?" if meant else f"there are: {', '.join(sorted(known)) or 'none'}"
                    raise ConfigError(f"there is no {what} {name!r} to be without; {fix}")
        for name in nodes:
            self.rehearsal.without_node(name)
        for name in pods:
            self.rehearsal.without_pod(*name.split("/", maxsplit=1))


def load(
    files: Sequence[str], *, now: str | None, allocator: str, settings: Policy | None, reaction_modes: Iterable[str]
) -> Offline:
    """
    Read the files and say on standard error what is not as it should be.

    Raises ConfigError when there is nothing to work on, or an option means nothing.
    """
    instant = _instant(now)
    policy = _policy(allocator, settings or Policy())
    modes = find_reaction_modes(reaction_modes)
    manifests = _read(files)
    for fault in manifests.faults:
        print(fault, file=sys.stderr)
    if manifests.others:
        say(f"ignored, since nothing is decided by them: {_counted(other.kind for other in manifests.others)}")
    lost = {fault.key: fault.message for fault in manifests.faults if fault.key is not None}
    models = {each.model.key: each.model for each in manifests.objects if each.model is not None}
    unreadable = {key: why for key, why in lost.items() if key not in models}
    if not models:
        raise ConfigError("there is no object to work on in these files")
    completed = complete(models.values(), now=instant, lost=unreadable)
    for assumption in completed.assumptions:
        say(assumption)
    found = completed.objects
    return Offline(
        rehearsal=Rehearsal(found.values(), now=instant, policy=policy, modes=modes, unreadable=unreadable),
        manifests=manifests,
        policy=policy,
        nodes=frozenset(each.meta.name for each in found.values() if isinstance(each, Node)),
        pods=frozenset(each.key.path for each in found.values() if isinstance(each, Pod)),
    )


def say(line: str) -> None:
    """One line for people, beside what was asked for."""
    print(f"persistip: {line}", file=sys.stderr)


def refuse(error: ConfigError) -> NoReturn:
    """End with the status for what cannot be used at all."""
    say(str(error))
    sys.exit(EXIT_UNUSABLE)


def is_left_alone(offline: Offline, settled: Settled, key: ObjectKey) -> str | None:
    """Why nothing is written to a Gateway or route, as the end of a sentence; None: it is ours."""
    if key in settled.unreadable:
        return f"is not judged, since what it rests on could not be read ({settled.unreadable[key]})"
    if key.kind is Kind.GATEWAY:
        return _why_not_ours(offline, offline.rehearsal.view(key))
    plan = settled.plans.get(key)
    return None if plan is None or plan.verdict.is_ours else "is left alone: not every Gateway that it names is ours"


def _why_not_ours(offline: Offline, view: Planned) -> str | None:
    if not isinstance(view, GatewayView) or view.facts is None:
        return None
    found, gateway = view.facts.gateway_class, view.facts.gateway
    if found is None:
        return f"is left alone: GatewayClass {gateway.class_name!r} is not given"
    if found.controller_name != offline.policy.controller_name:
        return f"is left alone: GatewayClass {gateway.class_name!r} belongs to controller {found.controller_name!r}"
    return None


def lacks_class(offline: Offline, route: ObjectKey) -> bool:
    """Whether a Gateway that the route names is of a class that is nowhere in the files."""
    view = offline.rehearsal.view(route)
    if not isinstance(view, RouteView) or view.facts is None:
        return False
    named = [parent.gateway for parent in view.facts.parents if parent.gateway is not None]
    return any(gateway.gateway_class is None for gateway in named)


def _instant(now: str | None) -> float:
    if now is None:
        return SystemClock().now()
    try:
        return parse_time(now)
    except ValueError as error:
        raise ConfigError(f"--now {now!r} is no instant; write it as 2030-01-31T12:00:00Z") from error


def _policy(allocator: str, settings: Policy) -> Policy:
    """The settings, in which the allocator says by itself whether it knows who owns what."""

    async def features() -> bool:
        async with find_allocator(allocator)(ControllerSettings()) as found:
            if found.features.needs_provisioning:
                raise ConfigError(f"allocator {allocator!r} provisions a cloud, which files cannot tell about")
            return found.features.knows_owners

    return attrs.evolve(settings, knows_owners=settings.knows_owners or asyncio.run(features()))


def _read(files: Sequence[str]) -> Manifests:
    if not files:
        raise ConfigError("name at least one file, folder or - (standard input) with -f")
    return join_manifests(_read_one(file) for file in files)


def _read_one(file: str) -> Manifests:
    kinds = tuple(Kind)
    found = read_text(sys.stdin.read(), file="stdin", kinds=kinds) if file == "-" else read_files([file], kinds=kinds)
    if found == Manifests((), ()):
        return Manifests((), (Fault(file="stdin" if file == "-" else file, message="holds no object"),))
    return found


def _counted(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))
