"""What two replicas share through Redis: repeats, and requests that run at the same time.

    python -m tests.measure_replicas [--part all|exact|flight] [--requests 400] [--rounds 5] [--seed N] [--json FILE]

Two servers in processes of their own share a Redis, and a simulated model.

exact: each question is asked at one replica, and then repeated at it and, for the first time, at the other one, in an
order by chance. Both must be exact hits, and that of the other may take 2 ms longer in the middle (p50).
flight: a hundred identical requests at once, at both replicas by turns, over HTTP as one document each. The model must
be called once in each round, and a hundred equal answers must come.
"""

import asyncio
import json
import random
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from millrace import log
from tests.support.processes import ServerProcess
from tests.support.replica_processes import replica_processes
from tests.support.shared_servers import redis_server

PARTS = ("exact", "flight")
CROWD = 100
MOST_MS = 2.0  # longer than at home
WARM_UP = 20  # questions
PATIENCE_S = 60.0


@dataclass(slots=True)
class Figures:
    """What was measured, in ms, and what was not as it must be."""

    at_home: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)  # of the model, in each round
    joined: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)


@click.command(help=__doc__)
@click.option("--part", default="all", show_default=True, type=click.Choice(("all", *PARTS)))
@click.option("--requests", default=400, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all of it there too.")
def main(part: str, requests: int, rounds: int, seed: int, output: Path | None) -> None:
    """See above."""
    log.configure(level="error")
    figures = asyncio.run(measure(PARTS if part == "all" else (part,), requests, rounds, random.Random(seed)))
    console = Console(width=120)
    if figures.at_home:
        console.print(_hits(figures))
    if figures.calls:
        table = Table("round", "requests", "calls", "joined", "took", title="identical at once")
        for number, row in enumerate(zip(figures.calls, figures.joined, figures.seconds, strict=True), 1):
            table.add_row(str(number), str(CROWD), str(row[0]), str(row[1]), f"{row[2]:.2f} s")
        console.print(table)
    for deviation in figures.deviations:
        console.print(deviation, style="red", markup=False)
    console.print(f"deviations: {len(figures.deviations)}", style="bold")
    if output is not None:
        output.write_text(json.dumps(asdict(figures), indent=1), "utf-8")
    if figures.deviations:
        raise SystemExit(1)


async def measure(parts: tuple[str, ...], requests: int, rounds: int, chance: random.Random) -> Figures:
    """Run the parts."""
    figures = Figures()
    with (
        Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as progress,
        redis_server() as redis,
        tempfile.TemporaryDirectory(prefix="millrace-replicas-") as folder,
    ):
        async with (
            replica_processes(2, redis.url, "measured", Path(folder), "[cache]\nsemantic = false") as servers,
            AsyncExitStack() as sessions,
        ):
            clients = [
                await sessions.enter_async_context(
                    aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0))
                )
                for server in servers
            ]
            if "exact" in parts:
                task = progress.add_task("exact", total=requests)
                for number in range(-WARM_UP, requests):
                    await _repeated(clients, f"question {number} [tokens=20]", chance, figures, is_counted=number >= 0)
                    progress.advance(task, number >= 0)
                late_ms = statistics.median(figures.elsewhere) - statistics.median(figures.at_home)
                if late_ms > MOST_MS:
                    figures.deviations.append(f"a repeat elsewhere takes {late_ms:.2f} ms longer")
            if "flight" in parts:
                task = progress.add_task("flight", total=rounds)
                for number in range(rounds):
                    await _crowd(clients, servers[0], f"talk of {number} [ttft=0.3] [tokens=200] [rate=200]", figures)
                    progress.advance(task)
    return figures


async def _repeated(
    clients: list[aiohttp.ClientSession], text: str, chance: random.Random, figures: Figures, *, is_counted: bool
) -> None:
    order = [0, 1]
    chance.shuffle(order)
    home = chance.randrange(2)
    await _asked(clients[home], text)
    await asyncio.sleep(0.02)  # the answer is sent to Redis behind the request
    for at in order:
        began = time.perf_counter()
        answer = await _asked(clients[home] if at == 0 else clients[1 - home], text)
        took_ms = (time.perf_counter() - began) * 1000
        if not is_counted:
            continue
        (figures.at_home if at == 0 else figures.elsewhere).append(took_ms)
        if (cache := answer["metadata"]["millrace.cache"]) != "exact":
            figures.deviations.append(f"{text!r}: {cache} at the {'other' if at else 'same'} replica")


async def _crowd(clients: list[aiohttp.ClientSession], server: ServerProcess, text: str, figures: Figures) -> None:
    before, began = server.small.stats.started, time.perf_counter()
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*(_asked(clients[number % 2], text) for number in range(CROWD)))
    figures.seconds.append(time.perf_counter() - began)
    figures.calls.append(server.small.stats.started - before)
    figures.joined.append(sum(answer["metadata"]["millrace.cache"] == "joined" for answer in answers))
    if figures.calls[-1] != 1:
        figures.deviations.append(f"{text!r}: {figures.calls[-1]} calls")
    if len({json.dumps(answer["output"][0]["content"]) for answer in answers}) != 1:
        figures.deviations.append(f"{text!r}: answers differ")
    if (paid := sum(answer["usage"]["cost_usd"] > 0 for answer in answers)) != 1:
        figures.deviations.append(f"{text!r}: {paid} have paid")


async def _asked(http: aiohttp.ClientSession, text: str) -> dict[str, Any]:
    body = {"input": text, "model": "small"}
    async with http.post("/v1/responses", json=body) as answer:
        found: dict[str, Any] = await answer.json()
        assert answer.status == 200, found
        return found


def _hits(figures: Figures) -> Table:
    table = Table("hit", "count", "p50", "p90", "p99", title="repeats, ms")
    for name, times in (("at the same replica", figures.at_home), ("at the other one", figures.elsewhere)):
        cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else [times[0]] * 99
        table.add_row(name, str(len(times)), *(f"{cuts[at - 1]:.2f}" for at in (50, 90, 99)))
    return table


if __name__ == "__main__":
    main()
