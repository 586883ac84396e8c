"""The commands `millrace batch run`, `list`, `show` and `cancel`."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import aiohttp
import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from millrace.errors import MillraceError
from millrace.wire.batches import ENDPOINTS, BatchObject
from millrace_client.batch.api import BatchApi
from millrace_client.batch.requests import looked_through
from millrace_client.batch.run import Wanted, run as run_batch
from millrace_client.client import DEFAULT_URL
from millrace_client.commands import ADVICE, CONTEXT, FAILED, INTERRUPTED, UNREACHABLE, dollars, print_error

T = TypeVar("T")

WIDTH = 160  # of a table where there is no terminal
MOST_SHOWN = 20

_url = click.option("--url", default=DEFAULT_URL, envvar="MILLRACE_URL", show_default=True, help="The server.")
_key = click.option(
    "--key-env",
    default="MILLRACE_API_KEY",
    show_default=True,
    metavar="VARIABLE",
    help="The variable that holds the API key, if the server needs one.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings=CONTEXT)
def batch() -> None:
    """Run files of requests in their own time, behind the requests of visitors.

    A line of a file is what OpenAI's batch API takes: {"custom_id": "1", "method": "POST", "url":
    "/v1/chat/completions", "body": {"model": "auto", "messages": [...]}}. Batches run on the server, and go on when
    this command has ended. docs/batches.md tells more.
    """


@batch.command()
@click.argument("requests", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The answers.")
@click.option(
    "--errors",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What has no answer, with the line of each.  [OUTPUT.errors.jsonl]",
)
@click.option("--model", help="The model that every line asks for, whatever it names.")
@click.option("--endpoint", type=click.Choice(ENDPOINTS), help="Of the lines; by default that of the first one.")
@click.option("--in-flight", type=click.IntRange(1), help="Requests at once, at most; the server has a bound, too.")
@click.option("--again", is_flag=True, help="Run requests anew whose answers are there already.")
@_url
@_key
def run(  # noqa: PLR0913 - the options of a command
    *,
    requests: Path,
    output: Path,
    errors: Path | None,
    model: str | None,
    endpoint: str | None,
    in_flight: int | None,
    again: bool,
    url: str,
    key_env: str,
) -> None:
    """Run the REQUESTS of a file, and write their answers in the same order.

    It can be stopped at any time: the batch goes on, and the same command finds it again. Where its answers are there
    already, they are brought once more, at no cost.

    Exit code: 0 if all are answered; 1 if one is not; 2 for a wrong call; 3 if no server answers; 130 after Ctrl-C.
    """
    wanted = Wanted(
        requests=looked_through(requests, model, endpoint),
        output=output,
        errors=errors or output.with_name(f"{output.stem}.errors.jsonl"),
        in_flight=in_flight,
        again=again,
    )
    if wanted.output.resolve() == requests.resolve() or wanted.errors.resolve() == requests.resolve():
        raise click.UsageError(f"{requests}: its answers would replace it; name another file with --output, --errors")
    if wanted.output.resolve() == wanted.errors.resolve():
        raise click.UsageError(f"{output}: it is for answers and for errors; name another file with --errors")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    sys.exit(_asked(url, key_env, lambda api: run_batch(api, wanted, console)))


@batch.command("list")
@click.option("--limit", type=click.IntRange(1), default=MOST_SHOWN, show_default=True, help="How many, the newest.")
@_json
@_url
@_key
def list_(*, limit: int, as_json: bool, url: str, key_env: str) -> None:
    """Show the latest batches."""

    async def listed(api: BatchApi) -> list[BatchObject]:
        return [one async for one in api.batches(limit)]

    found = _asked(url, key_env, listed)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    table = Table("batch", "made", "status", "file", "answered", "failed", "of", "cost", "saved", "waits for")
    for one in found:
        counts, money = one.request_counts, one.millrace
        cells = (
            one.id,
            _at(one.created_at),
            one.status,
            (one.metadata or {}).get("file", one.input_file_id),
            f"{counts.completed:,}",
            f"{counts.failed:,}",
            f"{counts.total:,}",
            dollars(money.cost_usd),
            dollars(money.saved_usd),
            money.waits_for or "",
        )
        table.add_row(*map(Text, cells))
    _console().print(table)


@batch.command()
@click.argument("batch_id")
@_json
@_url
@_key
def show(*, batch_id: str, as_json: bool, url: str, key_env: str) -> None:
    """Show how a batch stands."""
    _print(_asked(url, key_env, lambda api: api.batch(batch_id)), as_json=as_json)


@batch.command()
@click.argument("batch_id")
@_json
@_url
@_key
def cancel(*, batch_id: str, as_json: bool, url: str, key_env: str) -> None:
    """Start no more of a batch. What has ended can be read."""
    _print(_asked(url, key_env, lambda api: api.cancel(batch_id)), as_json=as_json)


def _asked(url: str, key_env: str, ask: Callable[[BatchApi], Awaitable[T]]) -> T:
    """Return what a server answers; end with an exit code and a message where it cannot."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    async def asked() -> T:
        async with BatchApi(url, os.environ.get(key_env)) as api:
            return await ask(api)

    try:
        return asyncio.run(asked())
    except MillraceError as error:
        advice = f"; put a key in ${key_env}" if error.code == "unauthorized" and key_env not in os.environ else ""
        print_error(console, error.code, error.message + advice)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            print_error(console, str(error.filename), str(error.strerror))
            sys.exit(FAILED)
        print_error(console, f"no Millrace answers at {url}", ADVICE)
        sys.exit(UNREACHABLE)
    except KeyboardInterrupt:
        console.print(Text("stopped here; what was begun goes on at the server: millrace batch list", "dim"))
        sys.exit(INTERRUPTED)
    sys.exit(FAILED)


def _print(one: BatchObject, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(one), indent=2).decode())
        return
    counts, money = one.request_counts, one.millrace
    table = Table(show_header=False, box=None)
    times = {
        name.removesuffix("_at").replace("_", " "): _at(at)
        for name in one.__struct_fields__
        if name.endswith("_at") and (at := getattr(one, name)) is not None
    }
    facts = {
        "batch": one.id,
        "status": one.status,
        "waits for": money.waits_for,
        "requests": f"{counts.total:,}: {counts.completed:,} answered, {counts.failed:,} failed",
        "cost": f"{dollars(money.cost_usd)}, saved {dollars(money.saved_usd)}",
        "endpoint": one.endpoint,
        "input": one.input_file_id,
        "answers": one.output_file_id,
        "errors": one.error_file_id,
        **times,
        **{name: value for name, value in (one.metadata or {}).items() if not name.startswith("millrace.")},
    }
    facts |= {error.code: error.message for error in (one.errors.data if one.errors else ())}
    for name, value in facts.items():
        if value:
            table.add_row(Text(name, "dim"), Text(str(value)))
    _console().print(table)


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def _at(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
