"""`millrace serve` and `millrace check-config`."""

import sys
from functools import partial
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from millrace import __version__, app, log
from millrace.cli import configuration, keys
from millrace.cli.db import check_tables
from millrace.cli.serving import address, claim, listen, run, survive_hang_ups, until_interrupted
from millrace.cli.workers import MOST, Told, fault_of, serve_as_worker, supervise
from millrace.ports import Claim
from millrace.settings import Settings
from millrace.settings.changes import Source


@click.command()
@configuration.config_option
@click.option("--host", help="Overrides [server] host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Overrides [server] port; 0: any free port.")
@click.option(
    "--workers",
    type=click.IntRange(1, MOST),
    default=1,
    show_default=True,
    help="Processes that serve the port together, one per core. One that dies is replaced, all in turn on SIGUSR1.",
)
@click.option("--worker", hidden=True, help="What a supervisor tells a worker.")
def serve(config: Path, host: str | None, port: int | None, workers: int, worker: str | None) -> None:
    """Serve the models of a configuration file. On SIGHUP it is read anew, as at `millrace reload`."""
    loaded = configuration.load(config, host, port)
    log.configure()
    log.write_together()
    check_tables(loaded)
    advice = keys.check_access(loaded.server, loaded.shared)
    survive_hang_ups()
    source = Source(str(config.absolute()), partial(configuration.read, config, host, port))
    if worker is not None:
        until_interrupted(serve_as_worker(loaded, source, msgspec.json.decode(worker, type=Told)))
        return
    if workers == 1:
        until_interrupted(_serve(loaded, advice, claim(loaded.server), source))
        return
    if (fault := fault_of(loaded.server.data_dir)) is not None:
        configuration.exit_with_faults([fault], "cannot serve")
    supervise(_command(config, host), workers, loaded.server, lambda place: _announce(place, advice))


def _command(config: Path, host: str | None) -> list[str]:
    """Return what the workers are told of the command line. The port is told when it is known."""
    return ["serve", "--config", str(config), *(("--host", host) if host is not None else ())]


@click.command("check-config")
@configuration.config_option
def check_config(config: Path) -> None:
    """Check a configuration file: print its faults, or the models that it names."""
    loaded = configuration.load(config)
    table = Table("", "model", "at", "$ / M input", "$ / M output", title=Text(f"{config}: fine"))
    models = {"small": loaded.models.small, "large": loaded.models.large} | loaded.models.more
    for name, model in models.items():
        for label, _, place in model.places():
            named = f"{name} {label}".strip()
            table.add_row(named, place.model, place.base_url, f"{place.price.input}", f"{place.price.output}")
    Console().print(table)


async def _serve(loaded: Settings, advice: str, claimed: Claim, source: Source) -> None:
    with listen(loaded.server) as listener:
        _announce(address(listener), advice)
        await run(app.server(loaded, claimed, source), listener)


def _announce(host_port: str, advice: str) -> None:
    """Say in one line where the server listens: on a terminal as text, else as an event of the log, which is JSON."""
    page, websocket = f"http://{host_port}/", f"ws://{host_port}/v1/responses"
    if sys.stderr.isatty():
        line = " · ".join(filter(None, (f"Millrace {__version__}: {page}", websocket, advice)))
        Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
    else:
        log.get().info("serving", version=__version__, page=page, websocket=websocket, advice=advice)
