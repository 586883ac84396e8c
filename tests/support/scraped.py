"""What `GET /metrics` says, read as Prometheus reads it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

OPEN = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, slots=True)
class Scraped:
    """The samples of one scrape."""

    families: dict[str, Any]  # by name, without the suffixes of samples

    def value(self, name: str, /, **labels: str) -> float:
        """Return the sum of all samples of this name that have these labels."""
        return sum(self.values(name, **labels))

    def values(self, name: str, /, **labels: str) -> Iterable[float]:
        """Yield the values of all samples of this name that have these labels."""
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    yield sample.value

    def by(self, name: str, *labels: str) -> dict[Any, float]:
        """Return the sums of all samples of this name, by the values of some labels."""
        sums: dict[Any, float] = {}
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name:
                    key = tuple(sample.labels[label] for label in labels)
                    key = key[0] if len(key) == 1 else key
                    sums[key] = sums.get(key, 0) + sample.value
        return sums


async def scraped(http: aiohttp.ClientSession, **headers: str) -> Scraped:
    """Scrape a server."""
    async with http.get("/metrics", headers=headers) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        assert answer.headers["Cache-Control"] == "no-store"
        read = read_open if "openmetrics" in answer.headers["Content-Type"] else read_plain
    families = [*read(text)]
    assert len({family.name for family in families}) == len(families)
    return Scraped({family.name: family for family in families})
