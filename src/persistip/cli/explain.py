"""
`persistip explain ROUTE`: why does this route hold its addresses, or why does it not?

In: a route's name, and files, a cluster, or files that are laid over a cluster.  Out: which parents admit it, what it
may claim and who claims it too, which Pods were looked at and why each was refused, the rule that decided, and the
conditions that follow; of a cluster also what its nodes say, and what would be written.  Exit status 0; 2 when there is
no such route, or files, a cluster or options cannot be used at all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from cyclopts import App, Parameter

from persistip.cli import given
from persistip.cli.tables import print_table
from persistip.cli.writes import Write, find_writes
from persistip.decide.admission import admitting_listeners, listener_refusal, matching_listeners
from persistip.decide.candidates import find_candidates, present_holder
from persistip.decide.fields import PREFER, mode_of
from persistip.decide.holder import Choice
from persistip.decide.networks import seen_on_network
from persistip.decide.plan_route import RoutePlan, plan_route
from persistip.decide.pool import resolve_pool
from persistip.decide.verdict import Fault, Verdict
from persistip.errors import ConfigError
from persistip.model.address import overlap, show, well_formed
from persistip.model.attachment import AddressAttachment
from persistip.model.conditions import ConditionType, find_condition
from persistip.model.keys import ObjectKey, attachment_key
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.model.views import ParentFacts, RouteFacts, RouteView
from persistip.runtime.rehearsal import Settled
from persistip.wire.times import format_time

app = App(name="explain", help="Say why a route holds its addresses, or why it does not.")


@app.default
def explain(
    route: Annotated[str, Parameter(help="NAMESPACE/NAME of a GKEIPRoute, or a NAME that only one has.")],
    /,
    *more: given.MoreFiles,
    options: given.Options = given.DEFAULTS,
) -> None:
    """
    Say why a route holds its addresses, or why it does not.

    Reads the same files as `persistip plan`, or without -f the cluster, in which nothing is changed.
    """
    try:
        cluster = given.load(options, more)
        key = given.find_route(cluster.routes, route)
        if options.is_changed:
            cluster.rehearsal.settle()
            cluster.remove(options.without_nodes, options.without_pods)
    except ConfigError as error:
        given.refuse(error)
    first = _plans(cluster, key)
    settled = cluster.rehearsal.settle()
    if (why := given.is_left_alone(cluster, settled, key)) is not None:
        print(f"{key} {why}.")
    else:
        view = cluster.rehearsal.view(key)
        assert isinstance(view, RouteView)  # noqa: S101 - by the kind of the key
        _Explanation(view, settled, first).print()
        if cluster.before is not None:
            _print_nodes(settled.attachment_of(key))
            _print_writes(key, find_writes(cluster.before, settled))
    sys.exit(given.EXIT_UNUSABLE if cluster.is_incomplete else given.EXIT_DONE)


def _print_nodes(attachment: AddressAttachment | None) -> None:
    """What the agents of the nodes concerned have said of the decision."""
    print("\nWhat do its nodes say?")
    if attachment is None:
        print("  nothing: no node is asked for anything")
        return
    spec = attachment.spec
    print(f"  {attachment.key}, epoch {spec.epoch}")
    parts = {release.node_name: f"lets go ({release.how})" for release in spec.releasing}
    if spec.holder is not None:
        parts[spec.holder.node_name] = "holds"
    rows = []
    for name, part in sorted(parts.items()):
        report = attachment.report_of(name)
        if report is None:
            rows.append((name, part, "", "", "nothing yet: is its agent running?"))
        else:
            rows.append((name, part, str(report.epoch), report.state, report.message or report.reason))
    print_table(("NODE", "PART", "EPOCH", "STATE", "MESSAGE"), rows, indent=2)


def _print_writes(route: ObjectKey, writes: Iterable[Write]) -> None:
    """What stands of this route and would not stay: the controller is on its way, or does not run."""
    mine = [each.row() for each in writes if each.key in (route, attachment_key(route))]
    print("\nWhat would the controller write?")
    if mine:
        print_table(("OBJECT", "WHAT", "NOW", "THEN"), mine, indent=2)
    else:
        print("  nothing: what stands is what the rules give")


def _plans(cluster: given.Given, key: ObjectKey) -> Mapping[ObjectKey, tuple[RouteView, RoutePlan]]:
    """
    The route and its rivals as the files have them.

    Once at rest, whoever has won holds the address, and that would be all that could be said of why.
    """
    view = cluster.rehearsal.view(key)
    rivals = view.rivals if isinstance(view, RouteView) else ()
    views = [view, *(cluster.rehearsal.view(rival.route.key) for rival in rivals)]
    return {each.key: (each, plan_route(each)) for each in views if isinstance(each, RouteView)}


class _Explanation:
    """All that is said of one route of ours at rest."""

    def __init__(
        self, view: RouteView, settled: Settled, first: Mapping[ObjectKey, tuple[RouteView, RoutePlan]]
    ) -> None:
        assert view.facts is not None  # noqa: S101 - a route of the files
        self._view, self._settled, self._first = view, settled, first
        self._facts: RouteFacts = view.facts
        self._route: GKEIPRoute = view.facts.route
        self._plan = settled.plans[view.key]
        attachment = settled.attachment_of(view.key)
        holder = attachment.spec.holder if attachment is not None and attachment.spec.held_prefixes else None
        self._holder_uid = holder.pod_uid if holder is not None else None

    def print(self) -> None:
        """The head line, then a section for each question."""
        ready = find_condition(self._route.status.conditions, ConditionType.READY)
        if ready is not None:
            state = "Ready" if ready.status == "True" else f"not Ready, {ready.reason}"
            print(f"{self._route.key} is {state}: {ready.message}")
        self._print_section("Which parents admit it?", ("PARENT", "ANSWER"), list(self._parents()))
        self._print_section("What may it claim?", ("ADDRESS", "ANSWER"), list(self._addresses()))
        if others := list(self._others()):
            print("\nWhat else is wrong with it?")
            print("\n".join(f"  {line}" for line in others))
        if rivals := list(self._rivals()):
            self._print_section("Who claims it too?", ("ROUTE", "ADDRESS", "ANSWER"), rivals)
        selector = str(self._route.pod_selector)
        pods = list(self._pods())
        if pods:
            self._print_section(f"Which Pods match {selector}?", ("POD", "NODE", "ANSWER"), pods)
        else:
            print(f"\nWhich Pods match {selector}?")
            fault = self._route.pod_selector.fault()
            print(
                f"  the selector is not valid: {fault}"
                if fault
                else f"  none in namespace {self._route.meta.namespace}"
            )
        print("\nWhich rule decided?")
        print(f"  {self._rule()}")
        conditions = [(each.type, each.status, each.reason, each.message) for each in self._route.status.conditions]
        self._print_section("What does its status say?", ("CONDITION", "STATUS", "REASON", "MESSAGE"), conditions)

    def _print_section(self, question: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        print(f"\n{question}")
        print_table(columns, rows, indent=2)

    # ------------------------------------------------------------ parents
    def _parents(self) -> Iterator[tuple[str, str]]:
        for index, parent in enumerate(self._facts.parents):
            ref = parent.ref
            name = f"{ref.namespace or self._route.meta.namespace}/{ref.name}"
            narrowed = f" ({ref.section_name})" if ref.section_name else ""
            yield f"{ref.kind} {name}{narrowed}", self._parents_answer(index, parent)
        if not self._facts.parents:
            yield "", "spec.parentRefs is empty"

    def _parents_answer(self, index: int, parent: ParentFacts) -> str:
        verdict = self._plan.verdict
        path = f"spec.parentRefs[{index}]"
        fault = next((each for each in (*verdict.faults, *verdict.remarks) if each.path == path), None)
        if fault is not None:
            return f"no, {fault.reason}: {fault.message}"
        if parent.gateway is None:
            return "no"
        gateway, namespace = parent.gateway.gateway, self._route.meta.namespace
        pool = resolve_pool(parent.gateway, self._view.ranges, self._view.policy)
        admitting = admitting_listeners(gateway, pool, parent.ref, namespace, self._facts.namespace)
        others = [
            pool.listener_faults[listener.name].message
            if listener.name in pool.listener_faults
            else listener_refusal(listener, gateway, namespace, self._facts.namespace)
            for listener in matching_listeners(gateway, parent.ref)
            if listener not in admitting
        ]
        names = ", ".join(repr(listener.name) for listener in admitting)
        return "; ".join([f"yes, by listener {names}", *(why for why in others if why)])

    # ------------------------------------------------------------ addresses
    def _addresses(self) -> Iterator[tuple[str, str]]:
        verdict = self._plan.verdict
        granted = {claim.prefix: claim.gateway for claim in verdict.claims}
        for index, spec in enumerate(self._route.addresses):
            path = f"spec.addresses[{index}].value"
            fault = next((each for each in verdict.faults if each.path == path), None)
            via = next((granted[prefix] for prefix in well_formed((spec,)) if prefix in granted), None)
            if fault is not None:
                answer = f"no, {fault.reason}: {fault.message}"
            elif via is None:
                answer = "no, since no parent admits the route"
            else:
                answer = f"yes, it is in the pool of Gateway {via.namespace}/{via.name}"
            yield spec.value or "(no value)", answer

    def _others(self) -> Iterator[str]:
        """Faults that are neither a parent's nor an address's."""
        for fault in self._plan.verdict.faults:
            if not fault.path.startswith(("spec.parentRefs[", "spec.addresses[")):
                yield f"{fault.reason}: {fault}"

    # ------------------------------------------------------------ rivals
    def _rivals(self) -> Iterator[tuple[str, str, str]]:
        own = well_formed(self._route.addresses)
        for rival in self._view.rivals:
            shared = overlap(own, well_formed(rival.route.addresses))
            if shared is not None:
                yield rival.route.key.path, show(shared), self._rivals_answer(rival)

    def _rivals_answer(self, rival: RouteFacts) -> str:
        key, me = rival.route.key, self._route.key
        if key in self._settled.unreadable:
            return "is not judged, since what it rests on could not be read"
        theirs = self._settled.plans[key].verdict
        if not theirs.is_ours:
            return "is left alone: it is not ours"
        if theirs.is_refused:
            return f"has no say: it is refused, {theirs.reason}"
        if self._plan.verdict.is_refused:
            return "meets no resistance: this route is refused"
        if lost := self._lost(me, self._plan.verdict, key):
            return f"wins: {lost.message}"
        if lost := self._lost(key, theirs, me):
            return f"loses: {lost.message}"
        return f"loses to another: {theirs.message}" if theirs.faults else "claims another part"

    def _lost(self, loser: ObjectKey, verdict: Verdict, winner: ObjectKey) -> Fault | None:
        """What is said of the claim that *loser* lost to *winner*: as the files have it, else as it is at rest."""
        first = self._first[loser][1].verdict if loser in self._first else Verdict(is_ours=False)
        return next((each for each in (*first.faults, *verdict.faults) if each.winner == winner), None)

    # ------------------------------------------------------------ Pods
    def _judged(self) -> Iterator[tuple[Pod, str | None]]:
        """The Pods that the selector matches, each with why it may not hold the addresses."""
        route, view = self._route, self._view
        mode = mode_of(route, view.modes)
        if mode is None or route.pod_selector.is_empty:
            return
        families = frozenset(claim.prefix.version for claim in self._plan.verdict.claims)
        found = find_candidates(seen_on_network(view), route, mode, families)
        answers: dict[str, tuple[Pod, str | None]] = {pod.meta.name: (pod, None) for pod in found.eligible}
        answers |= {pod.meta.name: (pod, why) for pod, why in found.refusals}
        yield from (answers[name] for name in sorted(answers))

    def _pods(self) -> Iterator[tuple[str, str, str]]:
        for pod, why in self._judged():
            yield pod.meta.name, pod.node_name, self._pods_answer(pod, why)

    def _pods_answer(self, pod: Pod, why: str | None) -> str:
        chosen = self._plan.choice.pod
        if pod.meta.uid == self._holder_uid:
            return f"holds the addresses, though it {why}" if why else "holds the addresses"
        if why is not None:
            return f"no, it {why}"
        if chosen is None or self._holder_uid is None:
            return "eligible"
        difference = pod.meta.created_at - chosen.meta.created_at
        age = "older than" if difference < 0 else "newer than" if difference > 0 else "as old as"
        return f"eligible, and {age} {chosen.meta.name}"

    def _rule(self) -> str:
        choice, verdict = self._choice(), self._plan.verdict
        if verdict.is_refused:
            return f"none: a route that is refused ({verdict.reason}) holds nothing"
        if verdict.unserved:
            return f"none: {verdict.unserved}"
        if choice.pod is None:
            return f"none: no Pod may hold the addresses{self._unmet_preference(None)}"
        if self._holder_uid is None and not choice.awaits_ip:
            return f"none: there is nothing to hold ({verdict.reason})"
        again = f"; decided anew at {format_time(choice.recheck_at)}" if choice.recheck_at is not None else ""
        return f"{choice.rule}{self._tie(choice, choice.pod)}{self._unmet_preference(choice.pod)}{again}"

    def _choice(self) -> Choice:
        """The choice at rest; where nobody held before, the first one: `hold` only keeps what that one gave."""
        view, first = self._first[self._route.key]
        at_rest = self._plan.choice
        if present_holder(self._route, view.attachment) is not None or first.choice.pod is None or at_rest.pod is None:
            return at_rest
        return first.choice if first.choice.pod.meta.uid == at_rest.pod.meta.uid else at_rest

    def _unmet_preference(self, chosen: Pod | None) -> str:
        """Why the Pod that `prefer` names has no say, if it has none."""
        preferred = self._route.meta.annotations.get(PREFER)
        if not preferred or (chosen is not None and chosen.meta.name == preferred):
            return ""
        answers = {pod.meta.name: why for pod, why in self._judged()}
        why = answers.get(preferred, "is no Pod that the selector matches")
        return f"; prefer names {preferred}, which {why}" if why is not None else ""

    def _tie(self, choice: Choice, chosen: Pod) -> str:
        """Among Pods of one age the present holder stays, else the smallest name is first."""
        others = [pod for pod, why in self._judged() if why is None and pod.meta.uid != chosen.meta.uid]
        ages = [pod.meta.created_at for pod in others]
        if not choice.rule.startswith("newest"):
            return ""
        if not ages:
            return "; no other Pod is eligible"
        if chosen.meta.created_at not in ages:
            return ""
        view = self._first[self._route.key][0]
        present = present_holder(self._route, view.attachment)
        is_present = present is not None and present.pod_uid == chosen.meta.uid
        return "; of those as old, the present holder" if is_present else "; of those as old, the first by name"
