"""The report of a load test: tables, warnings, JSON."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from millrace_client.commands import dollars
from millrace_client.load.figures import CPU_SHARE, LATENESS_S, LOOP_LAG_S, Course, Figures, Spread

_FEW_WAITED = 0.01  # up to this share of the requests there is no warning
_BUSY = 0.4  # of a core; below it the script is late because of other processes
_json = msgspec.json.Encoder(decimal_format="number")


def as_json(figures: Figures) -> bytes:
    """Return the figures as a JSON document; times in seconds, money in dollars."""
    return msgspec.json.format(_json.encode(figures), indent=2) + b"\n"


def show(figures: Figures, console: Console) -> None:
    """Print the tables, then the warnings."""
    for part in _tables(figures):
        console.print(part)
    for warning in warnings(figures):
        console.print(f"[yellow]warning:[/] {warning}", soft_wrap=True)


def warnings(figures: Figures) -> Iterator[str]:
    """Yield the reasons why the figures are incomplete or worse than the server."""
    course = figures.course
    yield from _bottlenecks(course)
    if figures.course.waited > _FEW_WAITED * max(1, course.offered):
        yield (
            f"{course.waited} of {course.offered} requests found no lane free, and their latency includes the "
            "wait: the server was slower than the rate, or it needs more --connections or --lanes"
        )
    if (cut := figures.cut + course.unsent) and not course.interrupted:
        yield f"{cut} requests did not end in time and were cut; the times above do not include them"
    if figures.unbilled:
        yield f"{figures.unbilled} requests ended without a bill; look up their cost in the ledger"


def _bottlenecks(course: Course) -> Iterator[str]:
    script = "this script was the bottleneck"
    if course.cpu_share > _BUSY:
        advice = "use fewer --connections or a lower --rate, or run several scripts, on another machine than the server"
    else:
        advice = "it used little CPU, so other processes kept it waiting: give it a core of its own"
    if course.loop_lag and course.loop_lag.p99 > LOOP_LAG_S:
        lag = time(course.loop_lag.p99)
        yield f"{script}: its event loop was late by {lag} at p99, and all times above with it; {advice}"
    if course.lateness and course.lateness.p99 > LATENESS_S:
        late = time(course.lateness.p99)
        yield f"{script}: with a lane free it started requests {late} late at p99; {advice}"
    if course.cpu_share > CPU_SHARE:
        yield f"{script}: it was busy {course.cpu_share:.0%} of the time; {advice}"


def _tables(figures: Figures) -> Iterator[RenderableType]:
    yield f"\n[bold]{_title(figures.course)}[/]\n"
    yield _times(figures)
    yield ""
    yield _facts(figures)
    if figures.errors or figures.scripted:
        yield ""
        yield _errors(figures)
    yield ""


def _times(figures: Figures) -> Table:
    table = Table("", box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("p50", "p95", "p99", "max", "of"):
        table.add_column(name, justify="right")
    _add_times(table, "TTFT", figures.ttft)
    _add_routes(table, figures.ttft_by_route)
    if figures.revised:
        _add_times(table, "TTFT of text that stands", figures.ttft_standing)
    _add_times(table, "ITL", figures.itl)
    _add_times(table, "total", figures.total)
    _add_routes(table, figures.total_by_route)
    return table


def _add_routes(table: Table, by_route: dict[str, Spread | None]) -> None:
    if len(by_route) > 1:
        for route, measured in by_route.items():
            _add_times(table, f"  {route}", measured, style="dim")


def _add_times(table: Table, name: str, measured: Spread | None, style: str | None = None) -> None:
    if measured is None:
        table.add_row(name, *("–" for _ in range(4)), "0", style=style)
    else:
        values = (measured.p50, measured.p95, measured.p99, measured.max)
        table.add_row(name, *map(time, values), f"{measured.count:,}", style=style)


def _title(course: Course) -> str:
    pace = "closed loop"
    if course.rate is not None:
        pace = f"open loop, {course.rate:g} requests/s {'Poisson' if course.poisson else 'evenly'}"
    stopped = ", interrupted" if course.interrupted else ""
    lanes = f"{_counted(course.connections, 'connection')} × {_counted(course.lanes, 'lane')}"
    return f"{course.elapsed_s:.1f} s, {pace}, {lanes}, seed {course.seed}{stopped}"


def _facts(figures: Figures) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    course = figures.course
    table.add_row("requests", _requests(figures))
    table.add_row("rate", _rate(figures))
    table.add_row("tokens/s", f"{figures.tokens_per_s:,.0f}, {figures.cached_tokens_per_s:,.0f} of them from the cache")
    table.add_row("answered by", _shares(figures.routes, figures.answered))
    if figures.escalated:
        table.add_row("escalated", f"{figures.escalated:,}; of these {figures.revised:,} had text taken back")
    hits = {name: count for name, count in figures.caches.items() if name != "miss"}
    table.add_row("cache hits", _shares(hits, figures.answered))
    table.add_row("cost", _money(figures))
    lag = f", event loop lag {time(course.loop_lag.p99)} at p99" if course.loop_lag else ""
    late = f", starts late by {time(course.lateness.p99)} at p99" if course.lateness else ""
    table.add_row("this script", f"{course.cpu_share:.0%} of a core{lag}{late}", style="dim")
    return table


def _requests(figures: Figures) -> str:
    parts = [f"{figures.ended:,}: "]
    parts.append(", ".join(f"{count:,} {status}" for status, count in figures.statuses.items()))
    if cut := figures.cut + figures.course.unsent:
        parts.append(f"; {cut:,} cut")
    if lost := figures.course.connections_lost:
        parts.append(f"; {_counted(lost, 'connection')} lost")
    return "".join(parts)


def _rate(figures: Figures) -> str:
    offered = "" if figures.course.rate is None else f"{figures.offered_rps:,.1f}/s offered, "
    return f"{offered}{figures.achieved_rps:,.1f}/s achieved, {figures.course.in_flight_max} in flight at most"


def _money(figures: Figures) -> str:
    each = figures.cost_usd / figures.ended if figures.ended else Decimal(0)
    return f"{dollars(figures.cost_usd)}, saved {dollars(figures.saved_usd)}, {dollars(each)} a request"


def _shares(counts: dict[str, int], total: int) -> str:
    return ", ".join(f"{name} {count / total:.1%}" for name, count in counts.items()) if counts else "none"


def _errors(figures: Figures) -> Table:
    table = Table("ended with", box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("errors", "as scripted"):
        table.add_column(name, justify="right")
    for code in sorted(figures.errors | figures.scripted):
        errors = figures.errors.get(code, 0)
        table.add_row(code, str(errors or "–"), str(figures.scripted.get(code, "–")), style="red" if errors else None)
    return table


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def time(seconds: float) -> str:
    """Format a time in seconds or milliseconds."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"  # noqa: PLR2004
