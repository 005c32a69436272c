"""
What may a person do with a lab that is left running?

In: lines of text.  Out: manifests written, processes signalled, cables cut, commands run; sentences on the console.
`parse` is pure; `run_prompt` reads standard input line by line, from a terminal or a pipe, until `quit` or its end.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

import attrs
from rich.console import Console

from persistip.errors import PersistIPError
from persistip.lab.observer import Manifest, RunningLab
from persistip.lab.results import Flow
from persistip.wire.files import read_files

_LABELLED = {
    kind.lower(): kind for kind in ("Pod", "Node", "Namespace", "Gateway", "GKEIPRoute", "StatefulSet", "Deployment")
}
_CLUSTER_WIDE = frozenset({"Node", "Namespace"})


@attrs.frozen
class Verb:
    """One command: its words as they are typed, what follows them, and what it does."""

    name: str
    arguments: str
    help: str
    least: int = 0
    most: int | None = 0
    """How many arguments it takes; None: any number."""


VERBS = (
    Verb("status", "", "routes, Pods and agents at a glance"),
    Verb("pods", "", "every Pod: node, IPs, whether it is Ready"),
    Verb("routes", "", "every route: addresses, holder, conditions"),
    Verb("delete pod", "POD", "as kubectl delete pod", 1, 1),
    Verb("kill pod", "POD", "kill -9 its process; it is started again", 1, 1),
    Verb("ready", "POD", "make it Ready", 1, 1),
    Verb("unready", "POD", "make it not Ready; it goes on answering", 1, 1),
    Verb("cordon", "NODE", "let no new Pod come to the node", 1, 1),
    Verb("uncordon", "NODE", "let Pods come again", 1, 1),
    Verb("drain", "NODE", "cordon it and evict its Pods", 1, 1),
    Verb("kill agent", "NODE", "kill -9 the node's agent; what it programmed stays", 1, 1),
    Verb("start agent", "NODE", "start it again", 1, 1),
    Verb("cut", "NODE", "pull the cable of its uplink; soon it counts as lost", 1, 1),
    Verb("restore", "NODE", "plug it in again", 1, 1),
    Verb("apply", "FILE...", "create or change what the manifests say", 1, None),
    Verb("in", "MACHINE COMMAND...", "run a command in a namespace: a node, NAMESPACE/POD, client, router", 2, None),
    Verb("label", "KIND NS NAME K=V|K-...", "set labels, or remove them; NS is - where there is none", 4, None),
    Verb("probe", "ADDRESS [SECONDS]", "a payload a millisecond, in and out, and what was lost", 1, 2),
    Verb("help", "", "this list"),
    Verb("quit", "", "take the lab down"),
)


@attrs.frozen
class Command:
    """A line that was understood."""

    verb: str
    arguments: tuple[str, ...] = ()


def parse_all(line: str) -> Sequence[Command | str]:
    """The commands of a line, with `;` between them; a sentence in place of each that is wrong."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word.strip(";"):
                parts[-1].append(shlex.quote(word))
            else:
                parts.append([])
    except ValueError:
        parts = [[line]]
    found = (parse(" ".join(part)) for part in parts)
    return [each for each in found if each is not None]


