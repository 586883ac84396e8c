"""Every fault of a model, at every place of its answer, in each API, read by both readers: is every answer right?

    python -m tests.fire.upstream --seed 1 --repeat 20

A cell is a place, a kind, an API and a reader. Each run of it is asked in another dialect (the WebSocket, negotiated or
not, chat completions, Responses and Messages) and another way (the model alone, a pool whose other deployment is sound,
cascade, race, hedge). Right means: one terminal, never `completed` with a part of the text or with a text twice, a row
in the ledger with the same status and cost, the provider's own count where it has reported one, and nothing held:
no run, call, socket of a model or reservation. Breakers are real: they open, are probed, and close.
"""

import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace import log
from tests.fire.judge import STRATEGIES, faults_of, faults_of_bill
from tests.fire.models import Fault, Kind
from tests.fire.stage import Stage, rows, stage
from tests.fire.streams import APIS, Position
from tests.fire.talk import DIALECTS, Told, ask, body_of

READERS = ("pushed", "pulled")
IDLE_S = 2.5  # within which nothing is held: the rest of a finished stream may be read for a second
WAYS = [*itertools.product(STRATEGIES, DIALECTS)]


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault of one kind of model, as one reader sees it."""

    position: Position
    kind: Kind
    api: str
    reader: str

    def __str__(self) -> str:
        return f"{self.kind} {self.position}, {self.api}, {self.reader}"


@dataclass(slots=True)
class Found:
    """What became of all runs."""

    runs: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)  # by kind and status
    wrong: dict[Cell, Counter[str]] = field(default_factory=dict)
    longest_held_s: float = 0.0

    def note(self, cell: Cell, faults: Iterable[str]) -> None:
        """Note what is wrong with a run."""
        for fault in faults:
            self.wrong.setdefault(cell, Counter())[fault] += 1


CELLS = [Cell(*each) for each in itertools.product(Position, Kind, APIS, READERS)]


async def strike(cells: Sequence[Cell], repeat: int, seed: int, found: Found, progress: Progress | None = None) -> None:
    """Run each cell so many times. All are of one API and reader, and run one after the other on one server."""
    first = cells[0]
    bills: list[tuple[Cell, Fault, str, Told]] = []
    unknown = 0  # runs whose client could not say what it was told
    with tempfile.TemporaryDirectory() as folder:
        async with stage(first.api, pulls=first.reader == "pulled", folder=Path(folder)) as running:
            for cell in cells:
                chance = random.Random(f"{seed} {cell}")
                ways = chance.sample(WAYS, len(WAYS))
                for number in range(repeat):
                    way, dialect = ways[number % len(ways)]
                    fault = Fault(cell.kind, cell.position, chance.getrandbits(32))
                    try:
                        told = await _run(running, fault, way, dialect)
                        faults = faults_of(cell.api, fault, way, told, [*running.models.asked])
                        bills.append((cell, fault, way, told))
                        found.ends[cell.kind, told.status] += 1
                        found.longest_held_s = max(found.longest_held_s, await running.idle(IDLE_S))
                    except Exception as error:  # noqa: BLE001 - a run that breaks is one that is wrong
                        faults, unknown = [f"{type(error).__name__}: {str(error)[:300]}"], unknown + 1
                    await running.mended()
                    found.runs += 1
                    found.note(cell, (f"{way}, {dialect}: {fault_}" for fault_ in faults))
                    if progress is not None:
                        progress.advance(progress.task_ids[0])
        ledger = rows(Path(folder))
    for cell, fault, way, told in bills:
        found.note(cell, (f"{way}: {each}" for each in faults_of_bill(cell.api, fault, told, ledger.pop(told.id, []))))
    if len(ledger) > unknown:
        found.note(first, [f"{len(ledger)} rows of nobody's requests: {[*ledger.values()][:3]}"])


async def _run(running: Stage, fault: Fault, way: str, dialect: str) -> Told:
    running.models.asked.clear()
    running.models.fault = fault
    options = {"strategy": STRATEGIES[way], "cache": "off", "hedge_ms": 20, "grace_ms": 20}
    body = body_of(dialect, "Tell me of the mill.", options)
    return await ask(running.url, running.http, running.sockets, dialect, body)


async def matrix(
    cells: Sequence[Cell], repeat: int, seed: int, stages: int, progress: Progress | None = None
) -> tuple[Found, int]:
    """Run the cells on servers side by side; return what was found, and how many tasks are left."""
    found, before = Found(), len(asyncio.all_tasks())
    queues = [
        part
        for api, reader in itertools.product(APIS, READERS)
        if (ours := [cell for cell in cells if (cell.api, cell.reader) == (api, reader)])
        for at in range(stages)
        if (part := random.Random(seed).sample(ours, len(ours))[at::stages])
    ]
    await asyncio.gather(*(strike(part, repeat, seed, found, progress) for part in queues))
    return found, len(asyncio.all_tasks()) - before


@click.command(help=__doc__)
@click.option("--seed", default=1, show_default=True)
@click.option("--repeat", default=20, show_default=True, help="Runs of each cell.")
@click.option("--cells", default=0, help="So many of them, drawn by the seed; all without it.")
@click.option("--stages", default=3, show_default=True, help="Servers side by side for each API and reader.")
@click.option("--only", default="", help="Cells whose name contains this.")
def main(seed: int, repeat: int, cells: int, stages: int, only: str) -> None:
    """Run, and print a table."""
    log.configure(level="critical")
    chosen = [cell for cell in CELLS if only in str(cell)]
    if cells:
        chosen = random.Random(seed).sample(chosen, cells)
    console, began = Console(width=160), time.monotonic()
    with Progress(console=Console(stderr=True)) as progress:
        progress.add_task("runs", total=len(chosen) * repeat)
        found, tasks = asyncio.run(matrix(chosen, repeat, seed, stages, progress))
    table = Table("kind", "completed", "failed", "cells wrong", title=f"{len(chosen)} cells x {repeat}, seed {seed}")
    for kind in Kind:
        ends = [str(found.ends[kind, status]) for status in ("completed", "failed")]
        table.add_row(kind, *ends, str(sum(cell.kind is kind for cell in found.wrong)))
    console.print(table)
    for cell, faults in found.wrong.items():
        for fault, times in faults.most_common(5):
            console.print(f"{cell}: {times}x {fault}", markup=False)
    seconds = time.monotonic() - began
    console.print(
        f"{found.runs} runs in {seconds:.0f} s; {len(found.wrong)} cells wrong; the longest that anything was held"
        f" after its end: {found.longest_held_s:.2f} s; tasks left: {tasks}"
    )
    sys.exit(1 if found.wrong or tasks else 0)


if __name__ == "__main__":
    main()
