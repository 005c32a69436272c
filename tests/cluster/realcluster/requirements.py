"""
What must a machine have for a cluster of real nodes?

Out: the first thing that is missing, and what brings it; None: nothing is.
"""

import os
import shutil

from kubernetes_binaries import MissingError, find_machines, find_programs

from realcluster import groups
from realcluster.files import PLUGINS
from realcluster.machine import PATH

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "nsenter": "util-linux",
}
NETWORK_PLUGINS = ("ptp", "bridge", "host-local", "loopback")
KUBERNETES = ("kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler")


def why_missing() -> str | None:
    """Return why no cluster of real nodes can be started here; None: it can."""
    if os.geteuid():
        return "it takes root: nodes have cgroups, devices and mounts of their own"
    for program, package in PACKAGES.items():
        if shutil.which(program, path=PATH) is None:
            return f"no program {program}; it comes with the package {package}"
    if absent := [name for name in NETWORK_PLUGINS if not (PLUGINS / name).exists()]:
        return f"no {', '.join(absent)} in {PLUGINS}; they come with the package containernetworking-plugins"
    try:
        programs = find_programs()
        find_machines()
    except MissingError as missing:
        return str(missing)
    if absent := [name for name in KUBERNETES if not (programs / name).exists()]:
        return f"{programs} has no {', '.join(absent)}"
    return groups.why_missing()
