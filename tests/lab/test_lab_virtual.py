"""The lab's story on simulated packets: the same events, no kernel, no time."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest

from persistip import lab
from persistip.decide.catalog import Catalog
from persistip.lab.cluster import Lab, Standing
from persistip.lab.lifecycle import NOTICED_SECONDS
from persistip.lab.observer import RunningLab
from persistip.lab.options import LabOptions
from persistip.lab.promises import make_promises
from persistip.lab.results import EventResult, LabResult, RouteResult, to_json
from persistip.lab.scene import Scene
from persistip.lab.site import FabricError, ProbeFailedError
from persistip.lab.story import run
from persistip.lab.virtual import VirtualSite
from persistip.lab.virtualtime import VirtualTimeLoop
from persistip.model.actions import RemoveEntry
from persistip.model.entry import ExemptEntry, ProxyEntry
from persistip.model.keys import Kind, ObjectKey
from persistip.model.views import RouteView
from persistip.wire.files import Manifest, read_files, read_text

EXAMPLES = Path(lab.__file__).parent / "examples"
LONE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: addresses, namespace: default}
data: {allowedAddresses: 192.0.2.128/25}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: gke-persistent-regional-external-managed}
spec:
  controllerName: persistip.dev/controller
  parametersRef: {group: "", kind: ConfigMap, name: addresses, namespace: default}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public}
spec:
  gatewayClassName: gke-persistent-regional-external-managed
  addresses: [{type: IPAddress, value: 192.0.2.200}]
  listeners: [{name: all, port: 1, protocol: none}]
---
apiVersion: networking.gke.io/v1
kind: GKEIPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: public}]
  addresses: [{type: IPAddress, value: 192.0.2.200}]
  podSelector: {matchLabels: {app: web}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  replicas: 1
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: nginx}]
"""


class Watcher:
    """An Observer that only remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.prompts: list[RunningLab] = []

    def stage(self, text: str) -> None:
        self.told.append(text)

    def routes(self, routes: tuple[RouteResult, ...]) -> None:
        self.told.append(f"{len(routes)} routes")

    def event_begins(self, name: str, sentence: str) -> None:
        self.told.append(f"{name}: {sentence}")

    def event_ends(self, result: EventResult) -> None:
        self.told.append(f"{result.name} of {result.address}")

    async def prompt(self, lab: RunningLab) -> None:
        self.prompts.append(lab)


def manifests(text: str = "") -> Sequence[Manifest]:
    read = read_text(text) if text else read_files([EXAMPLES])
    assert not read.faults
    return read.objects


def story(text: str = "", **options: Any) -> LabResult:
    return run(LabOptions(datapath="memory", **options), manifests(text), Watcher())


def in_lab(use: Callable[[Lab, VirtualSite], Awaitable[None]], text: str = "") -> None:
    """Run *use* in a lab that was brought up."""

    async def work() -> None:
        async with VirtualSite() as site, Lab(site, LabOptions(datapath="memory")) as running:
            for manifest in manifests(text):
                await running.apply(manifest.body)
            assert await running.settled(10)
            await use(running, site)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(work())


@pytest.fixture(scope="module")
def result() -> LabResult:
    return story()


def test_example_story_goes_as_promised(result: LabResult) -> None:
    """Every event of the issue happens to the example, and nothing fails."""
    assert result.failures == ()
    assert result.is_ok
    names = {event.name for event in result.events}
    assert names >= {
        "pod-deleted",
        "process-killed",
        "pod-unready",
        "rolling-update",
        "node-drained",
        "agent-killed",
        "link-cut",
        "link-restored",
        "namespace-unlabelled",
        "address-conflict",
        "broken-object",
    }
    assert {event.family for event in result.events} == {4, 6}
    assert all(status == "True" for route in result.routes for status, _ in route.conditions.values())


def test_planned_moves_lose_nothing(result: LabResult) -> None:
    """A living old Pod hands over without the loss of a single packet, in both directions and families."""
    planned = [event for event in result.events if event.planned]
    assert len(planned) >= 10
    for event in planned:
        assert event.source != event.target
        assert event.ingress.sent > 300
        assert event.egress.sent > 300
        assert event.ingress.lost == event.egress.lost == 0


def test_withdrawn_address_is_silent_and_says_why(result: LabResult) -> None:
    """Without the namespace's label nobody holds the address, nobody answers, and the condition gives the reason."""
    withdrawn = [event for event in result.events if event.name == "namespace-unlabelled"]
    assert withdrawn
    for event in withdrawn:
        assert event.target is None
        assert event.ingress.lost == event.ingress.sent > 300
        assert event.egress.lost == event.egress.sent > 300
        assert event.ingress.has_stopped
        assert event.egress.has_stopped
        assert event.conditions_after["Accepted"] == ("False", "NotAllowedByListeners")
        assert event.conditions_before["Ready"] == ("True", "Ready")


