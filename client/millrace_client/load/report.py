"""The report of a load test: tables, warnings, JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import msgspec
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from millrace_client.commands import dollars
from millrace_client.load.figures import CPU_SHARE, LAG_S, LOOP_LAG_S, Course, Figures, Measured
from millrace_client.load.histogram import Spread

NONE = "–"
COLUMNS = ("p50", "p90", "p95", "p99", "p99.9", "max")
_FEW_WAITED = 0.01  # up to this share of the requests there is no warning
_BUSY = 0.4  # of a core; below it the script is late because of other processes
_json = msgspec.json.Encoder(decimal_format="number")


def as_json(measured: Measured, faults: list[str] | None = None) -> bytes:
    """Return the figures as a JSON document; times in seconds, money in dollars.

    A percentile with too few samples is null. `faults` are the thresholds that were crossed.
    """
    document = _document(measured.millrace) | {"failed_thresholds": faults or []}
    if measured.bare is not None:
        document["compare"] = _document(measured.bare) | {"ratios": measured.ratios}
    return msgspec.json.format(_json.encode(document), indent=2) + b"\n"


def _document(figures: Figures) -> dict[str, Any]:
    return asdict(figures) | {"hit_rate": figures.hit_rate, "error_rate": figures.error_rate}


def show(measured: Measured, console: Console, faults: list[str] | None = None) -> None:
    """Print the tables, then the warnings and the thresholds that were crossed."""
    for part in _tables(measured):
        console.print(part)
    for warning in warnings(measured):
        console.print(f"[yellow]warning:[/] {warning}", soft_wrap=True)
    for fault in faults or ():
        console.print(f"[red]failed:[/] {fault}", soft_wrap=True)


def warnings(measured: Measured) -> Iterator[str]:
    """Yield the reasons why the figures are incomplete or worse than the server."""
    yield from _bottlenecks(measured)
    for figures in sides(measured):
        course = figures.course
        of = "" if measured.bare is None else f" of {figures.name}"
        if course.waited > _FEW_WAITED * max(1, course.offered):
            yield (
                f"{course.waited:,} of {course.offered:,} requests{of} found no lane free, and their latency includes "
                "the wait: the server was slower than the rate, or it needs more --concurrency"
            )
        if (cut := figures.cut + course.unsent) and not course.interrupted:
            yield f"{cut:,} requests{of} did not end in time and were cut; the times above do not include them"
        if course.warmup_errors:
            yield f"{course.warmup_errors:,} requests{of} failed in the warm-up, which is in no figure above"
    if measured.bare is not None and (errors := sum(measured.bare.errors.values())):
        yield f"{errors:,} requests of {measured.bare.name} failed; the ratios are of those that were answered"
    if measured.millrace.unbilled:
        yield f"{measured.millrace.unbilled:,} requests ended without a bill; look up their cost in the ledger"


def sides(measured: Measured) -> list[Figures]:
    """Return the figures of each server."""
    return [measured.millrace, *([measured.bare] if measured.bare else [])]


def _bottlenecks(measured: Measured) -> Iterator[str]:
    course, script = measured.millrace.course, "this script was the bottleneck"
    if course.cpu_share > _BUSY:
        advice = "use fewer --connections or a lower --rate, or run several scripts, on another machine than the server"
    else:
        advice = "it used little CPU, so other processes kept it waiting: give it a core of its own"
    lag = _tail(course.loop_lag)
    if lag > LOOP_LAG_S:
        yield f"{script}: its event loop was late by {time(lag)} at p99, and all times above with it; {advice}"
    late = max(_tail(figures.course.schedule_lag) for figures in sides(measured))
    if late > LAG_S:
        yield f"{script}: with a lane free it started requests {time(late)} late at p99; {advice}"
    if course.cpu_share > CPU_SHARE:
        yield f"{script}: it was busy {course.cpu_share:.0%} of the time; {advice}"


def _tail(spread: Spread | None) -> float:
    """Return the 99th percentile, or with few samples the greatest."""
    if spread is None:
        return 0.0
    return spread.max if spread.p99 is None else spread.p99


def _tables(measured: Measured) -> Iterator[RenderableType]:
    yield f"\n[bold]{title(measured.millrace.course)}[/]\n"
    for figures in sides(measured):
        if measured.bare is not None:
            yield f"[bold]{figures.name}[/]"
        yield _times(figures)
        yield ""
        yield _facts(figures, script(measured) if figures is measured.millrace else None)
        if figures.errors or figures.scripted:
            yield ""
            yield _errors(figures)
        yield ""
    if measured.ratios:
        yield "[bold]Millrace / the bare upstream[/]"
        yield _ratios(measured)
        yield ""


def _times(figures: Figures) -> Table:
    table = Table("", box=box.SIMPLE_HEAD, show_edge=False)
    for name in (*COLUMNS, "of"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, spread, is_detail in rows(figures):
        values = [time(value) for value in percentiles(spread)]
        table.add_row(name, *values, f"{spread.count if spread else 0:,}", style="dim" if is_detail else None)
    return table


def rows(figures: Figures) -> Iterator[tuple[str, Spread | None, bool]]:
    """Yield the times of a table: name, figures, and whether it is a part of the one above it."""
    yield "TTFT", figures.ttft, False
    if len(figures.ttft_by_route) > 1:
        yield from ((f"  {route}", spread, True) for route, spread in figures.ttft_by_route.items())
    if figures.revised:
        yield "  of text that stands", figures.ttft_standing, True
    yield "  since it was sent", figures.ttft_service, True
    yield "ITL", figures.itl, False
    yield "TPOT", figures.tpot, False
    yield "E2E", figures.e2e, False
    if len(figures.e2e_by_route) > 1:
        yield from ((f"  {route}", spread, True) for route, spread in figures.e2e_by_route.items())
    yield "  since it was sent", figures.e2e_service, True


def percentiles(spread: Spread | None) -> tuple[float | None, ...]:
    """Return the values of the columns; None where there are too few samples."""
    if spread is None:
        return (None,) * len(COLUMNS)
    return spread.p50, spread.p90, spread.p95, spread.p99, spread.p999, spread.max


def title(course: Course) -> str:
    """Return what was run."""
    pace = "closed loop"
    if course.rate is not None:
        pace = f"open loop, {course.rate:g} requests/s {'Poisson' if course.poisson else 'evenly'}"
    warmup = f" after {course.warmup_s:g} s of warm-up" if course.warmup_s else ""
    stopped = ", interrupted" if course.interrupted else ""
    lanes = f"up to {course.lanes} at once over {counted(course.connections, 'connection')}"
    return f"{course.elapsed_s - course.warmup_s:.1f} s{warmup}, {pace}, {lanes}, seed {course.seed}{stopped}"


def _facts(figures: Figures, script: str | None) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, text in facts(figures):
        table.add_row(name, text)
    if script is not None:
        table.add_row("this script", script, style="dim")
    return table


def facts(figures: Figures) -> Iterator[tuple[str, str]]:
    """Yield what is not a time, by name."""
    course = figures.course
    yield "requests", _requests(figures)
    yield "rate", _rate(figures)
    if figures.goodput is not None:
        within = f"{figures.goodput:.1%} of the requests, {figures.goodput_rps:,.1f}/s"
        yield "goodput", f"{within} ({figures.slo})"
    cached = f", {figures.cached_tokens_per_s:,.0f} of them from the cache" if figures.caches else ""
    yield "tokens/s", f"{figures.tokens_per_s:,.0f}{cached}"
    if figures.caches:
        yield "answered by", _shares(figures.routes, figures.answered)
        if figures.escalated:
            yield "escalated", f"{figures.escalated:,}; of these {figures.revised:,} had text taken back"
        hits = {name: count for name, count in figures.caches.items() if name not in {"miss", "?"}}
        yield "cache hits", _shares(hits, figures.answered)
    if figures.cost_usd is not None and figures.cost_each_usd is not None:
        saved = f", saved {dollars(figures.saved_usd)}" if figures.caches else ""
        yield "cost", f"{dollars(figures.cost_usd)}{saved}, {dollars(figures.cost_each_usd)} a request"
    if course.warmup:
        cost = f", {dollars(course.warmup_cost_usd)}" if course.warmup_cost_usd else ""
        yield "warm-up", f"{counted(course.warmup, 'request')}{cost}, in none of these figures"


def script(measured: Measured) -> str:
    """Return how the load test itself did; of two servers the schedule lag of the worse one."""
    course = measured.millrace.course
    parts = [f"{course.cpu_share:.0%} of a core"]
    schedule = max((figures.course.schedule_lag for figures in sides(measured)), key=_tail)
    for name, spread in (("event loop lag", course.loop_lag), ("schedule lag", schedule)):
        if spread is not None:
            parts.append(f"{name} {time(spread.p50)} at p50, {time(_tail(spread))} at p99, {time(spread.max)} at most")
    return "; ".join(parts)


def _requests(figures: Figures) -> str:
    parts = [f"{figures.ended:,}: "]
    parts.append(", ".join(f"{count:,} {status}" for status, count in figures.statuses.items()) or "none")
    if cut := figures.cut + figures.course.unsent:
        parts.append(f"; {cut:,} cut")
    if lost := figures.course.connections_lost:
        parts.append(f"; {counted(lost, 'connection')} lost")
    return "".join(parts)


def _rate(figures: Figures) -> str:
    offered = "" if figures.course.rate is None else f"{figures.offered_rps:,.1f}/s offered, "
    return f"{offered}{figures.achieved_rps:,.1f}/s achieved, {figures.course.in_flight_max} in flight at most"


def _shares(counts: dict[str, int], total: int) -> str:
    return ", ".join(f"{name} {count / total:.1%}" for name, count in counts.items()) if counts else "none"


def _errors(figures: Figures) -> Table:
    table = Table("ended with", box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("errors", "as scripted"):
        table.add_column(name, justify="right")
    for code in sorted(figures.errors | figures.scripted):
        errors = figures.errors.get(code, 0)
        table.add_row(code, str(errors or NONE), str(figures.scripted.get(code, NONE)), style="red" if errors else None)
    return table


def _ratios(measured: Measured) -> Table:
    names = ("mean", "p50", "p90", "p95", "p99", "p99.9")
    table = Table("", box=box.SIMPLE_HEAD, show_edge=False)
    for name in names:
        table.add_column(name, justify="right")
    for label, time_ in RATIO_ROWS:
        if (found := measured.ratios.get(time_)) is not None:
            table.add_row(label, *(ratio(found.get(name.replace(".", ""))) for name in names))
    return table


RATIO_ROWS = (
    ("TTFT", "ttft"),
    ("  since it was sent", "ttft_service"),
    ("ITL", "itl"),
    ("TPOT", "tpot"),
    ("E2E", "e2e"),
    ("  since it was sent", "e2e_service"),
)


def ratio(value: float | None) -> str:
    """Format a ratio."""
    return NONE if value is None else f"{value:.2f}×" if value < 10 else f"{value:,.0f}×"  # noqa: PLR2004


def counted(count: int, noun: str) -> str:
    """Format a number with its noun."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def time(seconds: float | None) -> str:
    """Format a time in seconds or milliseconds."""
    if seconds is None:
        return NONE
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"  # noqa: PLR2004
