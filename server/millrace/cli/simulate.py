"""`millrace simulate`: one simulated model."""

import asyncio

import click
from rich.console import Console

from millrace.cli import configuration
from millrace.cli.serving import until_interrupted
from millrace.settings import Fault
from millrace.simulator import PROFILES, Profile, Simulator


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="The port to listen on; 0: any free port.")
@click.option("--profile", type=click.Choice([*PROFILES]), required=True, help="small is weak at hard questions.")
@click.option("--seed", default=0, show_default=True, help="Seed of the answers to unknown questions.")
def simulate(port: int, profile: str, seed: int) -> None:
    """Run one simulated model, an OpenAI-compatible server that costs nothing."""
    until_interrupted(_simulate(PROFILES[profile], port, seed))


async def _simulate(profile: Profile, port: int, seed: int) -> None:
    simulator = Simulator(profile, seed=seed)
    try:
        await simulator.start(port=port)
    except OSError as error:
        configuration.exit_with_faults([Fault("--port", f"{port}: {error.strerror}; name another")], "cannot listen")
    try:
        Console(stderr=True, highlight=False).print(f"{profile.model} simulated at {simulator.base_url}")
        await asyncio.Event().wait()
    finally:
        await simulator.stop()
