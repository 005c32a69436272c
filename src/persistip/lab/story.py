"""
What happens in the lab, and in which order?

In: options, manifests, who watches.  Out: a LabResult.

    bring-up   manifests ── everything Ready ── every address answers, in and out
    events     one after the other, see `scene` and `events`

A failure is a sentence in the result; the story goes on as long as there is something to be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import traceback
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Self

from persistip.lab import sandbox
from persistip.lab.cluster import Lab, host_of_prefix
from persistip.lab.events import EVENTS
from persistip.lab.observer import Observer, Promises
from persistip.lab.options import LabOptions
from persistip.lab.results import LabResult
from persistip.lab.scene import Scene
from persistip.lab.site import FabricError, Site
from persistip.lab.virtualtime import VirtualTimeLoop
from persistip.wire.files import Manifest

# What others refer to comes first; a controller must not depend on it, but a reader of its log will be glad.
_ORDER = ("Namespace", "ConfigMap", "GatewayClass", "Gateway", "GKEIPRoute", "StatefulSet", "Deployment")
_LOG_LINES = 20


def run(
    options: LabOptions, manifests: Sequence[Manifest], observer: Observer, promises: Promises | None = None
) -> LabResult:
    """
    ``run_lab`` in a loop of its own: for simulated packets one in simulated time.

    The first Ctrl-C takes the lab down (KeyboardInterrupt); further ones are ignored from then on, since asyncio's own
    answer to a second one would leave tasks behind in the midst of what they undo.
    """
    factory = VirtualTimeLoop if options.datapath == "memory" else None
    with _Interruption() as interruption, asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(run_lab(options, manifests, observer, promises))
        interruption.watch(loop, task)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            if interruption.has_come:
                raise KeyboardInterrupt from None
            raise


class _Interruption:
    """SIGINT while a task runs: cancels it once."""

    def __init__(self) -> None:
        self.has_come = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[LabResult] | None = None
        self._before: Any = None
        self._is_ours = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        if self._is_ours:
            self._before = signal.signal(signal.SIGINT, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN if self.has_come else self._before)

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[LabResult]) -> None:
        """From now on *task* is what ends; an earlier SIGINT counts."""
        self._loop, self._task = loop, task
        if self.has_come:
            task.cancel()

    def _come(self, *_: object) -> None:
        if not self.has_come and self._task is not None and self._loop is not None:
            self._task.cancel()
            # The loop may be waiting for its files.
            self._loop.call_soon_threadsafe(lambda: None)
        self.has_come = True


async def run_lab(
    options: LabOptions, manifests: Sequence[Manifest], observer: Observer, promises: Promises | None = None
) -> LabResult:
    """
    Run a whole lab: bring it up, let every event happen, take it down.

    With the linux datapath call it inside a sandbox (RuntimeError otherwise). What the kernel refuses on the way up
    (FabricError, PermissionError) is passed on; a fault of the lab's own while it looks is a failure in the result.
    """
    place = sandbox.current()
    async with _open_site(options, manifests) as site:
        observer.stage(f"built {len(site.nodes)} nodes and a client outside")
        async with Lab(site, options) as lab:
            scene = Scene(lab, observer, promises)
            watching = None if promises is None else asyncio.create_task(promises.watch(lab))
            try:
                await _tell_or_fail(scene, lab, manifests, observer)
                if options.keep:
                    if isinstance(loop := asyncio.get_running_loop(), VirtualTimeLoop):
                        loop.follow_real_time()
                    await observer.prompt(lab)
            finally:
                if watching is not None:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
            if scene.failures:
                scene.failures.extend(_ends_of_logs(site))
            return LabResult(
                seed=options.seed,
                datapath=options.datapath,
                rootless=place is not None and place.rootless,
                routes=await lab.routes(),
                events=tuple(scene.events),
                promises={} if promises is None else promises.results(),
                failures=tuple(scene.failures),
                remarks=tuple(scene.remarks),
            )


@contextlib.asynccontextmanager
async def _open_site(options: LabOptions, manifests: Sequence[Manifest]) -> AsyncIterator[Site]:
    # Each loaded alone: the simulated lab must run where neither pyroute2 nor a right to namespaces is.
    if options.datapath == "memory":
        from persistip.lab.virtual import VirtualSite  # noqa: PLC0415

        async with VirtualSite() as simulated:
            yield simulated
        return
    place = sandbox.current()
    if place is None:
        raise RuntimeError("the linux datapath needs a sandbox around the lab")
    from persistip.lab.processes import LinuxSite  # noqa: PLC0415

    open_cloud = None
    if options.cloud == "gce":
        from persistip.lab.cloud import LabCloud  # noqa: PLC0415
        from persistip.lab.reserved import find_reserved  # noqa: PLC0415

        open_cloud = partial(
            LabCloud, reserved=find_reserved(manifests), latency=options.latency, seed_number=options.seed
        )
    async with LinuxSite(place, open_cloud) as site:
        yield site


async def _tell_or_fail(scene: Scene, lab: Lab, manifests: Sequence[Manifest], observer: Observer) -> None:
    """What was seen until then counts, and what ended it is said; the traceback is for whoever mends it."""
    try:
        await _tell(scene, lab, manifests, observer)
    except Exception as error:
        if isinstance(error, FabricError | PermissionError) and not scene.events:
            raise
        traceback.print_exc()
        scene.fail(_own_fault(error))


def failed_result(options: LabOptions, error: Exception) -> LabResult:
    """The result of a run that a fault of the lab's own ended before it had any."""
    place = sandbox.current()
    return LabResult(
        seed=options.seed,
        datapath=options.datapath,
        rootless=place is not None and place.rootless,
        failures=(_own_fault(error),),
    )


