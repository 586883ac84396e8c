"""Every fault of a model, at every place of its answer, in each API, read by both readers.

    python -m tests.fire.upstream --seed 1 --repeat 20

A cell is a place, a kind, an API and a reader; 72 more are faults of the line to the model, at any byte. Each run of it
is asked in another dialect (the WebSocket, negotiated or not, chat completions, Responses and Messages) and another way
(the model alone, a pool whose other deployment is sound, cascade, race, hedge). Right means: one terminal, never
`completed` with a part of the text or with a text twice, a row in the ledger with the same status and cost, the
provider's own count where it has reported one, and nothing held: no run, call, socket of a model or reservation.
Breakers are real: they open, are probed, and close.
"""

import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace import log
from millrace.web.server import new_loop
from tests.fire.judge import ALONE, STRATEGIES, faults_of, faults_of_bill
from tests.fire.models import FAULTY, Fault, Kind, Line, strike as strike_line
from tests.fire.pulse import TRIES, Pulse, beating
from tests.fire.stage import Stage, rows, stage
from tests.fire.streams import APIS, PLACES, Position
from tests.fire.talk import DIALECTS, Told, ask, body_of

READERS = ("pushed", "pulled")
IDLE_S = 2.5  # within which nothing is held: the rest of a finished stream may be read for a second
STILL_S = 0.5  # for which the process may stand still: less than models may be silent
WAYS = [*itertools.product(STRATEGIES, DIALECTS)]


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault of one kind of model, as one reader sees it."""

    position: Position
    kind: Kind | Line
    api: str
    reader: str

    def __str__(self) -> str:
        return f"{self.kind} {self.position}, {self.api}, {self.reader}"


@dataclass(slots=True)
class Found:
    """What became of all runs."""

    runs: int = 0
    again: int = 0  # of them, as the process had stood still, or it was the turn of the one that is sound
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)  # by kind and status
    wrong: dict[Cell, Counter[str]] = field(default_factory=dict)
    longest_held_s: float = 0.0

    def note(self, cell: Cell, faults: Iterable[str]) -> None:
        """Note what is wrong with a run."""
        for fault in faults:
            self.wrong.setdefault(cell, Counter())[fault] += 1


CELLS = [
    *(Cell(*each) for each in itertools.product(PLACES, Kind, APIS, READERS)),
    *(Cell(Position.LINE, *each) for each in itertools.product(Line, APIS, READERS)),
]


async def strike(
    cells: Sequence[Cell],
    repeat: int,
    seed: int,
    found: Found,
    pulse: Pulse,
    starting: asyncio.Lock,
    on_run: Callable[[], None],
) -> None:
    """Run each cell so many times. All are of one API and reader, and run one after the other on one server.

    Servers start one after the other (`starting`): they are meant to be alone in a process.
    """
    first, time = cells[0], asyncio.get_running_loop().time
    bills: list[tuple[Cell, Fault, str, Told]] = []
    unknown = 0  # runs whose client could not say what it was told
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            async with starting:
                starts = stage(first.api, pulls=first.reader == "pulled", folder=Path(folder))
                running = await stack.enter_async_context(starts)
            for cell in cells:
                chance = random.Random(f"{seed} {cell}")
                ways = chance.sample(WAYS, len(WAYS))
                for number in range(repeat):
                    way, dialect = ways[number % len(ways)]
                    faults: list[str] = []
                    for _ in range(TRIES):
                        began, fault = time(), Fault(cell.kind, cell.position, chance.getrandbits(32))
                        told, faults = await _run(running, cell, fault, way, dialect, found)
                        if told is None:
                            unknown += 1
                        else:
                            bills.append((cell, fault, way, told))
                        has_struck = fault.position is Position.LINE or FAULTY in running.models.asked
                        if not faults or (has_struck and pulse.stopped_at < began):
                            break
                        found.again += 1
                    found.note(cell, (f"{way}, {dialect}: {each}" for each in faults))
                    on_run()
            spent = running.spent
        ledger = rows(Path(folder))
    if (charged := sum(row.cost for of_one in ledger.values() for row in of_one)) != spent:
        found.note(first, [f"{charged} nanodollars are in the ledger, and {spent} are spent of the limit"])
    for cell, fault, way, told in bills:
        found.note(cell, (f"{way}: {each}" for each in faults_of_bill(cell.api, fault, told, ledger.pop(told.id, []))))
    if len(ledger) > unknown:
        found.note(first, [f"{len(ledger)} rows of nobody's requests: {[*ledger.values()][:3]}"])


async def _run(
    running: Stage, cell: Cell, fault: Fault, way: str, dialect: str, found: Found
) -> tuple[Told | None, list[str]]:
    """Ask once; return what the client was told, and what is wrong with that."""
    running.models.asked.clear()
    running.models.fault = fault
    if fault.position is Position.LINE:
        strike_line(fault, running.line)
    options = {"strategy": STRATEGIES[way], "cache": "off", "hedge_ms": 20, "grace_ms": 20}
    body = body_of(dialect, "Tell me of the mill.", options)
    told = None
    try:
        told = await ask(running.url, dialect, body)
        faults = faults_of(cell.api, fault, way, told, [*running.models.asked])
        found.ends[cell.kind, told.status] += 1
        if fault.position is Position.LINE:
            if way == ALONE and running.line.to_client.is_due:
                faults.append("the fault did not strike")
            running.line.cut()  # a connection that has been through this is none to go on with
        found.longest_held_s = max(found.longest_held_s, await running.idle(IDLE_S))
    except Exception as error:
        faults = [f"{type(error).__name__}: {str(error)[:300]}"]
    faults = [f"{each} ({running.breakers})" for each in faults]
    if fault.position is Position.LINE:
        running.line.cut()
        running.line.calm()
    try:
        await running.mended()
    except AssertionError as error:
        faults.append(str(error))
    found.runs += 1
    return told, faults


async def matrix(
    cells: Sequence[Cell], repeat: int, seed: int, stages: int, on_run: Callable[[], None] = lambda: None
) -> tuple[Found, int]:
    """Run the cells on servers side by side; return what was found, and how many tasks are left."""
    starting = asyncio.Lock()
    found, before = Found(), len(asyncio.all_tasks())
    queues = [
        part
        for api, reader in itertools.product(APIS, READERS)
        if (ours := [cell for cell in cells if (cell.api, cell.reader) == (api, reader)])
        for at in range(stages)
        if (part := random.Random(seed).sample(ours, len(ours))[at::stages])
    ]
    async with beating(STILL_S) as pulse:
        await asyncio.gather(*(strike(part, repeat, seed, found, pulse, starting, on_run) for part in queues))
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
        task = progress.add_task("runs", total=len(chosen) * repeat)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            found, tasks = runner.run(matrix(chosen, repeat, seed, stages, lambda: progress.advance(task)))
    table = Table("kind", "completed", "failed", "cells wrong", title=f"{len(chosen)} cells x {repeat}, seed {seed}")
    for kind in (*Kind, *Line):
        ends = [str(found.ends[kind, status]) for status in ("completed", "failed")]
        table.add_row(kind, *ends, str(sum(cell.kind is kind for cell in found.wrong)))
    console.print(table)
    for cell, faults in found.wrong.items():
        for fault, times in faults.most_common(5):
            console.print(f"{cell}: {times}x {fault}", markup=False)
    console.print(
        f"{found.runs} runs in {time.monotonic() - began:.0f} s, {found.again} of them again;"
        f" {len(found.wrong)} cells wrong; held after an end: {found.longest_held_s:.2f} s at most; tasks left: {tasks}"
    )
    sys.exit(1 if found.wrong or tasks else 0)


if __name__ == "__main__":
    main()
