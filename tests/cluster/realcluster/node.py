"""
What runs on a node, and how does it fail?

In: its place, and the files and programs of the cluster.  Out: a Node: a machine with a disk, cgroups, containerd, a
kubelet and kube-proxy, each of which can be stopped and killed; a shutdown; a power cut.
"""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from programs import until

from realcluster import groups
from realcluster.files import ADDRESSES_GIVEN
from realcluster.machine import Machine, MachineError
from realcluster.plan import Place
from realcluster.segment import Segment

SHUTDOWN_SECONDS = 5.0
CONTAINERD, KUBELET, PROXY = "containerd", "kubelet", "kube-proxy"
LAST_GIVEN = f"{ADDRESSES_GIVEN}/pods/last_reserved_ip"
# In the order in which they start.
DAEMONS = (CONTAINERD, KUBELET, PROXY)
_ACCEPTED = ("-m", "-u", "-i", "-n", "-p", "-C")


class Node(Machine):
    """A node of the cluster."""

    kind = "node"

    def __init__(
        self,
        name: str,
        place: Place,
        *,
        program: Path,
        folder: Path,
        group: str,
        routes: Sequence[str],
        files: Mapping[str, str],
        daemons: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__(name, program, folder)
        self.place = place
        self._group, self._routes, self._files, self._daemons = f"{group}/{name}", routes, files, daemons
        self._groups: tuple[Path, ...] = ()

    def plan(self) -> dict[str, Any]:
        """Return what the first process is told."""
        options = [each for each in groups.hierarchies() if each]
        return {**super().plan(), "groups": [str(each) for each in self._groups], "hierarchies": options}

    # ------------------------------------------------------------ life
    def switch_on(self, segment: Segment) -> None:
        """Boot, plug in, and start containerd; `start_kubelet` does the rest."""
        # Containers that died with the power leave groups that a machine loses when it boots; the kubelet would look
        # into each of them for seconds.
        groups.remove(self._group)
        self._groups = groups.make(self._group)
        self.boot()
        segment.plug(self, self.place, self._routes)
        self.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        for path, content in self._files.items():
            self.run("sh", "-c", f"cat > {path}", stdin=content)
        self.start_daemon(CONTAINERD)

    def cut_power(self) -> None:
        """End everything in it at once; what was on its disk stays."""
        super().cut_power()

    def shut_down(self) -> None:
        """Ask everything to end, as an orderly shutdown does, then switch off."""
        self._order(do="shutdown", seconds=SHUTDOWN_SECONDS)
        self.cut_power()

    def take_away(self) -> None:
        """Switch off and leave nothing behind but the disk."""
        self.cut_power()
        groups.remove(self._group)

    # ------------------------------------------------------------ its programs
    def start_daemon(self, name: str) -> None:
        """Start one of its own programs, unless it runs."""
        if not self.is_running(name):
            self.start(name, self._daemons[name])

    def stop_daemon(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one of its own programs; containers live on without containerd, as they do everywhere."""
        self.signal(name, number)

    def await_containerd(self) -> None:
        """Return when containerd answers."""

        def answers() -> bool:
            if not self.is_running(CONTAINERD):
                raise MachineError(f"containerd ended on {self.name}\n{self.last_words(CONTAINERD)}")
            return subprocess.run(self.command("ctr", "version"), capture_output=True, check=False).returncode == 0

        until(answers, lambda: f"containerd\n{self.last_words(CONTAINERD)}")

    def start_kubelet(self) -> None:
        """Start the kubelet and kube-proxy."""
        self.start_daemon(KUBELET)
        self.start_daemon(PROXY)

    def import_images(self, images: Sequence[Path]) -> None:
        """Give containerd images from files."""
        for image in images:
            self.ctr("images", "import", str(image))

    def ctr(self, *arguments: str) -> str:
        """Ask containerd about Kubernetes' containers."""
        return self.run("ctr", "--namespace", "k8s.io", *arguments)

    # ------------------------------------------------------------ looking inside
    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs *argv* in all of the node's namespaces."""
        return ["nsenter", f"--target={self.pid}", *_ACCEPTED, "--", *argv]

    def kill_container(self, container_id: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a container's first process."""
        self.run("kill", f"-{int(number)}", str(self.first_process(container_id)))

    def first_process(self, container_id: str) -> int:
        """Return the number that a container's first process has on the node."""
        return int(self.run("cat", f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{container_id}/init.pid"))

    def look_into(self, container_id: str, file: str) -> str:
        """Return a file of /proc as a container's first process sees it."""
        return self.run("cat", f"/proc/{self.first_process(container_id)}/{file}")

    def give_next(self, ips: Sequence[str]) -> None:
        """Let the network plugin give these to the next Pod, one of each family: it goes on from the last it gave."""
        for index, ip in enumerate(ips):
            self.run("sh", "-ec", f"printf %s {ip_address(ip) - 1} > {LAST_GIVEN}.{index}")

    def troubles(self) -> str:
        """Return the last words of its programs."""
        return "\n".join(self.last_words(name) for name in DAEMONS)
