"""Cancels at random moments, over every wire: the model's socket closes at once, and nothing is left.

    python -m tests.fire.cancels [--cancels 10000] [--seed N] [--at-once 6]

Requests that wait in a lane, have no headers yet, no token yet, speak, think, stall, race, are hedged, escalated or
joined are cancelled by id, by lane, over HTTP and in a chat, or left by RST, by a close and by half a close. For each,
the time from then to the moment in which its model sees its client go is measured. Then no task, socket, reservation
or open row may be left.
"""

import asyncio
import itertools
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import aiohttp
import click
from rich.console import Console
from rich.table import Table

from millrace import app
from millrace.stores.database import FILE
from millrace.wire.limits import RELEASED_S
from tests.accounting.recorder import RecordedCall, RecordingSimulator
from tests.fire.leaving import Cancelled, Leaver
from tests.fire.report import folder, progress, said
from tests.fire.target import Target, target
from tests.fire.watch import BEAT_S, HANG_S

WRITTEN_S = 10.0  # for the ledger's rows to be on the disk


async def run(
    cancels: int, seed: int, at_once: int, data: Path, tick: Callable[[int], object] = lambda _: None
) -> tuple[Target, dict[tuple[str, str], list[float]]]:
    """Cancel so many; return the target, and by kind and way how long each call of a model went on, in seconds."""
    numbers, left = itertools.count(), cancels
    async with target(data, model=RecordingSimulator) as fired, aiohttp.ClientSession(fired.running.url) as http:

        async def work(random: Random) -> list[Cancelled]:
            nonlocal left
            leaver = Leaver(fired, random, numbers, http)
            while left > 0:
                made = await leaver.once()
                left -= made
                tick(made)
            return leaver.cancelled

        each = await asyncio.gather(*(work(Random(f"{seed} {at}")) for at in range(at_once)))
        await fired.end_part()
        asked = {one.question: one for one in itertools.chain(*each)}
        took: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for model in (fired.running.small, fired.running.large):
            assert isinstance(model, RecordingSimulator)
            for call in model.recorded:
                if (one := asked.get(call.question)) is not None:
                    _judge(fired, one, call, took)
        await _check_rows(fired, data)
    return fired, took


def _judge(fired: Target, one: Cancelled, call: RecordedCall, took: dict[tuple[str, str], list[float]]) -> None:
    """Note how long a call went on after nobody wanted it."""
    if call.began_at - one.at > HANG_S + fired.watch.worst_late_s:
        fired.watch.fault(f"a model was called {call.began_at - one.at:.2f} s after the cancel ({one.kind}, {one.way})")
    went_on = call.ended_at - one.at  # to its own end, in some calls: those were not closed in time
    if went_on > (RELEASED_S if call.has_finished else 0):
        took.setdefault((one.kind, one.way), []).append(went_on)


async def _check_rows(fired: Target, data: Path) -> None:
    """Every request has one row at most in the ledger, and none is open once all is written."""

    def rows() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(data / FILE)) as database:
            return database.execute("SELECT tag, status FROM entries WHERE tag != ''").fetchall()

    due = fired.watch.beats + round(WRITTEN_S / BEAT_S)
    found = await asyncio.to_thread(rows)
    while any(status == "open" for _, status in found) and fired.watch.beats < due:
        await asyncio.sleep(BEAT_S)
        found = await asyncio.to_thread(rows)
    if any(status == "open" for _, status in found):
        fired.watch.fault("rows of the ledger are open")
    if not found:
        fired.watch.fault("the ledger has no row")
    tags = Counter(tag for tag, _ in found)
    for tag, count in tags.items():
        if count > JOINED:
            fired.watch.fault(f"question {tag} has {count} rows")


JOINED = 3  # requests that may ask the same


def percentile(times: list[float], share: float) -> float:
    """Return a percentile by nearest rank, in milliseconds."""
    return 1000 * sorted(times)[max(0, round(share * len(times)) - 1)]


def table_of(took: dict[tuple[str, str], list[float]]) -> Table:
    """Return how long calls went on, by where the request was and by the way of its end."""
    table = Table(
        "where or how", "calls", "p50, ms", "p99, ms", "worst, ms", title="until the model's socket was closed"
    )
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for (kind, way), times in sorted(took.items()):
        for name in (f"  {kind}", f" {way}", "all"):
            groups[name] += times
    for name, times in sorted(groups.items()):
        figures = (percentile(times, 0.5), percentile(times, 0.99), percentile(times, 1.0))
        table.add_row(name.strip(), f"{len(times):,}", *(f"{each:.0f}" for each in figures))
    return table


@click.command(help=__doc__)
@click.option("--cancels", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
@click.option("--at-once", default=6, show_default=True, type=click.IntRange(1), help="Clients.")
def main(cancels: int, seed: int, at_once: int) -> None:
    """See above."""
    with (
        folder() as data,
        progress(Console(file=sys.stderr), cancels) as tick,
        asyncio.Runner(loop_factory=app.new_loop) as runner,
    ):
        fired, took = runner.run(run(cancels, seed, at_once, data, tick))
    Console(width=130).print(table_of(took))
    everything = list(itertools.chain(*took.values()))
    if percentile(everything, 0.99) > 1000 * RELEASED_S:
        fired.watch.fault(f"p99 is over {1000 * RELEASED_S:.0f} ms")
    seen = Counter({f"{kind}: {way}": len(times) for (kind, way), times in took.items()})
    raise SystemExit(said(fired, seen, f"{cancels:,} cancels, seed {seed}"))


if __name__ == "__main__":
    main()
