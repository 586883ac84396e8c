"""`millrace ledger export`: the ledger as a file, row by row, so that it may be of any length. Dollars stay exact."""

import csv
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module, util
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from millrace.cli import configuration
from millrace.cli.cache import tenant_option
from millrace.cli.keys import data_dir_option
from millrace.cli.ledger import PAGE, Moment, on_rows, until_the_reader_goes
from millrace.ports import Rows
from millrace.types import Selection
from millrace.wire import ledger as wire
from millrace.wire.ledger import LedgerEntry

Write = Callable[[list[LedgerEntry]], None]

TIMES = ("opened_at", "ended_at")
DOLLARS = ("cost_usd", "saved_usd")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # as spreadsheets see them at the begin of a cell
NESTED = ("baseline", "calls", "story", "shape")  # as JSON, in columns
COUNTS = (
    *("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"),
    "trimmed_tokens",
)
MILLISECONDS = ("ttft_ms", "latency_ms")
COLUMNS = tuple(field.name for field in msgspec.structs.fields(LedgerEntry) if field.name != "object")


@click.command()
@click.option("--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file; else standard output.")
@click.option("--since", type=Moment(), help="Only requests from then on: 7d, 2026-11-01.")
@click.option("--until", type=Moment(), help="Only requests of before then.")
@tenant_option
@configuration.config_option
@data_dir_option
def export(
    *,
    form: str,
    output: Path | None,
    since: float | None,
    until: float | None,
    tenant: str | None,
    config: Path,
    data_dir: str | None,
) -> None:
    """Write requests that have ended to a file, in that order, one row each.

    Parquet needs pyarrow: pip install pyarrow. docs/ledger.md describes the columns.
    """
    if form == "parquet":
        if util.find_spec("pyarrow") is None:
            raise click.UsageError("parquet needs pyarrow, which is not installed: pip install pyarrow; or take jsonl")
        if output is None and sys.stdout.isatty():
            raise click.UsageError("parquet is no text; name a file with -o")
    selection = Selection(tenant=tenant, since=since, until=until)

    async def run(rows: Rows) -> int:
        count, number = await rows.extent(selection)
        with _progress(count, shows=output is not None) as advance, _file(output) as file, _writer(form, file) as write:
            while True:
                found, number = await rows.after(number, selection, PAGE)
                write([wire.entry(row) for row in found])
                advance(len(found))
                if len(found) < PAGE:
                    return count

    exported = on_rows(config, data_dir, until_the_reader_goes(run))
    if output is not None:
        click.echo(f"{output}: {exported:,} requests", err=True)


@contextmanager
def _progress(count: int, *, shows: bool) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    with Progress(console=console, disable=not (shows and console.is_terminal), transient=True) as progress:
        task = progress.add_task("exporting", total=count)
        yield lambda more: progress.advance(task, more)


@contextmanager
def _file(output: Path | None) -> Iterator[BinaryIO]:
    """Open the file, which takes its name only once it is whole."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        file = unfinished.open("wb")
    except OSError as error:
        raise click.FileError(str(output), error.strerror) from None
    try:
        with file:
            yield file
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _writer(form: str, file: BinaryIO) -> Iterator[Write]:
    match form:
        case "jsonl":
            yield lambda rows: _write_lines(file, rows)
        case "csv":
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            table = csv.writer(text)
            table.writerow(COLUMNS)
            yield lambda rows: table.writerows([_cell(name, getattr(row, name)) for name in COLUMNS] for row in rows)
            text.flush()
            text.detach()
        case _:
            with _parquet(file) as write:
                yield write


def _write_lines(file: BinaryIO, rows: list[LedgerEntry]) -> None:
    file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in TIMES:
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds")
    if name in NESTED:
        return _json(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = str(value)  # names that clients give among them, which no spreadsheet may take for a formula
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULAS) else text


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@contextmanager
def _parquet(file: BinaryIO) -> Iterator[Write]:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    kinds = (
        dict.fromkeys(TIMES, arrow.timestamp("ms", tz="UTC"))
        | dict.fromkeys(DOLLARS, arrow.decimal128(18, 9))
        | dict.fromkeys(COUNTS, arrow.int64())
        | dict.fromkeys(MILLISECONDS, arrow.float64())
        | {"estimated": arrow.bool_()}
    )
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in COLUMNS])

    def value(name: str, row: LedgerEntry) -> Any:
        found = getattr(row, name)
        if found is None:
            return None
        if name in TIMES:
            return round(found * 1000)
        if name in DOLLARS:
            return found.quantize(Decimal("1e-9"))
        return _json(found) if name in NESTED else found

    with parquet.ParquetWriter(file, schema, compression="zstd") as table:

        def write(rows: list[LedgerEntry]) -> None:
            columns = [
                arrow.array([value(name, row) for row in rows], kinds.get(name, arrow.string())) for name in COLUMNS
            ]
            table.write_table(arrow.Table.from_arrays(columns, schema=schema))

        yield write
