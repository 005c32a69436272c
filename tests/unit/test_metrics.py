"""Are the metrics what Prometheus expects, and do dashboard and alert rules speak of those that there are?"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from scraped import Scraped

from persistip.backends.prometheus import PrometheusTelemetry
from persistip.runtime.metrics import METRICS, OTHER, QUEUE_RETRIES, Counter, Gauge, Histogram, Process


def test_unknown_value_of_a_label_is_counted_as_other() -> None:
    """Whatever is told, the number of time series is bounded."""
    telemetry = PrometheusTelemetry(CollectorRegistry(), "controller")
    for number in range(100):
        telemetry.count(QUEUE_RETRIES, f"kind-{number}")
    assert Scraped(telemetry.text()).value("persistip_queue_retries_total", kind=OTHER) == 100


def test_names_are_conventional() -> None:
    """Counters end with _total, what is timed with _seconds, instants with _timestamp_seconds; a sentence says what."""
    for metric in METRICS:
        assert metric.name.startswith("persistip_agent_") or metric.process is not Process.AGENT
        assert metric.name.endswith("_total") is isinstance(metric, Counter)
        is_instant = metric.name.endswith("_timestamp_seconds")
        assert metric.name.endswith("_seconds") is (isinstance(metric, Histogram) or is_instant)
        assert not is_instant or isinstance(metric, Gauge)
        assert metric.means.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


# ---------------------------------------------------------------- alert rules and dashboard

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
PAGE = MONITORING.parent / "how-to" / "watch-persistip.md"
ALERTS = MONITORING / "alerts.yaml"
DASHBOARD = MONITORING / "dashboard.json"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
SERIES = re.compile(r"\b((?:persistip|process)_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|without) ?\(([^)]*)\)")
OF_EVERY_SERIES = {"instance", "job", "le", "namespace", "pod"}


def expressions() -> Iterator[str]:
    """Yield every expression of the rules and of the dashboard."""
    yield from (rule["expr"] for rule in RULES)
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    yield from (target["expr"] for panel in panels for target in panel.get("targets", ()))


def series() -> dict[str, dict[str, set[str]]]:
    """Return the names that a scrape may hold, each with its labels and their values."""
    # Two of those that prometheus-client tells of a process have no label of ours.
    found: dict[str, dict[str, set[str]]] = {
        "persistip_build_info": {"process": {"controller", "agent"}, "version": set()},
        "process_resident_memory_bytes": {},
        "process_cpu_seconds_total": {},
    }
    for metric in METRICS:
        ends = ("_bucket", "_sum", "_count") if isinstance(metric, Histogram) else ("",)
        found |= {metric.name + end: {label.name: set(label.values) for label in metric.labels} for end in ends}
    return found


def test_rules_and_dashboard_name_series_that_there_are() -> None:
    """Every series has its name from the code, every label that is asked for is one of it, with values it can have."""
    known = series()
    for expression in expressions():
        asked = SERIES.findall(expression)
        assert {name for name, _ in asked} <= known.keys(), expression
        for name, selector in asked:
            for label, _, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
                assert label in OF_EVERY_SERIES or set(value.split("|")) <= known[name].get(label, set()), expression
        labels = {label for name, _ in asked for label in known[name]}
        for group in GROUPED.findall(expression):
            assert {each.strip() for each in group.split(",")} <= labels | OF_EVERY_SERIES, expression


def test_dashboard_shows_every_metric() -> None:
    """What is measured can be seen."""
    shown = {name for expression in expressions() for name, _ in SERIES.findall(expression)}
    assert [metric.name for metric in METRICS if not any(each.startswith(metric.name) for each in shown)] == []


def test_page_tells_of_every_alert() -> None:
    """Each rule has a heading on the page with what to do, in the order of the file, and there is no other."""
    headings = re.findall(r"^### (Persistip\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]


def test_threshold_of_the_slow_moves_is_a_bucket() -> None:
    """A comparison with a bucket that does not exist would never be true."""
    ends = {value for rule in RULES for value in re.findall(r'le="([^"]+)"', rule["expr"])}
    assert ends <= {str(each) for metric in METRICS if isinstance(metric, Histogram) for each in metric.buckets}
    assert ends


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.requires("promtool")
def test_rules_are_such_as_prometheus_takes() -> None:
    """promtool parses every rule and finds nothing to say."""
    done = promtool("check", "rules", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.requires("promtool")
@pytest.mark.parametrize("process", ["controller", "agent"])
def test_scrape_is_such_as_prometheus_likes(process: str) -> None:
    """promtool parses a scrape and has nothing against a name, a unit or a text."""
    done = promtool("check", "metrics", text=PrometheusTelemetry(CollectorRegistry(), process).text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.requires("promtool")
def test_expressions_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    """Every query of the dashboard is one that Prometheus understands."""
    queries = [each.replace("$__rate_interval", "5m") for each in expressions()]
    rules = [{"record": f"x:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
