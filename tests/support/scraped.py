"""What a scrape of /metrics said, as a test reads it."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families


class Scraped:
    """The samples of one scrape, and the metadata around them."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the sample of exactly these labels; 0 for one that is not there."""
        return self._samples.get((name, frozenset(labels.items())), 0.0)

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is such a sample at all."""
        return (name, frozenset(labels.items())) in self._samples

    def by(self, name: str, label: str) -> Mapping[str, float]:
        """Return what is not 0, by the values of one label, summed over the others."""
        found: dict[str, float] = {}
        for (sample, labels), value in self._samples.items():
            if sample == name and value:
                key = dict(labels)[label]
                found[key] = found.get(key, 0.0) + value
        return found