def parse(line: str) -> Command | str | None:
    """A Command; the sentence that says what is wrong; None for an empty line or a comment."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        return f"{error}; close the quotes, or put a backslash before them"
    if not words:
        return None
    found = next((verb for verb in VERBS if words[: len(verb.name.split())] == verb.name.split()), None)
    if found is None:
        name = {"exit": "quit", "q": "quit", "?": "help"}.get(words[0])
        if name is not None:
            return Command(name)
        begun = [verb for verb in VERBS if verb.name.split()[0] == words[0]]
        if begun:
            return "write " + " or ".join(f"`{_usage(verb)}`" for verb in begun)
        return f"unknown command {words[0]!r}; `help` lists all"
    arguments = tuple(words[len(found.name.split()) :])
    if len(arguments) < found.least or (found.most is not None and len(arguments) > found.most):
        return f"write `{_usage(found)}`"
    if found.name == "probe" and len(arguments) == 2 and not _is_seconds(arguments[1]):
        return f"{arguments[1]!r} is no number of seconds"
    return Command(found.name, arguments)


def _usage(verb: Verb) -> str:
    return f"{verb.name} {verb.arguments}".strip()


def _is_seconds(text: str) -> bool:
    try:
        return 0 < float(text) < 86_400
    except ValueError:
        return False


def find_pod(pods: Sequence[Manifest], text: str) -> Manifest | str:
    """The Pod that *text* names, as NAME or NAMESPACE/NAME or the only one whose name begins so; else why not."""
    namespace, _, name = text.rpartition("/")
    inside = [pod for pod in pods if not namespace or pod["metadata"]["namespace"] == namespace]
    chosen = [pod for pod in inside if pod["metadata"]["name"] == name]
    chosen = chosen or [pod for pod in inside if pod["metadata"]["name"].startswith(name)]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        return f"{text} may be any of {', '.join(sorted(_path(pod) for pod in chosen))}"
    return f"there is no Pod {text}; there are {', '.join(sorted(_path(pod) for pod in pods)) or 'none'}"


def _path(pod: Manifest) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


class Prompt:
    """Carries commands out."""

    def __init__(self, lab: RunningLab, console: Console) -> None:
        self._lab = lab
        self._console = console
        self._actions: Mapping[str, Callable[..., object]] = {
            "status": self._status,
            "pods": self._pods,
            "routes": self._routes,
            "delete pod": self._delete_pod,
            "kill pod": lambda pod: self._signal_pod(pod, signal.SIGKILL),
            "ready": lambda pod: self._signal_pod(pod, signal.SIGUSR2),
            "unready": lambda pod: self._signal_pod(pod, signal.SIGUSR1),
            "cordon": self._cordon,
            "uncordon": self._uncordon,
            "drain": self._drain,
            "kill agent": self._kill_agent,
            "start agent": self._start_agent,
            "cut": self._cut,
            "restore": self._restore,
            "apply": self._apply,
            "in": self._in,
            "label": self._label,
            "probe": self._probe,
            "help": self._help,
        }

    async def run(self, command: Command) -> None:
        """Do it; what the outside refuses is a sentence, and the prompt goes on."""
        try:
            result = self._actions[command.verb](*command.arguments)
            if asyncio.iscoroutine(result):
                await result
        except (PersistIPError, LookupError, ValueError, OSError) as error:
            self._say(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours in one command must not take the cluster down
            self._say(f"{command.verb} failed: {type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        self._console.print(text)

    async def _help(self) -> None:
        width = max(len(_usage(verb)) for verb in VERBS)
        for verb in VERBS:
            self._say(f"  {_usage(verb):<{width}}  {verb.help}")

    async def _status(self) -> None:
        await self._routes()
        self._say("")
        await self._pods()
        self._say("")
        agents = self._lab.agents()
        self._say("agents: " + ", ".join(f"{node} {_runs(agents.get(node, False))}" for node in self._lab.nodes))

    async def _routes(self) -> None:
        for route in await self._lab.routes():
            holder = f"{route.place.pod} on {route.place.node}" if route.place else "nobody"
            self._say(f"{route.route}: {', '.join(route.addresses)}, held by {holder}")
            for type_, (status, reason) in route.conditions.items():
                self._say(f"    {type_:<10} {status:<8} {reason}")

    async def _pods(self) -> None:
        for pod in await self._lab.pods():
            status = pod.get("status") or {}
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
            ips = ", ".join(each["ip"] for each in status.get("podIPs") or ())
            where = pod["spec"].get("nodeName") or "no node"
            going = ", terminating" if pod["metadata"].get("deletionTimestamp") else ""
            self._say(f"{_path(pod)}: {where}, {'Ready' if ready else 'not Ready'}{going}, {ips or 'no IP yet'}")

    async def _find(self, text: str) -> tuple[str, str]:
        match find_pod(await self._lab.pods(), text):
            case str() as why:
                raise LookupError(why)
            case pod:
                return pod["metadata"]["namespace"], pod["metadata"]["name"]

    def _node(self, name: str) -> str:
        if name not in self._lab.nodes:
            raise LookupError(f"there is no node {name}; there are {', '.join(self._lab.nodes)}")
        return name

    async def _delete_pod(self, text: str) -> None:
        namespace, name = await self._find(text)
        await self._lab.delete("Pod", namespace, name)

    async def _signal_pod(self, text: str, number: signal.Signals) -> None:
        self._lab.signal_pod(*await self._find(text), number)

    async def _cordon(self, node: str) -> None:
        await self._lab.patch("Node", "", self._node(node), {"spec": {"unschedulable": True}})

    async def _uncordon(self, node: str) -> None:
        await self._lab.uncordon(self._node(node))

    async def _drain(self, node: str) -> None:
        await self._lab.drain(self._node(node))

    def _kill_agent(self, node: str) -> None:
        self._lab.signal_agent(self._node(node), signal.SIGKILL)

    async def _start_agent(self, node: str) -> None:
        await self._lab.start_agent(self._node(node))

    async def _cut(self, node: str) -> None:
        await self._lab.cut(self._node(node))

    async def _restore(self, node: str) -> None:
        await self._lab.restore(self._node(node))

    async def _apply(self, *files: str) -> None:
        # A few small files, at a moment when nothing is measured.
        found = read_files([Path(file) for file in files])
        for fault in found.faults:
            self._say(str(fault))
        for manifest in found.objects:
            await self._lab.apply(manifest.body)
            self._say(f"applied {manifest.subject}")

    async def _in(self, machine: str, *command: str) -> None:
        status = await self._lab.run_inside(machine, command)
        if status:
            self._say(f"exit status {status}")

    async def _label(self, kind: str, namespace: str, name: str, *labels: str) -> None:
        if kind.lower() not in _LABELLED:
            raise LookupError(f"no labels of a {kind} here; KIND is one of {', '.join(_LABELLED.values())}")
        kind = _LABELLED[kind.lower()]
        if (namespace == "-") != (kind in _CLUSTER_WIDE):
            where = "belongs to no namespace; write - for it" if kind in _CLUSTER_WIDE else "belongs to a namespace"
            raise LookupError(f"a {kind} {where}")
        changes: dict[str, str | None] = {}
        for label in labels:
            key, equals, value = label.partition("=")
            if not equals and not label.endswith("-"):
                raise ValueError(f"{label!r}: write KEY=VALUE, or KEY- to remove a label")
            changes[key if equals else label[:-1]] = value if equals else None
        patch = {"metadata": {"labels": changes}}
        await self._lab.patch(kind, "" if kind in _CLUSTER_WIDE else namespace, name, patch)

    async def _probe(self, address: str, seconds: str = "1") -> None:
        """As in the story: what the client outside sends and gets back, and what it hears of the Pod."""
        seen = await self._lab.measure(str(ip_address(address)), float(seconds))
        names = [who.partition("@")[0] for who in seen.who]
        self._say(f"answered by {', then '.join(names)}" if names else "nobody answers")
        for direction, flow in (("in ", seen.ingress), ("out", seen.egress)):
            self._say(f"  {direction}  {_flow_words(flow)}")


def _flow_words(flow: Flow) -> str:
    if flow.sent == flow.lost:
        return f"nothing came of {flow.sent:,} sent" if flow.sent else "nothing was heard"
    return f"{flow.sent:,} sent, {flow.lost:,} lost; the longest silence was {flow.blackout_ms:,.1f} ms"


def _runs(running: bool) -> str:
    return "runs" if running else "does not run"


async def run_prompt(lab: RunningLab, console: Console) -> None:
    """Read and carry out commands until `quit` or the end of standard input."""
    prompt = Prompt(lab, console)
    console.print("The lab goes on running. `help` lists what can be done; `quit` takes it down.")
    async for line in _lines(sys.stdin.fileno(), lambda: _invite(console)):
        for parsed in parse_all(line):
            if isinstance(parsed, str):
                console.print(parsed)
            elif parsed.verb == "quit":
                return
            else:
                await prompt.run(parsed)


def _invite(console: Console) -> None:
    if console.is_terminal:
        console.print("lab> ", end="")


async def _lines(descriptor: int, invite: Callable[[], None]) -> AsyncIterator[str]:
    """
    Lines of a descriptor, each asked for by *invite*.

    A daemon thread reads the bare descriptor: it may stand in its read for ever when the lab is taken down by a signal,
    and holds no lock by then; the event loop could not watch a regular file.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        try:
            while data := os.read(descriptor, 4096):
                loop.call_soon_threadsafe(arrived.put_nowait, data)
            loop.call_soon_threadsafe(arrived.put_nowait, b"")
        except (OSError, RuntimeError):  # RuntimeError: the loop is closed, nobody waits any more
            return

    threading.Thread(target=read, name="prompt", daemon=True).start()
    rest = b""
    while True:
        invite()
        while b"\n" not in rest:
            data = await arrived.get()
            if not data:
                if rest.strip():
                    yield rest.decode(errors="replace")
                return
            rest += data
        line, _, rest = rest.partition(b"\n")
        yield line.decode(errors="replace")
