"""
`persistip lab`: a whole cluster on this machine, and what becomes of its addresses.

In: flags and the user's manifests.  Out: the story on the terminal, or its result as JSON.  Exit status 0 when
everything went as promised, 1 when something did not, 2 for input of which nothing can be used and for a machine that
cannot do it, 130 after Ctrl-C.

    persistip lab ──(real packets)──> sandbox ── this very program again ──> story ──> report
                  └─(simulated packets)────────────────────────────────────> story ──> report
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import App, Parameter

from persistip.lab import sandbox
from persistip.lab.options import SETTLE_SECONDS, CloudName, DatapathName, LabOptions, LatencyName
from persistip.lab.results import LabResult, to_json
from persistip.model.address import Malformed, parse_prefix
from persistip.model.gateway import Gateway
from persistip.model.route import GKEIPRoute
from persistip.wire.files import SUFFIXES, Fault, Manifest, Manifests, find_doubts, read_files

EXIT_OK, EXIT_BROKEN, EXIT_UNUSABLE, EXIT_INTERRUPTED = 0, 1, 2, 130

EXAMPLE = Path(sandbox.__file__).parent / "examples"
"""The manifests of a run without files of the user's."""
EXAMPLE_GCE = EXAMPLE.with_name("examples_gce")
"""Those of a run on Compute Engine."""

_SOURCES = Path(sandbox.__file__).resolve().parents[2]
_MEMORY_HINT = "Without it the lab still runs, on simulated packets: persistip lab --datapath memory"

app = App(
    name="lab", help="Run a whole cluster on this machine and watch an address move.", suppress_keyboard_interrupt=False
)
app.command("persistip.cli.compute:app", name="compute", help="Start an emulated Compute Engine on loopback.")


@attrs.frozen
class Input:
    """The manifests that can be used, every fault, and what is left out of the run because of one."""

    manifests: tuple[Manifest, ...]
    faults: tuple[Fault, ...]
    left_out: tuple[str, ...]

    @property
    def is_usable(self) -> bool:
        """Without a route there is no address to watch."""
        return any(manifest.kind == "GKEIPRoute" for manifest in self.manifests)


