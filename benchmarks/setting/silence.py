"""
What do the measurements of an address's silence stand on?

In: how many moves, and what a move is.  Out: the floor, two Pods on two nodes between which the bare netlink messages
and the announcement move an address, with the silence that a probe on the same topology saw; and a lab that has come to
rest, in which ours makes the moves.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from importlib.resources import files
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from persistip.backends.announce import PacketAnnouncer
from persistip.backends.linux import LinuxDatapath
from persistip.lab import echo, sandbox
from persistip.lab.cluster import Lab
from persistip.lab.fabric import CLIENT, Fabric
from persistip.lab.options import LabOptions
from persistip.lab.outside import Outside
from persistip.lab.processes import LinuxSite
from persistip.lab.scene import Scene
from persistip.model.actions import PutEntry, RemoveEntry
from persistip.model.entry import Announcement, Entry, ExemptEntry, GuardEntry, NodeScope, ProxyEntry, RouteEntry
from persistip.wire.files import read_files

ADDRESS = "192.0.2.200"
PORT = 7
PREFIX = ip_network(ADDRESS)


class FloorNode:
    """One node of the floor: its datapath, and the entries that lead to its Pod."""

    def __init__(self, fabric: Fabric, name: str) -> None:
        self.name = name
        self._fabric = fabric
        pod = fabric.add_pod(name, f"floor-{name}")
        place = sandbox.current()
        assert place is not None
        with fabric.inside(name):
            self.datapath = LinuxDatapath(place.state / name)
        self.pod_ip = next(ip for each in pod.ips if (ip := ip_address(each)).version == 4)
        self._pod_name = pod.name
        self.start()

    def start(self) -> None:
        """Start the Pod's program, which holds the address itself; returns when it serves."""
        environment = {**os.environ, "POD_NAME": self.name, "PERSISTENT_ADDRESSES": ADDRESS, "PORT": str(PORT)}
        command = [sys.executable, "-S", "-I", echo.__file__]
        self._program = self._fabric.spawn(self._pod_name, command, env=environment, stdout=subprocess.PIPE)
        if self._program.stdout is None or not self._program.stdout.readline():
            raise RuntimeError(f"the program of {self._pod_name} ended before it was ready")

    def kill(self) -> None:
        """Kill the Pod's program with SIGKILL."""
        self._program.kill()

    def wait_for_its_end(self) -> None:
        """Wait until the Pod's program is heard to have ended, as kubelet hears it."""
        if self._program.stdout is not None:
            self._program.stdout.read()
            self._program.stdout.close()
        self._program.wait()

    async def learn(self) -> None:
        """Find the Pod's link, as an agent would before it programs anything."""
        scope = NodeScope(pod_ips=frozenset({self.pod_ip}))
        for _ in range(100):
            with self._fabric.inside(self.name):
                state = await self.datapath.observe(scope)
            found = state.pod_links.get(self.pod_ip)
            if found is not None and found.hardware_address is not None:
                break
            await asyncio.sleep(0.02)
        else:
            raise TimeoutError(f"{self.pod_ip} does not answer on {self.name}")
        link, hardware_address, uplink = found.link, found.hardware_address, state.uplinks[0]
        self.entries: tuple[Entry, ...] = (
            GuardEntry(prefix=PREFIX, link=link, hardware_address=hardware_address),
            ExemptEntry(PREFIX),
            RouteEntry(prefix=PREFIX, link=link, hardware_address=hardware_address, pod_ip=self.pod_ip),
            ProxyEntry(prefix=PREFIX, link=uplink),
        )
        self.announcement = Announcement(prefix=PREFIX, link=uplink, epoch=1)

    async def take(self) -> None:
        """Program, then announce: all that a new holder must do."""
        with self._fabric.inside(self.name):
            await self.datapath.apply([PutEntry(entry) for entry in self.entries])
            async with PacketAnnouncer() as announcer:
                await announcer.announce(frozenset({self.announcement}))

    async def leave(self) -> None:
        """Withdraw: all that an old holder must do."""
        with self._fabric.inside(self.name):
            await self.datapath.apply([RemoveEntry(entry) for entry in reversed(self.entries)])


async def measure_floor(
    moves: int,
    move: Callable[[FloorNode, FloorNode], Awaitable[None]],
    restore: Callable[[FloorNode], None] = lambda _: None,
) -> list[dict[str, float]]:
    """What the probe saw of so many times *move*, called with the old node and the new; then the old is restored."""
    with ExitStack() as stack:
        fabric = stack.enter_context(Fabric())
        nodes = [FloorNode(fabric, name) for name in ("node-a", "node-b")]
        probe = stack.enter_context(Outside(fabric, CLIENT))
        for node in nodes:
            await node.learn()
        old, new = nodes
        await old.take()
        results = []
        for _ in range(moves):
            started = probe.start(ADDRESS, PORT)
            if not started["ok"]:
                raise RuntimeError(f"the floor does not carry traffic: {started}")
            await asyncio.sleep(0.1)
            probe.mark("move")
            await move(old, new)
            await asyncio.sleep(0.3)
            results.append(_seen(probe.stop()))
            restore(old)
            old, new = new, old
        return results


def _seen(result: dict[str, Any]) -> dict[str, float]:
    """Of both directions, since the mark: the longest silence, and what was lost."""
    flows = result["marks"]["move"]
    return {
        "blackout_ms": max(flows[name]["blackout_ms"] for name in ("ingress", "egress")),
        "lost": sum(flows[name]["lost"] for name in ("ingress", "egress")),
    }


class _Silent:
    """An observer that says nothing."""

    def stage(self, text: str) -> None:
        """Not shown."""

    def routes(self, routes: object) -> None:
        """Not shown."""

    def event_begins(self, name: str, sentence: str) -> None:
        """Not shown."""

    def event_ends(self, result: object) -> None:
        """Not shown."""

    async def prompt(self, lab: object) -> None:
        """Never asked for."""


def _example() -> list[dict[str, Any]]:
    """The lab's own manifests."""
    examples = files("persistip.lab") / "examples"
    paths = sorted(Path(str(each)) for each in examples.iterdir() if each.name.endswith(".yaml"))
    return [manifest.body for manifest in read_files(paths).objects]


@asynccontextmanager
async def lab_at_rest() -> AsyncIterator[Scene]:
    """A lab of processes with its own manifests, when it has come to rest."""
    place = sandbox.current()
    assert place is not None
    options = LabOptions()
    async with LinuxSite(place) as site, Lab(site, options) as lab:
        scene = Scene(lab, _Silent(), None)
        for body in _example():
            await lab.apply(body)
        if not await lab.settled(options.settle_seconds):
            raise RuntimeError("the lab does not come to rest")
        yield scene
