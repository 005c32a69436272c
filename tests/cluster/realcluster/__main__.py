"""
How does a person get such a cluster to play with, or the table of what an address goes through in it?

Starts a cluster, says how to use it, and keeps it until SIGINT, SIGTERM or, on a terminal, the end of the shell it
opens. With --installed, persistip and its examples are at work in it. With --table, all scenarios are played, or those
whose names are given, and what they cost is printed, beside the same Pods behind a Service; without names there follow
what a hundred moves take, step by step, and what persistip costs while nothing happens.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from realcluster import moves, quiet
from realcluster.cluster import Cluster, Options
from realcluster.requirements import why_missing
from realcluster.results import table
from realcluster.scenarios import SCENARIOS
from realcluster.stage import Stage

MOVES, QUIET_SECONDS = 100, 60.0
LOAD_BEFORE = os.getloadavg()[0]
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


def print_table(stage: Stage, names: Sequence[str]) -> int:
    """Play the scenarios of these names, or all, and print the table of those that went well; return how it ended."""
    results, failed = [], 0
    for each in SCENARIOS:
        if names and each.play.__name__ not in names:
            continue
        try:
            results.append(stage.play(each))
            print("; ".join(results[-1].cells()), file=sys.stderr, flush=True)
        except AssertionError as error:
            failed += 1
            print(f"{each.name}: {error}", file=sys.stderr, flush=True)
    print(table(results))
    print("".join(f"\n- {note}" for note in stage.notes))
    if not names or "moves" in names:
        print(f"\n{moves.measure(stage, MOVES)}")
    if not names or "quiet" in names:
        print(f"\n{quiet.measure(stage, QUIET_SECONDS)}")
    print(
        f"\nThe machine's load before: {LOAD_BEFORE:.1f}, after: {os.getloadavg()[0]:.1f}; {os.cpu_count()} processors"
    )
    return 1 if failed else 0


def main() -> int:
    """Start a cluster and keep it."""
    parser = argparse.ArgumentParser(prog="nox -s cluster -- --shell", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--plugin", choices=("ptp", "bridge"), default="ptp")
    parser.add_argument("--proxy", choices=("nftables", "iptables"), default="nftables")
    parser.add_argument("--installed", action="store_true", help="with persistip and its examples at work")
    parser.add_argument("--table", action="store_true", help="play the scenarios and print what they cost")
    parser.add_argument("--long", action="store_true", help="the scenarios that last do so for up to a minute")
    parser.add_argument("scenarios", nargs="*", help="which of them, or `moves`, or `quiet`; default: all")
    parser.add_argument(
        "--slow", action="store_true", help="Kubernetes' own timings: a dead node is noticed in a minute"
    )
    given = parser.parse_args()
    if reason := why_missing():
        print(f"no cluster: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options = Options(nodes=given.nodes, plugin=given.plugin, proxy=given.proxy, fast=not given.slow)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(options))
        if given.table or given.installed:
            stage = stack.enter_context(Stage(cluster, is_long=given.long, with_services=given.table))
            if given.table:
                return print_table(stage, given.scenarios)
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
