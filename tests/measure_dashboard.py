"""What the dashboard costs: a million rows to look at, and 500 requests a second while somebody watches.

    python -m tests.measure_dashboard [--part opened | feed] [--rows 1000000] [--pairs 7] [--seconds 4] [--json FILE]

First a ledger of so many rows of all kinds over thirty days is written, and a server is started on it: how long it
takes to add them up, and how long each document takes then, over HTTP. Then a server is asked as fast as it answers by
the clients of `tests.bench`, in turn without a dashboard and with one that is open: CPU time of a token, of all
threads.
"""

import asyncio
import json
import sqlite3
import statistics
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import click
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from tests.bench.pace import Pace
from tests.bench.processes import OTHER_CORES, Clients, port_of, started
from tests.bench.rounds import set_pace
from tests.bench.targets import configuration, millrace
from tests.support.many_rows import multiplied, rows
from tests.support.ports import free_port

DAYS, DAY_S, BASE = 30, 86_400, 5000
OPENS_S, RATIO = 2.0, 1.10
CONNECTIONS, TOKENS, WARM_S, TRIES = 24, 20, 1.0, 5
PATIENCE_S = 900.0
DOCUMENTS = {
    "the last 24 hours": "figures?since=24h",
    "the last hour, by minutes": "figures?since=1h",
    "14 days, by hours": "figures?since=14d",
    "30 days, by days": "figures?since=30d",
    "14 days of one tag": "figures?since=14d&tag=shop",
    "14 days of one model": "figures?since=14d&model=small-model",
    "now": "now",
    "promises": "promises?since=7d",
    "the latest requests": "requests?since=30d",
    "the latest that failed": "requests?since=30d&status=failed",
    "requests of a rare code": "requests?since=30d&code=deadline",
}


def fill(folder: Path, count: int, progress: Progress) -> None:
    """Write a ledger."""
    task, now = progress.add_task("rows written", total=count), time.time()
    database = SqliteDatabase(str(folder))
    ledger, base = SqliteLedger(database), min(BASE, count)
    copies = max(0, count // base - 1)
    step_s = DAYS * DAY_S / (copies + 1)
    for entry in rows(base, seed=1, since=now - step_s, until=now - 1):
        ledger.settled(entry)
    database.close(60)
    progress.update(task, completed=base)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for copy in multiplied(connection, copies, step_s):
            progress.update(task, completed=(copy + 1) * base)


async def added_up(http: aiohttp.ClientSession, progress: Progress) -> tuple[float, float]:
    """Wait until all rows are added up; return the seconds to the first figures, and to the last."""
    began, first, task = time.perf_counter(), 0.0, progress.add_task("rows added up", total=None)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get("/v1/dashboard/figures") as answer:
                state = (await answer.json())["rollup"]
            first = first or time.perf_counter() - began
            progress.update(task, completed=state["of"] - state["behind"], total=state["of"])
            if not state["behind"]:
                return first, time.perf_counter() - began
            await asyncio.sleep(0.5)


async def opened(count: int, progress: Progress) -> dict[str, Any]:
    """Return how long it takes to add a ledger up and to look at it."""
    found: dict[str, Any] = {"rows": count}
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "data").mkdir()
        await asyncio.to_thread(fill, folder / "data", count, progress)
        found["ledger_mb"] = (folder / "data" / FILE).stat().st_size / 1e6
        config = configuration(folder, port, free_port(), caches=False)
        async with millrace(config, port) as server, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            before = server.cpu_s
            found["first_figures_s"], found["added_up_s"] = await added_up(http, progress)
            found["added_up_cpu_s"] = server.cpu_s - before
            for title, path in DOCUMENTS.items():
                times = []
                for _ in range(TRIES):
                    began = time.perf_counter()
                    async with http.get(f"/v1/dashboard/{path}") as answer:
                        size = len(await answer.read())
                        assert answer.status == 200, path
                    times.append(time.perf_counter() - began)
                found[title] = {
                    "first_ms": 1000 * times[0],
                    "median_ms": 1000 * statistics.median(times),
                    "bytes": size,
                }
            began = time.perf_counter()
            async with http.ws_connect("/v1/dashboard/live") as socket:
                while (await socket.receive_json())["type"] != "dashboard.tick":
                    pass
            found["live_s"] = time.perf_counter() - began
        grown = (folder / "data" / FILE).stat().st_size / 1e6
        found["sums_mb"] = grown - found["ledger_mb"]
    return found


async def watched(port: int, ended: asyncio.Event) -> dict[str, Any]:
    """Read what a dashboard is told until `ended`; return how much that was."""
    found = {"ticks": 0, "figures": 0, "bytes": 0, "entries": 0, "told": 0, "dropped": 0}
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        http.ws_connect("/v1/dashboard/live") as socket,
    ):
        while not ended.is_set():
            try:
                message = await socket.receive(timeout=0.5)
            except TimeoutError:
                continue
            frame = json.loads(message.data)
            found["bytes"] += len(message.data)
            if frame["type"] == "dashboard.tick":
                found["ticks"] += 1
                found["told"] += frame["ended"]["requests"]
                found["entries"] += len(frame["entries"])
                found["dropped"] = frame["dropped"]
            found["figures"] += frame["type"] == "dashboard.figures"
    return found


