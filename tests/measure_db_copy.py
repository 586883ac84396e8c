"""Whether a grown SQLite reaches PostgreSQL whole, each row once, although its copy is killed again and again.

    python -m tests.measure_db_copy [--rows 1000000] [--kills 3] [--seed 1] [--json]

A data_dir gets so many rows of the ledger, and some thousand of the rest. `millrace db copy` is started in a process of
its own and killed (SIGKILL) at a random moment, so often; once more it runs to its end. Then both databases are counted
and added up here, by queries of this script. The exit code is 1 where a row is missing, doubled, or different.
"""

import asyncio
import json
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from millrace.stores.database import FILE, SqliteDatabase
from tests.support.kept import filled
from tests.support.many_rows import multiplied
from tests.support.paths import REPOSITORY
from tests.support.processes import spawn
from tests.support.shared_servers import SharedServer, postgres_server

NOW = 1_796_000_000.0
SEEDED, RESPONSES = 5000, 3000
DAYS = 30  # over which the rows are spread
LONGEST_S, LOOK_S = 3600.0, 0.05
SUMS = "count(*), count(DISTINCT request_id), sum(cost_nanodollars), sum(saved_nanodollars), sum(input_tokens)"
SUMS += ", sum(output_tokens), sum(length(calls)), sum(length(story))"
QUERIES = {
    "entries": f"SELECT {SUMS} FROM entries WHERE status != 'open'",  # noqa: S608 - names of our own
    "keys": "SELECT count(*), count(DISTINCT digest) FROM keys",
    "responses": "SELECT count(*), sum(size), sum(length(body)), sum(length(conversation)) FROM responses",
    "judged": "SELECT count(*), count(DISTINCT id), sum(length(features)) FROM judged",
    "steering_changes": "SELECT count(*), sum(is_off) FROM steering_changes",
    "feedback": "SELECT count(*), sum(has_better) FROM feedback",
    "router_states": "SELECT count(*), sum(labels), sum(length(state)) FROM router_states",
}


def grown(folder: str, rows: int) -> None:
    """Make the data_dir."""
    database = SqliteDatabase(folder)
    asyncio.run(filled(database, NOW, rows=min(rows, SEEDED), responses=RESPONSES))
    database.close()
    copies = max(0, -(-rows // SEEDED) - 1)
    with closing(sqlite3.connect(Path(folder) / FILE)) as file, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("rows are made", total=copies)
        for _ in multiplied(file, copies, DAYS * 86_400 / max(1, copies)):
            progress.advance(task)


def copied(folder: str, url: str, killed_at: int | None) -> tuple[int, float]:
    """Run the copy; return its exit code, and for how many seconds it ran. It is killed once so many rows are there."""
    began = time.monotonic()
    with spawn("server", "db", "copy", f"sqlite:{folder}", url, cwd=REPOSITORY) as process:
        while process.poll() is None and time.monotonic() - began < LONGEST_S:
            time.sleep(LOOK_S)
            if killed_at is not None and arrived(url) >= killed_at:
                break
        process.kill()
        code = process.wait()
    return code, time.monotonic() - began


def sums(folder: str, url: str) -> dict[str, tuple[list[int], list[int]]]:
    """Return what both databases have of each table."""
    with closing(sqlite3.connect(Path(folder) / FILE)) as here, psycopg.connect(url) as there:
        there.execute("SET search_path TO millrace")
        return {
            name: (
                [int(value) for value in here.execute(query).fetchone()],
                [int(value) for value in there.execute(query.encode()).fetchone() or ()],
            )
            for name, query in QUERIES.items()
        }


def arrived(url: str) -> int:
    """Return how many rows of the ledger are there."""
    with psycopg.connect(url) as there:
        if there.execute("SELECT to_regclass('millrace.entries')").fetchone() == (None,):
            return 0
        ((count,),) = there.execute("SELECT count(*) FROM millrace.entries").fetchall()
        return int(count)


def measured(server: SharedServer, rows: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Copy with all kills."""
    with tempfile.TemporaryDirectory() as folder:
        grown(folder, rows)
        at: list[int] = []
        for number in range(kills):
            code, _ = copied(folder, server.url, int(rows * (number + rng.uniform(0.1, 0.9)) / (kills + 1)))
            assert code == -signal.SIGKILL, "it ended before it was killed: use more rows"
            at.append(arrived(server.url))
            click.echo(f"killed at row {at[-1]:,}", err=True)
        code, last_s = copied(folder, server.url, None)
        return {
            "rows": rows,
            "killed_at": at,
            "exit": code,
            "last_s": round(last_s, 1),
            "sums": sums(folder, server.url),
        }


@click.command(help=__doc__)
@click.option("--rows", type=click.IntRange(1000), default=1_000_000, show_default=True)
@click.option("--kills", type=click.IntRange(0), default=3, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(*, rows: int, kills: int, seed: int, as_json: bool) -> None:
    """Measure, print, and exit with what was found."""
    with postgres_server() as server:
        found = measured(server, rows, kills, random.Random(seed))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    table = Table("table", "rows", "sums here", "sums there", "")
    equal = True
    for name, (here, there) in found["sums"].items():
        equal = equal and here == there
        verdict = "equal" if here == there else "NOT EQUAL"
        table.add_row(name, f"{here[0]:,}", " ".join(map(str, here[1:])), " ".join(map(str, there[1:])), verdict)
    if not as_json:
        Console().print(table)
        killed = ", ".join(f"{row:,}" for row in found["killed_at"])
        click.echo(f"killed at rows {killed}; the last run took {found['last_s']} s and exited with {found['exit']}")
    sys.exit(0 if equal and found["exit"] == 0 else 1)


if __name__ == "__main__":
    main()
