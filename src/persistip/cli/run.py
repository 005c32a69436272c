"""
`persistip run controller` and `persistip run agent`: the two processes of a cluster.

In: flags and PERSISTIP_* variables.  Out: a process that works until SIGTERM or SIGINT.  Exit status 0 after a stop
that was asked for, 1 after a fault of ours, 2 for settings that cannot work.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import uuid
from collections.abc import Collection, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.config import Env

from persistip.cli.logs import Format, configure_logs
from persistip.cli.serving import Worker, open_telemetry, serve
from persistip.errors import ConfigError
from persistip.settings import AgentSettings, ClusterSettings, ControllerSettings, ServingSettings

if TYPE_CHECKING:
    from persistip.backends.registry import LeasingCluster

EXIT_STOPPED, EXIT_FAULT, EXIT_SETTINGS = 0, 1, 2

API_SERVER = "apiserver"
LEASE = "persistip-controller"

Level = Literal["debug", "info", "warning", "error"]

_env = Env("PERSISTIP_", command=False)
app = App(name="run", help="Run a controller or an agent until it is told to stop.", config=_env)


@app.command(name="controller")
def run_controller(
    *,
    cluster: str = API_SERVER,
    api: Annotated[ClusterSettings | None, Parameter(name="*")] = None,
    serving: Annotated[ServingSettings | None, Parameter(name="*")] = None,
    allocator: str = "static",
    reaction_mode: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    leader_election: bool | None = None,
    log_format: Format = "text",
    log_level: Level = "info",
    settings: Annotated[ControllerSettings | None, Parameter(name="*")] = None,
) -> None:
    """
    Decide which Pod holds which address, for a whole cluster.

    Parameters
    ----------
    cluster
        Where the API is: apiserver, or memory:/path/of/a.sock.
    api
        How an API server is reached.
    serving
        How it is watched.
    allocator
        What provides addresses: static, or one that is installed.
    reaction_mode
        Installed reaction modes that routes may name, beside the two of the API; the same on every replica.
    leader_election
        Whether to act only while holding the lease persistip-controller; on an API server yes.
    log_format
        Lines for people, or JSON.
    log_level
        The least severe records that are written.
    settings
        Everything else that can be set.
    """
    elects = cluster == API_SERVER if leader_election is None else leader_election
    chosen = settings or ControllerSettings()
    where = (cluster, api or ClusterSettings())
    shown = serving or ServingSettings()
    _run(_controller(where, shown, allocator, reaction_mode, chosen, elects=elects), log_format, log_level)


@app.command(name="agent")
def run_agent(
    *,
    node_name: str,
    cluster: str = API_SERVER,
    api: Annotated[ClusterSettings | None, Parameter(name="*")] = None,
    serving: Annotated[ServingSettings | None, Parameter(name="*")] = None,
    datapath: str = "linux",
    announcer: str = "layer2",
    log_format: Format = "text",
    log_level: Level = "info",
    settings: Annotated[AgentSettings | None, Parameter(name="*")] = None,
) -> None:
    """
    Program, announce and report for the node whose network namespace this is.

    Parameters
    ----------
    node_name
        The Node's name in the cluster.
    cluster
        Where the API is: apiserver, or memory:/path/of/a.sock.
    api
        How an API server is reached.
    serving
        How it is watched.
    datapath
        How packets are forwarded: linux, or one that is installed.
    announcer
        How neighbours are told: layer2, none, or one that is installed.
    log_format
        Lines for people, or JSON.
    log_level
        The least severe records that are written.
    settings
        Everything else that can be set.
    """
    where = (cluster, api or ClusterSettings(), node_name)
    shown = serving or ServingSettings()
    _run(_agent(where, shown, datapath, announcer, settings or AgentSettings()), log_format, log_level)


def controller() -> None:
    """Console script `persistip-controller`."""
    _start(App(name="persistip-controller", default_command=run_controller, config=_env))


def agent() -> None:
    """Console script `persistip-agent`."""
    _start(App(name="persistip-agent", default_command=run_agent, config=_env))


def _start(command: App) -> None:
    """Settings are checked while the command line is read, before there is a process to speak of."""
    try:
        command(sys.argv[1:])
    except ConfigError as error:
        print(f"persistip: {error}", file=sys.stderr)
        sys.exit(EXIT_SETTINGS)


async def _controller(
    where: tuple[str, ClusterSettings],
    shown: ServingSettings,
    allocator: str,
    reaction_modes: tuple[str, ...],
    settings: ControllerSettings,
    *,
    elects: bool,
) -> None:
    # Each process loads its own half of the package, and no more.
    from persistip.backends.registry import find_allocator, find_reaction_modes  # noqa: PLC0415
    from persistip.controller import Controller  # noqa: PLC0415
    from persistip.runtime.clock import SystemClock  # noqa: PLC0415
    from persistip.runtime.election import Election  # noqa: PLC0415
    from persistip.runtime.garbage import collecting_after  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        modes = find_reaction_modes(reaction_modes)
        chosen = await stack.enter_async_context(find_allocator(allocator)(settings))
        read = [key for mode in modes.values() for key in mode.annotations]
        opened = await _open_cluster(stack, *where, None, read)
        election = None
        if elects:
            lease = opened.lease(settings.policy.system_namespace, LEASE)
            identity = f"{socket.gethostname()}_{uuid.uuid4()}"
            election = Election(lease, identity, SystemClock(), settings=settings.election)
        telemetry = open_telemetry(shown, "controller")
        worker = Controller(opened, chosen, modes, settings=settings, election=election, telemetry=telemetry)
        await serve(stack, shown, worker, telemetry)
        async with collecting_after(worker.synced):
            await _until_told(worker)


async def _agent(
    where: tuple[str, ClusterSettings, str],
    shown: ServingSettings,
    datapath: str,
    announcer: str,
    settings: AgentSettings,
) -> None:
    from persistip.agent import Agent  # noqa: PLC0415
    from persistip.backends.registry import find_announcer, find_datapath  # noqa: PLC0415

    node_name = where[-1]
    async with AsyncExitStack() as stack:
        forwards = await stack.enter_async_context(find_datapath(datapath)(settings, node_name))
        announces = await stack.enter_async_context(find_announcer(announcer)(settings, node_name))
        opened = await _open_cluster(stack, *where)
        telemetry = open_telemetry(shown, "agent")
        worker = Agent(node_name, opened, forwards, announces, settings=settings, telemetry=telemetry)
        await serve(stack, shown, worker, telemetry)
        await _until_told(worker)


async def _open_cluster(
    stack: AsyncExitStack, where: str, api: ClusterSettings, node_name: str | None, annotations: Collection[str] = ()
) -> LeasingCluster:
    scheme, _, rest = where.partition(":")
    if scheme == "memory" and rest:
        from persistip.backends.memory import MemoryCluster, RemoteStore  # noqa: PLC0415

        store = await stack.enter_async_context(RemoteStore(rest))
        return MemoryCluster(store, node_name=node_name)
    from persistip.backends.registry import find_cluster, names  # noqa: PLC0415

    if where not in names("clusters"):
        known = ", ".join((*names("clusters"), "memory:/path/of/a.sock"))
        message = f"--cluster {where!r} names no API; there are: {known}"
        raise ConfigError(message)
    return await stack.enter_async_context(find_cluster(where)(api, node_name, annotations))


async def _until_told(worker: Worker) -> None:
    """Run *worker* until it ends or a signal asks it to; a second signal no longer waits for what is in work."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    working = asyncio.create_task(worker.run())

    def tell() -> None:
        if told.is_set():
            working.cancel()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    telling = asyncio.create_task(told.wait())
    await asyncio.wait({working, telling}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if told.is_set():
        await worker.stop()
    try:
        await working
    except asyncio.CancelledError:
        if not told.is_set():
            raise


def _run(work: Coroutine[Any, Any, None], log_format: Format, log_level: Level) -> None:
    configure_logs(log_format, log_level)
    logger = logging.getLogger("persistip")
    try:
        asyncio.run(work)
    except ConfigError as error:
        print(f"persistip: {error}", file=sys.stderr)
        sys.exit(EXIT_SETTINGS)
    except Exception:
        # The last line of a process: whatever it was, it is logged and told by the status.
        logger.exception("ended by a fault")
        sys.exit(EXIT_FAULT)
    sys.exit(EXIT_STOPPED)
