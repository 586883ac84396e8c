"""The command: `millrace load`, `python client load`."""

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
from millrace_client.commands import ADVICE, CONTEXT, FAILED, INTERRUPTED, UNREACHABLE, complain
from millrace_client.load import prompts, report
from millrace_client.load.figures import Figures, figures
from millrace_client.load.run import Plan, Run

DURATION_S = 10.0
LONGEST_S = 3600.0  # where only --requests says how much
MAX_LANES = 32  # a server takes so many named ones on a connection
REDRAW_S = 0.1
DEAF_S = 0.5  # to a second Ctrl-C: a shell or `timeout` may send one to the process and one to its group


def _rows(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> tuple[prompts.Row, ...]:
    try:
        return prompts.BUILT_IN if path is None else prompts.read(path)
    except prompts.BadPrompts as error:
        raise click.BadParameter("\n  " + "\n  ".join(error.faults)) from error


@click.command(context_settings=CONTEXT)
@click.option("--url", default=DEFAULT_URL, envvar="MILLRACE_URL", show_default=True, help="The server.")
@click.option("--api-key", envvar="MILLRACE_API_KEY", help="The key, where the server wants one.  [MILLRACE_API_KEY]")
@click.option("--connections", type=click.IntRange(1), default=4, show_default=True, help="WebSockets.")
@click.option(
    "--lanes",
    type=click.IntRange(1, MAX_LANES),
    default=4,
    show_default=True,
    help="Requests at once on each; a server runs 16 and lets the others wait.",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second, come what may (open loop).")
@click.option(
    "--pace",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="How an open loop's requests arrive: as of many independent users, or evenly.",
)
@click.option(
    "--duration", type=click.FloatRange(0, min_open=True), help=f"Seconds to start requests.  [{DURATION_S:g}]"
)
@click.option("--requests", type=click.IntRange(1), help="Start no more than so many.")
@click.option(
    "--prompts",
    "rows",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    callback=_rows,
    help="What to ask: a question a line, or rows in JSON; else a mix for the simulated models.",
)
@click.option("--fresh", is_flag=True, help="Make every input unique, so that no cache has it.")
@click.option("--seed", default=0, show_default=True, help="For arrivals and the order of prompts.")
@click.option("--json", "json_file", type=click.File("wb", lazy=False), help="Write the figures there too; -: stdout.")
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
    """Ask many questions at once and say how long answers took and what they cost.

    Without --rate every lane asks again as soon as it has its answer (closed loop): how much can the server do? With
    --rate requests arrive at their moments, and times count from those, however late a lane was free (open loop): how
    long do users wait?

    A row of --prompts is a question, or an object: {"input": "...", "strategy", "delivery", "cache", "model",
    "weight": 1, "fresh": false, "cancel_after_ms": 200, "expect": "completed, failed, cancelled, or a code"}.

    Exit code: 0, 1 after an error that no row expects, 3 without a server, 130 after Ctrl-C.
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
    """Run a plan; None, and a word on standard error, where there is no server."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        async with Run(plan, mix) as run:
            with _interruptible(run), _progress(run, console):
                return figures(run.tally, await run.finish())
    except OSError:
        complain(console, f"no Millrace answers at {plan.url}", ADVICE)
    except MillraceError as error:
        complain(console, error.code, error.message)
    except WebSocketException as error:
        complain(console, f"no Millrace answers at {plan.url}", f"it takes no WebSocket of ours: {error}")
    return None


@contextmanager
def _interruptible(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C end the run with its report; a later one ends the program."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        loop.call_later(DEAF_S, loop.remove_signal_handler, signal.SIGINT)
        run.interrupt()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextmanager
def _progress(run: Run, console: Console) -> Iterator[None]:
    """Show how far the run is, while it runs, on a terminal."""
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
        share = max(run.elapsed_s / plan.duration_s, ended / plan.requests if plan.requests else 0.0)
        errors = tally.errors.total()
        words = f"{run.elapsed_s:3.0f} s: {ended:,} ended, {run.in_flight:,} in flight, "
        words += f"[red]{errors:,} errors[/]" if errors else "no error"
        bar.update(task, completed=min(1.0, share), description=words, refresh=True)
        await asyncio.sleep(REDRAW_S)
