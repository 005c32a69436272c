"""
How does one event go, whatever it is?

    probes on ── act ── at rest ── probes off ── the result ── every address answers, nothing is left behind

In: the lab, an Event, what to do.  Out: results, failures and remarks, which are sentences.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import TypeVar

import attrs

from persistip.backends.memory import NotFoundError
from persistip.lab.cluster import Lab, Manifest, Standing, host_of_prefix
from persistip.lab.measure import Event, Measurement, UnreachableError
from persistip.lab.observer import Observer, Promises
from persistip.lab.results import EventResult
from persistip.lab.site import ProbeFailedError
from persistip.lab.workloads import is_terminating
from persistip.model.gateway import Gateway
from persistip.model.route import ReactionModeName
from persistip.wire.decode import to_model
from persistip.wire.times import parse_time

T = TypeVar("T")

_PAUSE_SECONDS = 0.5
MOST_BLACKOUT_MS = 50.0
"""What is aimed for when the holder fails and another Pod stands ready; a busy machine may take longer."""


class Expected(Enum):
    """What becomes of the holder."""

    OTHER_POD = auto()
    SAME_POD = auto()
    UNDISTURBED = auto()
    """The same Pod, and not a packet lost."""
    NOBODY = auto()


@attrs.frozen(kw_only=True)
class Subject:
    """A route under test: who may hold it now, and who made the holder."""

    standing: Standing
    candidates: tuple[Manifest, ...]
    holder: Manifest
    workload: Manifest | None

    @property
    def waits_for_readiness(self) -> bool:
        """Only a Pod that says it is ready may hold the addresses."""
        return self.standing.route.reaction_mode == ReactionModeName.READY_CONDITION

    @property
    def has_standby(self) -> bool:
        """Another Pod that answers already could take over at once."""
        return len(self.candidates) > 1 and self.waits_for_readiness

    @property
    def has_standby_elsewhere(self) -> bool:
        """Another Pod, on another node, that answers already could take over."""
        return self.has_standby and any(pod["spec"]["nodeName"] != self.node for pod in self.candidates)

    @property
    def covers_workload(self) -> bool:
        """Every Pod that the workload makes may hold the addresses once it is ready, and the newest does."""
        if self.workload is None or not self.waits_for_readiness or self.standing.route.meta.annotations:
            return False
        labels = self.workload["spec"]["template"].get("metadata", {}).get("labels", {})
        return self.standing.route.pod_selector.matches(labels)

    @property
    def surges(self) -> bool:
        """In a rolling update a new Pod is ready before the old one goes."""
        if self.kind != "Deployment" or self.workload is None or not self.covers_workload:
            return False
        strategy = self.workload["spec"].get("strategy", {})
        return strategy.get("type", "RollingUpdate") == "RollingUpdate" and not strategy.get("rollingUpdate", {}).get(
            "maxUnavailable", 0
        )

    @property
    def namespace(self) -> str:
        """The route's, and its Pods'."""
        return self.standing.route.meta.namespace

    @property
    def pod(self) -> str:
        """The holder's name."""
        return str(self.holder["metadata"]["name"])

    @property
    def node(self) -> str:
        """The holder's node."""
        return str(self.holder["spec"]["nodeName"])

    @property
    def kind(self) -> str:
        """The workload's kind; empty for a Pod that nobody makes anew."""
        return str(self.workload["kind"]) if self.workload is not None else ""

    @property
    def addresses(self) -> str:
        """For people."""
        return " and ".join(map(host_of_prefix, self.standing.prefixes))


