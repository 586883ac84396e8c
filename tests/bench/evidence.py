"""`python -m tests.bench.evidence`: what evidence costs a request, without a judge that asks a model.

The same server runs with evidence and without it, in turn. Each round measures the first token of a new question, and
the CPU time of a token in paced streams. With evidence all hits are sampled as it is shipped, but small answers are not
asked for again, since that is traffic of its own.
"""

import json
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench.processes import OTHER_CORES, Clients, Measured, port_of, started
from tests.bench.rounds import Load, Round
from tests.bench.targets import Target, configuration, millrace
from tests.support.ports import free_port

TARGET = Target(name="cascade", caches=True, negotiated=True, fields={"model": "auto"})
SHOWN = {"first_p50_ms": "first token, alone, p50, ms", "us_per_token": "CPU, µs a token, paced"}
LIMIT = 1.05  # times

Figures = dict[str, list[dict[str, float]]]  # of the rounds, "on" and "off"


async def measured(
    on: bool,
    number: int,
    load: Load,
    clients: Clients,
    provider: Measured,
    provider_port: int,
    folder: Path,
) -> dict[str, float]:
    """Run one round of a server with evidence or without."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    port = free_port()
    config = configuration(folder, port, provider_port, caches=True)
    section = "judged = true\nsmall_share = 0\nlarge_share = 0" if on else "judged = false"
    config.write_text(f"{config.read_text()}[evidence]\n{section}\n")
    async with millrace(config, port) as server:
        return await Round(TARGET, load, clients, provider, f"{number}").run(server, port, provider_port)


async def bench(rounds: int, load: Load, console: Console) -> Figures:
    """Run all rounds, the first of each pair in turn."""
    figures: Figures = {"on": [], "off": []}
    with tempfile.TemporaryDirectory() as name, Progress(console=console) as progress:
        async with (
            started("-m", "tests.bench.upstream", cores=OTHER_CORES) as provider,
            started("-m", "tests.bench.generator", cores=OTHER_CORES, stdin=subprocess.PIPE) as generator,
        ):
            port, clients = await port_of(provider), Clients(generator)
            task = progress.add_task("measuring", total=2 * rounds)
            for number in range(rounds):
                for which in ("on", "off") if number % 2 else ("off", "on"):
                    figure = await measured(which == "on", number, load, clients, provider, port, Path(name))
                    figures[which].append(figure)
                    progress.advance(task)
    return figures


def ratios(figures: Figures, key: str) -> list[float]:
    """Return on by off, of each pair."""
    return [on[key] / max(off[key], 1e-9) for on, off in zip(figures["on"], figures["off"], strict=True)]


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1), help="Interleaved pairs.")
@click.option("--streams", default=500, show_default=True, help="Paced streams at once.")
@click.option("--tokens", default=200, show_default=True, help="Of each paced answer, at 20 a second.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def main(rounds: int, streams: int, tokens: int, *, as_json: bool) -> None:
    """Measure what evidence costs a request."""
    load = Load(streams=streams, tokens=tokens)
    console = Console(stderr=as_json)
    figures = uvloop.run(bench(rounds, load, console))
    if as_json:
        click.echo(json.dumps({"load": asdict(load), "rounds": figures}))
        return
    table = Table("", "off", "on", "on / off, median", title=f"evidence: medians of {rounds} interleaved pairs")
    for key, name in SHOWN.items():
        cells = [statistics.median(each[key] for each in figures[which]) for which in ("off", "on")]
        ratio = statistics.median(ratios(figures, key))
        mark = "" if ratio <= LIMIT else f" (more than {LIMIT})"
        table.add_row(name, *(f"{cell:.2f}" for cell in cells), f"{ratio:.3f}×{mark}")
    console.print(table)


if __name__ == "__main__":
    main()
