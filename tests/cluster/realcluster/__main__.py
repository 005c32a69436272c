"""
How does a person get such a cluster to play with?

Starts one, says how to use it, and keeps it until SIGINT, SIGTERM or, on a terminal, the end of the shell it opens.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from realcluster.cluster import Cluster, Options
from realcluster.requirements import why_missing

GUIDE = """\
The cluster is up. In a shell with
    export PATH={folder}:$PATH KUBECONFIG={kubeconfig}
there are
    kubectl ...       as its administrator
    client CMD ...    a command at the outside client; likewise router, switch, control
    {nodes} CMD ...   a command on a node
Logs are in {logs}
"""


def write_commands(cluster: Cluster) -> Path:
    """Write a command for each machine, and kubectl, into a folder; return it."""
    folder = cluster.folder / "commands"
    folder.mkdir()
    machines = {machine.name: machine.command() for machine in (*cluster.segment.machines, *cluster.nodes.values())}
    machines["kubectl"] = cluster.api.machine.command(str(cluster.programs / "kubectl"))
    for name, command in machines.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        path.chmod(0o755)
    return folder


def main() -> int:
    """Start a cluster and keep it."""
    parser = argparse.ArgumentParser(prog="nox -s cluster -- --shell", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--plugin", choices=("ptp", "bridge"), default="ptp")
    parser.add_argument("--proxy", choices=("nftables", "iptables"), default="nftables")
    parser.add_argument(
        "--slow", action="store_true", help="Kubernetes' own timings: a dead node is noticed in a minute"
    )
    given = parser.parse_args()
    if reason := why_missing():
        print(f"no cluster: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options = Options(nodes=given.nodes, plugin=given.plugin, proxy=given.proxy, fast=not given.slow)
    with contextlib.suppress(KeyboardInterrupt), Cluster(options) as cluster:
        folder = write_commands(cluster)
        facts = {"nodes": ", ".join(cluster.nodes), "logs": f"{cluster.folder}/*/*.log"}
        print(GUIDE.format(folder=folder, kubeconfig=cluster.api.admin, **facts), flush=True)
        if sys.stdin.isatty():
            print("Here is a shell with that setting; the cluster ends with it.", flush=True)
            mine = {"KUBECONFIG": str(cluster.api.admin), "PATH": f"{folder}:{os.environ.get('PATH', '')}"}
            return subprocess.run([os.environ.get("SHELL", "sh")], env=os.environ | mine, check=False).returncode
        print("It ends with SIGINT or SIGTERM.", flush=True)
        while True:
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
