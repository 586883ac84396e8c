"""`millrace simulate`: the simulated models that the shipped configuration names, or one of them."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import click
from msgspec.structs import replace
from rich.console import Console

from millrace.cli import configuration
from millrace.cli.serving import until_interrupted
from millrace.settings import Fault
from millrace.simulator import PROFILES, Book, Simulator

_PORTS = dict(zip(PROFILES, (9001, 9002), strict=True))  # as in millrace.toml


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on; 0: any free port.  [9001, 9002]")
@click.option("--profile", type=click.Choice([*PROFILES]), help="One model only; small is weak at hard questions.")
@click.option("--seed", default=0, show_default=True, help="Seed of the answers to unknown questions.")
@click.option(
    "--answers",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='Answers of your own, JSON Lines: {"questions": ["...", "..."], "strong": "...", "weak": "..."}.',
)
@click.option(
    "--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Times as fast as usual."
)
@click.option("--stalls", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of silent calls.")
def simulate(
    *, port: int | None, profile: str | None, seed: int, answers: Path | None, speed: float, stalls: float
) -> None:
    """Run simulated models, OpenAI-compatible servers that cost nothing: both, or the one of --profile.

    --stalls: such calls are silent for 4 to 20 seconds before they begin. In --answers both models say `strong` where
    there is no `weak`, and `brief` where a system message asks for brevity; where the conversation lacks one of the
    words in `needs`, they say so.
    """
    if profile is None and port is not None:
        raise click.UsageError("--port is of one model; name it with --profile")
    try:
        book = Book() if answers is None else Book.read(answers)
    except ValueError as error:
        raise click.BadParameter(f"{answers}: {error}", param_hint="--answers") from None
    ports = _PORTS if profile is None else {profile: _PORTS[profile] if port is None else port}
    profiles = {name: replace(PROFILES[name].at(speed), stall_share=stalls) for name in ports}
    simulators = {name: Simulator(each, seed=seed, book=book) for name, each in profiles.items()}
    until_interrupted(_simulate(ports, simulators))


async def _simulate(ports: dict[str, int], simulators: dict[str, Simulator]) -> None:
    async with AsyncExitStack() as running:
        for name, port in ports.items():
            simulator = simulators[name]
            try:
                await simulator.start(port=port)
            except OSError as error:
                fault = Fault("--port", f"{port}: {error.strerror}; name another")
                configuration.exit_with_faults([fault], "cannot listen")
            running.push_async_callback(simulator.stop)
            Console(stderr=True, highlight=False).print(f"{PROFILES[name].model} simulated at {simulator.base_url}")
        await asyncio.Event().wait()
