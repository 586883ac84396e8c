"""`millrace levers`: the bill as a waterfall, from what it would have been to what was paid."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from millrace.assembly import accounts
from millrace.cli import configuration, waterfall
from millrace.cli.cache import json_option, tenant_option
from millrace.cli.db import check_fitness
from millrace.cli.evidence import Ago
from millrace.cli.keys import data_dir_option
from millrace.cli.printed import plain, print_report
from millrace.settings import SharedSettings
from millrace.wire import evidence, levers as wire

GROUPS = 20  # that are shown; --json has them all


@click.command()
@click.option(
    "--since", "ago_s", type=Ago(), default=evidence.SINCE, show_default=True, help="How far back: 90m, 24h, 7d, 4w."
)
@tenant_option
@click.option("--by", type=click.Choice(wire.BY), help="Beside the whole bill, one line for each of these.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Also draw it into this file: .svg, or .html with the figures below.",
)
@json_option
@configuration.config_option
@data_dir_option
def levers(
    *,
    ago_s: float,
    tenant: str | None,
    by: str | None,
    plot: Path | None,
    as_json: bool,
    config: Path,
    data_dir: str | None,
) -> None:
    """Show the bill as a waterfall: what each lever took off, what was wasted, what was paid.

    It begins with what the same requests would have cost untrimmed on the large model, at its standard price, with
    nothing read from a provider's cache. Savings less waste are exactly the difference to what was paid. The
    milliseconds are an estimate. It works beside a running server and without one. docs/levers.md explains each line.
    """
    if plot is not None and plot.suffix not in waterfall.SUFFIXES:
        raise click.BadParameter(f"{plot}: name a file that ends in .svg or .html", param_hint="--plot")
    report = _report(config, data_dir, ago_s, tenant, by)
    if plot is not None:
        try:
            plot.write_text(waterfall.drawn(report, html=plot.suffix == ".html"), "utf-8")
        except OSError as error:
            raise click.FileError(str(plot), error.strerror) from None
        click.echo(f"drawn into {plot}", err=True)
    print_report(report, partial(_parts, knows_price=data_dir is None), as_json=as_json)


def reading(what: str) -> Progress:
    """Return the bar of what reads many requests; it is shown on a terminal only, and gone afterwards."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _report(config: Path, data_dir: str | None, ago_s: float, tenant: str | None, by: str | None) -> wire.LeversReport:
    loaded = configuration.load(config) if data_dir is None else None
    folder, shared = str(data_dir), SharedSettings()
    if loaded is not None:
        folder, shared = loaded.server.data_dir, loaded.shared
    check_fitness(shared)

    async def run() -> wire.LeversReport:
        with reading("reading the ledger") as progress:
            bar = progress.add_task("", total=None)
            async with accounts.levers_reports(folder, loaded, shared) as reports:
                return await reports.report(
                    time.time() - ago_s,
                    tenant,
                    by,
                    lambda read, of_all: progress.update(bar, completed=read, total=of_all),
                )

    return configuration.run_on(
        folder, run, endpoint="/v1/levers", nothing="no ledger", unable="cannot read the ledger"
    )


def _parts(report: wire.LeversReport, *, knows_price: bool) -> Iterator[Any]:
    """Yield tables and lines."""
    whose = "" if report.tenant is None else f" of {report.tenant}"
    since = f"{datetime.fromtimestamp(report.since, UTC):%Y-%m-%d %H:%M} UTC"
    total = report.total
    if not (total.requests or total.cost_usd):  # evidence alone may have cost something
        yield f"No request{whose} has ended since {since}."
        return
    yield f"{total.requests:,} requests{whose} since {since}, {total.answered:,} of them answered."
    yield _waterfall(total)
    if total.unknown:
        what = "the large model's price of today" if knows_price else "nothing: leave out --data-dir, and give --config"
        yield f"{total.unknown:,} rows of an earlier version are compared with {what}."
    cap = next(each for each in total.savings if each.lever == "cap")
    if cap.requests:
        yield f"Answers that a cap cut: {cap.requests:,}. What they would have gone on to cost is not known."
    if report.by is not None:
        yield _groups(report)


def _waterfall(bill: wire.ShownBill) -> Table:
    table = Table("", "requests", "dollars", "%", "ms each (estimate)", "")
    rows = waterfall.steps(bill)
    for step in rows:
        each = "" if step.saved_ms is None else f"{step.saved_ms / step.requests:+,.0f}"
        table.add_row(
            Text(step.name),
            Text(f"{step.requests:,}"),
            Text(_signed(step.dollars) if step.is_change else f"{step.dollars:,.6f}"),
            Text(f"{100 * step.share:+.1f}" if step.is_change else f"{100 * step.share:.1f}"),
            Text(each),
            Text(waterfall.bar(step), style=waterfall.STYLES[step.kind]),
        )
    for column in table.columns[1:5]:
        column.justify = "right"
    return table


def _groups(report: wire.LeversReport) -> Table:
    table = Table(str(report.by), "requests", "would have cost", "saved", "wasted", "paid", "saved %")
    for group in report.groups[:GROUPS]:
        wasted = sum(each.cost_usd for each in group.waste)
        dollars = (group.baseline_usd, group.saved_usd + wasted, wasted, group.cost_usd)
        cells = (group.name, f"{group.requests:,}", *(f"{each:,.6f}" for each in dollars), f"{100 * group.share:.1f}")
        table.add_row(*map(plain, cells))
    for column in table.columns[1:]:
        column.justify = "right"
    if (more := len(report.groups) - GROUPS) > 0:
        table.caption = f"and {more:,} more: --json has them all"
    return table


def _signed(dollars: float) -> str:
    return f"{dollars:+,.6f}"
