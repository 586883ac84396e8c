"""`millrace simulate`: the simulated models that the shipped configuration names, or one of them."""

import asyncio
from contextlib import AsyncExitStack

import click
from rich.console import Console

from millrace.cli import configuration
from millrace.cli.serving import until_interrupted
from millrace.settings import Fault
from millrace.simulator import PROFILES, Simulator

_PORTS = dict(zip(PROFILES, (9001, 9002), strict=True))  # as in millrace.toml


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on; 0: any free port.  [9001, 9002]")
@click.option("--profile", type=click.Choice([*PROFILES]), help="One model only; small is weak at hard questions.")
@click.option("--seed", default=0, show_default=True, help="Seed of the answers to unknown questions.")
def simulate(port: int | None, profile: str | None, seed: int) -> None:
    """Run simulated models, OpenAI-compatible servers that cost nothing: both, or the one of --profile."""
    if profile is None and port is not None:
        raise click.UsageError("--port is of one model; name it with --profile")
    ports = _PORTS if profile is None else {profile: _PORTS[profile] if port is None else port}
    until_interrupted(_simulate(ports, seed))


async def _simulate(ports: dict[str, int], seed: int) -> None:
    async with AsyncExitStack() as running:
        for name, port in ports.items():
            simulator = Simulator(PROFILES[name], seed=seed)
            try:
                await simulator.start(port=port)
            except OSError as error:
                fault = Fault("--port", f"{port}: {error.strerror}; name another")
                configuration.exit_with_faults([fault], "cannot listen")
            running.push_async_callback(simulator.stop)
            Console(stderr=True, highlight=False).print(f"{PROFILES[name].model} simulated at {simulator.base_url}")
        await asyncio.Event().wait()
