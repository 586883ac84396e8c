"""Two replicas with many made entries in one scope: the start from their disks, lookups, memory, and what is told.

    python -m tests.measure_shared_semantic                   # a million: some fifteen minutes on two idle cores
    python -m tests.measure_shared_semantic --entries 50000
    python -m tests.measure_shared_semantic --data FOLDER     # what is made there is kept, and gone on with

The rows and the indexes of one data_dir are made first, by all cores, and copied for the second replica. Each replica
is a process of its own, with a real Redis between them, and with the memory and disk that docs/scale.md asks for.
Vectors are made, in random directions, which is the worst case for an index (--finder: of the questions themselves, as
in production); nothing is embedded while lookups are timed. A third replica then begins with nothing. Lookups are timed
by the clock, and by processor time, which other load changes less.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace.assembly.background import running
from millrace.caches import table
from millrace.caches.deletions import Deletions
from millrace.caches.finder import Finder
from millrace.caches.partition import Stored
from millrace.caches.segment import TOGETHER, Segment, Vector, most_lost, room_for
from millrace.caches.semantic import SqliteSemanticCache
from millrace.caches.snapshots import FOLDER, Snapshots
from millrace.stores.database import SqliteDatabase
from millrace.stores.redis import entries as shared_entries
from millrace.stores.redis.entries import SharedSemantic
from millrace.stores.redis.link import linked
from millrace.stores.redis.stream import START
from millrace.types import SemanticHit, entry_id
from tests.bench.processes import rss
from tests.support.semantic_cache import SCOPE, answer
from tests.support.shared_servers import redis_server

TENANT, TTL_S = "tenant", 30 * 86_400.0
BATCH = 2048  # rows that are written, or looked for, at once
APART_S = 0.01  # between two entries
MEMORY, DISK = 4096, 8192  # bytes for an entry that a cache may use: half of what the settings say
LEAST = 1 << 27  # of both
NOISE = 0.1  # of a rewording, beside a vector of unit length
LETTERS = "bcdfghklmnprtvw"
START_S, LOOKUP_MS, ENTRY_BYTES, TOLD_S = 30.0, 5.0, 2500.0, 1.0  # what is promised
PROGRESS = "made.json"


class Made:
    """Vectors made of the number in a question, or by the finder; those that are asked for once more are kept."""

    name, dimensions, quick, threshold = "made", Finder.dimensions, True, 0.5

    def __init__(self, seed: int, *, by_finder: bool) -> None:
        self._seed = seed
        self._finder = Finder() if by_finder else None
        self.kept: dict[str, Vector] = {}

    def vectors(self, first: int, count: int) -> Vector:
        """Return unit vectors of so many questions from one on."""
        if self._finder is not None:
            return np.stack([self._finder.embed(question(number)) for number in range(first, first + count)])
        made = [
            np.random.default_rng((self._seed, number)).standard_normal(self.dimensions, np.float32)
            for number in range(first, first + count)
        ]
        rows: Vector = np.stack(made)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def embed(self, text: str) -> Vector:
        """Return the vector of a question, or of a rewording: one that is near."""
        if (kept := self.kept.get(text)) is not None:
            return kept
        number = number_of(text)
        vector: Vector = self.vectors(number, 1)[0] if self._finder is None else self._finder.embed(text)
        if self._finder is None and text != question(number):
            noise = np.random.default_rng((self._seed, number, 1)).standard_normal(self.dimensions)
            vector = vector + NOISE * (noise / np.linalg.norm(noise)).astype(np.float32)
            vector /= np.linalg.norm(vector)
        self.kept[text] = vector
        return vector


def question(number: int) -> str:
    """Return a question that has a word of its own."""
    word = ""
    for _ in range(7):
        number, letter = divmod(number, len(LETTERS))
        word += LETTERS[letter]
    return f"How do I paint a {word}aro?"


def reworded(number: int) -> str:
    """Return the same in other words."""
    return question(number).replace("How do I", "how can I").rstrip("?")


def number_of(text: str) -> int:
    """Return the number of a question."""
    number = 0
    for letter in reversed(text.rstrip("?").rpartition(" ")[2].removesuffix("aro")):
        number = number * len(LETTERS) + LETTERS.index(letter)
    return number


def entry(number: int, stored_at: float) -> Stored:
    """Return the entry of a question."""
    asked = question(number)
    return Stored(entry_id(SCOPE, asked), asked, msgspec.json.encode(answer(str(number)).stored(stored_at)), stored_at)


def opened(folder: Path, embedder: Made, count: int) -> tuple[SqliteDatabase, SqliteSemanticCache]:
    """Open the cache of a data_dir."""
    database = SqliteDatabase(str(folder))
    cache = SqliteSemanticCache(
        database,
        embedder,
        ttl_s=TTL_S,
        wall=time.time,
        folder=folder / FOLDER,
        memory_bytes=max(LEAST, MEMORY * count),
        disk_bytes=max(LEAST, DISK * count),
        deadline_s=30.0,
        is_shared=True,
    )
    return database, cache


async def make(folder: Path, count: int, seed: int, by_finder: bool, progress: Progress) -> dict[str, float]:
    """Write rows and indexes that are not there yet; return the bytes of the texts, and what that has cost."""
    told = folder / PROGRESS
    made = {"seed": seed, "entries": count, "by_finder": by_finder, "done": 0, "texts": 0, "cpu_s": 0.0}
    made["began"] = time.time() - APART_S * count
    if told.exists():
        made = json.loads(told.read_text())
        if (made["seed"], made["entries"], made.get("by_finder", False)) != (seed, count, by_finder):
            raise SystemExit(f"{folder} has other entries ({told.read_text()}); name another folder")
    embedder = Made(seed, by_finder=by_finder)
    database, cache = opened(folder, embedder, count)
    await database.ready()
    await database.commit(_told_all, within_s=60.0)
    snapshots = Snapshots(
        folder / FOLDER, table.kept_by(Made.name), Made.dimensions, max_bytes=DISK * max(count, LEAST), ttl_s=TTL_S
    )
    task = progress.add_task("entries and indexes", total=count, completed=int(made["done"]))
    room = room_for(count)
    for first in range(int(made["done"]), count, room):
        cpu = time.process_time()
        segment = Segment(Made.dimensions, room)
        assert segment._begin_index(), "hnswlib is installed"
        for begin in range(first, min(first + room, count), BATCH):
            rows = embedder.vectors(begin, min(BATCH, first + room - begin, count - begin))
            entries = [entry(begin + at, made["began"] + APART_S * (begin + at)) for at in range(len(rows))]
            made["texts"] += sum(len(each.question) + len(each.answer) for each in entries)
            await asyncio.gather(
                database.commit(_written(cache, entries, rows), within_s=600.0),
                asyncio.to_thread(segment._index.add_items, rows, np.arange(begin, begin + len(rows)) - first),
            )
            segment.ids += [each.id for each in entries]
            progress.advance(task, len(rows))
        lost = await asyncio.to_thread(_lost, segment, embedder, first)
        key = await asyncio.to_thread(snapshots.save, SCOPE, "", segment.ids, lost, segment.state())
        assert key
        made["done"] = first + len(segment.ids)
        made["cpu_s"] += time.process_time() - cpu
        told.write_text(json.dumps(made))
    await cache.close()
    await asyncio.to_thread(database.close)
    return made


def _told_all(connection: sqlite3.Connection) -> None:
    """Note that nothing of other replicas is missing, as of one that was away for a moment."""
    connection.execute(shared_entries._TABLE)
    connection.execute(f"INSERT OR IGNORE INTO semantic_shared VALUES (1, '{START}', NULL)")  # noqa: S608 - our own


def _written(cache: SqliteSemanticCache, entries: Sequence[Stored], rows: Vector) -> Any:
    """Return the operation that writes entries."""
    values = [
        (*cache._table.values(SCOPE, TENANT, each, row.astype(np.float16).tobytes())[:9], None, None, 0.0)
        for each, row in zip(entries, rows, strict=True)
    ]
    return lambda connection: connection.executemany(table.PUT, values)


def _lost(segment: Segment, embedder: Made, first: int) -> list[int]:
    """Return which rows the index does not find, as `Segment.check_step` does, with all cores."""
    segment._index.set_ef(TOGETHER)
    lost: list[int] = []
    for begin in range(0, len(segment.ids), BATCH):
        rows = embedder.vectors(first + begin, min(BATCH, len(segment.ids) - begin))
        labels, _ = segment._index.knn_query(rows, k=1)
        lost += (begin + np.flatnonzero(labels[:, 0] != np.arange(begin, begin + len(rows)))).tolist()
    return lost[-most_lost(segment.room) :]


@dataclass(frozen=True, slots=True)
class Replica:
    """What one process is to do."""

    folder: Path
    url: str
    count: int  # entries in all
    seed: int
    by_finder: bool
    lookups: int
    joins_s: float = 0.0  # it has nothing at its start, and is measured for so long


async def serve(given: Replica, parent: Connection) -> None:
    """Be one replica, and say what was measured."""
    embedder = Made(given.seed, by_finder=given.by_finder)
    database, cache = opened(given.folder, embedder, given.count)
    deleted = Deletions(database, given.folder.name, [cache], ttl_s=TTL_S, wall=time.time)
    await database.ready()
    asked = np.random.default_rng(given.seed).integers(0, given.count, given.lookups).tolist()
    for number in asked:
        embedder.embed(reworded(number))
    report: dict[str, Any] = {} if given.joins_s else await _started(cache, given, asked)
    async with linked(given.url, "measured") as link:
        shared = SharedSemantic(
            link, database, cache.sharing(deleted), given.folder.name, deleted.read, asyncio.get_running_loop().time
        )
        await database.commit(lambda connection: connection.execute("SELECT 1"), within_s=60.0)
        began = time.perf_counter()
        async with running(shared.run()):
            if given.joins_s:
                report = await _joined(cache, given, asked, began)
            parent.send(report)
            while (order := await asyncio.to_thread(parent.recv)) is not None:
                kind, number = order
                if kind == "store":
                    parent.send(time.time())
                    cache.store(SCOPE, TENANT, question(number), answer(str(number)))
                else:
                    parent.send(await _found_at(cache, number))
    await cache.close()
    await asyncio.to_thread(database.close)


async def _started(cache: SqliteSemanticCache, given: Replica, asked: list[int]) -> dict[str, Any]:
    """Measure a start with entries on disk."""
    before, began = rss(os.getpid()), time.perf_counter()
    cpu = time.process_time()
    await cache.find(SCOPE, reworded(asked[0]))
    first_s = time.perf_counter() - began
    kept = cache._scopes
    while len(kept.partitions[SCOPE]) < given.count or kept._rest or kept._stepping or kept._copied_bytes:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    whole_s, whole_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    grown = 1024 * (rss(os.getpid()) - before)
    took, cpu_took, hits = [], [], 0
    for number in asked:
        at, cpu = time.perf_counter(), time.process_time()
        hits += await _hits(cache, number)
        took.append(1000 * (time.perf_counter() - at))
        cpu_took.append(1000 * (time.process_time() - cpu))
    return {
        "first_s": first_s,
        "whole_s": whole_s,
        "whole_cpu_s": whole_cpu_s,
        "rss": grown,
        "counted": cache.bytes_used,
        "segments": len(kept.partitions[SCOPE].segments),
        "p50_ms": median(took),
        "p99_ms": quantiles(took, n=100)[98],
        "cpu_ms": median(cpu_took),
        "hits": hits / len(asked),
    }


async def _joined(cache: SqliteSemanticCache, given: Replica, asked: list[int], began: float) -> dict[str, Any]:
    """Measure a start with nothing, while the entries come: the newest are the first."""
    first_s, took, at, held = None, [], began, cache._scopes
    while at - began < given.joins_s and len(held.partitions.get(SCOPE, ())) < given.count:
        number = given.count - 1 if first_s is None else asked[len(took) % len(asked)]
        at = time.perf_counter()
        hit = await _hits(cache, number)
        took.append(1000 * (time.perf_counter() - at))
        if hit and first_s is None:
            first_s = time.perf_counter() - began
        await asyncio.sleep(0.05)
    came = len(held.partitions[SCOPE])
    return {"first_s": first_s, "p50_ms": median(took), "came": came, "per_s": came / (time.perf_counter() - began)}


async def _hits(cache: SqliteSemanticCache, number: int) -> bool:
    found = await cache.find(SCOPE, reworded(number))
    return isinstance(found, SemanticHit) and found.answer.text == str(number)


async def _found_at(cache: SqliteSemanticCache, number: int) -> float | None:
    """Return when a rewording hits (Unix seconds); None if it does not within a minute."""
    gives_up_at = time.time() + 60.0
    while time.time() < gives_up_at:
        if await _hits(cache, number):
            return time.time()
        await asyncio.sleep(0.01)
    return None


def child(given: Replica, parent: Connection) -> None:
    """Run a replica in this process."""
    asyncio.run(serve(given, parent))


@contextmanager
def replica(given: Replica) -> Iterator[Connection]:
    """Start a replica in a process of its own; yield the way to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=child, args=(given, there))
    process.start()
    there.close()
    try:
        yield here
    finally:
        if process.is_alive():
            here.send(None)
        process.join(60.0)
        process.kill()


