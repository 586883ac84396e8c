"""`python -m tests.bench.semantic`: what the semantic cache costs, in time and memory, and how fast it answers.

A new server is asked until it has made 10,000 lookups, each of which a model answers. Then a scope of 100,000 stored
questions is written to its disk, loaded again, and asked for rewordings of them. Last the cache is asked without a
server: one scope of as many questions at a pace, then 10,000 scopes of 20 that are not in memory. What the finder
finds is measured by `python -m tests.measure_semantic --recall`.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from millrace.caches.embedders.process import MiniLMProcess
from millrace.caches.finder import Finder
from millrace.caches.guards import Question, agree, judge
from millrace.caches.reusable import reusable
from millrace.cli.serving import GIVE_BACK_EVERY_S
from millrace.stores.database import SqliteDatabase
from millrace.types import StoredAnswer
from tests.bench import questions, semantic_store
from tests.bench.pace import Pace
from tests.bench.processes import OTHER_CORES, Clients, Measured, port_of, pss, started
from tests.bench.rounds import set_pace
from tests.bench.targets import configuration, millrace
from tests.support.looks import look
from tests.support.ports import free_port

Figures = list[tuple[str, float]]

FIELDS = {"model": "large"}
BATCH_S = 3.0
QUIET_S = 2.0  # without CPU time, after which all is loaded and indexed
HITS = 1500  # rewordings of a kind that are asked for
# What they are called, how they begin in place of "how do i", and whether they have the same words otherwise.
REWORDED = (("hit by the rules", "how can i", True), ("hit by the networks", "i need help, how do i", False))
ROOMY = f"memory_bytes = {2**31}\n"  # of the caches: 100,000 entries and their index


@asynccontextmanager
async def serving(folder: Path, provider: int, more: str = "") -> AsyncIterator[tuple[Measured, int]]:
    """Run a server with a semantic cache alone."""
    port = free_port()
    config = configuration(folder, port, provider, caches=True)
    text = config.read_text().replace("exact = true", "exact = false") + more
    config.write_text(text.replace("[server]\n", f"[server]\nmemory_bytes = {2**32}\n"))
    async with millrace(config, port) as measured:
        yield measured, port
        measured.process.terminate()
        await measured.process.wait()


async def quiet(server: Measured) -> None:
    """Wait until the server does nothing."""
    before = -1.0
    while server.cpu_s - before > 0.1 * QUIET_S:
        before = server.cpu_s
        await asyncio.sleep(QUIET_S)


async def begin(folder: Path, provider: int, clients: Clients, lookups: int) -> Figures:
    """Start a server, and have it look up new questions. Return figures."""
    began = time.perf_counter()
    async with serving(folder, provider) as (server, port):
        idle = pss(server.process.pid) / 1024
        await clients.do("open", port=port, connections=1, negotiated=False)
        asking = {"fields": FIELDS}
        await clients.do("firsts", at_once=1, rounds=1, every_s=0, asking={"seed": "first", **asking})
        answered = time.perf_counter() - began
        firsts = await clients.do("firsts", at_once=1, rounds=100, every_s=0.02, asking={"seed": "one", **asking})
        await clients.do("close")
        asked, before = 101, server.cpu_s
        while asked < lookups:
            await clients.do("open", port=port, connections=16, negotiated=False)  # anew: no client answers pings
            again = [f"How {verb} I reset router {number}?" for number in range(8) for verb in ("do", "can")]
            burst = await clients.do("burst", seconds=BATCH_S, asking={"seed": f"stored {asked}", **asking})
            asked += int(burst["asked"])
            hits = await clients.do("burst", seconds=0.05, asking={"again": again, **asking})
            asked += int(hits["asked"])
            await clients.do("close")
        used = server.cpu_s - before
        await quiet(server)
        await asyncio.sleep(GIVE_BACK_EVERY_S + 1)
        return [
            ("start to first answer, s", answered),
            ("serving process before the first request, MiB (PSS)", idle),
            ("all processes after the lookups, MiB (PSS)", server.kib / 1024),
            ("first token of a new question at 1, p50 ms", firsts["p50_ms"]),
            ("CPU per new question, ms, children included", 1000 * used / asked),
        ]


async def write(data: Path, stored: list[str]) -> None:
    """Write questions into the scope that was asked before, in place of what it has."""
    database, finder, comparer = SqliteDatabase(str(data)), Finder(), MiniLMProcess()
    cache = semantic_store.opened(database, data, finder, comparer)
    first = "SELECT scope, tenant, answer FROM semantic_entries LIMIT 1"
    scope, tenant, answer = await look(database, lambda connection: connection.execute(first).fetchone())
    await look(database, lambda connection: connection.execute("DELETE FROM semantic_entries"))
    given = msgspec.json.decode(answer, type=StoredAnswer)
    await semantic_store.fill(database, cache, ((scope, text) for text in stored), tenant, given)
    await cache.close()
    await asyncio.to_thread(database.close)


def rewordings(stored: list[str], words: str, *, agreed: bool) -> list[str]:
    """Return questions that may be served the answers of stored ones: the same but for how they begin.

    `agreed` ones have the same words, which rules are sure of; the others have more, and networks compare them.
    """
    pairs = ((text, text.replace("how do i", words)) for text in stored if text.startswith("how do i"))
    return list(islice((other for text, other in pairs if _may_serve(text, other, agreed=agreed)), 2 * HITS))


def _may_serve(stored: str, asked: str, *, agreed: bool) -> bool:
    a, b = Question.read(stored), Question.read(asked)
    judgement = judge(a, b)
    return not judgement.hard and agree(a, b, judgement) is agreed and reusable(asked) is None


async def hit(folder: Path, provider: int, clients: Clients, asked: dict[str, list[str]]) -> Figures:
    """Ask for rewordings of what is stored, of each kind. Return figures."""
    figures: Figures = []
    async with serving(folder, provider, ROOMY) as (server, port):
        await clients.do("open", port=port, connections=1, negotiated=False)
        again = [texts[-1] for texts in asked.values()]
        await clients.do("firsts", at_once=1, rounds=len(again), every_s=0, asking={"again": again, "fields": FIELDS})
        await clients.do("close")
        await quiet(server)
        for kind, texts in asked.items():
            await clients.do("open", port=port, connections=1, negotiated=False)
            singles, crowd = texts[:100], texts[100:-1]
            asking = {"again": singles, "fields": FIELDS}
            firsts = await clients.do("firsts", at_once=1, rounds=len(singles), every_s=0.01, asking=asking)
            await clients.do("close")
            await clients.do("open", port=port, connections=16, negotiated=False)
            before = server.cpu_s
            burst = await clients.do("burst", seconds=5.0, asking={"again": crowd, "fields": FIELDS})
            used = server.cpu_s - before
            await clients.do("close")
            figures += [
                (f"{kind}: first token at 1, p50 ms", firsts["p50_ms"]),
                (f"{kind}: first token at 1, p99 ms", firsts["p99_ms"]),
                (f"{kind}: a second, on one core", burst["per_s"]),
                (f"{kind}: CPU of one, ms, children included", 1000 * used / burst["asked"]),
                (f"{kind}: asked in the burst, of so many different ones", burst["asked"] / len(crowd)),
            ]
    return figures


async def small(folder: Path) -> Figures:
    """Measure very many small scopes, in a process that has nothing else in memory. Return figures."""
    await semantic_store.fill_small(folder)
    arguments = ("-m", semantic_store.__name__, str(folder))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    return [(what, figure) for what, figure in json.loads(output)]


async def bench(lookups: int, count: int, console: Console) -> Figures:
    """Run all; return the figures."""
    stored = list(islice(questions.new("stored"), count))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            started("-m", "tests.bench.upstream", cores=OTHER_CORES) as provider,
            started("-m", "tests.bench.generator", cores=OTHER_CORES, stdin=subprocess.PIPE) as generator,
        ):
            provider_port, clients = await port_of(provider), Clients(generator)
            await set_pace(provider_port, Pace(5))
            console.print(f"asking {lookups} new questions")
            figures = await begin(folder, provider_port, clients, lookups)
            console.print(f"storing {count} questions")
            await write(folder / "data", stored)
            asked = {
                kind: await asyncio.to_thread(rewordings, stored, words, agreed=agreed)
                for kind, words, agreed in REWORDED
            }
            console.print("asking for some of them in other words, once they are loaded and indexed")
            figures += await hit(folder, provider_port, clients, asked)
    with tempfile.TemporaryDirectory() as name:
        console.print("looking up in a cache of them, without a server")
        (Path(name) / "large").mkdir()
        near = [text for both in zip(*asked.values(), strict=False) for text in both][:HITS]
        figures += await semantic_store.large(Path(name) / "large", stored, near)
        console.print(f"looking up in {semantic_store.SCOPES} small scopes")
        (Path(name) / "small").mkdir()
        figures += await small(Path(name) / "small")
    return figures


@click.command()
@click.option("--lookups", default=10_000, show_default=True, help="New questions, before the memory is measured.")
@click.option("--stored", default=100_000, show_default=True, help="Questions in the scope that is asked for hits.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures to this file.")
def main(lookups: int, stored: int, file: Path | None) -> None:
    """Measure the semantic cache alone. Some minutes."""
    uvloop.install()
    table = Table("", "", title=f"semantic cache, {lookups} lookups, {stored} stored")
    figures = asyncio.run(bench(lookups, stored, Console(stderr=True)))
    for what, figure in figures:
        table.add_row(what, f"{figure:.2f}")
    if file is not None:
        file.write_text(json.dumps({"lookups": lookups, "stored": stored, "figures": dict(figures)}, indent=1))
    Console().print(table)


if __name__ == "__main__":
    main()
