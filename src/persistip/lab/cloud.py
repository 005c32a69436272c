"""
How does Compute Engine get into the lab, and who sends its packets?

In: the fabric, and what is reserved.  Out: an emulated project whose machines are the lab's nodes, at an endpoint that
the controller can reach, and a router that asks the project where each packet goes.

    controller ──HTTP on loopback──> emulator ── holder(address)? ──> routes of the fabric's router ──> node
    node's uplink ── ARP reply, router advertisement ──> emulator            (every few milliseconds, and at each frame)

The fabric's own layer 2 has no part in it: nobody there answers for an address, so that without a forwarding rule, a
leader or a frame that counts not one packet arrives.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import select
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute

from persistip.lab.fabric import ONLINK, ROUTER, SEGMENT, UPLINK, Fabric
from persistip.lab.options import LatencyName
from persistip.lab.reserved import Reserved
from persistip.testing.compute_engine import (
    ComputeEngine,
    ComputeServer,
    DataPlane,
    Description,
    Instance,
    ReservedAddress,
    Subnetwork,
    seed,
)

CONTROL_PLANE = "fabric"
"""The machine on whose loopback the emulator listens: the controller's."""
TURN_SECONDS = 0.005
"""How long a change in the project takes at most to become one of the fabric's routes."""
CLUSTER_ID = "lab"

Address = IPv4Address | IPv6Address

_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_PACKET_OUTGOING = 4
_ANNOUNCEMENTS = (
    (0x28, 0, 0, 12),  # the EtherType
    (0x15, 5, 0, 0x0806),  # ARP: take it
    (0x15, 0, 5, 0x86DD),  # else only IPv6
    (0x30, 0, 0, 20),  # its next header
    (0x15, 0, 3, 58),  # only ICMPv6
    (0x30, 0, 0, 54),  # the message's type
    (0x15, 0, 1, 134),  # only router advertisements
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)
"""A program for the kernel: of all that a node sends, ARP and router advertisements are looked at."""


class LabCloud:
    """The project and its data plane; enter it after the fabric, leave it before."""

    def __init__(self, fabric: Fabric, reserved: Sequence[Reserved], *, latency: LatencyName, seed_number: int) -> None:
        self._fabric = fabric
        self.engine = ComputeEngine(latency=latency, seed=seed_number)
        self._plane = DataPlane(self.engine.state, self.engine.clock)
        self._addresses = [ip_address(each.ip) for each in reserved]
        zones = self.engine.state.zones
        machines = [
            Instance(name=name, zone=zones[number % len(zones)], ip=site.ips[0], mac=fabric.hardware_address(name))
            for number, (name, site) in enumerate(sorted(fabric.nodes.items()))
        ]
        description = Description(
            subnetworks=(Subnetwork(ipv4=str(SEGMENT[0])),),
            instances=tuple(machines),
            addresses=tuple(
                ReservedAddress(name=each.name, ip=each.ip, internal="" if each.is_external else "default")
                for each in reserved
            ),
        )
        seed(self.engine, description)
        self._node_ips = {name: site.ips for name, site in fabric.nodes.items()}
        self._routes = {name: _Routes(fabric, name) for name in (ROUTER, ONLINK)}
        self._listeners: dict[socket.socket, str] = {}
        self._server: ComputeServer | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud", daemon=True)
        self._turns = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            with self._fabric.inside(CONTROL_PLANE):
                self._server = undo.enter_context(ComputeServer(self.engine))
                for name in self._node_ips:
                    self._listeners[undo.enter_context(_listen(self._fabric.port_of(name)))] = name
            self._undo = undo.pop_all()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._undo.close()

    @property
    def arguments(self) -> tuple[str, ...]:
        """What a controller's command line says to work in this project."""
        assert self._server is not None  # noqa: S101 - it is entered
        state = self.engine.state
        return (
            *("--allocator", "gce", "--gce.endpoint", self._server.endpoint, "--gce.cluster-id", CLUSTER_ID),
            *("--gce.project", state.project, "--gce.region", state.region),
        )

    def leaders(self) -> Mapping[str, str | None]:
        """To which node the packets of each address go; None where to none, or now to one and then to another."""
        with self.engine.lock:
            holders = {str(address): self._plane.holder(str(address)) for address in self._addresses}
        return {address: next(iter(names)) if len(names) == 1 else None for address, names in holders.items()}

    # --- the thread of the data plane -------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_over.is_set():
            heard, _, _ = select.select(list(self._listeners), [], [], TURN_SECONDS)
            with self.engine.lock:
                for listener in heard:
                    self._hear(listener)
                self.engine.settle()
                holders = {address: self._plane.holder(str(address)) for address in self._addresses}
            self._turns += 1
            for routes in self._routes.values():
                routes.lead({address: self._next_hop(address, names) for address, names in holders.items()})

    def _hear(self, listener: socket.socket) -> None:
        try:
            while True:
                frame, place = listener.recvfrom(2048)
                if place[2] != _PACKET_OUTGOING:
                    self._plane.frame(self._listeners[listener], frame)
        except BlockingIOError:
            return
        except OSError as error:
            # The cable was pulled; the socket hears again when it is put back.
            if error.errno != errno.ENETDOWN:
                raise

    def _next_hop(self, address: Address, names: frozenset[str]) -> str | None:
        """Of several holders one and then another, as packets go to either."""
        if not names:
            return None
        name = sorted(names)[self._turns % len(names)]
        return next(ip for ip in self._node_ips[name] if ip_address(ip).version == address.version)


class _Routes:
    """One machine's routes to the addresses; changed only where they differ from what was wanted last."""

    def __init__(self, fabric: Fabric, machine: str) -> None:
        self._fabric, self._machine = fabric, machine
        self._leads: dict[Address, str | None] = {}
        (self._link,) = fabric.netlink(machine, lambda netlink: netlink.link_lookup(ifname=UPLINK))

    def lead(self, wanted: Mapping[Address, str | None]) -> None:
        """Have packets go to these next hops; to None: nowhere."""
        for address, gateway in wanted.items():
            if address in self._leads and self._leads[address] == gateway:
                continue
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            route: dict[str, Any] = {"family": family, "dst": f"{address}/{address.max_prefixlen}"}
            route |= {"type": "blackhole"} if gateway is None else {"gateway": gateway, "oif": self._link}
            self._fabric.netlink(self._machine, partial(_replace, route))
            self._leads[address] = gateway


def _replace(route: Mapping[str, Any], netlink: IPRoute) -> None:
    netlink.route("replace", **route)


def _listen(port: str) -> socket.socket:
    """A socket that hears what announces anything on a port of the segment."""
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    program = b"".join(struct.pack("=HBBI", *step) for step in _ANNOUNCEMENTS)
    buffer = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HL", len(_ANNOUNCEMENTS), ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
    # All protocols, or the bridge would take what comes in before it got here.
    listener.bind((port, _ETH_P_ALL))
    return listener
