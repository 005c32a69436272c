"""
How do our metrics get into a registry of prometheus-client?

In: the registry of whoever runs the process, and values as they come.  Out: collectors in that registry, of which every
child that may ever be is bounded: a value of a label that is not known counts as ``Other``. Those with few children
stand there from the start, so that a rate over one that has not happened yet is 0, and not nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from persistip.runtime.metrics import METRICS, OTHER, Counter, Gauge, Histogram, Metric, Process

_AT_THE_START = 16


class PrometheusTelemetry:
    """
    A ``Telemetry`` that keeps the metrics of *process* ("controller" or "agent") in *registry*.

    One registry takes one of each process; a second controller in it is refused by prometheus-client (ValueError).
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, registry: CollectorRegistry, process: str, *, version: str = "") -> None:
        self._registry = registry
        wanted = Process(process)
        self._values = {each.name: _known_values(each) for each in METRICS if each.process in (wanted, Process.BOTH)}
        self._collectors = {each.name: _make(each, registry) for each in METRICS if each.name in self._values}
        about = prometheus_client.Gauge("persistip_build_info", _BUILD_INFO, ("process", "version"), registry=registry)
        about.labels(wanted, version).set(1)

    @classmethod
    def of_this_process(cls, process: str, *, version: str = "") -> PrometheusTelemetry:
        """With a registry of its own, in which the process itself is measured too."""
        # Twice as many time series, for what few read; in a process of ours nobody else minds.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        return cls(registry, process, version=version)

    def count(self, metric: Counter, *labels: str, by: int = 1) -> None:
        """As many more."""
        self._of(metric, labels).inc(by)

    def set(self, metric: Gauge, value: float, *labels: str) -> None:
        """This is how it stands."""
        self._of(metric, labels).set(value)

    def observe(self, metric: Histogram, value: float, *labels: str) -> None:
        """One more value."""
        self._of(metric, labels).observe(value)

    def text(self) -> str:
        """The registry in the text format that Prometheus reads; its type is ``content_type``."""
        return generate_latest(self._registry).decode()

    def _of(self, metric: Metric, labels: Iterable[str]) -> Any:
        collector = self._collectors[metric.name]
        known = zip(labels, self._values[metric.name], strict=True)
        values = [value if value in allowed else OTHER for value, allowed in known]
        return collector.labels(*values) if values else collector


_BUILD_INFO = "Always 1; which process of which version this is."


def _known_values(metric: Metric) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(label.values) for label in metric.labels)


def _make(metric: Metric, registry: CollectorRegistry) -> Any:
    names = [label.name for label in metric.labels]
    kinds: dict[type[Metric], Callable[..., Any]] = {
        Counter: prometheus_client.Counter,
        Gauge: prometheus_client.Gauge,
    }
    if isinstance(metric, Histogram):
        collector = prometheus_client.Histogram(
            metric.name, metric.means, names, registry=registry, buckets=metric.buckets
        )
    else:
        collector = kinds[type(metric)](metric.name, metric.means, names, registry=registry)
    children = [[str(value) for value in values] for values in product(*(label.values for label in metric.labels))]
    # A gauge that nobody has set has no value, and 0 is one.
    if names and len(children) <= _AT_THE_START and not isinstance(metric, Gauge):
        for child in children:
            collector.labels(*child)
    return collector
