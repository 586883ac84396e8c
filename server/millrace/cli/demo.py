"""`millrace demo`: two simulated models behind a server, and what to try."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import click
from rich.console import Console

from millrace import app, log, settings
from millrace.cli.serving import address, listen, run, until_interrupted
from millrace.simulator import HARD, PROFILES, Simulator


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
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
    """Return the demo's configuration; the prices are of the usual kind, a small model and a large one."""
    prices = {
        "small": {"input": "0.15", "cached_input": "0.075", "output": "0.60"},
        "large": {"input": "2.50", "cached_input": "1.25", "output": "10.00"},
    }
    models = {
        name: {"upstream": "openai", "base_url": model.base_url, "model": model.profile.model, "price": prices[name]}
        for name, model in (("small", small), ("large", large))
    }
    cache = {"index_above": 3}  # so low that the index is seen at work
    server = {"port": port, "data_dir": ":memory:", "drain_s": 0}  # Ctrl-C means now
    return {"server": server, "models": models, "cache": cache}


def _welcome(where: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    ask_it = "python client" if Path("client/__main__.py").exists() else "millrace ask"
    if Path(".venv/bin/python").exists() and ask_it.startswith("python"):
        ask_it = f".venv/bin/{ask_it}"
    url = "" if where == "127.0.0.1:8000" else f" --url ws://{where}"
    console.print(f"[bold]Millrace[/] leads two simulated models. Open [bold]http://{where}/[/] or try, elsewhere:\n")
    for question, remark in (
        ("What is a millrace?", "the small model answers; ask it twice: the cache does"),
        (HARD[0], "the small model is weak here: its words are taken back"),
        ("Tell me a long story. [tokens=400]", "press Ctrl-C: it stops and says what it cost"),
    ):
        console.print(f'  {ask_it} "{question}"{url}', markup=False)
        console.print(f"      [dim]{remark}[/]")
    console.print("\nCtrl-C here ends it.")