class Scene:
    """Where events happen; collects what they gave."""

    def __init__(self, lab: Lab, observer: Observer, promises: Promises | None) -> None:
        self.lab = lab
        self.events: list[EventResult] = []
        self.failures: list[str] = []
        self.remarks: list[str] = []
        self._observer, self._promises = observer, promises

    def fail(self, sentence: str) -> None:
        """Note what went wrong, once."""
        if sentence not in self.failures:
            self.failures.append(sentence)

    # --- choosing ---------------------------------------------------------------------------------------------

    async def subjects(self) -> tuple[Subject, ...]:
        """Every route that is Ready now, in the order of names."""
        found = []
        workloads = {
            each["metadata"]["uid"]: each
            for kind in ("StatefulSet", "Deployment")
            for each in (await self.lab.store.list(kind)).items
        }
        for standing in await self.lab.standings():
            pods = {pod["metadata"]["uid"]: pod for pod in await self.lab.pods(standing.route.meta.namespace)}
            holder = pods.get(standing.holder_uid)
            if not standing.is_ready or holder is None:
                continue
            owners = [owner["uid"] for owner in holder["metadata"].get("ownerReferences", ())]
            found.append(
                Subject(
                    standing=standing,
                    candidates=await self.lab.candidates(standing),
                    holder=holder,
                    workload=next((workloads[uid] for uid in owners if uid in workloads), None),
                )
            )
        return tuple(found)

    async def choose(self, what: str, fits: Callable[[Subject], bool]) -> Subject | None:
        """One of those that fit, by the seed: those that serve both families come first."""
        fitting = [each for each in await self.subjects() if fits(each)]
        most = max((len({prefix.version for prefix in each.standing.prefixes}) for each in fitting), default=0)
        best = [each for each in fitting if len({prefix.version for prefix in each.standing.prefixes}) == most]
        return self.pick(what, best)

    def pick(self, what: str, choices: Sequence[T]) -> T | None:
        """One of *choices*; the same for the same seed."""
        if not choices:
            return None
        digest = hashlib.sha256(f"{self.lab.options.seed}/{what}".encode()).digest()
        return choices[int.from_bytes(digest[:8]) % len(choices)]

    async def is_elsewhere(self, subject: Subject, *, confirmed: bool = False) -> bool:
        """Whether another Pod than the subject's holds its addresses; *confirmed*: and its node says so."""
        now = await self._now(subject.standing)
        if now is None or not now.holder_uid or now.holder_uid == subject.standing.holder_uid:
            return False
        return not confirmed or (now.attachment is not None and now.attachment.is_confirmed)

    async def is_given_up(self, subject: Subject) -> bool:
        """Whether another Pod holds the addresses, and the subject's own, whose node is lost, is being deleted."""
        pods = await self.lab.pods(subject.namespace)
        going = {pod["metadata"]["uid"] for pod in pods if is_terminating(pod)}
        return subject.standing.holder_uid in going and await self.is_elsewhere(subject, confirmed=True)

    async def is_with(self, subject: Subject) -> bool:
        """Whether the subject's own Pod holds its addresses."""
        now = await self._now(subject.standing)
        return now is not None and now.holder_uid == subject.standing.holder_uid

    async def is_restarted(self, subject: Subject) -> bool:
        """Whether the holder is Ready again after its process ended, and holds its addresses."""
        uid = subject.standing.holder_uid
        moments = self.lab.journal.of(uid)
        if moments.unready_ns > moments.ready_ns or not moments.unready_ns:
            return False
        return await self.is_with(subject)

    async def is_refused(self, metadata: Manifest, reason: str, words: str) -> bool:
        """Whether a route says that it is not accepted, for that reason and in these words."""
        try:
            route = await self.lab.store.get("GKEIPRoute", metadata["namespace"], metadata["name"])
        except NotFoundError:
            return False
        return any(
            each["type"] == "Accepted"
            and each["status"] == "False"
            and each["reason"] == reason
            and words in each["message"]
            for each in route.get("status", {}).get("conditions", ())
        )

    def will_return(self, subject: Subject) -> bool:
        """Whether the subject's Pod, once eligible again, is to take its addresses back: it is newer than any other."""
        annotations = subject.standing.route.meta.annotations
        others = [pod for pod in subject.candidates if pod["metadata"]["uid"] != subject.standing.holder_uid]
        ages = [pod["metadata"]["creationTimestamp"] for pod in others]
        return "persistip.dev/failback" not in annotations and subject.holder["metadata"]["creationTimestamp"] > max(
            ages, default=""
        )

    async def admitting_labels(self, subject: Subject) -> dict[str, str]:
        """The labels by which a listener's selector admits the subject's namespace, as far as it may lose them."""
        labels: dict[str, str] = {}
        for ref in subject.standing.route.parent_refs:
            try:
                gateway = to_model(await self.lab.store.get("Gateway", ref.namespace or subject.namespace, ref.name))
            except NotFoundError:
                continue
            for listener in gateway.listeners if isinstance(gateway, Gateway) else ():
                if listener.namespace_selector is None or listener.namespaces_from != "Selector":
                    # Another listener may admit the namespace all the same.
                    return {}
                labels |= dict(listener.namespace_selector.match_labels)
        labels.pop("kubernetes.io/metadata.name", None)
        return labels

    async def _now(self, standing: Standing) -> Standing | None:
        return await self.lab.standing(standing.route.meta.namespace, standing.route.meta.name)

    async def new_second(self, subject: Subject) -> None:
        """Wait until a Pod made now is newer than each that the route has: Kubernetes counts in whole seconds."""
        pods = await self.lab.pods(subject.namespace)
        newest = max(parse_time(pod["metadata"]["creationTimestamp"]) for pod in pods)
        await asyncio.sleep(max(0.0, newest + 1 - self.lab.site.clock.now()))

    async def pause(self) -> None:
        """Let traffic flow for a moment, to see that it does."""
        await asyncio.sleep(_PAUSE_SECONDS)

    # --- happening --------------------------------------------------------------------------------------------

    async def happen(
        self,
        event: Event,
        subject: Standing,
        act: Callable[[], Awaitable[object]],
        expected: Expected,
        *,
        done: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Let *event* happen by *act* and say what became of it; *done* is waited for before the cluster's rest."""
        self._observer.event_begins(event.name, event.sentence)
        seconds = self.lab.options.settle_seconds
        try:
            before = await self._now(subject) or subject
            measurement = Measurement(self.lab, before, await self.lab.port_for(before))
            await measurement.begin()
            await act()
            if done is not None and not await self.lab.until(done, seconds):
                self.fail(f"{event.name}: what should follow did not within {seconds:g} s")
            if not await self.lab.settled(seconds):
                self.fail(f"{event.name}: the cluster did not come to rest within {seconds:g} s")
            after = await self._now(subject)
            results = await measurement.end(event, after)
        except (UnreachableError, ProbeFailedError) as error:
            self.fail(f"{event.name}: {error}")
            await self._rest_probes()
            return
        for result in results:
            self.events.append(result)
            for failure in judge(
                event, result, expected, before=before.holder_uid, after=after.holder_uid if after else ""
            ):
                self.fail(failure)
            if (slow := remark(event, result, expected)) is not None:
                self.remarks.append(slow)
            self._observer.event_ends(result)
        await self.verify(event.name)

    # --- afterwards -------------------------------------------------------------------------------------------

    async def verify(self, when: str) -> None:
        """Every Ready address answers and its Pod is heard outside; no node holds more than it should."""
        standings = await self.lab.standings()
        for standing in standings:
            if standing.is_ready:
                await self._verify_reachable(when, standing)
        await self._rest_probes()
        for node in self.lab.nodes:
            if node in self.lab.cut_off:
                # It has not heard yet of what it should let go.
                continue
            held = {
                prefix
                for standing in standings
                if standing.attachment is not None and standing.place and standing.place.node == node
                for prefix in standing.attachment.spec.held_prefixes
            }
            state = await self.lab.kernel(node)
            for prefix in sorted({entry.prefix for entry in state.entries | state.stale} - held, key=str):
                self.fail(f"after {when}: {node} still carries {prefix}, which it does not hold")
        if self._promises is not None:
            await self._promises.look(self.lab)

    async def _verify_reachable(self, when: str, standing: Standing) -> None:
        port = await self.lab.port_for(standing)
        place = standing.place
        for prefix in standing.prefixes:
            address = host_of_prefix(prefix)
            probe = self.lab.site.probes()[prefix.version]
            try:
                answer = await probe.start(address, port)
            except ProbeFailedError as error:
                self.fail(f"after {when}: {error}")
                continue
            for direction, words in (("ingress", "does not answer"), ("egress", "is not heard outside")):
                who = answer[direction]["who"]
                if who is None:
                    self.fail(f"after {when}: {address} of {standing.path} {words}")
                elif place is not None and who.partition("@")[2] != standing.holder_uid:
                    self.fail(f"after {when}: {address} of {standing.path} is answered by {who}, not {place.pod}")

    async def _rest_probes(self) -> None:
        """An address is probed while it is under test, and no other beside it."""
        for probe in self.lab.site.probes().values():
            try:
                await probe.drop()
            except ProbeFailedError as error:
                self.fail(str(error))


def judge(event: Event, result: EventResult, expected: Expected, *, before: str, after: str) -> tuple[str, ...]:
    """
    Compare what the client saw of one address with what the rules promise; *before* and *after* are the holders' UIDs.

    Where a living Pod hands over nothing may be lost; where a standby takes over from a dead one, some may.
    """
    what = f"{event.name} on {result.address}"
    source, target = (place.pod if place else "nobody" for place in (result.source, result.target))
    if (expected is Expected.NOBODY) != (not after):
        return (f"{what}: held by {target} afterwards",)
    failures = []
    if expected is Expected.NOBODY:
        if not result.ingress.has_stopped:
            failures.append(f"{what}: nobody holds it, and requests are still answered")
        if not result.egress.has_stopped:
            failures.append(f"{what}: nobody holds it, and what {source} sends from it still arrives outside")
    if expected is Expected.OTHER_POD and after == before:
        failures.append(f"{what}: {source} holds it still")
    if expected in (Expected.SAME_POD, Expected.UNDISTURBED) and after != before:
        failures.append(f"{what}: it moved, and should not")
    if (result.ingress.lost or result.egress.lost) and (expected is Expected.UNDISTURBED or event.planned):
        failures.append(
            f"{what}: {result.ingress.lost} of {result.ingress.sent} requests and {result.egress.lost} of "
            f"{result.egress.sent} packets from the Pod were lost, and none should be"
        )
    return tuple(failures)


def remark(event: Event, result: EventResult, expected: Expected) -> str | None:
    """Say it when a standby took longer to follow a holder that failed than is aimed for."""
    worst = max(result.ingress.blackout_ms, result.egress.blackout_ms)
    is_failover = expected is Expected.OTHER_POD and event.standby and not event.planned
    if not is_failover or worst <= MOST_BLACKOUT_MS:
        return None
    return f"{event.name} on {result.address}: silent for {worst:.1f} ms, more than the {MOST_BLACKOUT_MS:g} aimed for"
