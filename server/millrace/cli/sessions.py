"""`millrace sessions`: what the latest sessions have cost, from the ledger."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from millrace.assembly import ledger_bills
from millrace.cli import configuration
from millrace.cli.db import check_fitness
from millrace.cli.keys import data_dir_option
from millrace.cli.printed import plain, wide
from millrace.types import SessionBill

DAY_S = 24 * 3600


@click.command()
@click.option("--days", type=click.IntRange(1), default=7, show_default=True, help="Only requests of so many days.")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="So many sessions.")
@configuration.config_option
@data_dir_option
def sessions(days: int, last: int, config: Path, data_dir: str | None) -> None:
    """Show what the latest sessions have cost. A request that names no session, and continues none, is one alone.

    `cached` is the input that providers have read from their prompt caches, and its share.
    """
    table = Table("session", "tenant", "last request", "requests", "input", "cached", "output", "cost", "saved")
    for bill in _bills(config, data_dir, days, last):
        share = f" ({bill.cached_input_tokens / bill.input_tokens:.0%})" if bill.cached_input_tokens else ""
        counts = (bill.requests, bill.input_tokens, f"{bill.cached_input_tokens}{share}", bill.output_tokens)
        at = datetime.fromtimestamp(bill.last_at, UTC).strftime("%Y-%m-%d %H:%M")
        cells = (bill.session, bill.tenant, at, *map(str, counts), f"${bill.cost:.6f}", f"${bill.saved:.6f}")
        table.add_row(*map(plain, cells))
    wide().print(table)


def _bills(config: Path, data_dir: str | None, days: int, last: int) -> list[SessionBill]:
    folder, shared = configuration.ledger_place(config, data_dir)
    check_fitness(shared)

    async def read() -> list[SessionBill]:
        async with ledger_bills(folder, shared) as bills:
            return await bills.sessions(time.time() - days * DAY_S, last)

    return configuration.run_on(folder, read, endpoint=None, nothing="no ledger", unable="cannot read the ledger")