async def feed(pairs: int, seconds: float, progress: Progress) -> dict[str, Any]:
    """Return the CPU time of a token without a dashboard and with one, in µs, of each pair."""
    task = progress.add_task("pairs", total=pairs)
    found: dict[str, Any] = {"pairs": [], "per_s": [], "watched": []}
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        async with (
            started("-m", "tests.bench.upstream", cores=OTHER_CORES) as provider,
            started("-m", "tests.bench.generator", cores=OTHER_CORES, stdin=subprocess.PIPE) as generator,
        ):
            upstream, clients = await port_of(provider), Clients(generator)
            await set_pace(upstream, Pace(TOKENS))
            config = configuration(folder, port, upstream, caches=False)
            async with millrace(config, port) as server:
                asking: dict[str, Any] = {"fields": {"model": "large"}, "again": None}
                for number in range(pairs):
                    taken: dict[bool, float] = {}
                    for is_watched in (False, True)[:: 1 if number % 2 else -1]:
                        ended = asyncio.Event()
                        watching = asyncio.create_task(watched(port, ended)) if is_watched else None
                        burst = asking | {"seed": f"{number} {is_watched}"}
                        await clients.do("open", port=port, connections=CONNECTIONS, negotiated=False)
                        await clients.do("burst", seconds=WARM_S, asking=burst | {"seed": f"warm {burst['seed']}"})
                        before = server.cpu_s
                        done = await clients.do("burst", seconds=seconds, asking=burst)
                        await clients.do("close")
                        taken[is_watched] = 1e6 * (server.cpu_s - before) / (done["asked"] * TOKENS)
                        found["per_s"].append(done["per_s"])
                        ended.set()
                        if watching is not None:
                            found["watched"].append(await watching)
                    found["pairs"].append((taken[False], taken[True]))
                    progress.advance(task)
    return found


def shown_opened(opened: dict[str, Any], console: Console) -> bool:
    """Print how long it takes to look; whether that is as it should be."""
    console.print(
        f"{opened['rows']:,} rows ({opened['ledger_mb']:,.0f} MB) were added up in {opened['added_up_s']:.1f} s"
        f" ({opened['added_up_cpu_s']:.1f} s of a core), into {opened['sums_mb']:.1f} MB; the first figures took"
        f" {opened['first_figures_s']:.2f} s, the first tick of a dashboard {opened['live_s']:.2f} s"
    )
    table = Table("document", "first, ms", "median, ms", "kB")
    for title in DOCUMENTS:
        one = opened[title]
        table.add_row(title, f"{one['first_ms']:.0f}", f"{one['median_ms']:.0f}", f"{one['bytes'] / 1000:.1f}")
    console.print(table)
    slowest = max(opened[title]["first_ms"] for title in DOCUMENTS) / 1000
    first = max(opened["first_figures_s"], slowest, opened["live_s"])
    console.print(f"the slowest took {first:.2f} s (at most {OPENS_S})")
    return bool(first <= OPENS_S)


def shown_feed(fed: dict[str, Any], console: Console) -> bool:
    """Print what a dashboard costs that is open; whether that is as it should be."""
    ratios = [watched / alone for alone, watched in fed["pairs"]]
    table = Table("pair", "µs a token", "with a dashboard", "ratio")
    for number, (alone, watched) in enumerate(fed["pairs"], start=1):
        table.add_row(str(number), f"{alone:.1f}", f"{watched:.1f}", f"{watched / alone:.3f}")
    console.print(table)
    ratio = statistics.median(ratios)
    told = sum(each["told"] for each in fed["watched"])
    console.print(
        f"{statistics.median(fed['per_s']):.0f} requests/s; median of the ratios {ratio:.3f} (at most {RATIO});"
        f" {told:,} ends told in {sum(each['ticks'] for each in fed['watched'])} ticks and"
        f" {sum(each['bytes'] for each in fed['watched']) / 1e3:,.0f} kB"
    )
    return bool(ratio <= RATIO)


@click.command(help=__doc__)
@click.option("--part", type=click.Choice(["opened", "feed"]), help="Only that one.")
@click.option("--rows", "count", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--pairs", default=7, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=4.0, show_default=True, help="Of each burst.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all figures there too.")
def main(part: str | None, count: int, pairs: int, seconds: float, output: Path | None) -> None:
    """See above."""
    uvloop.install()

    async def measured() -> dict[str, Any]:
        found: dict[str, Any] = {}
        with Progress(console=Console(stderr=True)) as progress:
            if part != "feed":
                found["opened"] = await opened(count, progress)
            if part != "opened":
                found["feed"] = await feed(pairs, seconds, progress)
        return found

    found = asyncio.run(measured())
    if output is not None:
        output.write_text(json.dumps(found, indent=1), "utf-8")
    console = Console()
    parts = ((shown_opened, "opened"), (shown_feed, "feed"))
    shown = [show(found[name], console) for show, name in parts if name in found]
    if not all(shown):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
