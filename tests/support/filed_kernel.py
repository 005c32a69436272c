"""
What is a node's kernel to an agent that is killed and started again?

In: a folder.  Out: a Datapath whose entries and pins stand in a file there, as a kernel's outlive every program that
put them. Agents find it by the entry point that ``install_as_plugin`` writes, as they would that of a third party.
Every IP of the node's Pods is on a link of its own, named by the IP, so that no Pod has to be announced to it.
"""

import pickle
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

from persistip.backends.memory import FabricPod, MemoryDatapath, MemoryFabric
from persistip.model.actions import DatapathAction, Outcome
from persistip.model.address import IPAddress
from persistip.model.entry import Entry, LinkRef, Pin, RouteEntry
from persistip.settings import AgentSettings

FILE = "kernel"


class _Fabric(MemoryFabric):
    def pod_at(self, node: str, ip: IPAddress) -> FabricPod:
        index = int(ip) % 2**16
        address = f"02:00:00:00:{index >> 8:02x}:{index & 255:02x}"
        return FabricPod(str(ip), node, (ip,), LinkRef(f"veth{index}", index), address)

    def has_link(self, node: str, link: LinkRef) -> bool:
        return link.name.startswith("veth")


class FiledDatapath(MemoryDatapath):
    """The Datapath of a node whose kernel stands in *folder*."""

    def __init__(self, folder: Path, node_name: str) -> None:
        fabric = _Fabric()
        node = fabric.add_node(node_name, ip_address("192.0.2.1"))
        super().__init__(fabric, node_name)
        self._kernel, self._file = node, folder / FILE
        node.entries, node.pins = read_kernel(folder)

    async def apply(self, actions: Sequence[DatapathAction]) -> Sequence[Outcome]:
        """Carry out *actions*; nobody who reads the file ever sees half of them."""
        outcomes = await super().apply(actions)
        following = self._file.with_suffix(".next")
        following.write_bytes(pickle.dumps((self._kernel.entries, self._kernel.pins)))
        following.replace(self._file)
        return outcomes


@asynccontextmanager
async def open_datapath(settings: AgentSettings, node_name: str) -> AsyncIterator[FiledDatapath]:
    """Give the node's, in its state directory."""
    yield FiledDatapath(Path(settings.state_directory), node_name)


def read_kernel(folder: Path) -> tuple[set[Entry], set[Pin]]:
    """Return entries and pins as they stand; none before the first."""
    try:
        entries, pins = pickle.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        return set(), set()
    return entries, pins


def routed(folder: Path) -> dict[str, str]:
    """Return to which Pod's IP each address goes."""
    entries, _ = read_kernel(folder)
    routes: Iterable[RouteEntry] = (each for each in entries if isinstance(each, RouteEntry))
    return {str(each.prefix.network_address): str(each.pod_ip) for each in routes}


def install_as_plugin(folder: Path) -> None:
    """Make *folder* one from which ``--datapath=filed`` is found, when it is on the path of Python."""
    about = folder / "persistip_filed-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: persistip-filed\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[persistip.datapaths]\nfiled = filed_kernel:open_datapath\n")
