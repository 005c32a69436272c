"""
How does the lab run on real packets?

In: a sandbox.  Out: a Site of namespaces and processes: the fabric's nodes, the echo program in each Pod, a controller
and one agent for each node, a probe for each family at the client outside. Each is a process of its own that can be
killed; an agent lives in its node's namespace and sees the cluster through a unix socket only, which is there as long
as the node's uplink is: whoever is cut off does not reach the API either.
Nothing is started again by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from persistip.backends.linux import LinuxDatapath
from persistip.backends.memory import MemoryStore, StoreServer
from persistip.lab import echo
from persistip.lab.cloud import CONTROL_PLANE, LabCloud
from persistip.lab.fabric import CLIENT, Fabric
from persistip.lab.foreign import look_at_foreign
from persistip.lab.outside import Outside
from persistip.lab.sandbox import Sandbox
from persistip.lab.site import AddressProbe, NodeFacts, Process, Program
from persistip.model.entry import NodeScope, NodeState
from persistip.runtime.clock import SystemClock

Result = TypeVar("Result")

_SOURCES = Path(echo.__file__).resolve().parents[2]
_OBSERVED = "observed everything"
_START_SECONDS = 10.0
_LOG_BYTES = 4000


class LinuxSite:
    """
    The Site on this machine's kernel.

    *sandbox* tells where files may be, *open_cloud* makes a cloud whose machines the nodes are.
    """

    def __init__(self, sandbox: Sandbox, open_cloud: Callable[[Fabric], LabCloud] | None = None) -> None:
        self._open_cloud = open_cloud
        self._cloud: LabCloud | None = None
        self.clock = SystemClock()
        self._state = sandbox.state
        self._fabric = Fabric()
        # The kernel ends a child with the thread that made it, so these threads last as long as the site.
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="site")
        self._stack = AsyncExitStack()
        self._store: MemoryStore | None = None
        self._servers: dict[str, StoreServer] = {}
        self._cut_off: set[str] = set()
        self._controller: subprocess.Popen[bytes] | None = None
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._programs: dict[str, list[_Running]] = {}
        self._probes: dict[int, AddressProbe] = {}

    async def __aenter__(self) -> Self:
        await self._run(self._fabric.__enter__)
        self._stack.callback(self._pool.shutdown)
        self._stack.callback(self._fabric.close)
        if self._open_cloud is not None:
            cloud = await self._run(partial(self._open_cloud, self._fabric))
            self._cloud = await self._run(partial(self._stack.enter_context, cloud))
        for family in (4, 6):
            self._probes[family] = _Probe(await self._run(partial(Outside, self._fabric, CLIENT)), self._pool)
        return self

    async def __aexit__(self, *_: object) -> None:
        for running in (each for programs in self._programs.values() for each in programs):
            running.forget()
        for machine in tuple(self._servers):
            await self._close_api(machine)
        await self._stack.aclose()

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    @property
    def nodes(self) -> Mapping[str, NodeFacts]:
        """The nodes, by name."""
        return {
            name: NodeFacts(ips=site.ips, pod_cidrs=site.pod_cidrs) for name, site in sorted(self._fabric.nodes.items())
        }

    def leaders(self) -> Mapping[str, str | None] | None:
        """To which node a cloud sends the packets of each address; None: there is no cloud."""
        return None if self._cloud is None else self._cloud.leaders()

    # --- Pods -------------------------------------------------------------------------------------------------

    async def add_pod(self, node: str, name: str) -> tuple[str, ...]:
        """A network namespace on *node*; returns the Pod's IPs."""
        return (await self._run(partial(self._fabric.add_pod, node, name))).ips

    async def delete_pod(self, name: str) -> None:
        """Kill what runs in the Pod, and remove its namespace."""
        # The fabric closes the pipes, and their numbers are given to others at once.
        for running in self._programs.pop(name, ()):
            running.forget()
        await self._run(partial(self._fabric.delete_pod, name))

    async def start_program(self, name: str, program: Program) -> Process:
        """Start the echo program in a Pod."""
        started = await self._run(
            partial(
                self._fabric.spawn,
                name,
                [sys.executable, "-S", "-I", echo.__file__],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=dict(program.environment),
            )
        )
        running = _Running(started, program)
        self._programs.setdefault(name, []).append(running)
        return running

    # --- ours -------------------------------------------------------------------------------------------------

    async def start_controller(self, store: MemoryStore) -> None:
        """Serve the store and start the controller, if it does not run."""
        if self._store is None:
            self._store = store
            for machine in (CONTROL_PLANE, *self._fabric.nodes):
                await self._open_api(machine)
        if self._controller is None or self._controller.poll() is not None:
            arguments = () if self._cloud is None else self._cloud.arguments
            self._controller = await self._start(CONTROL_PLANE, "controller", "controller", *arguments)
            if self._cloud is not None:
                # Google's library takes seconds to load, which are no part of what is watched.
                await self._until_said(self._controller, self._state / "controller.log", 0, _START_SECONDS * 6)

    def _socket(self, machine: str) -> Path:
        """By which a machine reaches the API."""
        return self._state / f"api-{machine}.sock"

    async def _open_api(self, machine: str) -> None:
        if self._store is not None and machine not in self._servers:
            self._servers[machine] = await StoreServer(self._store, self._socket(machine)).__aenter__()

    async def _close_api(self, machine: str) -> None:
        server = self._servers.pop(machine, None)
        if server is not None:
            await server.__aexit__()

    async def start_agent(self, node: str) -> None:
        """
        Start a node's agent, if it does not run.

        Returns when it has taken up its work, or has ended, or cannot take it up because its node is cut off.
        """
        if self.agents()[node]:
            return
        log = self._state / f"agent-{node}.log"
        begin = log.stat().st_size if log.exists() else 0
        directory = str(self._agent_state(node))
        process = await self._start(node, f"agent-{node}", "agent", "--node-name", node, "--state-directory", directory)
        self._agents[node] = process
        await self._until_said(process, log, begin, _START_SECONDS, lambda: node in self._cut_off)

    async def _until_said(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        begin: int,
        seconds: float,
        is_in_vain: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until a process has observed everything, by its own word, or ends, or cannot."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end and not is_in_vain():
            if _OBSERVED in (await self._run(log.read_bytes))[begin:].decode(errors="replace"):
                return
            await asyncio.sleep(0.01)

    async def _start(self, machine: str, name: str, which: str, *arguments: str) -> subprocess.Popen[bytes]:
        # The package's folder on the path: a process of ours must find us where we are, also in a checkout.
        environment = {**os.environ, "PYTHONPATH": str(_SOURCES)}
        command = [
            sys.executable,
            "-c",
            f"from persistip.cli.run import {which}; {which}()",
            "--cluster",
            f"memory:{self._socket(machine)}",
            *arguments,
        ]
        with (self._state / f"{name}.log").open("ab") as log:
            return await self._run(
                partial(
                    self._fabric.spawn,
                    machine,
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                )
            )

    def signal_agent(self, node: str, number: signal.Signals) -> None:
        """Signal a node's agent; LookupError when none runs."""
        if not self.agents()[node]:
            raise LookupError(f"no agent runs on {node}")
        self._agents[node].send_signal(number)
        if number is signal.SIGKILL:
            self._agents[node].wait()

    def agents(self) -> Mapping[str, bool]:
        """Which nodes' agents run."""
        return {
            node: (agent := self._agents.get(node)) is not None and agent.poll() is None for node in self._fabric.nodes
        }

    def _agent_state(self, node: str) -> Path:
        return self._state / "agents" / node

    async def kernel(self, node: str) -> NodeState:
        """What the agent's own datapath sees on the node."""
        return await self._run(partial(self._observe, node))

    async def foreign(self, node: str) -> frozenset[str]:
        """What is in the node's kernel and not ours."""
        return await self._run(partial(self._look_at_foreign, node))

    def _look_at_foreign(self, node: str) -> frozenset[str]:
        with self._fabric.inside(node):
            return look_at_foreign()

    def _observe(self, node: str) -> NodeState:
        with self._fabric.inside(node), LinuxDatapath(self._agent_state(node)) as datapath:
            return asyncio.run(datapath.observe(NodeScope()))

    # --- outside ----------------------------------------------------------------------------------------------

    def probes(self) -> Mapping[int, AddressProbe]:
        """A probe at the client for each family, 4 and 6."""
        return self._probes

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC, which all processes share."""
        return time.monotonic_ns()

    async def cut(self, node: str) -> None:
        """Pull the cable of the node's uplink, by which its agent also reaches the API."""
        self._cut_off.add(node)
        await self._run(partial(self._fabric.cut, node))
        await self._close_api(node)

    async def restore(self, node: str) -> None:
        """Undo ``cut``."""
        self._cut_off.discard(node)
        await self._run(partial(self._fabric.restore, node))
        await self._open_api(node)

    async def run_inside(self, machine: str, command: Sequence[str]) -> int:
        """Run a command in the namespace of a machine, on this terminal; its exit status."""
        started = await self._run(partial(self._fabric.spawn, machine, command))
        return await self._run(started.wait)

    def logs(self) -> Mapping[str, str]:
        """The last lines of the controller's and the agents' logs, by name."""
        return {
            path.stem: path.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
            for path in sorted(self._state.glob("*.log"))
        }


class _Running:
    """A Pod's process; its lines and its end come through its pipe."""

    def __init__(self, process: subprocess.Popen[bytes], program: Program) -> None:
        self._process, self._program = process, program
        self._rest = b""
        self._is_heard = True
        if process.stdout is None:
            raise ValueError("a Pod's program is heard through its standard output")
        self._output = process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._output.fileno(), self._read)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def forget(self) -> None:
        """Hear no more of it."""
        if self._is_heard:
            self._loop.remove_reader(self._output.fileno())
        self._is_heard = False

    def _read(self) -> None:
        try:
            data = os.read(self._output.fileno(), 4096)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._program.on_line(line.decode(errors="replace"))
        if not data:
            self.forget()
            self._program.on_exit()


class _Probe:
    """An Outside, asked through a thread."""

    def __init__(self, outside: Outside, pool: ThreadPoolExecutor) -> None:
        self._outside, self._pool = outside, pool

    async def _ask(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def start(self, address: str, port: int, *, settle_seconds: float = 1.0) -> dict[str, Any]:
        """Probe from now on; ``ok`` tells whether both directions flow after at most *settle_seconds*."""
        return await self._ask(partial(self._outside.start, address, port, settle_seconds=settle_seconds))

    async def mark(self, name: str) -> int:
        """Set an instant to measure from."""
        return await self._ask(partial(self._outside.mark, name))

    async def stop(self) -> dict[str, Any]:
        """End the probe and return its result."""
        return await self._ask(self._outside.stop)

    async def drop(self) -> None:
        """End the probe, if one runs, without a result."""
        await self._ask(self._outside.drop)

    async def reach(self, address: str, port: int) -> dict[str, str | None]:
        """Who answers at *address* now, by UDP and by TCP."""
        return await self._ask(partial(self._outside.reach, address, port))