@app.default
def lab(
    *,
    file: Annotated[list[Path] | None, Parameter(name=("--file", "-f"), consume_multiple=True, negative="")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    keep: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 0,
    without_agents: Annotated[bool, Parameter(negative="")] = False,
    datapath: DatapathName = "linux",
    cloud: CloudName = "none",
    latency: LatencyName = "none",
    event: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    print_example: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """
    Build a cluster of three nodes on this machine, let addresses move in it, and say what a client outside saw.

    Nodes and Pods are network namespaces that vanish at the end; no root is needed where the kernel lets users make
    them.

    Parameters
    ----------
    file
        Manifests, or folders of them, to use in place of the example.
    as_json
        Print the result as one JSON document, and nothing else, on standard output.
    keep
        After the last event let the cluster run, with a prompt.
    seed
        Which of several equal choices are made.
    without_agents
        Switch the agents off: nobody programs the nodes, and the run must fail.
    datapath
        linux: real packets. memory: simulated ones, which any machine can do.
    cloud
        gce: the nodes are machines of an emulated Compute Engine, which alone decides where packets go. Needs the extra
        gce, and real packets.
    latency
        How long that cloud takes for each change. Google publishes none: assumed is a guess, slow five times that.
    event
        Only these events, by name; default all that the manifests allow.
    print_example
        Print the example's manifests and do nothing else.
    """
    if print_example:
        print(example_text(EXAMPLE_GCE if cloud == "gce" else EXAMPLE), end="")
        sys.exit(EXIT_OK)
    options = LabOptions(
        datapath=datapath,
        seed=seed,
        with_agents=not without_agents,
        keep=keep,
        cloud=cloud,
        latency=latency,
        events=tuple(event or ()),
        settle_seconds=SETTLE_SECONDS[latency],
    )
    sys.exit(_run(options, tuple(file or ()), as_json))


def example_text(folder: Path = EXAMPLE) -> str:
    """An example's files as one, each under its name."""
    parts = [f"# ---------- {path.name}\n{path.read_text()}" for path in sorted(folder.glob("*.yaml"))]
    return "---\n".join(parts)


def read_input(files: Sequence[Path], example: Path = EXAMPLE) -> Input:
    """
    Read manifests as a whole cluster: what is wrong is left out, and the rest used.

    A route that the controller could only refuse is left out too, and so is one that rests on an object that was left
    out: it would never be Ready, and a run in which something is not Ready has failed.
    """
    found = read_files(files or (example,))
    doubts = find_doubts(found)
    doubts = (*doubts, *_empty(files, found))
    doubtful = {doubt.subject for doubt in doubts}
    refused = {each.subject for each in found.objects if each.kind == "GKEIPRoute" and each.subject in doubtful}
    faulty = [fault.subject or f"document {fault.document} of {fault.file}" for fault in found.faults]
    bases = dict.fromkeys(fault.subject for fault in (*found.faults, *doubts) if fault.subject)
    resting = {
        each.subject: base
        for each in found.objects
        if isinstance(each.model, GKEIPRoute)
        and each.subject not in refused
        and (base := _base_that_lacks(each, each.model, tuple(bases), found.objects)) is not None
    }
    shown = [f"{route} (it rests on {base})" for route, base in sorted(resting.items())]
    return Input(
        manifests=tuple(each for each in found.objects if each.subject not in refused | resting.keys()),
        faults=(*found.faults, *doubts),
        left_out=tuple(dict.fromkeys((*faulty, *sorted(refused), *shown))),
    )


def _empty(files: Sequence[Path], found: Manifests) -> Iterator[Fault]:
    """Files and folders of which nothing came, neither object nor fault."""
    heard = {each.file for each in found.objects} | {each.file for each in found.faults}
    for path in files:
        if path.is_dir():
            if not any(each.suffix in SUFFIXES for each in path.iterdir()):
                yield Fault(file=str(path), message="holds no *.yaml, *.yml or *.json; name a folder of manifests")
        elif str(path) not in heard:
            yield Fault(file=str(path), message="holds no document; `persistip lab --print-example` shows some")


def _base_that_lacks(
    route: Manifest, model: GKEIPRoute, faulty: Sequence[str], objects: Sequence[Manifest]
) -> str | None:
    """The faulty object without which the route cannot be Ready; None when it has what it needs."""
    lost = {_named(subject): subject for subject in faulty}
    if (namespace := lost.get(("Namespace", "", route.namespace))) is not None:
        return namespace
    for ref in model.parent_refs:
        key = ("Gateway", ref.namespace or route.namespace, ref.name)
        gateway = next((each for each in objects if (each.kind, each.namespace, each.name) == key), None)
        if gateway is None or not isinstance(gateway.model, Gateway):
            continue
        if key in lost and not _covers(gateway.model, model):
            return lost[key]
        if (name := lost.get(("GatewayClass", "", gateway.model.class_name))) is not None:
            return name
    makers = [
        subject
        for (kind, namespace, _), subject in lost.items()
        if kind in ("Deployment", "StatefulSet", "Pod") and namespace == route.namespace
    ]
    if not makers or any(_may_hold(each, route, model) for each in objects):
        return None
    return min(makers, key=lambda subject: (route.name not in subject, subject))


def _named(subject: str) -> tuple[str, str, str]:
    """Kind, namespace and name, where a subject has these."""
    kind, _, path = subject.partition(" ")
    namespace, _, name = path.rpartition("/")
    return kind, namespace or ("" if kind in ("Namespace", "GatewayClass") else "default"), name


def _covers(gateway: Gateway, route: GKEIPRoute) -> bool:
    """Whether what can be read of the pool holds all that the route claims."""
    pool = [parsed for each in gateway.addresses if not isinstance(parsed := parse_prefix(each), Malformed)]
    claims = [parsed for each in route.addresses if not isinstance(parsed := parse_prefix(each), Malformed)]
    return all(
        any(claim.version == part.version and claim.subnet_of(part) for part in pool)  # type: ignore[arg-type]
        for claim in claims
    )


def _may_hold(each: Manifest, route: Manifest, model: GKEIPRoute) -> bool:
    """Whether an object is, or makes, a Pod that the route selects."""
    if each.namespace != route.namespace:
        return False
    if each.kind == "Pod":
        return model.pod_selector.matches(each.body["metadata"].get("labels") or {})
    if each.kind not in ("Deployment", "StatefulSet"):
        return False
    spec = each.body["spec"]
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if each.kind == "Deployment":
        return model.pod_selector.matches(labels)
    names = (f"{each.name}-{number}" for number in range(spec.get("replicas", 1)))
    return any(
        model.pod_selector.matches(
            {
                **labels,
                "statefulset.kubernetes.io/pod-name": name,
                "apps.kubernetes.io/pod-index": name.rpartition("-")[2],
            }
        )
        for name in names
    )


def _run(options: LabOptions, files: Sequence[Path], as_json: bool) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a letter shows a question mark; it must not end the lab.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if why := _why_no_cloud(options):
        return _refuse(why)
    given = read_input(files, EXAMPLE_GCE if options.cloud == "gce" else EXAMPLE)
    if unknown := _unknown_events(options):
        return _refuse(unknown)
    if not given.is_usable:
        _tell_faults(given)
        return _refuse("nothing is left to run: no usable GKEIPRoute. `persistip lab --print-example` shows one.")
    if options.datapath == "linux" and sandbox.current() is None:
        return _enter_sandbox(options, files, as_json)
    _tell_faults(given)
    return _run_story(options, given.manifests, as_json)


def _unknown_events(options: LabOptions) -> str | None:
    from persistip.lab.events import EVENTS  # noqa: PLC0415 - `--help` need not load the lab

    known = tuple(dict.fromkeys(name for name, _ in EVENTS))
    unknown = [name for name in options.events if name not in known]
    return f"no event {', '.join(unknown)}; there are {', '.join(known)}" if unknown else None


def _why_no_cloud(options: LabOptions) -> str | None:
    """Why the run cannot have the cloud that was asked for; None: it can, or needs none."""
    if options.cloud == "none":
        return "--latency is a cloud's; name one with --cloud" if options.latency != "none" else None
    if options.datapath != "linux":
        return f"--cloud {options.cloud} needs real packets: --datapath linux"
    if importlib.util.find_spec("google") is None or importlib.util.find_spec("google.cloud") is None:
        return "--cloud gce needs google-cloud-compute: pip install 'persistip[gce]'"
    return None


def _tell_faults(given: Input) -> None:
    if not given.faults:
        return
    for fault in given.faults:
        print(fault, file=sys.stderr)
    if given.left_out and given.is_usable:
        print(f"Left out of the run: {', '.join(given.left_out)}. The rest is used.", file=sys.stderr)


def _refuse(message: str) -> int:
    print(f"persistip lab: {message}", file=sys.stderr)
    return EXIT_UNUSABLE


def _enter_sandbox(options: LabOptions, files: Sequence[Path], as_json: bool) -> int:
    """Run this very command in namespaces of its own, whose end takes everything in them along."""
    if sys.platform != "linux":
        return _refuse(f"real packets need Linux namespaces, and this is {sys.platform}.\n{_MEMORY_HINT}")
    if importlib.util.find_spec("pyroute2") is None:
        return _refuse(f"real packets need pyroute2: pip install 'persistip[lab]'\n{_MEMORY_HINT}")
    program = [sys.executable, "-P", "-c", "from persistip.cli import main; main()", "lab"]
    path = os.pathsep.join(part for part in (str(_SOURCES), os.environ.get("PYTHONPATH")) if part)
    # Inherited by the program inside, which lets Ctrl-C through when it can answer it (`persistip.cli.main`).
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        status = sandbox.run([*program, *_arguments(options, files, as_json)], {**os.environ, "PYTHONPATH": path})
    except sandbox.SandboxUnavailableError as error:
        return _refuse(str(error))
    except OSError as error:
        why = f"{error.strerror}. As the user that you are, may it be read from its folder on down from /?"
        return _refuse(f"{error.filename} cannot be started in namespaces of its own: {why}\n{_MEMORY_HINT}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if status == EXIT_INTERRUPTED:
        # Told out here, where it is true however the program inside ended.
        raise KeyboardInterrupt
    return status


def _arguments(options: LabOptions, files: Sequence[Path], as_json: bool) -> list[str]:
    """The command line that says the same."""
    flags = {"--json": as_json, "--keep": options.keep, "--without-agents": not options.with_agents}
    arguments = ["--datapath", options.datapath, f"--seed={options.seed}"]
    arguments += [f"--cloud={options.cloud}", f"--latency={options.latency}"]
    arguments += [flag for flag, is_set in flags.items() if is_set]
    arguments += [f"--event={name}" for name in options.events]
    return arguments + [f"--file={path}" for path in files]


def _run_story(options: LabOptions, manifests: Sequence[Manifest], as_json: bool) -> int:
    # The sandbox is entered by a process that has loaded none of this.
    from persistip.lab.promises import make_promises  # noqa: PLC0415
    from persistip.lab.report import Report, make_console, make_quiet_console  # noqa: PLC0415
    from persistip.lab.site import FabricError  # noqa: PLC0415
    from persistip.lab.story import failed_result, run  # noqa: PLC0415

    if not as_json:
        console = make_console(sys.stdout)
    else:
        console = make_console(sys.stderr) if sys.stderr.isatty() else make_quiet_console()
    report = Report(console, options)
    report.begin()
    try:
        result = run(options, manifests, report, make_promises())
    except (FabricError, PermissionError) as error:
        return _refuse(f"the kernel refuses what the lab needs: {error}\n{_MEMORY_HINT}")
    except Exception as error:  # noqa: BLE001 - a fault of the lab's own: whoever reads the result must learn of it
        traceback.print_exc()
        result = failed_result(options, error)
    finally:
        report.close()
    report.finish(result)
    if as_json:
        _print_json(result)
    return EXIT_OK if result.is_ok else EXIT_BROKEN


def _print_json(result: LabResult) -> None:
    json.dump(to_json(result), sys.stdout, indent=2, ensure_ascii=False)
    print()