def test_node_that_is_cut_off_is_missed_and_disturbs_nobody_when_it_is_back(result: LabResult) -> None:
    """The standby takes over once Kubernetes misses the node, not before; the new holder keeps all afterwards."""
    cut, restored = ([each for each in result.events if each.name == f"link-{name}"] for name in ("cut", "restored"))
    assert len(cut) == len(restored) == 2
    for event in cut:
        assert event.source is not None
        assert event.target is not None
        assert event.source.node != event.target.node
        assert NOTICED_SECONDS * 1000 - 2 < event.ingress.blackout_ms < NOTICED_SECONDS * 1000 + 100
        assert event.reaction_ms is not None
        assert event.reaction_ms < 100
        assert not event.planned
    for event in restored:
        assert (event.source, event.ingress.lost, event.egress.lost) == (event.target, 0, 0)


def test_broken_objects_cost_the_others_no_packet_and_are_looked_at(result: LabResult) -> None:
    """Beside what nobody can read the addresses stay, nothing is lost, and P7 was checked and held."""
    beside = [each for each in result.events if each.name == "broken-object"]
    assert {each.family for each in beside} == {4, 6}
    for event in beside:
        assert (event.source, event.ingress.lost, event.egress.lost, event.tcp) == (event.target, 0, 0, "kept")
    only = run(
        LabOptions(datapath="memory", events=("broken-object",)), manifests(), Watcher(), make_promises()
    ).promises["P7"]
    assert only.held
    assert only.checks >= len(result.routes)


