"""Whether replicas keep to a budget together: many requests at once against a small one, and one replica is killed.

    python -m tests.measure_shared_budget [--rounds 5] [--seed N] [--fault none|kill|flush|restart|hang] [--json FILE]

In each round three servers in processes of their own share a Redis, and 200 requests come to them at once, for an end
user whose budget is for 50 answers. At a random moment one server is killed with SIGKILL (kill, the default), or Redis
is emptied (flush), killed and started again a second later (restart), or hung for a second (hang). What was spent is
what the model says that it has sent, so what was under way to a server that died counts. In a round without a kill all
50 answers must be there.
"""

import asyncio
import json
import random
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from millrace import log
from millrace.simulator import SMALL, Simulator
from millrace.stores.database import FILE
from tests.support.ports import free_port
from tests.support.processes import address, spawn
from tests.support.server import without_delays
from tests.support.shared_servers import SharedServer, redis_server

REPLICAS, AT_ONCE, FITS = 3, 200, 50
TOKENS = 100  # of an answer
FAULTS = ("none", "kill", "flush", "restart", "hang")
LONGEST_S = 4.0  # until the fault
PATIENCE_S = 120.0
AWAY_S = 1.0


@dataclass(slots=True)
class Round:
    """What became of one round."""

    fault: str
    after_s: float
    ended: dict[str, int]
    sent_tokens: int  # by the model
    booked_tokens: int  # in all ledgers, at their highest
    away: int  # times that a server found Redis away
    seconds: float
    deviations: list[str]


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
@click.option("--fault", default="kill", show_default=True, type=click.Choice(FAULTS))
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all of it there too.")
def main(rounds: int, seed: int, fault: str, output: Path | None) -> None:
    """See above."""
    log.configure(level="error")
    found = asyncio.run(measure(rounds, seed, fault))
    table = Table("round", "fault", "after", "ended", "sent", "in the ledgers", "budget", "Redis away", "took")
    for number, each in enumerate(found, 1):
        ends = ", ".join(f"{how} {count}" for how, count in sorted(each.ended.items()))
        tokens = f"{each.sent_tokens:,}", f"{each.booked_tokens:,}", f"{FITS * TOKENS:,}"
        table.add_row(
            str(number), each.fault, f"{each.after_s:.1f} s", ends, *tokens, str(each.away), f"{each.seconds:.0f} s"
        )
    console = Console(width=130)
    console.print(table)
    deviations = [deviation for each in found for deviation in each.deviations]
    for deviation in deviations:
        console.print(deviation, style="red", markup=False)
    console.print(f"deviations: {len(deviations)}", style="bold")
    if output is not None:
        output.write_text(json.dumps([asdict(each) for each in found], indent=1), "utf-8")
    if deviations:
        raise SystemExit(1)


async def measure(rounds: int, seed: int, fault: str) -> list[Round]:
    """Run all rounds."""
    found = []
    chance = random.Random(seed)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as progress, redis_server() as redis:
        task = progress.add_task("rounds", total=rounds)
        for number in range(rounds):
            found.append(await _round(redis, f"round{number}", chance, fault))
            progress.advance(task)
    return found


