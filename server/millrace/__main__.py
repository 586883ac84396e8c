"""The command line: serve, demo, simulate, check-config, keys, ask, load."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import click
import uvicorn
from rich.console import Console
from rich.table import Table
from rich.text import Text

from millrace import __version__, app, keys_command, log, settings, startup
from millrace.settings import Fault, Settings
from millrace.simulator import HARD, PROFILES, Profile, Simulator
from millrace_client.__main__ import ask
from millrace_client.commands import CONTEXT, DefaultGroup
from millrace_client.load.command import load

BACKLOG = 2048


@click.group(cls=DefaultGroup, default="serve", context_settings=CONTEXT)
@click.version_option(__version__, prog_name="millrace")
def main() -> None:
    """Millrace leads each LLM request to the cheapest answer that is good enough.

    Without a command it serves.
    """


@main.command()
@startup.config_option
@click.option("--host", help="Listen here instead of [server] host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen here instead of [server] port; 0: any free one.")
def serve(config: Path, host: str | None, port: int | None) -> None:
    """Serve the models of a configuration file."""
    loaded = startup.load(config, host, port)
    advice = keys_command.check_access(loaded.server)
    log.configure()
    _until_interrupted(_serve(loaded, advice))


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
def demo(port: int) -> None:
    """Serve two simulated models: no key, no network, no bill."""
    log.configure(level="warning")
    _until_interrupted(_demo(port))


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Listen here; 0: any free one.")
@click.option("--profile", type=click.Choice([*PROFILES]), required=True, help="small is weak at hard questions.")
@click.option("--seed", default=0, show_default=True, help="For the text of unknown questions.")
def simulate(port: int, profile: str, seed: int) -> None:
    """Run one simulated model: an OpenAI-compatible server that never bills."""
    _until_interrupted(_simulate(PROFILES[profile], port, seed))


@main.command("check-config")
@startup.config_option
def check_config(config: Path) -> None:
    """Say what is wrong with a configuration file, or what it means."""
    loaded = startup.load(config)
    table = Table("", "model", "at", "$ / M input", "$ / M output", title=Text(f"{config}: fine"))
    for name, model in (("small", loaded.models.small), ("large", loaded.models.large)):
        table.add_row(name, model.model, model.base_url, f"{model.price.input}", f"{model.price.output}")
    Console().print(table)


main.add_command(ask)
main.add_command(load)
main.add_command(keys_command.group)


def _until_interrupted(running: Coroutine[Any, Any, None]) -> None:
    """Run; Ctrl-C is the ordinary way to end it, and has been seen to by then."""
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=app.new_loop) as runner:
        runner.run(running)


def _listen(server: settings.ServerSettings) -> socket.socket:
    """Bind before anything is built, so that a taken port is said at once and port 0 has a number."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
        listener.listen(BACKLOG)  # from here on nobody is turned away, however early
    except OSError as error:
        listener.close()
        startup.complain(
            [Fault("server.port", f"{server.host}:{server.port}: {error.strerror}; name another with --port")],
            "cannot listen",
        )
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _serve(loaded: Settings, advice: str) -> None:
    with _listen(loaded.server) as listener:
        address = _address(listener)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"Millrace {__version__}: page http://{address}/ · wire ws://{address}/v1/responses")
        if advice:
            console.print(advice, style="dim")
        await _run(app.server(loaded), listener)


async def _demo(port: int) -> None:
    async with _simulators() as (small, large):
        loaded = settings.build(_demo_tree(port, small, large), {})
        with _listen(loaded.server) as listener:
            _welcome(_address(listener))
            await _run(app.server(loaded), listener)


async def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    if not server.started:
        sys.exit(1)  # uvicorn has said why


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


def _welcome(address: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    ask_it = "python client" if Path("client/__main__.py").exists() else "millrace ask"
    if Path(".venv/bin/python").exists() and ask_it.startswith("python"):
        ask_it = f".venv/bin/{ask_it}"
    url = "" if address == "127.0.0.1:8000" else f" --url ws://{address}"
    console.print(f"[bold]Millrace[/] leads two simulated models. Open [bold]http://{address}/[/] or try, elsewhere:\n")
    for question, remark in (
        ("What is a millrace?", "the small model answers; ask it twice: the cache does"),
        (HARD[0], "the small model is weak here: its words are taken back"),
        ("Tell me a long story. [tokens=400]", "press Ctrl-C: it stops and says what it cost"),
    ):
        console.print(f'  {ask_it} "{question}"{url}', markup=False)
        console.print(f"      [dim]{remark}[/]")
    console.print("\nCtrl-C here ends it.")


async def _simulate(profile: Profile, port: int, seed: int) -> None:
    simulator = Simulator(profile, seed=seed)
    try:
        await simulator.start(port=port)
    except OSError as error:
        startup.complain([Fault("--port", f"{port}: {error.strerror}; name another")], "cannot listen")
    try:
        Console(stderr=True, highlight=False).print(f"{profile.model} simulated at {simulator.base_url}")
        await asyncio.Event().wait()
    finally:
        await simulator.stop()


if __name__ == "__main__":
    main()
