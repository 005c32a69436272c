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
from collections.abc import AsyncIterator, Sequence

from persistip.lab import sandbox
from persistip.lab.cluster import Lab, host_of_prefix
from persistip.lab.events import EVENTS
from persistip.lab.observer import Observer, Promises
from persistip.lab.options import LabOptions
from persistip.lab.results import LabResult
from persistip.lab.scene import Scene
from persistip.lab.site import Site
from persistip.lab.virtualtime import VirtualTimeLoop
from persistip.wire.files import Manifest

# What others refer to comes first; a controller must not depend on it, but a reader of its log will be glad.
_ORDER = ("Namespace", "ConfigMap", "GatewayClass", "Gateway", "GKEIPRoute", "StatefulSet", "Deployment")
_LOG_LINES = 20


def run(
    options: LabOptions, manifests: Sequence[Manifest], observer: Observer, promises: Promises | None = None
) -> LabResult:
    """``run_lab`` in a loop of its own: for simulated packets one in simulated time."""
    factory = VirtualTimeLoop if options.datapath == "memory" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(run_lab(options, manifests, observer, promises))


async def run_lab(
    options: LabOptions, manifests: Sequence[Manifest], observer: Observer, promises: Promises | None = None
) -> LabResult:
    """
    Run a whole lab: bring it up, let every event happen, take it down.

    With the linux datapath call it inside a sandbox (RuntimeError otherwise). What the kernel refuses on the way up
    (FabricError, OSError) is passed on.
    """
    place = sandbox.current()
    async with _open_site(options) as site:
        observer.stage(f"built {len(site.nodes)} nodes and a client outside")
        async with Lab(site, options) as lab:
            scene = Scene(lab, observer, promises)
            watching = None if promises is None else asyncio.create_task(promises.watch(lab))
            try:
                await _tell(scene, lab, manifests, observer)
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
async def _open_site(options: LabOptions) -> AsyncIterator[Site]:
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

    async with LinuxSite(place) as site:
        yield site


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
