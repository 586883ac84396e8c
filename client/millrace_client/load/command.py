"""The command `millrace load`, `python client load`."""

import asyncio
import gc
import importlib.util
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from websockets.exceptions import WebSocketException

from millrace.errors import MillraceError
from millrace_client.commands import ADVICE, CONTEXT, FAILED, INTERRUPTED, UNREACHABLE, print_error, server_options
from millrace_client.load import bare, page, progress, prompts, report, slo, thresholds
from millrace_client.load.bare import Bare, NotComparable
from millrace_client.load.figures import Measured
from millrace_client.load.run import CLOCK, MakeMix, Plan, Run
from millrace_client.load.sample import Target
from millrace_client.load.slo import Slo
from millrace_client.load.thresholds import Threshold
from millrace_client.load.websocket import Millrace

DURATION_S = 10.0
LONGEST_S = 3600.0  # if only --requests limits the run
MAX_LANES = 32  # the server allows this many named lanes on a connection
RUNNING_LANES = 16  # and runs this many at once
CLOSED, OPEN = 16, 256  # requests at once, by default
INTERRUPT_GRACE_S = 0.5  # ignores a second SIGINT: shells and `timeout` may signal both the process and its group


def _rows(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> tuple[prompts.Row, ...]:
    try:
        return prompts.BUILT_IN if path is None else prompts.read(path)
    except prompts.BadPrompts as error:
        raise click.BadParameter("\n  " + "\n  ".join(error.faults)) from error


def _finite(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number to work with")
    return value


def _parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that parses one value, or each of several; a fault names the option."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        try:
            return tuple(map(parse, value)) if isinstance(value, tuple) else None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


@click.command(context_settings=CONTEXT)
@server_options
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    help=f"Requests at once, at most.  [{CLOSED}; with --rate {OPEN}]",
)
@click.option("--connections", type=click.IntRange(1), help="WebSockets that they share.  [4, or one for 16 requests]")
@click.option(
    "--lanes",
    type=click.IntRange(1, MAX_LANES),
    help="Instead of --concurrency: requests at once on each connection; the server runs 16 and queues the rest.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    callback=_finite,
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
    callback=_finite,
    help=f"How many seconds requests start, with the warm-up.  [{DURATION_S:g}]",
)
@click.option("--requests", type=click.IntRange(1), help="Start at most this many requests.")
@click.option(
    "--warmup",
    type=click.FloatRange(0),
    callback=_finite,
    default=0.0,
    show_default=True,
    help="Count no request of the first seconds.",
)
@click.option(
    "--drain",
    type=click.FloatRange(0, min_open=True),
    callback=_finite,
    default=60.0,
    show_default=True,
    help="How many seconds requests may still run after the last one has started; then they are cancelled.",
)
@click.option(
    "--slo",
    "objective",
    callback=_parsed(slo.parse),
    help="What a good request is: ttft=500ms,itl=200ms,tpot=50ms,e2e=5s (any of these). The report has the goodput.",
)
@click.option(
    "--fail-if",
    "limits",
    multiple=True,
    callback=_parsed(thresholds.parse),
    help="Exit with 1 if this holds, such as 'p99_ttft>800ms', 'error_rate>1%', 'goodput<95%'; may be repeated.",
)
@click.option(
    "--compare",
    callback=_parsed(lambda url: (bare.base(url), url)[1]),
    help="Also send the same load to this OpenAI-compatible base URL, interleaved, and print the ratios.",
)
@click.option("--compare-model", help="The model to ask there.  [its only one]")
@click.option(
    "--compare-api-key", envvar="MILLRACE_COMPARE_API_KEY", help="The API key there.  [MILLRACE_COMPARE_API_KEY]"
)
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
@click.option("--html", "html_file", type=click.File("wb", lazy=False), help="Also write a report with plots here.")
def load(  # noqa: PLR0913 - the options of a command
    *,
    url: str,
    api_key: str | None,
    concurrency: int | None,
    connections: int | None,
    lanes: int | None,
    rate: float | None,
    pace: str,
    duration: float | None,
    requests: int | None,
    warmup: float,
    drain: float,
    objective: Slo | None,
    limits: tuple[Threshold, ...],
    compare: str | None,
    compare_model: str | None,
    compare_api_key: str | None,
    rows: tuple[prompts.Row, ...],
    fresh: bool,
    seed: int,
    json_file: BinaryIO | None,
    html_file: BinaryIO | None,
) -> None:
    """Send many concurrent requests and report latency, goodput, cost and errors.

    Without --rate the next request starts when one has ended (closed loop): this measures capacity. With --rate
    requests are due at fixed times, and latency counts from those, whatever the server does (open loop): this measures
    how long users wait.

    \b
    TTFT  to the first token                  ITL   between two frames of text
    TPOT  for each token after the first      E2E   to the end

    A row of --prompts is a question, or an object: {"input": "...", "strategy", "delivery", "cache", "model",
    "weight": 1, "fresh": false, "cancel_after_ms": 200, "expect": "completed, failed, cancelled, or a code"}.

    \b
    millrace load --rate 20 --duration 60 --warmup 5 --slo ttft=500ms,e2e=5s --html report.html
    millrace load --concurrency 64 --fail-if 'p99_ttft>800ms' --fail-if 'error_rate>1%'
    millrace load --rate 5 --fresh --compare http://127.0.0.1:9001/v1

    Exit code: 0; 1 after an error that no row expects or a threshold of --fail-if; 3 if no server answers; 130 after
    Ctrl-C, which still reports. A threshold on errors or goodput decides alone how many errors are too many.
    """  # noqa: D301 - \b is click's, for lines that stay as they are
    connections, at_once = _spread(concurrency, connections, lanes, is_open=rate is not None)
    _check(limits, objective, rows, is_compared=compare is not None)
    plan = Plan(
        connections=connections,
        lanes=at_once,
        rate=rate,
        poisson=pace == "poisson",
        duration_s=duration or (DURATION_S if requests is None else LONGEST_S),
        requests=requests,
        seed=seed,
        warmup_s=warmup,
        drain_s=drain,
        slo=objective or Slo(),
    )
    if warmup >= plan.duration_s:
        raise click.UsageError(
            f"--warmup {warmup:g} leaves nothing to measure of {plan.duration_s:g} s; raise --duration"
        )
    targets: list[Target] = [Millrace(url, api_key, connections=connections, clock=CLOCK)]
    if compare is not None:
        targets.append(
            Bare(compare, compare_api_key, compare_model, lanes=at_once if rate is None else RUNNING_LANES, clock=CLOCK)
        )
    gc.freeze()  # what is loaded by now is not searched again and again during the run
    with asyncio.Runner(loop_factory=new_loop) as runner:
        measured = runner.run(measure(plan, lambda: prompts.Mix(rows, seed=seed, fresh=fresh), *targets, url=url))
    if measured is None:
        sys.exit(UNREACHABLE)
    faults = [fault for limit in limits if (fault := limit.fault(measured)) is not None]
    report.show(measured, Console(stderr=json_file is sys.stdout.buffer, highlight=False), faults)
    if json_file is not None:
        json_file.write(report.as_json(measured, faults))
    if html_file is not None:
        html_file.write(page.as_html(measured, faults).encode())
    is_failed = bool(faults) or (measured.millrace.failed and not any(limit.is_about_errors for limit in limits))
    sys.exit(INTERRUPTED if measured.millrace.course.interrupted else FAILED if is_failed else 0)


def _spread(concurrency: int | None, connections: int | None, lanes: int | None, *, is_open: bool) -> tuple[int, int]:
    """Return how many connections there are, and how many requests at once they carry."""
    if concurrency is not None and lanes is not None:
        raise click.UsageError("--concurrency and --lanes say the same; give one of them")
    if concurrency is None and (connections is not None or lanes is not None):
        connections = 4 if connections is None else connections
        return connections, connections * (lanes or (RUNNING_LANES if is_open else 4))
    concurrency = concurrency or (OPEN if is_open else CLOSED)
    connections = connections or min(concurrency, max(4, -(-concurrency // RUNNING_LANES)))
    if concurrency > connections * MAX_LANES:
        raise click.UsageError(
            f"{connections} connections carry {connections * MAX_LANES} requests; raise --connections"
        )
    return connections, concurrency


def _check(
    limits: tuple[Threshold, ...], objective: Slo | None, rows: tuple[prompts.Row, ...], *, is_compared: bool
) -> None:
    for limit in limits:
        if limit.needs_slo and not objective:
            raise click.UsageError(f"--fail-if {limit.text!r} needs --slo")
        if limit.needs_comparison and not is_compared:
            raise click.UsageError(f"--fail-if {limit.text!r} needs --compare")
    if is_compared:
        for number, row in enumerate(rows, start=1):
            try:
                bare.messages(row)
            except ValueError as error:
                raise click.UsageError(f"row {number} of --prompts: {error}") from None


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that measures best: uvloop, on the platforms that have it, is late by half as much."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not everywhere

    return uvloop.new_event_loop()


async def measure(plan: Plan, mix: MakeMix, *targets: Target, url: str) -> Measured | None:
    """Run a plan. Without a server, print an error and return None."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        async with Run(plan, mix, *targets) as run:
            with _report_on_interrupt(run), progress.shown(run, console):
                return await run.finish()
    except NotComparable as error:
        print_error(console, "no comparison", str(error))
    except OSError:
        print_error(console, f"no Millrace answers at {url}", ADVICE)
    except MillraceError as error:
        print_error(console, error.code, error.message)
    except WebSocketException as error:
        print_error(console, f"no Millrace answers at {url}", f"the WebSocket handshake failed: {error}")
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
