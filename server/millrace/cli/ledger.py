"""`millrace ledger`: what each request has cost: as they end, one, all in a file; and how old ones are deleted."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from millrace import assembly
from millrace.accounts.told import at, cents, who, whole, why
from millrace.cli import configuration
from millrace.cli.by_name import CommandsByName
from millrace.cli.cache import json_option, tenant_option
from millrace.cli.db import check_fitness
from millrace.cli.keys import data_dir_option
from millrace.cli.ledger_lines import HEAD, STYLES, line
from millrace.cli.printed import plain, print_json, wide
from millrace.ports import Rows
from millrace.types import Entry, Selection, Status
from millrace.wire import evidence, ledger as wire
from millrace_client.commands import INTERRUPTED

T = TypeVar("T")
NOTHING_FOUND = 1  # exit code
POLL_S = 0.25
PAGE = 1000  # rows that are read at once
DAY_S = 86_400
MOST_DAYS = 100_000  # some 270 years


class Moment(click.ParamType[float]):
    """A time: how long ago, such as 7d, or a date, with a time or without, in UTC if it names no zone."""

    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return Unix seconds."""
        if not isinstance(value, str):
            return value
        if (ago_s := evidence.seconds(value)) is not None:
            return time.time() - ago_s
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no time; write how long ago, such as 7d, or 2026-11-29, or 2026-11-29T12:00", param, ctx
            )
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.group(cls=CommandsByName, places={"export": "millrace.cli.ledger_export:export"})
def ledger() -> None:
    """Show what each request has cost and why, as they end or later; write them to a file; delete old ones.

    These commands work beside a running server and without one. With [shared] postgres in --config they are about the
    requests of all replicas, with --data-dir about those in a folder. docs/ledger.md describes the columns.
    """


@ledger.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with each request that ends, until Ctrl-C.")
@click.option("-n", "--last", type=click.IntRange(0), default=20, show_default=True, help="Begin with so many.")
@tenant_option
@click.option("--tag", help="Only those with this tag (millrace.tag).")
@click.option("--user", help="Only those of this end user.")
@click.option(
    "--status", type=click.Choice([each.value for each in Status if each is not Status.OPEN]), help="Only these."
)
@json_option
@configuration.config_option
@data_dir_option
def tail(  # noqa: PLR0913 - the options of a command
    *,
    follow: bool,
    last: int,
    tenant: str | None,
    tag: str | None,
    user: str | None,
    status: str | None,
    as_json: bool,
    config: Path,
    data_dir: str | None,
) -> None:
    """Show requests as they end: who answered, tokens, cents, what was saved, and why.

    A tilde marks tokens that are estimated. The times are those until the first word and the end. With --json each
    request is one line of JSON.
    """
    selection = Selection(tenant=tenant, user=user, tag=tag, status=None if status is None else Status(status))
    console, is_cut = Console(highlight=False), sys.stdout.isatty()

    def write(text: Text) -> None:
        console.print(text, no_wrap=True, overflow="ellipsis" if is_cut else "ignore", crop=is_cut)

    def show(rows: list[Entry]) -> None:
        for row in rows:
            shown = wire.entry(row)
            if as_json:
                click.echo(msgspec.json.encode(shown))
            else:
                write(line(shown))
        sys.stdout.flush()

    async def run(rows: Rows) -> None:
        found, number = await rows.latest(selection, last)
        if not as_json:
            write(Text(HEAD, style="bold"))
        show(found[::-1])
        while follow:
            found, number = await rows.after(number, selection, PAGE)
            show(found)
            if len(found) < PAGE:
                await _pause()

    try:
        on_rows(config, data_dir, until_the_reader_goes(run))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


async def _pause() -> None:
    await asyncio.sleep(POLL_S)


@ledger.command()
@click.argument("request_id", metavar="ID")
@json_option
@configuration.config_option
@data_dir_option
def show(*, request_id: str, as_json: bool, config: Path, data_dir: str | None) -> None:
    """Show what one request has used and cost, and each call of a model. The beginning of its ID is enough.

    `millrace explain ID` tells why.
    """
    row = wire.entry(on_rows(config, data_dir, lambda rows: named(rows, request_id)))
    if as_json:
        print_json(row)
        return
    console = wide()
    table = Table.grid(padding=(0, 2))
    for name, value, style in _fields(row):
        shown = plain(value)
        shown.stylize(style)
        table.add_row(Text(name, style="bold"), shown)
    console.print(table)
    if row.calls:
        console.print(calls_table(row))


