"""docs/grafana.json, docs/alerts.yml and docs/metrics.md name metrics and labels that exist, and no others."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from millrace.telemetry.families import FAMILIES, Family, Kind
from millrace.telemetry.numbers import Numbers
from millrace.telemetry.text import written
from tests.support.paths import REPOSITORY

DOCS = REPOSITORY / "docs"
DASHBOARD = json.loads((DOCS / "grafana.json").read_text("utf-8"))
ALERTS = (DOCS / "alerts.yml").read_text("utf-8")
METRICS = (DOCS / "metrics.md").read_text("utf-8")

_NAME = re.compile(r"\b((?:millrace|gen_ai|process|python)_\w+)(?:\{([^}]*)\})?")
_BY = re.compile(r"\bby \(([^)]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
OWN_LABELS = {"instance", "job", "le"}  # that Prometheus and its histograms add
SUFFIXES = {Kind.COUNTER: ("_total",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}
FAMILY = {family.name + suffix: family for family in FAMILIES for suffix in SUFFIXES[family.kind]}
OF_THE_PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes")


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def alerts() -> list[str]:
    folded = re.sub(r"expr: >\n +(.*)\n +(.*)\n", r"expr: \1 \2\n", ALERTS)
    return re.findall(r"^ +expr: (.*)$", folded, re.MULTILINE)


QUERIES, RULES = [*queries()], alerts()


def test_there_are_some() -> None:
    assert len(QUERIES) > 40
    assert len(RULES) == ALERTS.count("- alert: ") == ALERTS.count("summary: ")


@pytest.mark.parametrize("query", [*QUERIES, *RULES])
def test_a_query_names_what_exists(query: str) -> None:
    """The names of metrics with their suffixes, and the labels that each of them has."""
    found = [(name, matchers) for name, matchers in _NAME.findall(query) if name not in _labels_named(query)]
    assert found
    known: set[str] = set()
    for name, matchers in found:
        if name in OF_THE_PROCESS:
            continue
        assert name in FAMILY, name
        known |= {*FAMILY[name].labels}
        assert set(_MATCHER.findall(matchers)) <= {*FAMILY[name].labels, *OWN_LABELS}
    assert _labels_named(query) <= known | OWN_LABELS
    assert query.count("(") == query.count(")")


def _labels_named(query: str) -> set[str]:
    return {label.strip() for labels in _BY.findall(query) for label in labels.split(",")}


@pytest.mark.parametrize(
    "panel", [each for each in panels() if each["type"] != "row"], ids=lambda panel: panel["title"]
)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    """In words and with a unit; its legend names labels that the query keeps."""
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= _labels_named(target["expr"])


def test_panels_lie_beside_each_other() -> None:
    places = [panel["gridPos"] for panel in panels()]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels()}) == len(places)


def test_every_metric_is_shown_or_alerted() -> None:
    """Else nobody would miss it."""
    shown = {FAMILY[name] for query in (*QUERIES, *RULES) for name, _ in _NAME.findall(query) if name in FAMILY}
    assert {family.name for family in FAMILIES} - {family.name for family in shown} == {
        "millrace_answer_tokens",
        "millrace_budget_accounts",
        "millrace_disk_queue_bytes",
        "millrace_draining",
        "millrace_memory_limit_bytes",
        "millrace_tasks",
        "millrace_workers",
    }


def test_the_page_lists_every_metric_and_no_other() -> None:
    """Each with its labels and its meaning."""
    assert [row(family) for family in FAMILIES] == [line for line in METRICS.splitlines() if line.startswith("| `")]


def row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.shown_name}` | {family.kind} | {labels} | {family.meaning} |"


@pytest.mark.parametrize("accept", ["text/plain; version=abc", "application/openmetrics-text;version=x", "/;=;", ""])
def test_whatever_a_scraper_accepts_it_gets_metrics(accept: str) -> None:
    body, media_type = written(Numbers(), accept)
    assert b"millrace_requests" in body
    assert media_type.startswith("text/plain")


def test_every_metric_is_written_also_before_anything_has_happened() -> None:
    text, _ = written(Numbers(), "")
    assert [
        line for family in FAMILIES if (line := f"# TYPE {family.shown_name} {family.kind}") not in text.decode()
    ] == []
