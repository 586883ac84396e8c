"""Hours of mixed load on one server, to see whether its memory, its file descriptors and its tasks grow.

    python -m tests.fire.soak --hours 2 --log soak.jsonl
    python -m tests.fire.soak --read soak.jsonl          # what a run has found so far, also while it runs

Visitors of three tenants use every dialect, cancel, leave, come back, call tools as agents do, and send a batch each
minute. Both caches are so small that they are full early. Evidence is judged, the router learns, a dashboard is open,
and the configuration changes every ten minutes. A line of the log is a sample, each half a minute. Slopes are fitted
after the warm-up (Theil and Sen: no single sample matters), in which caches fill and responses reach the age at which
they are forgotten.
"""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.bench.processes import rss, tree
from tests.fire.mixed import Mixed
from tests.fire.programs import Place, placed
from tests.fire.slope import slope

MIB = 2**20
SERVER = 'memory_bytes = 134217728\nstore_bytes = 8388608\nupstream_client = "{reader}"\n'
MORE = """
[funnel]
hedge_ms = {hedge_ms}
[cache]
memory_bytes = 8388608
disk_bytes = 33554432
hot_scopes = 16
index_above = 500
[evidence]
hit_share = 0.5
small_share = 0.1
large_share = 0.1
dollars_per_day = "1000"
[batch]
disk_bytes = 67108864
"""
RELOAD_S = 600.0
GROWS = 5.0  # MiB an hour, below which memory counts as flat
FLAT = 0.05  # by which the last quarter's median may exceed the first's, of file descriptors and tasks
SPARE = 5  # and at least so many
LATE = 0.01  # of the visits


async def sample(place: Place, mixed: Mixed, http: aiohttp.ClientSession, begun: float) -> dict[str, Any]:
    """Return what there is to see of a run now."""
    async with http.get("/metrics") as answer:
        lines = (line for line in (await answer.text()).splitlines() if not line.startswith("#"))
        figures = [(name, float(value)) for name, _, value in (line.rpartition(" ") for line in lines)]
    wanted = ("millrace_tasks", "millrace_open_connections", "millrace_open_streams", "millrace_in_flight_requests",
              "millrace_disk_queue_writes", "millrace_memory_bytes", "millrace_unfinished_batches")  # fmt: skip
    children = [pid for pid in tree(place.server.pid) if pid != place.server.pid]
    counted = _counted(place.server.pid)
    return {
        "t": round(time.monotonic() - begun, 1),
        "rss_kib": rss(place.server.pid),
        "anonymous_kib": _anonymous(place.server.pid),
        "children_kib": sum(map(rss, children)),
        "children_anonymous_kib": sum(map(_anonymous, children)),
        "children": len(children),
        "files": counted["fd"],
        "threads": counted["task"],
        "models_kib": sum(rss(model.pid) for model in place.models),
        "clients_kib": rss("self"),  # type: ignore[arg-type]
        **{name: sum(value for found, value in figures if found.split("{")[0] == name) for name in wanted},
        "by_account": {found: value for found, value in figures if found.startswith("millrace_memory_bytes{")},
        "ended": sum(value for found, value in figures if found.startswith("millrace_requests_total")),
        "database_mib": sum(path.stat().st_size for path in place.folder.glob("millrace.*")) / MIB,
        "visits": mixed.requests,
        "running": mixed.running,
        "faults": len(mixed.faults),
        "late": mixed.late,
        "crashes": place.server.printed("Traceback"),
    }


def _counted(pid: int) -> dict[str, int]:
    return {name: len([*Path(f"/proc/{pid}/{name}").iterdir()]) for name in ("fd", "task")}


