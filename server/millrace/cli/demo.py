"""`millrace demo`: a server with two simulated models, and questions to try."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import click
from rich.console import Console

from millrace import app, log, settings
from millrace.cli.serving import address, listen, run, until_interrupted
from millrace.simulator import HARD, PROFILES, Simulator


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free port.")
def demo(port: int) -> None:
    """Serve two simulated models: no key, no network, no bill."""
    log.configure(level="warning")
    until_interrupted(_demo(port))


async def _demo(port: int) -> None:
    async with _simulators() as (small, large):
        loaded = settings.build(_demo_tree(port, small, large), {})
        with listen(loaded.server) as listener:
            _welcome(address(listener))
            await run(app.server(loaded), listener)


@contextlib.asynccontextmanager
async def _simulators() -> AsyncIterator[tuple[Simulator, Simulator]]:
    async with Simulator(PROFILES["small"]) as small, Simulator(PROFILES["large"]) as large:
        yield small, large


def _demo_tree(port: int, small: Simulator, large: Simulator) -> dict[str, object]:
    """Return the demo's configuration. The prices are typical of a small and a large model."""
    prices = {
        "small": {"input": "0.15", "cached_input": "0.075", "output": "0.60"},
        "large": {"input": "2.50", "cached_input": "1.25", "output": "10.00"},
    }
    models: dict[str, dict[str, object]] = {
        name: {"upstream": "openai", "base_url": model.base_url, "model": model.profile.model, "price": prices[name]}
        for name, model in (("small", small), ("large", large))
    }
    models["embeddings"] = {
        "base_url": small.base_url,
        "model": "small-embedding-model",
        "price": {"input": "0.02"},
    }
    cache = {"index_above": 3}  # so low that the demo uses the index
    server = {"port": port, "data_dir": ":memory:", "drain_s": 0}  # Ctrl-C stops at once
    limits = {"tags": [{"name": "tight", "dollars_per_day": "0.001"}]}  # to see how a budget runs out
    return {"server": server, "models": models | {"aliases": {"*": "auto"}}, "cache": cache, "limits": limits}


def _welcome(host_port: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    command = "python client" if Path("client/__main__.py").exists() else "millrace ask"
    if Path(".venv/bin/python").exists() and command.startswith("python"):
        command = f".venv/bin/{command}"
    url = "" if host_port == "127.0.0.1:8000" else f" --url ws://{host_port}"
    console.print(
        f"[bold]Millrace[/] serves two simulated models. Open [bold]http://{host_port}/[/]"
        " or try, in another terminal:\n"
    )
    for question, remark in (
        ("What is a millrace?", "the small model answers; if you ask again, the cache does"),
        (HARD[0], "the small model is weak here: its text is taken back"),
        ("Tell me a long story. [tokens=400]", "press Ctrl-C: it stops and shows what it cost"),
    ):
        console.print(f'  {command} "{question}"{url}', markup=False)
        console.print(f"      [dim]{remark}[/]")
    console.print("\nCtrl-C stops the demo.")