def _leave_cache(folder: Path) -> None:
    """Have the system forget what it keeps in memory of files, as after a start of the machine."""
    for path in (each for each in folder.rglob("*") if each.is_file()):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def measured(chosen: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure two replicas, one after the other where each has a machine for itself, then both."""
    count, seed, lookups, by_finder = chosen.entries, chosen.seed, chosen.lookups, chosen.finder
    with ExitStack() as opened_last:
        name = opened_last.enter_context(TemporaryDirectory(prefix="millrace-entries-"))
        data = chosen.data or Path(name) / "made"
        data.mkdir(parents=True, exist_ok=True)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            made = asyncio.run(make(data, count, seed, by_finder, progress))
        redis = opened_last.enter_context(redis_server())
        reports, ways = [], []
        for each in ("one", "two"):
            folder = Path(name) / each
            shutil.copytree(data, folder)
            if chosen.cold:
                _leave_cache(folder)
            console.log(f"{each} starts with {count:,} entries")
            ways.append(opened_last.enter_context(replica(Replica(folder, redis.url, count, seed, by_finder, lookups))))
            reports.append(ways[-1].recv())
            reports[-1]["entry_bytes"] = (reports[-1]["rss"] - made["texts"]) / count
        one, two = ways
        late: list[float] = []
        for number in range(count, count + chosen.told):
            one.send(("store", number))
            stored_at = one.recv()
            two.send(("find", number))
            found_at = two.recv()
            late.append(float("inf") if found_at is None else found_at - stored_at)
        joined = None
        if chosen.joins_s:
            console.log(f"a third one starts with nothing, and is looked at for {chosen.joins_s:g} s")
            (Path(name) / "three").mkdir()
            given = Replica(Path(name) / "three", redis.url, count, seed, by_finder, lookups, chosen.joins_s)
            joined = opened_last.enter_context(replica(given)).recv()
        return {"entries": count, "made": made, "replicas": reports, "told_s": sorted(late), "joined": joined}


def main(given: list[str]) -> int:
    """Measure, show, and return whether what is promised holds."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.measure_shared_semantic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--lookups", type=int, default=2000, help="of each replica")
    parser.add_argument("--told", type=int, default=20, help="entries stored at one and looked for at the other")
    parser.add_argument("--joins-s", type=float, default=60.0, help="for which the third replica is looked at; 0: none")
    parser.add_argument("--cold", action="store_true", help="nothing of the files is in the memory of the system")
    parser.add_argument("--data", type=Path, help="where entries and indexes are made, and kept for the next run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--finder", action="store_true", help="vectors of the questions themselves")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(given)
    found = measured(chosen, Console(stderr=True))
    one, two = found["replicas"]
    late = found["told_s"]
    made_us = 1e6 * found["made"]["cpu_s"] / found["entries"]
    rows = [
        ("made: rows, index, its check: µs of processor an entry", made_us, None, None),
        ("start to the first lookup, s", one["first_s"], two["first_s"], START_S),
        ("start to all entries, s", one["whole_s"], two["whole_s"], START_S),
        ("start to all entries, s of processor", one["whole_cpu_s"], two["whole_cpu_s"], None),
        ("lookup p50 without embedding, ms", one["p50_ms"], two["p50_ms"], LOOKUP_MS),
        ("lookup p99, ms", one["p99_ms"], two["p99_ms"], None),
        ("lookup p50, ms of processor", one["cpu_ms"], two["cpu_ms"], None),
        ("rewordings that hit", one["hits"], two["hits"], None),
        ("segments that are searched", one["segments"], two["segments"], None),
        ("bytes an entry without its texts", one["entry_bytes"], two["entry_bytes"], ENTRY_BYTES),
        ("counted by the cache, bytes an entry", *(each["counted"] / found["entries"] for each in (one, two)), None),
        ("stored at one, found at the other: median, worst, s", median(late), late[-1], TOLD_S),
    ]
    if (three := found["joined"]) is not None:
        first_s = float("inf") if three["first_s"] is None else three["first_s"]
        rows += [("begins with nothing: first hit, s", first_s, None, START_S)]
        rows += [("begins with nothing: entries that came; a second", three["came"], three["per_s"], None)]
        rows += [("begins with nothing: lookup p50 meanwhile, ms", three["p50_ms"], None, None)]
    shown = Table("", "one", "two", "at most", title=f"{found['entries']:,} entries in one scope")
    for what, first, second, most in rows:
        numbers = ("" if number is None else f"{number:,.3f}" for number in (first, second, most))
        shown.add_row(what, *numbers)
    if chosen.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        Console().print(shown)
    return int(any(most is not None and max(first, second or 0.0) > most for _, first, second, most in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
