"""Whether the load test measures what happened: its times against the send times that a scripted server logs.

    python -m tests.measure_load [--rate 50] [--seconds 20] [--seed 1] [--json]

A server in a process of its own answers at random times, over Millrace's WebSocket and as an OpenAI-compatible
upstream, and logs when it received each request and when it sent each token. `load` asks both, with Poisson arrivals,
as `--compare` does. In a second run the server's process stops for 2 s.

The server's TTFT is from receipt to its first token, by its own clock; that of `load` is what its report has, from the
intended start. Exits with 1 if a time differs by more than max(2 %, 2 ms) at p50 or max(5 %, 10 ms) at p99, or if the
pause does not show in full.
"""

import asyncio
import itertools
import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from millrace_client.load import progress
from millrace_client.load.bare import Bare
from millrace_client.load.command import new_loop
from millrace_client.load.figures import Figures, Measured
from millrace_client.load.histogram import Histogram
from millrace_client.load.prompts import Mix, Row
from millrace_client.load.report import script, warnings
from millrace_client.load.run import CLOCK, Plan, Run
from millrace_client.load.sample import Target
from millrace_client.load.websocket import Millrace
from tests.support.scripted_target import Recording
from tests.support.timed_server import PAUSE_S, Sent, timed_server

LIMITS = {"p50": (0.02, 0.002), "p99": (0.05, 0.010)}  # a share of the server's time, and seconds at least
Line = dict[str, Any]


def lines(name: str, figures: Figures, asked: Recording, log: list[Sent]) -> list[Line]:
    """Compare the times of one server with its log."""
    read_late = Histogram()
    sent = {each.question: each.tokens for each in log}
    for sample in asked.samples:
        first = sample.timeline.due + (sample.timeline.first or 0.0)
        read_late.add(first - sent[str(sample.row.input)][0])
    found = []
    for time, measured, true in (
        ("TTFT", figures.ttft, Histogram(each.ttft for each in log).spread()),
        ("ITL", figures.itl, Histogram(gap for each in log for gap in each.gaps).spread()),
    ):
        assert measured is not None
        assert true is not None
        for percentile, (share, at_least) in LIMITS.items():
            ours, theirs = getattr(measured, percentile), getattr(true, percentile)
            is_told = ours is not None and theirs is not None
            apart = abs(ours - theirs) if is_told else None
            bound = max(share * theirs, at_least) if is_told else None
            found.append(
                {
                    "of": f"{name} {time}",
                    "at": percentile,
                    "samples": measured.count,
                    "server_ms": theirs and theirs * 1e3,
                    "load_ms": ours and ours * 1e3,
                    "apart_ms": None if apart is None else apart * 1e3,
                    "allowed_ms": None if bound is None else bound * 1e3,
                    "holds": apart is not None and bound is not None and apart <= bound,
                }
            )
    late = read_late.percentile(500), read_late.percentile(990)
    found[0]["read_late_p50_ms"], found[0]["read_late_p99_ms"] = (each and each * 1e3 for each in late)
    return found


async def run(plan: Plan, make_mix: Any, *targets: Target) -> Measured:
    """Run a plan, with its progress on the terminal."""
    async with Run(plan, make_mix, *targets) as one:
        with progress.shown(one, Console(stderr=True)):
            return await one.finish()


async def times(plan: Plan) -> tuple[list[Line], Measured]:
    """Measure how near the times are to those of the server."""
    async with timed_server("--seed", str(plan.seed)) as server:
        ours = Recording(Millrace(server.websocket, None, connections=plan.connections, clock=CLOCK))
        bare = Recording(Bare(server.http, None, None, lanes=16, clock=CLOCK))
        measured = await run(plan, lambda: Mix([Row(input="x")], seed=plan.seed, fresh=True), ours, bare)
    assert measured.bare is not None
    found = lines("WebSocket", measured.millrace, ours, server.log["websocket"])
    return [*found, *lines("bare", measured.bare, bare, server.log["http"])], measured


async def pause(plan: Plan) -> Line:
    """Measure how a pause of the server shows."""
    rows = itertools.chain(
        [Row(input="x")] * int(plan.rate or 1), [Row(input="[pause]")], itertools.repeat(Row(input="x"))
    )

    class Scripted(Mix):
        def draw(self) -> Row:
            return next(rows)

    async with timed_server("--seed", str(plan.seed), "--tokens", "1", "2") as server:
        target = Millrace(server.websocket, None, connections=plan.connections, clock=CLOCK)
        recording = Recording(target)
        measured = await run(plan, lambda: Scripted([Row(input="x")], seed=1, fresh=False), recording)
    stopped = next(each.received for each in server.log["websocket"] if each.question == "[pause]")
    # A request that is due in the pause cannot get a token before its end.
    held = [
        (sample.timeline.due, sample.timeline.first or 0.0)
        for sample in recording.samples
        if stopped <= sample.timeline.due < stopped + PAUSE_S
    ]
    assert measured.millrace.ttft is not None
    assert plan.rate is not None
    return {
        "due in the pause": len(held),
        "expected": round(PAUSE_S * plan.rate),
        "all wait for its end": all(due + first >= stopped + PAUSE_S for due, first in held),
        "longest TTFT, s": measured.millrace.ttft.max,
        "holds": abs(len(held) - PAUSE_S * plan.rate) <= 1 + 0.02 * plan.rate
        and all(due + first >= stopped + PAUSE_S for due, first in held)
        and measured.millrace.ttft.max >= PAUSE_S,
    }


@click.command(help=__doc__)
@click.option("--rate", default=50.0, show_default=True, help="Requests per second to each server.")
@click.option("--seconds", default=20.0, show_default=True, help="Of the first run.")
@click.option("--seed", default=1, show_default=True, help="Of the arrivals, and of the server's times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, rate: float, seconds: float, seed: int, as_json: bool) -> None:
    """Run both, and print what differs."""
    plan = Plan(connections=16, lanes=256, rate=rate, poisson=True, duration_s=seconds, requests=None, seed=seed)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        compared, measured = runner.run(times(plan))
    even = Plan(connections=16, lanes=256, rate=rate, poisson=False, duration_s=5.0, requests=None, seed=seed)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        paused = runner.run(pause(even))
    if as_json:
        click.echo(json.dumps({"times": compared, "pause": paused}, indent=1))
    else:
        console = Console(width=140, highlight=False)
        table = Table(*("of", "at", "samples", "server ms", "load ms", "apart ms", "allowed ms", ""))
        for line in compared:
            values = (line[f"{name}_ms"] for name in ("server", "load", "apart", "allowed"))
            shown = ("–" if value is None else f"{value:.2f}" for value in values)
            table.add_row(line["of"], line["at"], f"{line['samples']:,}", *shown, "ok" if line["holds"] else "NO")
        console.print(table)
        for line in (compared[0], compared[4]):
            late = f"{line['read_late_p50_ms']:.2f} ms at p50, {line['read_late_p99_ms'] or 0:.2f} ms at p99"
            console.print(f"{line['of'].split()[0]}: a first token is read {late} after it was sent")
        console.print(f"this script: {script(measured)}")
        for warning in warnings(measured):
            console.print(f"warning: {warning}")
        console.print(f"a pause of {PAUSE_S:g} s: " + ", ".join(f"{name}: {value}" for name, value in paused.items()))
    sys.exit(not (paused["holds"] and all(line["holds"] for line in compared)))


if __name__ == "__main__":
    main()
