"""The progress line of a load test on a terminal."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from millrace_client.commands import dollars
from millrace_client.load.histogram import merged
from millrace_client.load.report import time
from millrace_client.load.run import Run, Side

REDRAW_S = 0.2


@contextmanager
def shown(run: Run, console: Console) -> Iterator[None]:
    """Show how far a run is, if the console is a terminal."""
    columns = (BarColumn(bar_width=20), TextColumn("{task.description}"))
    with Progress(
        *columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        drawing = asyncio.get_running_loop().create_task(_draw(run, bar)) if console.is_terminal else None
        try:
            yield
        finally:
            if drawing is not None:
                drawing.cancel()


async def _draw(run: Run, bar: Progress) -> None:
    plan, ours = run.plan, run.sides[0]
    task = bar.add_task("", total=1.0)
    while True:
        ended = ours.tally.statuses.total()
        completed = max(run.elapsed_s / plan.duration_s, ended / plan.requests if plan.requests else 0.0)
        bar.update(task, completed=min(1.0, completed), description=line(run), refresh=True)
        await asyncio.sleep(REDRAW_S)


def line(run: Run) -> str:
    """Return what is known so far, with the console's markup."""
    elapsed = run.elapsed_s
    if elapsed < run.plan.warmup_s:
        return f"{elapsed:3.0f} s: warming up, {sum(side.in_flight for side in run.sides):,} in flight"
    parts = [_side(side, max(elapsed - run.plan.warmup_s, 1e-9)) for side in run.sides]
    names = ["", *("bare: " for _ in parts[1:])]
    return f"{elapsed:3.0f} s: " + "; ".join(name + part for name, part in zip(names, parts, strict=True))


def _side(side: Side, seconds: float) -> str:
    tally = side.tally
    ended, errors = tally.statuses.total(), tally.errors.total()
    parts = [f"{ended:,} ended ({ended / seconds:,.1f}/s)", f"{side.in_flight:,} in flight"]
    ttft = merged(tally.ttft.values())
    median, tail = ttft.percentile(500), ttft.percentile(990)
    if median is not None:
        parts.append(f"TTFT {time(median)}" + (f", p99 {time(tail)}" if tail is not None else ""))
    parts.append(f"[red]{errors:,} errors[/]" if errors else "no error")
    if tally.is_billed:
        parts.append(dollars(tally.cost))
    return ", ".join(parts)
