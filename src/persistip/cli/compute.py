"""
`persistip lab compute`: Compute Engine on this machine, to try things against.

In: flags and a description of a project.  Out: an endpoint on loopback, until Ctrl-C.  Exit status 2 for a description
or a port that cannot be used, 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from persistip.lab.compute import ComputeOptions, LatencyName, introduce, serve

app = App(name="compute", help="Start an emulated Compute Engine on loopback.", suppress_keyboard_interrupt=False)


@app.default
def compute(
    *,
    file: Annotated[Path | None, Parameter(name=("--file", "-f"))] = None,
    port: int = 0,
    seed: int = 0,
    latency: LatencyName = "none",
    done_at_once: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """
    Start an emulated Compute Engine, say how to reach it, and answer until Ctrl-C.

    It knows what persistip uses of the API, refuses what the service is documented to refuse, and says 501 to all else.

    Parameters
    ----------
    file
        YAML that describes the project; default three instances in three zones, two reserved addresses, and a prefix.
    port
        The port on 127.0.0.1; default any that is free.
    seed
        Which addresses are given, and in which order operations end.
    latency
        How long operations take. Google publishes no figures: assumed is a guess, slow five times that.
    done_at_once
        Answer mutations as done. The real service does not promise that.
    as_json
        Print endpoint, project and region as one line of JSON, and nothing else.
    """
    options = ComputeOptions(file=file, port=port, seed=seed, latency=latency, done_at_once=done_at_once)
    with serve(options) as server:
        state = server.engine.state
        told = {"endpoint": server.endpoint, "project": state.project, "region": state.region}
        print(json.dumps(told) if as_json else introduce(server), flush=True)
        # A signal that nothing handles ends the process, and Ctrl-C raises.
        while True:
            signal.pause()
