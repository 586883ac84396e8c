"""What commands print: reports as tables for a terminal, or as JSON."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.text import Text

T = TypeVar("T")
WIDTH = 250  # characters of what is not printed on a terminal


def wide() -> Console:
    """Return the terminal, or what is wide enough for a table where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def printable(text: str) -> str:
    """Return what somebody else wrote, without what a terminal would obey: escapes, and other controls."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def plain(text: str) -> Text:
    """Return the same for a table."""
    return Text(printable(text))


def print_json(value: Any) -> None:
    """Print a value as JSON for people."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_report(report: T, parts: Callable[[T], Iterable[Any]], *, as_json: bool) -> None:
    """Print a report as JSON, or its parts: tables, and lines that are printed as they are."""
    if as_json:
        print_json(report)
        return
    console = wide()
    for part in parts(report):
        console.print(Text(part) if isinstance(part, str) else part)
