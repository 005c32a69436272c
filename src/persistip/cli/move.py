"""
`persistip move ROUTE --to POD|NODE`: let this Pod hold the addresses, as long as it may.

In: a route and a Pod, or a Node with one that may hold the addresses.  Out: the annotation `persistip.dev/prefer` on
the route, once it is certain that the controller would follow it; nothing else is written, and the controller alone
moves.  Exit status 0; 1 when the addresses had not moved in time (`--wait`); 2 when they cannot move there, and why, or
when the cluster or the options cannot be used at all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import attrs
from cyclopts import App, Parameter

from persistip.backends.registry import find_reaction_modes
from persistip.cli import given
from persistip.cli.changes import Change
from persistip.cli.live import ask, check_installed, open_console
from persistip.cli.waiting import Waiting
from persistip.decide.candidates import Candidates, find_candidates
from persistip.decide.fields import PREFER, mode_of
from persistip.decide.networks import seen_on_network
from persistip.decide.plan_route import plan_route
from persistip.errors import ConfigError
from persistip.model.address import show
from persistip.model.attachment import Holder
from persistip.model.conditions import ConditionType, find_condition
from persistip.model.keys import Kind, ObjectKey
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.views import Admits, Policy, RouteView
from persistip.runtime.clock import SystemClock
from persistip.runtime.rehearsal import Rehearsal, Settled
from persistip.settings import ClusterSettings
from persistip.strategies import ClusterObject
from persistip.wire.check import closest

if TYPE_CHECKING:
    from persistip.backends.apiserver import Snapshot

EXIT_LATE = 1

app = App(name="move", help="Let a Pod hold a route's addresses, as long as it may.")


@app.default
def move(
    route: Annotated[str, Parameter(help="NAMESPACE/NAME of a GKEIPRoute, or a NAME that only one has.")],
    /,
    *,
    to: str | None = None,
    clear: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    wait: Annotated[bool, Parameter(negative=())] = False,
    timeout: float = 30.0,
    api: given.Api = None,
    allocator: given.Allocator = "static",
    reaction_modes: given.ReactionModes = (),
    policy: given.Settings = None,
) -> None:
    """
    Let a Pod hold a route's addresses, as long as it may.

    Sets the annotation persistip.dev/prefer, if the controller would follow it; else says why it would not.

    Parameters
    ----------
    to
        A Pod, or a Node: then the Pod there that may hold them, the newest of several; pod/NAME or node/NAME where
        both are named alike.
    clear
        Take the preference away.
    dry_run
        Say what would happen, and write nothing.
    wait
        Return when the node delivers and the route says DPV2Ready; say how long it took.
    timeout
        How long to wait at most, in seconds.
    """
    try:
        wish = _Wish(route=route, to=to, clears=clear, is_dry=dry_run, timeout_seconds=timeout if wait else None)
        rules = given.policy_of(allocator, policy or Policy())
        modes = find_reaction_modes(reaction_modes)
        in_time = ask(_move(wish, api or ClusterSettings(), rules, modes))
    except ConfigError as error:
        given.refuse(error)
    sys.exit(given.EXIT_DONE if in_time else EXIT_LATE)


@attrs.frozen(kw_only=True)
class _Wish:
    """What was typed; ``to`` None: the preference goes. ``timeout_seconds`` None: do not wait."""

    route: str
    to: str | None
    clears: bool
    is_dry: bool
    timeout_seconds: float | None

    def __attrs_post_init__(self) -> None:
        if (self.to is not None) is self.clears:
            message = "say where the addresses shall go with --to POD or --to NODE, or take it back with --clear"
            raise ConfigError(message)


async def _move(wish: _Wish, api: ClusterSettings, policy: Policy, modes: Mapping[str, Admits]) -> bool:
    async with open_console(api) as console:
        found = check_installed(await console.snapshot(policy))
        key = given.find_route((each for each in found.objects if each.kind is Kind.ROUTE), wish.route)
        case = _Case(found, key, policy, modes)
        pod = case.select(wish.to) if wish.to is not None else None
        aim = case.outcome_of(pod)
        print(f"{key}: {aim.sentence}", flush=True)
        if wish.is_dry:
            return True
        annotations = {PREFER: pod.meta.name if pod is not None else None}
        if wish.timeout_seconds is None:
            await console.annotate(key, case.route.meta.uid, annotations)
            return True
        return await Waiting(console, key, case.route.meta.uid, aim.holder).run(annotations, wish.timeout_seconds)


@attrs.frozen(kw_only=True)
class _Aim:
    """Who would hold the addresses, and that in a sentence."""

    holder: Holder | None
    sentence: str


class _Case:
    """One route of a cluster, and what its rules say of each Pod; raises ConfigError where there is nothing to move."""

    def __init__(self, found: Snapshot, key: ObjectKey, policy: Policy, modes: Mapping[str, Admits]) -> None:
        self._found, self._key, self._policy, self._modes = found, key, policy, modes
        self._now = SystemClock().now()
        self._rehearsal = self._rehearse(found.objects, with_nodes=False)
        view = self._rehearsal.view(key)
        assert isinstance(view, RouteView)  # noqa: S101 - by the kind of the key
        if view.facts is None or view.unreadable is not None:
            raise ConfigError(f"{key} is not judged, since what it rests on could not be read ({view.unreadable})")
        self._view, self._plan, self.route = view, plan_route(view), view.facts.route
        verdict = self._plan.verdict
        if not verdict.is_ours:
            raise ConfigError(f"{key} {given.why_route_not_ours(view.facts, policy)}")
        if verdict.is_refused:
            raise ConfigError(
                f"{key} holds nothing that could move: it is refused, {verdict.reason}: {verdict.message}"
            )

    def _rehearse(self, objects: Mapping[ObjectKey, ClusterObject], *, with_nodes: bool) -> Rehearsal:
        return Rehearsal(
            objects.values(),
            now=self._now,
            policy=self._policy,
            modes=self._modes,
            unreadable=self._found.unreadable,
            with_nodes=with_nodes,
        )

    # ------------------------------------------------------------ which Pod is meant?
    def select(self, name: str) -> Pod:
        """The Pod that *name* means, or one on the Node that it means; raises ConfigError with why there is none."""
        kind, _, bare = name.rpartition("/")
        pods = self._pods()
        nodes = [key.name for key in self._found.objects if key.kind is Kind.NODE]
        is_pod, is_node = bare in pods and kind in ("", "pod"), bare in nodes and kind in ("", "node")
        if is_pod and is_node:
            raise ConfigError(f"{bare!r} is a Pod and a Node; write pod/{bare} or node/{bare}")
        if is_pod:
            return self._eligible(pods[bare])
        if is_node:
            return self._eligible_on(bare)
        where = self._key.namespace
        known = [*(pods if kind != "node" else ()), *(nodes if kind != "pod" else ())]
        meant = closest(bare, known)
        fix = f"did you mean {meant}?" if meant else "`persistip explain` lists the Pods of the route"
        raise ConfigError(f"there is neither a Pod {name!r} in namespace {where} nor such a Node; {fix}")

    def _pods(self) -> dict[str, Pod]:
        objects = self._found.objects.values()
        return {each.meta.name: each for each in objects if isinstance(each, Pod) and _is_in(each, self._key.namespace)}

    def _candidates(self) -> Candidates:
        mode = mode_of(self.route, self._view.modes)
        assert mode is not None  # noqa: S101 - a route with an unknown mode is refused
        families = frozenset(claim.prefix.version for claim in self._plan.verdict.claims)
        return find_candidates(seen_on_network(self._view), self.route, mode, families)

    def _eligible(self, pod: Pod) -> Pod:
        found = self._candidates()
        if any(each.meta.uid == pod.meta.uid for each in found.eligible):
            return pod
        why = next((why for each, why in found.refusals if each.meta.uid == pod.meta.uid), None)
        if why is None:
            why = f"does not match spec.podSelector ({self.route.pod_selector})"
        raise ConfigError(f"Pod {pod.key.path} may not hold the addresses: it {why}")

    def _eligible_on(self, node: str) -> Pod:
        found = self._candidates()
        there = [each for each in found.eligible if each.node_name == node]
        if there:
            # As the rule has it: the newest, of those as old the first by name.
            return min(there, key=lambda pod: (-pod.meta.created_at, pod.meta.name))
        refused = [f"{pod.meta.name} {why}" for pod, why in found.refusals if pod.node_name == node]
        said = "; ".join(refused) if refused else "no Pod of the route is there"
        raise ConfigError(f"no Pod on Node {node} may hold the addresses: {said}")

    # ------------------------------------------------------------ what would happen?
    def outcome_of(self, pod: Pod | None) -> _Aim:
        """What would stand once the route preferred *pod*, or nobody; raises ConfigError if another would hold."""
        annotations = {name: value for name, value in self.route.meta.annotations.items() if name != PREFER}
        if pod is not None:
            annotations[PREFER] = pod.meta.name
        changed = attrs.evolve(self.route, meta=attrs.evolve(self.route.meta, annotations=annotations))
        settled = self._rehearse({**self._found.objects, self._key: changed}, with_nodes=True).settle()
        holder = self._holder(settled)
        if pod is not None and (holder is None or holder.pod_uid != pod.meta.uid):
            plan = settled.plans.get(self._key)
            rule = plan.choice.rule if plan is not None and holder is not None else self._ready_message(settled)
            raise ConfigError(f"the addresses would not go to {pod.meta.name}, but to {Change.place(holder)}: {rule}")
        present = self._view.attachment.spec.holder if self._view.attachment is not None else None
        return _Aim(holder=holder, sentence=self._sentence(pod, present, holder))

    def _holder(self, settled: Settled) -> Holder | None:
        attachment = settled.attachment_of(self._key)
        return attachment.spec.holder if attachment is not None and attachment.spec.held_prefixes else None

    def _ready_message(self, settled: Settled) -> str:
        route = settled.objects[self._key]
        ready = find_condition(route.status.conditions, ConditionType.READY) if isinstance(route, GKEIPRoute) else None
        return ready.message if ready is not None else "nobody decides about it"

    def _sentence(self, pod: Pod | None, present: Holder | None, next_: Holder | None) -> str:
        prefixes = ", ".join(show(claim.prefix) for claim in self._plan.verdict.claims)
        same = present is not None and next_ is not None and present.pod_uid == next_.pod_uid
        if same:
            until = "as long as it may hold them" if pod is not None else "by the rule"
            return f"{prefixes} stays with {Change.place(next_)}, from now on {until}"
        why = "preferred" if pod is not None else "preferred no longer"
        return f"{prefixes} goes from {Change.place(present)} to {Change.place(next_)} ({why})"


def _is_in(pod: Pod, namespace: str) -> bool:
    return pod.meta.namespace == namespace
