"""Are the metrics what Prometheus expects, and do dashboard and alert rules speak of those that there are?"""

from prometheus_client import CollectorRegistry
from scraped import Scraped

from persistip.backends.prometheus import PrometheusTelemetry
from persistip.runtime.metrics import METRICS, OTHER, QUEUE_RETRIES, Counter, Histogram, Process


def test_unknown_value_of_a_label_is_counted_as_other() -> None:
    """Whatever is told, the number of time series is bounded."""
    telemetry = PrometheusTelemetry(CollectorRegistry(), "controller")
    for number in range(100):
        telemetry.count(QUEUE_RETRIES, f"kind-{number}")
    assert Scraped(telemetry.text()).value("persistip_queue_retries_total", kind=OTHER) == 100


def test_names_are_conventional() -> None:
    """Counters end with _total, what is timed with _seconds; a sentence says what each means."""
    for metric in METRICS:
        assert metric.name.startswith("persistip_agent_") or metric.process is not Process.AGENT
        assert metric.name.endswith("_total") is isinstance(metric, Counter)
        assert metric.name.endswith("_seconds") is isinstance(metric, Histogram)
        assert metric.means.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)
