"""`millrace db`: the tables in PostgreSQL that replicas share."""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from millrace import log
from millrace.assembly import postgres
from millrace.cli import configuration
from millrace.cli.printed import wide
from millrace.settings import Fault, Settings, SharedSettings
from millrace.settings.shared import invalid_shared

T = TypeVar("T")
NOT_FIT = 1  # exit code
DAY_S = 86_400

_NONE = 'no PostgreSQL is configured; write [shared] postgres = "postgresql://HOST/DATABASE"'


@click.group()
def db() -> None:
    """Look after the tables in PostgreSQL that replicas share ([shared] postgres)."""


@db.command()
@configuration.config_option
def check(*, config: Path) -> None:
    """Say whether PostgreSQL has the tables that this version needs, and which days of the ledger are there.

    Exits with 1 if it does not, and with 3 if it does not answer.
    """
    found = _run(configuration.load(config).shared, postgres.tables)
    assert found is not None
    click.echo(found.fault or f"{found.address} has the tables of this version (step {found.has}).")
    if not found.fault:
        click.echo(_days(found.days, int(time.time() // DAY_S)))
    sys.exit(NOT_FIT if found.fault else 0)


def _days(days: Sequence[int], today: int) -> str:
    """Return what is said of the days of the ledger."""
    if not days:
        return "The ledger there has no day yet: the first replica that runs makes them."
    first, last = (datetime.fromtimestamp(day * DAY_S, UTC).date() for day in (days[0], days[-1]))
    told = f"The ledger there has {len(days):,} days, from {first} to {last}."
    missing = [day for day in (today, today + 1) if day not in days]
    return f"{told} No replica has looked after them: that of tomorrow is missing." if missing else told


@db.command()
@configuration.config_option
def upgrade(*, config: Path) -> None:
    """Make the tables that PostgreSQL lacks, in one transaction. Replicas may run meanwhile.

    Exits with 1 if the tables are of a later version, and with 3 if it does not answer.
    """
    shared = configuration.load(config).shared
    found = _run(shared, postgres.tables)
    assert found is not None
    if found.has > found.needs:
        click.echo(found.fault, err=True)
        sys.exit(NOT_FIT)
    steps = _run(shared, postgres.upgraded)
    for step in steps:
        click.echo(f"made: {step}")
    click.echo(f"{found.address} has the tables of this version (step {found.needs}).")


@db.command()
@click.argument("source", metavar="sqlite:DIR")
@click.argument("target", metavar="postgresql:URL")
@click.option("--name", default=SharedSettings().name, show_default=True, help="Of the service: [shared] name.")
def copy(source: str, target: str, name: str) -> None:
    """Copy what a data folder keeps to PostgreSQL: ledger, keys, responses, evidence, and what the router learned.

    No server may use the folder meanwhile. Killed, or without PostgreSQL, it goes on where it was when it is run again.
    At the end all rows are counted and added up in both. The caches and batches stay in the folder, and the dashboard
    adds the ledger up anew. Then write the URL to [shared] postgres, and start the server on the same folder.

    Exits with 1 if the rows are not equal, with 2 if something is wrong with what is named, and with 3 if PostgreSQL
    does not answer or a server uses the folder.
    """
    folder, is_sqlite = source.removeprefix("sqlite:"), source.startswith("sqlite:")
    if not is_sqlite or not folder:
        raise click.BadParameter("write the data folder as sqlite:DIR", param_hint="sqlite:DIR")
    for fault in invalid_shared({"shared": {"postgres": target}}):
        raise click.BadParameter(fault.message, param_hint="postgresql:URL")
    try:
        compared = asyncio.run(_copied(folder, SharedSettings(postgres=target, name=name)))
    except (FileNotFoundError, ValueError, sqlite3.DatabaseError) as error:
        configuration.exit_with_faults([Fault("copy", str(error))], "nothing to copy")
    except OSError as error:
        click.echo(f"not done: {error}; what has arrived stays, so run it again", err=True)
        sys.exit(configuration.NOT_DONE)
    table = Table("table", "rows here", "rows there", "")
    for each in compared:
        table.add_row(each.name, f"{each.local[0]:,}", f"{each.remote[0]:,}", "equal" if each.is_equal else "NOT EQUAL")
    wide().print(table)
    if not all(each.is_equal for each in compared):
        advice = "run it again; rows of the ledger that had arrived and are gone there are not sent once more"
        click.echo(f"not equal: {advice}", err=True)
        sys.exit(NOT_FIT)


async def _copied(folder: str, shared: SharedSettings) -> "list[postgres.Compared]":
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with postgres.copying(folder, shared, time.time) as copy:
        rows = await copy.rows()
        with Progress(*columns, console=Console(stderr=True)) as progress:
            for name, count in rows.items():
                task = progress.add_task(name, total=count)
                await copy.copied(name, partial(progress.advance, task))
            task = progress.add_task("compared", total=sum(rows.values()))
            return await copy.compare(partial(progress.advance, task))


def check_tables(settings: Settings) -> None:
    """Exit with what helps where PostgreSQL has the tables of another version. One that is away is waited for later."""
    try:
        found = postgres.tables(settings.shared)
    except OSError as error:
        log.get().warning("PostgreSQL is away; rows wait on the disk until it answers", error=str(error))
        return
    if found is not None and found.fault:
        configuration.exit_with_faults([Fault("shared.postgres", found.fault)], "cannot serve")


def check_fitness(shared: SharedSettings) -> None:
    """Exit with what helps where PostgreSQL, if one is configured, has other tables, or does not answer."""
    if shared.postgres is None:
        return
    found = _run(shared, postgres.tables)
    if found is not None and found.fault:
        configuration.exit_with_faults([Fault("shared.postgres", found.fault)], "no tables")


def _run(shared: SharedSettings, work: Callable[[SharedSettings], T]) -> T:
    if shared.postgres is None:
        configuration.exit_with_faults([Fault("shared.postgres", _NONE)], "no database")
    try:
        return work(shared)
    except OSError as error:
        click.echo(f"not done: {error}", err=True)
        sys.exit(configuration.NOT_DONE)
