"""`millrace db`: the tables in PostgreSQL that replicas share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from millrace import log
from millrace.assembly import postgres
from millrace.cli import configuration
from millrace.settings import Fault, Settings, SharedSettings

T = TypeVar("T")
NOT_FIT = 1  # exit code

_NONE = 'no PostgreSQL is configured; write [shared] postgres = "postgresql://HOST/DATABASE"'


@click.group()
def db() -> None:
    """Look after the tables in PostgreSQL that replicas share ([shared] postgres)."""


@db.command()
@configuration.config_option
def check(*, config: Path) -> None:
    """Say whether PostgreSQL has the tables that this version needs.

    Exits with 1 if it does not, and with 3 if it does not answer.
    """
    found = _run(configuration.load(config).shared, postgres.tables)
    assert found is not None
    click.echo(found.fault or f"{found.address} has the tables of this version (step {found.has}).")
    sys.exit(NOT_FIT if found.fault else 0)


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


def check_tables(settings: Settings) -> None:
    """Exit with what helps where PostgreSQL has the tables of another version. One that is away is waited for later."""
    try:
        found = postgres.tables(settings.shared)
    except OSError as error:
        log.get().warning("PostgreSQL is away; rows wait on the disk until it answers", error=str(error))
        return
    if found is not None and found.fault:
        configuration.exit_with_faults([Fault("shared.postgres", found.fault)], "cannot serve")


def _run(shared: SharedSettings, work: Callable[[SharedSettings], T]) -> T:
    if shared.postgres is None:
        configuration.exit_with_faults([Fault("shared.postgres", _NONE)], "no database")
    try:
        return work(shared)
    except OSError as error:
        click.echo(f"not done: {error}", err=True)
        sys.exit(configuration.NOT_DONE)
