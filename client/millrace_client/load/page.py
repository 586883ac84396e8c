"""The report of a load test as one HTML file: no script, no network, light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from millrace_client.commands import dollars
from millrace_client.load import plots, report
from millrace_client.load.figures import Figures, Measured, Trace
from millrace_client.load.histogram import Histogram
from millrace_client.load.plots import Axis, Line, Point, Tick
from millrace_client.load.report import time
from millrace_client.load.series import Interval

_STYLE = (Path(__file__).parent / "page.css").read_text("utf-8")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_POINTS = 160  # of a spectrum
_INTERVALS = 60  # of a plot over time
_FROM = 0.3  # the y axis of a spectrum has room for what is above this, the median; below, ITL is of merged frames


def as_html(measured: Measured, faults: Sequence[str] = (), *, now: Callable[[], datetime] | None = None) -> str:
    """Return the report as a document. `faults` are the thresholds that were crossed."""
    made = now() if now is not None else datetime.now(UTC)
    title = report.title(measured.millrace.course)
    body = [
        f"<header><h1>Load test</h1><p>{escape(title)}</p><p class=quiet>{made:%Y-%m-%d %H:%M} UTC</p></header>",
        *_messages(measured, faults),
        _tiles(measured),
        *_plots(measured.traces),
        *(_tables(measured)),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>Millrace load test: {escape(title)}</title>",
            f"<style>\n{_STYLE}</style></head>",
            "<body><main>",
            *body,
            "</main></body></html>\n",
        ]
    )


def _messages(measured: Measured, faults: Sequence[str]) -> Iterator[str]:
    found = [("fault", "failed", fault) for fault in faults]
    found += [("warning", "warning", warning) for warning in report.warnings(measured)]
    if found:
        items = (f'<li class="{kind}"><b>{word}</b> {escape(text)}</li>' for kind, word, text in found)
        yield f"<ul class=messages>{''.join(items)}</ul>"


def _tiles(measured: Measured) -> str:
    figures, found = measured.millrace, list[tuple[str, str, str]]()
    for name, spread in (("TTFT", figures.ttft), ("TPOT", figures.tpot), ("E2E", figures.e2e)):
        if spread is not None:
            found.append((name, time(spread.p50), f"p99 {time(spread.p99)}"))
    found.append(("requests", f"{figures.achieved_rps:,.1f}/s", report.counted(figures.ended, "request")))
    if figures.goodput is not None:
        found.append(("goodput", f"{figures.goodput:.1%}", str(figures.slo)))
    errors = sum(figures.errors.values())
    found.append(("errors", f"{errors:,}", f"{figures.error_rate or 0:.2%} of the requests"))
    if figures.hit_rate is not None:
        found.append(("cache hits", f"{figures.hit_rate:.1%}", "exact, semantic, joined"))
    if figures.cost_usd is not None and figures.cost_each_usd is not None:
        found.append(("cost", dollars(figures.cost_usd), f"{dollars(figures.cost_each_usd)} a request"))
    tiles = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in found
    )
    return f"<dl class=tiles>{''.join(tiles)}</dl>"


def _plots(traces: Sequence[Trace]) -> Iterator[str]:
    traces = [replace(trace, series=trace.series.drawn(_INTERVALS)) for trace in traces]
    yield _over_time("TTFT over time, by the intended start", traces, lambda interval: interval.ttft)
    yield _over_time("E2E over time, by the intended start", traces, lambda interval: interval.e2e)
    yield _rates(traces)
    yield _in_flight(traces)
    yield _spectrum("TTFT and E2E by percentile", traces, ("TTFT", "E2E"))
    yield _spectrum("ITL and TPOT by percentile", traces, ("ITL", "TPOT"))


def _over_time(title: str, traces: Sequence[Trace], histogram: Callable[[Interval], Histogram]) -> str:
    lines, values = [], list[float]()
    notes: dict[Point, str] = {}
    for number, trace in enumerate(traces):
        width, intervals = trace.series.width_s, trace.series.intervals
        for style, (name, pick) in enumerate(_STATISTICS, start=1):
            points: list[Point | None] = []
            for at, interval in enumerate(intervals):
                value = pick(histogram(interval))
                points.append(None if value is None else (width * (at + 0.5), value))
                if value is not None:
                    values.append(value)
                    span = (width * at, width * (at + 1))
                    notes.setdefault(span, f"{span[0]:g} to {span[1]:g} s")
                    notes[span] += f"\n{_named(trace, number, name)}: {time(value)}"
            lines.append(Line(_named(trace, number, name), points, _style(style, number)))
    x = _seconds(traces)
    return _figure(title, lines, x, plots.times(values), "seconds since the start", [*notes.items()])


def _median(histogram: Histogram) -> float | None:
    return next((at for at, reached in histogram.steps() if 2 * reached >= histogram.count), None)


_STATISTICS: tuple[tuple[str, Callable[[Histogram], float | None]], ...] = (
    ("median", _median),
    ("longest", lambda histogram: histogram.greatest if histogram.count else None),
)


def _rates(traces: Sequence[Trace]) -> str:
    lines, most = [], 0.0
    for number, trace in enumerate(traces):
        width = trace.series.width_s
        for style, (name, pick) in enumerate(_RATES, start=1):
            found = [pick(interval) / width for interval in trace.series.intervals]
            if name == "errors" and not any(found):
                continue
            most = max(most, *found) if found else most
            points = [(width * (at + 0.5), value) for at, value in enumerate(found)]
            lines.append(Line(_named(trace, number, name), points, _style(style, number)))
    return _figure("Requests per second", lines, _seconds(traces), plots.linear(most, "/s"), "seconds since the start")


_RATES: tuple[tuple[str, Callable[[Interval], int]], ...] = (
    ("due", lambda interval: interval.due),
    ("ended", lambda interval: interval.ended),
    ("errors", lambda interval: interval.errors),
)


def _in_flight(traces: Sequence[Trace]) -> str:
    lines, most = [], 1.0
    for number, trace in enumerate(traces):
        points, running = [(0.0, 0.0)], 0
        for at, interval in enumerate(trace.series.intervals, start=1):
            running += interval.due - interval.ended
            points.append((trace.series.width_s * at, float(running)))
            most = max(most, running)
        lines.append(Line(_named(trace, number, "due and not ended"), points, _style(1, number)))
    return _figure("Requests under way", lines, _seconds(traces), plots.linear(most), "seconds since the start")


def _spectrum(title: str, traces: Sequence[Trace], names: Sequence[str]) -> str:
    lines, values, nines = [], list[float](), 1.0
    for number, trace in enumerate(traces):
        for style, name in enumerate(names, start=1):
            points = spectrum(trace.histograms[name])
            values += [value for x, value in points if x >= _FROM]
            nines = max(nines, points[-1][0]) if points else nines
            lines.append(Line(_named(trace, number, name), points, _style(style, number)))
    ticks = [Tick(-math.log10(1 - share), f"p{share * 100:.6g}") for share in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)]
    x = Axis(0.0, nines, tuple(tick for tick in ticks if tick.at <= nines + 1e-9))
    return _figure(title, lines, x, plots.times(values), "percentile (each further nine has the same room)")


def spectrum(histogram: Histogram) -> list[Point]:
    """Return the times by percentile. The x axis is -log10(1 - share), so that the tail has room."""
    points: list[Point] = []
    steps, time_, reached = histogram.steps(), 0.0, 0
    for number in range(_POINTS + 1 if histogram.count else 0):
        x = math.log10(histogram.count) * number / _POINTS
        rank = min(histogram.count, 1 + math.floor(histogram.count * (1 - 10**-x) + 1e-9))  # that share is below it
        while reached < rank:
            time_, reached = next(steps)
        points.append((x, time_))
    return points


def _figure(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, x_name: str, notes: Sequence[tuple[Point, str]] = ()
) -> str:
    legend = "".join(
        f'<li><svg viewBox="0 0 24 8" aria-hidden="true"><path class="{line.style}" d="M0 4H24"/></svg>'
        f"{escape(line.name)}</li>"
        for line in lines
    )
    plot = plots.draw(title, lines, x, y, x_name, notes)
    plot = f'<div class=scroll tabindex=0 role=group aria-label="{escape(title)}">{plot}</div>'
    return f"<figure><figcaption>{escape(title)}</figcaption><ul class=legend>{legend}</ul>{plot}</figure>"


def _seconds(traces: Sequence[Trace]) -> Axis:
    ends = (trace.series.width_s * max(1, len(trace.series.intervals)) for trace in traces)
    return plots.linear(max(ends), is_exact=True)


def _named(trace: Trace, number: int, name: str) -> str:
    return f"{trace.name}, {name}" if number or trace.is_compared else name


def _style(number: int, side: int) -> str:
    return f"line{number} bare" if side else f"line{number}"


def _tables(measured: Measured) -> Iterator[str]:
    for figures in report.sides(measured):
        name = "Figures" if measured.bare is None else f"Figures of {figures.name}"
        tables = _times(figures) + _facts(measured, figures) + _errors(figures)
        yield f"<section><h2>{escape(name)}</h2>{tables}</section>"
    if measured.ratios:
        yield f"<section><h2>Millrace / the bare upstream</h2>{_ratios(measured)}</section>"


def _times(figures: Figures) -> str:
    rows = []
    for name, spread, is_detail in report.rows(figures):
        cells = [time(value) for value in report.percentiles(spread)]
        count = f"{spread.count if spread else 0:,}"
        rows.append(_row(name.strip(), [*cells, count], "detail" if is_detail else ""))
    return _table(["", *report.COLUMNS, "of"], rows)


def _facts(measured: Measured, figures: Figures) -> str:
    found = [*report.facts(figures)]
    if figures is measured.millrace:
        found.append(("this script", report.script(measured)))
    pairs = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in found)
    return f"<dl class=facts>{''.join(pairs)}</dl>"


def _errors(figures: Figures) -> str:
    rows = [
        _row(code, [str(figures.errors.get(code, report.NONE)), str(figures.scripted.get(code, report.NONE))])
        for code in sorted(figures.errors | figures.scripted)
    ]
    return _table(["ended with", "errors", "as scripted"], rows) if rows else ""


def _ratios(measured: Measured) -> str:
    names = ("mean", "p50", "p90", "p95", "p99", "p999")
    rows = [
        _row(label.strip(), [report.ratio(measured.ratios[key].get(name)) for name in names], _detail(label))
        for label, key in report.RATIO_ROWS
        if key in measured.ratios
    ]
    return _table(["", "mean", "p50", "p90", "p95", "p99", "p99.9"], rows)


def _detail(label: str) -> str:
    return "detail" if label.startswith(" ") else ""


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th scope=col>{escape(name)}</th>" if name else "<td></td>" for name in head)
    table = f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class=scroll tabindex=0 role=group aria-label="table">{table}</div>'


def _row(name: str, cells: Sequence[str], style: str = "") -> str:
    values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="{style}"><th scope=row>{escape(name)}</th>{values}</tr>'