async def _round(redis: SharedServer, name: str, chance: random.Random, fault: str) -> Round:
    with tempfile.TemporaryDirectory(prefix="millrace-budget-") as folder:
        async with Simulator(without_delays(SMALL)) as model, AsyncExitStack() as parts:
            servers, away = [], list[int]()
            for number in range(REPLICAS):
                at = Path(folder, str(number))
                at.mkdir()  # noqa: ASYNC240
                servers.append(await parts.enter_async_context(_server(at, model.base_url, redis.url, name, away)))
            urls = dict(servers)
            after_s = LONGEST_S * chance.random()
            began = asyncio.get_running_loop().time()
            http = await parts.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
            asked = [asyncio.create_task(_ask(http, urls, number, chance)) for number in range(AT_ONCE)]
            await asyncio.sleep(after_s)
            await _strike(fault, redis, name, urls, chance)
            async with asyncio.timeout(PATIENCE_S):
                ended = Counter(await asyncio.gather(*asked))
            seconds = asyncio.get_running_loop().time() - began
            sent = model.stats.tokens_sent
        booked = sum(_booked(Path(folder, str(number))) for number in range(REPLICAS))
    deviations = []
    if max(sent, booked) > FITS * TOKENS:
        deviations.append(f"{name}: {sent:,} tokens were sent and {booked:,} booked, of {FITS * TOKENS:,}")
    if fault != "kill" and ended["completed"] != FITS:
        deviations.append(f"{name}: {ended['completed']} answers were whole, of {FITS}")
    if sum(ended.values()) != ended["completed"] + ended["incomplete"] + ended["budget_exceeded"] + ended["left"]:
        deviations.append(f"{name}: requests ended otherwise: {dict(ended)}")
    return Round(fault, after_s, dict(ended), sent, booked, sum(away), seconds, deviations)


async def _strike(
    fault: str, redis: SharedServer, name: str, urls: dict[str, "subprocess.Popen[str]"], chance: random.Random
) -> None:
    if fault == "kill":
        url = chance.choice([*urls])
        urls.pop(url).kill()
    elif fault == "flush":
        from redis.asyncio import Redis  # noqa: PLC0415 - only for this fault

        async with Redis.from_url(redis.url) as client:
            await client.flushall()
    elif fault == "restart":
        await redis.restart(AWAY_S)
    elif fault == "hang":
        redis.hang()
        await asyncio.sleep(AWAY_S)
        redis.go_on()


async def _ask(
    http: aiohttp.ClientSession, urls: dict[str, "subprocess.Popen[str]"], number: int, chance: random.Random
) -> str:
    """Ask at any replica until the answer is something else than to come again; return how it ended."""
    body: dict[str, Any] = {
        "input": f"talk of {number} [tokens={TOKENS}] [rate=400]",
        "user": "ann",
        "millrace": {"cache": "off"},
    }
    if number % 2:  # half of them reserve just what they cost, the others ten times as much
        body["max_output_tokens"] = TOKENS
    while True:
        url = chance.choice([*urls])
        try:
            async with http.post(f"{url}/v1/responses", json=body) as answer:
                document = await answer.json()
        except aiohttp.ClientError:
            return "left"  # the server was killed; the model may have answered
        if answer.status == 200:
            return str(document["status"])
        if answer.status != 429:
            return str(document["error"]["code"])
        await asyncio.sleep(0.1 + 0.3 * chance.random())


@asynccontextmanager
async def _server(
    folder: Path, model_url: str, redis_url: str, name: str, away: list[int]
) -> AsyncIterator[tuple[str, "subprocess.Popen[str]"]]:
    models = "".join(
        f'[models.{tier}]\nupstream = "openai"\nbase_url = "{model_url}"\nmodel = "{tier}-model"\n'
        'price = { input = "0", output = "10" }\n'
        for tier in ("small", "large")
    )
    config, port = folder / "millrace.toml", free_port()
    config.write_text(
        f'[server]\nport = {port}\ndata_dir = "{folder}"\n{models}[evidence]\njudged = false\n'
        f'[limits.user]\ndollars_per_day = "{FITS * TOKENS * 10e-6:.6f}"\n'
        f'[shared]\nredis = "{redis_url}"\nname = "{name}"\naddress = "http://127.0.0.1:{port}"\n'
    )
    with spawn(
        "server", "serve", "--config", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            yield await asyncio.to_thread(address, process), process
        finally:
            process.kill()
            assert process.stderr is not None
            away.append(process.stderr.read().count("Redis is away"))


def _booked(folder: Path) -> int:
    """Return the output tokens that a ledger has charged or booked."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        ((nanodollars,),) = file.execute("SELECT coalesce(sum(cost_nanodollars), 0) FROM entries").fetchall()
    return int(nanodollars) // 10_000


if __name__ == "__main__":
    main()
