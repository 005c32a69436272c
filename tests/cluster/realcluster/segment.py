"""
What connects the machines?

In: machines.  Out: one layer-2 segment with all nodes, the control plane and a router on it, and a client behind the
router. Cables can be cut for some of the traffic: a rule in the switch drops it, so no link goes down and none is told.
"""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from realcluster import plan
from realcluster.machine import Machine, MachineError
from realcluster.plan import CONTROL, ROUTER, Place, place_of_node

Cut = Literal["api", "fabric", "both"]
UPLINK = "eth0"


class Segment:
    """The switch, the router, the client and the control plane's machine; nodes are plugged in as they boot."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.switch, self.router, self.client, self.control = (
            Machine(name, program, folder / name) for name in ("switch", "router", "client", "control")
        )
        self._cuts: dict[str, Cut] = {}

    @property
    def machines(self) -> Sequence[Machine]:
        """Return all that are not nodes."""
        return self.switch, self.router, self.client, self.control

    def start(self, nodes: Iterable[Place]) -> None:
        """Boot the machines and connect them; *nodes* are whose Pods the others shall reach."""
        for machine in self.machines:
            machine.boot()
        # Snooping would keep neighbour solicitations from ports that have not asked for them yet.
        self.switch.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")
        routes = [
            f"route add {pods} via {via}"
            for node in nodes
            for pods, via in zip(node.pods, (node.ip4, node.ip6), strict=True)
        ]
        self.plug(self.control, Place(CONTROL), routes)
        routes += [f"route add {prefix} dev {UPLINK}" for prefix in (plan.PERSISTENT4, plan.PERSISTENT6)]
        self.plug(self.router, Place(ROUTER), routes)
        self._connect_client()
        self.router.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)

    def plug(self, machine: Machine, place: Place, routes: Sequence[str] = ()) -> None:
        """Put a cable between a machine and the switch, and give the machine its addresses."""
        _cable(self.switch, machine.name, machine, UPLINK, place.hardware)
        self.switch.ip(f"link set {machine.name} master br0 up")
        default = [] if place.number == ROUTER else [Place(ROUTER)]
        machine.ip(
            "link set lo up",
            f"addr add {place.ip4}/24 dev {UPLINK}",
            f"addr add {place.ip6}/64 dev {UPLINK} nodad",
            f"link set {UPLINK} up",
            *(f"route add default via {via}" for router in default for via in (router.ip4, router.ip6)),
            *routes,
        )

    def _connect_client(self) -> None:
        _cable(self.router, "outside", self.client, UPLINK, "02:00:c6:33:64:02")
        for machine, number, link in ((self.router, 1, "outside"), (self.client, plan.CLIENT, UPLINK)):
            machine.ip(
                "link set lo up",
                f"addr add {plan.OUTSIDE4.format(number)}/24 dev {link}",
                f"addr add {plan.OUTSIDE6.format(number)}/64 dev {link} nodad",
                f"link set {link} up",
            )
        self.client.ip(
            f"route add default via {plan.OUTSIDE4.format(1)}", f"route add default via {plan.OUTSIDE6.format(1)}"
        )

    # ------------------------------------------------------------ faults
    def cut(self, node: str, what: Cut) -> None:
        """Cut a node off from the API server's machine, from all others on the segment, or from both."""
        self._cuts[node] = what
        self._write_cuts()

    def heal(self, node: str) -> None:
        """Connect a node again."""
        self._cuts.pop(node, None)
        self._write_cuts()

    def _write_cuts(self) -> None:
        """Drop by port: the control plane's is the API, every other is the fabric."""
        rules = []
        for node, what in self._cuts.items():
            other = {"api": f'"{self.control.name}"', "fabric": f'!= "{self.control.name}"', "both": None}[what]
            to = f"oifname {other}" if other else ""
            fro = f"iifname {other}" if other else ""
            rules += [f'iifname "{node}" {to} drop', f'{fro} oifname "{node}" drop']
        chain = "\n".join(["type filter hook forward priority 0", *rules])
        table = "table bridge cut {\nchain cut {\n" + chain + "\n}\n}\n"
        self.switch.run("nft", "-f", "-", stdin=f"table bridge cut\ndelete table bridge cut\n{table}")


def _cable(switch: Machine, port: str, machine: Machine, link: str, hardware: str) -> None:
    command = ["ip", "link", "add", port, "netns", str(switch.pid), "type", "veth"]
    command += ["peer", "name", link, "address", hardware, "netns", str(machine.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise MachineError(f"{' '.join(command)}: {done.stderr}")


def routes_of_node(own: Place, count: int) -> list[str]:
    """Return how a node reaches the Pods of the others."""
    others = (place_of_node(index) for index in range(1, count + 1))
    return [
        f"route add {pods} via {via}"
        for other in others
        if other != own
        for pods, via in zip(other.pods, (other.ip4, other.ip6), strict=True)
    ]
