"""`python -m tests.bench`: runs the targets in turn, again and again, and shows medians and ratios to the relay."""

import asyncio
import json
import statistics
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import Progress

from tests.bench.filling import fill
from tests.bench.processes import OTHER_CORES, Clients, Measured, port_of, started
from tests.bench.report import shown
from tests.bench.rounds import Load, Round
from tests.bench.targets import RELAY, TARGETS, Target, serving

MOST_BUSY = 0.8  # of a core, for the generator and the provider together; a run beyond it is void
TRIES = 3

Figures = dict[str, list[dict[str, float]]]  # of the rounds, by target


async def bench(targets: list[Target], rounds: int, load: Load, stored: int, console: Console) -> tuple[Figures, int]:
    """Run all rounds; return their figures and how many runs were void."""
    figures: Figures = {target.name: [] for target in targets}
    void = 0
    with tempfile.TemporaryDirectory() as name, Progress(console=console) as progress:
        folder = Path(name)
        async with (
            started("-m", "tests.bench.upstream", cores=OTHER_CORES) as provider,
            started("-m", "tests.bench.generator", cores=OTHER_CORES, stdin=subprocess.PIPE) as generator,
        ):
            provider_port = await port_of(provider)
            clients = Clients(generator)
            filled = None
            if any(target.is_stored for target in targets):
                filled = await fill(folder / "stored", stored, provider_port, clients, progress)
            task = progress.add_task("measuring", total=rounds * len(targets))
            for number in range(rounds):
                for target in targets:
                    figure, tries = await measured(
                        target, number, load, clients, provider, provider_port, folder, filled
                    )
                    void += tries
                    figures[target.name].append(figure)
                    progress.advance(task)
    return figures, void


async def measured(
    target: Target,
    number: int,
    load: Load,
    clients: Clients,
    provider: Measured,
    provider_port: int,
    folder: Path,
    filled: Path | None,
) -> tuple[dict[str, float], int]:
    """Run one round of one target, again if the other processes were too busy; return it and the void runs."""
    for attempt in range(TRIES):
        one = Round(target, load, clients, provider, f"{number} {attempt}")
        async with serving(target, provider_port, folder, filled) as (server, port):
            figure = await one.run(server, port, provider_port)
        if one.busiest <= MOST_BUSY:
            break
    return figure, attempt + (one.busiest > MOST_BUSY)


@click.command()
@click.option("--rounds", default=9, show_default=True, help="Interleaved runs of each target.")
@click.option("--streams", default=1000, show_default=True, help="Paced streams at once.")
@click.option("--tokens", default=200, show_default=True, help="Of each paced answer, at 20 a second.")
@click.option("--stored", default=10_000, show_default=True, help="Answers that are in the caches already.")
@click.option("--only", multiple=True, type=click.Choice([target.name for target in TARGETS]), help="Targets.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all figures to this file.")
def main(rounds: int, streams: int, tokens: int, stored: int, only: tuple[str, ...], file: Path | None) -> None:
    """Measure what Millrace costs beside a bare relay, in one interleaved run. Some minutes a round."""
    uvloop.install()
    targets = [target for target in TARGETS if not only or target.name in (*only, RELAY)]
    load = Load(streams=streams, tokens=tokens)
    figures, void = asyncio.run(bench(targets, rounds, load, stored, Console(stderr=True)))
    if file is not None:
        file.write_text(json.dumps({"load": asdict(load), "rounds": figures, "void": void}, indent=1))
    medians = {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for name, runs in figures.items()
    }
    Console(width=140).print(shown(medians, figures, load, rounds, void))


if __name__ == "__main__":
    main()
