"""
What is written into the configuration of a node's programs?

In: facts of the node.  Out: the text of each file. Every unusual setting says why it is there.
"""

import base64
import json
from pathlib import Path
from typing import Any, Literal

from realcluster.plan import PODS4, PODS6, Place

Plugin = Literal["ptp", "bridge"]
ProxyMode = Literal["nftables", "iptables"]
PAUSE = "localhost/pause:1"
# Gone with a power cut, like the Pods.
ADDRESSES_GIVEN = "/run/cni-addresses"
PLUGINS = Path("/usr/lib/cni")


def containerd(plugins: Path = PLUGINS) -> str:
    """Return the configuration of containerd; version 2 of the format is read by all of 1.x and 2.x."""
    return f"""\
version = 2
# Slow to find out that they cannot work here.
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# The machine may keep us from lowering them.
restrict_oom_score_adj = true
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def network(plugin: Plugin, place: Place) -> str:
    """
    Return the configuration of the Pods' network.

    ptp: a link for each Pod, packets routed as they are. bridge: all Pods of a node on one link, and what leaves the
    cluster is masqueraded, as most installations do.
    """
    addresses = {
        "type": "host-local",
        "dataDir": ADDRESSES_GIVEN,
        "ranges": [[{"subnet": pods}] for pods in place.pods],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    link: dict[str, Any] = {"type": plugin, "ipMasq": plugin == "bridge", "ipam": addresses}
    if plugin == "bridge":
        link |= {"bridge": "cni0", "isGateway": True, "hairpinMode": True}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [link]}, indent=1)


def kubelet(authority: Path, *, fast: bool) -> str:
    """Return the configuration of a kubelet; *fast*: a dead node is noticed in seconds instead of most of a minute."""
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        # The machine may have version 1 of cgroups.
        "failCgroupV1": False,
        "failSwapOn": False,
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        # A full disk of the machine is not the node's.
        "evictionHard": {
            "memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
    }  # fmt: skip
    if fast:
        settings |= {"nodeStatusUpdateFrequency": "2s", "nodeLeaseDurationSeconds": 8}
    return json.dumps(settings, indent=1)


def proxy(mode: ProxyMode, node: str, kubeconfig: Path) -> str:
    """Return the configuration of kube-proxy."""
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "hostnameOverride": node,
        "clusterCIDR": f"{PODS4},{PODS6}",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        # Connection tracking's sizes and times are the whole machine's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "metricsBindAddress": "127.0.0.1:10249",
        "nodePortAddresses": ["primary"],
    }
    return json.dumps(settings, indent=1)


def kubeconfig(server: str, authority: bytes, certificate: bytes, key: bytes) -> str:
    """Return a kubeconfig of one identity."""

    def inline(data: bytes) -> str:
        return base64.b64encode(data).decode()

    user = {"client-certificate-data": inline(certificate), "client-key-data": inline(key)}
    where = {"server": server, "certificate-authority-data": inline(authority)}
    return json.dumps({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": where}],
        "users": [{"name": "own", "user": user}],
        "contexts": [{"name": "own", "context": {"cluster": "tests", "user": "own"}}],
        "current-context": "own",
    })  # fmt: skip
