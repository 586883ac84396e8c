"""Reads the configuration, the first step of most commands, or reports all its faults and exits with 2."""

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.text import Text

from millrace import settings
from millrace.settings import IN_MEMORY, CacheSettings, Fault, Settings, SettingsError, SharedSettings

BAD_CONFIG, NOT_DONE = 2, 3  # exit codes
DEFAULT = Path("millrace.toml")

T = TypeVar("T")

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT,
    show_default=True,
    help="The TOML file; any key can also be set as MILLRACE__SECTION__KEY.",
)


def load(config: Path, host: str | None = None, port: int | None = None) -> Settings:
    """Return the settings from a file, the environment and these flags. Exits if they have faults."""
    try:
        return read(config, host, port)
    except SettingsError as error:
        exit_with_faults(error.faults, str(config))


def read(config: Path, host: str | None = None, port: int | None = None) -> Settings:
    """Return the same. Raises `SettingsError` with all faults."""
    flags = {"server.host": host, "server.port": None if port is None else str(port)}
    return settings.load(config, os.environ, {path: text for path, text in flags.items() if text is not None})


def ledger_place(config: Path, data_dir: str | None) -> tuple[str, SharedSettings]:
    """Return the data folder that a file names, and what it shares: the ledger is in PostgreSQL, where one is named.

    Whatever else is wrong with the file, such as keys that are set elsewhere, is of no interest. Where `data_dir` is
    given, it is looked at alone.
    """
    if data_dir is not None:
        return data_dir, SharedSettings()
    try:
        folder, shared = settings.data_dir_of(config), settings.shared_of(config)
    except SettingsError as error:
        exit_with_faults(error.faults, str(config))
    return folder, shared


def cache_settings(config: Path) -> CacheSettings:
    """Return the settings of the caches; those that are shipped where the default file does not exist."""
    return CacheSettings() if config == DEFAULT and not config.exists() else load(config).cache


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run what asks a network or an embedder. Exits with `NOT_DONE` and its own words if that fails."""
    try:
        return asyncio.run(work)
    except RuntimeError as error:
        click.echo(f"not done: {error}", err=True)
        sys.exit(NOT_DONE)


def run_on(
    folder: str, work: Callable[[], Coroutine[Any, Any, T]], *, endpoint: str | None, nothing: str, unable: str
) -> T:
    """Run what reads a `data_dir`, or exit with why it cannot.

    `endpoint` is where a server that keeps nothing on disk tells the same, if it does. `nothing` and `unable` head the
    faults: there is no database, and it cannot be used.
    """
    if folder == IN_MEMORY:
        instead = "name a folder there" if endpoint is None else f"ask the server itself: GET {endpoint}"
        message = f"{IN_MEMORY!r} keeps nothing on disk; {instead}"
        exit_with_faults([Fault("server.data_dir", message)], nothing)
    try:
        return run(work())
    except TimeoutError as error:
        click.echo(f"not done: {str(error) or 'the disk is too slow; try again'}", err=True)
        sys.exit(NOT_DONE)
    except FileNotFoundError as error:
        advice = "start a server there first, or name its folder with --data-dir"
        exit_with_faults([Fault("server.data_dir", f"{folder!r}: {error}; {advice}")], nothing)
    except (OSError, ValueError, sqlite3.Error) as error:
        exit_with_faults([unusable(folder, error)], unable)


def unusable(folder: str, error: Exception) -> Fault:
    """Return the fault of a `data_dir` that could not be read or written."""
    is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    advice = "restore its database from a backup, or move it away" if is_damaged else "name a writable folder"
    return Fault("server.data_dir", f"{folder!r} cannot be used: {error}; {advice}")


def program() -> str:
    """Return how a user of this folder runs the commands."""
    if Path(".venv/bin/millrace").exists():
        return ".venv/bin/millrace"
    called, on_path = Path(sys.argv[0]), shutil.which("millrace")
    is_on_path = on_path is not None and called.exists() and called.samefile(on_path)
    return "millrace" if is_on_path or called.name != "millrace" else str(called)


def exit_with_faults(faults: list[Fault], where: str) -> NoReturn:
    """Print the faults on standard error, one per line, and exit with `BAD_CONFIG`."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(f"{where}: {len(faults)} fault{'s' * (len(faults) != 1)}", style="red"))
    for fault in faults:
        console.print(Text.assemble("  ", (fault.path, "bold"), f": {fault.message}"))
    sys.exit(BAD_CONFIG)
