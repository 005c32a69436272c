"""
What does persistip cost while nothing happens?

In: the stage, settled.  Out: a table of processor time, memory and requests, beside what kubelet and kube-proxy use on
the same nodes in the same time.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence

from realcluster.node import KUBELET, PROXY, Node
from realcluster.stage import Stage, container_of

_DISPATCHED = re.compile(
    r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="persistip".*\} (\d+)', re.MULTILINE
)
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
_LIST = 'for each in /proc/[0-9]*; do read name < $each/comm && echo "$name ${each#/proc/}"; done 2>/dev/null; true'


def measure(stage: Stage, seconds: float) -> str:
    """Look for so long, and return the table."""
    stage.settle()
    processes = _processes(stage)
    before, requests, began = _spent(processes), _requests(stage), time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - began
    after = _spent(processes)
    asked = (_requests(stage) - requests) * 60 / lasted
    lines = ["| process | each, of one processor | memory |", "|---|---|---|"]
    for name in processes:
        used = [(late[0] - early[0]) / lasted for early, late in zip(before[name], after[name], strict=True)]
        memory = [late[1] / 2**20 for late in after[name]]
        lines.append(f"| {name} | {max(used):.2%} at most | {max(memory):.0f} MiB at most |")
    lines += ["", f"- requests to the API server of all of ours, with {len(stage.routes)} routes: {asked:.0f} a minute"]
    return "\n".join(lines)


def _processes(stage: Stage) -> Mapping[str, Sequence[tuple[Node, int]]]:
    found: dict[str, list[tuple[Node, int]]] = {}
    for part in ("controller", "agent"):
        found[part] = [
            (node, node.first_process(container_of(pod)))
            for pod in stage.parts(part)
            for node in (stage.cluster.nodes[pod["spec"]["nodeName"]],)
        ]
    for name in (KUBELET, PROXY):
        found[name] = [
            (node, int(line.split()[1]))
            for node in stage.cluster.nodes.values()
            for line in node.run("sh", "-c", _LIST).splitlines()
            if line.startswith(f"{name} ")
        ]
    return found


def _spent(processes: Mapping[str, Sequence[tuple[Node, int]]]) -> Mapping[str, Sequence[tuple[float, int]]]:
    """Return the processor seconds and the bytes in memory of each."""
    found = {}
    for name, each in processes.items():
        found[name] = []
        for node, pid in each:
            words = node.run("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
            found[name].append(((int(words[11]) + int(words[12])) / _TICKS, int(words[21]) * _PAGE))
    return found


def _requests(stage: Stage) -> int:
    _, text = stage.api.request("GET", "/metrics")
    return sum(map(int, _DISPATCHED.findall(text)))
