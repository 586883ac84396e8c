"""The command `millrace load`, `python client load`."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from websockets.exceptions import WebSocketException

from millrace.errors import MillraceError
from millrace_client.client import DEFAULT_URL
from millrace_client.commands import ADVICE, CONTEXT, FAILED, INTERRUPTED, UNREACHABLE, print_error
from millrace_client.load import prompts, report
from millrace_client.load.figures import Figures, figures
from millrace_client.load.run import Plan, Run

DURATION_S = 10.0
LONGEST_S = 3600.0  # if only --requests limits the run
MAX_LANES = 32  # the server allows this many named lanes on a connection
REDRAW_S = 0.1
INTERRUPT_GRACE_S = 0.5  # ignores a second SIGINT: shells and `timeout` may signal both the process and its group


def _rows(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> tuple[prompts.Row, ...]:
    try:
        return prompts.BUILT_IN if path is None else prompts.read(path)
    except prompts.BadPrompts as error:
        raise click.BadParameter("\n  " + "\n  ".join(error.faults)) from error


@click.command(context_settings=CONTEXT)
@click.option("--url", default=DEFAULT_URL, envvar="MILLRACE_URL", show_default=True, help="The server.")
@click.option("--api-key", envvar="MILLRACE_API_KEY", help="The API key, if the server needs one.  [MILLRACE_API_KEY]")
@click.option("--connections", type=click.IntRange(1), default=4, show_default=True, help="Number of WebSockets.")
@click.option(
    "--lanes",
    type=click.IntRange(1, MAX_LANES),
    default=4,
    show_default=True,
    help="Concurrent requests on each connection; the server runs 16 and queues the rest.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Requests per second, whatever the server does (open loop).",
)
@click.option(
    "--pace",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="Arrivals of an open loop: a Poisson process, as of independent users, or evenly spaced.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    help=f"How many seconds requests start.  [{DURATION_S:g}]",
)
@click.option("--requests", type=click.IntRange(1), help="Start at most this many requests.")
@click.option(
    "--prompts",
    "rows",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    callback=_rows,
    help="A file with one question or JSON row a line; by default, a mix for the simulated models.",
)
@click.option("--fresh", is_flag=True, help="Make every input unique, so that no request is a cache hit.")
@click.option("--seed", default=0, show_default=True, help="Random seed for arrivals and the order of prompts.")
@click.option("--json", "json_file", type=click.File("wb", lazy=False), help="Also write the figures here; -: stdout.")
def load(  # noqa: PLR0913 - the options of a command
    *,
    url: str,
    api_key: str | None,
    connections: int,
    lanes: int,
    rate: float | None,
    pace: str,
    duration: float | None,
    requests: int | None,
    rows: tuple[prompts.Row, ...],
    fresh: bool,
    seed: int,
    json_file: BinaryIO | None,
) -> None:
    """Send many concurrent requests and report latency and cost.

    Without --rate each lane sends its next request when the last one has ended (closed loop): this measures capacity.
    With --rate requests are due at fixed times, and latency counts from those, even if no lane was free (open loop):
    this measures how long users wait.

    A row of --prompts is a question, or an object: {"input": "...", "strategy", "delivery", "cache", "model",
    "weight": 1, "fresh": false, "cancel_after_ms": 200, "expect": "completed, failed, cancelled, or a code"}.

    Exit code: 0; 1 after an error that no row expects; 3 if no server answers; 130 after Ctrl-C.
    """
    plan = Plan(
        url=url,
        api_key=api_key,
        connections=connections,
        lanes=lanes,
        rate=rate,
        poisson=pace == "poisson",
        duration_s=duration or (DURATION_S if requests is None else LONGEST_S),
        requests=requests,
        seed=seed,
    )
    measured = asyncio.run(measure(plan, prompts.Mix(rows, seed=seed, fresh=fresh)))
    if measured is None:
        sys.exit(UNREACHABLE)
    report.show(measured, Console(stderr=json_file is sys.stdout.buffer, highlight=False))
    if json_file is not None:
        json_file.write(report.as_json(measured))
    sys.exit(INTERRUPTED if measured.course.interrupted else FAILED if measured.failed else 0)


async def measure(plan: Plan, mix: prompts.Mix) -> Figures | None:
    """Run a plan. Without a server, print an error and return None."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        async with Run(plan, mix) as run:
            with _report_on_interrupt(run), _progress(run, console):
                return figures(run.tally, await run.finish())
    except OSError:
        print_error(console, f"no Millrace answers at {plan.url}", ADVICE)
    except MillraceError as error:
        print_error(console, error.code, error.message)
    except WebSocketException as error:
        print_error(console, f"no Millrace answers at {plan.url}", f"the WebSocket handshake failed: {error}")
    return None


@contextmanager
def _report_on_interrupt(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C end the run with its report; a later one terminates the program."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        loop.call_later(INTERRUPT_GRACE_S, loop.remove_signal_handler, signal.SIGINT)
        run.interrupt()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextmanager
def _progress(run: Run, console: Console) -> Iterator[None]:
    """Show the progress of the run on a terminal."""
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        drawing = asyncio.get_running_loop().create_task(_draw(run, bar))
        try:
            yield
        finally:
            drawing.cancel()


async def _draw(run: Run, bar: Progress) -> None:
    plan, tally = run.plan, run.tally
    task = bar.add_task("", total=1.0)
    while True:
        ended = tally.statuses.total()
        completed = max(run.elapsed_s / plan.duration_s, ended / plan.requests if plan.requests else 0.0)
        errors = tally.errors.total()
        description = f"{run.elapsed_s:3.0f} s: {ended:,} ended, {run.in_flight:,} in flight, "
        description += f"[red]{errors:,} errors[/]" if errors else "no error"
        bar.update(task, completed=min(1.0, completed), description=description, refresh=True)
        await asyncio.sleep(REDRAW_S)
