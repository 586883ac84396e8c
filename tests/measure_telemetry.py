"""What watching costs: `python -m tests.measure_telemetry`. Counting a request, queueing its trace, and a scrape.

Takes some 10 s of one core. All numbers are CPU time on this machine; a busy one shows more.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace
from rich.console import Console
from rich.progress import track
from rich.table import Table

from millrace.telemetry.figures import Figures
from millrace.telemetry.metrics import Metrics
from millrace.telemetry.numbers import Numbers
from millrace.telemetry.spans import spans_of
from millrace.telemetry.text import written
from millrace.types import CacheOutcome, Entry, Outcome, Source, Tier, new_trace
from tests.telemetry.test_figures import call, entry

ROUNDS, TIMES = 60, 500
KINDS: dict[str, Entry] = {
    "a cache hit": entry(source=Source.CACHE, cache=CacheOutcome.EXACT),
    "one call": entry(call()),
    "escalated": entry(call(outcome=Outcome.REVISED), call(Tier.LARGE), source=Source.LARGE, check="unsure"),
}


def least_us(work: Callable[[], object]) -> float:
    """Return the microseconds of CPU time of one of many, in the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(TIMES):
            work()
        best = min(best, (time.process_time() - began) / TIMES)
    return best * 1e6


def scrape_ms(tenants: int) -> tuple[float, int]:
    """Return the milliseconds of CPU time of a scrape after requests of so many tenants, and the size of its text."""
    figures = Figures()
    for number in range(tenants):
        for made in KINDS.values():
            for source in range(10):
                figures.settled(replace(made, tenant=f"tenant-{number}", code=None, dialect=f"dialect-{source}"))
    metrics = Metrics(figures=figures)
    began = time.process_time()
    numbers = Numbers()
    asyncio.run(metrics.gathered(numbers, None, 0.0))
    text, _ = written(numbers, "")
    return (time.process_time() - began) * 1000, len(text)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.measure_telemetry", description=__doc__)
    parser.add_argument("--tenants", type=int, default=100, metavar="N", help="of the scrape (default: 100)")
    asked = parser.parse_args()
    console, figures = Console(highlight=False), Figures()
    table = Table("of a request", "counted, µs", "its spans, on another thread, µs")
    for name, made in track(KINDS.items(), description="measuring", console=console, transient=True):
        traced = replace(made, trace=new_trace())
        counted = least_us(lambda made=made: figures.settled(made))  # type: ignore[misc]
        spans = least_us(lambda traced=traced: spans_of(traced, {}))  # type: ignore[misc]
        table.add_row(name, f"{counted:.1f}", f"{spans:.1f}")
    console.print(table)
    took_ms, size = scrape_ms(asked.tenants)
    console.print(
        f"A scrape after requests of {asked.tenants} tenants: {took_ms:.1f} ms, {size / 1024:.0f} KiB of text."
    )


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
