"""
Prometheus: what the runtime tells of itself, in a registry of prometheus-client.

Needs the extra ``prometheus``.
"""

from persistip.backends.prometheus.telemetry import PrometheusTelemetry

__all__ = ["PrometheusTelemetry"]
