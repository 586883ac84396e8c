"""What visitors notice of a batch: their time to the first token with one running, and without, in pairs in turn.

    python -m tests.measure_batch [--pairs 5] [--seconds 20] [--rate 5]

Server, simulated models and visitors have a process each. Visitors come at random (a Poisson process), each with a
question of their own. The batch has more lines than it can run in the time, and is cancelled after it.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from tests.batches.killing import serving
from tests.support.batches import chat, client_of, ended, started
from tests.support.paths import REPOSITORY
from tests.support.processes import ENVIRONMENT
from tests.support.tables import print_figures

PORTS = {"small": 9401, "large": 9402}
READY_S = 60.0


@asynccontextmanager
async def simulators() -> AsyncIterator[None]:
    """Run both simulated models, with the delays of a real one."""
    commands = [
        [sys.executable, "server", "simulate", "--profile", name, "--port", str(port)] for name, port in PORTS.items()
    ]
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 - nothing runs yet
            command, cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    try:
        for process in processes:
            assert process.stderr is not None
            await asyncio.wait_for(asyncio.to_thread(process.stderr.readline), READY_S)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def configured(folder: Path) -> Path:
    models = "".join(
        f'[models.{name}]\nupstream = "openai"\nbase_url = "http://127.0.0.1:{port}/v1"\nmodel = "{name}-model"\n'
        'price = { input = "1", output = "2" }\n'
        for name, port in PORTS.items()
    )
    path = folder / "millrace.toml"
    path.write_text(f'[server]\nport = 0\ndata_dir = "{folder}"\n[evidence]\njudged = false\n{models}', "utf-8")
    return path


async def visited(url: str, seconds: float, rate: float, seed: int) -> dict[str, float]:
    """Return what visitors of so many seconds have seen, in milliseconds."""
    command = [sys.executable, "server", "load", "--url", url.replace("http", "ws", 1), "--rate", str(rate), "--fresh"]
    command += ["--duration", str(seconds), "--seed", str(seed), "--json", "-", "--connections", "8"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return {name: 1000 * seconds for name, seconds in json.loads(out)["ttft"].items() if name != "count"}


@asynccontextmanager
async def batch_of(url: str, lines: int, seed: int) -> AsyncIterator[None]:
    """Run a batch meanwhile; it is cancelled at the end."""
    async with client_of(url) as client:
        batch = await started(client, [chat(f"{n}", f"Tell me of {seed}.{n}", model="auto") for n in range(lines)])
        done = 0
        while not done:
            await asyncio.sleep(0.05)
            counts = (await client.batches.retrieve(batch.id)).request_counts
            done = 0 if counts is None else counts.completed
        yield
        batch = await client.batches.cancel(batch.id)
        counts = (await ended(client, batch, 120)).request_counts
        assert counts is not None
        assert counts.completed < lines, "the batch was done too early; give it more lines"
        click.echo(f"{counts.completed} lines were answered beside the visitors", err=True)


async def measured(pairs: int, seconds: float, rate: float, lines: int) -> dict[str, dict[str, float]]:
    """Return the ratio of each pair and their median, and both times."""
    without: list[dict[str, float]] = []
    beside: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        async with simulators(), serving(configured(Path(folder))) as (_, url):
            await visited(url, 3, rate, 10**6)  # warm
            for pair in range(pairs):
                for has_batch in ((False, True), (True, False))[pair % 2]:
                    if has_batch:
                        async with batch_of(url, lines, pair):
                            beside.append(await visited(url, seconds, rate, pair))
                    else:
                        without.append(await visited(url, seconds, rate, pair))
                click.echo(
                    f"pair {pair + 1}: p99 {without[-1]['p99']:.0f}, beside {beside[-1]['p99']:.0f} ms", err=True
                )
    figures = {}
    for name in ("p50", "p95", "p99"):
        ratios = [with_[name] / alone[name] for with_, alone in zip(beside, without, strict=True)]
        figures[f"TTFT {name}"] = {
            "without (ms)": statistics.median(alone[name] for alone in without),
            "beside a batch (ms)": statistics.median(with_[name] for with_ in beside),
            "median ratio": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
        }
    return figures


@click.command()
@click.option("--pairs", default=5, show_default=True)
@click.option("--seconds", default=20.0, show_default=True, help="Of visitors, each time.")
@click.option("--rate", default=5.0, show_default=True, help="Visitors a second.")
@click.option("--lines", default=3000, show_default=True, help="Of each batch.")
@click.option("--json", "as_json", is_flag=True)
def main(*, pairs: int, seconds: float, rate: float, lines: int, as_json: bool) -> None:
    """Measure what visitors notice of a batch."""
    print_figures(asyncio.run(measured(pairs, seconds, rate, lines)), as_json=as_json)


if __name__ == "__main__":
    main()
