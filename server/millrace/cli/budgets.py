"""`millrace budgets`: what is spent, reserved and left of each budget in dollars, and which step it has reached."""

import time
from functools import partial
from pathlib import Path

import click
import msgspec
from rich.table import Table
from rich.text import Text

from millrace.assembly.budgets import BudgetLine, read_budgets
from millrace.cli import configuration
from millrace.cli.db import check_fitness
from millrace.cli.printed import plain, wide
from millrace.settings import SharedSettings
from millrace.types.budget import AccountKind

_STYLES = {"warn": "yellow", "small": "dark_orange", "cache": "red"}


@click.command()
@click.option("--tenant", help="Only the budgets of this tenant.")
@click.option("--kind", type=click.Choice([kind.value for kind in AccountKind]), help="Only those of one kind.")
@click.option("--last", type=click.IntRange(1), default=100, show_default=True, help="So many, the scarcest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@configuration.config_option
@click.option("--data-dir", type=click.Path(file_okay=False), help="The server's data folder, if not that of --config.")
def budgets(
    tenant: str | None,
    kind: str | None,
    last: int,
    as_json: bool,  # noqa: FBT001 - as click gives it
    config: Path,
    data_dir: str | None,
) -> None:
    """Show the budgets of keys, tenants, end users and tags: what is spent, reserved and left of each.

    Limits come from the keys and from --config, what was spent from the ledger. Days and months are those of UTC. What
    is reserved is what running requests have booked. A running server need not be asked, and is not disturbed.
    """
    settings = configuration.load(config)
    folder, shared = settings.server.data_dir, settings.shared
    if data_dir is not None:
        folder, shared = data_dir, SharedSettings()
    check_fitness(shared)
    lines = configuration.run_on(
        folder,
        partial(read_budgets, settings, folder, time.time(), shared),
        endpoint="/v1/responses, whose headers say what is left",
        nothing="no ledger",
        unable="cannot read",
    )
    found = [line for line in lines if tenant in (None, line.account.tenant) and kind in (None, line.account.kind)]
    shown = sorted(found, key=lambda line: line.left / line.limit if line.limit else 0)[:last]
    if as_json:
        for line in shown:
            click.echo(msgspec.json.encode(_document(line)).decode())
        return
    if not shown:
        none = "no budget in dollars; set one: [limits] dollars_per_day, or keys add --dollars-per-day"
        click.echo(f"no budget of these, but {len(lines)} other; see --tenant and --kind" if lines else none, err=True)
        return
    table = Table()
    for heading in ("whose", "tenant", "name", "period"):
        table.add_column(heading, no_wrap=heading in {"whose", "period"})
    for heading in ("limit", "spent", "reserved", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("step")
    for line in shown:
        cells = (line.account.kind, line.account.tenant, "" if line.account.kind is AccountKind.TENANT else line.label)
        dollars = (f"${line.limit:f}", *(f"${each:.4f}" for each in (line.spent, line.reserved, line.left)))
        step = Text(line.step, style=_STYLES[line.step]) if line.step else Text("")
        table.add_row(*map(plain, (*cells, line.period, *dollars)), step)
    wide().print(table)
    if len(found) > last:
        click.echo(f"{len(found) - last} more; see --last", err=True)


def _document(line: BudgetLine) -> dict[str, str | float | None]:
    return {
        "kind": line.account.kind.value,
        "tenant": line.account.tenant,
        "name": line.account.name,
        "period": line.period.value,
        "limit_usd": float(line.limit),
        "spent_usd": float(line.spent),
        "reserved_usd": float(line.reserved),
        "left_usd": float(line.left),
        "step": line.step and line.step.value,
    }