def _anonymous(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


@asynccontextmanager
async def _beside(place: Place) -> AsyncIterator[None]:
    """Keep a dashboard open, and change the configuration every while."""
    tasks = [asyncio.create_task(_watch(place)), asyncio.create_task(_reload(place))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(place: Place) -> None:
    url, head = place.server.url.replace("http", "ws", 1), {"Authorization": f"Bearer {place.keys[0]}"}
    while True:  # a connection has a greatest age
        wanted = [Subprotocol("millrace.dashboard.v1")]
        with suppress(OSError):
            async with connect(f"{url}/v1/dashboard/live", subprotocols=wanted, additional_headers=head) as connection:
                async for _ in connection:
                    pass
        await asyncio.sleep(1)


async def _reload(place: Place) -> None:
    head = {"Authorization": f"Bearer {place.keys[0]}"}
    text = place.config.read_text("utf-8")
    for number in itertools.count(1):
        await asyncio.sleep(RELOAD_S)
        changed = text.replace("hedge_ms = 800", f"hedge_ms = {800 + number}")
        await asyncio.to_thread(place.config.write_text, changed, "utf-8")
        async with aiohttp.ClientSession(place.server.url) as http, http.post("/v1/reload", headers=head) as answer:
            assert not (await answer.json())["faults"], "the configuration is good"


async def soak(log: Path, hours: float, rate: float, seed: int, every_s: float, reader: str) -> None:
    """Run it; write a line every while, and at the end one with what became of all visits."""
    seconds = hours * 3600
    server, more = SERVER.format(reader=reader), MORE.format(hedge_ms=800)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with tempfile.TemporaryDirectory() as name, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("soaking", total=seconds)
        async with placed(Path(name), more, server, speed=4, has_keys=True) as place, _beside(place):
            session = aiohttp.ClientSession(place.server.url)
            async with session as http, Mixed(place.server.url, place.keys, seed) as mixed:
                begun = time.monotonic()
                arriving = asyncio.create_task(mixed.arrive(rate, seconds))
                told = 0
                while not arriving.done():
                    row = await sample(place, mixed, http, begun)
                    row |= {"new_faults": mixed.faults[told:]}
                    told = len(mixed.faults)
                    _write(log, row)
                    assert not place.server.has_ended, "the server has ended"
                    progress.update(bar, completed=row["t"], description=f"{row['rss_kib'] / 1024:.0f} MiB")
                    await asyncio.wait([arriving], timeout=every_s)
                await arriving
                await mixed.settled()
                last = await sample(place, mixed, http, begun)
                _write(log, last | {"ends": dict(sorted(mixed.ends.items())), "new_faults": mixed.faults[told:]})
                await asyncio.to_thread(_keep, place, log)


def _write(log: Path, row: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _keep(place: Place, log: Path) -> None:
    """Keep the end of what the server printed."""
    printed = (place.folder / "server.log").read_text("utf-8", "replace")
    log.with_suffix(".server.log").write_text(printed[-MIB:], "utf-8")


def found(log: Path, warm_up: float) -> tuple[Table, list[str]]:
    """Return a table of a run so far, and what is not as it must be."""
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    last, after = rows[-1], [row for row in rows if row["t"] >= warm_up * 60]
    table = Table("figure", "first quarter", "last quarter", "an hour", "95 %", title=_title(last))
    wrong = [f"{last['crashes']:g} crashes in what the server printed"] if last["crashes"] else []
    if last["late"] > LATE * last["visits"]:
        wrong.append(f"{last['late']} visits were late: the machine has too much else to do, or something hangs")
    if last["faults"]:
        wrong.append(f"{last['faults']} visits ended as they must not; the first: {_first_fault(rows)}")
    if len(after) < 8:
        return table, [*wrong, f"only {len(after)} samples after the warm-up of {warm_up:g} minutes"]
    hours = [row["t"] / 3600 for row in after]
    figures = {
        "memory of the server, MiB": [row["rss_kib"] / 1024 for row in after],
        "anonymous, MiB": [row["anonymous_kib"] / 1024 for row in after],
        "memory of its children, MiB": [row["children_anonymous_kib"] / 1024 for row in after],
        "with what they have mapped of files, MiB": [row["children_kib"] / 1024 for row in after],  # at most these
        "file descriptors": [row["files"] for row in after],
        "tasks": [row["millrace_tasks"] for row in after],
        "threads": [row["threads"] for row in after],
        "what its accounts hold, MiB": [row["millrace_memory_bytes"] / MIB for row in after],
        "writes that wait": [row["millrace_disk_queue_writes"] for row in after],
    }
    for name, values in figures.items():
        fit = slope(hours, values)
        table.add_row(name, *(f"{each:.1f}" for each in (fit.first, fit.last, fit.per_hour)),
                      f"{fit.low:.1f} to {fit.high:.1f}")  # fmt: skip
        if name.startswith("memory") and fit.per_hour >= GROWS:
            wrong.append(f"{name}: {fit.per_hour:.1f} more each hour, {GROWS:g} are allowed")
        flat = name in ("file descriptors", "tasks", "threads")
        if flat and fit.last - fit.first > max(FLAT * fit.first, SPARE):
            wrong.append(f"{name}: {fit.first:g} at first, {fit.last:g} at last")
    return table, wrong


def _title(last: dict[str, Any]) -> str:
    return f"{last['t'] / 3600:.2f} hours, {last['visits']} requests, {last['ended']:.0f} rows in the ledger"


def _first_fault(rows: list[dict[str, Any]]) -> str:
    return next((fault for row in rows for fault in row["new_faults"]), "")


@click.command(help=__doc__)
@click.option("--hours", default=2.0, show_default=True)
@click.option("--rate", default=10.0, show_default=True, help="Visits a second; some are several requests.")
@click.option("--seed", default=1, show_default=True)
@click.option("--warm-up", default=20.0, show_default=True, help="Minutes that no slope counts.")
@click.option("--every", "every_s", default=30.0, show_default=True, help="Seconds between samples.")
@click.option("--reader", type=click.Choice(["httptools", "aiohttp"]), default="httptools", show_default=True)
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), default=Path("soak.jsonl"), show_default=True)
@click.option("--read", "read", type=click.Path(path_type=Path, exists=True), help="Only show what this log says.")
def main(
    *, hours: float, rate: float, seed: int, warm_up: float, every_s: float, reader: str, log: Path, read: Path | None
) -> None:
    """Run or read, print a table, and exit with 1 if something grows."""
    if read is None:
        log.unlink(missing_ok=True)
        asyncio.run(soak(log, hours, rate, seed, every_s, reader))
    table, wrong = found(read or log, warm_up)
    console = Console(width=120)
    console.print(table)
    for each in wrong:
        console.print(f"[red]{each}[/]")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
