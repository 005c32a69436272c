"""The bridge CNI of the lab: a node's bridge keeps its hardware address, as the bridge plugin sees to."""

import pytest

from persistip.lab.fabric import BRIDGE, Fabric

pytestmark = pytest.mark.requires("kernel")


def hardware_address(fabric: Fabric, node: str) -> str:
    def look(netlink: object) -> str:
        (index,) = netlink.link_lookup(ifname=BRIDGE)  # type: ignore[attr-defined]
        (link,) = netlink.get_links(index)  # type: ignore[attr-defined]
        return str(link.get("address"))

    return fabric.netlink(node, look)


def test_bridge_keeps_its_hardware_address_whatever_pods_come_and_go() -> None:
    """By itself a bridge takes the lowest of its ports' addresses, and Pods would send to one that is gone."""
    with Fabric({"node-b": "bridge"}) as fabric:
        before = hardware_address(fabric, "node-b")
        seen = []
        for number in range(6):
            fabric.add_pod("node-b", f"pod-{number}")
            seen.append(hardware_address(fabric, "node-b"))
        for number in range(6):
            fabric.delete_pod(f"pod-{number}")
            seen.append(hardware_address(fabric, "node-b"))
        assert set(seen) == {before}
