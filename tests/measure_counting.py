"""What counting a long prompt does to everybody else: how late the event loop is while texts of 1 MB are counted.

    python -m tests.measure_counting [--size BYTES] [--rounds N] [--kind KIND]

A task sleeps for a millisecond again and again, and notes how late it wakes: first with nothing else to do, then while
prompts are trimmed and counted as a server does it, one after the other. Added is what the second has more than the
first. Run it on a machine that has nothing else to do.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable

import click
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace import tokens
from millrace.funnel.catalog import Catalog
from millrace.funnel.prompt import trimmed
from millrace.types import Message, Request, Strategy
from tests.ground.test_counts import CODE, WORDS, base64_text, cjk_text, prose
from tests.support.scripted_models import LARGE, SMALL, request

NAP_S = 0.001
MEDIAN_MS, WORST_MS = 5.0, 60.0  # that 1 MB may add
IDLE_S = 3.0

ROOMY = Catalog(replace(SMALL, context_window=10**9), replace(LARGE, context_window=10**9), {}, Strategy.AUTO)

KINDS: dict[str, Callable[[random.Random, int], str]] = {
    "prose": prose,
    "code": lambda _, size: CODE * (size // len(CODE)),
    "cjk": lambda chance, size: cjk_text(chance, size // 3),
    "base64": base64_text,
    "one word": lambda _, size: WORDS[0] * (size // len(WORDS[0])),
}


async def lags_during(work: Awaitable[object]) -> list[float]:
    """Return by how many milliseconds each nap was longer than it should be, until the work is done."""
    lags: list[float] = []
    task = asyncio.ensure_future(work)
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(NAP_S)
        lags.append((time.perf_counter() - began - NAP_S) * 1000)
    await task
    return lags


async def measured(kind: str, size: int, rounds: int, progress: Progress) -> tuple[float, list[float]]:
    """Return the seconds that one count takes, and all lags."""
    chance, lags, took = random.Random(1), [], []
    bar = progress.add_task(kind, total=rounds)
    for number in range(rounds):
        text = f"{number} " + KINDS[kind](chance, size)
        asked = request(Message(role="user", parts=(text,)))
        began = time.perf_counter()
        lags += await lags_during(_counted(asked))
        took.append(time.perf_counter() - began)
        progress.advance(bar)
    return statistics.median(took), lags


async def _counted(asked: Request) -> None:
    await trimmed(asked, asked.prompt, None, ROOMY)


async def run(kinds: list[str], size: int, rounds: int) -> None:
    for name in tokens.NAMES:
        tokens.encoding(name)
    idle = await lags_during(asyncio.sleep(IDLE_S))
    table = Table("text", "count takes", "median lag", "added", "worst lag", "added", "holds")
    with Progress(console=Console(stderr=True)) as progress:
        for kind in kinds:
            took, lags = await measured(kind, size, rounds, progress)
            median, worst = statistics.median(lags), max(lags)
            more, most = median - statistics.median(idle), worst - max(idle)
            holds = "yes" if more <= MEDIAN_MS and most <= WORST_MS else "no"
            lag = (f"{median:.2f} ms", f"{more:+.2f}", f"{worst:.1f} ms", f"{most:+.1f}")
            table.add_row(kind, f"{took:.2f} s", *lag, holds)
    console = Console()
    console.print(f"idle: median {statistics.median(idle):.2f} ms, worst {max(idle):.1f} ms")
    console.print(table)


@click.command()
@click.option("--size", default=1_000_000, show_default=True, help="Bytes of a text.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--kind", type=click.Choice([*KINDS, "all"]), default="all", show_default=True)
def main(size: int, rounds: int, kind: str) -> None:
    """Measure how late the event loop is while long texts are counted."""
    asyncio.run(run([*KINDS] if kind == "all" else [kind], size, rounds))


if __name__ == "__main__":
    main()
