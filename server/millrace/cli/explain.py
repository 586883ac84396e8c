"""`millrace explain`: the whole story of one request, from the ledger, without a word of its text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from millrace.accounts import told
from millrace.cli import configuration
from millrace.cli.cache import json_option
from millrace.cli.keys import data_dir_option
from millrace.cli.ledger import calls_table, named, on_rows
from millrace.cli.ledger_lines import STYLES
from millrace.cli.printed import print_json, wide
from millrace.cli.repro import repro_of
from millrace.types import Entry
from millrace.wire import ledger as wire
from millrace.wire.ledger import LedgerEntry


@click.command()
@click.argument("request_id", metavar="ID")
@click.option(
    "--redacted-repro",
    "repro",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Also write a request of the same shape, without its text, that can be sent again; -: standard output.",
)
@json_option
@configuration.config_option
@data_dir_option
def explain(*, request_id: str, repro: Path | None, as_json: bool, config: Path, data_dir: str | None) -> None:
    """Tell what became of a request and why: what was cut, what the caches and the router said, each call and its cost.

    The beginning of its ID is enough. Nothing of its text is kept, so nothing of it is shown. With --redacted-repro a
    request of the same shape is written, with filler for every text: `millrace ask --repro FILE` sends it, and so does
    `curl -d @FILE -H 'Content-Type: application/json' http://127.0.0.1:8000/v1/responses`.
    """
    row: Entry = on_rows(config, data_dir, lambda rows: named(rows, request_id))
    shown = wire.entry(row)
    if repro is not None:
        _write_repro(row, repro)
    if as_json:
        print_json(shown)
    elif repro is None or str(repro) != "-":
        console = wide()
        for part in story(shown):
            console.print(part)


def _write_repro(row: Entry, file: Path) -> None:
    made = repro_of(row)
    if made is None:
        raise click.UsageError(
            "its shape is not known: it has not ended, was for embeddings, or is of an earlier version"
        )
    text, lacks = made
    if str(file) == "-":
        click.echo(text)
    else:
        try:
            file.write_text(text + "\n", "utf-8")
        except OSError as error:
            raise click.FileError(str(file), error.strerror) from None
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(f"{file}: a request of the same shape; send it with: millrace ask --repro {file}"))
    console.print(Text(f"It lacks: {', '.join(lacks)}", style="dim"))


def story(row: LedgerEntry) -> Iterator[Any]:
    """Yield the parts of the page."""
    style = STYLES.get(row.status, "red")
    ended = row.status if row.code is None else f"{row.status}: {row.code}"
    yield Text.assemble((row.id, "bold"), "  ", (ended, style), f"  {told.at(row.opened_at)} UTC")
    yield _grid(told.facts(row))
    if row.story.near:
        yield _section("Near questions, the likeliest first", _near(row))
    if row.calls:
        yield _section("Calls", calls_table(row))
    if row.story.verdicts:
        yield _section("What the checks said", _grid(told.verdicts(row)))
    if row.story.failed:
        failed = [(failure.model, failure.code) for failure in row.story.failed]
        yield _section("Models that did not answer", _grid(failed))
    yield _section("What it cost", _grid(told.bill(row)))


def _near(row: LedgerEntry) -> Table:
    table = Table("entry", "cosine", "its answer does, probably", "")
    for near in row.story.near:
        served = (
            "served" if near.entry_id == row.story.hit else "its scope was off" if near.scope_off else "not sure enough"
        )
        table.add_row(*map(Text, (near.entry_id, f"{near.cosine:.3f}", f"{near.probability:.1%}", served)))
    return table


def _section(title: str, part: Any) -> Group:
    return Group(Text(), Text(title, style="bold"), Padding(part, (0, 0, 0, 2), expand=False))


def _grid(pairs: Any) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        if value:
            table.add_row(Text(name, style="cyan"), Text(value))
    return table