@pytest.mark.parametrize("what", ["routes", "gateways"])
def test_system_in_which_a_broken_object_holds_up_others_is_found_out(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is decided any more while one object cannot be read, the story says what should follow did not."""
    original = Catalog.view

    def spoiled(self: Catalog, key: ObjectKey, *rest: Any) -> Any:
        view = original(self, key, *rest)
        kind = Kind.ROUTE if what == "routes" else Kind.GATEWAY
        if isinstance(view, RouteView) and self._sight.lost(kind):
            return attrs.evolve(view, unreadable="something is broken somewhere")
        return view

    monkeypatch.setattr(Catalog, "view", spoiled)
    failed = story(events=("broken-object",))
    assert any(each.startswith("broken-object: what should follow did not") for each in failed.failures)


def test_same_seed_tells_the_same_story(result: LabResult) -> None:
    """Two runs with one seed give the same document, to the last figure."""
    assert to_json(story()) == to_json(result)


def test_other_seed_makes_other_choices(result: LabResult) -> None:
    """Another seed names other Pods and is as good."""
    other = story(seed=7)
    assert other.is_ok
    assert {route.place for route in other.routes} != {route.place for route in result.routes}


def test_lab_without_agents_fails() -> None:
    """With the agents switched off nothing is Ready, nobody answers, no event is tried, and the result is not ok."""
    result = story(with_agents=False)
    assert not result.is_ok
    assert "nobody answers at 192.0.2.140 of phone/nat" in result.failures
    assert any(failure.startswith("phone/nat is not Ready: False") for failure in result.failures)
    assert result.events == ()
    assert to_json(result)["ok"] is False


def test_own_manifests_with_a_lone_pod_get_the_events_that_apply() -> None:
    """To one StatefulSet of one Pod that names no addresses, all that can happen does, and nothing else."""
    result = story(LONE)
    assert result.failures == ()
    by_name = {event.name: event for event in result.events}
    assert by_name.keys() >= {
        "process-killed",
        "pod-deleted",
        "pod-unready",
        "pod-ready",
        "rolling-update",
        "pod-added",
    }
    assert "namespace-unlabelled" not in by_name
    assert by_name["process-killed"].source == by_name["process-killed"].target
    assert by_name["process-killed"].ingress.lost > 0
    assert by_name["process-killed"].tcp == "reset"
    assert not by_name["pod-deleted"].standby
    assert by_name["pod-unready"].target is None
    assert by_name["pod-added"].ingress.lost == 0


@pytest.mark.parametrize("variable", ["{name: PORT, value: http}", "{name: PORT}"])
def test_port_meant_for_another_program_is_no_port(variable: str) -> None:
    """A PORT that the echo program cannot listen on is left to the image it was written for, and the Pod is reached."""
    text = LONE.replace("image: nginx", f"image: nginx, env: [{variable}]")
    assert variable in text
    assert story(text, events=("agent-killed",)).failures == ()


@pytest.mark.parametrize("is_early", [True, False])
def test_lab_that_cannot_start_leaves_no_task_and_no_warning(monkeypatch: pytest.MonkeyPatch, is_early: bool) -> None:
    """A Ctrl-C, or a fault, while controller and agents are being started takes down what was started, quietly."""

    async def fail(*_: object) -> None:
        raise FabricError("the test")

    monkeypatch.setattr(VirtualSite, "start_controller" if is_early else "start_agent", fail)

    async def work() -> None:
        async with VirtualSite() as site:
            before = asyncio.all_tasks()
            with pytest.raises(FabricError):
                await Lab(site, LabOptions(datapath="memory")).__aenter__()
            left = {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before}  # type: ignore[union-attr]
            assert not {name for name in left if name.startswith(("Lab.", "Kubelet."))}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(work())
    gc.collect()


def test_fault_while_a_node_is_lost_does_not_keep_the_lab_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong in the stand-in for the lifecycle controller does not leave the rest of the lab running."""

    def fail(_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr("persistip.lab.lifecycle.tolerates_loss", fail)
    tasks: list[asyncio.Task[None]] = []

    async def use(lab: Lab, site: VirtualSite) -> None:
        (standing,) = await lab.standings()
        assert standing.place is not None
        await lab.cut(standing.place.node)
        await asyncio.sleep(10)
        tasks.extend(lab._tasks)

    in_lab(use, LONE)
    assert tasks
    assert all(task.cancelled() for task in tasks)


def test_chosen_events_are_the_only_ones() -> None:
    """Events can be chosen by name."""
    assert {event.name for event in story(events=("address-conflict",)).events} == {"address-conflict"}


def test_kept_lab_hands_itself_to_the_prompt() -> None:
    """With keep, the observer's prompt gets the running lab once the story is told."""
    watcher = Watcher()
    run(LabOptions(datapath="memory", keep=True, events=("address-conflict",)), manifests(), watcher)
    assert [lab.nodes for lab in watcher.prompts] == [("node-a", "node-b", "node-c")]


def test_address_that_nobody_reaches_is_found() -> None:
    """A route that says Ready while its node is cut off is told of: conditions are not believed."""

    async def use(lab: Lab, site: VirtualSite) -> None:
        (standing,) = await lab.standings()
        assert standing.place is not None
        await site.cut(standing.place.node)
        scene = Scene(lab, Watcher(), None)
        await scene.verify("the cut")
        assert scene.failures == [
            "after the cut: 192.0.2.200 of default/web does not answer",
            "after the cut: 192.0.2.200 of default/web is not heard outside",
        ]
        await site.restore(standing.place.node)
        healed = Scene(lab, Watcher(), None)
        await healed.verify("the cut")
        assert healed.failures == []
        for probe in site.probes().values():
            # Whatever is under test next is probed alone.
            with pytest.raises(ProbeFailedError, match="no probe runs"):
                await probe.stop()

    in_lab(use, LONE)


def test_address_that_another_pod_answers_is_found() -> None:
    """Who answers and who is heard must be the holder: any other Pod is told of, in both directions."""

    async def use(lab: Lab, site: VirtualSite) -> None:
        (standing,) = await lab.standings()
        attachment = standing.attachment
        assert attachment is not None
        assert attachment.spec.holder is not None
        holder = attrs.evolve(attachment.spec.holder, pod_name="other", pod_uid="another")
        claimed = attrs.evolve(attachment, spec=attrs.evolve(attachment.spec, holder=holder))
        scene = Scene(Claiming(lab, attrs.evolve(standing, attachment=claimed)), Watcher(), None)  # type: ignore[arg-type]
        await scene.verify("the lie")
        who = f"web-0@{attachment.spec.holder.pod_uid}"
        said = f"after the lie: 192.0.2.200 of default/web is answered by {who}, not other"
        assert scene.failures == [said]

    in_lab(use, LONE)


class Claiming:
    """A lab that tells of one route what it is told to."""

    def __init__(self, lab: Lab, standing: Standing) -> None:
        self._lab, self._standing = lab, standing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    async def standings(self) -> tuple[Standing, ...]:
        return (self._standing,)


def test_foreign_entry_that_changes_between_two_looks_breaks_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not ours is compared with the first look of the run, and every later difference is told."""

    async def use(lab: Lab, site: VirtualSite) -> None:
        promises = make_promises()
        await promises.look(lab)
        assert promises.results()["P4"].held

        async def foreign(node: str) -> frozenset[str]:
            return frozenset({"route 198.51.100.0/24"} if node == "node-b" else ())

        monkeypatch.setattr(site, "foreign", foreign)
        await promises.look(lab)
        assert promises.results()["P4"].seen == ("node-b has something new that is not ours: route 198.51.100.0/24",)

    in_lab(use, LONE)


def test_entry_left_on_a_node_is_found() -> None:
    """What stands on a node that does not hold its address is told of."""

    async def use(lab: Lab, site: VirtualSite) -> None:
        (standing,) = await lab.standings()
        assert standing.place is not None
        node = next(name for name in lab.nodes if name != standing.place.node)
        lab.signal_agent(node, signal.SIGKILL)
        entry = ExemptEntry(ip_network("192.0.2.200/32"))
        site.fabric.node(node).entries.add(entry)
        scene = Scene(lab, Watcher(), None)
        await scene.verify("the leak")
        assert scene.failures == [f"after the leak: {node} still carries 192.0.2.200/32, which it does not hold"]
        await lab.start_agent(node)
        assert await lab.settled(5)
        assert entry not in (await lab.kernel(node)).entries

    in_lab(use, LONE)


def test_killed_agent_repairs_nothing_until_it_is_started_again() -> None:
    """An agent killed with -9 is as dead as a process, so a deleted entry comes back with the next agent only."""

    async def use(lab: Lab, site: VirtualSite) -> None:
        (standing,) = await lab.standings()
        assert standing.place is not None
        node = standing.place.node
        lab.signal_agent(node, signal.SIGKILL)
        assert not lab.agents()[node]
        with pytest.raises(LookupError):
            lab.signal_agent(node, signal.SIGTERM)
        (proxy,) = [entry for entry in (await lab.kernel(node)).entries if isinstance(entry, ProxyEntry)]
        await site.datapath(node).apply([RemoveEntry(proxy)])
        await asyncio.sleep(60)
        assert proxy not in (await lab.kernel(node)).entries
        await lab.start_agent(node)
        assert await lab.settled(5)
        assert proxy in (await lab.kernel(node)).entries

    in_lab(use, LONE)
