"""Whether a ledger that cannot be written shows: its disk is full, then another process holds its lock, under load.

    python -m tests.measure_disk [--seconds 60] [--pairs 7] [--rate 30] [--json]

A server in a process of its own writes to a disk of its own: a tmpfs, where it may be mounted (root), else a folder in
which no file may grow while the disk is to be full. In each round the same load runs for so many seconds three times:
undisturbed, with the disk full, and with the database locked. The ratio is that of the 99th percentiles, of a fault to
the undisturbed run of its round, and what is printed is the median over the rounds. At the end every request that was
answered must have one row that has ended. The exit code is 1 where something was lost, or felt.
"""

import asyncio
import itertools
import json
import logging
import resource
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.table import Table

from millrace import log
from millrace.stores.database import FILE
from tests.support.processes import ServerProcess, server_process

DISK_MB = 768
QUESTION = "Tell me about mill {}. [ttft=0.05] [rate=300] [tokens=30]"
PATIENCE_S = 60.0
WARM_UP_S = 3.0
ANSWERED_S = aiohttp.ClientTimeout(total=20)
PHASES = ("undisturbed", "disk full", "locked")
MOST = 1.25  # times as long, at the 99th percentile


@dataclass(slots=True)
class Load:
    """What became of the requests of one run."""

    phase: str
    asked: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    first_s: list[float] = field(default_factory=list)  # until the first word
    whole_s: list[float] = field(default_factory=list)
    waiting: int = 0  # rows that were not on the disk when it ended

    def p99(self, times: list[float]) -> float:
        return statistics.quantiles(times, n=100)[98]


@dataclass(frozen=True, slots=True)
class Measured:
    """All runs, and what the ledger has at the end."""

    loads: list[Load]
    answered: int
    rows: int
    doubled_or_open: int
    is_tmpfs: bool

    def ratios(self, phase: str) -> dict[str, list[float]]:
        """Return the 99th percentiles of a fault by those of the undisturbed run of its round."""
        calm = [load for load in self.loads if load.phase == PHASES[0]]
        hit = [load for load in self.loads if load.phase == phase]
        return {
            "first word": [b.p99(b.first_s) / a.p99(a.first_s) for a, b in zip(calm, hit, strict=True)],
            "whole answer": [b.p99(b.whole_s) / a.p99(a.whole_s) for a, b in zip(calm, hit, strict=True)],
        }

    @property
    def faults(self) -> list[str]:
        """What was felt, or lost."""
        found = [
            f"{phase}: the {what} took {statistics.median(ratios):.2f} times as long; wanted: at most {MOST}"
            for phase in PHASES[1:]
            for what, ratios in self.ratios(phase).items()
            if statistics.median(ratios) > MOST
        ]
        if refused := sum(load.asked - len(load.whole_s) for load in self.loads):
            found.append(f"{refused} requests were not answered")
        if self.rows < self.answered or self.doubled_or_open:
            found.append(
                f"{self.answered} answers have {self.rows} rows, {self.doubled_or_open} of them doubled or open"
            )
        return found


async def measured(*, seconds: float, pairs: int, rate: float) -> Measured:
    """Run all rounds."""
    numbers = itertools.count()
    loads = [Load("warm up")]

    def answered() -> int:
        return sum(len(load.whole_s) for load in loads)

    with _disk() as (folder, is_tmpfs):
        async with server_process(folder, 5.0) as running, aiohttp.ClientSession(running.url) as http:
            threading.Thread(target=_read_all, args=(running,), daemon=True).start()
            await _loaded(http, loads[0], WARM_UP_S, rate, numbers)
            for _ in range(pairs):
                for phase in PHASES:
                    loads.append(load := Load(phase))
                    async with _hindered(phase, running, is_tmpfs=is_tmpfs):
                        await _loaded(http, load, seconds, rate, numbers)
                        load.waiting = answered() - _ended(folder)
                    p99 = (load.p99(times) * 1000 for times in (load.first_s, load.whole_s))
                    waited = f"{load.waiting} rows waited"
                    click.echo(f"{phase}: p99 {next(p99):.0f} ms, whole {next(p99):.0f} ms; {waited}", err=True)
                    await _caught_up(folder, answered())
        with closing(sqlite3.connect(folder / FILE)) as file:
            ((rows, ids, left),) = file.execute(
                "SELECT count(*), count(DISTINCT request_id), sum(status = 'open') FROM entries"
            )
    return Measured(loads[1:], answered(), rows, rows - ids + left, is_tmpfs)