@ledger.command()
@click.option("--before", type=Moment(), help="Delete requests of before then: 90d, 2026-01-31.")
@click.option(
    "--keep-days", type=click.IntRange(0, MOST_DAYS), help="Delete requests that are older than so many days."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@configuration.config_option
@data_dir_option
def prune(*, before: float | None, keep_days: int | None, yes: bool, config: Path, data_dir: str | None) -> None:
    """Delete old requests from the ledger; it asks first. Without --before and --keep-days: as [ledger] says.

    A running server does this by itself, and is not held up by this command. The room is used again; the file does
    not shrink. What runs stays, and so does the request that has ended last.
    """
    if before is not None and keep_days is not None:
        raise click.UsageError("say how much to keep once: --before TIME, or --keep-days N")
    if before is None:
        days = configuration.load(config).ledger.keep_days if keep_days is None else keep_days
        before = time.time() - days * DAY_S

    async def count(rows: Rows) -> int:
        return await rows.count_before(before)

    async def delete(rows: Rows) -> int:
        deleted = 0
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
            task = progress.add_task("deleting", total=old)
            while step := await rows.delete_before(before):
                deleted += step
                progress.update(task, completed=min(deleted, old))
        return deleted

    old = on_rows(config, data_dir, count)
    if old and not yes:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        note = " What accounts have spent of their budgets is kept."
        if before > today:
            note += " A server that starts later will not count what batches, evidence and routing have spent today."
        click.confirm(f"Delete {old:,} requests of before {at(before)} UTC?{note}", abort=True, err=True)
    click.echo(f"Deleted: {on_rows(config, data_dir, delete) if old else 0:,} requests of before {at(before)} UTC.")


def on_rows(config: Path, data_dir: str | None, work: Callable[[Rows], Awaitable[T]]) -> T:
    """Run what reads the ledger, or exit with why it cannot."""
    folder, shared = configuration.ledger_place(config, data_dir)
    check_fitness(shared)

    async def run() -> T:
        async with assembly.ledger_rows(folder, shared) as rows:
            return await work(rows)

    return configuration.run_on(
        folder, run, endpoint="/v1/ledger", nothing="no ledger", unable="cannot read the ledger"
    )


def until_the_reader_goes(work: Callable[[Rows], Awaitable[T]]) -> Callable[[Rows], Awaitable[T | None]]:
    """Return work that ends quietly when whoever reads its output has closed the pipe."""

    async def run(rows: Rows) -> T | None:
        try:
            return await work(rows)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None

    return run


async def named(rows: Rows, text: str) -> Entry:
    """Return the row with an id, or with the only one that begins so. Exits if there is none."""
    if found := await rows.find(text):
        return found[1]
    begun = await rows.beginning(text) if text else []
    if len(begun) == 1:
        return begun[0]
    why_not = "several requests begin so; write more of its id"
    if not begun:
        why_not = "the ledger has no such request; `millrace ledger tail` shows the latest"
    click.echo(f"{text}: {why_not}", err=True)
    sys.exit(NOTHING_FOUND)


def calls_table(row: wire.LedgerEntry) -> Table:
    """Return the calls of a request as a table."""
    columns = ("call", "model", "outcome", "began", "first word", "lasted", "in (cached)", "out", "¢")
    table = Table(*columns)
    for number, call in enumerate(row.calls, 1):
        name = f"{call.model} at {call.deployment}" if call.deployment else call.model
        name = f"{name}, {call.service_tier}" if call.service_tier else name
        used = f"{call.input_tokens:,}" + (f" ({call.cached_input_tokens:,})" if call.cached_input_tokens else "")
        cells = (
            *(str(number), name, call.outcome),
            *(_ms(length) for length in (call.started_ms, call.ttft_ms, call.lasted_ms)),
            *(f"~{used}" if call.estimated else used, f"{call.output_tokens:,}", cents(call.cost_usd)),
        )
        table.add_row(*map(plain, cells))
    return table


def _ms(length: float | None) -> str:
    return "" if length is None else f"{whole(length)} ms"


def _fields(row: wire.LedgerEntry) -> list[tuple[str, str, str]]:
    cached = f", {row.cached_input_tokens:,} of them cached" if row.cached_input_tokens else ""
    written = f", {row.cache_write_tokens:,} written to the cache" if row.cache_write_tokens else ""
    reasoned = f", {row.reasoning_tokens:,} of them reasoning" if row.reasoning_tokens else ""
    about = "; estimated" if row.estimated else ""
    known = [
        ("id", row.id, ""),
        ("began", f"{at(row.opened_at)} UTC", ""),
        ("status", row.status if row.code is None else f"{row.status}: {row.code}", STYLES.get(row.status, "red")),
        ("answered by", who(row), ""),
        ("because", why(row), ""),
        *((name, getattr(row, name), "") for name in ("tenant", "key_id", "user", "tag", "session", "batch")),
        ("strategy", row.strategy, ""),
        ("input", f"{row.input_tokens:,} tokens{cached}{written}{about}", ""),
        ("trimmed", f"{row.trimmed_tokens:,} tokens" if row.trimmed_tokens else "", ""),
        ("output", f"{row.output_tokens:,} tokens{reasoned}", ""),
        ("cost", f"{cents(row.cost_usd)} ¢", "bold"),
        ("saved", f"{cents(row.saved_usd)} ¢", "red" if row.saved_usd < 0 else "green"),
        ("first word", _ms(row.ttft_ms), ""),
        ("whole", _ms(row.latency_ms), ""),
        ("from entry", row.entry_id, ""),
        ("kept as entry", row.stored_id, ""),
    ]
    return [each for each in known if each[1]]
