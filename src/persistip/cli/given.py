"""
What are the verbs given that decide and write nothing: files, a cluster, or files over a cluster?

In: `-f`, `--live`, `--kubeconfig`, `--context`, `--now`, `--allocator`, `--reaction-mode`, `--policy.…`,
`--without-node`, `--without-pod`.  Out: a rehearsal of that cluster, and on standard error what was wrong with the
files, what was taken for granted, and was left aside.

    files alone             complete(files), ideal nodes
    a cluster alone         as it stands; its nodes say what they have said, so that what is wrong shows
    files over a cluster    as it would stand, ideal nodes
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import attrs
from cyclopts import Parameter

from persistip.backends.registry import find_allocator, find_reaction_modes
from persistip.cli.live import over, read_cluster
from persistip.decide.catalog import Planned
from persistip.errors import ConfigError
from persistip.model.gateway import CLASSES
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node
from persistip.model.pod import Pod
from persistip.model.views import GatewayFacts, GatewayView, Policy, RouteFacts, RouteView
from persistip.runtime.clock import SystemClock
from persistip.runtime.rehearsal import Rehearsal, Settled
from persistip.runtime.standins import complete
from persistip.settings import ClusterSettings, ControllerSettings
from persistip.strategies import ClusterObject
from persistip.wire.check import closest
from persistip.wire.files import Fault, Manifests, join_manifests, read_files, read_text
from persistip.wire.times import parse_time

if TYPE_CHECKING:
    from persistip.backends.apiserver import Snapshot

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
Live = Annotated[
    bool, Parameter(negative=(), help="Lay the files of -f over a cluster; without -f the cluster is read anyway.")
]
Api = Annotated[ClusterSettings | None, Parameter(name="*", group="The cluster")]
WithoutNodes = Annotated[
    tuple[str, ...],
    Parameter(name="--without-node", consume_multiple=True, negative=(), help="Nodes that go, with their Pods."),
]
WithoutPods = Annotated[
    tuple[str, ...],
    Parameter(name="--without-pod", consume_multiple=True, negative=(), help="Pods that go, as NAMESPACE/NAME."),
]


@attrs.frozen(kw_only=True)
class Given:
    """
    A cluster that is not yet settled; ``nodes`` and ``pods`` are the names of those that may be taken out.

    ``before``: the objects of a cluster as they stand, None where there are files alone. ``routes``: those that were
    given, read or not.
    """

    rehearsal: Rehearsal
    manifests: Manifests
    policy: Policy
    nodes: frozenset[str]
    pods: frozenset[str]
    routes: tuple[ObjectKey, ...]
    before: Mapping[ObjectKey, ClusterObject] | None = None

    @property
    def is_incomplete(self) -> bool:
        """A file or folder that was named, or a document of it, is lost, and nobody can tell which objects with it."""
        return any(not fault.subject for fault in self.manifests.faults)

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


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Options:
    """What the verbs have in common, as it was typed."""

    files: Files = ()
    live: Live = False
    api: Api = None
    now: Now = None
    allocator: Allocator = "static"
    reaction_modes: ReactionModes = ()
    policy: Settings = None
    without_nodes: WithoutNodes = ()
    without_pods: WithoutPods = ()

    @property
    def is_changed(self) -> bool:
        """Something will be taken out: what nodes have said until now is no answer."""
        return bool(self.without_nodes or self.without_pods)


DEFAULTS = Options()


def load(options: Options, more: Sequence[str]) -> Given:
    """
    Read files, *more* of them too, and cluster, and say on standard error what is not as it should be.

    Raises ConfigError when there is nothing to work on, or an option means nothing.
    """
    files = (*options.files, *more)
    instant = _instant(options.now)
    policy = policy_of(options.allocator, options.policy or Policy())
    modes = find_reaction_modes(options.reaction_modes)
    api = options.api or ClusterSettings()
    is_live = options.live or not files or api != ClusterSettings()
    manifests = _read(files)
    for fault in manifests.faults:
        print(fault, file=sys.stderr)
    if manifests.others:
        say(f"ignored, since nothing is decided by them: {_counted(other.kind for other in manifests.others)}")
    lost = {fault.key: fault.message for fault in manifests.faults if fault.key is not None}
    models = {each.model.key: each.model for each in manifests.objects if each.model is not None}
    unreadable = {key: why for key, why in lost.items() if key not in models}
    before = None
    if is_live:
        snapshot = _read_cluster(api, policy, is_meant=options.live or api != ClusterSettings())
        before = snapshot.objects
        models = {**before, **{key: over(each, before.get(key)) for key, each in models.items()}}
        unreadable = {**{key: why for key, why in snapshot.unreadable.items() if key not in models}, **unreadable}
    if not models:
        raise ConfigError("there is no object to work on in these files")
    found = models
    if files or not is_live:
        completed = complete(models.values(), now=instant, lost=unreadable)
        for assumption in completed.assumptions:
            say(assumption)
        found = dict(completed.objects)
    with_nodes = not is_live or bool(files) or options.is_changed
    return Given(
        rehearsal=Rehearsal(
            found.values(), now=instant, policy=policy, modes=modes, unreadable=unreadable, with_nodes=with_nodes
        ),
        manifests=manifests,
        policy=policy,
        nodes=frozenset(each.meta.name for each in found.values() if isinstance(each, Node)),
        pods=frozenset(each.key.path for each in found.values() if isinstance(each, Pod)),
        routes=tuple(key for key in found if key.kind is Kind.ROUTE),
        before=before,
    )


def _read_cluster(api: ClusterSettings, policy: Policy, *, is_meant: bool) -> Snapshot:
    try:
        return read_cluster(api, policy)
    except ConfigError as error:
        if is_meant:
            raise
        message = f"without -f a cluster is read, and {error}"
        raise ConfigError(message) from error


def find_route(routes: Iterable[ObjectKey], name: str) -> ObjectKey:
    """The route that is meant; raises ConfigError when it is none, or more than one."""
    keys = sorted(routes)
    found = [key for key in keys if name in (key.path, key.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"several routes are named {name!r}: {', '.join(key.path for key in found)}")
    names = {key.name: key.path for key in keys}
    meant = closest(name, [key.path for key in keys]) or names.get(closest(name, names) or "")
    fix = f"did you mean {meant}?" if meant else f"there are: {', '.join(key.path for key in keys) or 'none'}"
    raise ConfigError(f"no GKEIPRoute {name!r} could be read; {fix}")


def say(line: str) -> None:
    """One line for people, beside what was asked for."""
    print(f"persistip: {line}", file=sys.stderr)


def refuse(error: ConfigError) -> NoReturn:
    """End with the status for what cannot be used at all."""
    say(str(error))
    sys.exit(EXIT_UNUSABLE)


def is_left_alone(offline: Given, settled: Settled, key: ObjectKey) -> str | None:
    """Why nothing is written to a Gateway or route, as the end of a sentence; None: it is ours."""
    if key in settled.unreadable:
        return f"is not judged, since what it rests on could not be read ({settled.unreadable[key]})"
    if key.kind is Kind.GATEWAY:
        return _why_not_ours(offline, offline.rehearsal.view(key))
    plan = settled.plans.get(key)
    if plan is None or plan.verdict.is_ours:
        return None
    view = offline.rehearsal.view(key)
    assert isinstance(view, RouteView)  # noqa: S101 - by the kind of the key
    assert view.facts is not None  # noqa: S101 - one that is neither ours nor unreadable is there
    return why_route_not_ours(view.facts, offline.policy)


def why_route_not_ours(facts: RouteFacts, policy: Policy) -> str:
    """Which Gateways keep us from a route that is not ours, as the end of a sentence."""
    named = [parent.gateway for parent in facts.parents if parent.gateway is not None]
    foreign = {
        found.gateway.key: f"Gateway {found.gateway.key.path} is not ours ({why})"
        for found in named
        if (why := _foreign_class(found, policy)) is not None
    }
    said = "; ".join(foreign.values()) or "no Gateway that it names exists, and another controller may serve it"
    return f"is left alone: {said}"


def _why_not_ours(offline: Given, view: Planned) -> str | None:
    if not isinstance(view, GatewayView) or view.facts is None:
        return None
    why = _foreign_class(view.facts, offline.policy)
    return f"is left alone: {why}" if why is not None else None


def _foreign_class(facts: GatewayFacts, policy: Policy) -> str | None:
    found, name = facts.gateway_class, facts.gateway.class_name
    if found is None:
        return f"GatewayClass {name!r} is not given{_where_to_get(name)}"
    if found.controller_name != policy.controller_name:
        return f"GatewayClass {name!r} belongs to controller {found.controller_name!r}"
    return None


def _where_to_get(class_name: str) -> str:
    return "; `persistip manifests` prints it" if class_name in CLASSES else ""


def lacks_class(offline: Given, route: ObjectKey) -> bool:
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


def policy_of(allocator: str, settings: Policy) -> Policy:
    """The settings, in which the allocator says by itself whether it knows who owns what."""

    async def features() -> bool:
        async with find_allocator(allocator)(ControllerSettings()) as found:
            if found.features.needs_provisioning:
                raise ConfigError(f"allocator {allocator!r} provisions a cloud, which files cannot tell about")
            return found.features.knows_owners

    return attrs.evolve(settings, knows_owners=settings.knows_owners or asyncio.run(features()))


def _read(files: Sequence[str]) -> Manifests:
    return join_manifests(_read_one(file) for file in files)


def _read_one(file: str) -> Manifests:
    kinds = tuple(Kind)
    found = read_text(sys.stdin.read(), file="stdin", kinds=kinds) if file == "-" else read_files([file], kinds=kinds)
    if found == Manifests((), ()):
        return Manifests((), (Fault(file="stdin" if file == "-" else file, message="holds no object"),))
    return found


def _counted(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))
