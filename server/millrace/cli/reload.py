"""`millrace reload`: a running server reads its configuration anew."""

import json
import os
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.text import Text

from millrace import assembly, settings
from millrace.cli import configuration
from millrace.cli.keys import data_dir_option
from millrace.settings import IN_MEMORY, Fault, SettingsError
from millrace.wire.reload import Reloaded

REFUSED = "refused, and nothing has changed"


@click.command()
@configuration.config_option
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def reload(*, config: Path, data_dir: str | None, as_json: bool) -> None:
    """Have the server on a data folder read its configuration file anew, and print what came of it.

    Models, prices, aliases, routing, checks, guards, limits and origins change at once, for requests that begin from
    then on; what runs ends by the settings that it began with. Keys that need a restart are named, and the others hold.
    The environment is the server's own: it sees a new variable, or a new value of one, only after a restart.

    Exits with 2 if the configuration has faults, which changes nothing, or if no server uses the folder; with 3 if the
    server does not answer.
    """
    try:
        folder = data_dir or settings.data_dir_of(config, os.environ)
    except SettingsError as error:
        configuration.exit_with_faults(error.faults, REFUSED)
    if folder == IN_MEMORY:
        advice = "send the server SIGHUP, or ask it: POST /v1/reload"
        fault = Fault("server.data_dir", f"{IN_MEMORY!r} keeps nothing on disk, where it could be asked; {advice}")
        configuration.exit_with_faults([fault], "no server")
    found = configuration.run_on(
        folder,
        lambda: assembly.reloaded(folder),
        endpoint="/v1/reload",
        nothing="no server",
        unable="cannot ask the server",
    )
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))
    if found.faults:
        faults = [Fault(fault.path, fault.message) for fault in found.faults]
        configuration.exit_with_faults(faults, f"{found.read}: {REFUSED}")
    if not as_json:
        _print(found)


def _print(found: Reloaded) -> None:
    console = Console(highlight=False, soft_wrap=True)
    count = len(found.changed)
    console.print(Text(f"{found.read} was read: {count} change{'s' * (count != 1)}"))
    for path in found.changed:
        console.print(Text(f"  {path}", style="green"))
    if found.needs_restart:
        console.print(Text("These need a restart; until then they stay as they were:"))
    for path in found.needs_restart:
        console.print(Text(f"  {path}", style="yellow"))
