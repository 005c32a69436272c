"""
How does somebody start an emulated Compute Engine, and point their tools at it?

In: options.  Out: a server on loopback, and the text that says how clients find it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from persistip.errors import ConfigError
from persistip.testing.compute_engine import EXAMPLE, ComputeEngine, ComputeServer, read_description, seed
from persistip.testing.compute_engine.settings import LATENCY_NAMES, LatencyName

__all__ = ["LATENCY_NAMES", "ComputeOptions", "LatencyName", "introduce", "serve"]


@attrs.frozen(kw_only=True)
class ComputeOptions:
    """What was asked for; ``port`` 0 is any that is free, and without ``file`` the project is the example's."""

    file: Path | None = None
    port: int = 0
    seed: int = 0
    latency: LatencyName = "none"
    done_at_once: bool = False


@contextmanager
def serve(options: ComputeOptions) -> Iterator[ComputeServer]:
    """An emulator that answers for as long as the context lasts; raises ConfigError for what cannot be used."""
    description = EXAMPLE if options.file is None else read_description(options.file)
    engine = ComputeEngine(
        project=description.project,
        region=description.region,
        zones=description.zones,
        seed=options.seed,
        latency=options.latency,
        done_at_once=options.done_at_once,
    )
    seed(engine, description)
    try:
        server = ComputeServer(engine, port=options.port)
    except OSError as error:
        raise ConfigError(f"port {options.port} cannot be listened on: {error.strerror}") from error
    with server:
        yield server


def introduce(server: ComputeServer) -> str:
    """How to reach it, for a person; what stands in the block can be pasted into a shell."""
    state = server.engine.state
    instances = ", ".join(sorted(link.name for link, _ in state.all_of("instances")))
    addresses = ", ".join(sorted(f"{link.name} ({body['address']})" for link, body in state.all_of("addresses")))
    return f"""\
Compute Engine, emulated, at {server.endpoint}
project {state.project}, region {state.region}, zones {", ".join(state.zones)}
instances: {instances or "none"}
addresses: {addresses or "none"}

gcloud finds it in a shell with these:

    export CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE={server.endpoint}/compute/v1/
    export CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true
    export CLOUDSDK_CORE_PROJECT={state.project} CLOUDSDK_COMPUTE_REGION={state.region}

A client library: client_options={{"api_endpoint": "{server.endpoint}"}}, with AnonymousCredentials.
Ctrl-C ends it, and what was in it is gone."""