def _read_all(running: ServerProcess) -> None:
    """Read the log of the server, which would wait for its reader else."""
    assert running.process.stderr is not None
    for _ in running.process.stderr:
        pass


@contextmanager
def _disk() -> Iterator[tuple[Path, bool]]:
    with tempfile.TemporaryDirectory() as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", name]
        is_tmpfs = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        try:
            yield Path(name), is_tmpfs
        finally:
            if is_tmpfs:
                subprocess.run(["umount", "--lazy", name], check=False)


@asynccontextmanager
async def _hindered(phase: str, running: ServerProcess, *, is_tmpfs: bool) -> AsyncIterator[None]:
    folder = running.folder
    if phase == "locked":
        with closing(sqlite3.connect(folder / FILE, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
    elif phase == "disk full" and is_tmpfs:
        with closing(sqlite3.connect(folder / FILE, isolation_level=None, timeout=30)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or there would be room in the write-ahead log
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            for size in (2**20, 4096, 1):
                with suppress(OSError):
                    while file.write(b"x" * size) == size:
                        pass
        try:
            yield
        finally:
            filler.unlink()
    elif phase == "disk full":
        smallest = min(file.stat().st_size for file in folder.glob(f"{FILE}*") if not file.name.endswith("shm"))
        limits = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (smallest, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, limits)
    else:
        yield


async def _loaded(http: aiohttp.ClientSession, load: Load, seconds: float, rate: float, numbers: Iterator[int]) -> None:
    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * rate)):
            await asyncio.sleep(begun + number / rate - time.monotonic())
            load.asked += 1
            tasks.create_task(_one(http, load, QUESTION.format(next(numbers))))


async def _one(http: aiohttp.ClientSession, load: Load, question: str) -> None:
    begun, first_s = time.monotonic(), 0.0
    body = {"input": question, "model": "small", "stream": True}
    try:
        async with http.post("/v1/responses", json=body, timeout=ANSWERED_S) as answer:
            async for line in answer.content:
                if not first_s and b"output_text.delta" in line:
                    first_s = time.monotonic() - begun
                is_whole = line.startswith(b"event: response.completed") or b'"type":"response.completed"' in line
                if is_whole:
                    load.first_s.append(first_s)
                    load.whole_s.append(time.monotonic() - begun)
                    return
            why = f"{answer.status}: no end"
    except (aiohttp.ClientError, TimeoutError) as error:
        why = type(error).__name__
    load.refused[why] = load.refused.get(why, 0) + 1


def _ended(folder: Path) -> int:
    with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True, timeout=5)) as file:
        ((count,),) = file.execute("SELECT count(*) FROM entries WHERE status != 'open'")
        return int(count)


async def _caught_up(folder: Path, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while _ended(folder) < count:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True, help="Of each run.")
@click.option("--pairs", default=7, show_default=True, help="Rounds.")
@click.option("--rate", default=30.0, show_default=True, help="Requests a second.")
@click.option("--json", "as_json", is_flag=True)
def main(seconds: float, pairs: int, rate: float, as_json: bool) -> None:
    """Measure, and print a table."""
    log.configure(level="error")
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # a call that is given up is none of its business
    found = asyncio.run(measured(seconds=seconds, pairs=pairs, rate=rate))
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    table = Table(
        "", "asked", "not answered", "rows that waited", "p99 first word", "p99 whole answer", "ratio", "ratio"
    )
    for phase in PHASES:
        loads = [load for load in found.loads if load.phase == phase]
        first = statistics.median(load.p99(load.first_s) for load in loads)
        whole = statistics.median(load.p99(load.whole_s) for load in loads)
        ratios = [f"{statistics.median(each):.3f}" for each in found.ratios(phase).values()]
        table.add_row(
            phase,
            str(sum(load.asked for load in loads)),
            str(sum(load.asked - len(load.whole_s) for load in loads)),
            str(max(load.waiting for load in loads)),
            f"{first * 1000:.0f} ms",
            f"{whole * 1000:.0f} ms",
            *ratios,
        )
    console = Console(width=140)
    console.print(table)
    for load in found.loads:
        if load.refused:
            console.print(f"{load.phase}: {load.refused}", markup=False)
    where = "on a tmpfs" if found.is_tmpfs else "under a limit of file sizes"
    console.print(
        f"{where}: {found.answered} answered, {found.rows} rows, {found.doubled_or_open} doubled or open;"
        f" ratios are medians of {pairs}"
    )
    if found.faults:
        console.print(*found.faults, sep="\n", style="bold red", markup=False)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
