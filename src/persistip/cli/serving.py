"""
How does a process of ours show how it is?

In: where to answer, and who is asked.  Out: `/metrics` for Prometheus, `/healthz` and `/readyz` for Kubernetes' probes.
Without an address nothing listens, nothing is counted, and the library for it is not loaded; without that library the
probes are answered all the same.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from persistip.errors import ConfigError
from persistip.settings import ServingSettings

if TYPE_CHECKING:
    from persistip.backends.prometheus import PrometheusTelemetry

logger = logging.getLogger("persistip")

METRICS, HEALTH, READINESS = "/metrics", "/healthz", "/readyz"
_MISSING = "metrics need prometheus-client: pip install 'persistip[prometheus]'"


class Worker(Protocol):
    """A controller or an agent."""

    async def run(self) -> None:
        """Work until ``stop``."""
        ...

    async def stop(self) -> None:
        """End."""
        ...

    def why_unhealthy(self) -> str | None:
        """Why it should be started anew."""
        ...

    def why_unready(self) -> str | None:
        """Why it cannot serve now."""
        ...


def open_telemetry(settings: ServingSettings, process: str) -> PrometheusTelemetry | None:
    """What *process* tells its values to; None: nobody asks, or the library is not installed."""
    if not settings.listen:
        return None
    try:
        from persistip.backends.prometheus import PrometheusTelemetry  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("persistip"):
            raise
        logger.warning(_MISSING)
        return None
    return PrometheusTelemetry.of_this_process(process, version=version("persistip"))


async def serve(
    stack: AsyncExitStack, settings: ServingSettings, worker: Worker, telemetry: PrometheusTelemetry | None
) -> None:
    """Answer for *worker* until *stack* ends; raises ConfigError for what cannot be listened at."""
    if bool(settings.tls_certificate) is not bool(settings.tls_key):
        raise ConfigError("--tls-certificate and --tls-key go together")
    if not settings.listen:
        if settings.tls_certificate:
            raise ConfigError("--tls-certificate says how to answer, and --listen does not say where")
        return
    # Loaded only by who listens: it brings TLS.
    from persistip.runtime.endpoint import Answer, Certificate, Endpoint, verdict  # noqa: PLC0415

    def metrics() -> Answer:
        if telemetry is None:
            return Answer(f"{_MISSING}\n", HTTPStatus.NOT_IMPLEMENTED)
        return Answer(telemetry.text(), content_type=telemetry.content_type)

    pages = {
        METRICS: metrics,
        HEALTH: lambda: verdict(worker.why_unhealthy()),
        READINESS: lambda: verdict(worker.why_unready()),
    }
    certificate = Certificate(settings.tls_certificate, settings.tls_key) if settings.tls_key else None
    endpoint = await stack.enter_async_context(Endpoint(settings.listen, pages, certificate=certificate))
    logger.info("answering", extra={"port": endpoint.port, "tls": certificate is not None})