def _own_fault(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"the lab itself failed and saw no more: {type(error).__name__}{f': {text}' if text else ''}"


async def _tell(scene: Scene, lab: Lab, manifests: Sequence[Manifest], observer: Observer) -> None:
    if not await _bring_up(scene, lab, manifests, observer):
        return
    for name, act in EVENTS:
        if lab.options.events and name not in lab.options.events:
            continue
        await act(scene)
        lab.check()


async def _bring_up(scene: Scene, lab: Lab, manifests: Sequence[Manifest], observer: Observer) -> bool:
    """Apply everything and wait for it; whether any route came to be Ready."""
    observer.stage("controller and agents run" if lab.options.with_agents else "controller runs, agents do not")
    for manifest in sorted(manifests, key=_rank):
        await lab.apply(manifest.body)
    for namespace in sorted({manifest.namespace for manifest in manifests if manifest.namespace}):
        with contextlib.suppress(Exception):
            await lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    observer.stage(f"applied {len(manifests)} manifests")
    seconds = lab.options.settle_seconds
    if not await lab.settled(seconds):
        scene.fail(f"the cluster did not come to rest within {seconds:g} s after the manifests were applied")
    standings = await lab.standings()
    for standing in standings:
        if not standing.is_ready:
            status, reason = standing.conditions.get("Ready", ("Unknown", "no status"))
            scene.fail(f"{standing.path} is not Ready: {status}, {reason}")
            for address in map(host_of_prefix, standing.prefixes):
                if await lab.reach(address) is None:
                    scene.fail(f"nobody answers at {address} of {standing.path}")
    observer.routes(await lab.routes())
    await scene.verify("bring-up")
    return any(standing.is_ready for standing in standings)


def _rank(manifest: Manifest) -> int:
    return _ORDER.index(manifest.kind) if manifest.kind in _ORDER else len(_ORDER)


def _ends_of_logs(site: Site) -> list[str]:
    return [
        "\n".join([f"the end of the log of {name}:", *text.splitlines()[-_LOG_LINES:]])
        for name, text in site.logs().items()
        if text
    ]
