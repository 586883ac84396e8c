"""What the dashboard asks of a browser: how soon it opens on a long ledger, and how busy its feed keeps the page.

    python -m tests.measure_dashboard_page [--rows 1000000] [--rate 500] [--seconds 30] [--json FILE]

A ledger of so many rows is made, a server started on it, and the page opened in Chromium. Then so many requests a
second are written into the ledger, as they would be by another process on the same folder, and what the page's main
thread works meanwhile is read from Chromium (Performance.getMetrics, TaskDuration).
"""

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import uvloop
from playwright.async_api import expect
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace.stores.database import FILE, SqliteDatabase
from millrace.stores.ledger import SqliteLedger
from tests.support.browser import launched_browser
from tests.support.dashboard import busy, figures_of
from tests.support.many_rows import multiplied
from tests.support.past_traffic import DAY_S, fill, over_days, request
from tests.support.server import started

MOST_OPEN_S, MOST_BUSY = 2.0, 0.20
MADE, DAYS = 10_000, 30.0
TENANT = "anonymous"
BEAT_S = 0.05


def write_at(folder: str, rate: float, seconds: float) -> None:
    """Write so many ended requests a second into the ledger."""
    rng, database = random.Random(9), SqliteDatabase(folder)
    ledger, start, written = SqliteLedger(database), time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        while written < passed * rate:
            ledger.settled(request(rng, f"resp_{rng.getrandbits(48):012x}", time.time() - 1, TENANT))
            written += 1
        time.sleep(BEAT_S)
    database.close()


def make(folder: str, rows: int, progress: Progress) -> None:
    """Make a ledger: some thousands of different rows, copied until there are as many as wanted."""
    task = progress.add_task("making the ledger", total=rows)
    copies = max(1, rows // MADE)
    distinct, days = rows // copies, DAYS / copies
    fill(folder, over_days(time.time(), days, distinct, TENANT))
    progress.update(task, completed=distinct)
    with sqlite3.connect(Path(folder) / FILE) as connection:
        for _ in multiplied(connection, copies - 1, days * DAY_S):
            progress.advance(task, distinct)


async def measure(rows: int, rate: int, seconds: float, console: Console) -> dict[str, Any]:
    """Return what was found."""
    found: dict[str, Any] = {"rows": rows, "rate": rate, "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        await asyncio.to_thread(make, folder, rows, progress)
        async with (
            started(lambda configuration: configuration["server"].update(data_dir=folder)) as running,
            launched_browser() as browser,
        ):
            page = await browser.new_page(viewport={"width": 1440, "height": 1000})
            await page.goto(f"{running.url}/dashboard/")
            await figures_of(page)
            task = progress.add_task("adding up the ledger", total=None)
            await expect(page.locator("#behind")).to_be_hidden(timeout=1_800_000)
            progress.update(task, total=1, completed=1)
            opened = []
            for since in ("24h", "7d", "30d"):
                page = await browser.new_page(viewport={"width": 1440, "height": 1000})
                begun = time.perf_counter()
                await page.goto(f"{running.url}/dashboard/?since={since}")
                await figures_of(page)
                await page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
                opened.append(round(time.perf_counter() - begun, 3))
            found["opened_s"] = dict(zip(("24h", "7d", "30d"), opened, strict=True))
            await page.goto(f"{running.url}/dashboard/?since=6h")
            await expect(page.locator("#link")).to_have_text("Live")
            await page.bring_to_front()
            found["idle"] = await busy(page, seconds / 3)
            writing = [sys.executable, "-m", "tests.measure_dashboard_page", "--write", folder, "--rate", str(rate)]
            process = await asyncio.create_subprocess_exec(*writing, "--seconds", str(seconds + 8))
            await asyncio.sleep(4)
            found["busy"] = await busy(page, seconds)
            found["per_second"] = await page.locator("#now-rate").text_content()
            await process.wait()
    return found


@click.command(help=__doc__)
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--rate", default=500, show_default=True, type=click.IntRange(1), help="Requests that end, a second.")
@click.option("--seconds", default=30.0, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all figures there too.")
@click.option("--write", hidden=True, type=click.Path())
def main(rows: int, rate: int, seconds: float, output: Path | None, write: str | None) -> None:
    """See above."""
    if write is not None:
        write_at(write, rate, seconds)
        return
    uvloop.install()
    found = asyncio.run(measure(rows, rate, seconds, Console(stderr=True)))
    table = Table("what", "found", "at most")
    for since, took in found["opened_s"].items():
        table.add_row(f"opening {since} of {rows:,} rows", f"{took:.2f} s", f"{MOST_OPEN_S:.0f} s")
    for name, what in (("busy", f"main thread at {found['per_second']}"), ("idle", "main thread, nothing ends")):
        by_clock, by_cpu = found[name]
        table.add_row(what, f"{by_clock:.1%} ({by_cpu:.1%} of a core)", f"{MOST_BUSY:.0%}")
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps(found, indent=1), "utf-8")
    if found["busy"][0] > MOST_BUSY or max(found["opened_s"].values()) > MOST_OPEN_S:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
