"""What was counted as Prometheus reads it: its text format, or OpenMetrics where a scraper asks for it."""

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from millrace.telemetry.families import FAMILIES, Family, Kind
from millrace.telemetry.numbers import Numbers

_PROCESS = [ProcessCollector(registry=None), PlatformCollector(registry=None)]  # CPU, memory, open files; Python


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def written(numbers: Numbers, accept: str) -> tuple[bytes, str]:
    """Return the text and its media type, for a scraper that accepts some. Takes milliseconds: call it on a thread."""
    try:
        encode, media_type = choose_encoder(accept)
    except TypeError:  # it compares a version that is no number with numbers
        encode, media_type = choose_encoder("")
    of_process = chain.from_iterable(collector.collect() for collector in _PROCESS)
    return encode(_Collected([*_metrics(numbers), *of_process])), media_type


def _metrics(numbers: Numbers) -> Iterator[Metric]:
    """Yield every metric that there is, also without a value, so that a query of it finds nothing and does not fail."""
    for family in FAMILIES:
        if family.kind is Kind.HISTOGRAM:
            yield _histogram(family, numbers)
            continue
        kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
        metric = kind(family.name, family.meaning, labels=family.labels)
        series = numbers.counts.get(family) or ({} if family.labels else {(): 0})
        for labels, amount in series.items():
            metric.add_metric(labels, amount / family.scale)
        yield metric


def _histogram(family: Family, numbers: Numbers) -> Metric:
    metric = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
    names = [*map(floatToGoString, family.bounds), "+Inf"]
    for labels, histogram in numbers.histograms.get(family, {}).items():
        metric.add_metric(labels, [*zip(names, accumulate(histogram.counts), strict=True)], histogram.sum)
    return metric
